//! The demonstration: from people in AWS Identity Center to a login, an outage, and a leaver.

mod protocol;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use dirless_testkit::{Program, Running, eventually};

use crate::machine::{self, Person, getent};
use crate::site::{self, Site};
use crate::story::Story;

pub use protocol::Protocol;

/// Where the tree begins when nobody says otherwise.
const BASE: &str = "dc=dirless";

/// How long a change may take to reach the host: several cycles of the agent's two seconds.
const ARRIVAL: Duration = Duration::from_secs(30);

/// What runs on the host.
struct Host {
    agent: Option<Running>,
    _ldapd: Running,
    _sshd: Running,
    alice: Person,
}

/// Their ids at the source.
struct People {
    alice: String,
    bob: String,
}

/// Tells the whole story, on a machine of its own.
///
/// # Errors
/// The first step that did not go as it should.
pub fn run(story: &mut Story, protocol: Protocol) -> anyhow::Result<()> {
    let mut site = story.step(
        "AWS: people and groups in IAM Identity Center (moto stands in)",
        |story| aws(story, protocol),
    )?;
    let people = story.step("A newcomer and a group", |story| newcomers(story, &site))?;
    story.step("The backend, with its embedded database", |story| {
        backend(story, &mut site)
    })?;
    story.step("The tenant, and the syncer: read, number, seal and publish", |story| {
        protocol.begin(story, &site)
    })?;
    let mut host = story.step("A host joins and runs the agent", |story| host(story, &site, protocol))?;
    story.step("Linux knows alice, through glibc, from a local file", look_up)?;
    story.step("alice logs in through sshd with her key", |story| {
        login(story, &site, &host.alice)
    })?;
    story.step("The host answers LDAP by itself", |story| {
        ask_by_ldap(story)?;
        story.found("ldapsearch answers from the host's own copy of the directory");
        Ok(())
    })?;
    story.step("Everything but the host dies", |story| {
        outage(story, &mut site, &mut host)
    })?;
    story.step("alice leaves the company", |story| {
        leave(story, &mut site, &mut host, &people)?;
        protocol.verify(story, &site)
    })?;
    story.step("Everybody vanishes at the source, by mistake", |story| {
        mistake(story, &site, &people)
    })?;
    story.found(protocol.believed());
    story.summary();
    Ok(())
}

fn aws(story: &mut Story, protocol: Protocol) -> anyhow::Result<Site> {
    machine::install(&["dirless-backend", "dirless-syncer", "dirless-agent", "dirless-ldapd"])?;
    let site = protocol.site()?;
    site.publish_tree()?;
    story.remark(format!(
        "AWS answers at {}, the instance metadata service at {}",
        site.moto.url(),
        site.metadata_url()
    ));
    Ok(site)
}

fn newcomers(story: &mut Story, site: &Site) -> anyhow::Result<People> {
    let alice = site.moto.add_user("alice", "Alice Example")?;
    let bob = site.moto.add_user("bob", "Bob Example")?;
    site.moto.add_group("Engineering Team", &[&alice, &bob])?;
    site.moto.add_group("on-call", &[&alice])?;
    story.remark("alice and bob; groups \"Engineering Team\" (both) and \"on-call\" (alice)");
    Ok(People { alice, bob })
}

fn backend(story: &mut Story, site: &mut Site) -> anyhow::Result<()> {
    story.command("dirless-backend run &");
    let backend = site.start_backend()?;
    story.output(backend.ready());
    Ok(())
}

fn host(story: &mut Story, site: &Site, protocol: Protocol) -> anyhow::Result<Host> {
    protocol.join(story, site)?;
    quicken()?;
    tree_on_host()?;
    let install = ["install", "--nss", "--ssh", "--mkhomedir"];
    tell(
        story,
        "dirless install --nss --ssh --mkhomedir",
        Program::ours("dirless")?.args(install),
    )?;
    let sshd = machine::start_sshd()?;
    story.command("dirless-agent run &");
    let agent = start_agent()?;
    story.output(agent.ready());
    // The unit's RuntimeDirectory.
    std::fs::create_dir_all("/run/dirless")?;
    story.command("dirless-ldapd run &");
    let ldapd = Program::ours("dirless-ldapd")?.arg("run").serve()?;
    story.output(ldapd.ready());
    Ok(Host {
        agent: Some(agent),
        _ldapd: ldapd,
        _sshd: sshd,
        alice: Person::new("alice")?,
    })
}

fn look_up(story: &mut Story) -> anyhow::Result<()> {
    eventually(ARRIVAL, "alice on the host", || {
        getent("passwd", "alice").ok().flatten()
    })?;
    let passwd = tell(
        story,
        "getent passwd alice",
        Program::system("getent").args(["passwd", "alice"]),
    )?;
    ensure!(
        passwd.starts_with("alice:x:") && passwd.contains(":/home/alice:"),
        "not a record of hers: {passwd}"
    );
    let id = tell(story, "id alice", Program::system("id").arg("alice"))?;
    ensure!(
        id.contains("(engineering-team)") && id.contains("(on-call)"),
        "groups are missing: {id}"
    );
    tell(
        story,
        "getent group engineering-team",
        Program::system("getent").args(["group", "engineering-team"]),
    )?;
    story.found("getent and id answer through glibc's name service, from one file");
    Ok(())
}

fn login(story: &mut Story, site: &Site, alice: &Person) -> anyhow::Result<()> {
    let key = alice.public_key();
    let add = site
        .syncer()?
        .args(["local", "key", "add", "alice", "--file"])
        .arg(&key);
    tell(story, "dirless-syncer local key add alice --file id.pub", add)?;
    story.command("ssh alice@127.0.0.1 'whoami; pwd'");
    let said = eventually(ARRIVAL, "her key on the host", || {
        alice.ssh("whoami; pwd").ok().filter(|outcome| outcome.status.success())
    })?;
    story.output(&said.stdout);
    ensure!(
        said.stdout.starts_with("alice\n"),
        "logged in as somebody else: {}",
        said.stdout
    );
    story.found("alice logged in through Debian's sshd with her key");
    Ok(())
}

/// Asks the host's own LDAP server about alice, and about the tenants of the tree.
fn ask_by_ldap(story: &mut Story) -> anyhow::Result<()> {
    const SERVER: &str = "ldapi://%2Frun%2Fdirless%2Fldapi";
    for (filter, attribute, expected) in [
        ("(uid=alice)", "memberOf", "memberOf: cn=on-call,ou=groups,dc=dirless"),
        (
            "(objectClass=aitherTenant)",
            "o",
            "dn: o=platform,ou=tenants,dc=dirless",
        ),
    ] {
        let said = eventually(ARRIVAL, "an entry in the directory copy", || {
            let ask = Program::system("ldapsearch").args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", SERVER]);
            let outcome = ask.args(["-b", BASE, filter, attribute]).run().ok()?;
            outcome.stdout.contains(expected).then_some(outcome.stdout)
        })?;
        story.command(format!(
            "ldapsearch -x -LLL -H {SERVER} -b {BASE} '{filter}' {attribute}"
        ));
        story.output(said.trim_end());
    }
    Ok(())
}

fn outage(story: &mut Story, site: &mut Site, host: &mut Host) -> anyhow::Result<()> {
    story.command("kill -9 (backend); kill -9 (agent); no syncer, no network");
    site.kill_backend()?;
    host.agent.take().map_or(Ok(()), Running::kill)?;
    ensure!(
        site::call("GET", "/v1/health", &[], b"").is_err(),
        "the backend still answers"
    );
    let passwd = getent("passwd", "alice")?.context("alice is gone with the backend")?;
    story.command("getent passwd alice");
    story.output(passwd);
    tell(story, "id alice", Program::system("id").arg("alice"))?;
    story.command("ssh alice@127.0.0.1 whoami");
    let said = host.alice.ssh("whoami")?;
    story.output(&said.stdout);
    ensure!(said.stdout == "alice\n", "no login during the outage: {}", said.stderr);
    ask_by_ldap(story)?;
    story.found("backend and agent killed: getent, id, ssh and ldapsearch answer as before");
    Ok(())
}

fn leave(story: &mut Story, site: &mut Site, host: &mut Host, people: &People) -> anyhow::Result<()> {
    story.remark("Backend and agent are back; alice is removed in Identity Center.");
    site.start_backend()?;
    host.agent = Some(start_agent()?);
    site.moto.remove_user(&people.alice)?;
    tell(story, "dirless-syncer once", site.syncer()?.arg("once"))?;
    eventually(ARRIVAL, "alice to vanish", || {
        getent("passwd", "alice")
            .is_ok_and(|entry| entry.is_none())
            .then_some(())
    })?;
    story.command("getent passwd alice; echo $?");
    story.output("2");
    story.command("ssh alice@127.0.0.1 whoami");
    let said = host.alice.ssh("whoami")?;
    story.output(said.stderr.trim_end());
    ensure!(!said.status.success(), "she still gets in");
    tell(
        story,
        "dirless why alice",
        Program::ours("dirless")?.args(["why", "alice"]),
    )
    .ok();
    ensure!(getent("passwd", "bob")?.is_some(), "bob went with her");
    story.found("alice removed at the source: gone from the host, her login refused, bob untouched");
    Ok(())
}

fn mistake(story: &mut Story, site: &Site, people: &People) -> anyhow::Result<()> {
    site.moto.remove_user(&people.bob)?;
    story.command("dirless-syncer once; echo $?");
    let held = site.syncer()?.arg("once").run()?;
    story.output(held.stderr.trim_end());
    story.output(held.code());
    ensure!(held.code() == 11, "an empty directory was not held back");
    ensure!(getent("passwd", "bob")?.is_some(), "bob is gone");
    story.found("an empty directory is held back until a person accepts that very change");
    Ok(())
}

/// Starts the agent of this host.
///
/// # Errors
/// When it does not come up.
pub fn start_agent() -> anyhow::Result<Running> {
    Program::ours("dirless-agent")?.arg("run").serve()
}

/// Switches the directory copy on, with what the syncer publishes of its tree.
fn tree_on_host() -> anyhow::Result<()> {
    let path = Path::new("/etc/dirless/dirless-agent.toml");
    let text = std::fs::read_to_string(path)?;
    site::private(path, &format!("{text}\n[directory]\nsources = [\"tree\"]\n"))
}

/// Lets the agent look every second instead of every minute, so that a demonstration stays short.
///
/// # Errors
/// When the file that enrolment wrote is not as expected.
pub fn quicken() -> anyhow::Result<()> {
    let path = Path::new("/etc/dirless/dirless-agent.toml");
    let text = std::fs::read_to_string(path)?;
    let mut faster = String::new();
    for line in text.lines() {
        let wait = ["interval_seconds", "probe_interval_seconds", "readmit_after_seconds"];
        let key = line.split('=').next().unwrap_or(line).trim();
        if wait.contains(&key) {
            faster.push_str(&format!("{key} = 1\n"));
        } else {
            faster.push_str(line);
            faster.push('\n');
        }
    }
    // A host that joined has no such table yet.
    if !text.lines().any(|line| line.trim() == "[agent]") {
        faster.push_str("\n[agent]\ninterval_seconds = 1\nprobe_interval_seconds = 1\nreadmit_after_seconds = 1\n");
    }
    ensure!(faster != text, "no interval_seconds in {}", path.display());
    site::private(path, &faster)
}

/// Shows a command and what it says, and insists on success.
fn tell(story: &Story, shown: &str, program: Program) -> anyhow::Result<String> {
    story.command(shown);
    let outcome = program.run()?;
    story.output(outcome.stdout.trim_end());
    story.output(outcome.stderr.trim_end());
    ensure!(outcome.status.success(), "{shown} ended with {}", outcome.status);
    Ok(outcome.stdout)
}
