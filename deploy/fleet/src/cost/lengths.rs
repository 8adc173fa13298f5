//! How long the records of a log are that say what happens to one person.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use dirless_model::snapshot::{Part, record_key};
use dirless_seal::trust::log::{LogKey, Place, diff};
use dirless_seal::{Digest, Identity, RecordKind};

use crate::people::{People, key, name};

type Records = BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>;

fn record(records: &mut Records, part: Part, text: String) -> anyhow::Result<()> {
    let bytes = text.into_bytes();
    let key = record_key(part, &bytes)
        .context("a record without a name")?
        .into_owned();
    records.insert((RecordKind::from(part), key), bytes);
    Ok(())
}

fn key_of(number: usize, key: &str) -> String {
    format!("\"ssh_keys\":\"{}\":\"{key}\"", name(number))
}

/// One person's records, and those of their teams: all, or as if they were not there.
fn of(people: &People, number: usize, is_there: bool) -> anyhow::Result<Records> {
    let mut records = Records::new();
    if is_there {
        record(&mut records, Part::User, people.user(number))?;
        record(&mut records, Part::Other, key_of(number, &key(number)))?;
    }
    for team in people.teams_of(number) {
        let without = (!is_there).then_some(number);
        record(&mut records, Part::Group, people.team(team, without, None))?;
    }
    Ok(records)
}

/// What happens to people, and the records before and after it.
fn happenings(people: &People, number: usize) -> anyhow::Result<Vec<(&'static str, Records, Records)>> {
    let (there, gone) = (of(people, number, true)?, of(people, number, false)?);
    let mut moved = people.clone();
    moved.change(number);
    let mut other_key = there.clone();
    record(&mut other_key, Part::Other, key_of(number, &key(number + 1_000_000)))?;
    let mut two_keys = there.clone();
    let both = format!("{}\\n{}", key(number), key(number + 1_000_000));
    record(&mut two_keys, Part::Other, key_of(number, &both))?;
    let (mut before, mut after) = (Records::new(), Records::new());
    let strange = people.teams_of(number + 5).into_iter().max().unwrap_or_default();
    record(&mut before, Part::Group, people.team(strange, Some(number), None))?;
    record(&mut after, Part::Group, people.team(strange, None, Some(number)))?;
    Ok(vec![
        ("another full name", there.clone(), of(&moved, number, true)?),
        ("another key", there.clone(), other_key),
        ("a second key", there.clone(), two_keys),
        ("joins a team", before.clone(), after.clone()),
        ("leaves a team", after, before),
        ("appears, with a key and five teams", gone.clone(), there.clone()),
        ("goes, with key and teams", there, gone),
    ])
}

/// For what happens to each of some people: how many sealed records have which length.
///
/// # Errors
/// When a record cannot be made.
pub(crate) fn lengths(people: &People, some: usize) -> anyhow::Result<Vec<(&'static str, BTreeMap<usize, usize>)>> {
    let digest = Digest::of(b"manifest");
    let label = |text: &str| text.parse().map_err(|error| anyhow!("{error}"));
    let place = Place {
        tenant: digest,
        publisher: label("syncer-1")?,
        source: label("fleet")?,
        compartment: label("all")?,
        epoch: 1,
        version: 1,
        manifest: digest,
    };
    let log = LogKey::new(&Identity::generate(), &place);
    let mut found: Vec<(&'static str, BTreeMap<usize, usize>)> = Vec::new();
    for person in 0..some {
        let number = person * people.count() / some.max(1);
        for (at, (what, before, after)) in happenings(people, number)?.into_iter().enumerate() {
            let length = log.seal(0, &diff(&before, &after, digest)?)?.len();
            if found.len() <= at {
                found.push((what, BTreeMap::new()));
            }
            if let Some((_, counts)) = found.get_mut(at) {
                *counts.entry(length).or_default() += 1;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_to_one_is_a_record_of_a_few_lengths() {
        for (what, counts) in lengths(&People::new(2000), 20).unwrap() {
            assert_eq!(counts.values().sum::<usize>(), 20, "{what}");
            assert!(
                counts.keys().all(|length| [188, 540, 1052].contains(length)),
                "{what}: {counts:?}"
            );
        }
    }
}
