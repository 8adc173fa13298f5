//! Tables, and an in-process module over them.

use dirless_table::{GroupRecord, TableBuilder, TableMeta, UserRecord, publish_bytes};
use nss_dirless::Module;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

pub(crate) const META: TableMeta = TableMeta {
    generation: 1,
    created: 1_763_000_000,
    enumerate: true,
};

pub(crate) fn user<'a>(name: &'a str, uid: u32) -> UserRecord<'a> {
    UserRecord {
        name,
        uid,
        gid: uid,
        gecos: "Some One",
        home: "/home/x",
        shell: "/bin/sh",
        keys: "",
    }
}

/// alice (60001) in eng (2001) and ops (2000), bob (60002) in eng; `count` further users.
pub(crate) fn table(meta: TableMeta, count: u32) -> Vec<u8> {
    let mut builder = TableBuilder::in_memory(meta).unwrap();
    builder
        .add_group(&GroupRecord { name: "eng", gid: 2001 }, ["alice", "bob"])
        .unwrap();
    builder
        .add_group(&GroupRecord { name: "ops", gid: 2000 }, ["alice"])
        .unwrap();
    builder
        .add_group(
            &GroupRecord {
                name: "nobodys",
                gid: 2002,
            },
            [],
        )
        .unwrap();
    builder.add_user(&user("alice", 60_001)).unwrap();
    builder.add_user(&user("bob", 60_002)).unwrap();
    for n in 0..count {
        builder.add_user(&user(&format!("user{n}"), 100_000 + n)).unwrap();
    }
    builder.finish().unwrap().0.into_inner()
}

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

    pub(crate) fn publish(&self, bytes: &[u8]) {
        publish_bytes(&self.path(), bytes).unwrap();
    }
}
