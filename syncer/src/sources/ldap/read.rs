//! One read, from the first question to a whole directory.

use std::collections::BTreeMap;

use dirless_directory::filter::Extensible;
use dirless_directory::{AttributeName, Filter, Value};

use super::connection::Connection;
use super::copy::{Copy, Kind, State};
use super::follow::{IN_CHAIN, Way, name};
use super::map::{self, Gather};
use super::record::Record;
use super::server::Server;
use super::wire::{Scope, Search};
use super::{COPY, Incremental, LdapSource, Stamp};
use crate::sources::{Complete, Progress, SourceDirectory, SourceError};

/// Objects that are looked at with one search.
const BATCH: usize = 100;
/// Changes up to which they are looked at one by one, however small the directory.
const FEW: usize = 1000;
/// How often a list that is sent in parts is begun again because the group changed meanwhile.
const TRIES: u32 = 3;

/// What is left of the copy's chains after an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chains {
    AsTheyWere,
    ToBeAsked,
}

impl LdapSource {
    pub(super) async fn read_from(
        &self,
        server: &Server,
        progress: &dyn Progress,
    ) -> Result<SourceDirectory, SourceError> {
        let mut connection = self.connect(server).await?;
        let mut copy = self.copy()?;
        let (state, chains) = match self.update(&mut connection, &mut copy, progress).await? {
            Some(updated) => updated,
            None => (
                self.whole(&mut connection, &mut copy, progress).await?,
                Chains::ToBeAsked,
            ),
        };
        let directory = self.gather(&mut connection, &mut copy, chains, progress).await?;
        connection.close().await;
        // Only now: a read that came to nothing must not be gone on from.
        copy.keep(&state)?;
        Ok(directory)
    }

    fn copy(&self) -> Result<Copy, SourceError> {
        let folder = self
            .folder
            .as_ref()
            .filter(|_| self.config.incremental != Incremental::Off);
        if let Some(folder) = folder {
            dirless_program::fs::ensure_folder(folder, 0o700)
                .map_err(|error| SourceError::Setup(format!("making {}: {error}", folder.display())))?;
        }
        Copy::open(folder.map(|folder| folder.join(COPY)).as_deref())
    }

    /// The settings on which the content of a copy depends.
    fn settings(&self) -> String {
        let config = &self.config;
        format!(
            "1 {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            config.url,
            config.bind_dn,
            config.base,
            config.user_base,
            config.group_base,
            config.members_page,
            self.layout
        )
    }

    /// Brings the copy up to date; `None` when everything has to be read.
    async fn update(
        &self,
        connection: &mut Connection,
        copy: &mut Copy,
        progress: &dyn Progress,
    ) -> Result<Option<(State, Chains)>, SourceError> {
        let Some(state) = copy.state()? else {
            return Ok(None);
        };
        let age = self.clock.now().as_second().saturating_sub(state.whole_at);
        let fresh = u64::try_from(age).is_ok_and(|age| age < self.config.full_seconds);
        let way = Way::of(&state.way).filter(|way| match self.config.incremental {
            Incremental::Auto => true,
            Incremental::Off => false,
            Incremental::Dirsync => *way == Way::Dirsync,
            Incremental::Syncrepl => *way == Way::Syncrepl,
            Incremental::Timestamps => *way == Way::Timestamps,
        });
        let (Some(way), true, true) = (way, fresh, state.settings == self.settings()) else {
            return Ok(None);
        };
        let hints = match self.hints(connection, copy, way, &state.cookie).await {
            Ok(hints) => hints,
            Err(error) => {
                // Such as a cookie that is too old. If the server is gone, the whole read says so.
                tracing::info!(
                    event = "ldap.reading_all",
                    source = self.name,
                    "everything is read again: {error}"
                );
                return Ok(None);
            }
        };
        if hints.all || hints.ids.len() > FEW.max(copy.ids()?.len() / 4) {
            return Ok(None);
        }
        let ids: Vec<String> = hints.ids.into_iter().collect();
        // With a list of times nothing tells of groups outside the base, through which others are in
        // groups inside it.
        let mut chains = if way == Way::Timestamps {
            Chains::ToBeAsked
        } else {
            Chains::AsTheyWere
        };
        for batch in ids.chunks(BATCH) {
            if self.look_at(connection, copy, batch).await? == Chains::ToBeAsked {
                chains = Chains::ToBeAsked;
            }
        }
        let all = copy.ids()?.len();
        tracing::info!(
            event = "ldap.changes",
            source = self.name,
            changed = ids.len(),
            all,
            way = way.text()
        );
        progress.users(all);
        let state = State {
            cookie: hints.cookie,
            ..state
        };
        Ok(Some((state, chains)))
    }

    /// Reads the objects of these ids again, as a whole read would; what is not found is gone.
    async fn look_at(
        &self,
        connection: &mut Connection,
        copy: &mut Copy,
        ids: &[String],
    ) -> Result<Chains, SourceError> {
        let by_ids = self.by_ids(ids)?;
        let mut found: BTreeMap<String, (Kind, Record)> = BTreeMap::new();
        for ((base, filter, _), kind) in self.searches().into_iter().zip([Kind::User, Kind::Group]) {
            let filter = Filter::And(vec![filter.clone(), by_ids.clone()]);
            let attributes = self.attributes(kind);
            let what = Search {
                base,
                scope: Scope::Subtree,
                filter: &filter,
                attributes: &attributes,
            };
            let read = connection.read(&what, ids.len(), |record| {
                found.insert(map::id(&self.layout, &record)?, (kind, record));
                Ok(())
            });
            read.await?;
        }
        let mut chains = Chains::AsTheyWere;
        for id in ids {
            let known = copy.known(id)?;
            let found = match found.remove(id) {
                Some((Kind::Group, mut record)) => {
                    self.complete(connection, &mut record).await?;
                    Some((Kind::Group, record))
                }
                found => found,
            };
            // A person whose place is the same is in the same groups, unless these changed too.
            let same_place = match (&known, &found) {
                (Some((Kind::User, name, _)), Some((Kind::User, record))) => *name == record.dn,
                (Some((Kind::User, ..)), None) => true,
                _ => false,
            };
            if !same_place {
                chains = Chains::ToBeAsked;
            }
            match found {
                Some((kind, record)) => copy.put(kind, id, &Stamp::of(&self.layout, &record), &record, false)?,
                None => copy.remove(id)?,
            }
        }
        Ok(chains)
    }

    fn attributes(&self, kind: Kind) -> Vec<String> {
        match kind {
            Kind::User => self.layout.user_attributes(),
            Kind::Group => self.layout.group_attributes(self.config.members_page),
        }
    }

    /// Reads everything into the copy.
    async fn whole(
        &self,
        connection: &mut Connection,
        copy: &mut Copy,
        progress: &dyn Progress,
    ) -> Result<State, SourceError> {
        copy.clear()?;
        let whole_at = self.clock.now().as_second();
        let way = self.way(connection).await?;
        for ((base, filter, most), kind) in self.searches().into_iter().zip([Kind::User, Kind::Group]) {
            let attributes = self.attributes(kind);
            let what = Search {
                base,
                scope: Scope::Subtree,
                filter,
                attributes: &attributes,
            };
            let (mut count, mut cut) = (0, Vec::new());
            let read = connection.read(&what, most, |record| {
                count += 1;
                if count % 100 == 0 {
                    tell(progress, kind, count);
                }
                if record.is_cut(&self.layout.member) {
                    cut.push(record);
                    return Ok(());
                }
                self.store(copy, kind, &record)
            });
            let all = read.await?.into_inner();
            tell(progress, kind, all);
            for mut record in cut {
                self.complete(connection, &mut record).await?;
                self.store(copy, kind, &record)?;
            }
        }
        let (way, cookie) = way.map_or((String::new(), Vec::new()), |(way, cookie)| {
            (way.text().to_owned(), cookie)
        });
        Ok(State {
            settings: self.settings(),
            way,
            cookie,
            whole_at,
        })
    }

    fn store(&self, copy: &mut Copy, kind: Kind, record: &Record) -> Result<(), SourceError> {
        let id = map::id(&self.layout, record)?;
        copy.put(kind, &id, &Stamp::of(&self.layout, record), record, true)
    }

    /// Fetches the rest of a member list that the server sent in part. When the group changes
    /// meanwhile the list is begun again: who moved between its parts could be missing in both.
    async fn complete(&self, connection: &mut Connection, record: &mut Record) -> Result<(), SourceError> {
        let member = &self.layout.member;
        if !record.is_cut(member) {
            return Ok(());
        }
        let mut stamp = Stamp::of(&self.layout, record);
        let mut next = record.take_range(member);
        let mut tries = TRIES;
        while let Some(from) = next {
            let last = self
                .config
                .members_page
                .map(|count| from.saturating_add(count - 1).to_string());
            let mut attributes = vec![format!("{member};range={from}-{}", last.as_deref().unwrap_or("*"))];
            attributes.extend(self.layout.stamps().iter().map(|name| (*name).to_owned()));
            let part = connection.entry(&record.dn, &self.groups, &attributes).await?;
            let part = part.filter(|part| part.is_cut(member)).filter(|_| tries > 0);
            let mut part = part.ok_or_else(|| {
                SourceError::Inconsistent(format!("the group {:?} changed while its members were read", record.dn))
            })?;
            let now = Stamp::of(&self.layout, &part);
            if now != stamp && from > 0 {
                (stamp, tries, next) = (now, tries - 1, Some(0));
                record.remove(member);
                continue;
            }
            stamp = now;
            next = part.take_range(member);
            record.append(member, &part);
            if next.is_some_and(|next| next <= from) || record.values(member).len() > self.bounds.members {
                return Err(SourceError::Inconsistent(format!(
                    "the member list of {:?} has no end",
                    record.dn
                )));
            }
        }
        Ok(())
    }

    /// Users and groups out of the copy.
    async fn gather(
        &self,
        connection: &mut Connection,
        copy: &mut Copy,
        chains: Chains,
        progress: &dyn Progress,
    ) -> Result<SourceDirectory, SourceError> {
        let now = self.clock.now().as_second();
        let mut gather = Gather::new(&self.layout, &self.config.roles, &self.bounds, now);
        copy.each(Kind::User, |record| gather.user(record))?;
        copy.each(Kind::Group, |record| gather.group(record))?;
        let nested = gather.nested();
        if !nested.is_empty() {
            let found = match chains {
                Chains::AsTheyWere => copy.chains()?,
                Chains::ToBeAsked => {
                    let found = self.ask_chains(connection, &nested, progress).await?;
                    copy.set_chains(&found)?;
                    found
                }
            };
            gather.chained(&found)?;
        }
        let mapping = gather.finish()?;
        let (groups, lists): (Vec<_>, Vec<_>) = mapping
            .groups
            .into_iter()
            .map(|(group, list)| {
                let id = group.id.clone();
                (group, (id, Complete::proven(list)))
            })
            .unzip();
        SourceDirectory::assemble(Complete::proven(mapping.users), Complete::proven(groups), lists)
    }

    /// Who is in each of these groups at any depth, as the server resolves it.
    async fn ask_chains(
        &self,
        connection: &mut Connection,
        groups: &[(String, String)],
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, Vec<String>>, SourceError> {
        let [(base, users, most), _] = self.searches();
        let attributes = [self.layout.id.clone()];
        let member_of = name("memberOf")?;
        let mut chains = BTreeMap::new();
        let mut left = self.bounds.members;
        for (done, (id, dn)) in groups.iter().enumerate() {
            let filter = Filter::And(vec![users.clone(), in_chain(&member_of, dn)]);
            let what = Search {
                base,
                scope: Scope::Subtree,
                filter: &filter,
                attributes: &attributes,
            };
            let mut ids = Vec::new();
            let read = connection.read(&what, most.min(left), |record| {
                ids.push(map::id(&self.layout, &record)?);
                Ok(())
            });
            left -= read.await?.into_inner();
            chains.insert(id.clone(), ids);
            progress.memberships(done + 1, groups.len());
        }
        Ok(chains)
    }
}

fn in_chain(member_of: &AttributeName, group: &str) -> Filter {
    Filter::Extensible(Extensible {
        rule: Some(IN_CHAIN.to_owned()),
        name: Some(member_of.clone()),
        value: Value::from(group),
        dn_attributes: false,
    })
}

fn tell(progress: &dyn Progress, kind: Kind, count: usize) {
    match kind {
        Kind::User => progress.users(count),
        Kind::Group => progress.groups(count),
    }
}
