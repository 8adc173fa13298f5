//! A host that answers LDAP queries: an agent that publishes a directory copy, and `dirless-ldapd` under
//! its own user, for clients that applications use.

use std::path::{Path, PathBuf};

use anyhow::Context;
use dirless_testkit::{Program, Running, eventually};
use serde_json::{Value, json};

use crate::site::private;
use crate::world::{ARRIVAL, KEYS_HELPER, World, appears, group, user};
use crate::{machine, repository};

/// Where the host's directory begins.
pub const BASE: &str = "dc=example,dc=com";
/// Everybody's password, of which only the hash travels.
pub const PASSWORD: &str = "correct horse";
/// Its `{SSHA}` (RFC 2307 section 5.3).
const HASH: &str = "{SSHA}LhKrkM9Fy+zlstjdD7Kv2s6QvhBzYWx0";
/// Where it listens, in the words of OpenLDAP.
pub const LDAPI: &str = "ldapi://%2Frun%2Fdirless%2Fldapi";

/// The host.
#[derive(Debug)]
pub struct LdapHost {
    /// Its agent and its backend.
    pub world: World,
    _server: Running,
}

impl LdapHost {
    /// Alice, bob and thirty others; alice and carol are in `crew`, all in `everyone`. The tree has
    /// passwords and mail addresses of alice and bob, and a service.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start() -> anyhow::Result<Self> {
        let mut world = World::start()?;
        let path = "/etc/dirless/dirless-agent.toml";
        let table = format!("[directory]\nbase = \"{BASE}\"\nsources = [\"tree\"]\n");
        private(path, &format!("{}\n{table}", std::fs::read_to_string(path)?))?;
        install()?;
        world.restart_agent()?;
        world.put("tree", &json!({"users": [], "groups": [], "entries": entries()}))?;
        world.put("local", &people(&[]))?;
        appears("alice")?;
        let server = serve()?;
        eventually(ARRIVAL, "alice in the directory copy", || {
            // From the tree and from the accounts, which may come in two copies.
            let whole = format!("(&(mail=alice@example.com)(memberOf=cn=crew,ou=groups,{BASE}))");
            let found = search(&[&whole, "1.1"]).ok()?;
            found.contains("uid=alice").then_some(())
        })
        .with_context(|| server.log())?;
        Ok(Self { world, _server: server })
    }
}

/// What the unit's RuntimeDirectory= and LoadCredential= make.
const HANDED_OVER: &str = "/run/dirless/ldapd.toml";

/// Installs the server with its user and folders.
///
/// # Errors
/// When the package or what it needs cannot be made.
pub fn install() -> anyhow::Result<()> {
    machine::install(&["dirless-ldapd"])?;
    Program::system("systemd-sysusers")
        .arg("dirless-ldapd.conf")
        .succeed()?;
    Program::system("systemd-tmpfiles")
        .args(["--create", "dirless-ldapd.conf"])
        .succeed()?;
    Program::system("install")
        .args(["-d", "-o", "dirless-ldapd", "-g", "dirless-ldapd", "/run/dirless"])
        .succeed()?;
    std::fs::copy("/etc/dirless/ldapd.toml", HANDED_OVER)?;
    Ok(())
}

/// Starts the server as the unit runs it: nobody in particular, with the one capability that port 389 takes.
///
/// # Errors
/// When it does not start.
pub fn serve() -> anyhow::Result<Running> {
    Program::system("setpriv")
        .env("DIRLESS_LDAPD_CONFIG", HANDED_OVER)
        .args(["--reuid=dirless-ldapd", "--regid=dirless-ldapd", "--clear-groups"])
        .args([
            "--inh-caps=-all,+net_bind_service",
            "--ambient-caps=-all,+net_bind_service",
        ])
        .args(["--bounding-set=-all,+net_bind_service", "--no-new-privs", "--"])
        .args(["/usr/bin/dirless-ldapd", "run"])
        .serve_on(389)
}

/// The snapshot of accounts, with `more` of them.
#[must_use]
pub fn people(more: &[(&str, i64)]) -> Value {
    let mut names = vec![
        ("alice".to_owned(), 100_001),
        ("bob".to_owned(), 100_002),
        ("carol".to_owned(), 100_003),
    ];
    names.extend((0..29).map(|number| (format!("person{number}"), 100_100 + number)));
    names.extend(more.iter().map(|(name, uid)| ((*name).to_owned(), *uid)));
    let everyone: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    let users: Vec<Value> = names.iter().map(|(name, uid)| user(name, *uid)).collect();
    let groups = [
        group("crew", 110_001, &["alice", "carol"]),
        group("everyone", 110_002, &everyone),
    ];
    json!({"users": users, "groups": groups})
}

/// The entries of the tree.
#[must_use]
pub fn entries() -> Vec<Value> {
    let person = |name: &str| {
        json!({"dn": format!("uid={name},ou=users,{BASE}"), "attributes": {
            "objectClass": ["top", "person", "organizationalPerson", "inetOrgPerson", "aitherUser"],
            "uid": [name], "mail": [format!("{name}@example.com")], "userPassword": [HASH],
        }})
    };
    let service = json!({"dn": format!("cn=web,ou=services,{BASE}"), "attributes": {
        "objectClass": ["top", "aitherService"], "cn": ["web"],
    }});
    vec![person("alice"), person("bob"), service]
}

/// `ldapsearch` below the base, over the local socket.
///
/// # Errors
/// When it fails; then with what it said.
pub fn search(arguments: &[&str]) -> anyhow::Result<String> {
    Program::system("ldapsearch")
        .env("LDAPNOINIT", "1")
        .args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", LDAPI, "-b", BASE])
        .args(arguments)
        .succeed()
}

/// What this host has of somebody in the group eng: account, membership, key, entry, and the group's entry that names them.
///
/// # Errors
/// When it cannot be asked.
pub fn traces(name: &str) -> anyhow::Result<Vec<&'static str>> {
    let keys = Program::system(KEYS_HELPER).arg(name).run()?.stdout;
    let all = [
        ("account", machine::getent("passwd", name)?.is_some()),
        (
            "member",
            machine::getent("group", "eng")?.is_some_and(|group| group.contains(name)),
        ),
        ("key", keys.contains("ssh-")),
        (
            "entry",
            search(&[&format!("(uid={name})"), "1.1"])?.contains(&format!("uid={name}")),
        ),
        (
            "member's entry",
            search(&["(cn=eng)", "memberUid", "member"])?.contains(name),
        ),
    ];
    let found = all.into_iter().filter_map(|(what, there)| there.then_some(what));
    Ok(found.collect())
}

/// The Python that deploy/setup makes, with ldap3 in it.
///
/// # Errors
/// When it is not there.
pub fn python() -> anyhow::Result<PathBuf> {
    tool("target/tools/venv/bin/python")
}

/// The folder in which deploy/setup installs modules for Node.
///
/// # Errors
/// When it is not there.
pub fn node_modules() -> anyhow::Result<PathBuf> {
    tool("target/tools/node")
}

fn tool(path: &str) -> anyhow::Result<PathBuf> {
    let path = repository().join(path);
    let there = Path::new(&path).exists();
    there
        .then_some(path.clone())
        .with_context(|| format!("{} is missing; run: deploy/setup test", path.display()))
}
