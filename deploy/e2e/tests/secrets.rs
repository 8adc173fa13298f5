//! No secret of a tenant shows where others look: arguments, environments, logs, files that everybody may read, core dumps.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use dirless_e2e::hostile::Host;
use dirless_e2e::secrets::{Secrets, Watch, files};
use dirless_e2e::site::{self, SECRET, TENANT, private};
use dirless_e2e::tenant::{
    FOLDER, PASSPHRASE, PASSPHRASE_FILE, SYNCER_KEYS, TOKEN, make_at_backend, operator, people, sign_policy,
};
use dirless_e2e::{machine, vectors};
use dirless_seal::trust::{JoinCode, Wrap};
use dirless_seal::unlock;
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

/// Who can open everything when all else is lost: a key under the passphrase.
const RECOVERY: &str = "/srv/recovery-1.age";
/// The key of an enroller beside the syncer, under the passphrase.
const DESK: &str = "/srv/desk.key";
/// The publisher's key before it was renewed.
const FIRST_KEY: &str = "/srv/first.key";
/// A token of the syncer's that takes people away.
const REVOKES: &str = "/srv/revokes";

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

    /// The same for what must succeed; gives back what it printed.
    fn good(&mut self, program: Program) -> anyhow::Result<String> {
        let outcome = program.run()?;
        ensure!(outcome.code() == 0, "{outcome:?}");
        self.0.push(outcome.stdout.clone());
        self.0.push(outcome.stderr);
        Ok(outcome.stdout)
    }

    fn ours(&mut self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        self.run(Program::ours(name)?.args(arguments))
    }

    fn syncer(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let config = ["--config", "/srv/syncer/syncer.toml", "--log-format", "json"];
        let program = Program::ours("dirless-syncer")?.args(config).args(arguments);
        self.good(program).map(drop)
    }

    /// A command of an operator, who unlocks keys with the passphrase.
    fn operator(&mut self, arguments: &[&str]) -> anyhow::Result<String> {
        let program = Program::ours("dirless")?.args(arguments);
        self.good(program.args(["--passphrase-file", PASSPHRASE_FILE]))
    }
}

/// A daemon that may write as large a core as it likes, started by `shell`.
fn with_cores(shell: Program, program: &str, arguments: &[&str]) -> anyhow::Result<Running> {
    let path = dirless_testkit::built(program)?;
    std::fs::create_dir_all("/srv/cores")?;
    shell
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

/// Every secret of the tenant, from where it is kept.
fn secrets_of_the_tenant(hosts: &[&Host]) -> anyhow::Result<Secrets> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| path.to_owned());
    let mut secrets = Secrets::default();
    secrets.text("passphrase", PASSPHRASE);
    secrets.text("bearer", SECRET);
    let locked = |path: &str| -> anyhow::Result<_> { Ok(unlock(&std::fs::read(path)?, PASSPHRASE)?) };
    for root in 1..=3 {
        secrets.signing_key(&format!("root {root}"), &locked(&format!("/srv/keys/root-{root}.age"))?)?;
    }
    secrets.identity("recovery", &locked(RECOVERY)?)?;
    let desk = locked(DESK)?;
    secrets.signing_key("desk", &desk)?;
    secrets.identity("desk's identity", &desk)?;
    secrets.signing_key("first publisher", &read(FIRST_KEY)?)?;
    secrets.signing_key("publisher", &read(&format!("{SYNCER_KEYS}/publisher.key"))?)?;
    secrets.signing_key("enroller", &read(&format!("{SYNCER_KEYS}/enroller.key"))?)?;
    secrets.identity("enroller's identity", &read(&format!("{SYNCER_KEYS}/enroller.age"))?)?;
    secrets.identity("tenant's classic identity", vectors::IDENTITY)?;
    secrets.text("operator token", &longest(&read(TOKEN)?)?);
    secrets.text("token to revoke", &longest(&read(REVOKES)?)?);
    let code = read("/srv/code")?;
    secrets.text("join code", &code);
    let code = JoinCode::parse(&code)?;
    secrets.text("join secret", &code.secret.expose());
    secrets.text("join bearer", &code.secret.bearer(code.tenant, &code.code));
    for (number, host) in hosts.iter().enumerate() {
        let own = std::fs::read_to_string(host.state("agent/trust/node.age"))?;
        secrets.identity(&format!("identity of host {number}"), &own)?;
        let key = std::fs::read_to_string(host.state("agent/trust/node.key"))?;
        secrets.signing_key(&format!("key of host {number}"), &key)?;
        let own = host.identity()?;
        for file in files(&[&host.state("agent/trust").to_string_lossy()], 0) {
            if let Ok(wrap) = Wrap::open(&std::fs::read(&file)?, &own) {
                secrets.identity(&format!("epoch {}", wrap.epoch), &wrap.identity.expose())?;
            }
        }
    }
    Ok(secrets)
}

/// What a command shows once: its longest word.
fn longest(shown: &str) -> anyhow::Result<String> {
    let longest = shown.split_whitespace().max_by_key(|word| word.len());
    Ok(longest.context("nothing was shown")?.to_owned())
}

/// A backend that tells all it does; it may write as large a core as it likes.
fn backend() -> anyhow::Result<Running> {
    private("/srv/backend-secret", SECRET)?;
    let config =
        "[hmac]\nsecret_file = \"/srv/backend-secret\"\n[storage]\npath = \"/srv/backend\"\n[log]\nlevel = \"debug\"\n";
    private("/etc/dirless/dirless.toml", config)?;
    with_cores(Program::system("sh"), "dirless-backend", &["run"])
}

/// An operator makes the tenant at the backend, with a recovery key and an enroller of their own: its URL and the fingerprint of
/// its roots.
fn tenant(said: &mut Said) -> anyhow::Result<[String; 2]> {
    let url = format!("http://{}", site::BACKEND);
    private(PASSPHRASE_FILE, &format!("{PASSPHRASE}\n"))?;
    let recovery = said.operator(&["recovery", "create", RECOVERY, "--work", "10"])?;
    make_at_backend("[serve]\n[log]\nlevel = \"debug\"\n", &["--recovery", recovery.trim()])?;
    // Once more, to hear what the programs say meanwhile.
    let again = [
        "tenant",
        "init",
        "/srv/again",
        "--keys",
        "/srv/again-keys",
        "--work",
        "10",
    ];
    said.operator(&[&again[..], &["--backend", &url, "--token-file", TOKEN]].concat())?;
    let lines = said.operator(&["enroller", "create", DESK, "--name", "desk", "--work", "10"])?;
    let words: Vec<&str> = lines.split_whitespace().collect();
    let [key, recipient] = words.as_slice() else {
        anyhow::bail!("no key and recipient: {lines}");
    };
    operator(&["enroller", "add", FOLDER, "--key", key, "--recipient", recipient])?;
    sign_policy(FOLDER)?;
    let signed: String = std::fs::read_to_string("/srv/signed.toml")?;
    let quoted = |name: &str| {
        let line = signed
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_owned())
            .with_context(|| format!("no {name} in {signed}"))
    };
    let place = format!("{url}/v2/{}", quoted("tenant")?);
    let push = ["policy", "push", FOLDER, &place, "--token-file", TOKEN];
    said.good(Program::ours("dirless")?.args(push))?;
    let list = ["node", "list", &place, "--key", DESK, "--token-file", TOKEN];
    let roots = quoted("roots")?;
    let of = ["--roots", &roots, "--desk", "/srv/desk"];
    said.operator(&[&list[..], &of].concat())?;
    Ok([place, roots])
}

/// Two hosts join over the backend, the publisher's key is renewed, one host is revoked.
fn signed_life(said: &mut Said) -> anyhow::Result<[Host; 2]> {
    let create = ["join-code", "create", "--compartment", "all", "--uses", "2"];
    said.syncer(&[&create[..], &["--out", "/srv/code"]].concat())?;
    let hosts = [Host::new("stays")?, Host::new("goes")?];
    for host in &hosts {
        said.good(host.ours("dirless")?.args(["join", "--code-file", "/srv/code"]))?;
        let text = std::fs::read_to_string(host.config())?;
        ensure!(text.contains("[backend]"), "it asks no backend: {text}");
        let more = "[agent]\nsources = [\"people\"]\n[log]\nformat = \"json\"\nlevel = \"trace\"\n";
        private(host.config(), &format!("{text}{more}"))?;
    }
    said.syncer(&["once"])?;
    for host in &hosts {
        said.good(host.ours("dirless-agent")?.args(["run", "--once"]))?;
        host.knows(&["alice", "bob"], &[])?;
    }
    private(
        FIRST_KEY,
        &std::fs::read_to_string(format!("{SYNCER_KEYS}/publisher.key"))?,
    )?;
    said.syncer(&["signing", "rotate-key"])?;
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
        &["token", "create", "takes-away", "--scope", "revoke", "--file", REVOKES],
    ] {
        said.syncer(command)?;
    }
    said.ours("dirless-syncer", &["--config", "/srv/syncer/syncer.toml", "check"])?;
    Ok(hosts)
}

/// A classic host with the shared bearer.
fn classic_life(said: &mut Said) -> anyhow::Result<()> {
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
    said.run(host.ours("dirless-agent")?.args(["run", "--once"]))
}

#[test]
fn no_secret_shows_where_others_look() {
    isolated("no_secret_shows_where_others_look", || {
        machine::install(&["dirless-agent", "dirless-syncer"])?;
        Program::ours("dirless")?.args(["install", "--nss"]).succeed()?;
        let (watch, mut said) = (Watch::start()?, Said::default());
        let backend = backend()?;
        let [place, roots] = tenant(&mut said)?;
        let hosts = signed_life(&mut said)?;
        // As plain files, which everybody may read.
        let mirror = [
            "mirror",
            &place,
            "/srv/mirror",
            "--roots",
            &roots,
            "--token-file",
            TOKEN,
        ];
        said.good(Program::ours("dirless")?.args(mirror))?;
        classic_life(&mut said)?;
        let syncer = [
            "--config",
            "/srv/syncer/syncer.toml",
            "--log-format",
            "journald",
            "serve",
        ];
        let syncer = with_cores(Program::system("sh"), "dirless-syncer", &syncer)?;
        let agent = with_cores(hosts[0].command("sh"), "dirless-agent", &["run"])?;
        let revoke = [
            "revoke",
            "--syncer",
            "http://127.0.0.1:8214",
            "--token-file",
            REVOKES,
            "dora",
        ];
        said.good(Program::ours("dirless")?.args(revoke).args(["--reason", "left"]))?;
        let gone = || hosts[0].knows(&["alice"], &["dora"]).ok();
        eventually(WAIT, "dora to be gone", gone)?;
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

        let secrets = secrets_of_the_tenant(&[&hosts[0], &hosts[1]])?;
        // The search finds what is there: keys in the files of their owners, and nothing that only looks like one.
        let kept = secrets.kept_in(&PLACES);
        let sealed: Vec<_> = secrets
            .names()
            .into_iter()
            .filter(|name| !kept.contains(name))
            .collect();
        let may_be = |name: &str| {
            ["root ", "epoch ", "join secret", "join bearer", "recovery", "desk"]
                .iter()
                .any(|kind| name.starts_with(kind))
        };
        ensure!(sealed.iter().all(|name| may_be(name)), "{sealed:?}");

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
        let is_copy = |path: &std::path::PathBuf| path.starts_with("/run/layers/srv/upper/mirror/wrap");
        ensure!(open.iter().any(is_copy), "the copy of the tenant is nobody's: {open:?}");
        for path in open {
            let found = secrets.found_in(&std::fs::read(&path)?);
            ensure!(found.is_none(), "{found:?} shows in {}", path.display());
        }
        Ok(())
    })
    .unwrap();
}
