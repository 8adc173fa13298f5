//! A host's folder with a copy in it, and the server over it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use dirless_copy::{Draft, Group, Posix, Summary, User};
use dirless_directory::{Dn, Schema};
use dirless_program::Clock;
use dirless_testkit::{Outcome, Program, Running};
use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{LdapDerefAliases, LdapMsg, LdapOp, LdapSearchRequest, LdapSearchScope};
use ldap3_proto::{LdapCodec, LdapResultCode};
use tempfile::TempDir;
use tokio_util::codec::{Decoder, Encoder};

pub(crate) const BASE: &str = "dc=example,dc=com";

/// The folder of a host.
pub(crate) struct Host {
    pub(crate) folder: TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn copy(&self) -> PathBuf {
        self.folder.path().join("copy.db")
    }

    /// Publishes `count` users, `user0` and on, all of them in `everyone`; those of even number are in
    /// `even` as well. `shell` is everybody's shell.
    pub(crate) fn publish(&self, count: u32, shell: &str) -> Summary {
        let schema = Schema::standard();
        let mut draft = Draft::begin(&self.copy(), schema.clone(), "test", Clock::system().now(), false).unwrap();
        let mut posix = Posix::new(schema, Dn::parse(BASE).unwrap()).unwrap();
        let mut names: Vec<(String, u32)> = (0..count).map(|number| (format!("user{number}"), number)).collect();
        names.sort();
        posix.begin(&mut draft).unwrap();
        for (name, gid, step) in [("even", 3001, 2), ("everyone", 3000, 1)] {
            let members = names.iter().filter(|(_, number)| number % step == 0);
            let members = members.map(|(name, _)| name.as_str());
            posix.group(&mut draft, Group { name, gid }, members).unwrap();
        }
        posix.users(&mut draft).unwrap();
        for (name, number) in &names {
            let (gecos, home) = (format!("Person Number {number}"), format!("/home/{name}"));
            let user = User {
                name,
                uid: 100_000 + number,
                gid: 100_000 + number,
                gecos: &gecos,
                home: &home,
                shell,
                keys: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhmVTGUVH8BWEvFbbLhWPFnhX8QdzBPE2tQTfmGqsZM",
            };
            let even = (number % 2 == 0).then_some("even");
            posix
                .user(&mut draft, user, even.into_iter().chain(["everyone"]))
                .unwrap();
        }
        draft.finish(&format!("{count} {shell}")).unwrap()
    }

    /// A configuration file: free ports, the copy here, and `more`.
    pub(crate) fn configure(&self, more: &str) -> PathBuf {
        let path = self.folder.path().join("ldapd.toml");
        let text = format!("copy = \"{}\"\n{more}\n", self.copy().display());
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts the server on a free port and a socket here; `more` goes to the configuration.
    pub(crate) fn serve(&self, more: &str) -> Server {
        let socket = self.folder.path().join("ldapi");
        let listen = if more.contains("listen") {
            String::new()
        } else {
            format!("listen = [\"ldap://127.0.0.1:0\", \"ldapi://{}\"]\n", socket.display())
        };
        let path = self.configure(&(listen + more));
        let running = Program::ours("dirless-ldapd")
            .unwrap()
            .args(["run", "--config"])
            .arg(&path)
            .serve()
            .unwrap();
        let of = |scheme: &str| {
            let words = running.ready().split([' ', ',', '\n']);
            let mut found = words.filter_map(|word| word.strip_prefix(scheme)?.parse().ok());
            found.next()
        };
        Server {
            address: of("ldap://"),
            tls_address: of("ldaps://"),
            socket,
            running,
        }
    }
}

/// The program, running.
pub(crate) struct Server {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) tls_address: Option<SocketAddr>,
    pub(crate) socket: PathBuf,
    pub(crate) running: Running,
}

impl Server {
    pub(crate) fn url(&self) -> String {
        format!("ldap://{}", self.address.unwrap())
    }

    pub(crate) fn ldapi(&self) -> String {
        format!("ldapi://{}", self.socket.to_string_lossy().replace('/', "%2F"))
    }

    /// `ldapsearch -x -LLL` with these arguments.
    pub(crate) fn try_search(&self, arguments: &[&str]) -> Outcome {
        tool("ldapsearch", &["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &self.url()])
            .args(arguments)
            .run()
            .unwrap()
    }

    /// As [`Self::try_search`]; it must succeed.
    pub(crate) fn search(&self, arguments: &[&str]) -> String {
        let outcome = self.try_search(arguments);
        assert!(outcome.status.success(), "{arguments:?}: {outcome:?}");
        outcome.stdout
    }

    pub(crate) fn client(&self) -> Client {
        Client::over(TcpStream::connect(self.address.unwrap()).unwrap())
    }
}

/// A tool of OpenLDAP, that no file of this machine configures.
pub(crate) fn tool(name: &str, arguments: &[&str]) -> Program {
    Program::system(name).env("LDAPNOINIT", "1").args(arguments)
}

/// A search of the whole subtree for all user attributes.
pub(crate) fn search(id: i32, filter: &str) -> LdapMsg {
    let request = LdapSearchRequest {
        base: BASE.to_owned(),
        scope: LdapSearchScope::Subtree,
        aliases: LdapDerefAliases::Never,
        sizelimit: 0,
        timelimit: 0,
        typesonly: false,
        filter: ldap3_proto::parse_ldap_filter_str(filter).unwrap(),
        attrs: Vec::new(),
    };
    LdapMsg::new(id, LdapOp::SearchRequest(request))
}

pub(crate) fn with_control(mut message: LdapMsg, control: LdapControl) -> LdapMsg {
    message.ctrl.push(control);
    message
}

pub(crate) fn bytes(message: LdapMsg) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    LdapCodec::default().encode(message, &mut bytes).unwrap();
    bytes.to_vec()
}

/// A client that speaks through ldap3_proto.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: BytesMut,
    codec: LdapCodec,
}

impl Client {
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self {
            stream,
            buffer: BytesMut::new(),
            codec: LdapCodec::new(Some(64 << 20), Some(32)),
        }
    }

    pub(crate) fn send(&mut self, message: LdapMsg) {
        self.stream.write_all(&bytes(message)).unwrap();
    }

    /// The next message; none at the end.
    pub(crate) fn receive(&mut self) -> Option<LdapMsg> {
        loop {
            if let Some(message) = self.codec.decode(&mut self.buffer).unwrap() {
                return Some(message);
            }
            let mut bytes = [0; 65_536];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    /// Messages up to the one that ends that operation.
    pub(crate) fn until_done(&mut self, id: i32) -> Vec<LdapMsg> {
        let mut messages = Vec::new();
        loop {
            let message = self.receive().expect("an answer");
            let done = message.msgid == id
                && !matches!(
                    message.op,
                    LdapOp::SearchResultEntry(_) | LdapOp::IntermediateResponse(_)
                );
            messages.push(message);
            if done {
                return messages;
            }
        }
    }

    /// Reads until each of the searches `1..=last`, whose answers come interleaved, has ended well;
    /// each must bring `entries`.
    pub(crate) fn drain(&mut self, last: i32, entries: usize) {
        let mut counts = vec![0; usize::try_from(last).unwrap() + 1];
        let mut open = last;
        while open > 0 {
            let message = self.receive().expect("an answer");
            let id = usize::try_from(message.msgid).unwrap();
            match message.op {
                LdapOp::SearchResultEntry(_) => counts[id] += 1,
                LdapOp::SearchResultDone(done) => {
                    assert_eq!(done.code, LdapResultCode::Success, "search {id}");
                    assert_eq!(counts[id], entries, "search {id}");
                    open -= 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Searches, and returns how many entries came.
    pub(crate) fn count(&mut self, id: i32, filter: &str) -> usize {
        self.send(search(id, filter));
        let messages = self.until_done(id);
        let entries = messages
            .iter()
            .filter(|message| matches!(message.op, LdapOp::SearchResultEntry(_)));
        entries.count()
    }
}

/// How many entries an LDIF output has.
pub(crate) fn count(ldif: &str) -> usize {
    ldif.lines().filter(|line| line.starts_with("dn:")).count()
}
