//! Users and their keys.

use std::collections::HashMap;

use super::{Cause, Entry, Merged, MergedUser, Owners, Part, Refusal, rank};
use crate::texts::{Symbol, Texts};

pub(super) fn merge(texts: &Texts, ranks: &[u32], parts: &[Part], merged: &mut Merged) {
    let mut owners = Owners::new(texts);
    let mut shadows = Owners::new(texts);
    let mut uids: HashMap<u32, (Symbol, u8)> = HashMap::new();
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
            uids.insert(user.uid.number(), (user.name, source));
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
    merged
        .directory
        .users
        .sort_unstable_by_key(|user| rank(ranks, user.name));
    give_keys(texts, parts, merged);
}

/// Marks the users whose name or uid another record of the same source has too.
fn refuse_inside(ranks: &[u32], source: u8, part: &Part, refusals: &mut Vec<Refusal>) -> Vec<bool> {
    let mut refused = vec![false; part.users.len()];
    let mut order: Vec<u32> = (0u32..).take(part.users.len()).collect();
    let user = |at: u32| part.users.get(at as usize);
    let name = |at: u32| user(at).map(|user| rank(ranks, user.name));
    order.sort_unstable_by_key(|at| (name(*at), *at));
    let mut mark = |at: u32, cause: Cause, refused: &mut Vec<bool>| {
        if let (Some(user), Some(mark)) = (user(at), refused.get_mut(at as usize))
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
    for same in order.chunk_by(|a, b| name(*a) == name(*b)) {
        if same.len() > 1 {
            same.iter().for_each(|at| mark(*at, Cause::SameName, &mut refused));
        }
    }
    let uid = |at: u32| user(at).map(|user| user.uid);
    order.sort_unstable_by_key(|at| (uid(*at), name(*at), *at));
    for same in order.chunk_by(|a, b| uid(*a) == uid(*b)) {
        let (Some(first), Some(last)) = (
            same.first().and_then(|at| user(*at)),
            same.last().and_then(|at| user(*at)),
        ) else {
            continue;
        };
        if first.name == last.name {
            continue;
        }
        for at in same {
            let other = if user(*at).map(|user| user.name) == Some(first.name) {
                last
            } else {
                first
            };
            let cause = Cause::SameId {
                id: first.uid.number(),
                other: other.name,
            };
            mark(*at, cause, &mut refused);
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
