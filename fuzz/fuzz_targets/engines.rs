//! What a platform keeps in files of its own: identity files and cards of agents, registries of
//! services, tenants, certificates, lists. Whatever stands in them becomes entries of different names
//! or an error that names one of the files.
//!
//! The input is files with a NUL between them; the first byte of each chooses what it is.

#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use dirless_directory::{Dn, Schema};
use dirless_syncer::engines::{Engine, Inputs, Place};
use dirless_syncer::sources::files::File;
use libfuzzer_sys::fuzz_target;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::standard);
const PLACES: [(Engine, &str); 14] = [
    (Engine::Agents, "identities/a.yaml"),
    (Engine::Agents, "identities/b.toml"),
    (Engine::Agents, "cards/a.json"),
    (Engine::Agents, "addresses.yaml"),
    (Engine::Agents, "registrations/a.json"),
    (Engine::Services, "registry.yaml"),
    (Engine::Tenants, "acme.yaml"),
    (Engine::Tenants, "acme/configs/theme.json"),
    (Engine::Certificates, "web.pem"),
    (Engine::Certificates, "bindings.yaml"),
    (Engine::Mail, "smtp.yaml"),
    (Engine::Mail, "lists.json"),
    (Engine::Configs, "security/permissions.toml"),
    (Engine::Configs, "theme.yaml"),
];

fuzz_target!(|data: &[u8]| {
    let mut files: Vec<(Engine, File)> = Vec::new();
    for part in data.split(|byte| *byte == 0).take(4) {
        let Some((choice, text)) = part.split_first() else {
            continue;
        };
        let (engine, path) = PLACES[usize::from(*choice) % PLACES.len()];
        let Ok(text) = std::str::from_utf8(text) else { continue };
        // A folder has no two files of one name.
        if files
            .iter()
            .all(|(other, file)| (*other, file.path.as_path()) != (engine, path.as_ref()))
        {
            let (path, text) = (path.into(), text.to_owned());
            files.push((engine, File { path, text }));
        }
    }
    let (inputs, base) = (Inputs::given(files.iter().cloned()), Dn::parse("dc=d").expect("a name"));
    let tenants = ["acme", "platform", "public"].map(str::to_owned).into();
    let place = Place {
        base: &base,
        tenants: &tenants,
    };
    for engine in Engine::ALL {
        match engine.entries(&inputs, &place) {
            Ok(entries) => {
                let names: BTreeSet<_> = entries.iter().map(|entry| SCHEMA.dn_key(entry.dn())).collect();
                assert!(!names.contains(&None), "a name that names nothing");
                for entry in &entries {
                    assert!(Dn::parse(&entry.dn().to_string()).as_ref() == Ok(entry.dn()));
                    let _ = SCHEMA.check(entry).is_ok();
                }
            }
            Err(error) => assert!(
                files.iter().any(|(_, file)| file.path == error.path),
                "{engine:?}: {error}"
            ),
        }
    }
});
