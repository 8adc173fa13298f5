//! Edits of user records: pure functions on the open snapshot.

use dirless_model::snapshot::ObjectKind;
use dirless_model::{Caution, Gecos, Gid, HostPath, Name, Uid};
use serde_json::{Map, Value, json};

use super::blob::{Blob, members, number, text};
use super::{Edited, LocalConfig, Refusal};

/// What to set of a user; what is `None` stays, or gets its default in a new record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UserFields {
    /// Comment, usually the display name.
    pub(super) gecos: Option<String>,
    /// Home directory.
    pub(super) home: Option<String>,
    /// Login shell.
    pub(super) shell: Option<String>,
    /// User id.
    pub(super) uid: Option<u32>,
    /// Primary group: the name of a local group, or a gid.
    pub(super) group: Option<String>,
}

/// Adds a user. One that is there just so already is no change.
///
/// # Errors
/// When a value cannot be used, or the user is there with other values.
pub(super) fn add(blob: &mut Blob, name: &str, fields: &UserFields, config: &LocalConfig) -> Result<Edited, Refusal> {
    let name = user_name(name)?;
    check(fields)?;
    if let Some(record) = blob.user(name.as_str()) {
        return match difference(blob, record, fields)? {
            None => Ok(Edited::unchanged(format!("user {name} is there already"))),
            Some(differs) => Err(Refusal::Exists {
                what: "user",
                name: name.to_string(),
                differs,
            }),
        };
    }
    let uid = match fields.uid {
        Some(uid) => claim(blob, ObjectKind::User, uid, name.as_str())?,
        None => next(blob, ObjectKind::User, config)?,
    };
    let everyone = everyone(blob, config)?;
    let gid = match &fields.group {
        Some(group) => resolve_group(blob, group)?,
        None => everyone.1,
    };
    let home = match &fields.home {
        Some(home) => home.clone(),
        None => format!("{}/{name}", config.home_folder.trim_end_matches('/')),
    };
    path("home", &home)?;
    blob.push_user(json!({
        "username": name,
        "uid": uid,
        "gid": gid,
        "gecos": fields.gecos.as_deref().unwrap_or(name.as_str()),
        "home": home,
        "shell": fields.shell.as_ref().unwrap_or(&config.shell),
        "email": null,
    }));
    enter(blob, &everyone.0, name.as_str());
    let edited = Edited::changed(format!("user {name} added: uid {uid}, gid {gid}"));
    Ok(match Uid::parse(uid).ok().and_then(Uid::caution) {
        Some(caution) => edited.note(format!("uid {uid}: {caution}; hosts may drop the user")),
        None => edited,
    })
}

/// Changes fields of a user.
///
/// # Errors
/// When there is no such user, or a value cannot be used.
pub(super) fn set(blob: &mut Blob, name: &str, fields: &UserFields) -> Result<Edited, Refusal> {
    check(fields)?;
    let record = blob.user(name).ok_or_else(|| missing(name))?;
    if difference(blob, record, fields)?.is_none() {
        return Ok(Edited::unchanged(format!("user {name} is so already")));
    }
    let old_uid = number(Some(record), "uid");
    let gid = fields
        .group
        .as_ref()
        .map(|group| resolve_group(blob, group))
        .transpose()?;
    let uid = match fields.uid {
        Some(uid) if Some(uid) != old_uid => Some(claim(blob, ObjectKind::User, uid, name)?),
        _ => None,
    };
    if let (Some(_), Some(old)) = (uid, old_uid) {
        blob.retire(ObjectKind::User, old, name);
    }
    let record = blob.user_mut(name).ok_or_else(|| missing(name))?;
    let mut put = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            record.insert(field.to_owned(), value);
        }
    };
    put("uid", uid.map(Value::from));
    put("gid", gid.map(Value::from));
    put("gecos", fields.gecos.as_deref().map(Value::from));
    put("home", fields.home.as_deref().map(Value::from));
    put("shell", fields.shell.as_deref().map(Value::from));
    let edited = Edited::changed(format!("user {name} changed"));
    Ok(match (uid, old_uid) {
        (Some(uid), Some(old)) => edited.note(format!(
            "files that belong to uid {old} do not follow to {uid}; on each host run: \
             find / -xdev -uid {old} -exec chown -h {uid} {{}} +"
        )),
        _ => edited,
    })
}

/// Gives a user another name; number, groups and keys stay.
///
/// # Errors
/// When there is no such user, or the new name cannot be used.
pub(super) fn rename(blob: &mut Blob, old: &str, new: &str) -> Result<Edited, Refusal> {
    let new = user_name(new)?;
    if blob.user(old).is_none() {
        // Said twice: done already.
        return if blob.user(new.as_str()).is_some() {
            Ok(Edited::unchanged(format!(
                "there is no {old}, and {new} is there already"
            )))
        } else {
            Err(missing(old))
        };
    }
    if old == new.as_str() {
        return Ok(Edited::unchanged(format!("user {new} is called so already")));
    }
    if blob.user(new.as_str()).is_some() {
        return Err(Refusal::NameTaken {
            what: "user",
            name: new.to_string(),
        });
    }
    if let Some(record) = blob.user_mut(old) {
        record.insert("username".to_owned(), new.as_str().into());
    }
    blob.replace_member(old, Some(new.as_str()));
    if let Some(lines) = blob.keys(old).map(str::to_owned) {
        blob.set_keys(old, None);
        blob.set_keys(new.as_str(), Some(lines));
    }
    Ok(Edited::changed(format!("user {old} is now {new}")).note("the home directory is not moved".to_owned()))
}

/// Removes a user with memberships and keys; the number is never given out again.
pub(super) fn remove(blob: &mut Blob, name: &str) -> Edited {
    let Some(record) = blob.user(name) else {
        return Edited::unchanged(format!("there is no local user {name}"));
    };
    let uid = number(Some(record), "uid");
    blob.remove_user(name);
    blob.replace_member(name, None);
    blob.set_keys(name, None);
    if let Some(uid) = uid {
        blob.retire(ObjectKind::User, uid, name);
    }
    Edited::changed(format!("user {name} removed"))
}

/// The group of all local users and its gid; made when there is none.
fn everyone(blob: &mut Blob, config: &LocalConfig) -> Result<(String, u32), Refusal> {
    let by_name = blob.group(&config.group).and_then(|record| number(Some(record), "gid"));
    if let Some(gid) = by_name {
        return Ok((config.group.clone(), gid));
    }
    if let Some(name) = blob.numbers(ObjectKind::Group).get(&config.group_gid) {
        return Ok(((*name).to_owned(), config.group_gid));
    }
    let gid = claim(blob, ObjectKind::Group, config.group_gid, &config.group)?;
    blob.push_group(json!({"name": config.group, "gid": gid, "members": []}));
    Ok((config.group.clone(), gid))
}

/// Makes `user` a member of `group`, once.
pub(super) fn enter(blob: &mut Blob, group: &str, user: &str) {
    let Some(record) = blob.group_mut(group) else { return };
    if members(Some(record)).any(|member| member == user) {
        return;
    }
    let list = record.entry("members").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        list.push(user.into());
    }
}

/// The first field in which `record` differs from what is wanted.
fn difference(blob: &Blob, record: &Map<String, Value>, fields: &UserFields) -> Result<Option<&'static str>, Refusal> {
    let differs = |field: &str, wanted: &Option<String>| {
        wanted
            .as_deref()
            .is_some_and(|wanted| text(Some(record), field) != Some(wanted))
    };
    if fields.uid.is_some() && number(Some(record), "uid") != fields.uid {
        return Ok(Some("uid"));
    }
    if let Some(group) = &fields.group
        && number(Some(record), "gid") != Some(resolve_group(blob, group)?)
    {
        return Ok(Some("group"));
    }
    Ok([
        ("gecos", &fields.gecos),
        ("home", &fields.home),
        ("shell", &fields.shell),
    ]
    .into_iter()
    .find(|(field, wanted)| differs(field, wanted))
    .map(|(field, _)| field))
}

fn check(fields: &UserFields) -> Result<(), Refusal> {
    if let Some(gecos) = &fields.gecos {
        Gecos::parse(gecos).map_err(Refusal::Gecos)?;
    }
    for (what, given) in [("home", &fields.home), ("shell", &fields.shell)] {
        given.as_deref().map_or(Ok(()), |given| path(what, given))?;
    }
    Ok(())
}

fn path(what: &'static str, given: &str) -> Result<(), Refusal> {
    HostPath::parse(given).map(drop).map_err(|reason| Refusal::Path {
        what,
        path: given.to_owned(),
        reason,
    })
}

fn resolve_group(blob: &Blob, group: &str) -> Result<u32, Refusal> {
    if let Some(gid) = blob.group(group).and_then(|record| number(Some(record), "gid")) {
        return Ok(gid);
    }
    match group.parse() {
        Ok(gid) => number_allowed("gid", gid, Gid::parse(gid).map(Gid::caution)),
        Err(_) => Err(Refusal::Missing {
            what: "group",
            name: group.to_owned(),
        }),
    }
}

/// Checks that `wanted` is free for `name`, and takes it out of retirement when it was theirs.
pub(super) fn claim(blob: &mut Blob, kind: ObjectKind, wanted: u32, name: &str) -> Result<u32, Refusal> {
    let what = what(kind);
    let caution = match kind {
        ObjectKind::User => Uid::parse(wanted).map(Uid::caution),
        ObjectKind::Group => Gid::parse(wanted).map(Gid::caution),
    };
    number_allowed(what, wanted, caution)?;
    if let Some(owner) = blob.numbers(kind).get(&wanted) {
        return Err(Refusal::Taken {
            what,
            number: wanted,
            owner: (*owner).to_owned(),
        });
    }
    match blob.retired(kind).get(&wanted) {
        Some(owner) if *owner != Some(name) => Err(Refusal::Retired {
            what,
            number: wanted,
            owner: owner.unwrap_or("somebody else").to_owned(),
        }),
        Some(_) => {
            blob.revive(kind, wanted);
            Ok(wanted)
        }
        None => Ok(wanted),
    }
}

/// The number after the largest of the range that was ever in use, or, at the end of the range, the
/// smallest that never was.
pub(super) fn next(blob: &Blob, kind: ObjectKind, config: &LocalConfig) -> Result<u32, Refusal> {
    let mut used: std::collections::BTreeSet<u32> = blob.numbers(kind).into_keys().collect();
    used.extend(blob.retired(kind).into_keys());
    if kind == ObjectKind::Group {
        used.insert(config.group_gid);
    }
    let range = config.range;
    let largest = used.range(range.first()..=range.last()).next_back();
    let after = largest.map_or(range.first(), |largest| largest.saturating_add(1));
    let free = |candidate: &u32| !used.contains(candidate) && Uid::parse(*candidate).is_ok();
    let found = (after..=range.last()).find(free);
    found
        .or_else(|| (range.first()..=range.last()).find(free))
        .ok_or_else(|| Refusal::Exhausted {
            what: what(kind),
            range: range.to_string(),
        })
}

fn number_allowed(
    what: &'static str,
    number: u32,
    caution: Result<Option<Caution>, dirless_model::IdError>,
) -> Result<u32, Refusal> {
    match caution {
        Err(reason) => Err(Refusal::Number { what, number, reason }),
        Ok(Some(Caution::System)) => Err(Refusal::System { what, number }),
        Ok(_) => Ok(number),
    }
}

fn what(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::User => "uid",
        ObjectKind::Group => "gid",
    }
}

fn user_name(name: &str) -> Result<Name, Refusal> {
    Name::parse(name).map_err(|reason| Refusal::Name {
        what: "the user name",
        name: name.to_owned(),
        reason,
    })
}

fn missing(name: &str) -> Refusal {
    Refusal::Missing {
        what: "user",
        name: name.to_owned(),
    }
}
