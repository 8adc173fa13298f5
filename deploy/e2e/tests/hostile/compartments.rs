//! Compartments, by what a thief of a host's keys can open of everything that lies in its tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::ensure;
use dirless_e2e::hostile::{Host, forge};
use dirless_e2e::machine;
use dirless_e2e::secrets::files;
use dirless_e2e::tenant::{FOLDER, Tenant, join_code_of, operator, people, people_of, sign_policy, syncer};
use dirless_seal::trust::log::{LogKey, Place};
use dirless_seal::trust::{Manifest, Wrap};
use dirless_seal::{Identity, Limits, Note, open_file};
use dirless_testkit::isolated;

/// Who reads what: web hosts the people, hosts of databases those who look after these.
const COMPARTMENTS: &str = "[[source]]\nkind = \"files\"\nname = \"keepers\"\nfolder = \"/srv/keepers\"\n\
                            [[signed.compartment]]\nname = \"web\"\nsources = [\"people\"]\n\
                            [[signed.compartment]]\nname = \"db\"\nsources = [\"keepers\"]\n";

/// All that lies in the tenant's folder.
struct Everything {
    files: BTreeMap<String, Vec<u8>>,
    logs: Vec<Place>,
    /// The compartment of each body.
    bodies: BTreeMap<String, String>,
}

impl Everything {
    fn now() -> anyhow::Result<Self> {
        let mut everything = Self {
            files: BTreeMap::new(),
            logs: Vec::new(),
            bodies: BTreeMap::new(),
        };
        for path in files(&[FOLDER], 0) {
            let bytes = std::fs::read(&path)?;
            let path = path.strip_prefix(FOLDER)?.to_string_lossy().into_owned();
            if path.starts_with("manifest/") {
                let manifest: Manifest = forge::object(&bytes)?;
                let digest = Note::parse(&bytes, 1 << 20)?.digest();
                everything.logs.push(Place::of(&manifest, digest));
                let body = format!("blob/{}", manifest.ciphertext);
                everything.bodies.insert(body, manifest.compartment.to_string());
            }
            everything.files.insert(path, bytes);
        }
        Ok(everything)
    }

    /// Bodies, records of logs and wraps of this compartment.
    fn sealed(&self, compartment: &str) -> BTreeSet<String> {
        let is_its = |path: &&String| match path.split('/').collect::<Vec<_>>().as_slice() {
            ["wrap", own, ..] | ["log", _, _, own, ..] => *own == compartment,
            _ => self.bodies.get(*path).is_some_and(|own| own == compartment),
        };
        self.files.keys().filter(is_its).cloned().collect()
    }
}

/// Has all that a host had.
struct Thief(Vec<Identity>);

impl Thief {
    /// Every key in the host's trust folder, and every one that these open there.
    fn of(host: &Host) -> anyhow::Result<Self> {
        let mut thief = Self(Vec::new());
        let mut kept = Vec::new();
        for path in files(&[&host.state("agent/trust").to_string_lossy()], 0) {
            kept.push(std::fs::read(path)?);
        }
        let texts = kept.iter().filter_map(|bytes| std::str::from_utf8(bytes).ok());
        thief
            .0
            .extend(texts.filter_map(|text| Identity::parse(text.trim()).ok()));
        ensure!(!thief.0.is_empty(), "the host keeps no key");
        thief.learn(kept.iter());
        Ok(thief)
    }

    /// Takes the keys out of all wraps that open, until no more do.
    fn learn<'a>(&mut self, wraps: impl Iterator<Item = &'a Vec<u8>> + Clone) {
        loop {
            let before = self.0.len();
            for bytes in wraps.clone() {
                let wrap = self.0.iter().find_map(|own| Wrap::open(bytes, own).ok());
                let found = wrap.map(|wrap| wrap.identity);
                let is_new = |found: &Identity| self.0.iter().all(|own| own.recipient() != found.recipient());
                if let Some(found) = found.filter(is_new) {
                    self.0.push(found);
                }
            }
            if self.0.len() == before {
                return;
            }
        }
    }

    /// Which files open, in whatever way, by whatever it has and finds.
    fn opened(&mut self, everything: &Everything) -> BTreeSet<String> {
        self.learn(everything.files.values());
        let is_body = |own: &Identity, bytes: &[u8]| {
            let opened = open_file(own, bytes, Limits::default()).ok();
            opened.is_some_and(|mut opened| std::io::copy(&mut opened, &mut std::io::sink()).is_ok())
        };
        let is_record = |own: &Identity, path: &str, bytes: &[u8]| {
            let mut keys = everything.logs.iter().map(|place| LogKey::new(own, place));
            number(path).is_some_and(|number| keys.any(|key| key.open(number, bytes).is_ok()))
        };
        let opens = |(path, bytes): &(&String, &Vec<u8>)| {
            let mut keys = self.0.iter();
            keys.any(|own| Wrap::open(bytes, own).is_ok() || is_body(own, bytes) || is_record(own, path, bytes))
        };
        let open = everything.files.iter().filter(opens);
        open.map(|(path, _)| path.clone()).collect()
    }
}

/// The number of a record of a log.
fn number(path: &str) -> Option<u64> {
    let name = path.strip_prefix("log/")?.rsplit('/').next()?;
    name.parse().ok()
}

/// Everything of `web` but others' wraps opens, and nothing of `db`, which has bodies, records and wraps, too.
fn opens_its_own_alone(thief: &mut Thief) -> anyhow::Result<Everything> {
    let everything = Everything::now()?;
    let (web, db) = (everything.sealed("web"), everything.sealed("db"));
    for kind in ["blob/", "log/", "wrap/"] {
        for all in [&web, &db] {
            ensure!(
                all.iter().any(|path| path.starts_with(kind)),
                "there is no {kind}: {all:?}"
            );
        }
    }
    let opened = thief.opened(&everything);
    ensure!(opened.is_subset(&web), "{opened:?} opens, and of web is only {web:?}");
    let closed: Vec<_> = web
        .difference(&opened)
        .filter(|path| !path.starts_with("wrap/"))
        .collect();
    ensure!(closed.is_empty(), "{closed:?} of its own does not open");
    ensure!(opened.iter().any(|path| path.starts_with("wrap/")), "{opened:?}");
    Ok(everything)
}

/// Publishes these people of both sources, twice, so that there are bodies and logs of the newest epochs.
fn publish(number: usize) -> anyhow::Result<()> {
    let keeper = format!("keeper-{number}");
    people(&["alice", &format!("user-{number}")])?;
    people_of("/srv/keepers", &["dana", &keeper])?;
    syncer(&["once"])?;
    people(&["alice", &format!("user-{number}"), "bob"])?;
    people_of("/srv/keepers", &["dana", &keeper, "dora"])?;
    syncer(&["once"]).map(drop)
}

#[test]
fn a_stolen_host_opens_its_compartment_alone_until_it_is_revoked() {
    isolated(
        "compartments::a_stolen_host_opens_its_compartment_alone_until_it_is_revoked",
        || {
            machine::install(&["dirless-agent", "dirless-syncer"])?;
            operator(&["install", "--nss"])?;
            people_of("/srv/keepers", &["dana"])?;
            Tenant::drafted_with(&["people", "keepers"], COMPARTMENTS)?;
            for compartment in ["web", "db"] {
                operator(&["compartment", "add", FOLDER, compartment, "--on-expiry", "serve"])?;
            }
            sign_policy(FOLDER)?;
            let mut hosts = Vec::new();
            for (name, compartment, source) in [
                ("web-1", "web", "people"),
                ("web-2", "web", "people"),
                ("db-1", "db", "keepers"),
            ] {
                let code = format!("/srv/code-{name}");
                join_code_of(compartment, &code, 1)?;
                let host = Host::new(name)?;
                host.join(&code, &format!("[\"{source}\"]"))?;
                hosts.push(host);
            }
            let [stolen, stays, db] = hosts.as_slice() else {
                unreachable!("three were made");
            };
            let look = |host: &Host, those: &[&str], nobody: &[&str]| {
                let said = host.once()?;
                ensure!(said.is_empty(), "{said:?}");
                host.knows(those, nobody)
            };
            publish(1)?;
            look(stolen, &["alice", "user-1"], &["dana", "keeper-1"])?;
            look(db, &["dana", "keeper-1"], &["alice", "user-1"])?;
            let mut thief = Thief::of(stolen)?;
            opens_its_own_alone(&mut thief)?;

            // A new epoch of the others' compartment, and then of its own, which it may read still.
            for (number, compartment) in [(2, "db"), (3, "web")] {
                syncer(&["signing", "rotate", "--compartment", compartment])?;
                publish(number)?;
                opens_its_own_alone(&mut thief)?;
            }
            let before = opens_its_own_alone(&mut thief)?;

            let name = stolen.key()?.verifying().name().to_string();
            syncer(&["node", "revoke", &name])?;
            publish(4)?;
            look(stays, &["alice", "user-4"], &["dana", "keeper-4"])?;
            look(db, &["dana", "keeper-4"], &["alice", "user-4"])?;
            let after = Everything::now()?;
            let new = |paths: BTreeSet<String>| -> BTreeSet<String> {
                let is_new = |path: &String| !before.files.contains_key(path);
                paths.into_iter().filter(is_new).collect()
            };
            let (opened, web) = (new(thief.opened(&after)), new(after.sealed("web")));
            ensure!(opened.is_empty(), "{opened:?} opens to who was revoked");
            for kind in ["blob/", "log/", "wrap/web/"] {
                ensure!(web.iter().any(|path| path.starts_with(kind)), "no new {kind}: {web:?}");
            }
            // To who stays, it does.
            let opened = new(Thief::of(stays)?.opened(&after));
            let closed: Vec<_> = web
                .difference(&opened)
                .filter(|path| !path.starts_with("wrap/"))
                .collect();
            ensure!(closed.is_empty() && opened.is_subset(&web), "{closed:?} {opened:?}");
            ensure!(
                Path::new(FOLDER).join(format!("wrap/web/2/{name}")).exists(),
                "the thief had no wrap"
            );
            Ok(())
        },
    )
    .unwrap();
}
