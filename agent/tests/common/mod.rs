//! A whole host in a temporary folder: sources, keys, rules, account files and a worker.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use dirless_agent::paths::Paths;
use dirless_agent::pipeline::{Options, PublishError, Report, SourceNote, SourceState, publish_command};
use dirless_program::Clock;
use dirless_seal::Identity;
use dirless_table::Table;
use tempfile::TempDir;

pub(crate) const OPEN: &str = r#"{"enforce_group_memberships":false,"host_group_rules":[]}"#;
pub(crate) const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhmVTGUVH8BWEvFbbLhWPFnhX8QdzBPE2tQTfmGqsZM";

pub(crate) struct Host {
    pub(crate) paths: Paths,
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) identity: Identity,
    _folder: Option<TempDir>,
}

impl Host {
    /// A host with both sources empty and open access rules.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut host = Self::at(folder.path());
        host._folder = Some(folder);
        host
    }

    pub(crate) fn at(root: &Path) -> Self {
        let paths = Paths::under(root);
        for (folder, mode) in [
            (paths.config_folder(), 0o700),
            (paths.state_folder(), 0o755),
            (paths.agent_folder(), 0o700),
            (paths.sources_folder(), 0o700),
            (paths.table_folder(), 0o755),
        ] {
            dirless_program::fs::ensure_folder(&folder, mode).unwrap();
        }
        let identity = Identity::generate();
        let mut options = Options::new("web-1".into());
        options.owner = fs::metadata(root).unwrap().uid();
        let host = Self {
            paths,
            options,
            clock: Clock::manual("2026-11-22T12:00:00Z".parse().unwrap()),
            identity,
            _folder: None,
        };
        fs::write(
            host.paths.age_key(),
            format!("# tenant\n{}\n", host.identity.expose().as_str()),
        )
        .unwrap();
        fs::set_permissions(host.paths.age_key(), Permissions::from_mode(0o600)).unwrap();
        fs::write(
            host.paths.passwd(),
            "root:x:0:0:root:/root:/bin/bash\nsvc:x:1500:1500::/:/bin/sh\n",
        )
        .unwrap();
        fs::write(host.paths.group(), "root:x:0:\nsudo:x:27:\nsvc:x:1500:\n").unwrap();
        host.rules(OPEN);
        host.absent("local");
        host.absent("aws-identity-center");
        host
    }

    pub(crate) fn rules(&self, text: &str) {
        fs::write(self.paths.access_rules(), text).unwrap();
    }

    fn note(&self, source: &str, state: SourceState) {
        let note = SourceNote {
            state,
            encrypted: true,
            etag: Some(format!("\"{source}-1\"")),
            registered_key: Some(self.identity.recipient().to_string()),
            snapshot_recipient: None,
            fetched_at: Some("2026-11-22T11:59:00Z".into()),
        };
        let bytes = serde_json::to_vec(&note).unwrap();
        dirless_program::fs::publish(&self.paths.source_note(source), 0o600, &bytes).unwrap();
    }

    pub(crate) fn absent(&self, source: &str) {
        self.note(source, SourceState::Absent);
    }

    /// Seals `json` and puts it where the daemon puts a fetched body.
    pub(crate) fn put(&self, source: &str, json: &str) {
        let mut bytes = Vec::new();
        dirless_seal::seal(&self.identity.recipient(), &mut json.as_bytes(), &mut bytes).unwrap();
        self.put_bytes(source, &bytes);
    }

    pub(crate) fn put_bytes(&self, source: &str, bytes: &[u8]) {
        dirless_program::fs::publish(&self.paths.sealed(source), 0o600, bytes).unwrap();
        self.note(source, SourceState::Present);
    }

    /// Runs the worker in this process; its exit code and its line.
    pub(crate) fn publish(&self) -> Result<(u8, String), PublishError> {
        let mut line = Vec::new();
        let code = publish_command(&self.paths, &self.options, &self.clock, &mut line)?;
        Ok((code, String::from_utf8(line).unwrap()))
    }

    pub(crate) fn report(&self) -> Report {
        Report::load(&self.paths.report()).unwrap().unwrap()
    }

    pub(crate) fn table(&self) -> Table {
        let table = Table::open(&self.paths.table(), self.options.owner).unwrap();
        table.verify().unwrap();
        table
    }

    pub(crate) fn users(&self) -> Vec<String> {
        let table = self.table();
        let mut names: Vec<_> = table
            .users()
            .map(|user| String::from_utf8(user.unwrap().name().to_vec()).unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn user(name: &str, uid: u32) -> String {
    format!(r#"{{"username":"{name}","uid":{uid},"gid":{uid},"gecos":"","home":"/home/{name}","shell":"/bin/bash"}}"#)
}

pub(crate) fn users(list: &[(&str, u32)]) -> String {
    let users: Vec<_> = list.iter().map(|(name, uid)| user(name, *uid)).collect();
    format!(r#"{{"users":[{}]}}"#, users.join(","))
}
