//! The verified protocol's part of the store: objects, keys, join codes, receipts.

use std::time::Duration;

use bytes::Bytes;
use dirless_backend::store::{
    Caller, Change, DeleteOutcome, Expected, JoinPost, NewTenant, News, ObjectMeta, ObjectPut, Page, Receipt,
    Registration, Revocation, SecretHash, Store, TrustHandle,
};
use dirless_wire::trust::{KeyId, KeyRole, Label, PublicKey};

use crate::common::{Fixture, body, credential, key, noise, operator, origin, path, start, tenant, tenant_id, trusted};

async fn put(tenant: &TrustHandle, name: &str, bytes: &[u8]) -> ObjectPut {
    let name = path(name);
    let put = tenant.put_object(&name, Expected::Anything, body(bytes), origin());
    put.await.unwrap()
}

fn stored(put: ObjectPut) -> ObjectMeta {
    match put {
        ObjectPut::Stored(meta) => meta,
        other => panic!("{other:?}"),
    }
}

fn public_key(name: &str, seed: u8) -> PublicKey {
    let id: KeyId = format!("{name}+{seed:08x}").parse().unwrap();
    PublicKey::new(id, [seed; 32])
}

pub(crate) async fn a_tenant_of_the_verified_protocol_belongs_to_one_realm(fixture: &Fixture) {
    let store = &fixture.store;
    let mine = trusted(store, "t1").await;
    assert!(matches!(mine.caller(), Caller::Operator(_)) && !mine.is_suspended());
    credential(store, "other").await;
    let stranger = operator(store, Some("other")).await;
    let made = store
        .create_tenant(&stranger, &tenant_id("t1"), origin())
        .await
        .unwrap();
    assert_eq!(made, NewTenant::NotYours);
    assert!(store.tenant_of_operator(&stranger, "t1").is_none());
    assert!(store.tenant_of_operator(&stranger, "t2").is_none());
    let everywhere = operator(store, None).await;
    assert!(store.tenant_of_operator(&everywhere, "t1").is_some());
    // Without the classic key there is no classic tenant, until it is enrolled.
    let classic = credential(store, "acme").await;
    assert!(store.tenant(&classic, "t1").is_none());
    stored(put(&mine, "policy/1", b"x").await);
    let handle = tenant(store, "acme", "t1").await;
    assert_eq!(*handle.public_key(), key(0));
    assert!(mine.object(&path("policy/1"), 9).await.unwrap().is_some());
    // And the other way round.
    tenant(store, "acme", "t3").await;
    let operator = operator(store, Some("acme")).await;
    let made = store
        .create_tenant(&operator, &tenant_id("t3"), origin())
        .await
        .unwrap();
    assert_eq!(made, NewTenant::Known);
}

pub(crate) async fn an_object_is_written_once(fixture: &Fixture) {
    let tenant = trusted(&fixture.store, "t1").await;
    let mut changes = fixture.store.subscribe();
    let meta = stored(put(&tenant, "policy/1", b"one").await);
    assert_eq!((meta.length, meta.path.as_str()), (3, "policy/1"));
    let told = changes.recv().await.unwrap();
    assert!(matches!(told, Change::Object { path, .. } if path == "policy/1"));
    assert_eq!(put(&tenant, "policy/1", b"one").await, ObjectPut::Same(meta.clone()));
    assert_eq!(put(&tenant, "policy/1", b"two").await, ObjectPut::Occupied);
    let (found, bytes) = tenant.object(&path("policy/1"), 3).await.unwrap().unwrap();
    assert_eq!((found, bytes.unwrap()), (meta, Bytes::from_static(b"one")));
    assert!(tenant.object(&path("policy/2"), 3).await.unwrap().is_none());
    let other = trusted(&fixture.store, "t2").await;
    assert!(other.object(&path("policy/1"), 3).await.unwrap().is_none());
    let gone = tenant.delete_object(&path("policy/1"), origin()).await.unwrap();
    assert_eq!(gone, DeleteOutcome::Deleted);
    let gone = tenant.delete_object(&path("policy/1"), origin()).await.unwrap();
    assert_eq!(gone, DeleteOutcome::Nothing);
    stored(put(&tenant, "policy/1", b"two").await);
}

pub(crate) async fn a_long_object_streams_in_chunks(fixture: &Fixture) {
    let tenant = trusted(&fixture.store, "t1").await;
    let bytes = noise(7, 2_500_000);
    let mut spool = fixture.store.body_writer(u64::MAX);
    spool.write(&bytes).await.unwrap();
    let nodes = path("nodes/syncer/1");
    let body = spool.finish().await.unwrap();
    let meta = stored(
        tenant
            .put_object(&nodes, Expected::Anything, body, origin())
            .await
            .unwrap(),
    );
    let (_, whole) = tenant.object(&nodes, 1000).await.unwrap().unwrap();
    assert!(whole.is_none(), "longer than what was asked for");
    let (_, whole) = tenant.object(&nodes, u64::MAX).await.unwrap().unwrap();
    assert!(whole.unwrap() == bytes);
    let (mut reader, mut read) = (tenant.object_reader(&meta), Vec::new());
    while let Some(chunk) = reader.chunk().await.unwrap() {
        assert!(chunk.len() <= 1024 * 1024);
        read.extend_from_slice(&chunk);
    }
    assert!(read == bytes);
    let mut late = tenant.object_reader(&meta);
    late.chunk().await.unwrap();
    let _gone = tenant.delete_object(&nodes, origin()).await.unwrap();
    late.chunk().await.unwrap_err();
}

pub(crate) async fn a_head_is_swapped(fixture: &Fixture) {
    let tenant = trusted(&fixture.store, "t1").await;
    let head = path("head/syncer");
    let swap = |expected: Expected, bytes: &'static [u8]| {
        let (tenant, head) = (tenant.clone(), head.clone());
        async move { tenant.put_object(&head, expected, body(bytes), origin()).await.unwrap() }
    };
    assert_eq!(swap(Expected::Something, b"1").await, ObjectPut::Unexpected);
    let first = stored(swap(Expected::Nothing, b"1").await);
    assert_eq!(swap(Expected::Nothing, b"2").await, ObjectPut::Unexpected);
    // Its writer did not hear the answer and says it again.
    assert_eq!(swap(Expected::Nothing, b"1").await, ObjectPut::Same(first.clone()));
    let second = stored(swap(Expected::Tag(first.etag.clone()), b"2").await);
    assert_eq!(swap(Expected::Tag(first.etag), b"3").await, ObjectPut::Unexpected);
    let (found, bytes) = tenant.object(&head, 9).await.unwrap().unwrap();
    assert_eq!((found, bytes.unwrap()), (second, Bytes::from_static(b"2")));
    let lines = fixture
        .store
        .all_tenants_bypassing_realm_scope()
        .audit(0, 1000)
        .await
        .unwrap();
    let heads = lines.iter().filter(|line| line.action == "object.put").count();
    assert_eq!(heads, 1, "that it began is an event, that it goes on is none");
}

pub(crate) async fn of_many_writers_one_wins(fixture: &Fixture) {
    let tenant = trusted(&fixture.store, "t1").await;
    let mut tag = None;
    for round in 0..20u8 {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8u8 {
            let (tenant, tag) = (tenant.clone(), tag.clone());
            writers.spawn(async move {
                let once = path(&format!("manifest/syncer/aws/all/{}", u32::from(round) + 1));
                let put = tenant.put_object(&once, Expected::Anything, body(&[round, writer]), origin());
                let once = put.await.unwrap();
                let expected = tag.map_or(Expected::Nothing, Expected::Tag);
                let head = path("head/syncer");
                let put = tenant.put_object(&head, expected, body(&[round, writer]), origin());
                (once, put.await.unwrap())
            });
        }
        let outcomes = writers.join_all().await;
        let once: Vec<_> = outcomes
            .iter()
            .filter(|(once, _)| *once != ObjectPut::Occupied)
            .collect();
        assert_eq!(once.len(), 1, "{outcomes:?}");
        let mut won = outcomes.into_iter().filter_map(|(_, head)| match head {
            ObjectPut::Stored(meta) => Some(meta.etag),
            ObjectPut::Unexpected => None,
            other => panic!("{other:?}"),
        });
        tag = Some(won.next().unwrap());
        assert!(won.next().is_none());
    }
}

pub(crate) async fn objects_are_listed_in_pages(fixture: &Fixture) {
    let tenant = trusted(&fixture.store, "t1").await;
    stored(put(&trusted(&fixture.store, "t2").await, "policy/5", b"not mine").await);
    let names = ["head/a", "policy/1", "policy/10", "policy/2", "wrap/all/1/n0"];
    for name in names.iter().rev() {
        let expected = Expected::Nothing;
        stored(
            tenant
                .put_object(&path(name), expected, body(name.as_bytes()), origin())
                .await
                .unwrap(),
        );
    }
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = tenant.objects(&after, 2).await.unwrap();
        seen.extend(page.entries.iter().map(|meta| meta.path.clone()));
        assert!(page.entries.len() <= 2);
        if !page.more {
            break;
        }
        after = seen.last().unwrap().clone();
    }
    assert_eq!(seen, names);
    assert_eq!(tenant.objects("", usize::MAX).await.unwrap().entries.len(), 5);
    assert_eq!(tenant.objects("", 0).await.unwrap().entries.len(), 1);
}

pub(crate) async fn news_are_the_newest_policy_and_all_heads(fixture: &Fixture) {
    let tenant = trusted(&fixture.store, "t1").await;
    stored(put(&trusted(&fixture.store, "t2").await, "policy/99", b"not mine").await);
    let nothing = News {
        policy: None,
        heads: Some(vec![]),
    };
    assert_eq!(tenant.news(100).await.unwrap(), nothing);
    for name in ["policy/9", "policy/10", "policy/2", "nodes/e/77"] {
        stored(put(&tenant, name, b"x").await);
    }
    for name in ["head/b", "head/a", "head/a.b"] {
        let path = path(name);
        let head = tenant.put_object(&path, Expected::Nothing, body(name.as_bytes()), origin());
        stored(head.await.unwrap());
    }
    let news = tenant.news(100).await.unwrap();
    assert_eq!(news.policy.map(u64::from), Some(10));
    let heads = ["head/a", "head/a.b", "head/b"].map(|name| (path(name), Bytes::from(name)));
    assert_eq!(news.heads.unwrap(), heads);
    assert_eq!(tenant.news(20).await.unwrap().heads.unwrap().len(), 3);
    let short = tenant.news(19).await.unwrap();
    assert_eq!((short.policy.map(u64::from), short.heads), (Some(10), None));
}

pub(crate) async fn keys_are_registered_and_end(fixture: &Fixture) {
    let (store, clock) = (&fixture.store, &fixture.clock);
    let tenant = trusted(store, "t1").await;
    let (one, two) = (public_key("syncer", 1), public_key("syncer", 2));
    let end = start().checked_add(Duration::from_secs(60)).unwrap();
    let register = |key: PublicKey, role, end| {
        let tenant = tenant.clone();
        async move { tenant.register_key(&key, role, end, origin()).await.unwrap() }
    };
    assert!(store.key_holder("t1", one.id()).is_none());
    assert_eq!(
        register(one.clone(), KeyRole::Publisher, None).await,
        Registration::Registered
    );
    assert_eq!(
        register(one.clone(), KeyRole::Publisher, None).await,
        Registration::Known
    );
    assert_eq!(
        register(two.clone(), KeyRole::Publisher, Some(end)).await,
        Registration::Registered
    );
    assert_eq!(register(one.clone(), KeyRole::Node, None).await, Registration::Occupied);
    let twin = PublicKey::new(one.id().clone(), [9; 32]);
    assert_eq!(register(twin, KeyRole::Publisher, None).await, Registration::Occupied);
    let holder = store.key_holder("t1", one.id()).unwrap();
    assert_eq!(holder.public_key(), &[1; 32]);
    assert!(matches!(store.tenant_of_key(holder).caller(), Caller::Key(key) if key.role() == KeyRole::Publisher));
    assert!(store.key_holder("t2", one.id()).is_none());
    clock.advance(Duration::from_secs(61));
    assert!(store.key_holder("t1", two.id()).is_none(), "it has ended");
    let later = start().checked_add(Duration::from_secs(600)).unwrap();
    assert_eq!(
        register(two.clone(), KeyRole::Publisher, Some(later)).await,
        Registration::Known
    );
    assert!(store.key_holder("t1", two.id()).is_some());

    let as_owner = |key: &PublicKey| store.tenant_of_key(store.key_holder("t1", key.id()).unwrap());
    let revoke = |by: TrustHandle, id: &KeyId| {
        let id = id.clone();
        async move { by.revoke_key(&id, origin()).await.unwrap() }
    };
    // Of one name the later key ends the earlier one, never the other way round.
    assert_eq!(revoke(as_owner(&one), two.id()).await, Revocation::Forbidden);
    assert_eq!(revoke(as_owner(&one), one.id()).await, Revocation::Forbidden);
    assert_eq!(revoke(as_owner(&two), one.id()).await, Revocation::Revoked);
    assert_eq!(revoke(tenant.clone(), one.id()).await, Revocation::Nothing);
    assert!(store.key_holder("t1", one.id()).is_none());
    assert_eq!(
        register(one.clone(), KeyRole::Publisher, None).await,
        Registration::Occupied
    );
    store.flush_key_uses().await.unwrap();
    let page = tenant.keys("", 1).await.unwrap();
    assert!(page.more && page.entries[0].revoked_at.is_some() && page.entries[0].last_used_at == Some(start()));
    let rest = tenant.keys(&page.entries[0].id.to_string(), 10).await.unwrap();
    assert_eq!(
        (rest.more, rest.entries.len(), &rest.entries[0].id),
        (false, 1, two.id())
    );
    let later = start().checked_add(Duration::from_secs(61)).unwrap();
    assert_eq!(rest.entries[0].last_used_at, Some(later));
}

pub(crate) async fn publishers_are_few(fixture: &Fixture) {
    let tenant = trusted(&fixture.store, "t1").await;
    for seed in 0..64 {
        let key = public_key("syncer", seed);
        let made = tenant
            .register_key(&key, KeyRole::Publisher, None, origin())
            .await
            .unwrap();
        assert_eq!(made, Registration::Registered);
    }
    let more = public_key("syncer", 64);
    let made = tenant
        .register_key(&more, KeyRole::Publisher, None, origin())
        .await
        .unwrap();
    assert_eq!(made, Registration::TooMany);
    let made = tenant.register_key(&more, KeyRole::Node, None, origin()).await.unwrap();
    assert_eq!(made, Registration::Registered);
}

pub(crate) async fn a_join_code_admits_so_many(fixture: &Fixture) {
    let (store, clock) = (&fixture.store, &fixture.clock);
    let tenant = trusted(store, "t1").await;
    let code = Label::new("web").unwrap();
    let (good, bad) = (SecretHash::of(b"good"), SecretHash::of(b"bad"));
    let end = start().checked_add(Duration::from_secs(60)).unwrap();
    assert!(!store.admits_join("t1", &code, good).await.unwrap());
    assert!(tenant.put_join_code(&code, good, end, 2, origin()).await.unwrap());
    assert!(store.admits_join("t1", &code, good).await.unwrap());
    assert!(!store.admits_join("t1", &code, bad).await.unwrap());
    assert!(!store.admits_join("t2", &code, good).await.unwrap());
    let joining = store.tenant_of_join("t1", &code, good).await.unwrap().unwrap();
    assert!(matches!(joining.caller(), Caller::Joining) && joining.tenant() == tenant.tenant());
    for (tenant, bearer) in [("t1", bad), ("t2", good), ("nobody", good)] {
        assert!(store.tenant_of_join(tenant, &code, bearer).await.unwrap().is_none());
    }
    let post = |bearer, request: &'static [u8]| {
        let code = code.clone();
        async move {
            let request = Bytes::from_static(request);
            store
                .post_join_request("t1", &code, bearer, request, origin())
                .await
                .unwrap()
        }
    };
    assert_eq!(post(bad, b"one").await, JoinPost::Refused);
    assert_eq!(post(good, b"one").await, JoinPost::Taken);
    assert_eq!(post(good, b"one").await, JoinPost::Same);
    assert_eq!(post(good, b"two").await, JoinPost::Taken);
    assert_eq!(post(good, b"three").await, JoinPost::Refused, "it is used up");
    assert_eq!(
        post(good, b"two").await,
        JoinPost::Same,
        "its host did not hear the answer"
    );
    let (codes, requests) = tenant.mailbox().await.unwrap();
    assert_eq!((codes.len(), codes[0].uses_left, requests.len()), (1, 0, 2));
    let digest = dirless_wire::trust::Digest::from_bytes(requests[0].digest);
    assert_eq!(tenant.join_request(&code, &digest).await.unwrap().unwrap(), "one");
    let stranger = trusted(store, "t9").await;
    assert!(stranger.join_request(&code, &digest).await.unwrap().is_none());
    assert!(!stranger.delete_join_request(&code, &digest, origin()).await.unwrap());
    assert!(tenant.delete_join_request(&code, &digest, origin()).await.unwrap());
    assert!(!tenant.delete_join_request(&code, &digest, origin()).await.unwrap());
    assert_eq!(tenant.mailbox().await.unwrap().1.len(), 1);
    assert!(tenant.join_request(&code, &digest).await.unwrap().is_none());
    assert_eq!(
        post(good, b"one").await,
        JoinPost::Taken,
        "somebody took it out of the mailbox, and its host waits still"
    );
    assert_eq!(post(good, b"one").await, JoinPost::Same);
    assert_eq!(
        post(good, b"three").await,
        JoinPost::Refused,
        "that costs no use and gives none"
    );
    assert_eq!(tenant.join_request(&code, &digest).await.unwrap().unwrap(), "one");
    assert_eq!(tenant.mailbox().await.unwrap().1.len(), 2);
    assert!(tenant.put_join_code(&code, good, end, 1, origin()).await.unwrap());
    clock.advance(Duration::from_secs(60));
    assert_eq!(post(good, b"four").await, JoinPost::Refused, "it has ended");
    assert!(tenant.delete_join_code(&code, origin()).await.unwrap());
    assert!(!tenant.delete_join_code(&code, origin()).await.unwrap());
    assert_eq!(tenant.mailbox().await.unwrap(), (vec![], vec![]));
}

pub(crate) async fn the_last_receipt_of_a_node_is_kept(fixture: &Fixture) {
    let store = &fixture.store;
    let tenant = trusted(store, "t1").await;
    let mut nodes = Vec::new();
    for seed in 1..=3 {
        let key = public_key("n", seed);
        let made = tenant.register_key(&key, KeyRole::Node, None, origin()).await.unwrap();
        assert_eq!(made, Registration::Registered);
        nodes.push(store.tenant_of_key(store.key_holder("t1", key.id()).unwrap()));
    }
    for (number, node) in nodes.iter().enumerate() {
        assert!(node.put_receipt(&Bytes::from(format!("old {number}"))));
    }
    store.flush_receipts().await.unwrap();
    fixture.clock.advance(Duration::from_secs(5));
    assert!(nodes[1].put_receipt(&Bytes::from_static(b"new")) && nodes[0].put_receipt(&Bytes::new()));
    let page = tenant.receipts("", 2).await.unwrap();
    let texts: Vec<_> = page.entries.iter().map(|receipt| receipt.bytes.clone()).collect();
    assert_eq!(
        (texts, page.more),
        (vec![Bytes::from("old 0"), Bytes::from("new")], true)
    );
    assert!(page.entries[1].received_at > page.entries[0].received_at);
    let last = public_key("n", 3).id().clone();
    let _revoked = tenant.revoke_key(&last, origin()).await.unwrap();
    assert_eq!(tenant.receipts("", 10).await.unwrap().entries.len(), 2);
}

fn applied(policy: char, head: (u64, char)) -> Bytes {
    let digest = |letter: char| letter.to_string().repeat(64);
    let (version, content) = head;
    Bytes::from(format!(
        "dirless/receipt/v1\ntenant {}\nnode n\nissued 2026-01-01T00:00:00Z\npolicy 1 {}\nhead syncer {version} {}\n\
         head nobody 1 {}\ngeneration 1\nusers 1\ngroups 1\ndropped 0\n\n",
        digest('0'),
        digest(policy),
        digest(content),
        digest(content)
    ))
}

/// One key is gone, and the row of another is one's that was registered since. What was known of both is gone as well.
pub(crate) async fn receipts_of_keys_that_the_database_lost_hold_up_nobody(fixture: &Fixture) {
    let store = &fixture.store;
    let tenant = trusted(store, "t1").await;
    let mut nodes = Vec::new();
    for seed in 1..=4 {
        let key = public_key(&format!("n{seed}"), seed);
        let _made = tenant.register_key(&key, KeyRole::Node, None, origin()).await.unwrap();
        nodes.push(store.tenant_of_key(store.key_holder("t1", key.id()).unwrap()));
    }
    for _ in 0..2 {
        store.flush_receipts().await.unwrap();
        for node in &nodes {
            assert!(node.put_receipt(&applied('a', (7, 'b'))));
        }
    }
    fixture.alter(
        "DELETE FROM sightings; DELETE FROM receipts; DELETE FROM keys WHERE key LIKE 'n1+%'; \
         UPDATE keys SET key = 'other+0000000a' WHERE key LIKE 'n2+%'",
    );
    let of = |page: Page<Receipt>| {
        let nodes = page.entries.iter().map(|receipt| receipt.node.name().to_string());
        nodes.collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(of(tenant.receipts("", 10).await.unwrap()), ["n3", "n4"]);
    }
    store.flush_key_uses().await.unwrap();
    let keys = tenant.keys("", 10).await.unwrap().entries;
    let used: Vec<_> = keys.iter().map(|key| key.last_used_at.is_some()).collect();
    assert_eq!(used, [true, true, false], "the other has not been here");
    // What the others said is written once more, and who says something else is found out.
    assert!(nodes[3].put_receipt(&applied('c', (7, 'b'))));
    let view = store.all_tenants_bypassing_realm_scope();
    let found = view.split_views().await.unwrap();
    let named = found
        .iter()
        .flat_map(|split| &split.views)
        .map(|content| &content.nodes);
    let named: Vec<Vec<&str>> = named.map(|nodes| nodes.iter().map(String::as_str).collect()).collect();
    assert_eq!(named, [["n3"], ["n4"]]);
}

/// Whatever a clock wrote that was a day ahead gives way to the next receipt and the next use of a key.
pub(crate) async fn a_clock_that_was_ahead_holds_up_no_receipt(fixture: &Fixture) {
    let store = &fixture.store;
    let tenant = trusted(store, "t1").await;
    let keys = [1, 2].map(|seed| public_key(&format!("n{seed}"), seed));
    for key in &keys {
        let _made = tenant.register_key(key, KeyRole::Node, None, origin()).await.unwrap();
    }
    let say = |store: &Store, key: &PublicKey, text: &'static str| {
        let node = store.tenant_of_key(store.key_holder("t1", key.id()).unwrap());
        assert!(node.put_receipt(&Bytes::from(text)));
    };
    for (key, seconds) in keys.iter().zip([24 * 3600, 5]) {
        let ahead = fixture.ahead(Duration::from_secs(seconds));
        say(&ahead, key, "ahead");
        ahead.flush_receipts().await.unwrap();
        ahead.flush_key_uses().await.unwrap();
    }
    // Whoever writes has heard of what others wrote.
    trusted(store, "t2").await;
    for key in &keys {
        say(store, key, "now");
    }
    let receipts = tenant.receipts("", 10).await.unwrap().entries;
    let texts: Vec<_> = receipts.iter().map(|receipt| receipt.bytes.clone()).collect();
    assert_eq!(texts, ["now", "ahead"], "clocks may be a little apart");
    store.flush_key_uses().await.unwrap();
    let known = tenant.keys("", 10).await.unwrap().entries;
    assert_eq!(known[0].last_used_at, Some(fixture.clock.now()));
}

/// Two nodes of `t1` that are shown different heads.
pub(crate) async fn split(store: &Store) {
    let tenant = trusted(store, "t1").await;
    let publisher = public_key("syncer", 9);
    let _made = tenant
        .register_key(&publisher, KeyRole::Publisher, None, origin())
        .await
        .unwrap();
    for (seed, content) in [(1, 'b'), (2, 'c')] {
        let key = public_key(&format!("n{seed}"), seed);
        let _made = tenant.register_key(&key, KeyRole::Node, None, origin()).await.unwrap();
        let node = store.tenant_of_key(store.key_holder("t1", key.id()).unwrap());
        assert!(node.put_receipt(&applied('a', (7, content))));
    }
    store.flush_receipts().await.unwrap();
}

pub(crate) async fn receipts_that_contradict_each_other_are_a_split_view(fixture: &Fixture) {
    let store = &fixture.store;
    let tenant = trusted(store, "t1").await;
    let publisher = public_key("syncer", 9);
    let _made = tenant
        .register_key(&publisher, KeyRole::Publisher, None, origin())
        .await
        .unwrap();
    let mut nodes = Vec::new();
    for seed in 1..=4 {
        let key = public_key(&format!("n{seed}"), seed);
        let _made = tenant.register_key(&key, KeyRole::Node, None, origin()).await.unwrap();
        nodes.push(store.tenant_of_key(store.key_holder("t1", key.id()).unwrap()));
    }
    let view = store.all_tenants_bypassing_realm_scope();
    for node in &nodes {
        assert!(node.put_receipt(&applied('a', (7, 'b'))));
    }
    assert_eq!(view.split_views().await.unwrap(), []);
    assert_eq!(store.split_views_known(), 0);
    // One goes on, and another says later that it was shown something else as the version before.
    assert!(nodes[0].put_receipt(&applied('a', (8, 'c'))));
    assert_eq!(view.split_views().await.unwrap(), []);
    fixture.clock.advance(Duration::from_secs(60));
    assert!(nodes[3].put_receipt(&applied('a', (7, 'd'))));
    let found = view.split_views().await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let split = &found[0];
    assert_eq!((split.tenant.as_str(), split.about.as_str()), ("t1", "head/syncer"));
    assert_eq!((split.version, split.versions, store.split_views_known()), (7, 1, 1));
    let named: Vec<Vec<&str>> = split
        .views
        .iter()
        .map(|content| content.nodes.iter().map(String::as_str).collect())
        .collect();
    assert_eq!(
        named,
        [vec!["n1", "n2", "n3"], vec!["n4"]],
        "whoever said so first, and who says so now"
    );
    // Not lost with what the nodes say next, told once, and seen by who comes later.
    assert!(nodes[3].put_receipt(&applied('a', (8, 'c'))));
    let found = view.split_views().await.unwrap();
    assert_eq!(found[0].views[1].nodes.iter().collect::<Vec<_>>(), ["n4"]);
    let told = view.audit(0, 1000).await.unwrap();
    let told: Vec<_> = told.iter().filter(|entry| entry.action == "split_view.found").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0].details["about"], &told[0].details["version"]),
        (&"head/syncer".into(), &7.into())
    );
    // The policy as well; what is said of others' publishers is not kept.
    assert!(nodes[1].put_receipt(&applied('e', (8, 'c'))));
    let found = view.split_views().await.unwrap();
    let about: Vec<_> = found.iter().map(|split| split.about.as_str()).collect();
    assert_eq!(about, ["head/syncer", "policy"]);
    // Sweeping leaves alarms alone; somebody has to see to them.
    fixture.clock.advance(Duration::from_secs(3 * 24 * 3600));
    store.sweep().await.unwrap();
    assert_eq!(view.split_views().await.unwrap().len(), 2);
    assert_eq!(view.forget_split_views(&"t1".parse().unwrap()).await.unwrap(), 2);
    assert_eq!(view.split_views().await.unwrap(), []);
    assert_eq!(view.forget_split_views(&"t1".parse().unwrap()).await.unwrap(), 0);
    assert_eq!(view.forget_split_views(&"other".parse().unwrap()).await.unwrap(), 0);
    assert_eq!(store.split_views_known(), 0);
}
