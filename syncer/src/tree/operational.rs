//! What the server adds to every write: canonical names, naming values, the owner, stamps. Pure.

use dirless_directory::schema::{AttributeType, ObjectClass, object_class};
use dirless_directory::{AttributeName, Dn, Entry, Rdn, Schema, Value};
use jiff::Timestamp;

use super::{TreeError, numbers};

/// Owner of what nobody else owns.
const NOBODY: &str = "system";
/// The class that lets any object have an owner and a source.
const OWNED: &str = "aitherOwned";
/// Attributes that [`OWNED`] is added for.
const OF_OWNED: &[&str] = &["aitherOwnerUid", "aitherSource", "aitherSourceId"];

/// The name of an attribute that this program knows.
pub(super) fn name(text: &'static str) -> AttributeName {
    AttributeName::parse(text).expect("attribute names in this program are letters and digits")
}

/// Who wrote, when.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    pub(super) actor: String,
    pub(super) time: String,
    pub(super) csn: String,
}

/// Change sequence numbers: time, count within it, and two fields for other servers, of which there
/// are none. Each is greater than the one before, whatever the clock does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Csn {
    time: String,
    count: u32,
}

impl Csn {
    /// The state before the first write at `now`, after the number `last`.
    pub(super) fn after(last: Option<&str>, now: Timestamp) -> Self {
        let time = now.strftime("%Y%m%d%H%M%S.%6fZ").to_string();
        let mut parts = last.unwrap_or_default().split('#');
        let last_time = parts.next().unwrap_or_default();
        if last_time < time.as_str() {
            return Self { time, count: 0 };
        }
        let count = parts.next().and_then(|count| u32::from_str_radix(count, 16).ok());
        Self {
            time: last_time.to_owned(),
            count: count.map_or(0, |count| count + 1),
        }
    }

    pub(super) fn next(&mut self) -> String {
        let text = format!("{}#{:06x}#000#000000", self.time, self.count);
        self.count += 1;
        text
    }
}

/// A moment as LDAP writes it.
pub(super) fn time(now: Timestamp) -> String {
    now.strftime("%Y%m%d%H%M%SZ").to_string()
}

/// A random UUID (RFC 9562 section 5.4) out of random bytes.
pub(super) fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (4 << 76) | (2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

/// The entry with each attribute under the name that the schema writes.
pub(super) fn canonical(schema: &Schema, entry: &Entry) -> Entry {
    let mut canonical = Entry::new(entry.dn().clone());
    for (name, values) in entry.attributes() {
        let name = canonical_name(schema, name);
        for value in values {
            canonical.add(name.clone(), value.clone());
        }
    }
    canonical
}

pub(super) fn canonical_name(schema: &Schema, name: &AttributeName) -> AttributeName {
    let Some(attribute) = schema.attribute(name.as_str()) else {
        return name.clone();
    };
    let options = name.as_str().get(name.kind().len()..).unwrap_or_default();
    AttributeName::parse(&format!("{}{options}", attribute.name())).unwrap_or_else(|_| name.clone())
}

/// Is the attribute one that clients may not write?
pub(super) fn is_kept_by_server(schema: &Schema, name: &AttributeName) -> bool {
    let kept = |attribute: &AttributeType| attribute.no_user_modification;
    schema.attribute(name.as_str()).is_some_and(kept)
}

/// Do two lists hold the same values in whatever order?
pub(super) fn same_values(a: &[Value], b: &[Value]) -> bool {
    let sorted = |values: &[Value]| {
        let mut values = values.to_vec();
        values.sort();
        values
    };
    a.len() == b.len() && sorted(a) == sorted(b)
}

/// Do two entries say the same, but for what the server keeps?
pub(super) fn says_the_same(schema: &Schema, a: &Entry, b: &Entry) -> bool {
    let covered = |a: &Entry, b: &Entry| {
        a.attributes()
            .filter(|(name, _)| !is_kept_by_server(schema, name))
            .all(|(name, values)| same_values(values, b.values(name)))
    };
    covered(a, b) && covered(b, a)
}

/// Adds the values of the entry's RDN that it lacks, as RFC 4511 section 4.7 lets clients leave them out.
pub(super) fn add_naming_values(schema: &Schema, entry: &mut Entry) {
    let rdn = entry.dn().rdn().cloned();
    for ava in rdn.iter().flat_map(Rdn::avas) {
        let name = canonical_name(schema, &ava.name);
        if !holds(schema, entry.values(&name), &name, &ava.value) {
            entry.add(name, ava.value.clone());
        }
    }
}

/// Adds the classes above those that the entry names, as RFC 4512 section 3.3 has it: whoever looks for
/// a `person` finds an `inetOrgPerson`.
pub(super) fn add_superclasses(schema: &Schema, entry: &mut Entry) {
    let classes = object_class();
    let held = entry.values(&classes).to_vec();
    let names = |class: &Value, name: &str| {
        let known = class.as_str().and_then(|text| schema.class(text));
        known.is_some_and(|known| known.name() == name)
    };
    for class in schema.class_closure(&held) {
        if !held.iter().any(|one| names(one, class.name())) {
            entry.add(classes.clone(), Value::from(class.name()));
        }
    }
}

/// Is `value` among `values`, as the attribute compares?
pub(super) fn holds(schema: &Schema, values: &[Value], name: &AttributeName, value: &Value) -> bool {
    let wanted = comparable(schema, name, value);
    values.iter().any(|held| comparable(schema, name, held) == wanted)
}

pub(super) fn comparable(schema: &Schema, name: &AttributeName, value: &Value) -> Vec<u8> {
    schema
        .equality(name.as_str())
        .and_then(|rule| rule.key(schema, value.as_bytes()))
        .unwrap_or_else(|| value.as_bytes().to_vec())
}

/// Gives the entry an owner, and the class that an owner needs when no other allows it.
pub(super) fn add_owner(schema: &Schema, entry: &mut Entry, otherwise: impl FnOnce() -> Option<String>) {
    let owner = name("aitherOwnerUid");
    if entry.values(&owner).is_empty() {
        let uid = otherwise().unwrap_or_else(|| NOBODY.to_owned());
        entry.add(owner, Value::from(uid));
    }
    let classes = object_class();
    let closure = schema.class_closure(entry.values(&classes));
    let allowed = |attribute: &str| {
        let mut all = closure.iter().flat_map(|class| class.must.iter().chain(&class.may));
        all.any(|allowed| allowed.eq_ignore_ascii_case(attribute))
    };
    let held = |attribute: &&&'static str| !entry.values(&name(attribute)).is_empty();
    if OF_OWNED.iter().filter(held).any(|attribute| !allowed(attribute)) {
        entry.add(classes, Value::from(OWNED));
    }
}

/// The structural class of an entry that the schema has passed: the one that no other is below.
pub(super) fn structural_class<'a>(schema: &'a Schema, entry: &Entry) -> &'a str {
    schema
        .structural_class(&schema.class_closure(entry.values(&object_class())))
        .map_or("top", ObjectClass::name)
}

/// Checks `entry` and stamps it. `old` is what it replaces; `parent_dn` the reason it can stand there.
pub(super) fn finish(
    schema: &Schema,
    entry: &mut Entry,
    old: Option<&Entry>,
    stamp: &Stamp,
    uuid: impl FnOnce() -> String,
) -> Result<(), TreeError> {
    numbers::check(schema, entry)?;
    let mut set = |attribute: &'static str, value: &str| entry.set(name(attribute), vec![Value::from(value)]);
    set("modifyTimestamp", &stamp.time);
    set("modifiersName", &stamp.actor);
    set("entryCSN", &stamp.csn);
    if let Some(old) = old {
        for kept in ["createTimestamp", "creatorsName", "entryUUID", "hasSubordinates"] {
            entry.set(name(kept), old.values(&name(kept)).to_vec());
        }
    } else {
        set("createTimestamp", &stamp.time);
        set("creatorsName", &stamp.actor);
        set("entryUUID", &uuid());
        set("hasSubordinates", "FALSE");
    }
    let class = structural_class(schema, entry).to_owned();
    entry.set(name("structuralObjectClass"), vec![Value::from(class)]);
    Ok(())
}

/// The name as it is stored: what cannot be read back is refused.
pub(super) fn text(dn: &Dn) -> Result<String, TreeError> {
    let text = dn.to_string();
    match Dn::parse(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(TreeError::Name(dn.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_grow_also_when_the_clock_does_not() {
        let now: Timestamp = "2026-05-31T00:00:00.5Z".parse().unwrap();
        let mut first = Csn::after(None, now);
        let (a, b) = (first.next(), first.next());
        assert_eq!(a, "20260531000000.500000Z#000000#000#000000");
        let c = Csn::after(Some(&b), now).next();
        let d = Csn::after(Some(&c), Timestamp::UNIX_EPOCH).next();
        let e = Csn::after(Some(&d), "2026-05-31T00:00:01Z".parse().unwrap()).next();
        assert!(a < b && b < c && c < d && d < e, "{a} {b} {c} {d} {e}");
    }

    #[test]
    fn uuids_say_that_they_are_random() {
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn the_structural_class_is_the_lowest_one() {
        let schema = Schema::standard();
        let mut entry = Entry::new(Dn::parse("uid=a").unwrap());
        for class in ["top", "person", "inetOrgPerson", "posixAccount", "organizationalPerson"] {
            entry.add(object_class(), Value::from(class));
        }
        assert_eq!(structural_class(&schema, &entry), "inetOrgPerson");
    }

    #[test]
    fn owners_come_with_a_class_only_where_one_is_needed() {
        let schema = Schema::standard();
        for (class, wanted) in [("aitherRole", 1), ("organizationalUnit", 2)] {
            let mut entry = Entry::new(Dn::parse("cn=a").unwrap());
            entry.add(object_class(), Value::from(class));
            add_owner(&schema, &mut entry, || Some("alice".to_owned()));
            assert_eq!(entry.values(&object_class()).len(), wanted, "{class}");
            assert_eq!(entry.values(&name("aitherowneruid")), [Value::from("alice")]);
        }
    }
}
