//! Changes by LDAP clients: rights first, then conditions, then the write, all but the hashing of passwords
//! in one transaction.

use std::sync::Arc;

use dirless_directory::filter::Truth;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Filter, Rdn, Schema, Value};
use dirless_ldap::{
    Change, Identity, Modification, PasswordRequest, Refusal, ResultCode, Visibility, WriteRequest, Writer, Written,
};
use zeroize::Zeroizing;

use super::TreeDirectory;
use super::access::{Subject, Use, seen};
use super::passwords::{self, name_of};
use super::refusal::{self, Stopped, refusal};
use crate::tree::{self, Actor, Batch, Expect, Reader, TreeError};

impl Writer for TreeDirectory {
    fn write(&self, request: WriteRequest<'_>) -> Result<Written, Refusal> {
        let (actor, subject) = self.author(request.who)?;
        let write = OneWrite {
            directory: self,
            subject: Arc::clone(&subject),
            assertion: request.assertion,
        };
        let written = if passwords::are_in(&request.change) {
            // Hashing takes a while: it comes before the write that others wait for, and after the question
            // whether it may be.
            let allowed = self.read(|reader| write.allowed(reader, &request.change).map(drop));
            allowed
                .and_then(|()| passwords::hashed(&self.tree, request.change))
                .and_then(|change| self.tree.write(&actor, |batch| write.make(batch, &change)))
        } else {
            self.tree.write(&actor, |batch| write.make(batch, &request.change))
        };
        written.map_err(|stopped| self.told(&subject, stopped))
    }

    fn is_slow(&self, change: &Change) -> bool {
        passwords::are_in(change)
    }

    fn set_password(&self, request: PasswordRequest<'_>) -> Result<Option<Zeroizing<String>>, Refusal> {
        let (actor, subject) = self.author(request.who)?;
        let write = OneWrite {
            directory: self,
            subject: Arc::clone(&subject),
            assertion: None,
        };
        let set = write.set_password(&actor, &request);
        set.map_err(|stopped| self.told(&subject, stopped))
    }

    fn sets_passwords(&self) -> bool {
        true
    }
}

impl TreeDirectory {
    pub(super) fn read<T>(&self, work: impl FnOnce(Reader<'_>) -> Result<T, Stopped>) -> Result<T, Stopped> {
        self.tree.read(work)
    }

    /// Who writes: nobody does without a bind, nor as an entry that is gone or closed since.
    fn author(&self, who: &Identity) -> Result<(Actor, Arc<Subject>), Refusal> {
        let subject = self.access.subject(&self.tree, who);
        if *who == Identity::Anonymous || subject.is_nobody() {
            return Err(refusal(ResultCode::StrongerAuthRequired, "bind before you write"));
        }
        let actor = Dn::parse(&who.dn()).map_err(|error| refusal(ResultCode::Other, error.to_string()))?;
        Ok((Actor::new(actor), subject))
    }

    fn told(&self, subject: &Subject, stopped: Stopped) -> Refusal {
        match stopped {
            Stopped::Refused(refusal) => refusal,
            Stopped::Tree(error) => refusal::of(&error, |dn| {
                let key = self.schema.dn_key(dn);
                key.is_some_and(|key| self.access.visibility(subject, key.as_bytes(), Use::Read) != Visibility::Hidden)
            }),
        }
    }
}

/// One change by one client.
pub(super) struct OneWrite<'a> {
    pub(super) directory: &'a TreeDirectory,
    subject: Arc<Subject>,
    assertion: Option<&'a Filter>,
}

impl OneWrite<'_> {
    fn schema(&self) -> &Schema {
        &self.directory.schema
    }

    fn key(&self, dn: &Dn) -> Result<DnKey, TreeError> {
        self.schema().dn_key(dn).ok_or_else(|| TreeError::Name(dn.clone()))
    }

    /// Do the rules allow the change? Answers the entry as it is, when there is one.
    fn allowed(&self, reader: Reader<'_>, change: &Change) -> Result<Option<Entry>, Stopped> {
        match change {
            Change::Add(entry) => {
                self.may_write_entry(entry.dn())?;
                let names = entry.attributes().map(|(name, _)| name);
                names
                    .chain(naming(entry.dn().rdn()))
                    .try_for_each(|name| self.may_write(entry.dn(), name))?;
                Ok(None)
            }
            Change::Modify(dn, modifications) => {
                let before = self.known(reader, dn)?;
                let mut names = modifications.iter().map(name_of);
                names.try_for_each(|name| self.may_write(before.dn(), name))?;
                Ok(Some(before))
            }
            Change::Delete(dn) => {
                let before = self.known(reader, dn)?;
                self.may_write_entry(before.dn())?;
                Ok(Some(before))
            }
            Change::Rename { dn, rdn, superior, .. } => {
                let before = self.known(reader, dn)?;
                let to = renamed(dn, rdn, superior.as_ref());
                self.may_write_entry(before.dn())?;
                self.may_write_entry(&to)?;
                // Its names become and cease to be values.
                naming(before.dn().rdn()).try_for_each(|name| self.may_write(before.dn(), name))?;
                naming(Some(rdn)).try_for_each(|name| self.may_write(&to, name))?;
                Ok(Some(before))
            }
        }
    }

    fn make(&self, batch: &mut Batch<'_>, change: &Change) -> Result<Written, Stopped> {
        let before = self.allowed(batch.reader(), change)?;
        if let Some(entry) = &before {
            self.asserted(entry)?;
        }
        let after = match change {
            Change::Add(entry) => {
                self.asserted(entry)?;
                batch.add(entry)?;
                Self::after(batch, entry.dn())?
            }
            Change::Modify(dn, modifications) => {
                if let Some(entry) = &before {
                    self.keeps_name(entry, modifications)?;
                }
                let steps = modifications.iter().map(step).collect::<Result<Vec<_>, _>>()?;
                batch.modify(dn, &steps, Expect::Anything)?;
                Self::after(batch, dn)?
            }
            Change::Delete(dn) => {
                batch.delete(dn, Expect::Anything)?;
                None
            }
            Change::Rename {
                dn,
                rdn,
                delete_old,
                superior,
            } => {
                batch.rename(dn, rdn.clone(), *delete_old, superior.as_ref(), Expect::Anything)?;
                Self::after(batch, &renamed(dn, rdn, superior.as_ref()))?
            }
        };
        Ok(Written { before, after })
    }

    /// The entry that a change is about. One that the client may not know of is not there.
    pub(super) fn known(&self, reader: Reader<'_>, dn: &Dn) -> Result<Entry, Stopped> {
        let record = reader.require(dn)?;
        let (access, key) = (&self.directory.access, record.key().as_bytes());
        let is_hidden = access.visibility(&self.subject, key, Use::Read) == Visibility::Hidden;
        if is_hidden && !access.may_write_something(&self.subject, key) {
            return Err(Stopped::Tree(TreeError::Absent {
                dn: dn.clone(),
                matched: record.dn().parent().unwrap_or(Dn::ROOT),
            }));
        }
        Ok(record.entry()?)
    }

    fn may_write_entry(&self, dn: &Dn) -> Result<(), Stopped> {
        let key = self.key(dn)?;
        if self.directory.access.may_write_entry(&self.subject, key.as_bytes()) {
            return Ok(());
        }
        let text = format!("no access rule lets you write the entry {:?}", dn.to_string());
        Err(refusal(ResultCode::InsufficientAccessRights, text).into())
    }

    pub(super) fn may_write(&self, dn: &Dn, name: &AttributeName) -> Result<(), Stopped> {
        let key = self.key(dn)?;
        let (access, schema) = (&self.directory.access, self.schema());
        if access.may_write(schema, &self.subject, key.as_bytes(), name) {
            return Ok(());
        }
        let text = format!("no access rule lets you write {name} of {:?}", dn.to_string());
        Err(refusal(ResultCode::InsufficientAccessRights, text).into())
    }

    /// The condition of RFC 4528, on what the client may see.
    fn asserted(&self, entry: &Entry) -> Result<(), Stopped> {
        let Some(filter) = self.assertion else { return Ok(()) };
        let key = self.key(entry.dn())?;
        let access = &self.directory.access;
        let visibility = access.visibility(&self.subject, key.as_bytes(), Use::Search);
        let seen = seen(self.schema(), entry, &visibility);
        if seen.is_some_and(|seen| filter.evaluate(self.schema(), &seen) == Truth::True) {
            return Ok(());
        }
        Err(refusal(ResultCode::AssertionFailed, "the assertion does not hold").into())
    }

    fn after(batch: &Batch<'_>, dn: &Dn) -> Result<Option<Entry>, TreeError> {
        batch.reader().get(dn)?.map(|record| record.entry()).transpose()
    }

    /// The values that name an entry stay (RFC 4511 section 4.6): that takes a rename.
    fn keeps_name(&self, entry: &Entry, modifications: &[Modification]) -> Result<(), Stopped> {
        let canonical = |name: &AttributeName| self.schema().oid_of(name.kind());
        for ava in entry.dn().rdn().into_iter().flat_map(Rdn::avas) {
            let rule = self.schema().equality(ava.name.as_str());
            let form = |value: &Value| rule.and_then(|rule| rule.key(self.schema(), value.as_bytes()));
            let own = form(&ava.value);
            let names = |values: &[Value]| values.iter().any(|value| form(value) == own);
            let mut is_there = true;
            let own_steps = modifications.iter();
            for one in own_steps.filter(|one| canonical(name_of(one)) == canonical(&ava.name)) {
                match one {
                    Modification::Delete(_, values) if values.is_empty() || names(values) => is_there = false,
                    Modification::Replace(_, values) => is_there = names(values),
                    Modification::Add(_, values) if names(values) => is_there = true,
                    _ => {}
                }
            }
            if !is_there {
                let text = format!("the value of {} names the entry: rename it instead", ava.name);
                return Err(refusal(ResultCode::NotAllowedOnRdn, text).into());
            }
        }
        Ok(())
    }
}

/// The attributes that a name consists of.
fn naming(rdn: Option<&Rdn>) -> impl Iterator<Item = &AttributeName> {
    rdn.into_iter().flat_map(Rdn::avas).map(|ava| &ava.name)
}

fn renamed(dn: &Dn, rdn: &Rdn, superior: Option<&Dn>) -> Dn {
    let above = superior.cloned().or_else(|| dn.parent()).unwrap_or(Dn::ROOT);
    above.child(rdn.clone())
}

fn step(modification: &Modification) -> Result<tree::Modification, Stopped> {
    Ok(match modification {
        Modification::Add(name, values) => tree::Modification::Add(name.clone(), values.clone()),
        Modification::Delete(name, values) => tree::Modification::Delete(name.clone(), values.clone()),
        Modification::Replace(name, values) => tree::Modification::Replace(name.clone(), values.clone()),
        Modification::Increment(name, by) => {
            let by = by.as_str().and_then(|text| text.trim().parse().ok());
            let by = by.ok_or_else(|| refusal(ResultCode::InvalidAttributeSyntax, "the increment is no integer"))?;
            tree::Modification::Increment(name.clone(), by)
        }
    })
}
