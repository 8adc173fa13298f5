//! Users and their keys.

use std::collections::HashMap;

use super::{Cause, Entry, Merged, MergedUser, Owners, Part, Refusal, rank};
use crate::texts::{Symbol, Texts};

pub(super) fn merge(texts: &Texts, ranks: &[u32], parts: &[Part], merged: &mut Merged) {
    let mut owners = Owners::new(texts);
    let mut shadows = Owners::new(texts);
    let mut uids: HashMap<u32, (Symbol, u8)> = HashMap::new();
    // Nobody asks for the uids of the last source that has users.
    let asking = parts.iter().rposition(|part| !part.users.is_empty()).unwrap_or(0);
    for (source, part) in (0..u8::MAX).zip(parts) {
        let refused = refuse_inside(ranks, source, part, &mut merged.refusals);
        for (user, refused) in part.users.iter().zip(&refused) {
            if owners.of(user.name).is_some() {
                merged.duplicates.push(user.name);
                continue;
            }
            if *refused {
                continue;
            }
            let refusal = |cause| Refusal {
                source,
                entry: Entry::User(user.name),
                raw: user.raw,
                cause,
            };
            if let Some(earlier) = shadows.of(user.name) {
                merged.duplicates.push(user.name);
                merged.refusals.push(refusal(Cause::Shadowed { source: earlier }));
                continue;
            }
            let id = user.uid.number();
            if let Some((by, earlier)) = uids.get(&id).copied() {
                merged.refusals.push(refusal(Cause::IdTaken {
                    id,
                    by,
                    source: earlier,
                }));
                continue;
            }
            merged.directory.users.push(MergedUser {
                name: user.name,
                uid: user.uid,
                gid: user.gid,
                shell: user.shell,
                gecos: user.gecos,
                home: user.home,
                keys: Default::default(),
                source,
            });
        }
        // Only now: inside one source names and ids are compared by `refuse_inside`.
        let new = merged.directory.users.iter().rev();
        for user in new.take_while(|user| user.source == source) {
            owners.claim(user.name, source);
            if usize::from(source) < asking {
                uids.insert(user.uid.number(), (user.name, source));
            }
        }
        let bad = part.users.iter().zip(&refused).filter(|(_, refused)| **refused);
        let bad = bad.map(|(user, _)| user.name);
        for name in bad.chain(part.refused_users.iter().copied()) {
            shadows.claim(name, source);
        }
        // A user whose uid an earlier source took was left out too, and still decides its name.
        for user in &part.users {
            if owners.of(user.name).is_none() {
                shadows.claim(user.name, source);
            }
        }
    }
    merged.duplicates.sort_unstable_by_key(|name| rank(ranks, *name));
    merged.duplicates.dedup();
    sort_by_name(ranks, &mut merged.directory.users);
    give_keys(texts, parts, merged);
}

/// Sorts small keys and moves each user once.
fn sort_by_name(ranks: &[u32], users: &mut Vec<MergedUser>) {
    let mut order: Vec<(u32, u32)> = users.iter().map(|user| rank(ranks, user.name)).zip(0..).collect();
    order.sort_unstable();
    let sorted = order
        .iter()
        .filter_map(|(_, place)| users.get(*place as usize).copied());
    *users = sorted.collect();
}

/// Marks the users whose name or uid another record of the same source has too.
fn refuse_inside(ranks: &[u32], source: u8, part: &Part, refusals: &mut Vec<Refusal>) -> Vec<bool> {
    let mut refused = vec![false; part.users.len()];
    let mut mark = |at: usize, cause: Cause| {
        if let (Some(user), Some(mark)) = (part.users.get(at), refused.get_mut(at))
            && !std::mem::replace(mark, true)
        {
            refusals.push(Refusal {
                source,
                entry: Entry::User(user.name),
                raw: user.raw,
                cause,
            });
        }
    };
    let mut times: Vec<u8> = vec![0; ranks.len()];
    for user in &part.users {
        if let Some(times) = times.get_mut(user.name.index()) {
            *times = times.saturating_add(1);
        }
    }
    for (at, user) in part.users.iter().enumerate() {
        if times.get(user.name.index()).is_some_and(|times| *times > 1) {
            mark(at, Cause::SameName);
        }
    }
    let mut uids: Vec<_> = part.users.iter().map(|user| user.uid).zip(0u32..).collect();
    uids.sort_unstable();
    for same in uids.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
        let names = same.iter().filter_map(|(_, at)| part.users.get(*at as usize));
        let names = names.map(|user| user.name);
        let by_rank = |name: &Symbol| rank(ranks, *name);
        let (Some(first), Some(last)) = (names.clone().min_by_key(by_rank), names.clone().max_by_key(by_rank)) else {
            continue;
        };
        for ((uid, at), name) in same.iter().zip(names) {
            if first != last {
                let other = if name == first { last } else { first };
                let id = uid.number();
                mark(*at as usize, Cause::SameId { id, other });
            }
        }
    }
    refused
}

/// Gives every user the keys of the earliest source that has an entry for the name.
fn give_keys(texts: &Texts, parts: &[Part], merged: &mut Merged) {
    let mut places = vec![u32::MAX; texts.symbols()];
    for (place, user) in (0u32..).zip(&merged.directory.users) {
        if let Some(slot) = places.get_mut(user.name.index()) {
            *slot = place;
        }
    }
    let mut decided = Owners::new(texts);
    for (source, part) in (0..u8::MAX).zip(parts) {
        let mut times: Vec<u8> = vec![0; texts.symbols()];
        for entry in &part.keys {
            if let Some(times) = times.get_mut(entry.name.index()) {
                *times = times.saturating_add(1);
            }
        }
        for entry in &part.keys {
            if times.get(entry.name.index()).is_some_and(|times| *times > 1) {
                merged.refusals.push(Refusal {
                    source,
                    entry: Entry::Keys(entry.name),
                    raw: entry.raw,
                    cause: Cause::SameName,
                });
            } else if decided.of(entry.name).is_none() {
                let place = places.get(entry.name.index()).copied().unwrap_or(u32::MAX);
                match merged.directory.users.get_mut(place as usize) {
                    Some(user) => user.keys = entry.keys,
                    None => merged.unknown_keys += 1,
                }
            }
        }
        part.keys.iter().for_each(|entry| decided.claim(entry.name, source));
    }
}
