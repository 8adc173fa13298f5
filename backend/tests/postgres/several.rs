//! Two backends, one database: each sees what the other wrote, and of two that want the same one gets it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dirless_backend::store::policy::ReplaceBy;
use dirless_backend::store::{
    Beat, Change, Enrolment, Expected, HeartbeatLimits, HeartbeatSink, ObjectPut, PostgresPlace, PutOutcome, RealmName,
    RealmState, SecretHash, SnapshotPut, SourceState, SpooledBody, Store,
};
use dirless_wire::trust::{KeyRole, PublicKey};

use crate::common::{
    at, body, body_of, credential, database, key, noise, open, origin, path, put, server, source, start, tenant,
    tenant_id, trusted,
};
use crate::until;

/// Two stores on one database, their folders, and what the second was told.
struct Pair {
    one: Store,
    two: Store,
    told: Arc<Mutex<Vec<Change>>>,
    _folders: [tempfile::TempDir; 2],
}

fn pair() -> Pair {
    pair_on(database())
}

fn pair_on(place: PostgresPlace) -> Pair {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = open(at(folders[0].path(), place.clone()));
    let two = open(at(folders[1].path(), place));
    let told: Arc<Mutex<Vec<Change>>> = Arc::default();
    let heard = Arc::clone(&told);
    assert!(two.observe(Arc::new(move |change| heard.lock().unwrap().push(change.clone()))));
    Pair {
        one,
        two,
        told,
        _folders: folders,
    }
}

#[tokio::test]
async fn what_one_writes_the_other_hears_of_in_order() {
    let pair = pair();
    let here = tenant(&pair.one, "acme", "t1").await;
    until("the tenant is known at the other", async || {
        let acme = SecretHash::of(b"secret-of-acme");
        pair.two.authenticate(&acme).is_some() && {
            let acme = credential(&pair.two, "acme").await;
            pair.two.tenant(&acme, "t1").is_some()
        }
    })
    .await;
    let there = tenant(&pair.two, "acme", "t1").await;
    pair.told.lock().unwrap().clear();
    let long = noise(7, 2_500_000);
    let first = put(&here, "local", &long).await;
    let second = put(&here, "local", b"second").await;
    let rules = here
        .put_access_rules(Bytes::from_static(b"{}"), origin())
        .await
        .unwrap();
    here.put_setting("k", "v", origin()).await.unwrap();
    assert!(here.delete_snapshot(&source("local"), origin()).await.unwrap());
    let expected = |change: &Change| matches!(change, Change::SourceDeleted { .. });
    until("the deletion is heard of", async || {
        pair.told.lock().unwrap().iter().any(expected)
    })
    .await;
    let told = pair.told.lock().unwrap().clone();
    let snapshot = |meta: &dirless_backend::store::SnapshotMeta| Change::Snapshot {
        tenant: tenant_id("t1"),
        source: source("local"),
        generation: meta.generation,
        etag: meta.etag.clone(),
    };
    assert_eq!(told[..2], [snapshot(&first), snapshot(&second)]);
    assert!(told.contains(&Change::AccessRules {
        tenant: tenant_id("t1")
    }));
    assert!(matches!(told.last(), Some(Change::SourceDeleted { generation, .. }) if generation.0 == 3));
    assert_eq!(there.access_rules().await.unwrap().unwrap().etag, rules);
    assert!(body_of(&there, "local").await.is_none());
}

#[tokio::test]
async fn credentials_keys_and_tenants_follow_without_a_restart() {
    let pair = pair();
    let version = pair.two.version();
    let tenant = trusted(&pair.one, "v1").await;
    let public = PublicKey::new("syncer+00000001".parse().unwrap(), [1; 32]);
    let _registered = tenant
        .register_key(&public, KeyRole::Publisher, None, origin())
        .await
        .unwrap();
    until("the key is known at the other", async || {
        pair.two.key_holder("v1", public.id()).is_some()
    })
    .await;
    assert_ne!(pair.two.version(), version, "what was remembered is asked again");
    let _revoked = tenant.revoke_key(public.id(), origin()).await.unwrap();
    until("the key is gone at the other", async || {
        pair.two.key_holder("v1", public.id()).is_none()
    })
    .await;
    let name = RealmName::parse("acme").unwrap();
    let _done = pair.two.set_realm_state(&name, RealmState::Suspended).await.unwrap();
    until("the realm is suspended at the first", async || {
        credential(&pair.one, "acme").await.is_suspended()
    })
    .await;
}

#[tokio::test]
async fn of_two_realms_that_enrol_a_tenant_at_once_one_has_it() {
    let pair = pair();
    let (mut acme, mut other) = (0, 0);
    let mine = credential(&pair.one, "acme").await;
    let theirs = credential(&pair.two, "other").await;
    for number in 0..20 {
        let id = tenant_id(&format!("t{number}"));
        let (public, from) = (key(0), origin());
        let (a, b) = tokio::join!(
            pair.one.enroll(&mine, &id, &public, ReplaceBy::Enroll, from),
            pair.two.enroll(&theirs, &id, &public, ReplaceBy::Enroll, from)
        );
        match (a.unwrap(), b.unwrap()) {
            (Enrolment::Enrolled, Enrolment::NotYours) => acme += 1,
            (Enrolment::NotYours, Enrolment::Enrolled) => other += 1,
            both => panic!("{both:?}"),
        }
    }
    assert_eq!(acme + other, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_swap_a_head_at_both_exactly_one_wins_each_time() {
    let pair = pair();
    let (here, there) = (trusted(&pair.one, "v1").await, trusted(&pair.two, "v1").await);
    let head = path("head/syncer");
    let mut expected = Expected::Nothing;
    for round in 0..10 {
        let mut swaps = Vec::new();
        for writer in 0..6 {
            let handle = if writer % 2 == 0 { here.clone() } else { there.clone() };
            let (head, expected) = (head.clone(), expected.clone());
            swaps.push(tokio::spawn(async move {
                let bytes = format!("{round} {writer}");
                let swap = handle.put_object(&head, expected, body(bytes.as_bytes()), origin());
                swap.await.unwrap()
            }));
        }
        let mut winners = Vec::new();
        for swap in swaps {
            match swap.await.unwrap() {
                ObjectPut::Stored(meta) => winners.push(meta),
                ObjectPut::Unexpected => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        expected = Expected::Tag(winners.remove(0).etag);
    }
    let (meta, _) = there.object(&head, 0).await.unwrap().unwrap();
    assert_eq!(expected, Expected::Tag(meta.etag));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_rise_by_one_whoever_writes() {
    let pair = pair();
    let here = tenant(&pair.one, "acme", "t1").await;
    until("the tenant is known at the other", async || {
        let acme = credential(&pair.two, "acme").await;
        pair.two.tenant(&acme, "t1").is_some()
    })
    .await;
    let there = tenant(&pair.two, "acme", "t1").await;
    let writers: Vec<_> = [here.clone(), there]
        .into_iter()
        .enumerate()
        .map(|(writer, handle)| {
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                for number in 0..25 {
                    let bytes = Bytes::from(format!("{writer} {number}"));
                    let body = SpooledBody::from_bytes(bytes);
                    let name = source("local");
                    let put = handle.put_snapshot(&name, SnapshotPut::default(), body, origin());
                    let PutOutcome::Stored(meta) = put.await.unwrap() else {
                        panic!()
                    };
                    numbers.push(meta.generation.0);
                }
                numbers
            })
        })
        .collect();
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (1..=50).collect::<Vec<_>>());
    let SourceState::Present(meta) = here.source(&source("local")).await.unwrap() else {
        panic!()
    };
    assert_eq!(meta.generation.0, 50);
}

#[tokio::test]
async fn agents_are_counted_once_wherever_they_beat() {
    let pair = pair();
    let here = tenant(&pair.one, "acme", "t1").await;
    until("the tenant is known at the other", async || {
        let acme = credential(&pair.two, "acme").await;
        pair.two.tenant(&acme, "t1").is_some()
    })
    .await;
    let there = tenant(&pair.two, "acme", "t1").await;
    let sinks = [&pair.one, &pair.two].map(|store| HeartbeatSink::new(store.clone(), HeartbeatLimits::default()));
    for number in 0..300 {
        let agent_id = format!("agent-{number}");
        let beat = Beat {
            agent_id: &agent_id,
            hostname: "vm",
            extras: None,
        };
        // Every third beats at both.
        if number % 3 != 1 {
            let _taken = sinks[0].beat(&here, beat);
        }
        if number % 3 != 2 {
            let _taken = sinks[1].beat(&there, beat);
        }
    }
    for sink in &sinks {
        sink.flush().await.unwrap();
    }
    for (sink, store) in sinks.iter().zip([&pair.one, &pair.two]) {
        let all = store.all_tenants_bypassing_realm_scope();
        assert_eq!(all.active_agents(sink, start()).await.unwrap().len(), 300);
    }
    // Again, by their rows now.
    for number in 0..300 {
        let agent_id = format!("agent-{number}");
        let _taken = sinks[number % 2].beat(
            if number % 2 == 0 { &here } else { &there },
            Beat {
                agent_id: &agent_id,
                hostname: "moved",
                extras: Some("{}"),
            },
        );
    }
    for sink in &sinks {
        sink.flush().await.unwrap();
    }
    let all = pair.one.all_tenants_bypassing_realm_scope();
    let agents = all.active_agents(&sinks[0], start()).await.unwrap();
    assert_eq!(agents.len(), 300);
}

/// The next flush of heartbeats is an hour away.
#[tokio::test]
async fn what_hosts_say_anew_is_seen_at_the_other_at_once() {
    let pair = pair();
    let (here, there) = (trusted(&pair.one, "v1").await, trusted(&pair.two, "v1").await);
    let mut nodes = Vec::new();
    for seed in 1..=5_u8 {
        let public = PublicKey::new(format!("n{seed}+0000000{seed}").parse().unwrap(), [seed; 32]);
        let _registered = here.register_key(&public, KeyRole::Node, None, origin()).await.unwrap();
        nodes.push(pair.one.tenant_of_key(pair.one.key_holder("v1", public.id()).unwrap()));
    }
    let limits = HeartbeatLimits {
        interval: Duration::from_secs(3600),
        ..HeartbeatLimits::default()
    };
    let (stop, _) = tokio::sync::watch::channel(());
    let running = [&pair.one, &pair.two].map(|store| {
        let (sink, mut stopped) = (HeartbeatSink::new(store.clone(), limits), stop.subscribe());
        let until_stopped = async move { drop(stopped.changed().await) };
        tokio::spawn(async move { sink.run(until_stopped).await })
    });
    let say = |issued: u32, head: u32, generation: u32| {
        for node in &nodes {
            let text =
                format!("dirless/receipt/v1\nissued {issued}\nhead syncer {head} x\ngeneration {generation}\n\n");
            assert!(node.put_receipt(&Bytes::from(text)));
        }
    };
    let all_say = async |what: &str| {
        let what = format!("\n{what}\n").into_bytes();
        let says = |bytes: &Bytes| bytes.windows(what.len()).any(|window| window == what);
        until("the other backend sees it", async || {
            let receipts = there.receipts("", 10).await.unwrap().entries;
            receipts.iter().filter(|receipt| says(&receipt.bytes)).count() == nodes.len()
        })
        .await;
    };
    say(1, 1, 1);
    all_say("generation 1").await;
    say(2, 1, 2);
    all_say("generation 2").await;
    // A change that alters nothing on these hosts is waited for as well; another backend may have stored it.
    let policy = path("policy/1");
    let put = there.put_object(&policy, Expected::Anything, body(b"note"), origin());
    assert!(matches!(put.await.unwrap(), ObjectPut::Stored(_)));
    // A backend that writes has heard of all that was stored before.
    let _written = trusted(&pair.one, "v2").await;
    say(3, 2, 2);
    all_say("head syncer 2 x").await;
    drop(stop);
    for task in running {
        task.await.unwrap();
    }
}

/// Notices are lost while a connection is down, and a pooler may lose them all: the number is the truth.
#[tokio::test]
async fn what_came_without_a_notice_is_found_by_looking() {
    let place = database();
    let name = place.to_string().rsplit('/').next().unwrap().to_owned();
    let pair = pair_on(place);
    let _tenant = tenant(&pair.one, "acme", "t1").await;
    let told = |change: &Change| pair.told.lock().unwrap().contains(change);
    until("the tenant is heard of", async || {
        told(&Change::Tenant {
            tenant: tenant_id("t1"),
        })
    })
    .await;
    let quietly = |kind: &str, key: &str| {
        let sql = format!(
            "BEGIN; UPDATE store_state SET sequence = sequence + 1; \
             INSERT INTO changes (sequence, position, kind, tenant, name) \
             SELECT sequence, 1, '{kind}', 't1', '{key}' FROM store_state; COMMIT"
        );
        server().sql(&name, &sql).unwrap();
    };
    quietly("setting", "quiet");
    let setting = Change::Setting {
        tenant: tenant_id("t1"),
        key: "quiet".to_owned(),
    };
    until("the quiet change is found", async || told(&setting)).await;
    quietly("of-a-newer-program", "x");
    until("what is not understood voids everything", async || {
        told(&Change::Everything)
    })
    .await;
    // One who was away for so long that the changes are forgotten reads everything again.
    pair.told.lock().unwrap().clear();
    let away = "UPDATE store_state SET sequence = sequence + 20000, forgotten = sequence + 19999";
    server().sql(&name, away).unwrap();
    until("everything is read again", async || told(&Change::Everything)).await;
    tokio::time::timeout(Duration::from_secs(60), credential(&pair.two, "later"))
        .await
        .unwrap();
}

#[tokio::test]
async fn changes_and_writers_that_nobody_needs_are_forgotten() {
    let place = database();
    let name = place.to_string().rsplit('/').next().unwrap().to_owned();
    let pair = pair_on(place);
    let sql = |statement: &str| server().sql(&name, statement).unwrap().trim().to_owned();
    let handle = tenant(&pair.one, "acme", "t1").await;
    sql("INSERT INTO writers (writer, last_group, written_at) VALUES ('gone', 1, 1)");
    assert_ne!(sql("SELECT count(*) FROM changes"), "0");
    sql("UPDATE store_state SET sequence = 10499");
    handle.put_setting("k", "v", origin()).await.unwrap();
    assert_eq!(sql("SELECT sequence, forgotten FROM store_state"), "10500|500");
    assert_eq!(sql("SELECT count(*) FROM changes WHERE sequence <= 500"), "0");
    assert_eq!(sql("SELECT count(*) FROM changes WHERE sequence = 10500"), "1");
    assert_eq!(sql("SELECT count(*) FROM writers WHERE writer = 'gone'"), "0");
}
