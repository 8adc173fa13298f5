//! From a deployed syncer to ours, and from a lost machine to a new one: nobody's id moves.

use serde_json::{Value, json};

use crate::support::{Site, few, seal};

/// What a deployed syncer would have pushed for [`few`].
fn deployed() -> Value {
    let user = |name: &str, uid: u32, gid: u32| json!({"username": name, "uid": uid, "gid": gid, "gecos": name, "home": format!("/home/{name}"), "shell": "/bin/bash"});
    json!({
        "groups": [
            {"name": "Engineering Team", "gid": 60001, "members": ["Alice@corp.example", "bob"]},
            {"name": "ops", "gid": 60002, "members": ["carol"]},
        ],
        "users": [user("Alice@corp.example", 60003, 60001), user("bob", 60004, 60001), user("carol", 60005, 60002)],
    })
}

fn with_deployed(extra: &str) -> Site {
    let mut site = Site::new(few());
    site.extra = extra.to_owned();
    let sealed = seal(&site.identity(), &deployed().to_string());
    site.backend.with(|memory| memory.snapshot = Some(sealed));
    site
}

#[test]
fn without_an_import_the_first_publication_would_renumber_everybody_and_is_held_back() {
    let site = with_deployed("");
    let text = site.ends(&["once"], 11);
    assert!(
        text.contains("3 of 3 users change") && text.contains("import --from-backend"),
        "{text}"
    );
    assert_eq!(site.backend.puts(), 0);
}

#[test]
fn an_import_keeps_every_number_and_first_group_keeps_every_gid() {
    let site = with_deployed("[ids]\nprimary = \"first-group\"\n");
    let text = site.good(&["import", "--from-backend", "--yes"]);
    assert!(
        text.contains("5 to take over") && text.contains("60001-60513"),
        "{text}"
    );
    // Display names and homes of the deployed snapshot differ from ours, so the guard speaks up.
    let text = site.ends(&["plan"], 11);
    assert!(!text.contains("uid 6") && !text.contains("gid 6"), "{text}");
    let plan: Value = serde_json::from_slice(&site.run(&["plan", "--json"]).stdout).unwrap();
    site.good(&["once", "--accept", plan["change"].as_str().unwrap()]);
    let numbers = site.numbers();
    assert_eq!(
        (numbers["alice"], numbers["bob"], numbers["carol"]),
        (60_003, 60_004, 60_005)
    );
    assert_eq!((numbers["@engineering-team"], numbers["@ops"]), (60_001, 60_002));
    let users = site.published()["users"].clone();
    let gids: Vec<_> = users
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["gid"].as_u64().unwrap())
        .collect();
    assert_eq!(gids, [60_001, 60_001, 60_002]);
    site.aws.edit(|directory| directory.user("u-0", "zoe").name.clone());
    site.good(&["once"]);
    assert_eq!(
        site.numbers()["zoe"],
        1_879_048_192,
        "new people come from our own range"
    );
}

#[test]
fn passwd_and_group_files_and_sealed_snapshots_are_imported() {
    let site = Site::new(few());
    let passwd = site.path("passwd");
    std::fs::write(
        &passwd,
        "root:x:0:0::/root:/bin/sh\nalice:x:5001:5001::/home/alice:/bin/sh\nold:x:5002:5002::/:/bin/sh\n",
    )
    .unwrap();
    let text = site.ends(&["import", passwd.to_str().unwrap()], 1);
    assert!(text.contains("say --yes"), "{text}");
    let text = site.good(&["import", passwd.to_str().unwrap(), "--yes"]);
    assert!(
        text.contains("+ user 5001 alice (u-1)") && text.contains("# user 5002 old: reserved"),
        "{text}"
    );
    let group = site.path("group");
    std::fs::write(&group, "ops:x:5001:\n").unwrap();
    let text = site.ends(&["import", group.to_str().unwrap(), "--yes"], 1);
    assert!(
        text.contains("conflict") && text.contains("belongs to user u-1"),
        "{text}"
    );
    let sealed = site.path("sealed");
    std::fs::write(&sealed, seal(&site.identity(), &deployed().to_string())).unwrap();
    let text = site.ends(&["import", sealed.to_str().unwrap(), "--yes"], 1);
    assert!(text.contains("numbers never move"), "{text}");
    site.good(&["once"]);
    assert_eq!(site.numbers()["alice"], 5001);
    let retired = site.published()["ledger"]["retired"].clone();
    assert_eq!(
        retired,
        json!([{"kind": "user", "id": "reserved:user:old", "number": 5002, "name": "old"}])
    );
}

#[test]
fn a_lost_ledger_publishes_nothing_and_is_rebuilt_from_the_backend_and_the_key() {
    let site = Site::new(few());
    site.good(&["once"]);
    site.aws.edit(|directory| directory.remove_user("u-2"));
    site.good(&["once"]);
    let before = site.numbers();
    let bob = site.good(&["ledger", "show", "bob"]);
    // First the ledger alone is lost, then all of the state.
    std::fs::remove_file(site.path("state/ledger.db")).unwrap();
    let text = site.ends(&["once"], 1);
    assert!(text.contains("ledger rebuild"), "{text}");
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::remove_file(site.path("keys/age_public.key")).unwrap();
    let text = site.ends(&["once"], 1);
    assert!(text.contains("ledger rebuild"), "{text}");
    assert_eq!(site.numbers(), before);
    assert!(site.good(&["ledger", "rebuild"]).contains("5 numbers"));
    site.aws.edit(|directory| directory.user("u-2", "bob").name.clone());
    site.aws.edit(|directory| directory.user("u-8", "new").name.clone());
    site.good(&["once"]);
    let after = site.numbers();
    for (name, number) in before {
        assert_eq!(after[&name], number);
    }
    assert_eq!(bob.split_whitespace().next().unwrap(), after["bob"].to_string());
    assert_eq!(
        after.values().collect::<std::collections::BTreeSet<_>>().len(),
        after.len()
    );
}

#[test]
fn a_snapshot_that_the_key_does_not_open_is_not_simply_replaced() {
    let site = Site::new(few());
    let stranger = dirless_seal::Identity::generate();
    let sealed = seal(&stranger, &deployed().to_string());
    site.backend.with(|memory| memory.snapshot = Some(sealed));
    let text = site.ends(&["once"], 11);
    assert!(text.contains("age.key does not open it"), "{text}");
    assert_eq!(site.backend.puts(), 0);
}
