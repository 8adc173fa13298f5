//! Asking a module in this process, as glibc would.

use crate::host::Host;
use nss_dirless::Module;
use nss_dirless::abi::Outcome;
use std::ffi::{CStr, c_char};
use std::path::Path;

impl Host {
    pub(crate) fn uid_of(&self, name: &str) -> Result<u32, Outcome> {
        uid_of(self.module, name)
    }
}

/// Asks for a user by name with a buffer of the usual size.
pub(crate) fn uid_of(module: &Module, name: &str) -> Result<u32, Outcome> {
    let mut buffer = [0; 1024];
    let mut out = std::mem::MaybeUninit::<nss_dirless::abi::Passwd>::uninit();
    let thread = (&raw const buffer).addr();
    // SAFETY: the buffer and the structure are this function's own.
    let (outcome, out) = unsafe {
        let scratch = nss_dirless::Buffer::new((&raw mut buffer).cast::<c_char>(), buffer.len());
        let outcome = module.passwd(
            thread,
            nss_dirless::Key::Name(name.as_bytes()),
            out.as_mut_ptr(),
            scratch,
        );
        (outcome, out)
    };
    match outcome {
        // SAFETY: written on success; its strings are in the buffer.
        Outcome::Success => unsafe {
            let out = out.assume_init();
            assert_eq!(
                CStr::from_ptr(out.name).to_bytes(),
                name.as_bytes(),
                "somebody else's answer"
            );
            Ok(out.uid)
        },
        other => Err(other),
    }
}

/// Waits for something that must come true however slow the machine.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed().as_secs() < 60, "{what}: not within a minute");
        std::thread::yield_now();
    }
}

pub(crate) fn write_as_table(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}
