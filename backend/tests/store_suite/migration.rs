//! The way from every released schema to the newest one, on both engines.

use bytes::Bytes;
use dirless_backend::store::{JoinPost, PostgresPlace, SecretHash, Store};
use dirless_wire::trust::{Digest, Label};
use rusqlite::Connection;

use crate::common::{
    KEYS, at, body_of, credential, database, open, origin, path, put, server, tenant, tenant_id, trusted,
};

/// Every schema that was ever released, oldest first: what its migration ran.
const SQLITE: &[&str] = &[
    include_str!("../../src/store/schema/0001-base.sql"),
    include_str!("../../src/store/schema/0002-trust.sql"),
    include_str!("../../src/store/schema/0003-sightings.sql"),
    include_str!("../../src/store/schema/0004-join-uses.sql"),
];

/// The same of PostgreSQL.
const POSTGRESQL: &[&str] = &[
    include_str!("../../src/store/schema/postgres/0001-base.sql"),
    include_str!("../../src/store/schema/postgres/0002-sightings.sql"),
    include_str!("../../src/store/schema/postgres/0003-join-uses.sql"),
];

/// Whether a schema of these steps has the table.
fn has(steps: &[&str], table: &str) -> bool {
    let made = format!("CREATE TABLE {table} ");
    steps.iter().any(|step| step.contains(&made))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap()
}

/// Rows as programs of a schema of these steps left them; `blob` writes hexadecimal digits as the engine's bytes.
fn old_rows(steps: &[&str], blob: impl Fn(&str) -> String) -> String {
    let bytes = |bytes: &[u8]| blob(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let hash = |text: &str| bytes(&sha256(text.as_bytes()));
    let mut rows = format!(
        "INSERT INTO realms (name, state, created_at) VALUES ('acme', 'active', 1);
         INSERT INTO realm_secrets (realm_id, hash, created_at) VALUES (1, {secret}, 1);
         INSERT INTO tenants (tenant, realm_id, public_key, enrolled_at, key_changed_at) VALUES ('t1', 1, '{key}', 1, 1);
         INSERT INTO settings (tenant_id, key, value, changed_at) VALUES (1, 'k', 'täxt', 1);
         INSERT INTO sources (tenant_id, source, last, deleted_at) VALUES (1, 'local', 7, 1);
         INSERT INTO generations (source_id, generation, sha256, length, chunks, stored_at) VALUES (1, 7, {body}, 8, 1, 1);
         INSERT INTO chunks (generation_id, number, bytes) VALUES (1, 0, {chunk});
         UPDATE sources SET current = 1, deleted_at = NULL;",
        secret = hash("secret-of-acme"),
        key = KEYS[0],
        body = hash("old body"),
        chunk = bytes(b"old body"),
    );
    if has(steps, "objects") {
        rows.push_str(&format!(
            "INSERT INTO objects (tenant_id, path, sha256, length, chunks, stored_at) VALUES (1, 'policy/1', {note}, 8, 1, 1);
             INSERT INTO object_chunks (object_id, number, bytes) VALUES (1, 0, {chunk});
             INSERT INTO keys (tenant_id, key, public_key, role, created_at) VALUES (1, 'n1+00000001', {note}, 'node', 1);
             INSERT INTO receipts (key_id, receipt, received_at) VALUES (1, {receipt}, 1);
             INSERT INTO join_codes (tenant_id, code, bearer, expires_at, uses_left, created_at)
                 VALUES (1, 'code1', {bearer}, 4000000000000, 1, 1);
             INSERT INTO join_requests (code_id, sha256, bytes, received_at) VALUES (1, {request}, {asked}, 1);",
            note = hash("old note"),
            chunk = bytes(b"old note"),
            receipt = bytes(b"old receipt"),
            bearer = hash("bearer"),
            request = hash("request"),
            asked = bytes(b"request"),
        ));
    }
    if has(steps, "sightings") {
        rows.push_str(&format!(
            "INSERT INTO sightings (tenant_id, about, version, sha256, key_id, seen_at, split)
                 VALUES (1, 'policy', 1, {one}, 1, 1, 1), (1, 'policy', 1, {other}, 1, 1, 1);",
            one = hash("one"),
            other = hash("other"),
        ));
    }
    if has(steps, "join_uses") {
        rows.push_str("INSERT INTO join_uses (code_id, sha256) SELECT code_id, sha256 FROM join_requests;");
    }
    rows
}

/// All of [`old_rows`] is there, and is gone on with.
async fn is_gone_on_with(store: &Store, steps: &[&str]) {
    let realms = store.realms().await.unwrap();
    let names: Vec<_> = realms.iter().map(|realm| realm.name.to_string()).collect();
    assert_eq!(names, ["acme"]);
    let acme = credential(store, "acme").await;
    let handle = store.tenant(&acme, "t1").unwrap();
    assert_eq!(body_of(&handle, "local").await.unwrap(), "old body");
    assert_eq!(handle.setting("k").await.unwrap().as_deref(), Some("täxt"));
    assert_eq!(put(&handle, "local", b"new body").await.generation.0, 8);
    put(&tenant(store, "acme", "t2").await, "local", b"other").await;
    let verified = trusted(store, "t1").await;
    let split = store
        .all_tenants_bypassing_realm_scope()
        .split_views()
        .await
        .unwrap()
        .len();
    assert_eq!(split, usize::from(has(steps, "sightings")));
    if has(steps, "objects") {
        objects_are_gone_on_with(store).await;
    }
    let (name, note) = (path("policy/2"), crate::common::body(b"new note"));
    let stored = verified.put_object(&name, dirless_backend::store::Expected::Nothing, note, origin());
    let stored = stored.await.unwrap();
    assert!(
        matches!(stored, dirless_backend::store::ObjectPut::Stored(_)),
        "{stored:?}"
    );
}

async fn objects_are_gone_on_with(store: &Store) {
    let verified = trusted(store, "t1").await;
    let (_, note) = verified.object(&path("policy/1"), 100).await.unwrap().unwrap();
    assert_eq!(note.unwrap(), "old note");
    assert!(store.key_holder("t1", &"n1+00000001".parse().unwrap()).is_some());
    let receipts = verified.receipts("", 10).await.unwrap().entries;
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].bytes, "old receipt");
    // The request was let in before: in the mailbox again it costs no use, and one is left.
    let (code, bearer): (Label, _) = ("code1".parse().unwrap(), SecretHash::of(b"bearer"));
    let digest = Digest::from_bytes(sha256(b"request"));
    assert!(verified.delete_join_request(&code, &digest, origin()).await.unwrap());
    for (request, expected) in [
        ("request", JoinPost::Taken),
        ("next", JoinPost::Taken),
        ("third", JoinPost::Refused),
    ] {
        let bytes = Bytes::from_static(request.as_bytes());
        let posted = store.post_join_request("t1", &code, bearer, bytes, origin());
        assert_eq!(posted.await.unwrap(), expected, "{request}");
    }
}

fn sqlite_schema(connection: &Connection) -> Vec<(String, String)> {
    let mut select = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
        .unwrap();
    let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn every_released_schema_becomes_the_newest() {
    let fresh = tempfile::tempdir().unwrap();
    drop(open(fresh.path()));
    let newest = Connection::open(fresh.path().join("dirless.db")).unwrap();
    let number: i64 = newest
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(
        number,
        i64::try_from(SQLITE.len()).unwrap(),
        "list the new schema above"
    );

    for released in 1..=SQLITE.len() {
        let steps = &SQLITE[..released];
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("dirless.db");
        let old = Connection::open(&database).unwrap();
        for step in steps {
            old.execute_batch(step).unwrap();
        }
        old.execute_batch(&old_rows(steps, |digits| format!("x'{digits}'")))
            .unwrap();
        old.pragma_update(None, "user_version", i64::try_from(released).unwrap())
            .unwrap();
        drop(old);

        let store = open(folder.path());
        is_gone_on_with(&store, steps).await;
        store.close().await;
        assert_eq!(
            sqlite_schema(&Connection::open(&database).unwrap()),
            sqlite_schema(&newest),
            "from schema {released}"
        );
    }
}

/// The name of a database on the server of these tests.
fn name_of(place: &PostgresPlace) -> String {
    place.to_string().rsplit('/').next().unwrap().to_owned()
}

/// Columns, indexes, constraints and triggers of a database, and the number of its schema.
fn postgres_schema(name: &str) -> String {
    let looked = "SELECT format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default) \
             FROM information_schema.columns WHERE table_schema = 'public' \
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' \
         UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
             WHERE connamespace = 'public'::regnamespace \
         UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal \
         UNION ALL SELECT 'schema ' || schema FROM store_state ORDER BY 1";
    server().sql(name, looked).unwrap()
}

/// Two stores that are opened at the same time, with their folders.
fn open_both(place: &PostgresPlace) -> [(Store, tempfile::TempDir); 2] {
    let open_one = || {
        let folder = tempfile::tempdir().unwrap();
        (open(at(folder.path(), place.clone())), folder)
    };
    std::thread::scope(|scope| {
        let both = [scope.spawn(open_one), scope.spawn(open_one)];
        both.map(|opening| opening.join().unwrap())
    })
}

#[tokio::test]
async fn every_released_schema_of_postgresql_becomes_the_newest_though_two_open_it_at_once() {
    let fresh = database();
    drop(open_both(&fresh));
    let newest = postgres_schema(&name_of(&fresh));
    let number = format!("schema {}\n", POSTGRESQL.len());
    assert!(newest.contains(&number), "list the new schema above");

    for released in 1..=POSTGRESQL.len() {
        let steps = &POSTGRESQL[..released];
        let place = database();
        let name = name_of(&place);
        let rows = old_rows(steps, |digits| format!("'\\x{digits}'"));
        let made = format!(
            "{};{rows}UPDATE store_state SET schema = {released}, sequence = 5",
            steps.join(";")
        );
        server().sql(&name, &made).unwrap();

        let [(one, _one), (two, _two)] = open_both(&place);
        is_gone_on_with(&one, steps).await;
        let seen = two.tenant(&credential(&two, "acme").await, "t1").unwrap();
        assert_eq!(seen.tenant(), &tenant_id("t1"));
        assert_eq!(body_of(&seen, "local").await.unwrap(), "new body", "at the other");
        assert_eq!(postgres_schema(&name), newest, "from schema {released}");
    }
}
