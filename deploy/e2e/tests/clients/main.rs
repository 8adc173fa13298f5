//! LDAP clients that applications and hosts really use, against a host's `dirless-ldapd`.

mod accounts;
mod libraries;
mod schema;
mod tools;
