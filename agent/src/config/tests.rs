use std::os::unix::fs::PermissionsExt;

use super::*;

/// The file that deployed enrolment writes.
const DEPLOYED: &str = r#"
[backend]
url = "http://127.0.0.1:4000"

[agent]
id                     = "node-a"
interval_seconds       = 60
probe_interval_seconds = 60
readmit_after_seconds  = 300
probe_timeout_seconds  = 5
fetch_timeout_seconds  = 30

[auth]
hmac_secret = "sekret-token-1"
tenant_id   = "aws___615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac"

[local]
db_path      = "/var/lib/dirless/local.db"
age_key_path = "/etc/dirless/age.key"
"#;

fn read(text: &str) -> Result<Config, ConfigError> {
    from_text(
        text,
        Path::new("/etc/dirless/dirless-agent.toml"),
        &Paths::system(),
        "web-1",
    )
}

#[test]
fn the_deployed_file_is_read_as_it_stands() {
    let config = read(DEPLOYED).unwrap();
    assert_eq!(config.classic().unwrap().urls, ["http://127.0.0.1:4000"]);
    assert_eq!(config.agent_id, "node-a");
    assert_eq!(
        config.classic().unwrap().tenant.as_str(),
        "615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac"
    );
    assert_eq!(config.timing.interval, Duration::from_secs(60));
    assert_eq!(config.sources, [SourceName::aws_identity_center(), SourceName::local()]);
    assert_eq!(config.age_key_path, Path::new("/etc/dirless/age.key"));
    assert!(config.unknown_keys.is_empty() && config.enumerate);
    assert!(!format!("{config:?}").contains("sekret"));
}

#[test]
fn unknown_keys_are_listed_and_do_not_stop_anything() {
    let text = DEPLOYED.replace(
        "[local]",
        "[local]\ncolour = 1\n[metrics]\nport = 1\n[local.deep]\nx = 1\n[log]\nshade = 2",
    );
    let text = text
        .replace("db_path      =", "[other]\ndb_path =")
        .replace("age_key_path", "key");
    assert_eq!(
        read(&text).unwrap().unknown_keys,
        ["local.colour", "local.deep", "log.shade", "metrics", "other"]
    );
}

#[test]
fn our_own_keys_are_all_optional() {
    let text = DEPLOYED.replace("[agent]", "urls = [\"https://b.example\"]\nca_file = \"/etc/ca.pem\"\n[ssh]\ntrusted_ca_keys = [\"SHA256:x\"]\n[agent]\nenumerate = false\njitter_seconds = 3\nsplay_seconds = 0\nsources = [\"corp\", \"local\"]");
    let config = read(&text).unwrap();
    assert_eq!(
        config.classic().unwrap().urls,
        ["http://127.0.0.1:4000", "https://b.example"]
    );
    assert_eq!(config.sources.len(), 2);
    assert_eq!(config.timing.jitter, Duration::from_secs(3));
    assert_eq!(config.trusted_ca_keys, ["SHA256:x"]);
    assert!(!config.enumerate);
}

#[test]
fn errors_name_the_key_and_the_fix() {
    let cases = [
        ("url = \"http://127.0.0.1:4000\"", "", "backend.url", "https://"),
        ("http://127.0.0.1:4000", "ftp://x", "backend.url", "https://"),
        ("http://127.0.0.1:4000", "https://u:p@x", "backend.url", "hmac_secret"),
        (
            "hmac_secret = \"sekret-token-1\"",
            "",
            "auth.hmac_secret",
            "dirless enroll",
        ),
        ("\"sekret-token-1\"", "\"a\\nb\"", "auth.hmac_secret", "enroll again"),
        ("tenant_id ", "x ", "auth.tenant_id", "dirless enroll"),
        (
            "interval_seconds       = 60",
            "interval_seconds = 0",
            "agent.interval_seconds",
            "1 to 86400",
        ),
        ("\"node-a\"", "\"\"", "agent.id", "host name"),
        (
            "[auth]",
            "sources = [\"public-key\"]\n[auth]",
            "agent.sources",
            "public-key",
        ),
        (
            "[auth]",
            "sources = [\"local\", \"local\"]\n[auth]",
            "agent.sources",
            "twice",
        ),
        (
            "[auth]",
            "hmac_secret_file = \"/x\"\n[auth]\nhmac_secret_file = \"/x\"",
            "auth.hmac_secret",
            "keep one",
        ),
    ];
    for (from, to, key, fix) in cases {
        let text = read(&DEPLOYED.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(text.contains(key) && text.contains(fix), "{key}: {text}");
        assert!(!text.contains("sekret"), "{text}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_an_error_without_the_secret() {
    let text = read(&DEPLOYED.replace("interval_seconds       = 60", "interval_seconds = \"soon\""))
        .unwrap_err()
        .to_string();
    assert!(text.contains("dirless-agent.toml"), "{text}");
    let text = read("hmac_secret = \"sekret").unwrap_err().to_string();
    assert!(text.contains("line 1") && !text.contains("sekret"), "{text}");
}

#[test]
fn a_file_that_others_can_open_is_refused_with_the_command_that_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dirless-agent.toml");
    std::fs::write(&path, DEPLOYED).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = load(&path, &Paths::system(), "web-1").unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(load(&path, &Paths::system(), "web-1").unwrap().agent_id, "node-a");
}

#[test]
fn the_environment_names_another_file_for_root_only() {
    let lookup = |name: &str| (name == "DIRLESS_AGENT_CONFIG").then(|| "/tmp/mine.toml".to_owned());
    assert_eq!(path(&Paths::system(), &lookup, 0), Path::new("/tmp/mine.toml"));
    assert_eq!(path(&Paths::system(), &lookup, 1000), Paths::system().config());
}

proptest::proptest! {
    #[test]
    fn no_text_whatever_makes_reading_panic(text in "\\PC{0,60}(\n\\PC{0,40}){0,6}") {
        let _ = read(&text);
    }

    #[test]
    fn mangled_files_never_leak_the_secret(at in 0usize..700, with in "\\PC{0,3}") {
        let at = at.min(DEPLOYED.len());
        let text = format!("{}{with}{}", &DEPLOYED[..at], &DEPLOYED[at..]);
        if let Err(error) = read(&text) {
            proptest::prop_assert!(!error.to_string().contains("sekret-token"), "{}", error);
        }
    }
}
