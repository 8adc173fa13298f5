//! `dirless enroll` and `rotate-key` as an administrator types them: arguments, answers of the
//! backend, what is said, the exit code, and the files that are there afterwards.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use dirless_agent::config;
use dirless_agent::paths::Paths;
use dirless_seal::Identity;

use crate::common::{Answer, Fake, SECRET, TENANT};

const ENROLL: &str = "POST /v1/enrollment/enroll";
pub(crate) const PUBLIC_KEY: &str = "PUT /v1/snapshot/public-key";

pub(crate) struct Setting {
    pub(crate) fake: Fake,
    folder: tempfile::TempDir,
    pub(crate) paths: Paths,
    identity: Identity,
}

pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Setting {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(&folder.path().join("root"));
        let identity = Identity::generate();
        let setting = Self {
            fake: Fake::start(),
            folder,
            paths,
            identity,
        };
        std::fs::write(setting.file("token"), format!("{SECRET}\n")).unwrap();
        let key = format!(
            "# created: today\n# public key: {}\n{}\n",
            setting.key(),
            *setting.identity.expose()
        );
        std::fs::write(setting.file("key"), key).unwrap();
        setting
            .fake
            .answer(ENROLL, Answer::json(200, r#"{"status": "enrolled"}"#));
        setting
            .fake
            .answer(PUBLIC_KEY, Answer::json(200, r#"{"status": "ok"}"#));
        setting
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn key(&self) -> String {
        self.identity.recipient().as_str().to_owned()
    }

    pub(crate) fn run(&self, words: &[&str], input: &str) -> Said {
        self.run_with(words, input, &[])
    }

    fn run_with(&self, words: &[&str], input: &str, environment: &[(&str, &str)]) -> Said {
        // A session of its own has no terminal, so nothing can be asked.
        let mut child = Command::new("setsid")
            .arg("--wait")
            .arg(env!("CARGO_BIN_EXE_dirless"))
            .args(words)
            .arg("--root")
            .arg(self.file("root"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        for secret in [SECRET, self.identity.expose().as_str()] {
            let told = said.out.contains(secret) || said.err.contains(secret);
            assert!(!told, "{words:?} told a secret: {}{}", said.out, said.err);
        }
        said
    }

    pub(crate) fn enroll(&self, more: &[&str]) -> Said {
        let (url, token, key) = (self.fake.url(), self.file("token"), self.file("key"));
        let mut words = vec!["enroll", "--server", &url, "--token-file", token.to_str().unwrap()];
        words.extend(["--age-key", key.to_str().unwrap()]);
        words.extend(more);
        self.run(&words, "")
    }

    fn written(&self) -> Vec<PathBuf> {
        [self.paths.age_key(), self.paths.hmac_key(), self.paths.config()]
            .into_iter()
            .filter(|path| path.exists())
            .collect()
    }
}

#[test]
fn success_writes_the_files_of_deployed_tools_and_no_more() {
    let setting = Setting::new();
    let said = setting.enroll(&["--tenant-id", &format!("aws___{TENANT}"), "--agent-id", "node-a"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains(TENANT) && said.out.contains(&setting.key()),
        "{}",
        said.out
    );
    assert_eq!(setting.written(), [setting.paths.age_key(), setting.paths.config()]);
    for path in setting.written() {
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }
    assert_eq!(
        std::fs::metadata(setting.paths.config_folder()).unwrap().mode() & 0o7777,
        0o700
    );
    // Deployed tools need the identity at the very beginning of the file.
    assert!(
        std::fs::read_to_string(setting.paths.age_key())
            .unwrap()
            .starts_with("AGE-SECRET-KEY-1")
    );
    let config = config::load(&setting.paths.config(), &setting.paths, "web-1").unwrap();
    assert_eq!(
        (config.classic().unwrap().tenant.as_str(), config.agent_id.as_str()),
        (TENANT, "node-a")
    );
    assert_eq!(config.classic().unwrap().secret.expose(), SECRET);

    let asked = setting.fake.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), Some("Bearer sekret-token-1"));
    assert_eq!(asked[0].header("x-tenant-id"), None);
    let body: serde_json::Value = serde_json::from_slice(&asked[0].body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"tenant_id": TENANT, "age_public_key": setting.key()})
    );
}

#[test]
fn every_answer_has_its_words_and_code_and_a_refusal_writes_nothing() {
    const OTHER: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
    let mismatch = format!(r#"{{"error":"key mismatch","registered_key":"{OTHER}"}}"#);
    let cases = [
        (
            Answer::json(401, r#"{"error":"x"}"#),
            vec!["does not accept this token"],
        ),
        (Answer::json(401, ""), vec!["does not accept this token"]),
        (
            Answer::json(403, r#"{"error":"suspended"}"#),
            vec!["enrollment rejected - suspended"],
        ),
        (Answer::json(403, "no json"), vec!["enrollment rejected - "]),
        (Answer::json(409, &mismatch), vec!["key mismatch", OTHER, "rotate-key"]),
        (
            Answer::json(422, r#"{"error":"bad tenant"}"#),
            vec!["invalid request - bad tenant"],
        ),
        (Answer::json(302, ""), vec!["unexpected response"]),
        (Answer::json(404, "{}"), vec!["unexpected response"]),
        (Answer::json(500, "{}"), vec!["unexpected response"]),
        (Answer::Drop, vec!["unexpected response"]),
        (Answer::Garbage, vec!["unexpected response"]),
    ];
    let setting = Setting::new();
    for (answer, words) in cases {
        setting.fake.answer(ENROLL, answer.clone());
        let said = setting.enroll(&["--tenant-id", TENANT]);
        assert_eq!(said.code, 1, "{answer:?}: {}", said.err);
        for word in words {
            assert!(said.err.contains(word), "{answer:?}: {word} is not in {}", said.err);
        }
        assert_eq!(setting.written(), Vec::<PathBuf>::new(), "{answer:?} left files");
    }
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_sent() {
    let setting = Setting::new();
    std::fs::write(setting.file("empty"), " \n").unwrap();
    std::fs::write(
        setting.file("two"),
        format!("{0}\n{0}\n", *Identity::generate().expose()),
    )
    .unwrap();
    let path = |name: &str| setting.file(name).to_string_lossy().into_owned();
    let (url, token, key) = (setting.fake.url(), path("token"), path("key"));
    let (empty, two, absent) = (path("empty"), path("two"), path("absent"));
    let cases: [(&[&str], &str); 12] = [
        (
            &["--server", &url, "--token", "x", "--tenant-id", "t"],
            "command lines are visible",
        ),
        (
            &["--server", &url, "--token=x", "--tenant-id", "t"],
            "command lines are visible",
        ),
        (
            &[
                "--server",
                "ftp://h",
                "--token-file",
                &token,
                "--age-key",
                &key,
                "--tenant-id",
                "t",
            ],
            "https://",
        ),
        (
            &[
                "--server",
                &url,
                "--token-file",
                &absent,
                "--age-key",
                &key,
                "--tenant-id",
                "t",
            ],
            "absent",
        ),
        (
            &[
                "--server",
                &url,
                "--token-file",
                &empty,
                "--age-key",
                &key,
                "--tenant-id",
                "t",
            ],
            "holds nothing",
        ),
        (
            &[
                "--server",
                &url,
                "--token-file",
                &token,
                "--age-key",
                &two,
                "--tenant-id",
                "t",
            ],
            "--age-key",
        ),
        (
            &[
                "--server",
                &url,
                "--token-file",
                &token,
                "--age-key",
                &token,
                "--tenant-id",
                "t",
            ],
            "--age-key",
        ),
        (
            &[
                "--server",
                &url,
                "--token-file",
                &token,
                "--age-key",
                &key,
                "--tenant-id",
                "a b",
            ],
            "--tenant-id",
        ),
        (
            &[
                "--server",
                &url,
                "--token-file",
                &token,
                "--age-key",
                &key,
                "--account",
                "12",
            ],
            "--account",
        ),
        (
            &[
                "--server",
                &url,
                "--token-file",
                "-",
                "--age-key",
                "-",
                "--tenant-id",
                "t",
            ],
            "only one",
        ),
        (
            &["--server", &url, "--age-key", &key, "--tenant-id", "t"],
            "no terminal",
        ),
        (
            &["--server", &url, "--token-file", &token, "--tenant-id", "t"],
            "no terminal",
        ),
    ];
    for (words, expected) in cases {
        let said = setting.run(&[&["enroll"], words].concat(), "");
        assert_eq!(said.code, 1, "{words:?}: {}{}", said.out, said.err);
        assert!(said.err.contains(expected), "{words:?}: {}", said.err);
    }
    assert_eq!(setting.run(&["enroll"], "").code, 2);
    assert!(setting.fake.asked().is_empty() && setting.written().is_empty());
}

#[test]
fn secrets_come_from_standard_input_too() {
    let setting = Setting::new();
    let (url, key, token) = (setting.fake.url(), setting.file("key"), setting.file("token"));
    let words = [
        "enroll",
        "--server",
        &url,
        "--tenant-id",
        TENANT,
        "--token-file",
        "-",
        "--age-key",
    ];
    let said = setting.run(&[&words[..], &[key.to_str().unwrap()]].concat(), &format!("{SECRET}\n"));
    assert_eq!(said.code, 0, "{}", said.err);
    let words = [
        "enroll",
        "--overwrite-existing",
        "--server",
        &url,
        "--tenant-id",
        TENANT,
        "--age-key-file",
        "-",
    ];
    let words = [&words[..], &["--token-file", token.to_str().unwrap()]].concat();
    assert_eq!(setting.run(&words, &setting.identity.expose()).code, 0);
}

#[test]
fn an_enrolment_is_replaced_only_when_that_is_said() {
    let setting = Setting::new();
    assert_eq!(setting.enroll(&["--tenant-id", TENANT]).code, 0);
    let before = std::fs::read(setting.paths.config()).unwrap();
    setting.fake.asked();
    let said = setting.enroll(&["--tenant-id", "another"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("--overwrite-existing"), "{}", said.err);
    assert!(setting.fake.asked().is_empty());
    assert_eq!(std::fs::read(setting.paths.config()).unwrap(), before);
    assert_eq!(
        setting.enroll(&["--tenant-id", "another", "--overwrite-existing"]).code,
        0
    );
    let config = config::load(&setting.paths.config(), &setting.paths, "web-1").unwrap();
    assert_eq!(config.classic().unwrap().tenant.as_str(), "another");
    // A refused replacement leaves the old one whole.
    let before = std::fs::read(setting.paths.config()).unwrap();
    setting.fake.answer(ENROLL, Answer::json(401, "{}"));
    assert_eq!(
        setting.enroll(&["--tenant-id", "third", "--overwrite-existing"]).code,
        1
    );
    assert_eq!(std::fs::read(setting.paths.config()).unwrap(), before);
}

#[test]
fn the_tenant_is_derived_from_an_account_given_or_learnt() {
    let setting = Setting::new();
    assert_eq!(setting.enroll(&["--account", "123456789012"]).code, 0);
    // The vector of the wire reference.
    let config = config::load(&setting.paths.config(), &setting.paths, "web-1").unwrap();
    assert_eq!(config.classic().unwrap().tenant.as_str(), TENANT);
    assert_eq!(
        std::fs::read_to_string(setting.paths.hmac_key()).unwrap().trim(),
        SECRET
    );

    let metadata = Fake::start();
    metadata.answer(
        "PUT /latest/api/token",
        Answer::Reply(200, Vec::new(), b"T0KEN".to_vec()),
    );
    let document = r#"{"accountId":"123456789012","region":"eu-west-1"}"#;
    metadata.answer(
        "GET /latest/dynamic/instance-identity/document",
        Answer::json(200, document),
    );
    let (url, token, key) = (setting.fake.url(), setting.file("token"), setting.file("key"));
    let words = [
        "enroll",
        "--overwrite-existing",
        "--server",
        &url,
        "--token-file",
        token.to_str().unwrap(),
        "--age-key",
        key.to_str().unwrap(),
    ];
    let endpoint = metadata.url();
    let said = setting.run_with(&words, "", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint)]);
    if rustix::process::geteuid().is_root() {
        assert_eq!(said.code, 0, "{}", said.err);
        assert_eq!(metadata.asked()[1].header("x-aws-ec2-metadata-token"), Some("T0KEN"));
        let nobody = setting.run_with(
            &words,
            "",
            &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")],
        );
        assert_eq!(nobody.code, 1);
        assert!(nobody.err.contains("--tenant-id"), "{}", nobody.err);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_found_before_the_backend_hears_of_it() {
    let setting = Setting::new();
    std::fs::create_dir_all(setting.file("root/etc")).unwrap();
    std::fs::write(setting.paths.config_folder(), "a file in the way").unwrap();
    let said = setting.enroll(&["--tenant-id", TENANT]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("nothing was sent"), "{}", said.err);
    assert!(setting.fake.asked().is_empty());
}
