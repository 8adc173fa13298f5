//! A module in this process over a table of its own.

use dirless_table::overlay::{self, Draft, Published};
use dirless_table::{TableMeta, WriteError, publish_bytes};
use nss_dirless::Module;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A folder for a table and a module that reads it. The module is leaked: it is static in life.
pub(crate) struct Host {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) module: &'static Module,
}

impl Host {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = CString::new(folder.path().join("table").as_os_str().as_bytes()).unwrap();
        let owner = std::fs::metadata(folder.path()).unwrap().uid();
        let path: &'static CStr = Box::leak(path.into_boxed_c_str());
        Self {
            folder,
            module: Box::leak(Box::new(Module::new(path, owner))),
        }
    }

    pub(crate) fn with(bytes: &[u8]) -> Self {
        let host = Self::new();
        host.publish(bytes);
        host
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("table")
    }

    /// Publishes an overlay.
    pub(crate) fn change(&self, generation: u64, fill: impl FnOnce(&mut Draft<'_>) -> Result<(), WriteError>) {
        let owner = std::fs::metadata(self.folder.path()).unwrap().uid();
        let meta = TableMeta {
            generation,
            created: 0,
            enumerate: true,
        };
        let published = overlay::publish(&self.path(), owner, meta, overlay::MOST_BYTES, fill).unwrap();
        assert!(matches!(published, Published::Overlay(_)), "nothing changed");
    }

    pub(crate) fn publish(&self, bytes: &[u8]) {
        publish_bytes(&self.path(), bytes).unwrap();
    }
}
