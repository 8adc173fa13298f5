//! Connections: passwords, TLS, the schema, and who else has the database.

use std::net::TcpListener;

use dirless_backend::store::{PostgresPlace, Purpose, Store, StoreError, verify};
use dirless_program::Secret;
use dirless_testkit::Postgres;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::apart;
use crate::common::{at, body_of, database, open, options, put, server, tenant};

fn try_open(place: PostgresPlace) -> Result<Store, StoreError> {
    let folder = tempfile::tempdir().unwrap();
    Store::open(options(at(folder.path(), place)), Purpose::Console)
}

/// An authority, and what it signed for `localhost`: certificate and key.
fn authority() -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf_key = KeyPair::generate().unwrap();
    let signed = leaf.signed_by(&leaf_key, &issuer).unwrap();
    (root.pem(), signed.pem(), leaf_key.serialize_pem())
}

#[tokio::test]
async fn over_the_network_the_server_is_checked_and_so_is_the_password() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (root, certificate, key) = authority();
    let settings = format!("listen_addresses = '127.0.0.1'\nport = {port}\nssl = on\n");
    let access = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    let files = [
        ("server.crt", certificate.as_str()),
        ("server.key", key.as_str()),
        ("pg_hba.conf", access),
    ];
    // The sockets of the port's number, which the tools of the server are told by their variable.
    let server = Postgres::start_on(port, &settings, &files).unwrap();
    let _local = server.database("safe").unwrap();
    server
        .sql("safe", "CREATE ROLE backend LOGIN PASSWORD 'sekret'")
        .unwrap();
    server.sql("safe", "GRANT ALL ON SCHEMA public TO backend").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("root.pem");
    std::fs::write(&trusted, root).unwrap();
    let url = |host: &str, rest: &str| format!("postgres://backend@{host}:{port}/safe{rest}");
    let verified = format!("?sslmode=verify-full&sslrootcert={}", trusted.display());
    let place = |url: String, password: &str| {
        let place: PostgresPlace = url.parse().unwrap();
        place.with_password(Secret::new(password.to_owned()))
    };

    let store = try_open(place(url("localhost", &verified), "sekret")).unwrap();
    assert_eq!((store.engine().name, store.engine().reachable), ("postgresql", true));
    let handle = tenant(&store, "acme", "t1").await;
    put(&handle, "local", b"over TLS").await;
    assert_eq!(body_of(&handle, "local").await.unwrap(), "over TLS");

    let (other, ..) = authority();
    let stranger = folder.path().join("other.pem");
    std::fs::write(&stranger, other).unwrap();
    let strange = format!("?sslrootcert={}", stranger.display());
    for (place, why) in [
        (
            place(url("127.0.0.1", &verified), "sekret"),
            "another name than the certificate's",
        ),
        (
            place(url("localhost", &strange), "sekret"),
            "an authority that is not trusted",
        ),
        (place(url("localhost", &verified), "wrong"), "a wrong password"),
        (
            place(url("localhost", "?sslmode=disable"), "sekret"),
            "no TLS where the server wants it",
        ),
    ] {
        let refused = try_open(place).unwrap_err();
        assert!(!refused.to_string().contains("sekret"), "{why}: {refused}");
    }
}

#[tokio::test]
async fn servers_that_start_together_make_the_schema_once() {
    let place = database();
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let stores: Vec<Store> = std::thread::scope(|scope| {
        let opening: Vec<_> = folders
            .iter()
            .map(|folder| scope.spawn(|| open(at(folder.path(), place.clone()))))
            .collect();
        opening.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for store in &stores {
        tenant(store, "acme", "t1").await;
    }
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_left_alone() {
    let place = database();
    let name = place.to_string().rsplit('/').next().unwrap().to_owned();
    drop(try_open(place.clone()).unwrap());
    server().sql(&name, "UPDATE store_state SET schema = 99").unwrap();
    let refused = try_open(place).unwrap_err();
    assert!(
        matches!(refused, StoreError::NewerSchema { found: 99, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn the_audit_log_is_never_changed_and_commits_are_durable() {
    let place = database();
    let name = place.to_string().rsplit('/').next().unwrap().to_owned();
    server()
        .sql(
            "postgres",
            &format!("ALTER DATABASE {name} SET synchronous_commit = off"),
        )
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = open(at(folder.path(), place));
    let _tenant = tenant(&store, "acme", "t1").await;
    for change in ["UPDATE audit SET action = 'y'", "DELETE FROM audit", "TRUNCATE audit"] {
        let refused = server().sql(&name, change).unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{refused}");
    }
    let location = at(folder.path(), server().url(&name).parse().unwrap());
    let verified = apart(|| verify(location)).unwrap();
    assert!(verified.is_clean() && verified.tenants == 1);
    let schema = server().sql(&name, "SELECT schema FROM store_state").unwrap();
    assert_eq!(schema.trim(), verified.schema.to_string());
}

#[tokio::test]
async fn a_text_that_cannot_be_stored_is_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(at(folder.path(), database()));
    let handle = tenant(&store, "acme", "t1").await;
    let origin = crate::common::origin();
    let (good, bad) = tokio::join!(
        handle.put_setting("k", "v", origin),
        handle.put_setting("k", "a\0b", origin)
    );
    good.unwrap();
    assert!(matches!(bad, Err(StoreError::Nul)), "{bad:?}");
    assert_eq!(handle.setting("k").await.unwrap().as_deref(), Some("v"));
}
