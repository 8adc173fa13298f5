//! The report after records that were followed.

use super::News;
use crate::pipeline::{CautionNote, Drops, Inputs, Report, Taken, entries};

/// Brings what the report of the last run says to what holds after `news`.
pub(super) fn tell(report: &mut Report, inputs: &Inputs, news: &News) {
    let moved = |count: &mut usize, before: usize, now: usize| *count = (*count + now).saturating_sub(before);
    for effect in &news.effects {
        if let Some(published) = &mut report.published {
            let ([users, groups, keys], now) = effect.shown;
            moved(&mut published.users, users, now[0]);
            moved(&mut published.groups, groups, now[1]);
            moved(&mut published.users_with_keys, keys, now[2]);
        }
        moved(&mut report.excluded_total, effect.excluded.0, effect.excluded.1);
        let (before, now) = &effect.dropped;
        report.dropped.replace(before, now);
        for (place, ([users, groups, keys], now)) in effect.taken.iter().enumerate() {
            if let Some(told) = report.sources.get_mut(place) {
                moved(&mut told.users, *users, now[0]);
                moved(&mut told.groups, *groups, now[1]);
                moved(&mut told.keys, *keys, now[2]);
            }
        }
    }
    for (before, now) in &news.tree.dropped {
        report.dropped.replace(before, now);
    }
    twice(report, news.tree.twice);
    let tree = inputs.directory.iter().flat_map(|directory| &directory.sources);
    for (told, source) in report.sources.iter_mut().zip(inputs.sources.iter().chain(tree)) {
        if let Some(note) = source.note.as_ref().filter(|_| told.taken == Taken::Fetched) {
            told.etag.clone_from(&note.etag);
            told.fetched_at.clone_from(&note.fetched_at);
        }
    }
}

/// Counts entries that have the name of one in an earlier source.
fn twice(report: &mut Report, (before, now): (usize, usize)) {
    if before == now {
        return;
    }
    let place = report.cautions.iter().position(|note| note.code == entries::TWICE);
    let told = place.map_or(0, |place| report.cautions.remove(place).count);
    let count = (told + now).saturating_sub(before);
    if count > 0 {
        report.cautions.push(CautionNote {
            code: entries::TWICE.to_owned(),
            count,
            text: entries::said_twice(count),
        });
    }
}

impl Drops {
    /// Takes out what was left out of a part before, and adds what is now.
    fn replace(&mut self, before: &Self, now: &Self) {
        self.total = self.total.saturating_sub(before.total);
        for (code, count) in &before.by_code {
            if let Some(told) = self.by_code.get_mut(code) {
                *told = told.saturating_sub(*count);
            }
        }
        self.by_code.retain(|_, count| *count > 0);
        self.entries.retain(|entry| !before.entries.contains(entry));
        self.append(now.clone());
    }
}
