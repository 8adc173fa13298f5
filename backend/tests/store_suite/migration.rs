//! The way from every released schema to the newest one.

use rusqlite::Connection;

use crate::common::{body_of, open, put, tenant};

/// Every schema that was ever released, oldest first: what its migration ran.
const RELEASED: &[&str] = &[
    include_str!("../../src/store/schema/0001-base.sql"),
    include_str!("../../src/store/schema/0002-trust.sql"),
    include_str!("../../src/store/schema/0003-sightings.sql"),
];

fn schema(connection: &Connection) -> Vec<(String, String)> {
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
        i64::try_from(RELEASED.len()).unwrap(),
        "list the new schema above"
    );

    for released in 1..=RELEASED.len() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("dirless.db");
        let old = Connection::open(&database).unwrap();
        for step in &RELEASED[..released] {
            old.execute_batch(step).unwrap();
        }
        old.execute_batch("INSERT INTO realms (name, state, created_at) VALUES ('old', 'active', 1)")
            .unwrap();
        old.pragma_update(None, "user_version", i64::try_from(released).unwrap())
            .unwrap();
        drop(old);

        let store = open(folder.path());
        let handle = tenant(&store, "acme", "t1").await;
        put(&handle, "local", b"body").await;
        assert_eq!(body_of(&handle, "local").await.unwrap(), "body");
        let realms: Vec<_> = store
            .realms()
            .await
            .unwrap()
            .into_iter()
            .map(|realm| realm.name.to_string())
            .collect();
        assert_eq!(realms, ["acme", "old"], "what the old schema held is there");
        store.close().await;
        assert_eq!(
            schema(&Connection::open(&database).unwrap()),
            schema(&newest),
            "from schema {released}"
        );
    }
}
