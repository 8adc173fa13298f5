//! Reading a source in a test, and what came out of it.

use std::collections::BTreeMap;
use std::path::Path;

use dirless_program::Secret;
use dirless_syncer::sources::ldap::{LdapConfig, LdapSource, Verdict};
use dirless_syncer::sources::{Source, SourceDirectory, SourceError, Unwatched};

/// An LDAP source of the table `text`.
pub(crate) fn source(text: &str) -> LdapSource {
    let config: LdapConfig = toml::from_str(text).unwrap();
    LdapSource::open("corp", &config, &|_| None).unwrap()
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

/// Does the server take the password?
pub(crate) fn verify(source: &LdapSource, user: &str, password: &str) -> Verdict {
    run(source.verify(user, &Secret::new(password.to_owned()))).unwrap()
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
