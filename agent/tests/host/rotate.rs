//! `dirless rotate-key` as an administrator types it.

use dirless_seal::Identity;

use crate::common::{Answer, TENANT};
use crate::enroll::{PUBLIC_KEY, Setting};

#[test]
fn rotating_registers_first_and_writes_then() {
    let setting = Setting::new();
    assert_eq!(setting.enroll(&["--tenant-id", TENANT]).code, 0);
    setting.fake.asked();
    let old = std::fs::read_to_string(setting.paths.age_key()).unwrap();

    // Without a new key: this host's key is registered again, nothing is written.
    assert_eq!(setting.run(&["rotate-key"], "").code, 0);
    let asked = setting.fake.asked();
    assert_eq!(
        (asked[0].line.as_str(), asked[0].header("x-tenant-id")),
        (PUBLIC_KEY, Some(TENANT))
    );
    let body: serde_json::Value = serde_json::from_slice(&asked[0].body).unwrap();
    assert_eq!(body, serde_json::json!({"age_public_key": setting.key()}));

    // A new one needs a yes, which nobody can give here.
    let said = setting.run(&["rotate-key", "--generate"], "");
    assert!(said.code == 1 && said.err.contains("--force"), "{}", said.err);
    setting.fake.answer(PUBLIC_KEY, Answer::json(409, "{}"));
    assert_eq!(setting.run(&["rotate-key", "--generate", "--force"], "").code, 1);
    assert_eq!(std::fs::read_to_string(setting.paths.age_key()).unwrap(), old);
    assert!(!setting.paths.config_folder().join("age.key.new").exists());

    // No answer at all: it may have arrived, so the new identity is not thrown away.
    setting.fake.answer(PUBLIC_KEY, Answer::Drop);
    assert_eq!(setting.run(&["rotate-key", "--generate", "--force"], "").code, 1);
    assert_eq!(std::fs::read_to_string(setting.paths.age_key()).unwrap(), old);
    assert!(setting.paths.config_folder().join("age.key.new").exists());

    setting.fake.answer(PUBLIC_KEY, Answer::json(200, "{}"));
    let said = setting.run(&["rotate-key", "--generate", "--force"], "");
    assert_eq!(said.code, 0, "{}", said.err);
    let new = Identity::parse(&std::fs::read_to_string(setting.paths.age_key()).unwrap()).unwrap();
    assert!(said.out.contains(new.recipient().as_str()));
    assert!(!setting.paths.config_folder().join("age.key.new").exists());
    assert_eq!(setting.run(&["rotate-key", "--token", "x"], "").code, 1);
}

#[test]
fn a_host_that_is_not_enrolled_rotates_with_everything_given() {
    let setting = Setting::new();
    let (url, token, key) = (setting.fake.url(), setting.file("token"), setting.file("key"));
    let said = setting.run(&["rotate-key", "--force"], "");
    assert!(said.code == 1 && said.err.contains("--server"), "{}", said.err);
    let words = [
        "rotate-key",
        "--force",
        "--server",
        &url,
        "--tenant-id",
        TENANT,
        "--token-file",
    ];
    let words = [
        &words[..],
        &[token.to_str().unwrap(), "--age-key", key.to_str().unwrap()],
    ]
    .concat();
    let said = setting.run(&words, "");
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(
        setting.fake.asked()[0].header("authorization"),
        Some("Bearer sekret-token-1")
    );
}
