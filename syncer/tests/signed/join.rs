//! Hosts come in and are thrown out.

use dirless_seal::trust::{JoinCode, Wrap};
use dirless_seal::{Digest, Identity};
use dirless_syncer::signed::Wish;
use jiff::SignedDuration;

use crate::support::*;

fn refused(tenant: &Tenant) -> String {
    let settled = settle(&tenant.signer());
    assert_eq!(settled.admitted.len(), 0);
    assert_eq!(settled.refused.len(), 1, "{settled:?}");
    settled.refused[0].clone()
}

#[test]
fn a_code_admits_as_many_hosts_as_it_says() {
    let tenant = Tenant::new();
    let code = tenant.code(&["all"], 2);
    let hosts: Vec<Host> = (0..3).map(|_| Host::new(&tenant, "all")).collect();
    for (at, host) in hosts.iter().enumerate() {
        host.ask(&tenant, &code, &format!("web-{at}"));
    }
    let settled = settle(&tenant.signer());
    assert_eq!((settled.admitted.len(), settled.refused.len()), (2, 1), "{settled:?}");
    assert!(settled.refused[0].contains("all of its 2 hosts"), "{settled:?}");
    let list = node_list(&tenant, 1);
    assert_eq!(list.nodes.len(), 2);
    assert_eq!(head(&tenant).nodes, Some(1));
    let codes = tenant.signer().enroller().codes().unwrap();
    assert_eq!((codes[0].used, codes[0].uses), (2, 2));
    // The mailbox is empty again; who asks once more is a host already.
    assert!(!tenant.signer().is_due().unwrap());
    let host = hosts.iter().find(|host| list.node(&host.name()).is_some()).unwrap();
    host.ask(&tenant, &code, "web-0");
    let settled = settle(&tenant.signer());
    assert_eq!((settled.admitted.len(), settled.refused.len()), (0, 0));
    let nodes = tenant.signer().enroller().nodes().unwrap();
    assert!(nodes.iter().all(|node| node.host.as_ref().unwrap().starts_with("web-")));
}

#[test]
fn requests_that_do_not_hold_admit_nobody() {
    let tenant = Tenant::new();
    let host = Host::new(&tenant, "all");
    let good = tenant.code(&["all"], 1);

    let wrong = JoinCode {
        secret: JoinCode::secret().unwrap(),
        ..good.clone()
    };
    host.ask(&tenant, &wrong, "web-1");
    assert!(refused(&tenant).contains("not signed"));

    let unknown = JoinCode {
        code: label("jnone"),
        ..good.clone()
    };
    host.ask(&tenant, &unknown, "web-1");
    assert!(refused(&tenant).contains("unknown"));

    let other = JoinCode {
        tenant: Digest::of(b"other"),
        ..good.clone()
    };
    host.ask(&tenant, &other, "web-1");
    assert!(refused(&tenant).contains("another tenant"));

    let folder = tenant.folder().join("join/jx");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(Digest::of(b"junk").to_string()), b"junk").unwrap();
    assert!(refused(&tenant).contains("no sealed"));
    // Half of a request has not its name yet, and stays.
    let half = folder.join(Digest::of(b"whole").to_string());
    std::fs::write(&half, b"who").unwrap();
    assert_eq!(settle(&tenant.signer()).refused.len(), 0);
    assert!(half.exists());
    std::fs::remove_file(half).unwrap();

    tenant.minutes(25 * 60);
    host.ask(&tenant, &good, "web-1");
    assert!(refused(&tenant).contains("expired"));
    assert!(tenant.signer().enroller().nodes().unwrap().is_empty());

    let code = tenant.code(&["all"], 1);
    assert!(tenant.signer().enroller().revoke_code(&code.code).unwrap());
    host.ask(&tenant, &code, "web-1");
    assert!(refused(&tenant).contains("revoked"));
}

#[test]
fn who_is_revoked_opens_nothing_of_the_next_epoch() {
    let tenant = Tenant::with(&[("all", None), ("db", None)]);
    let signer = tenant.signer();
    stock(&signer, "corp", &snapshot(2000, &["alice"]));
    settle(&signer);
    let (mut stays, mut stolen) = (tenant.join("web-1", &["all"]), tenant.join("web-2", &["all"]));
    let now = tenant.clock.now();
    let before = stolen.look(&tenant.folder(), now).unwrap();

    let gone = signer.enroller().revoke(&["web-2".to_owned()]).unwrap();
    assert_eq!(gone[0].name, stolen.name());
    let settled = signer.settle(&Wish::default()).unwrap();
    assert_eq!(
        settled.epochs.len(),
        1,
        "the other compartment keeps its epoch: {settled:?}"
    );
    let entry = head(&tenant);
    assert_eq!(entry.entry(&label("corp"), &label("all")).unwrap().version, 2);
    assert_eq!(entry.entry(&label("corp"), &label("db")).unwrap().version, 1);
    assert_eq!(stays.look(&tenant.folder(), now).unwrap(), before);
    let error = stolen.look(&tenant.folder(), now).unwrap_err();
    assert!(error.contains("wrap/all/2"), "{error}");
    // Nor any wrap of anybody.
    for name in std::fs::read_dir(tenant.folder().join("wrap/all/2")).unwrap() {
        let wrap = std::fs::read(name.unwrap().path()).unwrap();
        assert!(Wrap::open(&wrap, &stolen.identity).is_err());
    }
    let list = node_list(&tenant, 3);
    assert!(list.is_revoked(&stolen.name()) && list.node(&stolen.name()).is_none());

    // With the same keys it does not come back; with new ones it does.
    let code = tenant.code(&["all"], 2);
    stolen.ask(&tenant, &code, "web-2");
    assert!(refused(&tenant).contains("revoked"));
    assert_eq!(
        tenant.join("web-2", &["all"]).look(&tenant.folder(), now).unwrap(),
        before
    );
}

#[test]
fn another_age_key_under_the_same_name_is_refused() {
    let tenant = Tenant::new();
    let mut host = tenant.join("web-1", &["all"]);
    host.identity = Identity::generate();
    host.ask(&tenant, &tenant.code(&["all"], 1), "web-1");
    assert!(refused(&tenant).contains("another age key"));
}

#[test]
fn revoking_who_is_none_or_several_changes_nothing() {
    let tenant = Tenant::new();
    let (one, _) = (tenant.join("web", &["all"]), tenant.join("web", &["all"]));
    let signer = tenant.signer();
    for (name, reason) in [("db-1", "no host"), ("web", "several")] {
        let error = signer
            .enroller()
            .revoke(&[one.name().to_string(), name.to_owned()])
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(signer.enroller().nodes().unwrap().len(), 2);
}

#[test]
fn a_code_for_a_group_of_hosts_lets_in_no_others() {
    let tenant = Tenant::new();
    let new = dirless_syncer::signed::NewCode {
        hosts: ["db-*", "old"].map(str::to_owned).into(),
        compartments: [label("all")].into(),
        uses: 3,
        expires: tenant.clock.now() + SignedDuration::from_hours(1),
        url: "https://x".to_owned(),
    };
    let code = tenant.signer().enroller().create_code(&new).unwrap();
    for host in ["db-1", "web-1", "old"] {
        Host::new(&tenant, "all").ask(&tenant, &code, host);
    }
    let settled = tenant.signer().settle(&Wish::default()).unwrap();
    assert_eq!(settled.admitted.len(), 2, "{settled:?}");
    assert_eq!(settled.refused.len(), 1);
    assert!(settled.refused[0].contains("\"web-1\": db-*, old"), "{settled:?}");
}

#[test]
fn codes_are_for_compartments_of_the_policy() {
    let tenant = Tenant::new();
    let new = dirless_syncer::signed::NewCode {
        hosts: std::collections::BTreeSet::new(),
        compartments: [label("none")].into(),
        uses: 1,
        expires: tenant.clock.now() + SignedDuration::from_hours(1),
        url: "https://x".to_owned(),
    };
    assert!(
        tenant
            .signer()
            .enroller()
            .create_code(&new)
            .unwrap_err()
            .to_string()
            .contains("no compartment none")
    );
    let code = tenant.code(&["all"], 1);
    assert_eq!(code.roots, tenant.policy().fingerprint());
    let text = std::fs::read_to_string(tenant.state().join(format!("code/{}.json", code.code))).unwrap();
    assert!(text.contains(code.secret.expose().as_str()));
}
