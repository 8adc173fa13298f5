//! `dirless-ldapd` as a program: over a copy made by the writer that agents use, asked by OpenLDAP's
//! tools and by raw messages.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod answers;
mod configuration;
mod large;
mod many;
mod replaced;
mod schema;
mod support;
