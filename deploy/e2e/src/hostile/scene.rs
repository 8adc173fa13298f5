//! The tenant that is lied about, made once, and one scene for each lie: a host of its own and a server of its own.

use std::path::Path;

use anyhow::{Context, ensure};
use dirless_seal::trust::log::LogFile;
use dirless_seal::trust::{Head, Manifest};
use dirless_seal::{Recipient, SigningKey, unlock};
use dirless_testkit::Program;

use super::forge::{self, Forgery, Log};
use super::{Host, Liar};
use crate::machine;
use crate::tenant::{FOLDER, PASSPHRASE, SYNCER_KEYS, Tenant, join_code, operator, people, sign_policy, syncer};

/// Where the code is that lets hosts in.
pub const CODE: &str = "/srv/code";
/// The tenant as it was before the last changes.
const PAST: &str = "/srv/past";
/// The tenant as it is told of, without a log beside its people.
const NOW: &str = "/srv/now";

/// Keys that a backend should not have.
#[derive(Debug)]
pub struct Keys {
    /// The publisher's: stolen.
    pub publisher: SigningKey,
    /// Of another publisher of the tenant, with another source and a narrow scope; the last policy revokes it.
    pub guest: SigningKey,
    /// The enroller's: it may sign node lists and nothing else.
    pub enroller: SigningKey,
    /// As many roots as sign a policy.
    pub roots: [SigningKey; 2],
}

/// A tenant with a past.
///
/// In the past: policy 2 with the publishers `syncer-1` (source `people`: alice and bob) and `guest` (source `guests`: g-eve).
/// Then policy 3 without `guest`. Now: alice and carol, and epoch 2 without the stolen host. Later: three records of the log beside
/// that snapshot, by which dora comes, goes, and erin comes.
#[derive(Debug)]
pub struct World {
    /// The tenant.
    pub tenant: Tenant,
    /// Stolen keys.
    pub keys: Keys,
    /// A host of the past.
    pub past: Host,
    /// The same host under policy 3, before the last snapshot.
    pub early: Host,
    /// The same host, up to date.
    pub late: Host,
    /// Another host, as early; it was stolen, and is revoked now.
    pub stolen: Host,
    /// A third one, as early.
    pub spare: Host,
    /// The host that was up to date, with the first record of the log.
    pub following: Host,
    /// The same host with all of it.
    pub followed: Host,
}

impl World {
    /// Makes it, on a machine of its own.
    ///
    /// # Errors
    /// When something does not work.
    pub fn new() -> anyhow::Result<Self> {
        machine::install(&["dirless-agent", "dirless-syncer"])?;
        operator(&["install", "--nss"])?;
        let tenant = Tenant::drafted()?;
        let guest = forge::stranger("guest")?;
        let key = guest.verifying().to_string();
        let scope = [
            "--source",
            "guests",
            "--ids",
            "5000-5999",
            "--names",
            "g-*",
            "--may",
            "users",
        ];
        operator(&[&["publisher", "add", FOLDER, "--key", &key], &scope[..]].concat())?;
        sign_policy(FOLDER)?;
        join_code(CODE, 3)?;
        let joined = |name| -> anyhow::Result<Host> {
            let host = Host::new(name)?;
            host.join(CODE, "[\"people\", \"guests\"]")?;
            Ok(host)
        };
        let (past, stolen, spare) = (joined("past")?, joined("stolen")?, joined("spare")?);
        syncer(&["once"])?;
        for (path, bytes) in first_guests(&guest)? {
            place(&Path::new(FOLDER).join(path), &bytes)?;
        }
        up_to_date(&[&past, &stolen, &spare])?;
        Program::system("cp").args(["-a", FOLDER, PAST]).succeed()?;

        operator(&["publisher", "revoke", FOLDER, "guest"])?;
        sign_policy(FOLDER)?;
        syncer(&["once"])?;
        let early = past.duplicate("early")?;
        up_to_date(&[&early, &stolen, &spare])?;

        people(&["alice", "carol"])?;
        syncer(&["once"])?;
        syncer(&["node", "revoke", stolen.key()?.verifying().name().as_str()])?;
        let late = early.duplicate("late")?;
        up_to_date(&[&late])?;
        Program::system("cp").args(["-a", FOLDER, NOW]).succeed()?;
        let [following, followed] = logged(&late)?;
        Ok(Self {
            keys: Keys::stolen(guest)?,
            tenant,
            past,
            early,
            late,
            stolen,
            spare,
            following,
            followed,
        })
    }

    /// The tenant's files as they are told of.
    #[must_use]
    pub fn now(&self) -> &Path {
        Path::new(NOW)
    }

    /// The tenant's files as they are in the end, with a log.
    #[must_use]
    pub fn later(&self) -> &Path {
        Path::new(FOLDER)
    }

    /// The tenant's files as they were.
    #[must_use]
    pub fn then(&self) -> &Path {
        Path::new(PAST)
    }
}

impl Keys {
    /// From where they are kept; `guest` besides.
    fn stolen(guest: SigningKey) -> anyhow::Result<Self> {
        let key = |name: &str| -> anyhow::Result<SigningKey> {
            let text = std::fs::read_to_string(format!("{SYNCER_KEYS}/{name}"))?;
            SigningKey::parse(text.trim()).with_context(|| name.to_owned())
        };
        let root = |name: &str| -> anyhow::Result<SigningKey> {
            let text = unlock(&std::fs::read(format!("/srv/keys/{name}.age"))?, PASSPHRASE)?;
            SigningKey::parse(text.trim()).with_context(|| name.to_owned())
        };
        Ok(Self {
            publisher: key("publisher.key")?,
            enroller: key("enroller.key")?,
            roots: [root("root-1")?, root("root-2")?],
            guest,
        })
    }
}

/// Has the syncer write a log of three records: a copy of `late` that has the first of them, and one that has all.
fn logged(late: &Host) -> anyhow::Result<[Host; 2]> {
    people(&["alice", "carol", "dora"])?;
    syncer(&["once"])?;
    let following = late.duplicate("following")?;
    up_to_date(&[&following])?;
    for names in [&["alice", "carol"][..], &["alice", "carol", "erin"]] {
        people(names)?;
        syncer(&["once"])?;
    }
    let followed = following.duplicate("followed")?;
    up_to_date(&[&followed])?;
    Ok([following, followed])
}

fn up_to_date(hosts: &[&Host]) -> anyhow::Result<()> {
    for host in hosts {
        let said = host.once()?;
        ensure!(said.is_empty(), "the truth is not believed: {said:?}");
    }
    Ok(())
}

/// The first snapshot of the other publisher, made after the syncer's: for the same epoch.
fn first_guests(guest: &SigningKey) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let read = |path: &str| std::fs::read(Path::new(FOLDER).join(path));
    let manifest = read("manifest/syncer-1/people/all/1")?;
    let mut first = Forgery::after(&manifest, &read("head/syncer-1")?, &forge::users(&[("g-eve", 5001)]))?;
    first.manifest.publisher = forge::label("guest")?;
    first.manifest.source = forge::label("guests")?;
    (first.manifest.version, first.manifest.previous) = (1, None);
    first.head.publisher = forge::label("guest")?;
    first.head.entries.clear();
    first.head.nodes = None;
    first.files(guest)
}

fn place(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, bytes)?)
}

/// What the liar pretends to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A static web server.
    Files,
    /// A backend with the verified protocol.
    Backend,
}

/// A host that is lied to.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The tenant.
    pub world: &'a World,
    /// Who lies.
    pub liar: Liar,
    /// Who is lied to; its daemon does not run yet.
    pub host: Host,
}

impl<'a> Scene<'a> {
    /// A copy of `host` called `name`, that asks a liar which serves `folder`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(world: &'a World, name: &str, host: &Host, folder: &Path, kind: Kind) -> anyhow::Result<Self> {
        let host = host.duplicate(name)?;
        let liar = match kind {
            Kind::Files => {
                let liar = Liar::start(folder, "/")?;
                host.read_from(&liar.url())?;
                liar
            }
            Kind::Backend => {
                let liar = Liar::start(folder, &format!("/v2/{}/", world.tenant.id))?;
                host.ask_backend(&liar.url())?;
                liar
            }
        };
        Ok(Self { world, liar, host })
    }

    /// What the syncer might say next, of mallory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn next_people(&self) -> anyhow::Result<Forgery> {
        let manifest = self.liar.file(&self.newest_manifest()?)?;
        Forgery::after(
            &manifest,
            &self.liar.file("head/syncer-1")?,
            &forge::users(&[("mallory", 11_111)]),
        )
    }

    /// What the other publisher might say next.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn next_guests(&self, users: &[(&str, u32)]) -> anyhow::Result<Forgery> {
        self.next_of_guest(&forge::users(users))
    }

    /// What the other publisher might say next, whatever it is.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn next_of_guest(&self, snapshot: &forge::Snapshot) -> anyhow::Result<Forgery> {
        let manifest = self.liar.file(&self.newest_of_guest()?)?;
        Forgery::after(&manifest, &self.liar.file("head/guest")?, snapshot)
    }

    /// Changes the file at `path` and serves the result.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
        let mut bytes = self.liar.file(path)?;
        change(&mut bytes);
        self.liar.put(path, bytes);
        Ok(())
    }

    /// The path of the body that the newest manifest of `people` names, and who may open it.
    ///
    /// # Errors
    /// When there is none.
    pub fn newest_body(&self) -> anyhow::Result<(String, Recipient)> {
        let manifest: Manifest = forge::object(&self.liar.file(&self.newest_manifest()?)?)?;
        Ok((format!("blob/{}", manifest.ciphertext), manifest.recipient))
    }

    /// The path of the newest manifest of `people`.
    ///
    /// # Errors
    /// When the head names none.
    pub fn newest_manifest(&self) -> anyhow::Result<String> {
        Ok(self.named("syncer-1", "people")?.0)
    }

    /// The path of the newest manifest of `guests`.
    ///
    /// # Errors
    /// When the head names none.
    pub fn newest_of_guest(&self) -> anyhow::Result<String> {
        Ok(self.named("guest", "guests")?.0)
    }

    /// The log beside the newest manifest of `people`, as far as the head names it.
    ///
    /// # Errors
    /// When a file is missing, or the host has no key for it.
    pub fn log(&self) -> anyhow::Result<Log> {
        self.log_of(self.named("syncer-1", "people")?)
    }

    /// The log beside the newest manifest of `guests`, as far as the head names it.
    ///
    /// # Errors
    /// When a file is missing, or the host has no key for it.
    pub fn log_of_guest(&self) -> anyhow::Result<Log> {
        self.log_of(self.named("guest", "guests")?)
    }

    fn log_of(&self, (path, records): (String, u64)) -> anyhow::Result<Log> {
        let note = self.liar.file(&path)?;
        let manifest: Manifest = forge::object(&note)?;
        let epoch = self.host.epoch(manifest.compartment.as_str(), manifest.epoch)?;
        let mut log = Log::beside(&note, &epoch)?;
        for number in 0..records {
            log.records.push(self.liar.file(&log.path(LogFile::Record(number)))?);
        }
        Ok(log)
    }

    /// The path of the manifest that is current of `source`, and the length of its log.
    fn named(&self, publisher: &str, source: &str) -> anyhow::Result<(String, u64)> {
        let head: Head = forge::object(&self.liar.file(&format!("head/{publisher}"))?)?;
        let entry = head.entries.iter().find(|entry| entry.source.as_str() == source);
        let entry = entry.with_context(|| format!("the head names no {source}"))?;
        let path = format!("manifest/{publisher}/{source}/{}/{}", entry.compartment, entry.version);
        Ok((path, entry.chain.length))
    }
}
