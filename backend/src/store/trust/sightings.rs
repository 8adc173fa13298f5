//! What nodes say that they applied, side by side. Two contents under one version are a split view: somebody shows
//! different things to different hosts.
//!
//! A receipt is the node's own word, signed by its key, of which [`said`](super::said) reads a few lines ([`super::haste`] compares
//! them with those before). Whether the receipt itself is signed is for those to check who hold the tenant's keys (`dirless verify`).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dirless_wire::TenantId;
use dirless_wire::trust::{Digest, Version};
use jiff::Timestamp;
use serde_json::json;

use super::super::audit::{self, Actor};
use super::super::bypass::AllTenants;
use super::super::sql::{Connection, params};
use super::super::types::{digest_column, millis, signed, timestamp, unsigned};
use super::super::{Origin, Role, StoreError};
use super::KeyCredential;
use super::said::Said;

/// How many of the latest contents of one publisher or policy are known without asking the disk.
const KNOWN: usize = 4;

/// How long it is kept what nodes agreed on: a host that was away for longer says what is current when it is back.
const AGREED_FOR: Duration = Duration::from_secs(2 * 24 * 3600);

/// How long a split view is shown, unless somebody has it forgotten.
const SPLIT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Most nodes that are named for one content.
const NAMED: usize = 16;

/// What a node of a tenant said.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    tenant: i64,
    key: Arc<KeyCredential>,
    said: Said,
}

/// The latest contents of a policy or head, the last first.
type Latest = VecDeque<(Version, Digest)>;

/// What is on disk of the latest versions, so that a fleet that agrees costs one row for each.
#[derive(Debug, Default)]
pub(super) struct Known {
    latest: HashMap<(i64, Box<str>), Latest>,
    /// After how many loads of the directory it was learned.
    loads: u64,
}

impl Known {
    /// What of the receipt is not known yet, each once for each key.
    pub(super) fn news(&self, tenant: i64, key: &Arc<KeyCredential>, receipt: &[u8]) -> Vec<Sighting> {
        let is_known = |said: &Said| {
            let latest = self.latest.get(&(tenant, said.about.clone()));
            latest.is_some_and(|latest| latest.contains(&(said.version, said.digest)))
        };
        let said = Said::all_of(receipt);
        let news = said.into_iter().filter(|said| !is_known(said));
        let sighting = |said| Sighting {
            tenant,
            key: Arc::clone(key),
            said,
        };
        news.map(sighting).collect()
    }

    /// Forgets what was learned after another number of loads: the database may be an earlier one.
    pub(super) fn follow(&mut self, loads: u64) {
        if std::mem::replace(&mut self.loads, loads) != loads {
            self.latest.clear();
        }
    }

    /// Remembers what was written, if all that is known is as of so many loads.
    pub(super) fn learn(&mut self, written: &Written, loads: u64) {
        if self.loads != loads {
            return;
        }
        for Sighting { tenant, said, .. } in &written.kept {
            let latest = self.latest.entry((*tenant, said.about.clone())).or_default();
            if !latest.contains(&(said.version, said.digest)) {
                latest.truncate(KNOWN - 1);
                latest.push_front((said.version, said.digest));
            }
        }
    }
}

/// What became of sightings.
#[derive(Debug, Default)]
pub(super) struct Written {
    kept: Vec<Sighting>,
    splits: Vec<NewSplit>,
}

/// A version under which nodes saw different contents, for the first time.
#[derive(Clone, Debug)]
struct NewSplit {
    tenant: i64,
    about: Box<str>,
    version: Version,
    /// Each content with the node that said so first.
    views: Vec<(Digest, String)>,
}

/// Writes what is new, and notes in the audit log what contradicts something.
pub(super) fn write(
    connection: &Connection,
    news: &[Sighting],
    names: &HashMap<i64, TenantId>,
    now: Timestamp,
) -> Result<Written, StoreError> {
    let mut written = Written::default();
    let mut done = BTreeSet::new();
    for sighting in news {
        let Sighting { tenant, key, said } = sighting;
        let (about, version) = (&said.about, signed(said.version.get()));
        let content = (*tenant, about.clone(), version, *said.digest.as_bytes());
        // A fleet says the same a thousand times over.
        if done.contains(&content) || !is_there(connection, *tenant, key)? {
            continue;
        }
        done.insert(content);
        if !may_be(connection, *tenant, about)? {
            continue;
        }
        let added = connection
            .prepare(
                "INSERT INTO sightings (tenant_id, about, version, sha256, key_id, seen_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (tenant_id, about, version, sha256) DO NOTHING",
            )?
            .execute(params![
                tenant,
                about,
                version,
                said.digest.as_bytes(),
                key.row,
                millis(now)
            ])?;
        written.kept.push(sighting.clone());
        if added == 0 {
            continue;
        }
        let views = views(connection, *tenant, about, version)?;
        if views.len() < 2 {
            continue;
        }
        connection
            .prepare("UPDATE sightings SET split = 1 WHERE tenant_id = ?1 AND about = ?2 AND version = ?3")?
            .execute(params![tenant, about, version])?;
        let split = NewSplit {
            tenant: *tenant,
            about: about.clone(),
            version: said.version,
            views,
        };
        record(connection, &split, names, now)?;
        written.splits.push(split);
    }
    Ok(written)
}

/// Is the key there still, in its row? A database that lost its last rows gives their numbers to others.
fn is_there(connection: &Connection, tenant: i64, key: &KeyCredential) -> Result<bool, StoreError> {
    let keys: i64 = connection
        .prepare("SELECT count(*) FROM keys WHERE id = ?1 AND tenant_id = ?2 AND key = ?3")?
        .query_row(params![key.row, tenant, key.id().to_string()], |row| row.get(0))?;
    Ok(keys > 0)
}

/// Is there such a publisher? What nodes make up is not kept.
fn may_be(connection: &Connection, tenant: i64, about: &str) -> Result<bool, StoreError> {
    let Some(publisher) = about.strip_prefix("head/") else {
        return Ok(true);
    };
    let keys: i64 = connection
        .prepare("SELECT count(*) FROM keys WHERE tenant_id = ?1 AND role = 'publisher' AND key LIKE ?2")?
        .query_row(params![tenant, format!("{publisher}+%")], |row| row.get(0))?;
    Ok(keys > 0)
}

fn views(connection: &Connection, tenant: i64, about: &str, version: i64) -> Result<Vec<(Digest, String)>, StoreError> {
    connection
        .prepare(
            "SELECT s.sha256, k.key FROM sightings s JOIN keys k ON k.id = s.key_id \
             WHERE s.tenant_id = ?1 AND s.about = ?2 AND s.version = ?3 ORDER BY s.sha256",
        )?
        .query_all(params![tenant, about, version], |row| {
            Ok((
                Digest::from_bytes(digest_column(&row.get::<Vec<u8>>(0)?)?),
                name(row.get(1)?),
            ))
        })
}

/// The name of a key, without its hash.
fn name(key: String) -> String {
    match key.split_once('+') {
        Some((name, _hash)) => name.to_owned(),
        None => key,
    }
}

fn record(
    connection: &Connection,
    split: &NewSplit,
    names: &HashMap<i64, TenantId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let views: Vec<_> = split
        .views
        .iter()
        .map(|(digest, node)| json!({ "digest": digest.to_string(), "node": node }))
        .collect();
    let actor = Actor {
        realm: None,
        role: Role::Node,
        token: None,
        key: None,
        origin: Origin::console(),
    };
    let details = json!({ "about": &*split.about, "version": split.version.get(), "views": views });
    audit::record(
        connection,
        now,
        &actor,
        names.get(&split.tenant),
        "split_view.found",
        &details,
    )
}

impl Written {
    /// Raises the alarm.
    pub(super) fn tell(&self, names: &HashMap<i64, TenantId>) {
        for split in &self.splits {
            let views = split.views.iter().map(|(digest, node)| format!("{digest} by {node}"));
            let views = views.collect::<Vec<_>>().join(", ");
            let tenant = names.get(&split.tenant).map(TenantId::as_str).unwrap_or_default();
            tracing::error!(
                name: "backend.split_view",
                tenant,
                about = &*split.about,
                version = split.version.get(),
                "hosts are shown different contents under one version: {} {} is {views}; check with: dirless verify",
                split.about,
                split.version
            );
        }
    }
}

/// Different contents under one version of a policy, or of a publisher's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitView {
    /// The tenant.
    pub tenant: TenantId,
    /// `policy` or `head/PUBLISHER`.
    pub about: String,
    /// The latest version that is split.
    pub version: u64,
    /// How many versions are.
    pub versions: u64,
    /// When the first of them was noticed.
    pub since: Timestamp,
    /// The contents of the latest, by digest.
    pub views: Vec<SplitContent>,
}

/// One of several contents under one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitContent {
    /// Its digest.
    pub digest: Digest,
    /// The node that said first that it applied it, and others whose last receipt says so; at most sixteen.
    pub nodes: BTreeSet<String>,
}

struct Row {
    tenant: i64,
    about: String,
    version: i64,
    digest: Digest,
    node: String,
    seen_at: i64,
}

fn rows(connection: &Connection) -> Result<Vec<Row>, StoreError> {
    connection
        .prepare(
            "SELECT s.tenant_id, s.about, s.version, s.sha256, k.key, s.seen_at FROM sightings s \
             JOIN keys k ON k.id = s.key_id WHERE s.split = 1 ORDER BY s.tenant_id, s.about, s.version DESC, s.sha256",
        )?
        .query_all(params![], |row| {
            Ok(Row {
                tenant: row.get(0)?,
                about: row.get(1)?,
                version: row.get(2)?,
                digest: Digest::from_bytes(digest_column(&row.get::<Vec<u8>>(3)?)?),
                node: name(row.get(4)?),
                seen_at: row.get(5)?,
            })
        })
}

/// Adds the nodes whose last receipt says what is shown.
fn name_more(connection: &Connection, tenant: i64, splits: &mut [SplitView]) -> Result<(), StoreError> {
    let mut select = connection.prepare(
        "SELECT k.key, r.receipt FROM keys k JOIN receipts r ON r.key_id = k.id \
         WHERE k.tenant_id = ?1 AND k.revoked_at IS NULL ORDER BY k.key",
    )?;
    let mut rows = select.query(params![tenant])?;
    while let Some(row) = rows.next()? {
        let node = name(row.get(0)?);
        for said in Said::all_of(&row.get::<Vec<u8>>(1)?) {
            let found = splits
                .iter_mut()
                .filter(|split| *split.about == *said.about && split.version == said.version.get())
                .flat_map(|split| &mut split.views)
                .find(|view| view.digest == said.digest && view.nodes.len() < NAMED);
            if let Some(view) = found {
                view.nodes.insert(node.clone());
            }
        }
    }
    Ok(())
}

fn read(connection: &Connection, names: &HashMap<i64, TenantId>) -> Result<Vec<SplitView>, StoreError> {
    let mut found: BTreeMap<i64, Vec<SplitView>> = BTreeMap::new();
    for row in rows(connection)? {
        let Some(tenant) = names.get(&row.tenant) else { continue };
        let (version, since) = (unsigned(row.version)?, timestamp(row.seen_at)?);
        let splits = found.entry(row.tenant).or_default();
        let content = SplitContent {
            digest: row.digest,
            nodes: BTreeSet::from([row.node]),
        };
        match splits.last_mut() {
            Some(split) if split.about == row.about => {
                split.since = split.since.min(since);
                if split.version == version {
                    split.views.push(content);
                }
            }
            _ => splits.push(SplitView {
                tenant: tenant.clone(),
                about: row.about,
                version,
                versions: 0,
                since,
                views: vec![content],
            }),
        }
    }
    let mut count = connection
        .prepare("SELECT count(DISTINCT version) FROM sightings WHERE tenant_id = ?1 AND about = ?2 AND split = 1")?;
    for (tenant, splits) in &mut found {
        for split in splits.iter_mut() {
            split.versions = unsigned(count.query_row(params![tenant, split.about], |row| row.get(0))?)?;
        }
        name_more(connection, *tenant, splits)?;
    }
    Ok(found.into_values().flatten().collect())
}

/// Forgets what is old; called by the sweeping of bodies.
pub(crate) fn sweep(connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
    let before = |age: Duration| millis(now) - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    connection
        .prepare("DELETE FROM sightings WHERE seen_at <= ?1 AND (split = 0 OR seen_at <= ?2)")?
        .send(params![before(AGREED_FOR), before(SPLIT_FOR)])
}

impl AllTenants {
    /// Split views of all tenants that were noticed within thirty days and are not forgotten, by tenant and what they are about.
    ///
    /// # Errors
    /// When reading fails, or writing the receipts that wait.
    pub async fn split_views(&self) -> Result<Vec<SplitView>, StoreError> {
        self.store().flush_receipts().await?;
        let names = Self::names(self.store());
        let found = self.store().read(move |connection| read(connection, &names)).await?;
        self.store().receipts().note_splits(found.len());
        Ok(found)
    }

    /// Takes the tenant's split views as seen to; gives how many versions of how much they were.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn forget_split_views(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let names = Self::names(self.store());
        let Some(row) = names.iter().find(|(_, name)| *name == tenant).map(|(row, _)| *row) else {
            return Ok(0);
        };
        let (tenant, now) = (tenant.clone(), self.store().now());
        self.store()
            .write(move |connection, _effects| {
                let versions: i64 = connection
                    .prepare(
                        "SELECT count(*) FROM (SELECT DISTINCT about, version FROM sightings \
                         WHERE tenant_id = ?1 AND split = 1) AS versions",
                    )?
                    .query_row(params![row], |row| row.get(0))?;
                connection
                    .prepare("UPDATE sightings SET split = 0 WHERE tenant_id = ?1 AND split = 1")?
                    .execute(params![row])?;
                let details = json!({ "versions": versions });
                audit::record(
                    connection,
                    now,
                    &Actor::console(None),
                    Some(&tenant),
                    "split_view.forget",
                    &details,
                )?;
                unsigned(versions)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_no_news_and_memory_is_bounded() {
        let (mut known, [two, three]) = (Known::default(), [2, 3].map(KeyCredential::example));
        let receipt = |version: u64| format!("dirless/receipt/v1\npolicy {version} {}\n", "0a".repeat(32)).into_bytes();
        for version in 1..100 {
            let news = known.news(1, &two, &receipt(version));
            assert_eq!(news.len(), 1);
            let written = Written {
                kept: news,
                splits: Vec::new(),
            };
            known.learn(&written, 0);
            assert_eq!(known.news(1, &three, &receipt(version)).len(), 0);
            assert_eq!(known.news(2, &three, &receipt(version)).len(), 1, "another tenant's");
        }
        assert_eq!(known.latest.values().map(VecDeque::len).collect::<Vec<_>>(), [KNOWN]);
        assert_eq!(known.news(1, &two, &receipt(1)).len(), 1);
        // What was written before the database was another one is not known of that.
        let (news, last) = (known.news(1, &two, &receipt(100)), receipt(99));
        known.follow(1);
        assert_eq!(known.news(1, &two, &last).len(), 1);
        let written = Written {
            kept: news,
            splits: Vec::new(),
        };
        known.learn(&written, 0);
        assert_eq!(known.news(1, &two, &receipt(100)).len(), 1);
    }
}
