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

const JOINED: &str = r#"
[trust]
tenant = "615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac"
roots = "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
policy = 1
compartments = ["all"]
"#;

#[test]
fn signed_files_are_at_the_backends_or_where_trust_says() {
    let backends = format!(
        "[backend]\nurl = \"https://a\"\nurls = [\"https://b\"]\nca_file = \"/etc/ca.pem\"\n{JOINED}code_file = \"/c\"\n"
    );
    let config = read(&backends).unwrap();
    let signed = config.signed().unwrap();
    assert_eq!(signed.urls(), ["https://a", "https://b"]);
    assert_eq!(signed.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(signed.code_file.as_deref(), Some(Path::new("/c")));
    assert!(config.unknown_keys.is_empty());
    for (from, expected) in [
        ("/srv/tenant", From::Folder("/srv/tenant".into())),
        ("file:///srv/tenant", From::Folder("/srv/tenant".into())),
        (
            "https://files.example/t",
            From::Url("https://files.example/t".to_owned()),
        ),
    ] {
        let text = JOINED.replace("[trust]", &format!("[trust]\nfrom = \"{from}\""));
        assert_eq!(read(&text).unwrap().signed().unwrap().from, expected);
    }
    let error = read(JOINED).unwrap_err().to_string();
    assert!(error.contains("backend.url"), "{error}");
    let error = read(&format!("{backends}ca_file = \"/x\"")).unwrap_err().to_string();
    assert!(error.contains("backend.ca_file"), "{error}");
}

#[test]
fn a_misspelt_word_in_trust_is_an_error_and_classic_ones_beside_it_are_told() {
    let error = read(&format!("{JOINED}from = \"/srv\"\nroot = 1\n"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("root"), "{error}");
    let both = read(&format!("{DEPLOYED}{JOINED}")).unwrap();
    assert!(both.classic().is_none());
    assert_eq!(both.signed().unwrap().urls(), ["http://127.0.0.1:4000"]);
    assert_eq!(both.unknown_keys, ["auth"]);
    // Not even what is wrong with them matters.
    let broken = DEPLOYED.replace("sekret-token-1", "");
    assert!(read(&format!("{broken}{JOINED}")).unwrap().signed().is_some());
}

#[test]
fn what_the_file_leaves_out_is_as_usual() {
    let lines = DEPLOYED.lines().filter(|line| !line.contains("_seconds"));
    let text = lines.map(|line| format!("{line}\n")).collect::<String>();
    let timing = read(&text).unwrap().timing;
    let usual = dirless_client::Timeouts::of_usual_host();
    assert_eq!(crate::trust::timeouts(&timing), usual);
    let seconds = |of: Rhythm| [of.interval, of.jitter, of.splay].map(|time| time.as_secs());
    assert_eq!(seconds(timing.rhythm()), [60, 6, 15]);
    let text = text.replace("[auth]", "splay_seconds = 40\njitter_seconds = 4\n[auth]");
    assert_eq!(seconds(read(&text).unwrap().timing.rhythm()), [60, 4, 40]);
}
