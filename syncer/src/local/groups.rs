//! Edits of group records: pure functions on the open snapshot.

use dirless_model::Name;
use dirless_model::snapshot::ObjectKind;
use serde_json::{Value, json};

use super::blob::{Blob, members, number, text};
use super::users::{claim, enter, next};
use super::{Edited, LocalConfig, Refusal};

/// Adds a group. One that is there already, with that gid if one is asked for, is no change.
///
/// # Errors
/// When the name or gid cannot be used, or the group is there with another gid.
pub(super) fn add(blob: &mut Blob, name: &str, gid: Option<u32>, config: &LocalConfig) -> Result<Edited, Refusal> {
    let name = Name::parse(name).map_err(|reason| Refusal::Name {
        what: "the group name",
        name: name.to_owned(),
        reason,
    })?;
    if let Some(record) = blob.group(name.as_str()) {
        return if gid.is_none() || number(Some(record), "gid") == gid {
            Ok(Edited::unchanged(format!("group {name} is there already")))
        } else {
            Err(Refusal::NameTaken {
                what: "group",
                name: name.to_string(),
            })
        };
    }
    let gid = match gid {
        Some(gid) => claim(blob, ObjectKind::Group, gid, name.as_str())?,
        None => next(blob, ObjectKind::Group, config)?,
    };
    blob.push_group(json!({"name": name, "gid": gid, "members": []}));
    Ok(Edited::changed(format!("group {name} added: gid {gid}")))
}

/// Removes a group; its number is never given out again.
///
/// # Errors
/// When it is somebody's primary group.
pub(super) fn remove(blob: &mut Blob, name: &str) -> Result<Edited, Refusal> {
    let Some(record) = blob.group(name) else {
        return Ok(Edited::unchanged(format!("there is no local group {name}")));
    };
    let gid = number(Some(record), "gid");
    let uses = |user: &&Value| gid.is_some() && number(user.as_object(), "gid") == gid;
    let users = blob.users().iter().filter(uses);
    let users: Vec<&str> = users.filter_map(|user| text(user.as_object(), "username")).collect();
    if !users.is_empty() {
        return Err(Refusal::Primary {
            group: name.to_owned(),
            users: users.join(", "),
        });
    }
    blob.remove_group(name);
    if let Some(gid) = gid {
        blob.retire(ObjectKind::Group, gid, name);
    }
    Ok(Edited::changed(format!("group {name} removed")))
}

/// Makes users members of a group. Users that are not local are taken: a local group may list
/// synced users.
///
/// # Errors
/// When there is no such group, or a user name cannot be used.
pub(super) fn add_members(blob: &mut Blob, group: &str, users: &[String]) -> Result<Edited, Refusal> {
    let record = blob.group(group).ok_or_else(|| missing(group))?;
    let mut fresh: Vec<&String> = Vec::new();
    for user in users {
        Name::parse(user).map_err(|reason| Refusal::Name {
            what: "the user name",
            name: user.clone(),
            reason,
        })?;
        if !members(Some(record)).any(|member| member == user) && !fresh.contains(&user) {
            fresh.push(user);
        }
    }
    if fresh.is_empty() {
        return Ok(Edited::unchanged(format!("{} in {group} already", list(users))));
    }
    let local = blob.user_names();
    let strangers: Vec<&str> = fresh
        .iter()
        .map(|user| user.as_str())
        .filter(|user| !local.contains(user))
        .collect();
    let note = (!strangers.is_empty()).then(|| {
        let strangers = strangers.join(", ");
        format!("not among the local users, so taken to be synced ones: {strangers}")
    });
    for user in &fresh {
        enter(blob, group, user);
    }
    let names: Vec<String> = fresh.into_iter().cloned().collect();
    let edited = Edited::changed(format!("{} added to {group}", names.join(", ")));
    Ok(match note {
        Some(note) => edited.note(note),
        None => edited,
    })
}

/// Takes users out of a group.
///
/// # Errors
/// When there is no such group.
pub(super) fn remove_members(blob: &mut Blob, group: &str, users: &[String]) -> Result<Edited, Refusal> {
    let record = blob.group_mut(group).ok_or_else(|| missing(group))?;
    let gone: Vec<String> = {
        let present: Vec<&str> = members(Some(record)).collect();
        users
            .iter()
            .filter(|user| present.contains(&user.as_str()))
            .cloned()
            .collect()
    };
    if gone.is_empty() {
        return Ok(Edited::unchanged(format!("{} not in {group}", list(users))));
    }
    if let Some(list) = record.get_mut("members").and_then(Value::as_array_mut) {
        list.retain(|member| {
            !member
                .as_str()
                .is_some_and(|member| gone.iter().any(|user| user == member))
        });
    }
    Ok(Edited::changed(format!("{} removed from {group}", gone.join(", "))))
}

fn list(users: &[String]) -> String {
    let verb = if users.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", users.join(", "))
}

fn missing(name: &str) -> Refusal {
    Refusal::Missing {
        what: "group",
        name: name.to_owned(),
    }
}
