//! What every engine keeps: tenants, keys, snapshots, documents, audit, changes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dirless_backend::store::policy::ReplaceBy;
use dirless_backend::store::{
    CHUNK_MAX, Change, Enrolment, Expected, Generation, KeyChange, MEMORY_MAX, PutOutcome, SnapshotPut, SourceState,
    SpooledBody, StoreError, TenantHandle, etag_of,
};
use futures_util::TryStreamExt as _;
use serde_json::json;

use crate::common::{Fixture, body_of, credential, key, noise, origin, put, source, tenant, tenant_id};

pub(crate) async fn a_tenant_belongs_to_the_realm_that_enrolled_it(fixture: &Fixture) {
    let store = &fixture.store;
    let (acme, other) = (credential(store, "acme").await, credential(store, "other").await);
    assert!(store.tenant(&acme, "t1").is_none());
    let enroll = async |who, by| {
        store
            .enroll(who, &tenant_id("t1"), &key(0), by, origin())
            .await
            .unwrap()
    };
    assert_eq!(enroll(&acme, ReplaceBy::Enroll).await, Enrolment::Enrolled);
    assert_eq!(enroll(&acme, ReplaceBy::Enroll).await, Enrolment::Unchanged);
    for by in [ReplaceBy::Enroll, ReplaceBy::RotateKey] {
        assert_eq!(enroll(&other, by).await, Enrolment::NotYours);
    }
    assert_eq!(store.tenant(&acme, "t1").unwrap().public_key(), &key(0));
    assert!(store.tenant(&other, "t1").is_none());
    assert!(store.tenant(&other, "unknown").is_none());
}

pub(crate) async fn a_tenants_state_follows_what_hosts_read(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let other = tenant(&fixture.store, "acme", "t2").await;
    let empty = handle.state().await.unwrap();
    assert!(empty.sources.is_empty() && empty.authz_config.is_none() && empty.ca_public_key.is_none());
    assert_eq!(empty.public_key, key(0));
    put(&handle, "local", b"one").await;
    put(&handle, "corp", b"two").await;
    assert!(handle.delete_snapshot(&source("corp"), origin()).await.unwrap());
    let rules = handle
        .put_access_rules(Bytes::from_static(b"{}"), origin())
        .await
        .unwrap();
    handle
        .put_setting("ca_public_key", "ssh-ed25519 A", origin())
        .await
        .unwrap();
    let state = handle.state().await.unwrap();
    let sources = [(source("corp"), None), (source("local"), Some(etag_of(b"one")))];
    assert_eq!(state.sources, sources.into());
    assert_eq!(state.authz_config, Some(rules));
    assert_eq!(state.ca_public_key.as_deref(), Some("ssh-ed25519 A"));
    assert_eq!(other.state().await.unwrap(), empty, "another tenant's is its own");
}

pub(crate) async fn enrolling_again_replaces_or_refuses_the_key(fixture: &Fixture) {
    let store = &fixture.store;
    let handle = tenant(store, "acme", "t1").await;
    let acme = credential(store, "acme").await;
    let enroll = async |number, by| {
        store
            .enroll(&acme, &tenant_id("t1"), &key(number), by, origin())
            .await
            .unwrap()
    };
    let refused = enroll(1, ReplaceBy::RotateKey).await;
    assert_eq!(refused, Enrolment::KeyConflict { registered: key(0) });
    assert_eq!(enroll(0, ReplaceBy::RotateKey).await, Enrolment::Unchanged);
    let replaced = enroll(1, ReplaceBy::Enroll).await;
    assert_eq!(replaced, Enrolment::KeyReplaced { previous: key(0) });
    assert_eq!(store.tenant(&acme, "t1").unwrap().public_key(), &key(1));
    assert_eq!(handle.public_key(), &key(0), "a handle is of its moment");
}

pub(crate) async fn putting_a_key_is_the_other_way_round(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let put = async |number, by| handle.put_public_key(&key(number), by, origin()).await.unwrap();
    assert_eq!(put(0, ReplaceBy::Enroll).await, KeyChange::Unchanged);
    let refused = put(1, ReplaceBy::Enroll).await;
    assert_eq!(refused, KeyChange::Conflict { registered: key(0) });
    let replaced = put(1, ReplaceBy::RotateKey).await;
    assert_eq!(replaced, KeyChange::Replaced { previous: key(0) });
    let acme = credential(&fixture.store, "acme").await;
    assert_eq!(fixture.store.tenant(&acme, "t1").unwrap().public_key(), &key(1));
}

pub(crate) async fn a_snapshot_comes_back_as_it_was_put(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    assert_eq!(handle.source(&source("local")).await.unwrap(), SourceState::Absent);
    let put_with = SnapshotPut {
        recipient: Some(key(0)),
        account: None,
        users: Some(12),
        groups: Some(0),
    };
    let body = SpooledBody::from_bytes(Bytes::from_static(b"sealed"));
    let outcome = handle
        .put_snapshot(&source("local"), put_with, body, origin())
        .await
        .unwrap();
    let PutOutcome::Stored(meta) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((meta.generation, meta.length), (Generation(1), 6));
    assert_eq!((meta.users, meta.groups), (Some(12), Some(0)));
    assert_eq!(meta.etag, etag_of(b"sealed"));
    assert_eq!(
        (meta.recipient.clone(), meta.stored_at),
        (Some(key(0)), fixture.clock.now())
    );
    let (state, body) = handle.snapshot(&source("local"), 6).await.unwrap();
    assert_eq!(state, SourceState::Present(meta.clone()));
    assert_eq!(body.as_deref(), Some(b"sealed".as_slice()));
    let (state, body) = handle.snapshot(&source("local"), 5).await.unwrap();
    assert_eq!((state, body), (SourceState::Present(meta.clone()), None));
    assert_eq!(
        handle.sources().await.unwrap(),
        [(source("local"), SourceState::Present(meta))]
    );
}

pub(crate) async fn an_equal_body_keeps_its_generation(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let first = put(&handle, "local", b"same").await;
    fixture.clock.advance(Duration::from_secs(60));
    let again = put(&handle, "local", b"same").await;
    assert_eq!((again.generation, &again.etag), (first.generation, &first.etag));
    assert_eq!(again.stored_at, fixture.clock.now());
    let other = put(&handle, "local", b"other").await;
    assert_eq!(other.generation, Generation(2));
    // Empty bodies are bodies.
    let empty = put(&handle, "local", b"").await;
    assert_eq!((empty.generation, empty.length), (Generation(3), 0));
    assert_eq!(body_of(&handle, "local").await.unwrap(), Bytes::new());
}

pub(crate) async fn generations_grow_through_deletions(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let delete = async || handle.delete_snapshot(&source("local"), origin()).await.unwrap();
    assert!(!delete().await, "never written");
    put(&handle, "local", b"one").await;
    assert!(delete().await);
    assert!(!delete().await, "already deleted");
    let deleted = SourceState::Deleted {
        at: fixture.clock.now(),
        generation: Generation(2),
    };
    assert_eq!(handle.source(&source("local")).await.unwrap(), deleted);
    assert_eq!(body_of(&handle, "local").await, None);
    assert_eq!(put(&handle, "local", b"one").await.generation, Generation(3));
    assert_eq!(handle.source(&source("elsewhere")).await.unwrap(), SourceState::Absent);
}

pub(crate) async fn a_foreign_recipient_is_refused(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    put(&handle, "local", b"before").await;
    let foreign = SnapshotPut {
        recipient: Some(key(1)),
        ..SnapshotPut::default()
    };
    let body = SpooledBody::from_bytes(Bytes::from_static(b"foreign"));
    let outcome = handle
        .put_snapshot(&source("local"), foreign, body, origin())
        .await
        .unwrap();
    assert_eq!(outcome, PutOutcome::WrongRecipient { registered: key(0) });
    assert_eq!(body_of(&handle, "local").await.unwrap(), "before");
}

pub(crate) async fn the_first_account_wins(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let put_from = async |account: Option<&str>, body: &'static [u8]| {
        let put = SnapshotPut {
            account: account.map(|text| text.parse().unwrap()),
            ..SnapshotPut::default()
        };
        let body = SpooledBody::from_bytes(Bytes::from_static(body));
        handle
            .put_snapshot(&source("local"), put, body, origin())
            .await
            .unwrap()
    };
    let stored = |outcome| matches!(outcome, PutOutcome::Stored(_));
    assert!(stored(put_from(None, b"0").await));
    assert!(stored(put_from(Some("123456789012"), b"1").await));
    let other = put_from(Some("210987654321"), b"2").await;
    assert_eq!(
        other,
        PutOutcome::OtherAccount {
            first: "123456789012".parse().unwrap()
        }
    );
    assert!(stored(put_from(Some("123456789012"), b"3").await));
    assert!(stored(put_from(None, b"4").await));
}

/// Streams a body of `length` bytes in, in odd pieces, and compares what streams out.
async fn through_the_store(fixture: &Fixture, handle: &TenantHandle, length: usize) {
    let bytes = noise(length as u64, length);
    let mut writer = fixture.store.body_writer(length as u64);
    for piece in bytes.chunks(60_007) {
        writer.write(piece).await.unwrap();
    }
    assert_eq!(writer.length(), length as u64);
    let body = writer.finish().await.unwrap();
    assert_eq!((body.length(), body.etag()), (length as u64, etag_of(&bytes)));
    assert_eq!(body.in_memory().is_some(), length <= MEMORY_MAX);
    let outcome = handle
        .put_snapshot(&source("local"), SnapshotPut::default(), body, origin())
        .await
        .unwrap();
    let PutOutcome::Stored(meta) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(body_of(handle, "local").await.unwrap() == bytes, "{length} bytes whole");
    let chunks: Vec<Bytes> = handle.reader(&meta).into_stream().try_collect().await.unwrap();
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_MAX));
    assert_eq!(chunks.len(), length.div_ceil(CHUNK_MAX));
    assert!(chunks.concat() == bytes, "{length} bytes in chunks");
}

pub(crate) async fn long_bodies_stream_in_chunks(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    for length in [
        0,
        1,
        MEMORY_MAX,
        MEMORY_MAX + 1,
        CHUNK_MAX - 1,
        CHUNK_MAX,
        CHUNK_MAX + 1,
        3 * CHUNK_MAX + 17,
    ] {
        through_the_store(fixture, &handle, length).await;
    }
}

pub(crate) async fn a_slow_reader_survives_a_replacement(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let old = noise(1, 2 * CHUNK_MAX);
    let meta = put(&handle, "local", &old).await;
    let mut reader = handle.reader(&meta);
    let first = reader.chunk().await.unwrap().unwrap();
    put(&handle, "local", b"new").await;
    fixture.store.sweep().await.unwrap();
    let second = reader.chunk().await.unwrap().unwrap();
    assert!([first, second].concat() == old);
    assert!(reader.chunk().await.unwrap().is_none());
    // After some minutes, or a second replacement, it is gone, and says so.
    let mut late = handle.reader(&meta);
    fixture.clock.advance(Duration::from_secs(301));
    assert_eq!(fixture.store.sweep().await.unwrap(), 1);
    assert!(matches!(late.chunk().await, Err(StoreError::Superseded)));
    assert_eq!(body_of(&handle, "local").await.unwrap(), "new");
}

pub(crate) async fn a_body_over_the_limit_is_refused(fixture: &Fixture) {
    let mut writer = fixture.store.body_writer(10);
    writer.write(b"0123456789").await.unwrap();
    let error = writer.write(b"x").await.unwrap_err();
    assert!(matches!(error, StoreError::BodyTooLarge { limit: 10 }), "{error}");
    let exact = fixture.store.body_writer(0).finish().await.unwrap();
    assert_eq!(exact.length(), 0);
}

pub(crate) async fn a_write_can_name_what_it_replaces(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let put_if = async |expected: &Expected, body: &'static [u8]| {
        let body = SpooledBody::from_bytes(Bytes::from_static(body));
        let put = SnapshotPut::default();
        let outcome = handle
            .put_snapshot_if(&source("local"), put, expected.clone(), body, origin())
            .await
            .unwrap();
        outcome != PutOutcome::Unexpected
    };
    let tag = |body: &[u8]| Expected::Tag(etag_of(body));
    assert!(!put_if(&Expected::Something, b"1").await && !put_if(&tag(b"1"), b"1").await);
    assert!(put_if(&Expected::Nothing, b"1").await);
    assert!(!put_if(&Expected::Nothing, b"2").await && !put_if(&tag(b"2"), b"2").await);
    assert!(put_if(&tag(b"1"), b"2").await);
    assert!(put_if(&Expected::Something, b"3").await);
    assert_eq!(body_of(&handle, "local").await.unwrap(), "3");
    handle.delete_snapshot(&source("local"), origin()).await.unwrap();
    assert!(!put_if(&tag(b"3"), b"4").await && put_if(&Expected::Nothing, b"4").await);

    // Readers see a tag of the default rules before there are any.
    let absent = etag_of(b"default");
    let rules_if = async |expected: Expected, body: &'static [u8]| {
        let put = handle.put_access_rules_if(Bytes::from_static(body), expected, &absent, origin());
        put.await.unwrap().is_some()
    };
    assert!(!rules_if(tag(b"{1}"), b"{1}").await && rules_if(tag(b"default"), b"{1}").await);
    assert!(!rules_if(tag(b"default"), b"{2}").await && rules_if(tag(b"{1}"), b"{2}").await);
    assert_eq!(handle.access_rules().await.unwrap().unwrap().body, "{2}");
}

pub(crate) async fn settings_and_access_rules_are_kept(fixture: &Fixture) {
    let (one, two) = (
        tenant(&fixture.store, "acme", "t1").await,
        tenant(&fixture.store, "acme", "t2").await,
    );
    assert_eq!(one.setting("ca_public_key").await.unwrap(), None);
    one.put_setting("ca_public_key", "ssh-ed25519 A", origin())
        .await
        .unwrap();
    one.put_setting("ca_public_key", "ssh-ed25519 B", origin())
        .await
        .unwrap();
    one.put_setting("server_limit", "10", origin()).await.unwrap();
    assert_eq!(one.setting("ca_public_key").await.unwrap().unwrap(), "ssh-ed25519 B");
    let all = [("ca_public_key", "ssh-ed25519 B"), ("server_limit", "10")].map(|(k, v)| (k.into(), v.into()));
    assert_eq!(one.settings().await.unwrap(), all);
    assert_eq!(two.settings().await.unwrap(), []);

    assert_eq!(one.access_rules().await.unwrap(), None);
    let body = Bytes::from_static(b"{\"enforce_group_memberships\":true}");
    let etag = one.put_access_rules(body.clone(), origin()).await.unwrap();
    let rules = one.access_rules().await.unwrap().unwrap();
    assert_eq!((&rules.body, &rules.etag), (&body, &etag));
    assert_eq!(etag, etag_of(&body));
    assert_eq!(rules.changed_at, fixture.clock.now());
    assert_eq!(two.access_rules().await.unwrap(), None);
}

pub(crate) async fn duplicates_are_kept_for_each_agent(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let report = async |agent: Option<&str>, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        handle.put_duplicates(agent, &names, origin()).await.unwrap();
    };
    report(None, &["bob", "alice", "bob"]).await;
    report(Some("node-a"), &["carol"]).await;
    let reports = handle.duplicates().await.unwrap();
    let seen: Vec<_> = reports
        .iter()
        .map(|r| (r.agent_id.as_deref(), r.usernames.join(",")))
        .collect();
    assert_eq!(
        seen,
        [(None, "alice,bob".to_owned()), (Some("node-a"), "carol".to_owned())]
    );
    report(None, &[]).await;
    assert_eq!(handle.duplicates().await.unwrap().len(), 1);
}

pub(crate) async fn every_write_is_in_the_audit_log(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let other = tenant(&fixture.store, "acme", "t2").await;
    put(&handle, "local", b"body").await;
    handle.delete_snapshot(&source("local"), origin()).await.unwrap();
    handle.put_setting("k", "v", origin()).await.unwrap();
    handle
        .put_access_rules(Bytes::from_static(b"{}"), origin())
        .await
        .unwrap();
    handle.put_duplicates(None, &[], origin()).await.unwrap();
    let _replaced = handle
        .put_public_key(&key(1), ReplaceBy::RotateKey, origin())
        .await
        .unwrap();
    let lines = handle.audit(0, 100).await.unwrap();
    let actions: Vec<_> = lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "tenant.enroll",
            "snapshot.put",
            "snapshot.delete",
            "setting.put",
            "access_rules.put",
            "duplicates.put",
            "key.replace"
        ]
    );
    let line = &lines[1];
    assert_eq!((line.role.as_str(), line.at), ("classic", fixture.clock.now()));
    assert_eq!(line.realm.as_ref().unwrap().as_str(), "acme");
    assert_eq!(line.address, Some("192.0.2.7".parse().unwrap()));
    assert_eq!(line.details["generation"], json!(1));
    assert!(lines.iter().all(|line| line.tenant == Some(tenant_id("t1"))));
    // Pages, and the other tenant's lines.
    assert_eq!(handle.audit(lines[1].id, 2).await.unwrap(), lines[2..4]);
    assert_eq!(other.audit(0, 100).await.unwrap().len(), 1);
    let all = fixture
        .store
        .all_tenants_bypassing_realm_scope()
        .audit(0, 100)
        .await
        .unwrap();
    assert_eq!(
        all.len(),
        lines.len() + 2,
        "one line for the realm, one for the other tenant"
    );
}

pub(crate) async fn changes_are_told_before_the_writer_is_answered(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    assert!(
        fixture
            .store
            .observe(Arc::new(move |change| noted.lock().unwrap().push(change.clone())))
    );
    assert!(!fixture.store.observe(Arc::new(|_| {})), "one observer");
    let mut changes = fixture.store.subscribe();
    let meta = put(&handle, "local", b"body").await;
    let expected = Change::Snapshot {
        tenant: tenant_id("t1"),
        source: source("local"),
        generation: meta.generation,
        etag: meta.etag,
    };
    assert_eq!(changes.recv().await.unwrap(), expected);
    assert_eq!(*seen.lock().unwrap(), [expected]);
    handle.delete_snapshot(&source("local"), origin()).await.unwrap();
    let deleted = changes.recv().await.unwrap();
    assert!(
        matches!(
            deleted,
            Change::SourceDeleted {
                generation: Generation(2),
                ..
            }
        ),
        "{deleted:?}"
    );
    handle
        .put_access_rules(Bytes::from_static(b"{}"), origin())
        .await
        .unwrap();
    handle.put_setting("k", "v", origin()).await.unwrap();
    credential(&fixture.store, "another").await;
    let rest: Vec<_> = seen.lock().unwrap().drain(2..).collect();
    let expected = [
        Change::AccessRules {
            tenant: tenant_id("t1"),
        },
        Change::Setting {
            tenant: tenant_id("t1"),
            key: "k".into(),
        },
        Change::Credentials,
    ];
    assert_eq!(rest, expected);
}

/// Many writes at once, so that they share commits, some of them refused.
pub(crate) async fn one_refused_write_does_not_fail_its_group(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..64 {
        let handle = handle.clone();
        tasks.spawn(async move {
            let name = source(&format!("s{number}"));
            let put = SnapshotPut {
                // Every third is sealed to a stranger.
                recipient: Some(key(usize::from(number % 3 == 0))),
                ..SnapshotPut::default()
            };
            let body = SpooledBody::from_bytes(noise(number, 5_000).into());
            let outcome = handle.put_snapshot(&name, put, body, origin()).await.unwrap();
            assert_eq!(matches!(outcome, PutOutcome::Stored(_)), number % 3 != 0, "{outcome:?}");
        });
    }
    tasks.join_all().await;
    for number in 0..64 {
        let body = body_of(&handle, &format!("s{number}")).await;
        let expected = (number % 3 != 0).then(|| Bytes::from(noise(number, 5_000)));
        assert!(body == expected, "s{number}");
    }
}

pub(crate) async fn totals_are_summed_over_tenants(fixture: &Fixture) {
    let view = fixture.store.all_tenants_bypassing_realm_scope();
    assert_eq!(view.totals().await.unwrap(), Default::default());
    let (one, two) = (
        tenant(&fixture.store, "acme", "t1").await,
        tenant(&fixture.store, "other", "t2").await,
    );
    put(&one, "local", b"12345").await;
    put(&one, "aws-identity-center", b"123").await;
    put(&two, "local", b"1").await;
    two.delete_snapshot(&source("local"), origin()).await.unwrap();
    let totals = view.totals().await.unwrap();
    assert_eq!((totals.tenants, totals.users, totals.body_bytes), (2, 6, 8));
    assert_eq!(totals.data_updated_at, Some(fixture.clock.now()));
    assert_eq!(totals.only_account, None);
    for (handle, account, only) in [(&one, "123456789012", true), (&two, "210987654321", false)] {
        let put = SnapshotPut {
            account: Some(account.parse().unwrap()),
            ..SnapshotPut::default()
        };
        let body = SpooledBody::from_bytes(Bytes::from_static(b"x"));
        let _stored = handle
            .put_snapshot(&source("local"), put, body, origin())
            .await
            .unwrap();
        assert_eq!(view.totals().await.unwrap().only_account.is_some(), only);
    }
}

pub(crate) async fn a_closed_store_refuses_everything(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    assert!(fixture.store.is_alive());
    let ended = tokio::spawn({
        let store = fixture.store.clone();
        async move { store.ended().await }
    });
    tokio::task::yield_now().await;
    assert!(!ended.is_finished());
    fixture.store.close().await;
    assert!(!fixture.store.is_alive());
    ended.await.unwrap();
    let refused = handle.put_setting("k", "v", origin()).await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    let refused = handle.settings().await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
}
