use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::sources::{Progress, Unwatched};

/// Bars on a terminal, nothing anywhere else.
pub(super) fn watch() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() {
        Box::new(Bars::new())
    } else {
        Box::new(Unwatched)
    }
}

struct Bars {
    users: ProgressBar,
    groups: ProgressBar,
    lists: Mutex<ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let count = |what: &str| {
            let bar = all.add(ProgressBar::new_spinner().with_message(what.to_owned()));
            if let Ok(style) = ProgressStyle::with_template("{spinner} {pos:>8} {msg}, {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        };
        let users = count("users");
        let groups = count("groups");
        let lists = all.add(ProgressBar::new(0).with_message("member lists"));
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos:>6}/{len} {msg}, {eta} to go") {
            lists.set_style(style);
        }
        Self {
            users,
            groups,
            lists: Mutex::new(lists),
        }
    }
}

impl Progress for Bars {
    fn users(&self, so_far: usize) {
        self.users.set_position(so_far as u64);
    }

    fn groups(&self, so_far: usize) {
        self.groups.set_position(so_far as u64);
    }

    fn memberships(&self, done: usize, all: usize) {
        if let Ok(bar) = self.lists.lock() {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.users.finish_and_clear();
        self.groups.finish_and_clear();
        if let Ok(bar) = self.lists.lock() {
            bar.finish_and_clear();
        }
    }
}
