//! Groups and their members.

use std::collections::HashMap;

use super::{Cause, Entry, Merged, MergedGroup, Owners, Part, Refusal, rank};
use crate::texts::{Symbol, Texts};

/// A group that takes part: its source and its place there.
#[derive(Clone, Copy)]
struct Claim {
    name: u32,
    source: u8,
    place: u32,
}

pub(super) fn merge(texts: &Texts, ranks: &[u32], parts: &[Part], merged: &mut Merged) {
    let mut claims = Vec::new();
    let mut owners = Owners::new(texts);
    let mut shadows = Owners::new(texts);
    let mut gids: HashMap<u32, (Symbol, u8)> = HashMap::new();
    for (source, part) in (0..u8::MAX).zip(parts) {
        let refused = refuse_inside(ranks, source, part, &mut merged.refusals);
        let first = claims.len();
        for (place, (group, refused)) in (0u32..).zip(part.groups.iter().zip(&refused)) {
            if *refused {
                continue;
            }
            let refusal = |cause| Refusal {
                source,
                entry: Entry::Group(group.name),
                raw: group.raw,
                cause,
            };
            let id = group.gid.number();
            if owners.of(group.name).is_none() {
                if let Some(earlier) = shadows.of(group.name) {
                    merged.refusals.push(refusal(Cause::Shadowed { source: earlier }));
                    continue;
                }
                if let Some((by, earlier)) = gids.get(&id).copied() {
                    merged.refusals.push(refusal(Cause::IdTaken {
                        id,
                        by,
                        source: earlier,
                    }));
                    continue;
                }
            }
            claims.push(Claim {
                name: rank(ranks, group.name),
                source,
                place,
            });
        }
        for claim in claims.iter().skip(first) {
            if let Some(group) = part.groups.get(claim.place as usize)
                && owners.of(group.name).is_none()
            {
                owners.claim(group.name, source);
                gids.insert(group.gid.number(), (group.name, source));
            }
        }
        let silent = part.groups.iter().map(|group| group.name);
        for name in silent.chain(part.refused_groups.iter().copied()) {
            if owners.of(name).is_none() {
                shadows.claim(name, source);
            }
        }
    }
    claims.sort_unstable_by_key(|claim| (claim.name, claim.source));
    join(texts, parts, &claims, merged);
}

/// Makes one group of all claims of a name; `claims` are in the order of names, then precedence.
fn join(texts: &Texts, parts: &[Part], claims: &[Claim], merged: &mut Merged) {
    let mut places = vec![u32::MAX; texts.symbols()];
    for (place, user) in (0u32..).zip(&merged.directory.users) {
        if let Some(slot) = places.get_mut(user.name.index()) {
            *slot = place;
        }
    }
    let place = |name: Symbol| places.get(name.index()).copied().filter(|place| *place != u32::MAX);
    // For each user the last group that listed it, so that nobody is listed twice.
    let mut listed = vec![0u32; merged.directory.users.len()];
    let directory = &mut merged.directory;
    for (number, same) in (1u32..).zip(claims.chunk_by(|a, b| a.name == b.name)) {
        let start = directory.members.len();
        let mut head = None;
        for claim in same {
            let Some(part) = parts.get(usize::from(claim.source)) else {
                continue;
            };
            let Some(group) = part.groups.get(claim.place as usize) else {
                continue;
            };
            head.get_or_insert((group, claim.source));
            let from = directory.members.len();
            for member in part.members_of(group) {
                let Some(user) = place(*member) else {
                    merged.unknown_members += 1;
                    continue;
                };
                if let Some(last) = listed.get_mut(user as usize)
                    && std::mem::replace(last, number) != number
                {
                    directory.members.push(user);
                }
            }
            // Users stand in the order of their names, so their places sort as their names do.
            if let Some(own) = directory.members.get_mut(from..) {
                own.sort_unstable();
            }
        }
        let bounds = (u32::try_from(start), u32::try_from(directory.members.len()));
        if let (Some((group, source)), (Ok(start), Ok(end))) = (head, bounds) {
            directory.groups.push(MergedGroup {
                name: group.name,
                gid: group.gid,
                source,
                start,
                end,
            });
        }
    }
}

/// Marks the groups whose name or gid another record of the same source has too.
fn refuse_inside(ranks: &[u32], source: u8, part: &Part, refusals: &mut Vec<Refusal>) -> Vec<bool> {
    let mut refused = vec![false; part.groups.len()];
    let mut names: HashMap<Symbol, u32> = HashMap::new();
    // For each gid the alphabetically first and last name that has it.
    let mut gids: HashMap<u32, (Symbol, Symbol)> = HashMap::new();
    for group in &part.groups {
        *names.entry(group.name).or_default() += 1;
        let (first, last) = gids.entry(group.gid.number()).or_insert((group.name, group.name));
        if rank(ranks, group.name) < rank(ranks, *first) {
            *first = group.name;
        }
        if rank(ranks, group.name) > rank(ranks, *last) {
            *last = group.name;
        }
    }
    for (group, refused) in part.groups.iter().zip(&mut refused) {
        let id = group.gid.number();
        let cause = if names.get(&group.name).is_some_and(|times| *times > 1) {
            Cause::SameName
        } else {
            match gids.get(&id) {
                Some((first, last)) if first != last => Cause::SameId {
                    id,
                    other: if *first == group.name { *last } else { *first },
                },
                _ => continue,
            }
        };
        *refused = true;
        refusals.push(Refusal {
            source,
            entry: Entry::Group(group.name),
            raw: group.raw,
            cause,
        });
    }
    refused
}
