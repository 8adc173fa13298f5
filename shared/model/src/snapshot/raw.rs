//! Records as they stand in the JSON, before anybody believed them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{Gecos, Gid, Group, HostPath, HostPathError, IdError, NameError, NameKind, NameRule, ObjectId, Uid, User};

/// One field of a record: absent, of the wrong type, or a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// The record does not have it.
    #[default]
    Absent,
    /// It is there but is this instead.
    Wrong(&'static str),
    /// It is there.
    Value(T),
}

impl<T> Field<T> {
    /// The value, when there is one of the right type.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Wrong(_) => None,
        }
    }

    pub(super) fn required(&self, field: &'static str) -> Result<&T, RecordError> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Absent => Err(RecordError::Missing { field }),
            Self::Wrong(was) => Err(RecordError::Wrong { field, was }),
        }
    }

    /// Takes the field of a record under construction; a second one makes it wrong.
    pub(super) fn set(&mut self, field: Self) {
        *self = if matches!(self, Self::Absent) {
            field
        } else {
            Self::Wrong("given twice")
        };
    }
}

/// Why a record cannot be used. The rest of the snapshot can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The record is no JSON object.
    #[error("is {was} instead of an object")]
    NotAnObject {
        /// What it is.
        was: &'static str,
    },
    /// A field that it needs is absent.
    #[error("has no {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field has the wrong type.
    #[error("has a {field} that is {was}")]
    Wrong {
        /// The field.
        field: &'static str,
        /// What it is instead.
        was: &'static str,
    },
    /// The name does not follow the grammar, also after the name rule.
    #[error("has a name that {0}")]
    Name(#[from] NameError),
    /// The number is outside 32 bits or below zero.
    #[error("has a {field} of {number}, which is no id")]
    OutOfRange {
        /// `uid` or `gid`.
        field: &'static str,
        /// The number.
        number: i64,
    },
    /// The number can name nobody.
    #[error("has a {field} that is refused: {reason}")]
    Id {
        /// `uid` or `gid`.
        field: &'static str,
        /// Why.
        reason: IdError,
    },
    /// Home or shell is no path that can stand in passwd(5).
    #[error("has a {field} that {reason}")]
    Path {
        /// `home` or `shell`.
        field: &'static str,
        /// Why.
        reason: HostPathError,
    },
}

/// A user record as it stands in the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawUser {
    /// Set when the record is no object; the other fields are absent then.
    pub not_an_object: Option<&'static str>,
    /// `username`
    pub username: Field<String>,
    /// `uid`
    pub uid: Field<i64>,
    /// `gid`
    pub gid: Field<i64>,
    /// `gecos`
    pub gecos: Field<String>,
    /// `home`
    pub home: Field<String>,
    /// `shell`
    pub shell: Field<String>,
    /// `id`, ours
    pub id: Field<String>,
}

impl RawUser {
    /// The name to show in reports: as the source has it, or what is wrong with it.
    #[must_use]
    pub fn label(&self) -> &str {
        self.username.value().map_or("(no name)", String::as_str)
    }

    /// The user that this record describes under `rule`.
    ///
    /// # Errors
    /// When a field is missing, of the wrong type or cannot stand on a host.
    pub fn check(&self, rule: &NameRule) -> Result<User, RecordError> {
        if let Some(was) = self.not_an_object {
            return Err(RecordError::NotAnObject { was });
        }
        let name = rule.apply(NameKind::User, self.username.required("username")?)?;
        let uid = number(&self.uid, "uid")?;
        let gid = number(&self.gid, "gid")?;
        Ok(User {
            gecos: match &self.gecos {
                Field::Value(text) => Gecos::sanitise(text),
                // A display name never keeps a person out.
                Field::Absent | Field::Wrong(_) => Gecos::sanitise(name.as_str()),
            },
            uid: Uid::parse(uid).map_err(|reason| RecordError::Id { field: "uid", reason })?,
            gid: Gid::parse(gid).map_err(|reason| RecordError::Id { field: "gid", reason })?,
            home: path(&self.home, "home")?,
            shell: path(&self.shell, "shell")?,
            id: object_id(&self.id),
            name,
        })
    }
}

/// A group record as it stands in the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawGroup {
    /// Set when the record is no object; the other fields are absent then.
    pub not_an_object: Option<&'static str>,
    /// `name`
    pub name: Field<String>,
    /// `gid`
    pub gid: Field<i64>,
    /// `members`; elements that are no strings are left out.
    pub members: Field<Vec<String>>,
    /// `id`, ours
    pub id: Field<String>,
}

impl RawGroup {
    /// The name to show in reports.
    #[must_use]
    pub fn label(&self) -> &str {
        self.name.value().map_or("(no name)", String::as_str)
    }

    /// The group that this record describes under `rule`. Members whose names are no names are left
    /// out and returned beside it.
    ///
    /// # Errors
    /// When a field is missing, of the wrong type or cannot stand on a host.
    pub fn check(&self, rule: &NameRule) -> Result<(Group, Vec<&str>), RecordError> {
        if let Some(was) = self.not_an_object {
            return Err(RecordError::NotAnObject { was });
        }
        let name = rule.apply(NameKind::Group, self.name.required("name")?)?;
        let gid = number(&self.gid, "gid")?;
        let gid = Gid::parse(gid).map_err(|reason| RecordError::Id { field: "gid", reason })?;
        let raw_members: &[String] = match &self.members {
            Field::Value(members) => members,
            Field::Absent => &[],
            Field::Wrong(was) => return Err(RecordError::Wrong { field: "members", was }),
        };
        let mut members = Vec::with_capacity(raw_members.len());
        let mut seen = std::collections::HashSet::with_capacity(raw_members.len());
        let mut left_out = Vec::new();
        for raw in raw_members {
            match rule.apply(NameKind::User, raw) {
                Ok(member) if seen.insert(member.clone()) => members.push(member),
                Ok(_) => {}
                Err(_) => left_out.push(raw.as_str()),
            }
        }
        Ok((
            Group {
                name,
                gid,
                members,
                id: object_id(&self.id),
            },
            left_out,
        ))
    }
}

fn number(field: &Field<i64>, name: &'static str) -> Result<u32, RecordError> {
    let number = *field.required(name)?;
    u32::try_from(number).map_err(|_| RecordError::OutOfRange { field: name, number })
}

fn path(field: &Field<String>, name: &'static str) -> Result<HostPath, RecordError> {
    HostPath::parse(field.required(name)?).map_err(|reason| RecordError::Path { field: name, reason })
}

/// An id that cannot be used is as good as none: hosts do not decide anything by it.
fn object_id(field: &Field<String>) -> Option<ObjectId> {
    field.value().and_then(|text| ObjectId::parse(text).ok())
}

impl Record for RawUser {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "username" => self.username.set(next(map)?),
            "uid" => self.uid.set(next(map)?),
            "gid" => self.gid.set(next(map)?),
            "gecos" => self.gecos.set(next(map)?),
            "home" => self.home.set(next(map)?),
            "shell" => self.shell.set(next(map)?),
            "id" => self.id.set(next(map)?),
            _ => _ = map.next_value::<IgnoredAny>()?,
        }
        Ok(())
    }

    fn no_object(was: &'static str) -> Self {
        Self {
            not_an_object: Some(was),
            ..Self::default()
        }
    }
}

impl Record for RawGroup {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => self.name.set(next(map)?),
            "gid" => self.gid.set(next(map)?),
            "members" => self.members.set(next(map)?),
            "id" => self.id.set(next(map)?),
            _ => _ = map.next_value::<IgnoredAny>()?,
        }
        Ok(())
    }

    fn no_object(was: &'static str) -> Self {
        Self {
            not_an_object: Some(was),
            ..Self::default()
        }
    }
}

impl<'de> Deserialize<'de> for RawUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RecordVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for RawGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RecordVisitor(PhantomData))
    }
}

/// A record that is filled field by field.
pub(super) trait Record: Default {
    /// Takes the value of `key`.
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
    /// Stands for a JSON value that is no object.
    fn no_object(was: &'static str) -> Self;
}

pub(super) fn next<'de, T: Take, A: MapAccess<'de>>(map: &mut A) -> Result<Field<T>, A::Error> {
    map.next_value().map(|Any(field)| field)
}

/// Visits a record: an object is taken apart, anything else is named.
pub(super) struct RecordVisitor<T>(pub(super) PhantomData<T>);

impl<'de, T: Record> Visitor<'de> for RecordVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut record = T::default();
        let mut key = String::new();
        while map.next_key_seed(KeyInto(&mut key))?.is_some() {
            record.field(&key, &mut map)?;
        }
        Ok(record)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        drain(seq)?;
        Ok(T::no_object("an array"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::no_object("true or false"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::no_object("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(T::no_object("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::no_object("a number"))
    }

    fn visit_str<E>(self, _: &str) -> Result<T, E> {
        Ok(T::no_object("a string"))
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::no_object("null"))
    }
}

/// Puts a key into a string that is there already.
struct KeyInto<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for KeyInto<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyInto<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(key);
        Ok(())
    }
}

fn drain<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Any JSON value as a [`Field`] of `T`.
pub(super) struct Any<T>(pub(super) Field<T>);

/// What a type makes of each kind of JSON value; what it does not take is wrong.
pub(super) trait Take: Sized {
    fn text(_: &str) -> Field<Self> {
        Field::Wrong("a string")
    }

    fn number(_: i64) -> Field<Self> {
        Field::Wrong("a number")
    }

    fn array<'de, A: SeqAccess<'de>>(seq: A) -> Result<Field<Self>, A::Error> {
        drain(seq)?;
        Ok(Field::Wrong("an array"))
    }

    fn object<'de, A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Wrong("an object"))
    }
}

impl Take for String {
    fn text(text: &str) -> Field<Self> {
        Field::Value(text.to_owned())
    }
}

impl Take for i64 {
    fn number(number: i64) -> Field<Self> {
        Field::Value(number)
    }
}

impl Take for Vec<String> {
    fn array<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Field<Self>, A::Error> {
        let mut texts = Self::new();
        while let Some(Any(element)) = seq.next_element::<Any<String>>()? {
            if let Field::Value(text) = element {
                texts.push(text);
            }
        }
        Ok(Field::Value(texts))
    }
}

impl<'de, T: Take> Deserialize<'de> for Any<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor(PhantomData)).map(Self)
    }
}

struct AnyVisitor<T>(PhantomData<T>);

impl<'de, T: Take> Visitor<'de> for AnyVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(T::text(text))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(T::number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or(Field::Wrong("a number beyond 64 bits"), T::number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Field::Wrong("a fraction"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Field::Wrong("true or false"))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Wrong("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        T::array(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::object(map)
    }
}

/// Any JSON value, of which only a string counts.
pub(super) struct AnyText(pub(super) Option<String>);

impl<'de> Deserialize<'de> for AnyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Any(field) = Any::<String>::deserialize(deserializer)?;
        Ok(Self(match field {
            Field::Value(text) => Some(text),
            Field::Absent | Field::Wrong(_) => None,
        }))
    }
}
