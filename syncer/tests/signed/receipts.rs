//! What hosts say that they have applied, when whoever serves it hides something.

use dirless_syncer::signed::{Awaited, Folder};

use crate::operator::Desk;
use crate::support::*;

#[test]
fn a_node_list_that_is_held_back_hides_no_host() {
    let desk = Desk::of(Tenant::at_backend());
    let tenant = &desk.tenant;
    stock(&tenant.signer(), "corp", &snapshot(2000, &["alice"]));
    settle(&tenant.signer());
    for name in ["web-1", "web-2"] {
        tenant.join(name, &["all"]);
    }
    settle(&tenant.signer());
    let head = head(tenant);
    let awaited = Awaited {
        version: head.version,
        policy: head.policy,
        signed_by: head.issued,
    };
    let newest = head.nodes.unwrap();
    let look = || {
        let mut problems = Vec::new();
        let all = tenant.signer().standings([awaited], &mut problems).unwrap().unwrap();
        (all[&awaited].offline.len(), problems)
    };
    assert_eq!(look(), (2, Vec::new()));
    assert!(!desk.good(&format!("watch {} --once", desk.at())).contains("held back"));

    tenant
        .site()
        .operator()
        .remove(&format!("nodes/syncer-1-enroller/{newest}"))
        .unwrap();
    let (hosts, problems) = look();
    assert_eq!(hosts, 2);
    assert!(
        problems.len() == 1 && problems[0].contains(&format!("node list {newest} of syncer-1-enroller is held back")),
        "{problems:?}"
    );
    // Who knows no list knows the head that names one.
    let said = desk.good(&format!("watch {} --once", desk.at()));
    assert!(
        said.contains(&format!(
            "node list {newest} of syncer-1-enroller is held back, the newest that is shown is {}",
            newest - 1
        )),
        "{said}"
    );
}
