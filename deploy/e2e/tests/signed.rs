//! The verified protocol with real programs and nobody to trust: an operator's keys, a syncer that writes plain files, a
//! host that reads them from wherever they lie, `getent` through glibc.

use std::path::Path;

use anyhow::{Context, ensure};
use dirless_e2e::machine::{self, getent};
use dirless_e2e::site::private;
use dirless_testkit::{Program, isolated};

const TENANT: &str = "/srv/tenant";
const PASSPHRASE: &str = "correct horse battery staple";

/// An operator, a syncer and a host on one machine, with only files between them.
struct World {
    roots: String,
}

fn ours(name: &str, arguments: &[&str]) -> anyhow::Result<String> {
    Program::ours(name)?.args(arguments).succeed()
}

fn operator(arguments: &[&str]) -> anyhow::Result<String> {
    ours("dirless", arguments)
}

fn syncer(arguments: &[&str]) -> anyhow::Result<String> {
    let all = [&["--config", "/srv/syncer/syncer.toml"], arguments].concat();
    ours("dirless-syncer", &all)
}

/// One cycle of the agent: what it says is wrong.
fn cycle() -> anyhow::Result<Vec<String>> {
    let outcome = Program::ours("dirless-agent")?.args(["run", "--once"]).run()?;
    Ok(outcome.stderr.lines().map(str::to_owned).collect())
}

fn people(names: &[&str]) -> anyhow::Result<()> {
    let lines: String = names.iter().map(|name| format!("  - {{name: {name}}}\n")).collect();
    private("/srv/people/people.yaml", &format!("people:\n{lines}"))
}

/// The signatures of two of the three roots.
fn sign_policy() -> anyhow::Result<()> {
    for root in ["root-1", "root-2"] {
        let key = format!("/srv/keys/{root}.age");
        operator(&[
            "policy",
            "sign",
            TENANT,
            "--key",
            &key,
            "--yes",
            "--passphrase-file",
            "/srv/passphrase",
        ])?;
    }
    Ok(())
}

impl World {
    fn new() -> anyhow::Result<Self> {
        machine::install(&["dirless-agent", "dirless-syncer"])?;
        private("/srv/passphrase", &format!("{PASSPHRASE}\n"))?;
        operator(&[
            "tenant",
            "init",
            TENANT,
            "--keys",
            "/srv/keys",
            "--work",
            "10",
            "--passphrase-file",
            "/srv/passphrase",
        ])?;
        let policy = std::fs::read_to_string(format!("{TENANT}/policy/1"))?;
        let tenant = policy
            .lines()
            .find_map(|line| line.strip_prefix("tenant "))
            .context("the tenant's id")?;
        let shown: serde_json::Value = serde_json::from_str(&operator(&["policy", "show", TENANT, "--json"])?)?;
        let roots = find(&shown, "fingerprint").context("the fingerprint of the roots")?;
        people(&["alice", "bob"])?;
        private(
            "/srv/syncer/syncer.toml",
            &format!(
                "[backend]\nurl = \"http://127.0.0.1:1\"\n[syncer]\nkey_folder = \"/srv/syncer/keys\"\n\
                 state_folder = \"/srv/syncer/state\"\n[tree]\npath = \"/srv/syncer/state/tree.db\"\n\
                 [[source]]\nkind = \"files\"\nname = \"people\"\nfolder = \"/srv/people\"\n\
                 [signed]\nfolder = \"{TENANT}\"\nroots = \"{roots}\"\ntenant = \"{tenant}\"\nurl = \"file://{TENANT}\"\n\
                 classic = false\n"
            ),
        )?;
        let lines = syncer(&["signing", "init", "syncer-1"])?;
        let word = |line: usize, word: usize| lines.lines().nth(line).and_then(|line| line.split(' ').nth(word));
        let (publisher, enroller) = (word(0, 1).context("publisher")?, word(1, 1).context("enroller")?);
        let recipient = word(1, 2).context("recipient")?;
        operator(&[
            "publisher",
            "add",
            TENANT,
            "--key",
            publisher,
            "--source",
            "people",
            "--ids",
            "1000-2147483647",
            "--names",
            "*",
            "--may",
            "users",
            "--may",
            "groups",
            "--may",
            "keys",
        ])?;
        operator(&["enroller", "add", TENANT, "--key", enroller, "--recipient", recipient])?;
        sign_policy()?;
        Ok(Self { roots })
    }

    /// Joins and is admitted.
    fn join(&self) -> anyhow::Result<()> {
        syncer(&["join-code", "create", "--compartment", "all", "--out", "/srv/code"])?;
        operator(&["join", "--code-file", "/srv/code"])?;
        let path = "/etc/dirless/dirless-agent.toml";
        let text = std::fs::read_to_string(path)?;
        private(path, &format!("{text}[agent]\nsources = [\"people\"]\n"))?;
        operator(&["install", "--nss"])?;
        syncer(&["once"])?;
        Ok(())
    }

    fn verify(&self, place: &str) -> anyhow::Result<()> {
        operator(&["verify", place, "--roots", &self.roots]).map(drop)
    }
}

/// The first text under this name, wherever it stands.
fn find(value: &serde_json::Value, name: &str) -> Option<String> {
    match value {
        serde_json::Value::Object(members) => members.iter().find_map(|(key, value)| {
            value
                .as_str()
                .filter(|_| key == name)
                .map(str::to_owned)
                .or_else(|| find(value, name))
        }),
        serde_json::Value::Array(values) => values.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}

#[test]
fn from_an_operators_keys_to_a_login_name() {
    isolated("from_an_operators_keys_to_a_login_name", || {
        let world = World::new()?;
        world.join()?;
        ensure!(cycle()?.is_empty(), "{:?}", cycle()?);
        let alice = getent("passwd", "alice")?.context("alice")?;
        world.verify(TENANT)?;

        // A removed person is gone after the next cycles; who stays keeps the number.
        people(&["alice", "carol"])?;
        syncer(&["once"])?;
        ensure!(cycle()?.is_empty(), "after a change");
        ensure!(getent("passwd", "bob")?.is_none() && getent("passwd", "carol")?.is_some());
        ensure!(getent("passwd", "alice")?.as_ref() == Some(&alice));

        // Carried by hand: a mirror in another folder is as good.
        operator(&["mirror", TENANT, "/media/stick", "--roots", &world.roots])?;
        world.verify("/media/stick")?;
        let path = "/etc/dirless/dirless-agent.toml";
        let text = std::fs::read_to_string(path)?;
        private(path, &text.replace(&format!("file://{TENANT}"), "/media/stick"))?;
        ensure!(cycle()?.is_empty(), "from a stick");

        // Whoever has the stick changes a byte of everything in turn: nobody is lost, and nobody comes in.
        for folder in ["head", "policy", "manifest", "blob"] {
            spoil(&Path::new("/media/stick").join(folder))?;
        }
        people(&["mallory"])?;
        ensure!(!cycle()?.is_empty(), "a spoilt stick was taken for a good one");
        ensure!(getent("passwd", "alice")?.as_ref() == Some(&alice) && getent("passwd", "mallory")?.is_none());

        // With everything gone, the host answers.
        std::fs::remove_dir_all("/media/stick")?;
        std::fs::remove_dir_all(TENANT)?;
        ensure!(!cycle()?.is_empty() && getent("passwd", "alice")?.as_ref() == Some(&alice));
        Ok(())
    })
    .unwrap();
}

/// Flips a bit in the middle of every file.
fn spoil(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            spoil(&path)?;
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

#[test]
fn a_revoked_host_hears_nothing_more() {
    isolated("a_revoked_host_hears_nothing_more", || {
        let world = World::new()?;
        world.join()?;
        ensure!(cycle()?.is_empty(), "admitted");
        let node = std::fs::read_dir(format!("{TENANT}/wrap/all/1"))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find(|name| name.starts_with('n'))
            .context("the host's name")?;
        syncer(&["node", "revoke", &node])?;
        people(&["alice", "bob", "dora"])?;
        syncer(&["once"])?;
        let said = cycle()?;
        ensure!(said.iter().any(|line| line.contains("(not-admitted)")), "{said:?}");
        ensure!(getent("passwd", "dora")?.is_none() && getent("passwd", "alice")?.is_some());
        world.verify(TENANT)
    })
    .unwrap();
}

#[test]
fn no_secret_of_the_tenant_lies_open() {
    isolated("no_secret_of_the_tenant_lies_open", || {
        let world = World::new()?;
        world.join()?;
        ensure!(cycle()?.is_empty(), "admitted");
        let code = std::fs::read_to_string("/srv/code")?;
        let publisher = std::fs::read_to_string("/srv/syncer/keys/publisher.key")?;
        let secrets = [
            PASSPHRASE,
            code.trim(),
            publisher.trim(),
            "AGE-SECRET-KEY-1",
            "PRIVATE+KEY+",
        ];
        let mut looked_at = 0;
        for folder in ["/srv", "/etc/dirless", "/var/lib/dirless"] {
            open_files(Path::new(folder), &mut |path, bytes| {
                looked_at += 1;
                let text = String::from_utf8_lossy(bytes);
                for secret in secrets {
                    ensure!(!text.contains(secret), "{} shows {secret:.16}…", path.display());
                }
                Ok(())
            })?;
        }
        ensure!(looked_at > 5, "only {looked_at} files of everybody were found");
        Ok(())
    })
    .unwrap();
}

/// Calls `look` with each regular file that everybody may read.
fn open_files(folder: &Path, look: &mut dyn FnMut(&Path, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        let about = std::fs::symlink_metadata(&path)?;
        if about.is_dir() && about.permissions().mode() & 0o001 != 0 {
            open_files(&path, look)?;
        } else if about.is_file() && about.permissions().mode() & 0o004 != 0 {
            look(&path, &std::fs::read(&path)?)?;
        }
    }
    Ok(())
}
