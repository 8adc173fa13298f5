//! Copies from one engine to the other and back.

use dirless_backend::store::{
    Expected, Location, Purpose, Store, StoreError, TransferError, Transferred, transfer, verify,
};
use dirless_wire::trust::{KeyRole, PublicKey};

use crate::apart;
use crate::common::{
    at, body, body_of, database, noise, open, options, origin, path, put, server, source, tenant, trusted,
};

/// A store with something in every table.
async fn fill(location: &Location) {
    let store = open(location.clone());
    let handle = tenant(&store, "acme", "t1").await;
    put(&handle, "local", &noise(1, 2_500_000)).await;
    put(&handle, "local", &noise(2, 1_200_000)).await;
    put(&handle, "gone", b"x").await;
    handle.delete_snapshot(&source("gone"), origin()).await.unwrap();
    handle.put_setting("k", "täxt", origin()).await.unwrap();
    handle
        .put_duplicates(Some("a"), &["alice".into()], origin())
        .await
        .unwrap();
    handle
        .put_access_rules(bytes::Bytes::from_static(b"{}"), origin())
        .await
        .unwrap();
    let sink = dirless_backend::store::HeartbeatSink::new(store.clone(), Default::default());
    for number in 0..1200 {
        let agent_id = format!("agent-{number}");
        let _taken = sink.beat(
            &handle,
            dirless_backend::store::Beat {
                agent_id: &agent_id,
                hostname: "vm",
                extras: (number % 2 == 0).then_some("{}"),
            },
        );
    }
    sink.flush().await.unwrap();
    let trust = trusted(&store, "v1").await;
    let _stored = trust
        .put_object(&path("policy/1"), Expected::Anything, body(b"note"), origin())
        .await
        .unwrap();
    let public = PublicKey::new("node+00000001".parse().unwrap(), [1; 32]);
    let _registered = trust
        .register_key(&public, KeyRole::Node, None, origin())
        .await
        .unwrap();
    let holder = store.key_holder("v1", public.id()).unwrap();
    let node = store.tenant_of_key(holder);
    assert!(node.put_receipt(&bytes::Bytes::from_static(b"receipt")));
    store.flush_receipts().await.unwrap();
    let secret = dirless_backend::store::SecretHash::of(b"bearer");
    let later = crate::common::start() + jiff::SignedDuration::from_hours(1);
    let code: dirless_wire::trust::Label = "code1".parse().unwrap();
    assert!(trust.put_join_code(&code, secret, later, 2, origin()).await.unwrap());
    let _taken = store
        .post_join_request("v1", &code, secret, bytes::Bytes::from_static(b"request"), origin())
        .await
        .unwrap();
    store.close().await;
}

fn copied(from: &Location, to: &Location) -> Transferred {
    transfer(from, to).unwrap()
}

#[test]
fn a_store_goes_to_the_other_engine_and_back_unchanged() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let first = Location::from(folders[0].path());
    let middle = at(folders[1].path(), database());
    let last = Location::from(folders[2].path());
    runtime.block_on(fill(&first));

    let there = copied(&first, &middle);
    assert!(there.rows > 1200 && there.body_bytes > 3_700_000, "{there:?}");
    let seen = verify(middle.clone()).unwrap();
    assert!(seen.is_clean(), "{:?}", seen.problems);
    // Used where it is now, and ids go on above those that were copied.
    runtime.block_on(async {
        let store = open(middle.clone());
        let handle = tenant(&store, "acme", "t1").await;
        assert!(body_of(&handle, "local").await.unwrap() == noise(2, 1_200_000));
        assert_eq!(handle.setting("k").await.unwrap().as_deref(), Some("täxt"));
        store.close().await;
    });
    let back = copied(&middle, &last);
    assert_eq!(back, there, "the same rows and sum");
    assert!(verify(last.clone()).unwrap().is_clean());
    runtime.block_on(async {
        for location in [&middle, &last] {
            let store = open(location.clone());
            let handle = tenant(&store, "acme", "t2").await;
            put(&handle, "local", b"new").await;
            let trust = trusted(&store, "v2").await;
            let note = body(b"other note");
            let _stored = trust
                .put_object(&path("policy/1"), Expected::Anything, note, origin())
                .await
                .unwrap();
            store.close().await;
        }
    });
}

#[test]
fn what_is_in_use_or_not_empty_is_left_alone() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let embedded = Location::from(folders[0].path());
    let distributed = at(folders[1].path(), database());
    runtime.block_on(fill(&embedded));

    let store = open(distributed.clone());
    let in_use = |outcome: Result<Transferred, TransferError>| match outcome {
        Err(TransferError::Store { source, .. }) => matches!(source, StoreError::InUse { .. }),
        _ => false,
    };
    // The lock of a server is taken by its writing thread.
    let name = distributed.to_string().rsplit('/').next().unwrap().to_owned();
    runtime.block_on(crate::until("the server holds its lock", async || {
        let held = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database \
                    WHERE datname = current_database() AND locktype = 'advisory' AND mode = 'ShareLock'";
        server().sql(&name, held).unwrap().trim() != "0"
    }));
    assert!(in_use(transfer(&embedded, &distributed)));
    let _tenant = runtime.block_on(tenant(&store, "acme", "there"));
    runtime.block_on(store.close());
    drop(store);
    let mut refused = transfer(&embedded, &distributed);
    runtime.block_on(crate::until("the lock is let go", async || {
        refused = apart(|| transfer(&embedded, &distributed));
        !matches!(&refused, Err(TransferError::Store { .. }))
    }));
    assert!(
        matches!(&refused, Err(TransferError::NotEmpty { table: "realms", .. })),
        "{refused:?}"
    );
    let server = Store::open(options(folders[0].path()), Purpose::Serve).unwrap();
    assert!(in_use(transfer(&embedded, &distributed)));
    drop(server);
    let nowhere = Location::from(folders[1].path().join("nothing"));
    assert!(matches!(
        transfer(&nowhere, &distributed),
        Err(TransferError::Store { .. })
    ));
}
