use std::os::unix::fs::MetadataExt as _;

use super::*;

fn clock() -> Clock {
    Clock::manual("2026-05-31T00:00:00Z".parse().unwrap())
}

fn store(clock: &Clock) -> (tempfile::TempDir, TokenStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = TokenStore::open(&TokenStore::path(folder.path()), clock.clone()).unwrap();
    (folder, store)
}

fn name(text: &str) -> TokenName {
    text.parse().unwrap()
}

fn in_days(clock: &Clock, days: u64) -> Option<Timestamp> {
    clock.now().checked_add(Duration::from_secs(days * 86_400)).ok()
}

#[test]
fn the_tables_fit_together() {
    database::migrations().validate().unwrap();
}

#[test]
fn a_token_is_good_until_it_expires_or_is_revoked() {
    let clock = clock();
    let (_folder, store) = store(&clock);
    let (token, text) = store
        .create(
            &name("ci"),
            &[Scope::Write, Scope::Read, Scope::Read],
            in_days(&clock, 1),
        )
        .unwrap();
    assert_eq!(token.scopes, [Scope::Read, Scope::Write]);
    let found = store.authenticate(text.expose()).unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.allows(Scope::Sync)), ("ci", false));
    assert_eq!(found.last_used_at, Some(clock.now()));
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(store.authenticate(text.expose()).unwrap(), None, "expired");
    let (_, other) = store.create(&name("other"), &[Scope::Read], None).unwrap();
    assert!(store.authenticate(other.expose()).unwrap().is_some());
    assert!(store.revoke("other").unwrap());
    assert!(!store.revoke("other").unwrap() && !store.revoke("none").unwrap());
    assert_eq!(store.authenticate(other.expose()).unwrap(), None, "revoked");
}

#[test]
fn what_is_wrong_by_a_letter_is_unknown() {
    let clock = clock();
    let (_folder, store) = store(&clock);
    let (token, text) = store.create(&name("ci"), &[Scope::Read], None).unwrap();
    let text = text.expose();
    let last = if text.ends_with('0') { '1' } else { '0' };
    let changed = format!("{}{last}", &text[..text.len() - 1]);
    let only_id = format!("dsy_{}_", token.id);
    for wrong in [
        "",
        "dsy_",
        "dsy__",
        "ci",
        &changed,
        &only_id,
        &text[1..],
        &format!("{text} "),
    ] {
        assert_eq!(store.authenticate(wrong).unwrap(), None, "{wrong}");
    }
}

#[test]
fn names_mean_one_token_at_a_time() {
    let clock = clock();
    let (_folder, store) = store(&clock);
    store.create(&name("ci"), &[Scope::Read], None).unwrap();
    assert!(matches!(
        store.create(&name("ci"), &[Scope::Read], None),
        Err(TokenError::Taken(_))
    ));
    assert!(store.revoke("ci").unwrap());
    store.create(&name("ci"), &[Scope::Read], None).unwrap();
    assert_eq!(store.list().unwrap().len(), 2);
    assert!(matches!(
        store.create(&name("none"), &[], None),
        Err(TokenError::NoScope)
    ));
    for text in ["", "a b", "a,b", "ä", &"a".repeat(65)] {
        assert!(text.parse::<TokenName>().is_err(), "{text}");
    }
}

#[test]
fn the_file_is_private_and_holds_no_secret() {
    let clock = clock();
    let (folder, store) = store(&clock);
    let (_, text) = store.create(&name("ci"), &[Scope::Read], None).unwrap();
    let path = TokenStore::path(folder.path());
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let secret = text.expose().rsplit('_').next().unwrap().as_bytes();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn a_use_is_noted_once_a_minute_and_another_program_sees_it() {
    let clock = clock();
    let (folder, store) = store(&clock);
    let (_, text) = store.create(&name("ci"), &[Scope::Read], None).unwrap();
    store.authenticate(text.expose()).unwrap();
    let first = clock.now();
    clock.advance(Duration::from_secs(30));
    store.authenticate(text.expose()).unwrap();
    let other = TokenStore::open(&TokenStore::path(folder.path()), clock.clone()).unwrap();
    assert_eq!(other.list().unwrap()[0].last_used_at, Some(first));
    clock.advance(Duration::from_secs(31));
    store.authenticate(text.expose()).unwrap();
    assert_eq!(other.list().unwrap()[0].last_used_at, Some(clock.now()));
    assert!(other.revoke("ci").unwrap());
    assert_eq!(
        store.authenticate(text.expose()).unwrap(),
        None,
        "revoked by another program"
    );
}
