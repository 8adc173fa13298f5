//! A tenant at backends: what differs from a folder.

use std::io::ErrorKind;
use std::sync::Arc;

use dirless_seal::SigningKey;

use dirless_syncer::signed::{BackendFolder, DiskFolder, Folder, Mirrored, Policies, Signer, Wish};

use crate::support::*;

/// A tenant with two hosts and something published.
fn tenant() -> (Tenant, Host, Host) {
    let tenant = Tenant::at_backend();
    let signer = tenant.signer();
    stock(&signer, "corp", &snapshot(2000, &["alice"]));
    settle(&signer);
    let hosts = ["web-1", "web-2"].map(|name| tenant.join(name, &["all"]));
    let [one, two] = hosts;
    (tenant, one, two)
}

fn own(tenant: &Tenant) -> BackendFolder {
    let site = tenant.site();
    site.of(&tenant.keys().publisher, &[&site.url()], &tenant.clock)
}

fn reads(tenant: &Tenant, host: &Host) -> Result<bool, ErrorKind> {
    let site = tenant.site();
    let files = site.of(&host.key, &[&site.url()], &tenant.clock);
    files.has("policy/1").map_err(|error| error.kind())
}

#[test]
fn hosts_come_in_and_are_thrown_out() {
    let (tenant, mut stays, mut gone) = tenant();
    let now = tenant.clock.now();
    let before = stays.look(&tenant.folder(), now).unwrap();
    assert!(before["corp"].contains("alice"));
    for host in [&stays, &gone] {
        assert_eq!(reads(&tenant, host), Ok(true), "its key is known there");
    }
    assert!(!tenant.signer().is_due().unwrap(), "the mailbox is empty again");

    tenant.signer().enroller().revoke(&["web-2".to_owned()]).unwrap();
    let settled = settle(&tenant.signer());
    assert_eq!(settled.epochs.len(), 1);
    assert_eq!(reads(&tenant, &gone), Err(ErrorKind::PermissionDenied));
    assert!(gone.look(&tenant.folder(), now).is_err());
    assert_eq!(stays.look(&tenant.folder(), now).unwrap(), before);
    assert_eq!(reads(&tenant, &stays), Ok(true));
}

#[test]
fn a_code_lets_nobody_write_once_it_ended() {
    let tenant = Tenant::at_backend();
    let code = tenant.code(&["all"], 3);
    tenant.site().post(&code, b"anything sealed").unwrap();
    assert!(tenant.signer().is_due().unwrap());
    assert!(tenant.signer().enroller().revoke_code(&code.code).unwrap());
    assert!(tenant.site().post(&code, b"more").is_err());
}

#[test]
fn a_dead_address_is_passed_over() {
    let tenant = Tenant::at_backend();
    let site = tenant.site();
    // Nobody listens on the reserved port.
    let urls = ["http://127.0.0.1:1", &site.url()];
    let signer = Signer::over(
        tenant.config(),
        tenant.id,
        tenant.keys(),
        Arc::new(DiskFolder::private(&tenant.state())),
        Arc::new(site.of(&tenant.keys().publisher, &urls, &tenant.clock)),
        tenant.clock.clone(),
    );
    stock(&signer, "corp", &snapshot(2000, &["alice"]));
    assert_eq!(settle(&signer).head, Some(1));
    let dead = site.of(&tenant.keys().publisher, &["http://127.0.0.1:1"], &tenant.clock);
    let error = dead.has("policy/1").unwrap_err().to_string();
    assert!(error.contains("no backend answered"), "{error}");
}

#[test]
fn what_is_there_is_left_and_a_head_is_replaced_by_who_read_it() {
    let (tenant, ..) = tenant();
    let (one, other) = (own(&tenant), own(&tenant));
    let file = |bytes: &[u8]| [("wrap/all/9/n1".to_owned(), bytes.to_vec())];
    one.create(&file(b"first")).unwrap();
    one.create(&file(b"first")).unwrap();
    one.create(&file(b"second")).unwrap();
    assert_eq!(one.get("wrap/all/9/n1", 99).unwrap().unwrap(), b"first");
    assert_eq!(one.get("wrap/all/9/n1", 2).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert!(one.has_any("wrap/all/9").unwrap() && !one.has_any("wrap/all/8").unwrap());
    assert_eq!(one.list("wrap/all").unwrap(), ["1", "9"]);
    assert_eq!(one.list("wrap/all/9").unwrap(), ["n1"]);
    one.remove("wrap/all/9/n1").unwrap();
    one.remove("wrap/all/9/n1").unwrap();
    assert!(one.get("wrap/all/9/n1", 99).unwrap().is_none() && !one.has("wrap/all/9/n1").unwrap());

    for folder in [&one, &other] {
        folder.get("head/syncer-1", 1 << 20).unwrap().unwrap();
    }
    one.replace("head/syncer-1", b"mine").unwrap();
    one.replace("head/syncer-1", b"mine again").unwrap();
    let error = other.replace("head/syncer-1", b"late").unwrap_err();
    assert!(error.to_string().contains("was faster"), "{error}");
    // The same bytes are no race: the first try had arrived.
    other.replace("head/syncer-1", b"mine again").unwrap();
    assert_eq!(one.get("head/syncer-1", 99).unwrap().unwrap(), b"mine again");
    let outside = one.get("../policy/1", 99).unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::InvalidInput);
}

#[test]
fn another_copy_of_the_syncer_is_noticed() {
    let (tenant, ..) = tenant();
    let copy = tenant.fork();
    tenant.minutes(1);
    copy.minutes(1);
    settle(&tenant.signer());
    let error = copy.signer().settle(&Wish::default()).unwrap_err().to_string();
    assert!(error.contains("another copy of it runs"), "{error}");
}

#[test]
fn a_key_that_nobody_registered_is_told_so() {
    let tenant = Tenant::at_backend();
    let stranger = SigningKey::generate(label("syncer-2")).unwrap();
    let site = tenant.site();
    let folder = site.of(&stranger, &[&site.url()], &tenant.clock);
    let error = folder.has("policy/1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("does not accept this key"), "{error}");
}

#[test]
fn a_copy_in_a_folder_follows_and_catches_up() {
    let (tenant, mut host, _) = tenant();
    let folder = temporary();
    let place = folder.path().join("copy");
    let state: Arc<dyn Folder> = Arc::new(DiskFolder::private(&tenant.state()));
    let signer = || {
        let policies = Policies {
            tenant: tenant.id,
            roots: tenant.policy().fingerprint(),
            first: 1,
        };
        let copy = DiskFolder::public(&place);
        let mirrored = Mirrored::new(Arc::new(own(&tenant)), copy, Arc::clone(&state), policies);
        Signer::over(
            tenant.config(),
            tenant.id,
            tenant.keys(),
            Arc::clone(&state),
            Arc::new(mirrored),
            tenant.clock.clone(),
        )
    };
    // What was there before the folder was configured.
    tenant.minutes(1);
    let settled = settle(&signer());
    assert_eq!(settled.problems, Vec::<String>::new());
    let seen = host.look(&place, tenant.clock.now()).unwrap();
    assert!(seen["corp"].contains("alice"));

    // The disk fails: hosts at the backend go on, and it is told.
    std::fs::rename(place.join("manifest"), folder.path().join("away")).unwrap();
    std::fs::write(place.join("manifest"), b"in the way").unwrap();
    stock(&signer(), "corp", &snapshot(2000, &["alice", "bob"]));
    let settled = settle(&signer());
    assert!(settled.head.is_some());
    let told = settled
        .problems
        .iter()
        .any(|problem| problem.contains("copy in the folder is behind"));
    assert!(told, "{settled:?}");
    assert!(host.look(&tenant.folder(), tenant.clock.now()).unwrap()["corp"].contains("bob"));

    std::fs::remove_file(place.join("manifest")).unwrap();
    tenant.minutes(1);
    settle(&signer());
    assert_eq!(settle(&signer()).problems, Vec::<String>::new());
    assert!(host.look(&place, tenant.clock.now()).unwrap()["corp"].contains("bob"));

    // What only looks like the next policy gets no farther than the backend, also when everything is copied anew.
    let operator = tenant.site().operator();
    let policy = |version| format!("policy/{version}");
    operator.create(&[(policy(2), b"no policy".to_vec())]).unwrap();
    state.remove("mirror-is-whole").unwrap();
    tenant.minutes(1);
    let told = settle(&signer()).problems;
    assert!(
        told.iter().any(|problem| problem.contains("policy 1 holds on")),
        "{told:?}"
    );
    assert!(place.join(policy(1)).exists() && !place.join(policy(2)).exists());

    // The true one is there as soon as it is at the backend, whatever stands in its place in the folder.
    operator.remove(&policy(2)).unwrap();
    std::fs::write(place.join(policy(2)), b"no policy").unwrap();
    tenant.next_policy(|_| {});
    let told = settle(&signer()).problems;
    assert!(
        told.iter()
            .any(|problem| problem.contains("policy/2 in the folder was something else")),
        "{told:?}"
    );
    assert_eq!(
        Some(std::fs::read(place.join(policy(2))).unwrap()),
        operator.get(&policy(2), 1 << 20).unwrap()
    );
    assert!(host.look(&place, tenant.clock.now()).unwrap()["corp"].contains("bob"));
}
