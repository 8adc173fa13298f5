//! The names of a tenant's files, and of those in the state folder.

use dirless_seal::{Digest, Label, VerifyingKey};

pub(super) fn policy(version: u64) -> String {
    format!("policy/{version}")
}

pub(super) fn head(publisher: &Label) -> String {
    format!("head/{publisher}")
}

pub(super) fn manifest(publisher: &Label, source: &Label, compartment: &Label, version: u64) -> String {
    format!("manifest/{publisher}/{source}/{compartment}/{version}")
}

/// The folder of the log beside that manifest.
pub(super) fn log(publisher: &Label, source: &Label, compartment: &Label, version: u64) -> String {
    format!("log/{publisher}/{source}/{compartment}/{version}")
}

pub(super) fn blob(digest: &Digest) -> String {
    format!("blob/{digest}")
}

pub(super) fn nodes(enroller: &Label, version: u64) -> String {
    format!("nodes/{enroller}/{version}")
}

/// The folder of an enroller's lists.
pub(super) fn node_lists(enroller: &Label) -> String {
    format!("nodes/{enroller}")
}

pub(super) fn wraps(compartment: &Label, epoch: u64) -> String {
    format!("wrap/{compartment}/{epoch}")
}

pub(super) fn wrap(compartment: &Label, epoch: u64, name: &Label) -> String {
    format!("wrap/{compartment}/{epoch}/{name}")
}

/// The mailbox of join requests.
pub(super) const JOIN: &str = "join";

pub(super) fn mailbox(code: &Label) -> String {
    format!("{JOIN}/{code}")
}

/// In the state folder: what was published.
pub(super) fn book(publisher: &Label) -> String {
    format!("book/{publisher}.json")
}

/// In the state folder: the successors of a publisher's first key.
pub(super) fn line(first: &VerifyingKey) -> String {
    format!("line/{}-{}.json", first.name(), first.hash())
}

/// In the state folder: the secret half of successor `number` of a publisher's first key.
pub(super) fn successor_key(first: &VerifyingKey, number: usize) -> String {
    format!("publisher-key/{}-{}/{number}.key", first.name(), first.hash())
}

/// In the state folder: what is to be published of a source.
pub(super) fn stock(source: &Label) -> String {
    format!("stock/{source}.json")
}

/// The folder of those.
pub(super) const STOCK: &str = "stock";
/// The folder of what they name.
pub(super) const BODIES: &str = "body";

/// In the state folder: a plaintext, compressed, by the digest of the plaintext.
pub(super) fn body(plaintext: &str) -> String {
    format!("{BODIES}/{plaintext}.gz")
}

/// In the state folder: which records that plaintext has, if it is a snapshot.
pub(super) fn index(plaintext: &str) -> String {
    format!("{BODIES}/{plaintext}.index")
}

/// In the state folder: an epoch of a compartment, without its key.
pub(super) fn epoch(compartment: &Label) -> String {
    format!("epoch/{compartment}.json")
}

/// In the state folder: the key of an epoch.
pub(super) fn epoch_key(compartment: &Label, number: u64) -> String {
    format!("epoch-key/{compartment}/{number}.age")
}

/// The folder of a compartment's keys.
pub(super) fn epoch_keys(compartment: &Label) -> String {
    format!("epoch-key/{compartment}")
}

/// In the state folder: the newest node list, signed.
pub(super) fn node_list(enroller: &Label) -> String {
    format!("nodes/{enroller}")
}

/// In the state folder: what an enroller knows of the policies.
pub(super) fn memory(enroller: &Label) -> String {
    format!("memory/{enroller}")
}

/// In the state folder: the version of the last list of each other enroller.
pub(super) const ENROLLERS: &str = "enrollers.json";
/// In the state folder: the hosts that a backend knows, by name, and what their keys are called there.
pub(super) const REGISTERED: &str = "registered.json";
/// In the state folder: requests that are for another enroller.
pub(super) const LEFT: &str = "left.json";
/// In the state folder: what hosts call themselves.
pub(super) const HOSTS: &str = "hosts.json";
/// The folder of join codes.
pub(super) const CODES: &str = "code";

/// In the state folder: a join code.
pub(super) fn code(code: &Label) -> String {
    format!("{CODES}/{code}.json")
}
