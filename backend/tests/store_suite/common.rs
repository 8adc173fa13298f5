//! What the store's tests share.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use dirless_backend::store::policy::ReplaceBy;
use dirless_backend::store::{
    Credential, Enrolment, Location, NewRealm, NewTenant, NewToken, Operator, Origin, PostgresPlace, Principal,
    Purpose, PutOutcome, RealmName, Scope, SecretHash, SnapshotMeta, SnapshotPut, SourceState, SpooledBody, Store,
    StoreOptions, TenantHandle, TokenCreation, TokenId, TrustHandle,
};
use dirless_program::Clock;
use dirless_testkit::Postgres;
use dirless_wire::trust::ObjectPath;
use dirless_wire::{AgePublicKey, SourceName, TenantId};
use jiff::Timestamp;

pub(crate) const KEYS: [&str; 2] = [
    "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s",
    "age1sc4gd6wwdn3mfcc9r26lmeh0ze0l67artuy6gjp73ztafn3amensnq6mr6",
];

pub(crate) fn key(number: usize) -> AgePublicKey {
    KEYS[number].parse().unwrap()
}

pub(crate) fn tenant_id(text: &str) -> TenantId {
    text.parse().unwrap()
}

pub(crate) fn source(text: &str) -> SourceName {
    text.parse().unwrap()
}

pub(crate) fn origin() -> Origin {
    Origin::network("192.0.2.7".parse().unwrap())
}

/// 2026-01-01T00:00:00Z.
pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap()
}

pub(crate) fn options(location: impl Into<Location>) -> StoreOptions {
    StoreOptions {
        clock: Clock::manual(start()),
        ..StoreOptions::new(location)
    }
}

pub(crate) fn open(location: impl Into<Location>) -> Store {
    Store::open(options(location), Purpose::Serve).unwrap()
}

/// A credential of a realm, which is made when missing; its secret is `secret-of-` and the name.
pub(crate) async fn credential(store: &Store, realm: &str) -> Arc<Credential> {
    let secret = SecretHash::of(format!("secret-of-{realm}").as_bytes());
    if store.authenticate(&secret).is_none() {
        let made = store
            .create_realm(&RealmName::parse(realm).unwrap(), secret)
            .await
            .unwrap();
        // Or another server made it, which this one has heard of with the answer.
        assert_ne!(made, NewRealm::SecretTaken);
    }
    match store.authenticate(&secret).unwrap() {
        Principal::Realm(credential) => credential,
        Principal::Operator(_) => unreachable!("a realm's secret"),
    }
}

/// A tenant of a realm, enrolled with the first key when it is not.
pub(crate) async fn tenant(store: &Store, realm: &str, id: &str) -> TenantHandle {
    let credential = credential(store, realm).await;
    if store.tenant(&credential, id).is_none() {
        let enrolled = store
            .enroll(&credential, &tenant_id(id), &key(0), ReplaceBy::Enroll, origin())
            .await
            .unwrap();
        assert!(
            matches!(enrolled, Enrolment::Enrolled | Enrolment::Unchanged),
            "{enrolled:?}"
        );
    }
    store.tenant(&credential, id).unwrap()
}

pub(crate) async fn put(tenant: &TenantHandle, name: &str, body: &[u8]) -> SnapshotMeta {
    let body = SpooledBody::from_bytes(Bytes::copy_from_slice(body));
    let put = SnapshotPut {
        users: Some(3),
        ..SnapshotPut::default()
    };
    match tenant.put_snapshot(&source(name), put, body, origin()).await.unwrap() {
        PutOutcome::Stored(meta) => meta,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn body_of(tenant: &TenantHandle, name: &str) -> Option<Bytes> {
    match tenant.snapshot(&source(name), u64::MAX).await.unwrap() {
        (SourceState::Present(_), body) => Some(body.unwrap()),
        _ => None,
    }
}

/// An operator of a realm, or of all.
pub(crate) async fn operator(store: &Store, realm: Option<&str>) -> Arc<Operator> {
    let id = TokenId::generate(&ring::rand::SystemRandom::new()).unwrap();
    let secret = SecretHash::of(id.as_str().as_bytes());
    let new = NewToken {
        id,
        label: "test".to_owned(),
        scopes: vec![Scope::Tenants],
        realm: realm.map(|name| RealmName::parse(name).unwrap()),
        expires_at: None,
        secret,
    };
    assert_eq!(store.create_token(new).await.unwrap(), TokenCreation::Created);
    match store.authenticate(&secret).unwrap() {
        Principal::Operator(operator) => operator,
        Principal::Realm(_) => unreachable!("a token's secret"),
    }
}

/// A tenant of the realm `acme`, made when missing, as its operator reaches it.
pub(crate) async fn trusted(store: &Store, id: &str) -> TrustHandle {
    let _realm = credential(store, "acme").await;
    let operator = operator(store, Some("acme")).await;
    let made = store.create_tenant(&operator, &tenant_id(id), origin()).await.unwrap();
    assert_ne!(made, NewTenant::NotYours);
    store.tenant_of_operator(&operator, id).unwrap()
}

pub(crate) fn path(text: &str) -> ObjectPath {
    text.parse().unwrap()
}

pub(crate) fn body(bytes: &[u8]) -> SpooledBody {
    SpooledBody::from_bytes(Bytes::copy_from_slice(bytes))
}

/// `length` bytes that differ from seed to seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64: fast in an unoptimised build.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A store of its own, and the hand of its clock.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    location: Location,
    _folder: tempfile::TempDir,
}

impl Fixture {
    /// Another store in the same place, whose clock is ahead.
    pub(crate) fn ahead(&self, by: Duration) -> Store {
        let options = options(self.location.clone());
        options
            .clock
            .advance(self.clock.now().duration_since(start()).unsigned_abs() + by);
        Store::open(options, Purpose::Console).unwrap()
    }

    /// Has the database become another one behind the store's back, as when a standby takes over that was behind.
    pub(crate) fn alter(&self, sql: &str) {
        let Some(place) = &self.location.database else {
            let file = self.location.folder.join("dirless.db");
            return rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap();
        };
        let place = place.to_string();
        let (_, name) = place.rsplit_once('/').unwrap();
        server().sql(name, sql).unwrap();
        let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        server().sql("postgres", &cut).unwrap();
    }
}

/// The server of this process's tests.
pub(crate) fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start().unwrap())
}

/// A database of its own.
pub(crate) fn database() -> PostgresPlace {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    server().database(&name).unwrap().parse().unwrap()
}

/// A store in a database, with a folder for what comes in.
pub(crate) fn at(folder: &Path, database: PostgresPlace) -> Location {
    Location {
        folder: folder.to_owned(),
        database: Some(database),
    }
}

/// PostgreSQL.
pub(crate) fn postgresql() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let location = at(folder.path(), database());
    fixture(folder, location)
}

/// The embedded engine.
pub(crate) fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().into();
    fixture(folder, location)
}

fn fixture(folder: tempfile::TempDir, location: Location) -> Fixture {
    let options = options(location.clone());
    let clock = options.clock.clone();
    Fixture {
        store: Store::open(options, Purpose::Serve).unwrap(),
        clock,
        location,
        _folder: folder,
    }
}
