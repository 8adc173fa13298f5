//! Objects in backups, after a restart, and damaged.

use dirless_backend::store::{Expected, Problem, backup, restore, verify};
use dirless_wire::trust::{Digest, KeyRole, PublicKey};
use rusqlite::Connection;

use crate::common::{body, noise, open, operator, origin, path, start, trusted};

#[tokio::test]
async fn everything_is_there_after_a_restart_and_in_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let tenant = trusted(&store, "t1").await;
    let bytes = noise(3, 1_500_000);
    let blob = body(&bytes);
    let digest = blob_digest(&bytes);
    let name = path(&format!("blob/{digest}"));
    let _stored = tenant
        .put_object(&name, Expected::Anything, blob, origin())
        .await
        .unwrap();
    let key = PublicKey::new("syncer+00000001".parse().unwrap(), [1; 32]);
    let _made = tenant
        .register_key(&key, KeyRole::Publisher, None, origin())
        .await
        .unwrap();
    let gone = PublicKey::new("syncer+00000002".parse().unwrap(), [2; 32]);
    let _made = tenant
        .register_key(&gone, KeyRole::Publisher, None, origin())
        .await
        .unwrap();
    let _revoked = tenant.revoke_key(gone.id(), origin()).await.unwrap();
    store.close().await;
    drop((tenant, store));

    let file = folder.path().join("copy");
    let seen = backup(folder.path(), &file).unwrap();
    assert!(seen.is_clean(), "{:?}", seen.problems);
    assert_eq!((seen.bodies, seen.bytes), (1, 1_500_000));
    let elsewhere = tempfile::tempdir().unwrap();
    restore(elsewhere.path(), &file, false, start()).unwrap();
    for place in [folder.path(), elsewhere.path()] {
        let store = open(place);
        assert!(store.key_holder("t1", key.id()).is_some());
        assert!(store.key_holder("t1", gone.id()).is_none());
        let operator = operator(&store, None).await;
        let tenant = store.tenant_of_operator(&operator, "t1").unwrap();
        let (_, found) = tenant.object(&name, u64::MAX).await.unwrap().unwrap();
        assert!(found.unwrap() == bytes);
        store.close().await;
    }
}

fn blob_digest(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Digest::from_bytes(digest)
}

#[tokio::test]
async fn damage_to_objects_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let tenant = trusted(&store, "t1").await;
    for name in ["policy/1", "policy/2", &format!("blob/{}", "00".repeat(32))] {
        let _stored = tenant
            .put_object(&path(name), Expected::Anything, body(name.as_bytes()), origin())
            .await;
    }
    store.close().await;
    drop((tenant, store));
    let database = Connection::open(folder.path().join("dirless.db")).unwrap();
    database
        .execute_batch(
            "UPDATE object_chunks SET bytes = zeroblob(length(bytes)) \
             WHERE object_id = (SELECT id FROM objects WHERE path = 'policy/1')",
        )
        .unwrap();
    drop(database);
    let found: Vec<String> = verify(folder.path())
        .unwrap()
        .problems
        .iter()
        .map(|problem| match problem {
            Problem::Object { path, .. } => path.clone(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        found,
        ["t1/policy/1".to_owned(), format!("t1/blob/{}", "00".repeat(32))]
    );
}
