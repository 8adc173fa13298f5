//! Several people at once, and answers that get lost.

use dirless_seal::Identity;
use serde_json::json;

use crate::desk::{Desk, again};
use crate::fake::{Fake, sealed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_editors_lose_nothing() {
    let identity = Identity::generate();
    let (server, fake) = Fake::start(&identity, true).await;
    let editors: Vec<_> = (0..4)
        .map(|editor| {
            let desk = Desk::new(&server.uri(), again(&identity), None);
            tokio::spawn(async move {
                for round in 0..3 {
                    let line = format!("user add user{editor}{round}");
                    // Giving up after many tries is allowed, losing is not.
                    while let Err(error) = desk.types(&line).await {
                        assert!(error.contains("try again"), "{error}");
                    }
                    desk.types(&format!("access allow group{editor} host{round}"))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for editor in editors {
        editor.await.unwrap();
    }
    let stored = fake.local(&identity);
    let users = stored["users"].as_array().unwrap();
    let numbers: std::collections::BTreeSet<u64> = users.iter().map(|user| user["uid"].as_u64().unwrap()).collect();
    assert_eq!((users.len(), numbers.len()), (12, 12));
    assert_eq!(fake.rules()["host_group_rules"].as_array().unwrap().len(), 12);
    assert_eq!(stored["groups"][0]["members"].as_array().unwrap().len(), 12);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_told_as_done_and_made_once() {
    for tags in [true, false] {
        let identity = Identity::generate();
        let (server, fake) = Fake::start(&identity, tags).await;
        let desk = Desk::new(&server.uri(), again(&identity), None);
        desk.types("user add first").await.unwrap();
        fake.0.lock().unwrap().swallow = 1;
        let said = desk.types("user add alice").await.unwrap();
        assert_eq!(said, "user alice added: uid 100002, gid 100000\n");
        fake.0.lock().unwrap().swallow = 1;
        let said = desk.types("access allow eng web-1").await.unwrap();
        assert!(said.starts_with("eng may use web-1\n"), "{said}");
        assert_eq!(fake.local(&identity)["users"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn somebody_elses_write_in_between_is_built_upon() {
    for tags in [true, false] {
        let identity = Identity::generate();
        let (server, fake) = Fake::start(&identity, tags).await;
        let desk = Desk::new(&server.uri(), again(&identity), None);
        let user = |name: &str, uid: u32| json!({"username": name, "uid": uid, "gid": 100_000, "gecos": name, "home": "/h", "shell": "/bin/sh"});
        let before = json!({"users": [user("zoe", 100_001)]});
        fake.put(&before, &identity.recipient());
        if tags {
            let theirs = json!({"users": [user("zoe", 100_001), user("theirs", 100_002)]});
            fake.0.lock().unwrap().intrude = vec![sealed(&theirs, &identity.recipient())];
        }
        desk.types("user add ours").await.unwrap();
        let stored = fake.local(&identity);
        let last = stored["users"].as_array().unwrap().last().unwrap();
        let expected = if tags { 100_003 } else { 100_002 };
        assert_eq!(
            (last["username"].as_str(), last["uid"].as_u64()),
            (Some("ours"), Some(expected))
        );
    }
}

#[tokio::test]
async fn a_backend_that_never_answers_a_write_leaves_it_open_and_says_so() {
    let identity = Identity::generate();
    let (server, fake) = Fake::start(&identity, true).await;
    let desk = Desk::new(&server.uri(), again(&identity), None);
    fake.0.lock().unwrap().deaf = true;
    let refused = desk.types("user add alice").await.unwrap_err();
    assert!(refused.contains("run the same command again"), "{refused}");
    assert_eq!(fake.writes(), 0);
    fake.0.lock().unwrap().deaf = false;
    desk.types("user add alice").await.unwrap();
}
