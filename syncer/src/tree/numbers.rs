//! Numbers of accounts and groups that people enter: who enters one may leave them out, and the ledger gives
//! them. Until it has, the entry stands without.

use dirless_directory::{AttributeName, Entry, Schema, Value};
use dirless_model::snapshot::Document;

use super::by_hand;
use super::modify::Modification;
use super::operational::name;
use super::people::has_class;
use super::read::{Operation, Reader};
use super::write::{Batch, Expect};
use super::{TreeError, by_hand::identity};

/// Changes beyond which all entries are looked at instead.
const MOST_CHANGES: usize = 1_000;

/// The numbers that the entry lacks and that the ledger gives: only people's entries may lack any.
pub(super) fn lacking(entry: &Entry) -> Vec<AttributeName> {
    if !entry.values(&name("aitherSource")).is_empty() {
        return Vec::new();
    }
    let needed: &[&'static str] = if has_class(entry, "posixAccount") {
        &["uidNumber", "gidNumber"]
    } else if has_class(entry, "posixGroup") {
        &["gidNumber"]
    } else {
        &[]
    };
    let all = needed.iter().map(|needed| name(needed));
    all.filter(|name| entry.values(name).is_empty()).collect()
}

/// Holds an entry against the schema, with the numbers that it will have.
pub(super) fn check(schema: &Schema, entry: &Entry) -> Result<(), TreeError> {
    let lacking = lacking(entry);
    let checked = if lacking.is_empty() {
        schema.check(entry)
    } else {
        let mut filled = entry.clone();
        for name in lacking {
            filled.set(name, vec![Value::from("1000")]);
        }
        schema.check(&filled)
    };
    checked.map_err(TreeError::schema(entry.dn()))
}

/// Keeps the numbers of an account or group that is put in place of itself without them.
pub(super) fn keep(held: &Entry, new: &mut Entry) {
    for name in lacking(new) {
        let values = held.values(&name).to_vec();
        new.set(name, values);
    }
}

/// Have accounts or groups without numbers come since change number `since`?
///
/// # Errors
/// When the database fails.
pub fn have_come(reader: Reader<'_>, since: u64) -> Result<bool, TreeError> {
    let changes = if reader.is_forgotten(since)? {
        None
    } else {
        Some(reader.changes(since, MOST_CHANGES + 1)?)
    };
    let Some(changes) = changes.filter(|changes| changes.len() <= MOST_CHANGES) else {
        return Ok(!without(reader)?.is_empty());
    };
    for change in changes.iter().filter(|change| change.operation != Operation::Delete) {
        let dn = dirless_directory::Dn::parse(&change.dn).ok();
        let record = dn.map(|dn| reader.get(&dn)).transpose()?.flatten();
        if let Some(record) = record
            && !lacking(&record.entry()?).is_empty()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// People's accounts and groups that lack numbers.
///
/// # Errors
/// When the database fails.
pub fn without(reader: Reader<'_>) -> Result<Vec<Entry>, TreeError> {
    let mut entries = by_hand::entries(reader)?;
    entries.retain(|entry| !lacking(entry).is_empty());
    Ok(entries)
}

/// Writes the numbers that `document` has for people's accounts and groups onto those that lack them;
/// answers how many entries that were.
///
/// # Errors
/// When the database fails.
pub fn fill(batch: &mut Batch<'_>, document: &Document) -> Result<usize, TreeError> {
    let mut filled = 0;
    for entry in without(batch.reader())? {
        let Some(id) = identity(&entry) else { continue };
        let numbers = if has_class(&entry, "posixAccount") {
            let mut users = document.users.iter();
            let user = users.find(|user| user.id.as_ref().is_some_and(|own| own.as_str() == id));
            user.map(|user| (Some(user.uid.number()), user.gid.number()))
        } else {
            let mut groups = document.groups.iter();
            let group = groups.find(|group| group.id.as_ref().is_some_and(|own| own.as_str() == id));
            group.map(|group| (None, group.gid.number()))
        };
        // Without numbers when it cannot be published: the reader says why.
        let Some((uid, gid)) = numbers else { continue };
        let steps: Vec<Modification> = lacking(&entry)
            .into_iter()
            .map(|attribute| {
                let number = uid.filter(|_| attribute == name("uidNumber")).unwrap_or(gid);
                Modification::Replace(attribute, vec![Value::from(number.to_string())])
            })
            .collect();
        if batch.modify(entry.dn(), &steps, Expect::Anything)? {
            filled += 1;
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use dirless_directory::Dn;

    use super::*;

    fn entry(attributes: &[(&str, &str)]) -> Entry {
        let mut entry = Entry::new(Dn::parse("uid=a,ou=users,dc=dirless").unwrap());
        for (attribute, value) in attributes {
            entry.add(AttributeName::parse(attribute).unwrap(), Value::from(*value));
        }
        entry
    }

    const ACCOUNT: [(&str, &str); 6] = [
        ("objectClass", "inetOrgPerson"),
        ("objectClass", "posixAccount"),
        ("uid", "a"),
        ("cn", "a"),
        ("sn", "a"),
        ("homeDirectory", "/home/a"),
    ];

    #[test]
    fn only_peoples_accounts_and_groups_may_lack_numbers() {
        let lacks = |attributes: &[(&str, &str)]| {
            let names = lacking(&entry(attributes));
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(lacks(&ACCOUNT), ["uidNumber", "gidNumber"]);
        assert_eq!(lacks(&[&ACCOUNT[..], &[("uidNumber", "7")]].concat()), ["gidNumber"]);
        assert_eq!(lacks(&[("objectClass", "POSIXGROUP")]), ["gidNumber"]);
        assert!(lacks(&[&ACCOUNT[..], &[("aitherSource", "corp")]].concat()).is_empty());
        assert!(lacks(&[("objectClass", "device")]).is_empty());
    }

    #[test]
    fn the_rest_of_the_schema_holds_without_numbers_too() {
        let schema = Schema::standard();
        check(&schema, &entry(&ACCOUNT)).unwrap();
        let homeless = check(&schema, &entry(&ACCOUNT[..5])).unwrap_err();
        assert!(homeless.to_string().contains("homeDirectory"), "{homeless}");
        let synced = [
            &ACCOUNT[..],
            &[("objectClass", "aitherOwned"), ("aitherSource", "corp")],
        ]
        .concat();
        check(&schema, &entry(&synced)).unwrap_err();
    }

    #[test]
    fn what_is_put_in_place_keeps_its_numbers() {
        let held = entry(&[&ACCOUNT[..], &[("uidNumber", "7"), ("gidNumber", "8")]].concat());
        let mut new = entry(&[&ACCOUNT[..], &[("uidNumber", "9")]].concat());
        keep(&held, &mut new);
        assert_eq!(new.values(&name("uidNumber")), [Value::from("9")]);
        assert_eq!(new.values(&name("gidNumber")), [Value::from("8")]);
        let mut plain = entry(&ACCOUNT[2..]);
        keep(&held, &mut plain);
        assert!(plain.values(&name("gidNumber")).is_empty(), "an account no more");
    }
}
