//! What every engine keeps: realms, their secrets, operator tokens.

use std::time::Duration;

use dirless_backend::store::{
    NewRealm, NewToken, Operator, Principal, RealmChange, RealmName, RealmState, Scope, SecretHash, TokenCreation,
    TokenId, generate_secret,
};
use ring::rand::SystemRandom;

use crate::common::{Fixture, credential, tenant};

fn name(text: &str) -> RealmName {
    RealmName::parse(text).unwrap()
}

fn hash(text: &str) -> SecretHash {
    SecretHash::of(text.as_bytes())
}

fn realm_of(fixture: &Fixture, secret: &str) -> Option<String> {
    match fixture.store.authenticate(&hash(secret))? {
        Principal::Realm(credential) => Some(credential.realm().to_string()),
        Principal::Operator(_) => None,
    }
}

pub(crate) async fn names_and_secrets_are_unique(fixture: &Fixture) {
    let create = async |text: &str, secret: &str| fixture.store.create_realm(&name(text), hash(secret)).await.unwrap();
    assert_eq!(create("acme", "one").await, NewRealm::Created);
    assert_eq!(create("acme", "two").await, NewRealm::NameTaken);
    assert_eq!(create("other", "one").await, NewRealm::SecretTaken);
    assert_eq!(create("other", "two").await, NewRealm::Created);
    assert_eq!(realm_of(fixture, "one").unwrap(), "acme");
    assert_eq!(realm_of(fixture, "two").unwrap(), "other");
    assert_eq!(realm_of(fixture, "three"), None);
    assert_eq!(realm_of(fixture, ""), None);
    let names: Vec<_> = fixture
        .store
        .realms()
        .await
        .unwrap()
        .into_iter()
        .map(|realm| realm.name)
        .collect();
    assert_eq!(names, [name("acme"), name("other")]);
}

pub(crate) async fn rotation_ends_the_old_secret_now_or_later(fixture: &Fixture) {
    let store = &fixture.store;
    assert_eq!(
        store.create_realm(&name("acme"), hash("one")).await.unwrap(),
        NewRealm::Created
    );
    assert_eq!(
        store.create_realm(&name("other"), hash("x")).await.unwrap(),
        NewRealm::Created
    );
    let rotate = async |text: &str, secret: &str, hours: Option<u64>| {
        let kept = hours.map(|hours| Duration::from_secs(hours * 3600));
        store.rotate_realm(&name(text), hash(secret), kept).await.unwrap()
    };
    assert_eq!(rotate("nobody", "two", None).await, RealmChange::Unknown);
    assert_eq!(rotate("acme", "x", None).await, RealmChange::SecretTaken);
    assert_eq!(rotate("acme", "two", Some(24)).await, RealmChange::Done);
    assert_eq!(store.realms().await.unwrap()[0].secrets, 2);
    assert!(realm_of(fixture, "one").is_some() && realm_of(fixture, "two").is_some());
    fixture.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert!(realm_of(fixture, "one").is_some());
    fixture.clock.advance(Duration::from_secs(1));
    assert!(realm_of(fixture, "one").is_none() && realm_of(fixture, "two").is_some());
    assert_eq!(rotate("acme", "three", None).await, RealmChange::Done);
    assert!(realm_of(fixture, "two").is_none());
    // Back to the first one.
    assert_eq!(rotate("acme", "one", None).await, RealmChange::Done);
    assert!(realm_of(fixture, "one").is_some() && realm_of(fixture, "three").is_none());
    let realm = &store.realms().await.unwrap()[0];
    assert_eq!((realm.secrets, realm.rotated_at), (1, Some(fixture.clock.now())));
}

pub(crate) async fn the_configured_secret_is_the_default_realms(fixture: &Fixture) {
    let store = &fixture.store;
    assert!(!store.has_default_realm().await.unwrap());
    for _ in 0..2 {
        assert_eq!(
            store.ensure_default_realm(hash("one")).await.unwrap(),
            RealmChange::Done
        );
        assert!(store.has_default_realm().await.unwrap());
        assert_eq!(realm_of(fixture, "one").unwrap(), "default");
    }
    assert_eq!(
        store.realms().await.unwrap()[0].rotated_at,
        None,
        "starting again changes nothing"
    );
    assert_eq!(
        store.ensure_default_realm(hash("two")).await.unwrap(),
        RealmChange::Done
    );
    assert_eq!(
        (realm_of(fixture, "one"), realm_of(fixture, "two").unwrap().as_str()),
        (None, "default")
    );
    assert_eq!(
        store.create_realm(&name("acme"), hash("x")).await.unwrap(),
        NewRealm::Created
    );
    assert_eq!(
        store.ensure_default_realm(hash("x")).await.unwrap(),
        RealmChange::SecretTaken
    );
}

pub(crate) async fn a_suspended_realm_is_recognised(fixture: &Fixture) {
    let store = &fixture.store;
    tenant(store, "acme", "t1").await;
    assert!(!credential(store, "acme").await.is_suspended());
    let set = async |text: &str, state| store.set_realm_state(&name(text), state).await.unwrap();
    assert_eq!(set("nobody", RealmState::Suspended).await, RealmChange::Unknown);
    for _ in 0..2 {
        assert_eq!(set("acme", RealmState::Suspended).await, RealmChange::Done);
    }
    let suspended = credential(store, "acme").await;
    assert!(suspended.is_suspended());
    assert!(
        store.tenant(&suspended, "t1").is_some(),
        "403 is for those who would get an answer"
    );
    assert_eq!(set("acme", RealmState::Active).await, RealmChange::Done);
    assert!(!credential(store, "acme").await.is_suspended());
}

async fn token(fixture: &Fixture, secret: &str, scopes: &[Scope], realm: Option<&str>, seconds: u64) -> TokenId {
    let id = TokenId::generate(&SystemRandom::new()).unwrap();
    let new = NewToken {
        id: id.clone(),
        label: "monitoring".into(),
        scopes: scopes.to_vec(),
        realm: realm.map(name),
        expires_at: Some(fixture.clock.now() + Duration::from_secs(seconds)),
        secret: hash(secret),
    };
    assert_eq!(
        fixture.store.create_token(new.clone()).await.unwrap(),
        TokenCreation::Created
    );
    assert_eq!(
        fixture.store.create_token(new.clone()).await.unwrap(),
        TokenCreation::SecretTaken
    );
    let unknown = NewToken {
        realm: Some(name("nobody")),
        ..new
    };
    assert_eq!(
        fixture.store.create_token(unknown).await.unwrap(),
        TokenCreation::UnknownRealm
    );
    id
}

fn operator(fixture: &Fixture, secret: &str) -> Option<Operator> {
    match fixture.store.authenticate(&hash(secret))? {
        Principal::Operator(operator) => Some(Operator::clone(&operator)),
        Principal::Realm(_) => None,
    }
}

pub(crate) async fn tokens_have_scopes_and_an_end(fixture: &Fixture) {
    credential(&fixture.store, "acme").await;
    let id = token(fixture, "t1", &[Scope::Health, Scope::Metrics], Some("acme"), 60).await;
    token(fixture, "t2", &[Scope::Admin], None, 3600).await;
    let narrow = operator(fixture, "t1").unwrap();
    assert_eq!((narrow.id(), narrow.realm()), (&id, Some(&name("acme"))));
    assert!(narrow.allows(Scope::Health) && narrow.allows(Scope::Metrics));
    assert!(!narrow.allows(Scope::Audit) && !narrow.allows(Scope::Admin));
    let wide = operator(fixture, "t2").unwrap();
    assert!(wide.realm().is_none() && wide.allows(Scope::Audit));
    let made = fixture.store.create_realm(&name("thief"), hash("t1")).await.unwrap();
    assert_eq!(made, NewRealm::SecretTaken, "a bearer names one principal");
    fixture.clock.advance(Duration::from_secs(60));
    assert!(operator(fixture, "t1").is_none() && operator(fixture, "t2").is_some());
    let made_up = generate_secret(&SystemRandom::new()).unwrap();
    assert!(operator(fixture, made_up.expose()).is_none());
}

pub(crate) async fn a_revoked_token_is_nobody(fixture: &Fixture) {
    let id = token(fixture, "t1", &[Scope::Audit], None, 60).await;
    assert!(operator(fixture, "t1").is_some());
    assert!(fixture.store.revoke_token(id.as_str()).await.unwrap());
    assert!(!fixture.store.revoke_token(id.as_str()).await.unwrap());
    assert!(!fixture.store.revoke_token("0000000000000000").await.unwrap());
    assert!(operator(fixture, "t1").is_none());
    let tokens = fixture.store.tokens().await.unwrap();
    assert_eq!(tokens.len(), 1);
    assert_eq!((&tokens[0].id, tokens[0].revoked_at), (&id, Some(fixture.clock.now())));
}

pub(crate) async fn the_last_use_of_a_token_is_written(fixture: &Fixture) {
    let id = token(fixture, "t1", &[Scope::Audit], None, 60).await;
    fixture.store.flush_token_uses().await.unwrap();
    assert_eq!(fixture.store.tokens().await.unwrap()[0].last_used_at, None);
    fixture.clock.advance(Duration::from_secs(5));
    fixture.store.note_token_use(&id);
    fixture.store.flush_token_uses().await.unwrap();
    let token = fixture.store.tokens().await.unwrap().remove(0);
    assert_eq!(token.last_used_at, Some(fixture.clock.now()));
    assert_eq!(token.scopes, [Scope::Audit]);
}
