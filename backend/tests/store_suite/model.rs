//! Random operations on the store and on a model of maps: the same answers, the same state, and
//! after closing and opening again the same state still.

use std::collections::BTreeMap;

use bytes::Bytes;
use dirless_backend::store::policy::ReplaceBy;
use dirless_backend::store::{
    Enrolment, Generation, KeyChange, Location, PutOutcome, SnapshotPut, SourceState, SpooledBody, Store, TenantHandle,
    etag_of, verify,
};
use proptest::prelude::*;

use crate::common::{at, credential, database, key, noise, open, origin, source, tenant_id};

const REALMS: [&str; 2] = ["acme", "other"];
const TENANTS: [&str; 3] = ["t0", "t1", "t2"];
const SOURCES: [&str; 2] = ["local", "aws-identity-center"];
const ACCOUNTS: [&str; 2] = ["123456789012", "210987654321"];

#[derive(Clone, Debug)]
enum Operation {
    Enroll(usize, usize, usize, bool),
    PutKey(usize, usize, bool),
    Put {
        tenant: usize,
        source: usize,
        body: u64,
        recipient: Option<usize>,
        account: Option<usize>,
    },
    Delete(usize, usize),
    Setting(usize, u8),
    Rules(usize, u8),
    Sweep,
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    let tenant = 0..TENANTS.len();
    let option = |top: usize| proptest::option::weighted(0.4, 0..top);
    prop_oneof![
        4 => (0..2usize, tenant.clone(), 0..2usize, any::<bool>())
            .prop_map(|(realm, tenant, key, by)| Operation::Enroll(realm, tenant, key, by)),
        2 => (tenant.clone(), 0..2usize, any::<bool>()).prop_map(|(tenant, key, by)| Operation::PutKey(tenant, key, by)),
        10 => (tenant.clone(), 0..2usize, 0..6u64, option(2), option(2)).prop_map(
            |(tenant, source, body, recipient, account)| Operation::Put { tenant, source, body, recipient, account }
        ),
        3 => (tenant.clone(), 0..2usize).prop_map(|(tenant, source)| Operation::Delete(tenant, source)),
        2 => (tenant.clone(), any::<u8>()).prop_map(|(tenant, value)| Operation::Setting(tenant, value)),
        2 => (tenant, any::<u8>()).prop_map(|(tenant, value)| Operation::Rules(tenant, value)),
        1 => Just(Operation::Sweep),
        1 => Just(Operation::Reopen),
    ]
}

#[derive(Clone, Debug, Default)]
struct Source {
    last: u64,
    body: Option<Bytes>,
}

#[derive(Clone, Debug)]
struct Tenant {
    realm: usize,
    key: usize,
    account: Option<usize>,
    sources: BTreeMap<usize, Source>,
    setting: Option<u8>,
    rules: Option<u8>,
}

type Model = BTreeMap<usize, Tenant>;

fn replace_by(rotate: bool) -> ReplaceBy {
    if rotate {
        ReplaceBy::RotateKey
    } else {
        ReplaceBy::Enroll
    }
}

/// Bodies 0 to 5: empty, short, and one of three chunks.
fn body(number: u64) -> Bytes {
    let length = [0, 1, 500, 5_000, 70_000, 2_200_000][usize::try_from(number).unwrap()];
    noise(number, length).into()
}

async fn handle(store: &Store, model: &Model, tenant: usize) -> Option<TenantHandle> {
    let realm = model.get(&tenant).map_or(0, |tenant| tenant.realm);
    let handle = store.tenant(&credential(store, REALMS[realm]).await, TENANTS[tenant]);
    assert_eq!(handle.is_some(), model.contains_key(&tenant));
    let stranger = store.tenant(&credential(store, REALMS[1 - realm]).await, TENANTS[tenant]);
    assert!(stranger.is_none());
    handle
}

async fn enroll(store: &Store, model: &mut Model, realm: usize, tenant: usize, number: usize, rotate: bool) {
    let who = credential(store, REALMS[realm]).await;
    let outcome = store
        .enroll(
            &who,
            &tenant_id(TENANTS[tenant]),
            &key(number),
            replace_by(rotate),
            origin(),
        )
        .await
        .unwrap();
    let expected = match model.get_mut(&tenant) {
        None => {
            let new = Tenant {
                realm,
                key: number,
                account: None,
                sources: BTreeMap::new(),
                setting: None,
                rules: None,
            };
            model.insert(tenant, new);
            Enrolment::Enrolled
        }
        Some(known) if known.realm != realm => Enrolment::NotYours,
        Some(known) if known.key == number => Enrolment::Unchanged,
        Some(known) if rotate => Enrolment::KeyConflict {
            registered: key(known.key),
        },
        Some(known) => Enrolment::KeyReplaced {
            previous: key(std::mem::replace(&mut known.key, number)),
        },
    };
    assert_eq!(outcome, expected);
}

async fn put_key(handle: &TenantHandle, known: &mut Tenant, number: usize, rotate: bool) {
    let outcome = handle
        .put_public_key(&key(number), replace_by(rotate), origin())
        .await
        .unwrap();
    let expected = match (known.key == number, rotate) {
        (true, _) => KeyChange::Unchanged,
        (false, false) => KeyChange::Conflict {
            registered: key(known.key),
        },
        (false, true) => KeyChange::Replaced {
            previous: key(std::mem::replace(&mut known.key, number)),
        },
    };
    assert_eq!(outcome, expected);
}

async fn put(
    store: &Store,
    handle: &TenantHandle,
    known: &mut Tenant,
    at: usize,
    number: u64,
    recipient: Option<usize>,
    account: Option<usize>,
) {
    let bytes = body(number);
    let mut writer = store.body_writer(u64::MAX);
    for piece in bytes.chunks(300_000) {
        writer.write(piece).await.unwrap();
    }
    let spooled: SpooledBody = writer.finish().await.unwrap();
    let put = SnapshotPut {
        recipient: recipient.map(key),
        account: account.map(|number| ACCOUNTS[number].parse().unwrap()),
        users: Some(number),
        groups: None,
    };
    let outcome = handle
        .put_snapshot(&source(SOURCES[at]), put, spooled, origin())
        .await
        .unwrap();
    if recipient.is_some_and(|number| number != known.key) {
        assert_eq!(
            outcome,
            PutOutcome::WrongRecipient {
                registered: key(known.key)
            }
        );
        return;
    }
    if let (Some(first), Some(other)) = (known.account, account)
        && first != other
    {
        assert_eq!(
            outcome,
            PutOutcome::OtherAccount {
                first: ACCOUNTS[first].parse().unwrap()
            }
        );
        return;
    }
    known.account = known.account.or(account);
    let entry = known.sources.entry(at).or_default();
    if entry.body.as_ref() != Some(&bytes) {
        entry.last += 1;
        entry.body = Some(bytes.clone());
    }
    let PutOutcome::Stored(meta) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((meta.generation, meta.etag), (Generation(entry.last), etag_of(&bytes)));
}

async fn apply(store: &Store, model: &mut Model, operation: &Operation) {
    let place = match operation {
        Operation::Enroll(realm, tenant, key, rotate) => {
            return enroll(store, model, *realm, *tenant, *key, *rotate).await;
        }
        Operation::Sweep => {
            store.sweep().await.unwrap();
            return;
        }
        Operation::Reopen => return,
        Operation::PutKey(tenant, ..) | Operation::Delete(tenant, _) => tenant,
        Operation::Put { tenant, .. } | Operation::Setting(tenant, _) | Operation::Rules(tenant, _) => tenant,
    };
    let Some(handle) = handle(store, model, *place).await else {
        return;
    };
    let known = model.get_mut(place).unwrap();
    match operation {
        Operation::PutKey(_, number, rotate) => put_key(&handle, known, *number, *rotate).await,
        Operation::Put {
            source,
            body,
            recipient,
            account,
            ..
        } => put(store, &handle, known, *source, *body, *recipient, *account).await,
        Operation::Delete(_, at) => {
            let deleted = handle.delete_snapshot(&source(SOURCES[*at]), origin()).await.unwrap();
            let entry = known.sources.get_mut(at).filter(|entry| entry.body.is_some());
            assert_eq!(deleted, entry.is_some());
            if let Some(entry) = entry {
                *entry = Source {
                    last: entry.last + 1,
                    body: None,
                };
            }
        }
        Operation::Setting(_, value) => {
            handle.put_setting("k", &value.to_string(), origin()).await.unwrap();
            known.setting = Some(*value);
        }
        Operation::Rules(_, value) => {
            let _etag = handle
                .put_access_rules(value.to_string().into(), origin())
                .await
                .unwrap();
            known.rules = Some(*value);
        }
        Operation::Enroll(..) | Operation::Sweep | Operation::Reopen => unreachable!("handled above"),
    }
}

async fn compare(store: &Store, model: &Model) {
    for tenant in 0..TENANTS.len() {
        let Some(handle) = handle(store, model, tenant).await else {
            continue;
        };
        let known = &model[&tenant];
        assert_eq!(handle.public_key(), &key(known.key));
        assert_eq!(
            handle.setting("k").await.unwrap(),
            known.setting.map(|value| value.to_string())
        );
        let rules = handle.access_rules().await.unwrap().map(|rules| rules.body);
        assert_eq!(rules, known.rules.map(|value| value.to_string().into()));
        for (at, name) in SOURCES.iter().enumerate() {
            let expected = known.sources.get(&at).cloned().unwrap_or_default();
            let (state, body) = handle.snapshot(&source(name), u64::MAX).await.unwrap();
            assert!(body == expected.body, "{tenant} {at}");
            match state {
                SourceState::Absent => assert_eq!(expected.last, 0),
                SourceState::Deleted { generation, .. } => assert_eq!(generation, Generation(expected.last)),
                SourceState::Present(meta) => assert_eq!(meta.generation, Generation(expected.last)),
            }
        }
    }
    let tenants = store
        .all_tenants_bypassing_realm_scope()
        .totals()
        .await
        .unwrap()
        .tenants;
    assert_eq!(tenants, model.len() as u64);
}

fn agrees(location: &Location, operations: &[Operation]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut store = open(location.clone());
        let mut model = Model::new();
        for operation in operations.iter().chain([&Operation::Reopen]) {
            if matches!(operation, Operation::Reopen) {
                compare(&store, &model).await;
                store.close().await;
                drop(store);
                store = open(location.clone());
                compare(&store, &model).await;
            }
            apply(&store, &mut model, operation).await;
        }
        store.close().await;
    });
    let seen = verify(location.clone()).unwrap();
    assert!(seen.is_clean(), "{:?}", seen.problems);
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    proptest::collection::vec(operation(), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_store_and_the_model_agree(operations in operations()) {
        let folder = tempfile::tempdir().unwrap();
        agrees(&Location::from(folder.path()), &operations);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn the_store_and_the_model_agree_on_postgresql(operations in operations()) {
        let folder = tempfile::tempdir().unwrap();
        agrees(&at(folder.path(), database()), &operations);
    }
}
