//! Records as they stand in the JSON, before anybody believed them.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{
    Gecos, Gid, Group, HostPath, HostPathError, IdError, Name, NameError, NameKind, NameRule, ObjectId, Uid, User,
};

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

/// A user record as it stands in the JSON; texts without escapes are borrowed from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawUser<'a> {
    /// Set when the record is no object; the other fields are absent then.
    pub not_an_object: Option<&'static str>,
    /// `username`
    pub username: Field<Cow<'a, str>>,
    /// `uid`
    pub uid: Field<i64>,
    /// `gid`
    pub gid: Field<i64>,
    /// `gecos`
    pub gecos: Field<Cow<'a, str>>,
    /// `home`
    pub home: Field<Cow<'a, str>>,
    /// `shell`
    pub shell: Field<Cow<'a, str>>,
    /// `id`, ours
    pub id: Field<Cow<'a, str>>,
}

impl RawUser<'_> {
    /// The name to show in reports: as the source has it, or what is wrong with it.
    #[must_use]
    pub fn label(&self) -> &str {
        self.username.value().map_or("(no name)", |name| name)
    }

    /// The user that this record describes under `rule`, its texts borrowed from the record.
    ///
    /// # Errors
    /// When a field is missing, of the wrong type or cannot stand on a host.
    pub fn checked<'a>(&'a self, rule: &'a NameRule) -> Result<CheckedUser<'a>, RecordError> {
        if let Some(was) = self.not_an_object {
            return Err(RecordError::NotAnObject { was });
        }
        let name = rule.apply_text(NameKind::User, self.username.required("username")?)?;
        let uid = number(&self.uid, "uid")?;
        let gid = number(&self.gid, "gid")?;
        Ok(CheckedUser {
            gecos: match &self.gecos {
                Field::Value(text) => Gecos::sanitise_text(text),
                // A display name never keeps a person out.
                Field::Absent | Field::Wrong(_) => name.clone(),
            },
            uid: Uid::parse(uid).map_err(|reason| RecordError::Id { field: "uid", reason })?,
            gid: Gid::parse(gid).map_err(|reason| RecordError::Id { field: "gid", reason })?,
            home: path(&self.home, "home")?,
            shell: path(&self.shell, "shell")?,
            id: object_id(&self.id),
            name,
        })
    }

    /// [`RawUser::checked`] with texts of its own.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, rule: &NameRule) -> Result<User, RecordError> {
        self.checked(rule).map(|user| user.to_user())
    }
}

/// A user whose fields are checked, its texts borrowed: each is what the type beside it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedUser<'a> {
    /// Login name: a [`Name`].
    pub name: Cow<'a, str>,
    /// User id.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
    /// Comment: a [`Gecos`].
    pub gecos: Cow<'a, str>,
    /// Home directory: a [`HostPath`].
    pub home: &'a str,
    /// Login shell: a [`HostPath`].
    pub shell: &'a str,
    /// What the source calls the user for good: an [`ObjectId`].
    pub id: Option<&'a str>,
}

impl CheckedUser<'_> {
    /// The same with texts of its own.
    #[must_use]
    pub fn to_user(&self) -> User {
        User {
            name: Name::checked(&self.name),
            uid: self.uid,
            gid: self.gid,
            gecos: Gecos::checked(&self.gecos),
            home: HostPath::checked(self.home),
            shell: HostPath::checked(self.shell),
            id: self.id.map(ObjectId::checked),
        }
    }
}

/// A group record as it stands in the JSON; texts without escapes are borrowed from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawGroup<'a> {
    /// Set when the record is no object; the other fields are absent then.
    pub not_an_object: Option<&'static str>,
    /// `name`
    pub name: Field<Cow<'a, str>>,
    /// `gid`
    pub gid: Field<i64>,
    /// `members`; elements that are no strings are left out.
    pub members: Field<Vec<Cow<'a, str>>>,
    /// `id`, ours
    pub id: Field<Cow<'a, str>>,
}

impl RawGroup<'_> {
    /// The name to show in reports.
    #[must_use]
    pub fn label(&self) -> &str {
        self.name.value().map_or("(no name)", |name| name)
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
        let raw_members: &[Cow<'_, str>] = match &self.members {
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
                Err(_) => left_out.push(raw.as_ref()),
            }
        }
        Ok((
            Group {
                name,
                gid,
                members,
                id: object_id(&self.id).map(ObjectId::checked),
            },
            left_out,
        ))
    }
}

fn number(field: &Field<i64>, name: &'static str) -> Result<u32, RecordError> {
    let number = *field.required(name)?;
    u32::try_from(number).map_err(|_| RecordError::OutOfRange { field: name, number })
}

fn path<'a>(field: &'a Field<Cow<'_, str>>, name: &'static str) -> Result<&'a str, RecordError> {
    let text = field.required(name)?;
    HostPath::check(text).map_err(|reason| RecordError::Path { field: name, reason })?;
    Ok(text)
}

/// An id that cannot be used is as good as none: hosts do not decide anything by it.
fn object_id<'a>(field: &'a Field<Cow<'_, str>>) -> Option<&'a str> {
    field
        .value()
        .map(AsRef::as_ref)
        .filter(|text| ObjectId::check(text).is_ok())
}

impl<'de> Record<'de> for RawUser<'de> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
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

impl<'de> Record<'de> for RawGroup<'de> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
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

impl<'de> Deserialize<'de> for RawUser<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RecordVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for RawGroup<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RecordVisitor(PhantomData))
    }
}

/// A record that is filled field by field.
pub(super) trait Record<'de>: Default {
    /// Takes the value of `key`.
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
    /// Stands for a JSON value that is no object.
    fn no_object(was: &'static str) -> Self;
}

pub(super) fn next<'de, T: Take<'de>, A: MapAccess<'de>>(map: &mut A) -> Result<Field<T>, A::Error> {
    map.next_value().map(|Any(field)| field)
}

/// Visits a record: an object is taken apart, anything else is named.
pub(super) struct RecordVisitor<T>(pub(super) PhantomData<T>);

impl<'de, T: Record<'de>> Visitor<'de> for RecordVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut record = T::default();
        while let Some(Text(key)) = map.next_key()? {
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

/// A string, borrowed where it holds no escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(text.to_owned().into()))
    }
}

fn drain<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Any JSON value as a [`Field`] of `T`.
pub(super) struct Any<T>(pub(super) Field<T>);

/// What a type makes of each kind of JSON value; what it does not take is wrong.
pub(super) trait Take<'de>: Sized {
    fn text(_: Cow<'de, str>) -> Field<Self> {
        Field::Wrong("a string")
    }

    fn number(_: i64) -> Field<Self> {
        Field::Wrong("a number")
    }

    fn array<A: SeqAccess<'de>>(seq: A) -> Result<Field<Self>, A::Error> {
        drain(seq)?;
        Ok(Field::Wrong("an array"))
    }

    fn object<A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Wrong("an object"))
    }
}

impl<'de> Take<'de> for Cow<'de, str> {
    fn text(text: Self) -> Field<Self> {
        Field::Value(text)
    }
}

impl<'de> Take<'de> for String {
    fn text(text: Cow<'de, str>) -> Field<Self> {
        Field::Value(text.into_owned())
    }
}

impl Take<'_> for i64 {
    fn number(number: i64) -> Field<Self> {
        Field::Value(number)
    }
}

impl<'de> Take<'de> for Vec<Cow<'de, str>> {
    fn array<A: SeqAccess<'de>>(mut seq: A) -> Result<Field<Self>, A::Error> {
        let mut texts = Self::new();
        while let Some(Any(element)) = seq.next_element()? {
            if let Field::Value(text) = element {
                texts.push(text);
            }
        }
        Ok(Field::Value(texts))
    }
}

impl<'de, T: Take<'de>> Deserialize<'de> for Any<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor(PhantomData)).map(Self)
    }
}

struct AnyVisitor<T>(PhantomData<T>);

impl<'de, T: Take<'de>> Visitor<'de> for AnyVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(T::text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(T::text(text.to_owned().into()))
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
pub(super) struct AnyText<'a>(pub(super) Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for AnyText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Any::deserialize(deserializer).map(|Any(field)| match field {
            Field::Value(text) => Self(Some(text)),
            Field::Absent | Field::Wrong(_) => Self(None),
        })
    }
}
