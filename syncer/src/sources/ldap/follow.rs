//! What changed since the last read. A server only hints: each object that it names is read again on
//! its own, by the same filters as in a whole read, and what then is not found is gone. A hint too many
//! does no harm; one too few is made good by the whole read that comes at times.

use std::collections::{BTreeSet, HashSet};

use dirless_directory::{AttributeName, Filter, Value};

use super::config::{Incremental, Preset};
use super::connection::{Connection, check};
use super::controls::{self, SyncInfo, SyncState};
use super::copy::Copy;
use super::map::id;
use super::record::{Record, guid, guid_bytes};
use super::wire::{Operation, Scope, Search};
use super::{LdapSource, Stamp};
use crate::sources::SourceError;

/// Seconds around the newest change that are read again when time is only known to the second: what
/// changed twice in one of them shows only the first time.
const UNSURE: i64 = 120;
/// Rounds of a DirSync in one read. A server that never comes to an end is none.
const ROUNDS: u32 = 100_000;

/// LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS 3.1.1.3.4.4.3).
pub(super) const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";

/// How changes are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Dirsync,
    Syncrepl,
    Timestamps,
}

impl Way {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Dirsync => "dirsync",
            Self::Syncrepl => "syncrepl",
            Self::Timestamps => "timestamps",
        }
    }

    pub(super) fn of(text: &str) -> Option<Self> {
        [Self::Dirsync, Self::Syncrepl, Self::Timestamps]
            .into_iter()
            .find(|way| way.text() == text)
    }
}

/// What a server hints at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// Objects that are to be looked at.
    pub(super) ids: BTreeSet<String>,
    /// Something above them changed, such as the name of an organisational unit: look at everything.
    pub(super) all: bool,
    /// Where to go on next time.
    pub(super) cookie: Vec<u8>,
}

/// Everything that the rest of a read needs of the root of the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Root {
    controls: Vec<String>,
    /// The name of the domain (Active Directory).
    context: Option<String>,
}

impl LdapSource {
    /// Reads the root entry (RFC 4512 section 5.1).
    pub(super) async fn root(&self, connection: &mut Connection) -> Result<Root, SourceError> {
        let all = Filter::Present(name("objectClass")?);
        let wanted = ["supportedControl".to_owned(), "defaultNamingContext".to_owned()];
        let root = connection.entry("", &all, &wanted).await?;
        Ok(root.map_or_else(Root::default, |root| Root {
            controls: root.texts("supportedControl").map(ToOwned::to_owned).collect(),
            context: root.text("defaultNamingContext").map(ToOwned::to_owned),
        }))
    }

    /// How changes are to be found at this server, with a first cookie; `None` for not at all. To be
    /// asked before a whole read: what changes during it is then seen after it.
    pub(super) async fn way(&self, connection: &mut Connection) -> Result<Option<(Way, Vec<u8>)>, SourceError> {
        let wanted = self.config.incremental;
        if wanted == Incremental::Off {
            return Ok(None);
        }
        let root = self.root(connection).await?;
        let auto = wanted == Incremental::Auto;
        if auto && (looks_elsewhere(&self.users) || looks_elsewhere(&self.groups)) {
            return Ok(Some((Way::Timestamps, Vec::new())));
        }
        let is_ad = self.layout.preset == Preset::Ad;
        let has = |oid: &str| root.controls.iter().any(|control| control == oid);
        let first = if wanted == Incremental::Dirsync || auto && is_ad && has(controls::DIRSYNC) {
            Some((Way::Dirsync, self.dirsync(connection, &root, &[]).await))
        } else if wanted == Incremental::Syncrepl || auto && !is_ad && has(controls::SYNC_REQUEST) {
            Some((Way::Syncrepl, self.syncrepl(connection, None, None).await))
        } else {
            None
        };
        match first {
            None => Ok(Some((Way::Timestamps, Vec::new()))),
            Some((way, Ok(hints))) => Ok(Some((way, hints.cookie))),
            Some((way, Err(SourceError::Unavailable { reason, .. } | SourceError::Refused { reason, .. }))) if auto => {
                tracing::info!(
                    event = "ldap.way_refused",
                    source = self.name,
                    "the bind DN may not use {}, so changes are found by a list of times: {reason}",
                    way.text()
                );
                Ok(Some((Way::Timestamps, Vec::new())))
            }
            Some((_, Err(error))) => Err(error),
        }
    }

    /// What changed since.
    pub(super) async fn hints(
        &self,
        connection: &mut Connection,
        copy: &mut Copy,
        way: Way,
        cookie: &[u8],
    ) -> Result<Hints, SourceError> {
        match way {
            Way::Dirsync => {
                let root = self.root(connection).await?;
                self.dirsync(connection, &root, cookie).await
            }
            Way::Syncrepl => self.syncrepl(connection, Some(cookie), Some(copy)).await,
            Way::Timestamps => self.timestamps(connection, copy).await,
        }
    }

    /// DirSync (MS-ADTS 3.1.1.3.4.1.3) with the rights of "Replicating Directory Changes": only with
    /// them are deletions told for sure.
    async fn dirsync(&self, connection: &mut Connection, root: &Root, cookie: &[u8]) -> Result<Hints, SourceError> {
        let base = root.context.as_deref().unwrap_or(&self.config.base);
        let filter = "(|(objectClass=user)(objectClass=group)(objectClass=organizationalUnit))";
        let filter = Filter::parse(filter).map_err(|error| SourceError::Setup(error.to_string()))?;
        let first = cookie.is_empty();
        // An object is named when one of the attributes that are asked for changed: later all count,
        // for the filters may look at any. The first time nothing is wanted but the cookie.
        let attributes = if first {
            vec!["objectGUID".to_owned()]
        } else {
            Vec::new()
        };
        let what = Search {
            base,
            scope: Scope::Subtree,
            filter: &filter,
            attributes: &attributes,
        };
        let mut hints = Hints {
            cookie: cookie.to_vec(),
            ..Hints::default()
        };
        for _ in 0..ROUNDS {
            let asked = [controls::dirsync(&hints.cookie)];
            let end = connection.search(&what, &asked, |operation, _| {
                if let (Operation::Entry(dn, attributes), false) = (operation, first) {
                    let record = Record::read(dn, attributes)?;
                    let raw = record.values("objectGUID").first().and_then(|raw| guid(raw));
                    let id =
                        raw.ok_or_else(|| SourceError::Inconsistent(format!("a change of {dn:?} has no objectGUID")))?;
                    hints.all |= dn.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("OU="));
                    hints.ids.insert(id);
                }
                Ok(())
            });
            let end = end.await?;
            check("DirSync search", &end.ending)?;
            let (more, cookie) = controls::dirsync_state(&end.controls)
                .ok_or_else(|| SourceError::Inconsistent("the server left out the DirSync control".to_owned()))?;
            hints.cookie = cookie;
            if !more {
                return Ok(hints);
            }
        }
        Err(SourceError::Inconsistent("the DirSync search has no end".to_owned()))
    }

    /// One refresh (RFC 4533 section 3.3). Without `copy` only its cookie counts.
    async fn syncrepl(
        &self,
        connection: &mut Connection,
        cookie: Option<&[u8]>,
        copy: Option<&mut Copy>,
    ) -> Result<Hints, SourceError> {
        let units = Filter::Equality(name("objectClass")?, Value::from("organizationalUnit"));
        let filter = Filter::Or(vec![self.users.clone(), self.groups.clone(), units]);
        // No attribute at all (RFC 4511 section 4.5.1.8): who changed is all that is asked.
        let attributes = ["1.1".to_owned()];
        let what = Search {
            base: &self.config.base,
            scope: Scope::Subtree,
            filter: &filter,
            attributes: &attributes,
        };
        let mut hints = Hints::default();
        let mut present = HashSet::new();
        let keep = copy.is_some();
        let bound = self.bounds.users.saturating_add(self.bounds.groups).saturating_mul(2);
        let end = connection
            .search(&what, &[controls::sync_request(cookie)], |operation, controls| {
                if hints.ids.len() + present.len() > bound {
                    return Err(SourceError::Inconsistent(
                        "the server names more objects than [limits] has".to_owned(),
                    ));
                }
                match operation {
                    Operation::Entry(dn, _) => {
                        let missing = || SourceError::Inconsistent(format!("{dn:?} came without its state"));
                        let (state, id) = controls::sync_state(controls).ok_or_else(missing)?;
                        match state {
                            SyncState::Present if keep => drop(present.insert(id)),
                            SyncState::Changed | SyncState::Deleted if keep => {
                                hints.all |= dn.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ou="));
                                hints.ids.insert(id);
                            }
                            _ => {}
                        }
                    }
                    Operation::Intermediate(controls::SYNC_INFO, value) if keep => {
                        let info = controls::sync_info(value);
                        let info =
                            info.ok_or_else(|| SourceError::Inconsistent("a damaged sync info message".to_owned()))?;
                        match info {
                            SyncInfo::Ids { gone: true, ids } => hints.ids.extend(ids),
                            SyncInfo::Ids { gone: false, ids } => present.extend(ids),
                            SyncInfo::Cookie | SyncInfo::Deletes | SyncInfo::Presents => {}
                        }
                    }
                    _ => {}
                }
                Ok(())
            })
            .await?;
        check("syncrepl search", &end.ending)?;
        let missing =
            || SourceError::Inconsistent("the server left out the sync done control or its cookie".to_owned());
        let (next, deletes) = controls::sync_done(&end.controls).ok_or_else(missing)?;
        hints.cookie = match (next, cookie) {
            (Some(next), _) => next,
            // Nothing changed.
            (None, Some(cookie)) => cookie.to_vec(),
            (None, None) => return Err(missing()),
        };
        if let (Some(copy), false) = (copy, deletes) {
            // What is there was named; what was not is looked at, and gone if it is not found.
            let ids = copy.ids()?.into_iter().map(|(id, _)| id);
            let unnamed: Vec<String> = ids.filter(|id| !present.contains(id)).collect();
            hints.ids.extend(unnamed);
        }
        Ok(hints)
    }

    /// Compares a list of all ids with their times of change. The list is complete, so that what is
    /// not in it is gone.
    async fn timestamps(&self, connection: &mut Connection, copy: &mut Copy) -> Result<Hints, SourceError> {
        let known = copy.ids()?;
        let newest = known.iter().filter_map(|(_, stamp)| Stamp::seconds(stamp)).max();
        let mut hints = Hints::default();
        let mut seen: HashSet<String> = HashSet::with_capacity(known.len());
        let mut attributes = vec![self.layout.id.clone()];
        attributes.extend(self.layout.stamps().iter().map(|name| (*name).to_owned()));
        for (base, filter, most) in self.searches() {
            let what = Search {
                base,
                scope: Scope::Subtree,
                filter,
                attributes: &attributes,
            };
            let list = connection.read(&what, most, |record| {
                let id = id(&self.layout, &record)?;
                let stamp = Stamp::of(&self.layout, &record);
                let unsure = match (Stamp::seconds(&stamp), newest) {
                    (Some(at), Some(newest)) => at + UNSURE >= newest,
                    _ => stamp.is_empty(),
                };
                let same = copy
                    .known(&id)?
                    .is_some_and(|(_, name, before)| name == record.dn && before == stamp);
                if !same || unsure {
                    hints.ids.insert(id.clone());
                }
                seen.insert(id);
                Ok(())
            });
            list.await?;
        }
        hints
            .ids
            .extend(known.into_iter().map(|(id, _)| id).filter(|id| !seen.contains(id)));
        Ok(hints)
    }

    /// The filter of objects with one of these ids.
    pub(super) fn by_ids(&self, ids: &[String]) -> Result<Filter, SourceError> {
        let attribute = name(&self.layout.id)?;
        let binary = self.layout.id.eq_ignore_ascii_case("objectGUID");
        let value = |id: &String| match guid_bytes(id).filter(|_| binary) {
            Some(bytes) => Value::from(bytes.to_vec()),
            None => Value::from(id.as_str()),
        };
        Ok(Filter::Or(
            ids.iter()
                .map(|id| Filter::Equality(attribute.clone(), value(id)))
                .collect(),
        ))
    }
}

/// Does the filter depend on other entries than the one it is asked of? Then an entry can begin or cease
/// to match without being changed, and only a list of all that match tells.
pub(super) fn looks_elsewhere(filter: &Filter) -> bool {
    const COMPUTED: [&str; 6] = [
        "memberof",
        "ismemberof",
        "tokengroups",
        "nsrole",
        "nsroledn",
        "msds-memberoftransitive",
    ];
    let computed = |name: &AttributeName| COMPUTED.contains(&name.kind().to_ascii_lowercase().as_str());
    match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().any(looks_elsewhere),
        Filter::Not(filter) => looks_elsewhere(filter),
        Filter::Equality(name, _)
        | Filter::Substrings(name, _)
        | Filter::GreaterOrEqual(name, _)
        | Filter::LessOrEqual(name, _)
        | Filter::Present(name)
        | Filter::Approximate(name, _) => computed(name),
        Filter::Extensible(extensible) => {
            extensible.rule.as_deref() == Some(IN_CHAIN) || extensible.name.as_ref().is_none_or(computed)
        }
    }
}

pub(super) fn name(text: &str) -> Result<AttributeName, SourceError> {
    AttributeName::parse(text).map_err(|error| SourceError::Setup(format!("{text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_look_at_other_entries_are_known() {
        for (text, elsewhere) in [
            ("(&(objectClass=user)(!(mail=*)))", false),
            ("(userAccountControl:1.2.840.113556.1.4.803:=2)", false),
            ("(&(objectClass=user)(|(memberOf=cn=a)(uid=b)))", true),
            ("(!(isMemberOf=*))", true),
            ("(member:1.2.840.113556.1.4.1941:=cn=a)", true),
            ("(:2.5.13.2:=a)", true),
        ] {
            assert_eq!(looks_elsewhere(&Filter::parse(text).unwrap()), elsewhere, "{text}");
        }
    }

    #[test]
    fn ways_have_names() {
        for way in [Way::Dirsync, Way::Syncrepl, Way::Timestamps] {
            assert_eq!(Way::of(way.text()), Some(way));
        }
        assert_eq!(Way::of(""), None);
    }
}
