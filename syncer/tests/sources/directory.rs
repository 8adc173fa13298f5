//! Reading a source in a test, and what came out of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use dirless_program::Secret;
use dirless_syncer::sources::ldap::{Bounds, LdapConfig, LdapSource, Verdict, VerifyPassword, Who};
use dirless_syncer::sources::{Progress, Source, SourceDirectory, SourceError, Unwatched};

/// An LDAP source of the table `text`, of which every read is a whole one.
pub(crate) fn source(text: &str) -> LdapSource {
    open(text, Bounds::new(10_000, 1_000), None)
}

/// The same; what was read last is kept in `folder`.
pub(crate) fn following(text: &str, folder: &Path) -> LdapSource {
    open(text, Bounds::new(10_000, 1_000), Some(folder))
}

/// The same with bounds of its own.
pub(crate) fn open(text: &str, bounds: Bounds, folder: Option<&Path>) -> LdapSource {
    let config: LdapConfig = toml::from_str(text).unwrap();
    LdapSource::open("corp", &config, bounds, folder, &|_| None).unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

/// A whole read.
pub(crate) fn read(source: &LdapSource) -> Result<SourceDirectory, SourceError> {
    run(source.read(&Unwatched))
}

/// Sees whether a read is a whole one: only then are groups listed.
#[derive(Default)]
struct Watch(AtomicBool);

impl Progress for Watch {
    fn groups(&self, _so_far: usize) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A read, and whether everything was read for it.
pub(crate) fn follow(source: &LdapSource) -> (SourceDirectory, bool) {
    let watch = Watch::default();
    let directory = run(source.read(&watch)).unwrap();
    (directory, watch.0.into_inner())
}

/// What the source says of its servers.
pub(crate) fn probe(source: &LdapSource) -> Result<String, SourceError> {
    run(source.probe()).map(|lines| lines.join("\n"))
}

/// Does the server take the password of the user of that login name?
pub(crate) fn verify(source: &LdapSource, user: &str, password: &str) -> Verdict {
    verify_who(source, &Who::Name(user.to_owned()), password)
}

/// Does the server take the password?
pub(crate) fn verify_who(source: &LdapSource, who: &Who, password: &str) -> Verdict {
    run(source.verify_password(who, &Secret::new(password.to_owned()))).unwrap()
}

/// The object id of the user of that login name.
pub(crate) fn id(directory: &SourceDirectory, name: &str) -> String {
    directory.users().find(|user| user.name == name).unwrap().id.clone()
}

/// A test authority in `folder`: `ca.pem`, and `cert.pem` and `key.pem` of a server at 127.0.0.1.
pub(crate) fn authority(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let server_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let server = params.signed_by(&server_key, &issuer).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), server.pem()).unwrap();
    secret(&folder.join("key.pem"), &server_key.serialize_pem());
}

/// Login names, in order.
pub(crate) fn users(directory: &SourceDirectory) -> Vec<String> {
    let mut names: Vec<_> = directory.users().map(|user| user.name.clone()).collect();
    names.sort();
    names
}

/// Login names of the members by group name.
pub(crate) fn members(directory: &SourceDirectory) -> BTreeMap<String, Vec<String>> {
    let names: BTreeMap<_, _> = directory
        .users()
        .map(|user| (user.id.as_str(), user.name.clone()))
        .collect();
    let groups = directory.groups().map(|group| {
        let mut members: Vec<_> = directory.members(&group.id).map(|id| names[id].clone()).collect();
        members.sort();
        (group.name.clone(), members)
    });
    groups.collect()
}

/// A file that only its owner reads.
pub(crate) fn secret(path: &Path, text: &str) {
    dirless_program::fs::publish(path, 0o600, text.as_bytes()).unwrap();
}
