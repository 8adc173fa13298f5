//! No secret of a tenant shows where others look: arguments, environments, logs, files that everybody may read, core dumps.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use dirless_e2e::hostile::Host;
use dirless_e2e::secrets::{Secrets, Watch, files};
use dirless_e2e::site::{self, SECRET, TENANT, private};
use dirless_e2e::tenant::{FOLDER, PASSPHRASE, SYNCER_KEYS, Tenant, people};
use dirless_e2e::{machine, vectors};
use dirless_seal::trust::{JoinCode, Wrap};
use dirless_seal::{Identity, unlock};
use dirless_testkit::{Program, Running, eventually, isolated};

/// All that was written since the machine of its own began ([`isolated`]), but for the programs themselves, and what lies in
/// memory only.
const PLACES: [&str; 8] = [
    "/run/layers/etc/upper",
    "/run/layers/home/upper",
    "/run/layers/root/upper",
    "/run/layers/srv/upper",
    "/run/layers/tmp/upper",
    "/run/layers/var/upper",
    "/run/work",
    "/run/dirless-agent",
];

/// How long anything is waited for.
const WAIT: Duration = Duration::from_secs(60);

/// Everything that programs said.
#[derive(Default)]
struct Said(Vec<String>);

impl Said {
    /// Runs it to its end; what it says is kept.
    fn run(&mut self, program: Program) -> anyhow::Result<()> {
        let outcome = program.run()?;
        self.0.push(outcome.stdout);
        self.0.push(outcome.stderr);
        Ok(())
    }

    fn ours(&mut self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        self.run(Program::ours(name)?.args(arguments))
    }

    fn syncer(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let all = [
            &["--config", "/srv/syncer/syncer.toml", "--log-format", "json"],
            arguments,
        ]
        .concat();
        self.ours("dirless-syncer", &all)
    }
}

/// A daemon that may write as large a core as it likes.
fn with_cores(program: &str, arguments: &[&str]) -> anyhow::Result<Running> {
    let path = dirless_testkit::built(program)?;
    std::fs::create_dir_all("/srv/cores")?;
    Program::system("sh")
        .args(["-c", "ulimit -c unlimited; cd /srv/cores && exec \"$0\" \"$@\""])
        .arg(path)
        .args(arguments)
        .serve()
}

/// Ends it as a crash does: what it logged, once it is sure that it left no core.
fn crash(daemon: Running, name: &str) -> anyhow::Result<String> {
    Program::system("kill")
        .args(["-ABRT", &daemon.id().to_string()])
        .succeed()?;
    let entry = format!("/proc/{}/status", daemon.id());
    let dead = || std::fs::read_to_string(&entry).map_or(true, |status| status.contains("State:\tZ"));
    eventually(WAIT, "the crash", || dead().then_some(()))?;
    let log = daemon.log();
    let outcome = daemon.stop()?;
    ensure!(
        outcome.status.signal() == Some(6),
        "{name} ended with {}",
        outcome.status
    );
    ensure!(!outcome.status.core_dumped(), "{name} left a core");
    let left: Vec<_> = std::fs::read_dir("/srv/cores")?.flatten().collect();
    ensure!(left.is_empty(), "{name} left {left:?}");
    Ok(log)
}

/// The tenant's keys, from where they are kept.
fn secrets_of_the_tenant(hosts: &[&Host]) -> anyhow::Result<Secrets> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| path.to_owned());
    let mut secrets = Secrets::default();
    secrets.text("passphrase", PASSPHRASE);
    secrets.text("bearer", SECRET);
    for root in 1..=3 {
        let path = format!("/srv/keys/root-{root}.age");
        let key = unlock(&std::fs::read(path)?, PASSPHRASE)?;
        secrets.signing_key(&format!("root {root}"), &key)?;
    }
    secrets.signing_key("publisher", &read(&format!("{SYNCER_KEYS}/publisher.key"))?)?;
    secrets.signing_key("enroller", &read(&format!("{SYNCER_KEYS}/enroller.key"))?)?;
    secrets.identity("enroller's identity", &read(&format!("{SYNCER_KEYS}/enroller.age"))?)?;
    secrets.identity("tenant's classic identity", vectors::IDENTITY)?;
    let code = read("/srv/code")?;
    secrets.text("join code", &code);
    secrets.text("join secret", &JoinCode::parse(&code)?.secret.expose());
    for (number, host) in hosts.iter().enumerate() {
        let own = std::fs::read_to_string(host.state("agent/trust/node.age"))?;
        secrets.identity(&format!("identity of host {number}"), &own)?;
        let key = std::fs::read_to_string(host.state("agent/trust/node.key"))?;
        secrets.signing_key(&format!("key of host {number}"), &key)?;
        let own = Identity::parse(own.trim())?;
        for file in files(&[&format!("{FOLDER}/wrap")], 0) {
            if let Ok(wrap) = Wrap::open(&std::fs::read(&file)?, &own) {
                secrets.identity(&format!("epoch {}", wrap.epoch), &wrap.identity.expose())?;
            }
        }
    }
    Ok(secrets)
}

/// An operator makes the tenant, two hosts join, one is revoked.
fn signed_life(said: &mut Said) -> anyhow::Result<[Host; 2]> {
    Tenant::new()?;
    // Once more, to hear what the programs say meanwhile.
    let init = [
        "tenant",
        "init",
        "/srv/again",
        "--keys",
        "/srv/again-keys",
        "--work",
        "10",
    ];
    said.ours(
        "dirless",
        &[&init[..], &["--passphrase-file", "/srv/passphrase"]].concat(),
    )?;
    said.syncer(&[
        "join-code",
        "create",
        "--compartment",
        "all",
        "--uses",
        "2",
        "--out",
        "/srv/code",
    ])?;
    let hosts = [Host::new("stays")?, Host::new("goes")?];
    for host in &hosts {
        said.run(host.ours("dirless")?.args(["join", "--code-file", "/srv/code"]))?;
        let text = std::fs::read_to_string(host.config())?;
        let more = "[agent]\nsources = [\"people\"]\n[log]\nformat = \"json\"\nlevel = \"trace\"\n";
        private(host.config(), &format!("{text}{more}"))?;
    }
    said.syncer(&["once"])?;
    for host in &hosts {
        said.run(host.ours("dirless-agent")?.args(["run", "--once"]))?;
        host.knows(&["alice", "bob"], &[])?;
    }
    let gone = hosts[1].key()?.verifying().name().to_string();
    said.syncer(&["node", "revoke", &gone])?;
    people(&["alice", "dora"])?;
    said.syncer(&["once"])?;
    for host in &hosts {
        said.run(host.ours("dirless-agent")?.args(["run", "--once"]))?;
        for asked in [["status"], ["doctor"]] {
            said.run(host.ours("dirless")?.args(asked))?;
        }
    }
    hosts[0].knows(&["alice", "dora"], &["bob"])?;
    hosts[1].knows(&["alice", "bob"], &["dora"])?;
    for command in [
        &["signing", "status"][..],
        &["node", "list"],
        &["join-code", "list"],
        &["check"],
    ] {
        said.syncer(command)?;
    }
    Ok(hosts)
}

/// A classic host with the shared bearer, and an operator's token.
fn classic_life(said: &mut Said) -> anyhow::Result<(Running, String)> {
    private("/srv/backend-secret", SECRET)?;
    let config =
        "[hmac]\nsecret_file = \"/srv/backend-secret\"\n[storage]\npath = \"/srv/backend\"\n[log]\nlevel = \"debug\"\n";
    private("/etc/dirless/dirless.toml", config)?;
    let backend = with_cores("dirless-backend", &["run"])?;
    // Shown once, on purpose.
    let token = Program::ours("dirless-backend")?;
    let token = token
        .args(["token", "create", "--label", "x", "--scope", "tenants"])
        .succeed()?;
    let token = token
        .split_whitespace()
        .max_by_key(|word| word.len())
        .context("no token")?
        .to_owned();
    private("/srv/age.key", vectors::IDENTITY)?;
    private("/srv/token", SECRET)?;
    let host = Host::new("classic")?;
    let url = format!("http://{}", site::BACKEND);
    let enroll = [
        "enroll",
        "--server",
        &url,
        "--tenant-id",
        TENANT,
        "--token-file",
        "/srv/token",
    ];
    said.run(host.ours("dirless")?.args(enroll).args(["--age-key", "/srv/age.key"]))?;
    let text = std::fs::read_to_string(host.config())?;
    private(host.config(), &format!("{text}\n[log]\nlevel = \"trace\"\n"))?;
    said.run(host.ours("dirless-agent")?.args(["run", "--once"]))?;
    Ok((backend, token))
}

#[test]
fn no_secret_shows_where_others_look() {
    isolated("no_secret_shows_where_others_look", || {
        machine::install(&["dirless-agent", "dirless-syncer"])?;
        Program::ours("dirless")?.args(["install", "--nss"]).succeed()?;
        let (watch, mut said) = (Watch::start()?, Said::default());
        let hosts = signed_life(&mut said)?;
        let (backend, token) = classic_life(&mut said)?;
        let syncer = ["--config", "/srv/syncer/syncer.toml", "--log-format", "journald", "run"];
        let syncer = with_cores("dirless-syncer", &syncer)?;
        let config = hosts[0].config().to_string_lossy().into_owned();
        let agent = with_cores("dirless-agent", &["--config", &config, "run"])?;
        // They are at work, and were looked at.
        for seen in ["PRIORITY\n", "dirless-syncer\0", "dirless-agent\0", "dirless-backend\0"] {
            eventually(WAIT, seen, || watch.has_seen(seen).then_some(()))?;
        }
        for (daemon, name) in [(syncer, "the syncer"), (agent, "the agent"), (backend, "the backend")] {
            let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id()))?;
            let core = limits
                .lines()
                .find(|line| line.starts_with("Max core file size"))
                .context("no limit")?;
            ensure!(core.split_whitespace().nth(4) == Some("0"), "{name}: {core}");
            said.0.push(crash(daemon, name)?);
        }

        let mut secrets = secrets_of_the_tenant(&[&hosts[0], &hosts[1]])?;
        // The search finds what is there: keys in the files of their owners, and nothing that only looks like one.
        let kept = secrets.kept_in(&PLACES);
        let sealed: Vec<_> = secrets
            .names()
            .into_iter()
            .filter(|name| !kept.contains(name))
            .collect();
        let may_be = |name: &str| {
            ["root ", "epoch ", "join secret"]
                .iter()
                .any(|kind| name.starts_with(kind))
        };
        ensure!(sealed.iter().all(|name| may_be(name)), "{sealed:?}");
        secrets.text("operator token", &token);

        let seen = watch.end();
        for bytes in &seen {
            let found = secrets.found_in(bytes);
            ensure!(
                found.is_none(),
                "{found:?} shows in {}",
                String::from_utf8_lossy(bytes).replace('\0', " ")
            );
        }
        let logged: usize = said.0.iter().map(String::len).sum();
        ensure!(logged > 10_000, "only {logged} bytes were said");
        for text in &said.0 {
            let found = secrets.found_in(text.as_bytes());
            ensure!(found.is_none(), "{found:?} shows in what was said:\n{text}");
        }
        let open = files(&PLACES, 0o004);
        ensure!(open.len() > 10, "only {} files are everybody's", open.len());
        for path in open {
            let found = secrets.found_in(&std::fs::read(&path)?);
            ensure!(found.is_none(), "{found:?} shows in {}", path.display());
        }
        Ok(())
    })
    .unwrap();
}
