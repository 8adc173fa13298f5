//! Somebody is taken away by hand from a backend of the classic protocol.

use crate::support::{Site, few};

#[test]
fn who_is_revoked_is_gone_from_the_backend_without_a_read() {
    let site = Site::new(few());
    site.good(&["once"]);
    let mut numbers = site.numbers();
    numbers.retain(|name, _| !name.starts_with('@'));
    let (name, number) = numbers.iter().next().unwrap();
    let sequence = |site: &Site| site.published()["sequence"].as_u64().unwrap();
    let before = sequence(&site);
    // Nobody asks AWS.
    let directory = site.aws.edit(std::mem::take);
    let said = site.good(&["revoke", name]);
    assert!(
        said.contains(&format!("revoked {name}")) && said.contains("classic protocol do not say"),
        "{said}"
    );
    site.aws.edit(|now| *now = directory);
    assert!(!site.numbers().contains_key(name));
    assert_eq!(sequence(&site), before + 1);
    let groups = site.published()["groups"].to_string();
    assert!(!groups.contains(&format!("\"{name}\"")), "{groups}");
    // The next read says the same, and there is nothing to push; nor does the guard mind.
    assert!(site.good(&["once"]).contains("nothing changed"));
    assert!(!site.numbers().contains_key(name));
    site.good(&["revoke", "--undo", name]);
    site.good(&["once"]);
    assert_eq!(
        site.numbers().get(name),
        Some(number),
        "under the number that it always had"
    );
    // All of them, which is more than the guard lets pass.
    let all: Vec<&str> = numbers.keys().map(String::as_str).collect();
    site.good(&[&["revoke", "--json"], &all[..]].concat());
    assert_eq!(site.published()["users"].as_array().unwrap().len(), 0);
    site.good(&["once"]);
    assert_eq!(site.published()["users"].as_array().unwrap().len(), 0);
}
