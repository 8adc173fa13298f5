//! The same against our backend itself, in this process: entity tags, conditions and codes are its
//! own here.

use std::path::Path;
use std::thread::JoinHandle;

use bytes::Bytes;
use dirless_backend::App;
use dirless_backend::net::{Serving, bind};
use dirless_backend::store::{Purpose, RealmChange, SecretHash, Store, StoreOptions};
use dirless_client::{ClientBuilder, Cycle, Error, Expected, Fetched, Previous, RetryPolicy, SnapshotHeaders};
use dirless_program::{Clock, Secret};
use dirless_seal::Identity;
use dirless_wire::{AgePublicKey, ErrorCode, SourceName, TenantId};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::desk::{Desk, again};
use crate::fake::sealed;

struct Backend {
    url: String,
    _folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// With one realm, whose tenant `acme` has enrolled `identity`.
    async fn start(identity: &Identity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = dirless_program::config::parse("", Path::new("test.toml")).unwrap();
        let store = Store::open(StoreOptions::new(folder.path().join("store")), Purpose::Serve).unwrap();
        let secret = SecretHash::of(b"sekret-token-1");
        assert_eq!(store.ensure_default_realm(secret).await.unwrap(), RealmChange::Done);
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let url = format!("http://{}", listeners[0].local_addr().unwrap());
        let serving = Serving {
            app: App::new(config, store, Clock::system()),
            listeners,
            tls: None,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime
                .block_on(serving.run(async { drop(stopped.await) }, || {}))
                .unwrap();
        });
        let backend = Self {
            url,
            _folder: folder,
            stop: Some(stop),
            thread: Some(thread),
        };
        let cycle = backend.cycle("sekret-token-1", "acme");
        cycle
            .enroll(&TenantId::new("acme").unwrap(), &key(identity))
            .await
            .unwrap();
        backend
    }

    fn cycle(&self, bearer: &str, tenant: &str) -> Cycle {
        ClientBuilder::new()
            .url(&self.url)
            .unwrap()
            .bearer(Secret::new(bearer.to_owned()))
            .tenant(TenantId::new(tenant).unwrap())
            .retry(RetryPolicy::none())
            .build()
            .unwrap()
            .cycle()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn key(identity: &Identity) -> AgePublicKey {
    AgePublicKey::new(identity.recipient().as_str()).unwrap()
}

#[tokio::test]
async fn the_commands_work_with_our_backend() {
    let identity = Identity::generate();
    let backend = Backend::start(&identity).await;
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::new(
        &backend.url,
        again(&identity),
        Some(folder.path().join("local-sequence")),
    );
    for (line, said) in [
        ("user add alice", "user alice added: uid 100001, gid 100000\n"),
        ("user add bob", "user bob added: uid 100002, gid 100000\n"),
        ("user remove alice", "user alice removed\n"),
        ("user add carol", "user carol added: uid 100003, gid 100000\n"),
        ("group add eng", "group eng added: gid 100001\n"),
        ("group member add eng bob", "bob added to eng\n"),
        ("access enforce off", "enforcement is off; nothing to do\n"),
    ] {
        assert_eq!(desk.types(line).await.unwrap(), said, "{line}");
    }
    desk.types("access allow eng web-1").await.unwrap();
    desk.types("access enforce on").await.unwrap();
    let rules = backend
        .cycle("sekret-token-1", "aws___acme")
        .get_access_rules()
        .await
        .unwrap()
        .unwrap();
    assert!(rules.config.enforce_group_memberships && rules.etag.is_some());
    let shown: serde_json::Value = serde_json::from_str(&desk.types("show --json").await.unwrap()).unwrap();
    assert_eq!(shown["users"].as_array().unwrap().len(), 2);
    assert_eq!(shown["ledger"]["retired"][0]["number"], 100_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_editors_lose_nothing_at_our_backend() {
    let identity = Identity::generate();
    let backend = Backend::start(&identity).await;
    let folder = tempfile::tempdir().unwrap();
    let editors: Vec<_> = (0..3)
        .map(|editor| {
            // All on one machine: they share the memory of the last version, too.
            let memory = folder.path().join("local-sequence");
            let desk = Desk::new(&backend.url, again(&identity), Some(memory));
            tokio::spawn(async move {
                for round in 0..3 {
                    while let Err(error) = desk.types(&format!("user add user{editor}{round}")).await {
                        assert!(error.contains("try again"), "{error}");
                    }
                }
            })
        })
        .collect();
    for editor in editors {
        editor.await.unwrap();
    }
    let desk = Desk::new(&backend.url, identity, None);
    let shown: serde_json::Value = serde_json::from_str(&desk.types("show --json").await.unwrap()).unwrap();
    let users = shown["users"].as_array().unwrap();
    let numbers: std::collections::BTreeSet<u64> = users.iter().map(|user| user["uid"].as_u64().unwrap()).collect();
    assert_eq!((users.len(), numbers.len()), (9, 9));
}

#[tokio::test]
async fn the_clients_errors_are_those_of_our_backend() {
    let identity = Identity::generate();
    let backend = Backend::start(&identity).await;
    let cycle = backend.cycle("sekret-token-1", "acme");
    let local = SourceName::local();
    let headers = SnapshotHeaders::for_recipient(key(&identity));
    let body = |name: &str| Bytes::from(sealed(&json!({"users": [], "x": name}), &identity.recipient()));
    let mut sink = Vec::new();
    let absent = cycle.get_snapshot(&local, None, 1 << 20, &mut sink).await.unwrap();
    assert_eq!(
        absent,
        Fetched::Absent {
            code: ErrorCode::SourceAbsent
        }
    );

    let first = body("first");
    let written = cycle
        .put_snapshot(&local, &headers, first.clone(), &Expected::Absent)
        .await
        .unwrap();
    let etag = written.etag.unwrap();
    let Fetched::Body(fetched) = cycle.get_snapshot(&local, None, 1 << 20, &mut sink).await.unwrap() else {
        unreachable!("it was just written");
    };
    assert_eq!((sink.as_slice(), fetched.etag.as_ref()), (first.as_ref(), Some(&etag)));
    assert!(fetched.encrypted && fetched.registered_key == Some(key(&identity)));
    let again = cycle
        .get_snapshot(&local, Some(&etag), 1 << 20, &mut sink)
        .await
        .unwrap();
    assert_eq!(again, Fetched::NotModified);

    let twice = cycle
        .put_snapshot(&local, &headers, body("second"), &Expected::Absent)
        .await;
    assert!(matches!(twice, Err(Error::Changed)), "{twice:?}");
    let previous = Previous::Body {
        etag: Some(etag),
        body: first,
    };
    cycle
        .replace_snapshot(&local, &headers, &previous, body("second"))
        .await
        .unwrap();
    let stale = cycle.replace_snapshot(&local, &headers, &previous, body("third")).await;
    assert!(matches!(stale, Err(Error::Changed)), "{stale:?}");
    cycle.delete_snapshot(&local).await.unwrap();
    cycle.delete_snapshot(&local).await.unwrap();
    let deleted = cycle.get_snapshot(&local, None, 1 << 20, &mut sink).await.unwrap();
    assert_eq!(
        deleted,
        Fetched::Absent {
            code: ErrorCode::SourceDeleted
        }
    );

    let clear = Bytes::from_static(br#"{"users":[]}"#);
    let clear = cycle.put_snapshot(&local, &headers, clear, &Expected::Anything).await;
    assert!(
        matches!(
            clear,
            Err(Error::Rejected {
                code: ErrorCode::NotSealed,
                ..
            })
        ),
        "{clear:?}"
    );
    let other = SnapshotHeaders::for_recipient(key(&Identity::generate()));
    let foreign = cycle.put_snapshot(&local, &other, body("x"), &Expected::Anything).await;
    assert!(
        matches!(&foreign, Err(Error::KeyConflict { registered_key: Some(found) }) if *found == key(&identity)),
        "{foreign:?}"
    );
    for (bearer, tenant) in [("wrong", "acme"), ("sekret-token-1", "unknown")] {
        let refused = backend.cycle(bearer, tenant).get_public_key().await;
        assert!(matches!(refused, Err(Error::Unauthorized)), "{refused:?}");
    }
}
