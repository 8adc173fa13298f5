//! The whole path, from people in AWS Identity Center to a login, with the real programs on a machine
//! of its own ([`dirless_testkit::isolated`]). The demo and the end-to-end tests are made of the same
//! parts: [`moto`] is AWS, [`site`] is what a customer runs, [`machine`] is a Linux host.
//!
//! It is a test crate: nothing here is shipped. What always holds: the machine it runs on is left as
//! it was.

#![forbid(unsafe_code)]

use std::path::PathBuf;

pub mod blob;
pub mod demo;
pub mod hostile;
pub mod http;
pub mod ldap_host;
pub mod machine;
pub mod moto;
pub mod recorded;
pub mod refusals;
pub mod secrets;
pub mod site;
pub mod story;
pub mod tenant;
pub mod vectors;
pub mod world;

/// The root of the repository that this was built from.
#[must_use]
pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
