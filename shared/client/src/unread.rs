//! Notices that wait to be looked at, and the one of them that calls for a cycle: pure.

use std::collections::VecDeque;

use dirless_wire::Notice;

/// Most notices that wait: tenants have few publishers.
const MOST: usize = 64;
/// Most bytes of heads among them: eight of the largest.
const MOST_BYTES: usize = 2 * 1024 * 1024;
/// How a head names its publisher.
const PUBLISHER: &[u8] = b"publisher ";
/// It does so in its first lines.
const LINES: usize = 8;

/// Notices that nobody has looked at: the latest of each publisher, and of each other kind. What is too much for that is one call
/// to ask.
#[derive(Debug, Default)]
pub(crate) struct Unread(Vec<(About, Notice)>);

impl Unread {
    /// Takes a notice, in the place of an earlier one about the same.
    pub(crate) fn add(&mut self, notice: Notice) {
        let about = About::of(&notice);
        self.0.retain(|(other, _)| *other != about);
        self.0.push((about, notice));
        let bytes: usize = self.0.iter().map(|(_, notice)| length(notice)).sum();
        if self.0.len() > MOST || bytes > MOST_BYTES {
            self.0 = vec![(About::Anything, Notice::Changed)];
        }
    }

    /// All of them, the latest last; none waits afterwards.
    pub(crate) fn take(&mut self) -> Vec<Notice> {
        let all = std::mem::take(&mut self.0);
        all.into_iter().map(|(_, notice)| notice).collect()
    }
}

/// What a notice is about.
#[derive(Debug, PartialEq, Eq)]
enum About {
    State,
    /// The publisher as the head names it, unchecked; none where it names nobody.
    Head(Option<Box<[u8]>>),
    Anything,
}

impl About {
    fn of(notice: &Notice) -> Self {
        match notice {
            Notice::State(..) => Self::State,
            Notice::Head(note) => {
                let mut lines = note.split(|byte| *byte == b'\n').take(LINES);
                Self::Head(lines.find_map(|line| line.strip_prefix(PUBLISHER).map(Into::into)))
            }
            Notice::Changed => Self::Anything,
        }
    }
}

fn length(notice: &Notice) -> usize {
    match notice {
        Notice::Head(note) => note.len(),
        Notice::State(..) | Notice::Changed => 0,
    }
}

/// Finds the notice that calls for a cycle. What one notice brings spares asking for the rest; where several have news, or a
/// cycle is owed already, the cycle has to ask for everything.
#[derive(Debug, Default)]
pub struct Callers {
    /// Those that a cycle for several was called by. It may have asked another backend than the one that told, so each is
    /// looked at once more by itself.
    again: VecDeque<Notice>,
    /// A cycle was put off.
    is_owed: bool,
}

impl Callers {
    /// A notice that is to be looked at once more, alone.
    pub fn again(&mut self) -> Option<Notice> {
        self.again.pop_front()
    }

    /// The notice that calls for a cycle, of those that were heard.
    pub fn choose(&mut self, heard: Vec<Notice>, is_news: impl Fn(&Notice) -> bool) -> Option<Notice> {
        let mut news: Vec<Notice> = heard.into_iter().filter(is_news).collect();
        if news.len() > 1 || (self.is_owed && !news.is_empty()) {
            self.again.extend(news);
            return Some(Notice::Changed);
        }
        news.pop()
    }

    /// The cycle that was called for comes later.
    pub fn put_off(&mut self) {
        self.again.clear();
        self.is_owed = true;
    }

    /// A cycle has asked for everything, or for all that a notice called for.
    pub fn cycle_ended(&mut self) {
        self.is_owed = false;
    }
}

#[cfg(test)]
mod tests {
    use dirless_wire::ETag;

    use super::*;

    fn head(publisher: &str, text: &str) -> Notice {
        Notice::Head(format!("dirless/head/v1\ntenant x\npublisher {publisher}\n{text}\n").into_bytes())
    }

    fn state(tag: &str) -> Notice {
        Notice::State(ETag::strong(tag).unwrap(), None)
    }

    fn taken(notices: &[Notice]) -> Vec<Notice> {
        let mut unread = Unread::default();
        notices.iter().cloned().for_each(|notice| unread.add(notice));
        let taken = unread.take();
        assert_eq!(unread.take(), []);
        taken
    }

    #[test]
    fn the_latest_of_each_publisher_and_kind_waits() {
        let (a, b) = (head("a", "1"), head("b", "1"));
        assert_eq!(taken(&[a.clone(), b.clone()]), [a.clone(), b.clone()]);
        assert_eq!(taken(&[a.clone(), b.clone(), head("a", "2")]), [b, head("a", "2")]);
        let all = [Notice::Changed, state("1"), a.clone(), Notice::Changed, state("2")];
        assert_eq!(taken(&all), [a.clone(), Notice::Changed, state("2")]);
        // Whoever names nobody takes nobody's place.
        let nobody = |text: &str| Notice::Head(text.into());
        assert_eq!(taken(&[nobody("x"), a.clone(), nobody("y")]), [a, nobody("y")]);
    }

    #[test]
    fn what_is_too_much_is_a_call_to_ask() {
        let many: Vec<Notice> = (0..65).map(|number| head(&number.to_string(), "")).collect();
        assert_eq!(taken(&many[1..]).len(), 64);
        assert_eq!(taken(&many), [Notice::Changed]);
        let long: Vec<Notice> = (0..9)
            .map(|number| head(&number.to_string(), &"x".repeat(256 * 1024 - 64)))
            .collect();
        assert_eq!(taken(&long[1..]).len(), 8);
        assert_eq!(taken(&long), [Notice::Changed]);
    }

    #[test]
    fn several_with_news_call_a_cycle_that_asks_for_everything() {
        let (a, b, old) = (head("a", "1"), head("b", "1"), head("c", "0"));
        let is_news = |notice: &Notice| *notice != head("c", "0");
        let mut callers = Callers::default();
        assert_eq!(callers.choose(vec![old.clone()], is_news), None);
        assert_eq!(callers.choose(vec![a.clone(), old.clone()], is_news), Some(a.clone()));
        assert_eq!(
            callers.choose(vec![Notice::Changed, old], is_news),
            Some(Notice::Changed)
        );
        assert_eq!(callers.again(), None);
        assert_eq!(
            callers.choose(vec![a.clone(), b.clone()], is_news),
            Some(Notice::Changed)
        );
        // That one has asked somebody who did not know of `b`.
        callers.cycle_ended();
        let again = callers.again().unwrap();
        assert_eq!(callers.choose(vec![again], |_| false), None);
        let again = callers.again().unwrap();
        assert_eq!(callers.choose(vec![again], is_news), Some(b));
        assert_eq!(callers.again(), None);
    }

    #[test]
    fn a_cycle_that_was_put_off_is_not_forgotten_for_another() {
        let (a, b) = (head("a", "1"), head("b", "1"));
        let mut callers = Callers::default();
        assert_eq!(callers.choose(vec![a], |_| true), Some(head("a", "1")));
        callers.put_off();
        assert_eq!(callers.choose(vec![b.clone()], |_| false), None);
        assert_eq!(callers.choose(vec![b.clone()], |_| true), Some(Notice::Changed));
        assert_eq!(callers.again(), Some(b.clone()));
        callers.cycle_ended();
        assert_eq!(callers.choose(vec![b.clone()], |_| true), Some(b));
    }
}
