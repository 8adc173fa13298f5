//! The tree over LDAP, with the tools and libraries that operators and their scripts use.

mod libraries;
mod pass_through;
mod rules;
mod sync;
mod tools;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use dirless_syncer::serve::{PassThrough, ServeConfig};
use serde_json::json;

use crate::support::*;

const ALICE: &str = "uid=alice,ou=users,dc=dirless";
const BOB: &str = "uid=bob,ou=users,dc=dirless";

/// Who a tool speaks for.
#[derive(Clone, Copy)]
enum As {
    Root,
    Nobody,
    Entry(&'static str, &'static str),
}

/// A server with alice and bob, and clients for it.
struct Tools {
    site: Site,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Tools {
    async fn start(rules: &str) -> Self {
        Self::asking(rules, None).await
    }

    async fn asking(rules: &str, pass_through: Option<Arc<dyn PassThrough>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("ldapi");
        let text = format!(
            "[ldap]\nsocket = {:?}\nlisten = [\"127.0.0.1:0\"]\n{rules}",
            socket.display().to_string()
        );
        let config: ServeConfig = toml::from_str(&text).unwrap();
        config.check().unwrap();
        let site = Site::asking(config, pass_through).await;
        let tools = Self {
            site,
            socket,
            _folder: folder,
        };
        for uid in ["alice", "bob"] {
            let mut person = person(uid);
            person["userPassword"] = json!([quick(&format!("{uid} secret"))]);
            tools.site.put(&format!("uid={uid},ou=users,dc=dirless"), person).await;
        }
        tools
    }

    /// Where it listens by TCP.
    fn address(&self) -> SocketAddr {
        self.site.ldap[0]
    }

    /// Runs a tool: its exit code, which is the result code, and all it says.
    async fn run(&self, tool: &str, who: As, arguments: &[&str], input: &str) -> (i32, String) {
        let socket: String = self
            .socket
            .display()
            .to_string()
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let mut command = Command::new(tool);
        command.args(["-H", &format!("ldapi://{socket}")]);
        match who {
            As::Root => command.args(["-Q", "-Y", "EXTERNAL"]),
            As::Nobody => command.arg("-x"),
            As::Entry(dn, password) => command.args(["-x", "-D", dn, "-w", password]),
        };
        command.args(arguments);
        run(command, input).await
    }

    async fn expect(&self, code: i32, tool: &str, who: As, arguments: &[&str], input: &str) -> String {
        let (got, text) = self.run(tool, who, arguments, input).await;
        let is_it = match tool {
            // It tells the code only in words.
            "ldappasswd" if code != 0 => got == 1 && text.contains(&format!("({code})")),
            _ => got == code,
        };
        assert!(is_it, "{tool} {arguments:?} {input}: {got}, not {code}: {text}");
        text
    }

    async fn search(&self, who: As, arguments: &[&str]) -> String {
        let all: Vec<&str> = ["-LLL", "-b", "dc=dirless"].iter().chain(arguments).copied().collect();
        self.run("ldapsearch", who, &all, "").await.1
    }
}

/// Runs a program beside the server: its exit code and all it says.
async fn run(mut command: Command, input: &str) -> (i32, String) {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        // A program that refuses its arguments reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    });
    ran.await.unwrap()
}

/// A hash that takes no time.
fn quick(password: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA512, password.as_bytes());
    let text = base64::engine::general_purpose::STANDARD.encode(digest);
    format!("{{SHA512}}{text}")
}

/// A change of one entry, as LDIF.
fn modify(dn: &str, lines: &str) -> String {
    format!("dn: {dn}\nchangetype: modify\n{lines}\n")
}
