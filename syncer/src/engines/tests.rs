use std::collections::{BTreeMap, BTreeSet};

use dirless_directory::{AttributeName, Schema};
use proptest::prelude::*;

use super::*;

const IDENTITY: &str = "name: Athena\nrole: security\ndescription: Watches\nroles: [security, Security]\n\
    capabilities: [audit]\ntool_profiles: [scanner]\neffort_budget: 7\nowner: alice\nemail: athena@corp.example\n\
    metadata: {voice: calm}\n";
const CARD: &str = r#"{"name": "athena", "url": "https://athena.example/a2a", "description": "of the card",
    "version": "1.0", "capabilities": {"streaming": true, "pushNotifications": false},
    "skills": [{"id": "audit-logs", "name": "Audit"}]}"#;
const REGISTRATION: &str = r#"[{"name": "Athena", "port": 8770, "status": "approved", "trust_level": 3,
    "code_hash": "a1b2", "last_seen": "2026-05-31T01:02:03Z", "capabilities": ["audit", "sign"]},
    {"name": "Saga"}]"#;

fn base() -> Dn {
    Dn::parse("dc=d").unwrap()
}

fn make(engine: Engine, files: &[(Engine, &str, &str)]) -> Result<Vec<Entry>, FileError> {
    let files = files.iter().map(|(engine, path, text)| {
        let (path, text) = (path.into(), (*text).to_owned());
        (*engine, File { path, text })
    });
    let (inputs, base) = (Inputs::given(files), base());
    let tenants = ["acme", "platform", "public"].map(str::to_owned).into();
    let place = Place {
        base: &base,
        tenants: &tenants,
    };
    let mut entries = engine.entries(&inputs, &place)?;
    entries.sort_by_key(|entry| entry.dn().to_string());
    Ok(entries)
}

/// All entries follow the schema but for the owner, whom the tree adds.
fn good(engine: Engine, files: &[(Engine, &str, &str)]) -> BTreeMap<String, Entry> {
    let schema = Schema::standard();
    let entries = make(engine, files).unwrap();
    for entry in &entries {
        schema
            .check(entry)
            .unwrap_or_else(|violation| panic!("{}: {violation}", entry.dn()));
    }
    entries
        .into_iter()
        .map(|entry| (entry.dn().to_string(), entry))
        .collect()
}

fn texts<'e>(entry: &'e Entry, attribute: &str) -> Vec<&'e str> {
    let values = entry.values(&AttributeName::parse(attribute).unwrap()).iter();
    values.map(|value| value.as_str().unwrap()).collect()
}

fn certificate(names: &[&str]) -> (String, rcgen::Certificate) {
    let mut parameters =
        rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    parameters.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x90, 0x01, 0xff]));
    parameters.not_after = rcgen::date_time_ymd(2031, 2, 3);
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, "platform-root");
    let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    (certificate.pem(), certificate)
}

#[test]
fn an_agent_is_one_entry_out_of_four_files() {
    let files = [
        (Engine::Agents, "identities/athena.yaml", IDENTITY),
        (Engine::Agents, "cards/all.json", CARD),
        (
            Engine::Agents,
            "addresses.yaml",
            "Athena: [ATHENA@corp.example, sec@corp.example]\nloki: loki@corp.example\n",
        ),
        (Engine::Agents, "registrations/today.json", REGISTRATION),
    ];
    let all = good(Engine::Agents, &files);
    assert_eq!(
        all.keys().collect::<Vec<_>>(),
        [
            "cn=athena,ou=agents,dc=d",
            "cn=loki,ou=agents,dc=d",
            "cn=saga,ou=agents,dc=d"
        ]
    );
    let athena = &all["cn=athena,ou=agents,dc=d"];
    let expected: [(&str, &[&str]); 15] = [
        ("displayName", &["Athena"]),
        ("description", &["Watches"]),
        ("aitherUserType", &["agent"]),
        ("aitherAgentRole", &["security"]),
        ("aitherRoles", &["security"]),
        ("aitherCapabilities", &["audit", "sign"]),
        ("aitherA2ACapabilities", &["audit-logs", "streaming"]),
        ("aitherEffortBudget", &["7"]),
        ("mail", &["athena@corp.example", "sec@corp.example"]),
        ("aitherEndpoint", &["https://athena.example/a2a"]),
        ("aitherAgentPort", &["8770"]),
        ("aitherTrustLevel", &["3"]),
        ("aitherEntityStatus", &["approved"]),
        ("aitherLastSeen", &["20260531010203Z"]),
        ("aitherMetadata", &[r#"{"voice":"calm"}"#]),
    ];
    for (attribute, values) in expected {
        assert_eq!(texts(athena, attribute), values, "{attribute}");
    }
    let card: serde_json::Value = serde_json::from_str(texts(athena, "aitherA2ACard")[0]).unwrap();
    assert_eq!(card["version"], "1.0");
    assert_eq!(texts(&all["cn=saga,ou=agents,dc=d"], "aitherUserType"), ["agent"]);
}

#[test]
fn services_have_certificates_and_mail_laid_over_them() {
    let (pem, made) = certificate(&["genesis.example"]);
    let files = [
        (
            Engine::Services,
            "registry.yaml",
            "services:\n  Genesis:\n    port: 8001\n    depends_on: [Strata, postgres]\n    features: [plan]\n    enabled: true\n  \
             Strata:\n    storage_role: virtual_storage_system\n    storage_type: lake\n    absorbs: [Chronicle]\n    tenant: acme\n",
        ),
        (Engine::Certificates, "genesis.pem", pem.as_str()),
        (
            Engine::Certificates,
            "bindings.yaml",
            "bindings:\n  genesis: {certificate: genesis.pem, ca: ca-1}\n",
        ),
        (
            Engine::Mail,
            "smtp.toml",
            "provider = \"resend\"\nrelay = \"smtp.resend.com\"\nport = 587\nservices = [\"Genesis\"]\n",
        ),
    ];
    let all = good(Engine::Services, &files);
    let genesis = &all["cn=Genesis,ou=services,dc=d"];
    let fingerprint = dirless_seal::sha256_hex(made.der());
    let expected: [(&str, &[&str]); 8] = [
        ("aitherPort", &["8001"]),
        ("aitherDependencies", &["Strata", "postgres"]),
        ("aitherCertificateAuthority", &["ca-1"]),
        ("aitherCertificateSerial", &["9001ff"]),
        ("aitherCertificateNotAfter", &["20310203000000Z"]),
        ("aitherCertificateFingerprint", &[fingerprint.as_str()]),
        ("aitherMailRelay", &["smtp.resend.com"]),
        ("aitherEnabled", &["TRUE"]),
    ];
    for (attribute, values) in expected {
        assert_eq!(texts(genesis, attribute), values, "{attribute}");
    }
    let strata = &all["cn=Strata,ou=services,o=acme,ou=tenants,dc=d"];
    assert_eq!(
        texts(strata, "aitherMetadata"),
        [r#"{"absorbs":["Chronicle"],"storageType":"lake"}"#]
    );
    assert_eq!(texts(&all["cn=smtp,ou=services,dc=d"], "aitherPort"), ["587"]);

    let certificates = good(Engine::Certificates, &files);
    let own = &certificates["cn=genesis,ou=certificates,dc=d"];
    assert_eq!(texts(own, "aitherService"), ["cn=genesis,ou=services,dc=d"]);
    assert_eq!(texts(own, "aitherCertificateAuthority"), ["ca-1"]);
    let der = own.values(&AttributeName::parse("userCertificate;binary").unwrap());
    assert_eq!(der[0].as_bytes(), &made.der()[..]);
    let unbound = good(Engine::Certificates, &files[1..2]);
    assert_eq!(
        texts(unbound.values().next().unwrap(), "aitherCertificateAuthority"),
        ["platform-root"]
    );
}

#[test]
fn tenants_have_what_differs_beside_them_and_two_are_always_there() {
    let files = [
        (
            Engine::Tenants,
            "globex.yaml",
            "display_name: Globex\nplanTier: gold\nquotas: {seats: 5, api: {per_minute: 100}}\nslug: glx\nenabled: true\n",
        ),
        (
            Engine::Tenants,
            "globex/configs/workspace/defaults.yaml",
            "max_channels: 50\n",
        ),
        (Engine::Tenants, "acme/configs/theme.json", "{\"dark\": true}"),
    ];
    let all = good(Engine::Tenants, &files);
    let globex = &all["o=globex,ou=tenants,dc=d"];
    assert_eq!(texts(globex, "aitherPlanTier"), ["gold"]);
    assert_eq!(
        texts(globex, "aitherQuota"),
        [r#"{"api":{"per_minute":100},"seats":5}"#]
    );
    assert_eq!(texts(globex, "aitherSlug"), ["glx"]);
    let own = &all["cn=workspace.defaults,ou=configs,o=globex,ou=tenants,dc=d"];
    assert_eq!(texts(own, "aitherConfigData"), [r#"{"max_channels":50}"#]);
    assert_eq!(texts(own, "aitherConfigScope"), ["tenant"]);
    assert!(all.contains_key("cn=theme,ou=configs,o=acme,ou=tenants,dc=d"));
    assert!(all.contains_key("o=platform,ou=tenants,dc=d") && all.contains_key("o=public,ou=tenants,dc=d"));
    assert_eq!(good(Engine::Tenants, &[]).len(), 2);
}

#[test]
fn lists_are_groups_and_configs_are_json() {
    let lists = "lists:\n  Security Team:\n    address: security@corp.example\n    \
        members: [alice, 'agent:Athena', 'list:ops', 'group:eng', 'ext@else.example']\n    owner: alice\n  \
        ops: {address: ops@corp.example}\nmailboxes:\n  Desk@corp.example: {owner: bob, quota_bytes: 1000}\n";
    let all = good(Engine::Mail, &[(Engine::Mail, "lists.yaml", lists)]);
    let team = &all["cn=security-team,ou=distribution-lists,dc=d"];
    assert_eq!(texts(team, "aitherGroupType"), ["distribution_list"]);
    assert_eq!(
        texts(team, "member"),
        [
            "uid=alice,ou=users,dc=d",
            "cn=athena,ou=agents,dc=d",
            "cn=ops,ou=distribution-lists,dc=d",
            "cn=eng,ou=groups,dc=d"
        ]
    );
    assert_eq!(texts(team, "aitherOutsideMember"), ["ext@else.example"]);
    assert_eq!(
        texts(&all["cn=desk@corp.example,ou=mailboxes,dc=d"], "aitherQuotaBytes"),
        ["1000"]
    );

    let all = good(
        Engine::Configs,
        &[
            (Engine::Configs, "services.yaml", "AitherRelay: {port: 8300}\n"),
            (Engine::Configs, "security/permissions.toml", "on = true\n"),
            (Engine::Configs, "list.json", "[1, 2]"),
        ],
    );
    let data = |name: &str| texts(&all[&format!("cn={name},ou=configs,dc=d")], "aitherConfigData")[0].to_owned();
    assert_eq!(data("services"), r#"{"AitherRelay":{"port":8300}}"#);
    assert_eq!(data("security.permissions"), r#"{"on":true}"#);
    assert_eq!(data("list"), "[1,2]");
}

#[test]
fn what_is_wrong_names_file_and_line_and_says_what_to_do() {
    use Engine::{Agents, Certificates, Configs, Mail, Services, Tenants};
    let (pem, _) = certificate(&["x"]);
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    type Case<'a> = (Engine, &'a [(Engine, &'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        (
            Agents,
            &[(Agents, "identities/a.yaml", "name: a\nrole: x\ncolour: red\n")],
            "identities/a.yaml:3",
        ),
        (
            Agents,
            &[
                (Agents, "identities/a.yaml", "name: A b\n"),
                (Agents, "identities/b.yaml", "x: 1\n"),
            ],
            "identities/b.yaml:1",
        ),
        (
            Agents,
            &[
                (Agents, "identities/a.yaml", "name: A b\n"),
                (Agents, "identities/b.yaml", "id: a-B\n"),
            ],
            "is in identities/a.yaml too; keep one",
        ),
        (
            Agents,
            &[(Agents, "identities/a.yaml", "name: a\ntenant: nobody\n")],
            "a.yaml:2: agent a: there is no tenant \"nobody\"",
        ),
        (Agents, &[(Agents, "identities/a.yaml", "name: a/b\n")], "is no name"),
        (
            Agents,
            &[(Agents, "cards/a.json", "{\"url\": 1}")],
            "is neither an A2A card",
        ),
        (
            Agents,
            &[(Agents, "cards/a.json", "[{\"url\": 1}]")],
            "a card has no name",
        ),
        (
            Agents,
            &[(Agents, "addresses.yaml", "a: nonsense\n")],
            "addresses.yaml:1: \"nonsense\" is no mail address",
        ),
        (
            Agents,
            &[(Agents, "registrations/a.json", "{\"name\": \"a\", \"port\": 99999}")],
            "a registration:",
        ),
        (Agents, &[(Agents, "elsewhere/a.json", "{}")], "belongs to no part"),
        (
            Services,
            &[
                (Services, "a.yaml", "services:\n  A: {}\n"),
                (Services, "b.yaml", "services:\n  a: {}\n"),
            ],
            "b.yaml:2: service \"a\" is in a.yaml too",
        ),
        (
            Services,
            &[(Services, "a.yaml", "services:\n  A: {metadata: [1]}\n")],
            "metadata must be a table",
        ),
        (
            Services,
            &[(Mail, "smtp.yaml", "relay: r\nservices: [nobody]\n")],
            "smtp.yaml:2: there is no service \"nobody\"",
        ),
        (
            Services,
            &[(Mail, "smtp.yaml", "relay: r\npassword: hunter2\n")],
            "smtp.yaml:2",
        ),
        (
            Services,
            &[
                (Certificates, "c.pem", &pem),
                (Certificates, "b.yaml", "bindings:\n  X: {certificate: c.pem}\n"),
            ],
            "b.yaml:2: there is no service \"X\"",
        ),
        (
            Certificates,
            &[(Certificates, "b.yaml", "bindings:\n  X: {certificate: c.pem}\n")],
            "there is no c.pem in the folder",
        ),
        (Certificates, &[(Certificates, "k.pem", &key)], "holds a private key"),
        (
            Certificates,
            &[(Certificates, "k.pem", "hello\n")],
            "holds no certificate",
        ),
        (
            Certificates,
            &[(
                Certificates,
                "k.pem",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            )],
            "is damaged",
        ),
        (Tenants, &[(Tenants, "Acme.yaml", "{}")], "cannot name a tenant"),
        (Tenants, &[(Tenants, "acme/other.yaml", "{}")], "is neither acme.yaml"),
        (
            Tenants,
            &[(Tenants, "acme.yaml", "{}"), (Tenants, "acme/tenant.yaml", "{}")],
            "is in acme.yaml too",
        ),
        (
            Tenants,
            &[(Tenants, "nobody/configs/a.yaml", "{}")],
            "there is no tenant \"nobody\"",
        ),
        (
            Mail,
            &[(Mail, "l.yaml", "lists:\n  a: {address: x}\n")],
            "l.yaml:2: list a: \"x\" is no mail address",
        ),
        (
            Mail,
            &[(Mail, "l.yaml", "lists:\n  a: {address: a@b, members: ['list:c']}\n")],
            "there is no list \"c\"",
        ),
        (
            Mail,
            &[(Mail, "l.yaml", "lists:\n  a: {address: a@b, members: ['host:c']}\n")],
            "is neither agent:NAME",
        ),
        (
            Configs,
            &[(Configs, "a.yaml", "a: 1\n"), (Configs, "a.json", "{}")],
            "is in a.yaml too",
        ),
        (Configs, &[(Configs, "a.yaml", "a: 1\nb: [\n")], "a.yaml:"),
        (Configs, &[(Configs, "a b!.yaml", "a: 1\n")], "is no name"),
    ];
    for (engine, files, says) in cases {
        let error = make(*engine, files).unwrap_err().to_string();
        assert!(
            error.contains(says) && !error.contains("hunter2"),
            "{engine:?} {says}: {error}"
        );
    }
}

/// The sample that is shipped is taken by every engine, and by the source that it stands in.
#[tokio::test]
async fn the_sample_is_good() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples/platform");
    let settings = Engine::ALL.map(|engine| {
        let config = EngineConfig {
            folder: Some(folder.join(engine.name())),
            ..EngineConfig::default()
        };
        (engine, config)
    });
    let inputs = Inputs::read(&settings.into()).await;
    let (base, tenants) = (base(), BTreeSet::from(["globex".to_owned()]));
    let place = Place {
        base: &base,
        tenants: &tenants,
    };
    let mut entries = Vec::new();
    for engine in Engine::ALL {
        inputs.check(engine).unwrap();
        let made = engine.make().make(&inputs, &place).unwrap();
        for made in &made {
            Schema::standard().check(&made.entry).unwrap();
        }
        entries.extend(made);
    }
    assert_eq!(entries.len(), 13);
    let config = crate::config::Config::parse(
        &format!(
            "[backend]\nurl = \"https://d\"\n[[source]]\nkind = \"files\"\nfolder = {folder:?}\naccess = true\nengines = {:?}\n",
            Engine::ALL.map(Engine::name)
        ),
        std::path::Path::new("/x"),
    );
    let sources = crate::sources::SourceSetting::all(&config.unwrap());
    let crate::sources::SourceKind::Files(files) = &sources[0].kind else {
        panic!("it is a source of files")
    };
    let all = crate::sources::files::FileSource::new("platform", files)
        .gather()
        .await
        .unwrap();
    assert_eq!(
        (all.users.len(), all.groups.len(), all.access.unwrap().rules.len()),
        (2, 2, 5)
    );
}

/// Parts may stand elsewhere; errors then name the file that it really is.
#[tokio::test]
async fn parts_that_stand_elsewhere_are_named_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("own/identities")).unwrap();
    std::fs::write(at("own/identities/a.yaml"), "name: a\n").unwrap();
    std::fs::write(at("run.json"), "{\"name\": \"a\", \"port\": 1}").unwrap();
    let config = EngineConfig {
        folder: Some(at("own")),
        parts: BTreeMap::from([("registrations".to_owned(), at("run.json"))]),
    };
    let settings = BTreeMap::from([(Engine::Agents, config)]);
    let inputs = Inputs::read(&settings).await;
    let (base, tenants) = (base(), BTreeSet::new());
    let place = Place {
        base: &base,
        tenants: &tenants,
    };
    let made = Engine::Agents.make().make(&inputs, &place).unwrap();
    assert_eq!(texts(&made[0].entry, "aitherAgentPort"), ["1"]);
    std::fs::write(at("run.json"), "{\"port\": 1}").unwrap();
    let inputs = Inputs::read(&settings).await;
    let error = inputs.place(Engine::Agents, Engine::Agents.make().make(&inputs, &place).unwrap_err());
    assert_eq!(error.path, at("run.json"));
    std::fs::remove_file(at("run.json")).unwrap();
    let inputs = Inputs::read(&settings).await;
    assert!(
        inputs
            .check(Engine::Agents)
            .unwrap_err()
            .to_string()
            .contains("run.json: it is not there")
    );
    assert!(inputs.check(Engine::Configs).is_ok());
}

#[test]
fn an_engine_says_which_others_it_reads() {
    for engine in Engine::ALL {
        assert!(engine.reads().iter().all(
            |other| Engine::ALL.iter().position(|at| at == other) < Engine::ALL.iter().position(|at| *at == engine)
        ));
        let json = serde_json::to_string(&engine).unwrap();
        assert_eq!(json, format!("{:?}", engine.name()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The order of files is nobody's business, nor is which file says what.
    #[test]
    fn any_order_makes_the_same(order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(), split in any::<bool>()) {
        let files = [
            (Engine::Agents, "identities/athena.yaml", IDENTITY),
            (Engine::Agents, "identities/loki.yaml", "{}"),
            (Engine::Agents, "cards/a.json", CARD),
            (Engine::Agents, "cards/b.json", r#"{"cards": [{"name": "loki"}, {"name": "Saga"}]}"#),
            (Engine::Agents, "registrations/r.json", REGISTRATION),
            (Engine::Agents, "addresses.yaml", "loki: loki@corp.example\n"),
        ];
        let mut shuffled: Vec<_> = order.iter().map(|at| files[*at]).collect();
        if split {
            let cards = shuffled.iter().position(|file| file.1 == "cards/b.json").unwrap();
            shuffled[cards].2 = r#"{"name": "loki"}"#;
            shuffled.push((Engine::Agents, "cards/c.json", r#"[{"name": "Saga"}]"#));
        }
        prop_assert_eq!(make(Engine::Agents, &shuffled).unwrap(), make(Engine::Agents, &files).unwrap());
    }

    /// Whatever stands in a file, it is entries that the schema takes, or an error that names the file.
    #[test]
    fn any_file_is_entries_or_an_error(
        engine in proptest::sample::select(Engine::ALL.to_vec()),
        path in proptest::sample::select(vec![
            "identities/a.yaml", "cards/a.json", "addresses.toml", "registrations/r.yaml", "a.yaml", "a.pem", "smtp.yaml",
            "acme/configs/x.yaml", "lists.json",
        ]),
        text in prop_oneof![
            "[ -~\n]{0,80}",
            "(name|services|lists|bindings|role|a): [a-z{}\\[\\]:, ]{0,20}\n(port: [0-9]{0,6}\n)?",
        ],
    ) {
        match make(engine, &[(engine, path, &text)]) {
            Ok(entries) => {
                let names: BTreeSet<String> = entries.iter().map(|entry| entry.dn().to_string()).collect();
                prop_assert_eq!(names.len(), entries.len());
            }
            Err(error) => prop_assert_eq!(error.path, std::path::Path::new(path)),
        }
    }
}
