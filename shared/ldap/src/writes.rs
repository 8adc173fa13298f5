//! Changes (RFC 4511 sections 4.6 to 4.9) and extended operations (section 4.12).

use std::sync::Arc;

use dirless_directory::encoded::{Attributes, SEQUENCE, encode};
use dirless_directory::{AttributeName, Dn, Entry, Filter, Schema, Value};
use ldap3_proto::proto::{LdapExtendedRequest, LdapModify, LdapModifyType, LdapOp, LdapPartialAttribute};
use zeroize::Zeroizing;

use crate::answers::Answers;
use crate::ber::{DecodeError, INTEGER, Reader, text};
use crate::controls::{Controls, For, POST_READ, PRE_READ};
use crate::reply::{self, Outcome, ReplyControl};
use crate::root::{CANCEL, MODIFY_PASSWORD, START_TLS, WHO_AM_I};
use crate::select::{Selection, reduce};
use crate::session::{Action, Session};
use crate::{
    Change, Directory, Failure, Identity, Modification, PasswordRequest, Refusal, ResultCode, Stored, Visibility,
    WriteRequest,
};

/// A change to be made where blocking is allowed.
pub(crate) struct Write {
    id: u32,
    tag: u8,
    who: Identity,
    change: Change,
    assertion: Option<Filter>,
    pre_read: Option<Vec<String>>,
    post_read: Option<Vec<String>>,
}

/// The tag that answers an operation, and what its controls are for.
pub(crate) fn answer_tag(operation: &LdapOp) -> (u8, For) {
    match operation {
        LdapOp::AddRequest(_) => (reply::ADD, For::Write),
        LdapOp::ModifyRequest(_) => (reply::MODIFY, For::Write),
        LdapOp::DelRequest(_) => (reply::DELETE, For::Write),
        LdapOp::ModifyDNRequest(_) => (reply::MODIFY_DN, For::Write),
        _ => (reply::EXTENDED, For::Extended),
    }
}

impl Session {
    /// Takes a change or an extended operation.
    pub(crate) fn other(
        &mut self,
        id: u32,
        operation: LdapOp,
        controls: Controls,
        out: &mut Answers,
    ) -> Result<Action, Failure> {
        if let LdapOp::ExtendedRequest(request) = &operation {
            return Ok(self.extended(id, request, out));
        }
        let (tag, _) = answer_tag(&operation);
        let refused = if self.directory.writer().is_none() {
            Outcome::new(
                ResultCode::UnwillingToPerform,
                "this is a copy: changes are made at the directory's syncer",
            )
        } else {
            match change(operation) {
                Ok(change) => {
                    return Ok(Action::Write(Box::new(Write {
                        id,
                        tag,
                        who: self.who.clone(),
                        change,
                        assertion: controls.assertion,
                        pre_read: controls.pre_read,
                        post_read: controls.post_read,
                    })));
                }
                Err(outcome) => outcome,
            }
        };
        reply::result(out, id, tag, &refused, &[]);
        Ok(Action::None)
    }

    fn extended(&mut self, id: u32, request: &LdapExtendedRequest, out: &mut Answers) -> Action {
        match request.name.as_str() {
            WHO_AM_I => {
                let dn = self.who.dn();
                let identity = if dn.is_empty() { dn } else { format!("dn:{dn}") };
                reply::extended(out, id, &Outcome::success(), None, Some(identity.as_bytes()));
                Action::None
            }
            START_TLS => {
                let outcome = if self.link.tls || !self.running.is_empty() || !self.consumers.is_empty() {
                    Outcome::new(ResultCode::OperationsError, "TLS is started before anything else")
                } else if self.link.start_tls {
                    reply::extended(out, id, &Outcome::success(), Some(START_TLS), None);
                    return Action::StartTls;
                } else {
                    Outcome::new(ResultCode::ProtocolError, "TLS is not configured here")
                };
                reply::extended(out, id, &outcome, Some(START_TLS), None);
                Action::None
            }
            CANCEL => {
                let cancelled = request.value.as_deref().map(|value| {
                    Reader::new(value)
                        .sequence("cancel")
                        .and_then(|mut reader| reader.number(INTEGER, "id to cancel"))
                });
                let outcome = match cancelled {
                    Some(Ok(cancelled)) if self.remove(cancelled) => {
                        let outcome = ResultCode::Canceled.into();
                        reply::result(out, cancelled, reply::SEARCH_DONE, &outcome, &[]);
                        Outcome::success()
                    }
                    Some(Ok(_)) => Outcome::new(ResultCode::NoSuchOperation, "nothing of that id is under way"),
                    _ => Outcome::new(ResultCode::ProtocolError, "cancel what?"),
                };
                reply::extended(out, id, &outcome, None, None);
                Action::None
            }
            MODIFY_PASSWORD if self.directory.writer().is_some_and(|writer| writer.sets_passwords()) => {
                let set = SetPassword::read(id, request.value.as_deref().unwrap_or_default());
                match set {
                    Ok(set) if self.link.private || self.config.plain_passwords => {
                        let set = SetPassword {
                            who: self.who.clone(),
                            ..set
                        };
                        return Action::SetPassword(Box::new(set));
                    }
                    Ok(_) => {
                        let outcome = Outcome::new(
                            ResultCode::ConfidentialityRequired,
                            "passwords are taken over TLS only: start TLS first",
                        );
                        reply::extended(out, id, &outcome, None, None);
                    }
                    Err(error) => {
                        let outcome = Outcome::new(ResultCode::ProtocolError, error.to_string());
                        reply::extended(out, id, &outcome, None, None);
                    }
                }
                Action::None
            }
            _ => {
                let outcome = Outcome::new(ResultCode::ProtocolError, "this extended operation is not supported");
                reply::extended(out, id, &outcome, None, None);
                Action::None
            }
        }
    }
}

fn name(text: &str) -> Result<Dn, Outcome> {
    Dn::parse(text).map_err(|error| Outcome::new(ResultCode::InvalidDnSyntax, error.to_string()))
}

fn attribute(attribute: LdapPartialAttribute) -> Result<(AttributeName, Vec<Value>), Outcome> {
    let name = AttributeName::parse(&attribute.atype)
        .map_err(|error| Outcome::new(ResultCode::UndefinedAttributeType, error.to_string()))?;
    Ok((name, attribute.vals.into_iter().map(Value::from).collect()))
}

fn change(operation: LdapOp) -> Result<Change, Outcome> {
    match operation {
        LdapOp::AddRequest(request) => {
            let mut entry = Entry::new(name(&request.dn)?);
            for one in request.attributes {
                let (name, values) = attribute(one)?;
                for value in values {
                    entry.add(name.clone(), value);
                }
            }
            Ok(Change::Add(entry))
        }
        LdapOp::ModifyRequest(request) => {
            let changes = request
                .changes
                .into_iter()
                .map(modification)
                .collect::<Result<_, _>>()?;
            Ok(Change::Modify(name(&request.dn)?, changes))
        }
        LdapOp::DelRequest(dn) => name(&dn).map(Change::Delete),
        LdapOp::ModifyDNRequest(request) => {
            let new = name(&request.newrdn)?;
            let ([rdn], superior) = (new.rdns(), request.new_superior.as_deref()) else {
                return Err(Outcome::new(
                    ResultCode::InvalidDnSyntax,
                    "the new name has one component",
                ));
            };
            Ok(Change::Rename {
                dn: name(&request.dn)?,
                rdn: rdn.clone(),
                delete_old: request.deleteoldrdn,
                superior: superior.map(name).transpose()?,
            })
        }
        _ => Err(ResultCode::ProtocolError.into()),
    }
}

fn modification(modify: LdapModify) -> Result<Modification, Outcome> {
    let (name, values) = attribute(modify.modification)?;
    Ok(match modify.operation {
        LdapModifyType::Add if values.is_empty() => {
            return Err(Outcome::new(ResultCode::ProtocolError, "an add without values"));
        }
        LdapModifyType::Add => Modification::Add(name, values),
        LdapModifyType::Delete => Modification::Delete(name, values),
        LdapModifyType::Replace => Modification::Replace(name, values),
        LdapModifyType::Increment => match <[Value; 1]>::try_from(values) {
            Ok([value]) => Modification::Increment(name, value),
            Err(_) => return Err(Outcome::new(ResultCode::ProtocolError, "an increment is one number")),
        },
    })
}

/// A password to be set where blocking is allowed (RFC 3062).
pub(crate) struct SetPassword {
    id: u32,
    who: Identity,
    user: Option<String>,
    old: Option<Zeroizing<Vec<u8>>>,
    new: Option<Zeroizing<Vec<u8>>>,
}

impl SetPassword {
    /// Reads `PasswdModifyRequestValue`; an absent value is that of an empty sequence.
    fn read(id: u32, value: &[u8]) -> Result<Self, DecodeError> {
        let mut set = Self {
            id,
            who: Identity::Anonymous,
            user: None,
            old: None,
            new: None,
        };
        if value.is_empty() {
            return Ok(set);
        }
        let mut reader = Reader::new(value).sequence("password change")?;
        let secret = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        if let Some(user) = reader.optional(0x80, "user")? {
            set.user = Some(text(user, "user")?.to_owned());
        }
        set.old = reader.optional(0x81, "old password")?.map(secret);
        set.new = reader.optional(0x82, "new password")?.map(secret);
        reader.end("password change")?;
        Ok(set)
    }

    /// Sets the password and returns the answer. Blocks.
    pub(crate) fn make(self, directory: &Arc<dyn Directory>) -> Vec<u8> {
        let refused = || Refusal {
            code: ResultCode::UnwillingToPerform,
            matched: None,
            message: String::new(),
        };
        let made = directory.writer().ok_or_else(refused).and_then(|writer| {
            writer.set_password(PasswordRequest {
                who: &self.who,
                user: self.user.as_deref(),
                old: self.old.as_ref().map(|old| old.as_slice()),
                new: self.new.as_ref().map(|new| new.as_slice()),
            })
        });
        let mut out = Vec::new();
        match made {
            Ok(None) => reply::extended(&mut out, self.id, &Outcome::success(), None, None),
            Ok(Some(made)) => {
                let mut inner = Vec::new();
                reply::put(&mut inner, 0x80, made.as_bytes());
                let mut value = Vec::new();
                reply::put(&mut value, SEQUENCE, &inner);
                reply::extended(&mut out, self.id, &Outcome::success(), None, Some(&value));
            }
            Err(refusal) => reply::extended(&mut out, self.id, &refused_as(refusal), None, None),
        }
        out
    }
}

/// Reads what a password change asks for, and no more: what is fuzzed.
pub(crate) fn check_extended(operation: &LdapOp) {
    if let LdapOp::ExtendedRequest(request) = operation {
        let _ = SetPassword::read(0, request.value.as_deref().unwrap_or_default());
    }
}

fn refused_as(refusal: Refusal) -> Outcome {
    Outcome {
        code: refusal.code,
        matched: refusal.matched.map(|dn| dn.to_string()).unwrap_or_default(),
        message: refusal.message,
    }
}

impl Write {
    /// Does it hash or verify passwords?
    pub(crate) fn is_slow(&self, directory: &dyn Directory) -> bool {
        directory.writer().is_some_and(|writer| writer.is_slow(&self.change))
    }

    /// Makes the change and returns the answer. Blocks.
    pub(crate) fn make(self, directory: &Arc<dyn Directory>) -> Vec<u8> {
        let Self {
            id,
            tag,
            who,
            change,
            assertion,
            pre_read,
            post_read,
        } = self;
        let written = match directory.writer() {
            None => Err(Refusal {
                code: ResultCode::UnwillingToPerform,
                matched: None,
                message: String::new(),
            }),
            Some(writer) => writer.write(WriteRequest {
                who: &who,
                change,
                assertion: assertion.as_ref(),
            }),
        };
        let mut out = Vec::new();
        match written {
            Ok(written) => {
                let read = |oid, wanted: Option<Vec<String>>, entry: Option<&Entry>| {
                    read_entry(directory.as_ref(), &who, oid, &wanted?, entry?)
                };
                let controls: Vec<ReplyControl> = read(PRE_READ, pre_read, written.before.as_ref())
                    .into_iter()
                    .chain(read(POST_READ, post_read, written.after.as_ref()))
                    .collect();
                reply::result(&mut out, id, tag, &Outcome::success(), &controls);
            }
            Err(refusal) => {
                reply::result(&mut out, id, tag, &refused_as(refusal), &[]);
            }
        }
        out
    }
}

/// The entry before or after a change, as much of it as the client may see.
fn read_entry(
    directory: &dyn Directory,
    who: &Identity,
    oid: &'static str,
    wanted: &[String],
    entry: &Entry,
) -> Option<ReplyControl> {
    let schema: Schema = directory.schema();
    let key = schema.dn_key(entry.dn())?;
    let visibility = directory.visibility(who, key.as_bytes());
    if visibility == Visibility::Hidden {
        return None;
    }
    let encoded = encode(&schema, entry);
    let attributes = Attributes::new(&encoded).ok()?;
    let mut reduced = Vec::new();
    let is_reduced = reduce(&schema, &visibility, attributes, &mut reduced);
    let dn = entry.dn().to_string();
    let stored = Stored {
        key: key.as_bytes(),
        dn: &dn,
        attributes: if is_reduced {
            Attributes::new(&reduced).ok()?
        } else {
            attributes
        },
    };
    let mut list = Vec::new();
    Selection::new(&schema, wanted.iter().map(String::as_str), false).put(&schema, &stored, None, &mut list);
    Some(ReplyControl {
        oid,
        value: reply::read_entry_value(&dn, &list),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request with those parts, as `ldappasswd` writes it.
    fn request(user: Option<&str>, old: Option<&[u8]>, new: Option<&[u8]>) -> Vec<u8> {
        let mut inner = Vec::new();
        for (tag, part) in [(0x80, user.map(str::as_bytes)), (0x81, old), (0x82, new)] {
            if let Some(part) = part {
                reply::put(&mut inner, tag, part);
            }
        }
        let mut value = Vec::new();
        reply::put(&mut value, SEQUENCE, &inner);
        value
    }

    #[test]
    fn an_absent_request_is_an_empty_one_and_what_follows_is_an_error() {
        for empty in [Vec::new(), request(None, None, None)] {
            let set = SetPassword::read(7, &empty).unwrap();
            assert!(set.user.is_none() && set.old.is_none() && set.new.is_none() && set.id == 7);
        }
        let mut more = request(None, None, Some(b"x"));
        more.truncate(more.len() - 1);
        assert!(SetPassword::read(7, &more).is_err());
        let inner = [0x82, 1, b'x', 0x80, 1, b'u'];
        let mut turned = Vec::new();
        reply::put(&mut turned, SEQUENCE, &inner);
        assert!(SetPassword::read(7, &turned).is_err(), "in the wrong order");
        assert!(SetPassword::read(7, &request(None, None, None)[..1]).is_err());
    }

    proptest! {
        #[test]
        fn what_was_asked_for_is_read(
            user in proptest::option::of("[a-z=,]{0,20}"),
            old in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
            new in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        ) {
            let value = request(user.as_deref(), old.as_deref(), new.as_deref());
            let set = SetPassword::read(1, &value).unwrap();
            prop_assert_eq!(set.user, user);
            prop_assert_eq!(set.old.map(|old| old.to_vec()), old);
            prop_assert_eq!(set.new.map(|new| new.to_vec()), new);
        }

        #[test]
        fn any_bytes_are_an_answer_and_not_a_crash(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = SetPassword::read(1, &bytes);
        }
    }
}
