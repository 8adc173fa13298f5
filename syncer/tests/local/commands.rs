use dirless_seal::Identity;
use serde_json::json;
use wiremock::MockServer;

use crate::desk::{Desk, again};
use crate::fake::Fake;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhmVTGUVH8BWEvFbbLhWPFnhX8QdzBPE2tQTfmGqsZM";

struct Bench {
    _server: MockServer,
    fake: Fake,
    identity: Identity,
    desk: Desk,
}

async fn bench(tags: bool) -> Bench {
    let identity = Identity::generate();
    let (server, fake) = Fake::start(&identity, tags).await;
    let desk = Desk::new(&server.uri(), again(&identity), None);
    Bench {
        _server: server,
        fake,
        identity,
        desk,
    }
}

#[tokio::test]
async fn a_day_of_edits_against_either_kind_of_backend() {
    for tags in [true, false] {
        let bench = bench(tags).await;
        let desk = &bench.desk;
        let said = desk
            .types("user add alice --gecos Alice --shell /bin/zsh")
            .await
            .unwrap();
        assert_eq!(said, "user alice added: uid 100001, gid 100000\n");
        let said = desk.types("user add alice --gecos Alice").await.unwrap();
        assert!(said.contains("nothing to do"), "{said}");
        desk.types("user add bob").await.unwrap();
        desk.types("group add eng").await.unwrap();
        let said = desk.types("group member add eng alice carol").await.unwrap();
        assert!(
            said.contains("alice, carol added to eng") && said.contains("synced ones: carol"),
            "{said}"
        );
        let said = desk
            .type_with("key add alice", &format!("{KEY} laptop\n"))
            .await
            .unwrap();
        assert!(said.starts_with("added to alice: SHA256:"), "{said}");
        desk.types("user set bob --gecos Bobby --group eng").await.unwrap();
        desk.types("user rename bob robert").await.unwrap();
        desk.types("user add gone").await.unwrap();
        desk.types("user remove gone").await.unwrap();
        let stored = bench.fake.local(&bench.identity);
        assert_eq!(
            stored["users"],
            json!([
                {"username": "alice", "uid": 100_001, "gid": 100_000, "gecos": "Alice", "home": "/home/alice",
                 "shell": "/bin/zsh", "email": null},
                {"username": "robert", "uid": 100_002, "gid": 100_001, "gecos": "Bobby", "home": "/home/bob",
                 "shell": "/bin/bash", "email": null},
            ])
        );
        assert_eq!(stored["groups"][0]["members"], json!(["alice", "robert"]));
        assert_eq!(stored["ssh_keys"], json!({"alice": format!("{KEY} laptop")}));
        assert_eq!(stored["ledger"]["retired"][0]["number"], 100_003);
        assert_eq!(stored["source"], "local");
        assert!(stored["sequence"].as_u64().unwrap() > 1_600_000_000);
        let listed = desk.types("user list").await.unwrap();
        assert!(listed.contains("robert  100002  100001  Bobby"), "{listed}");
        let listed = desk.types("group list").await.unwrap();
        assert!(listed.contains("eng            100001  alice,carol"), "{listed}");
        let listed = desk.types("key list").await.unwrap();
        assert!(
            listed.contains("ssh-ed25519  SHA256:") && listed.contains("laptop"),
            "{listed}"
        );
        let shown = desk.types("show --json").await.unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), stored);
        let shown = desk.types("show").await.unwrap();
        assert!(shown.contains("not enforced: everyone"), "{shown}");
        let said = desk.types("key remove alice laptop").await.unwrap();
        assert_eq!(said, "removed from alice: 1 key\n");
    }
}

#[tokio::test]
async fn access_rules_are_edited_against_either_kind_of_backend() {
    for tags in [true, false] {
        let bench = bench(tags).await;
        let desk = &bench.desk;
        let refused = desk.types("access enforce on").await.unwrap_err();
        assert!(refused.contains("--lock-everyone-out"), "{refused}");
        let said = desk.types("access allow eng web-1").await.unwrap();
        assert!(
            said.starts_with("eng may use web-1\nnote: rules are not enforced"),
            "{said}"
        );
        desk.types("access allow ops db").await.unwrap();
        desk.types("access enforce on").await.unwrap();
        desk.types("access deny ops db").await.unwrap();
        assert_eq!(
            bench.fake.rules(),
            json!({"enforce_group_memberships": true, "host_group_rules": [{"group": "eng", "host": "web-1"}]})
        );
        let refused = desk.types("access deny eng web-1").await.unwrap_err();
        assert!(refused.contains("nobody could use any host"), "{refused}");
        let shown = desk.types("access show").await.unwrap();
        assert!(
            shown.starts_with("enforced") && shown.contains("eng    web-1"),
            "{shown}"
        );
        let shown = desk.types("access show --json").await.unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            bench.fake.rules()
        );
    }
}

#[tokio::test]
async fn a_plan_writes_nothing() {
    let bench = bench(true).await;
    for line in [
        "user add alice --plan",
        "group add eng --plan",
        "access allow eng web-1 --plan",
    ] {
        let said = bench.desk.types(line).await.unwrap();
        assert!(said.starts_with("plan, nothing is written:\n"), "{said}");
    }
    assert_eq!(bench.fake.writes(), 0);
}

#[tokio::test]
async fn a_portals_snapshot_keeps_what_is_in_it_and_gets_no_sequence() {
    let bench = bench(true).await;
    let portal = json!({
        "users": [{"username": "dave", "uid": 100_001, "gid": 100_000, "gecos": "dave", "home": "/home/dave",
                   "shell": "/bin/bash", "email": "dave@example.com"}],
        "groups": [{"name": "dirless-local", "gid": 100_000, "members": ["dave"]}],
        "ssh_keys": {"cloudy": "ssh-rsa whatever", "dave": KEY},
        "portal": {"theme": "dark"},
    });
    bench.fake.put(&portal, &bench.identity.recipient());
    bench.desk.types("user add erin").await.unwrap();
    let stored = bench.fake.local(&bench.identity);
    assert_eq!(stored["users"][0], portal["users"][0]);
    assert_eq!(stored["users"][1]["uid"], 100_002);
    assert_eq!(
        (&stored["ssh_keys"], &stored["portal"]),
        (&portal["ssh_keys"], &portal["portal"])
    );
    assert!(
        stored.get("sequence").is_none(),
        "a portal would drop it, and hosts would refuse what comes after"
    );
}

#[tokio::test]
async fn keys_and_identities_that_do_not_fit_are_told() {
    let mut bench = bench(true).await;
    let other = Identity::generate();
    bench.fake.0.lock().unwrap().key = Some(other.recipient().to_string());
    let refused = bench.desk.types("user add alice").await.unwrap_err();
    assert!(refused.contains("copy the tenant's age.key"), "{refused}");
    bench.fake.0.lock().unwrap().key = None;
    let refused = bench.desk.types("user add alice").await.unwrap_err();
    assert!(refused.contains("dirless-syncer enroll"), "{refused}");
    bench.fake.put(&json!({}), &other.recipient());
    let refused = bench.desk.types("user list").await.unwrap_err();
    assert!(refused.contains("sealed to another key"), "{refused}");
    bench.fake.0.lock().unwrap().local = Some(br#"{"users":[]}"#.to_vec());
    let refused = bench.desk.types("user list").await.unwrap_err();
    assert!(
        refused.contains("no sealed snapshot"),
        "plain JSON is never taken: {refused}"
    );
    bench.identity = other;
    bench
        .fake
        .put(&json!({"users": null}), &again(&bench.identity).recipient());
    let desk = Desk::new(&bench._server.uri(), again(&bench.identity), None);
    let refused = desk.types("user list").await.unwrap_err();
    assert!(refused.contains("no snapshot"), "{refused}");
    assert_eq!(bench.fake.writes(), 0);
}

#[tokio::test]
async fn an_old_copy_and_a_vanished_one_are_noticed() {
    let identity = Identity::generate();
    let (server, fake) = Fake::start(&identity, true).await;
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("local-sequence");
    let desk = Desk::new(&server.uri(), again(&identity), Some(memory.clone()));
    desk.types("user add alice").await.unwrap();
    let old = fake.0.lock().unwrap().local.clone();
    desk.types("user add bob").await.unwrap();
    let last: u64 = std::fs::read_to_string(&memory).unwrap().trim().parse().unwrap();
    assert_eq!(fake.local(&identity)["sequence"], last);
    fake.0.lock().unwrap().local = old;
    let refused = desk.types("user add carol").await.unwrap_err();
    assert!(refused.contains("old copy"), "{refused}");
    fake.0.lock().unwrap().local = None;
    let refused = desk.types("user add carol").await.unwrap_err();
    assert!(refused.contains("begin with nothing"), "{refused}");
    desk.types("user add carol --start-over").await.unwrap();
    let stored = fake.local(&identity);
    assert!(stored["sequence"].as_u64().unwrap() > last);
    assert_eq!(stored["users"].as_array().unwrap().len(), 1);
    {
        let mut state = fake.0.lock().unwrap();
        state.local = None;
        state.deleted = true;
    }
    desk.types("user add dave").await.unwrap();
}

#[tokio::test]
async fn wrong_arguments_never_reach_the_backend() {
    let bench = bench(true).await;
    for line in [
        "user add",
        "key remove alice",
        "key remove alice x --all",
        "group member add eng",
        "access enforce maybe",
    ] {
        assert!(bench.desk.types(line).await.is_err(), "{line}");
    }
    let refused = bench
        .desk
        .types("key add alice --file /nonexistent/key.pub")
        .await
        .unwrap_err();
    assert!(refused.contains("/nonexistent/key.pub"), "{refused}");
    let refused = bench
        .desk
        .type_with("key add alice", "-----BEGIN RSA PRIVATE KEY-----")
        .await
        .unwrap_err();
    assert!(refused.contains("private key"), "{refused}");
    assert_eq!(bench.fake.writes(), 0);
}
