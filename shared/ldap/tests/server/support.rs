//! A server with a small tree, and the clients to ask it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dirless_directory::{AttributeName, Dn, Entry, Schema, Value};
use dirless_ldap::memory::Memory;
use dirless_ldap::{Config, Identity, Listener, Setup, Visibility, serve};
use ldap3_proto::LdapCodec;
use ldap3_proto::proto::{LdapMsg, LdapOp};
use tokio::runtime::Runtime;
use tokio_util::codec::{Decoder, Encoder};

pub(crate) const BASE: &str = "dc=example,dc=com";
/// `secret`, salted.
pub(crate) const HASH: &str = "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0";

pub(crate) fn entry(dn: &str, attributes: &[(&str, &str)]) -> Entry {
    let mut entry = Entry::new(Dn::parse(dn).unwrap());
    for (name, value) in attributes {
        entry.add(AttributeName::parse(name).unwrap(), Value::from(*value));
    }
    entry
}

pub(crate) fn user(number: usize) -> Entry {
    let uid = format!("user{number}");
    let id = (2000 + number).to_string();
    let uuid = format!("00000000-0000-4000-8000-{number:012}");
    entry(
        &format!("uid={uid},ou=users,{BASE}"),
        &[
            ("objectClass", "inetOrgPerson"),
            ("objectClass", "posixAccount"),
            ("uid", &uid),
            ("cn", &format!("User {}", 90_000 - number)),
            ("sn", "User"),
            ("uidNumber", &id),
            ("gidNumber", &id),
            ("homeDirectory", &format!("/home/{uid}")),
            ("userPassword", HASH),
            ("entryUUID", &uuid),
            ("modifyTimestamp", "20260531000000Z"),
        ],
    )
}

pub(crate) fn group(name: &str, members: &[&str]) -> Entry {
    let mut group = entry(
        &format!("cn={name},ou=groups,{BASE}"),
        &[("objectClass", "groupOfNames"), ("cn", name)],
    );
    for member in members {
        group.add(AttributeName::parse("member").unwrap(), Value::from(*member));
    }
    group
}

/// The tree: `users` users, and a group that holds a group that holds the first two.
pub(crate) fn tree(users: usize) -> Memory {
    let memory = Memory::new(Schema::standard(), vec![Dn::parse(BASE).unwrap()])
        .with_rule(Box::new(|who, key| {
            let password = || [AttributeName::parse("userPassword").unwrap()].into();
            match who {
                _ if key.windows(6).any(|part| part == b"hidden") => Visibility::Hidden,
                Identity::Peer(_) => Visibility::Whole,
                _ => Visibility::Without(password()),
            }
        }))
        .writable();
    memory.put(&entry(BASE, &[("objectClass", "domain"), ("dc", "example")]));
    for ou in ["users", "groups", "hidden"] {
        let dn = format!("ou={ou},{BASE}");
        memory.put(&entry(&dn, &[("objectClass", "organizationalUnit"), ("ou", ou)]));
    }
    for number in 0..users {
        memory.put(&user(number));
    }
    let dn = |number: usize| format!("uid=user{number},ou=users,{BASE}");
    memory.put(&group("inner", &[&dn(0), &dn(1)]));
    memory.put(&group("outer", &[&format!("cn=inner,ou=groups,{BASE}"), &dn(2)]));
    memory.put(&entry(
        &format!("uid=ghost,ou=hidden,{BASE}"),
        &[("objectClass", "account"), ("uid", "ghost"), ("userPassword", HASH)],
    ));
    memory
}

/// A running server. It ends with the value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) tls_address: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) memory: Arc<Memory>,
    folder: tempfile::TempDir,
    shutdown: Option<tokio::sync::oneshot::Sender<()>>,
    runtime: Option<Runtime>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(tree(10), Config::default())
    }

    pub(crate) fn with(memory: Memory, config: Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("ldapi");
        let certificate = folder.path().join("ca.pem");
        let authority = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = parameters.self_signed(&authority).unwrap();
        std::fs::write(&certificate, root.pem()).unwrap();
        let issuer = rcgen::Issuer::new(parameters, authority);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let leaf = names.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let memory = Arc::new(memory);
        let directory = Arc::clone(&memory);
        let (shutdown, stopped) = tokio::sync::oneshot::channel::<()>();
        let (address, tls_address) = runtime.block_on(async {
            let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let secure = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let local = tokio::net::UnixListener::bind(&socket).unwrap();
            let addresses = (plain.local_addr().unwrap(), secure.local_addr().unwrap());
            let setup = Setup {
                listeners: vec![Listener::Plain(plain), Listener::Tls(secure), Listener::Local(local)],
                tls: Some(Arc::new(tls)),
                config,
            };
            tokio::spawn(serve(setup, directory, async {
                let _ = stopped.await;
            }));
            addresses
        });
        Self {
            address,
            tls_address,
            socket,
            certificate,
            memory,
            folder,
            shutdown: Some(shutdown),
            runtime: Some(runtime),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ldap://{}", self.address)
    }

    pub(crate) fn ldapi(&self) -> String {
        format!("ldapi://{}", self.socket.to_string_lossy().replace('/', "%2F"))
    }

    /// Runs a tool of OpenLDAP and returns its status, output and errors.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new("timeout")
            .args(["20", program])
            .args(arguments)
            .env("LDAPTLS_CACERT", &self.certificate)
            .env("HOME", self.folder.path())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// `ldapsearch -x -LLL` as anonymous; it must succeed.
    pub(crate) fn search(&self, arguments: &[&str]) -> String {
        let url = self.url();
        let all: Vec<&str> = ["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &url]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let (status, output, errors) = self.tool("ldapsearch", &all);
        assert_eq!(status, 0, "{arguments:?}: {output}{errors}");
        output
    }

    pub(crate) fn client(&self) -> Client {
        Client::over(TcpStream::connect(self.address).unwrap())
    }

    pub(crate) fn stop(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A client that speaks through ldap3_proto, which the answers must satisfy.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: BytesMut,
    codec: LdapCodec,
}

impl Client {
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self {
            stream,
            buffer: BytesMut::new(),
            codec: LdapCodec::new(Some(64 << 20), Some(32)),
        }
    }

    pub(crate) fn bytes(message: LdapMsg) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        LdapCodec::default().encode(message, &mut bytes).unwrap();
        bytes.to_vec()
    }

    pub(crate) fn send(&mut self, message: LdapMsg) {
        self.stream.write_all(&Self::bytes(message)).unwrap();
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
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
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
                    LdapOp::SearchResultEntry(_) | LdapOp::IntermediateResponse(_) | LdapOp::SearchResultReference(_)
                );
            messages.push(message);
            if done {
                return messages;
            }
        }
    }
}

/// How many entries an LDIF output has.
pub(crate) fn count(ldif: &str) -> usize {
    ldif.lines().filter(|line| line.starts_with("dn:")).count()
}
