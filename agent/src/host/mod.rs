//! The host's own files: `/etc/nsswitch.conf`, sshd's configuration, PAM, the certificate authority.
//! Each is edited, never replaced, only on an operator's word, and given back on removal.

pub mod ca;
mod edit;
pub mod install;
pub mod nsswitch;
pub mod pam;
mod places;
pub mod ssh_key;
pub mod sshd;
pub mod sshd_program;
