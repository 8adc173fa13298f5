//! A whole tenant, as it is and as whoever serves it might make it.

use std::fs;

use crate::published::{Published, names};

/// The code in an error, and the file that it names.
fn problem(error: &str) -> (String, String) {
    let code = error.rsplit_once('[').unwrap().1.split(']').next().unwrap();
    let file = error
        .split("served there: ")
        .nth(1)
        .unwrap()
        .split(": ")
        .next()
        .unwrap();
    (code.to_owned(), file.to_owned())
}

#[test]
fn a_whole_tenant_is_right_and_each_step_a_line() {
    let tenant = Published::new();
    let out = tenant.place.succeed("verify @/t");
    for line in [
        "policy/2: roots of the first policy",
        "compare it with the recovery sheet",
        "head/hr: version 1, fresh until 2026-11-22T08:15:00Z",
        "nodes/enroller-1/2: 2 nodes, 0 revoked",
        "manifest/it/it/all/1: epoch 4,",
        "wrap/web/4: 2 nodes, 1 recovery recipients",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    let fingerprint = tenant.fingerprint();
    let out = tenant.place.succeed(&format!(
        "verify @/t --roots {fingerprint} --fresh --identity @/recovery"
    ));
    assert!(
        out.contains("as pinned") && out.matches(": opens, ").count() == 3,
        "{out}"
    );
    let json: serde_json::Value = serde_json::from_str(&tenant.place.succeed("verify @/t --json")).unwrap();
    assert!(json["problem"].is_null() && json["facts"].as_array().unwrap().len() > 8);
}

#[test]
fn whoever_opens_a_body_compares_its_records() {
    let mut tenant = Published::new();
    tenant.lies = true;
    tenant.snapshots(2, crate::published::now());
    tenant.place.succeed("verify @/t");
    let error = tenant.place.fail("verify @/t --identity @/recovery");
    assert_eq!(problem(&error).0, "content-root", "{error}");
}

#[test]
fn what_was_pinned_is_what_counts() {
    let tenant = Published::new();
    let other = "00".repeat(32);
    for (line, code) in [
        (format!("verify @/t --roots {other}"), "other-roots"),
        (format!("verify @/t --tenant {other}"), "other-tenant"),
        ("verify @/t --policy 3".to_owned(), "missing"),
        ("verify @/nowhere".to_owned(), "missing"),
    ] {
        assert_eq!(problem(&tenant.place.fail(&line)).0, code, "{line}");
    }
    // Older policies may be gone when a later one is pinned.
    fs::remove_file(tenant.place.path("t/policy/1")).unwrap();
    tenant
        .place
        .succeed(&format!("verify @/t --policy 2 --roots {}", tenant.fingerprint()));
}

/// One thing that is done to one file, and what it is noticed as.
fn after(tenant: &Published, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Option<(String, String)> {
    let path = tenant.place.path(&format!("t/{name}"));
    let good = fs::read(&path).unwrap();
    let mut bytes = good.clone();
    change(&mut bytes);
    if bytes.is_empty() {
        fs::remove_file(&path).unwrap();
    } else {
        fs::write(&path, bytes).unwrap();
    }
    let outcome = tenant.place.run("verify @/t").err().map(|error| problem(&error));
    fs::write(&path, good).unwrap();
    outcome
}

#[test]
fn every_file_that_is_taken_away_is_missed() {
    let tenant = Published::new();
    for name in names(&tenant.place.path("t")) {
        let found = after(&tenant, &name, Vec::clear).map(|(code, _)| code);
        let expected = match name.split('/').next().unwrap() {
            "policy" if name.ends_with("/2") => Some("policy-withheld"),
            "nodes" if name.ends_with("/2") => Some("nodes-withheld"),
            // The first list of all may be gone: the newest one is what counts.
            "nodes" => None,
            // Nobody can tell when a recovery recipient came.
            "wrap" if name.contains("recovery") => None,
            "wrap" => Some("wrap-missing"),
            _ => Some("missing"),
        };
        assert_eq!(found.as_deref(), expected, "{name}");
    }
}

#[test]
fn every_file_that_is_cut_or_grown_is_refused() {
    let tenant = Published::new();
    for name in names(&tenant.place.path("t")) {
        let cut = after(&tenant, &name, |bytes| bytes.truncate(bytes.len() / 2));
        let grown = after(&tenant, &name, |bytes| bytes.push(b'\n'));
        let expected = match name.split('/').next().unwrap() {
            // Sealed, and not signed: only whoever opens it can tell.
            "wrap" => None,
            "blob" => Some(("body-size".to_owned(), name.clone())),
            "log" => Some(("mixed".to_owned(), name.clone())),
            _ => Some(("no-note".to_owned(), name.clone())),
        };
        assert_eq!((&cut, &grown), (&expected, &expected), "{name}");
    }
}

#[test]
fn every_flipped_byte_is_noticed_in_its_file() {
    let tenant = Published::new();
    for name in names(&tenant.place.path("t")) {
        if name.starts_with("wrap/") {
            continue;
        }
        let length = fs::metadata(tenant.place.path(&format!("t/{name}"))).unwrap().len() as usize;
        for at in (0..length).step_by(length / 40 + 1) {
            let found = after(&tenant, &name, |bytes| bytes[at] ^= 1);
            let (code, file) = found.unwrap_or_else(|| panic!("{name}, byte {at}, is overlooked"));
            let expected: &[&str] = match name.split('/').next().unwrap() {
                "blob" => &["body-changed"],
                "log" => &["mixed"],
                "policy" => &["no-note", "malformed", "forged", "other-tenant"],
                // A head is the only thing that says what a manifest is.
                "manifest" => &["no-note", "malformed", "forged", "other-tenant", "mixed"],
                _ => &["no-note", "malformed", "forged", "other-tenant"],
            };
            assert!(expected.contains(&code.as_str()), "{name}, byte {at}: {code}");
            assert_eq!(file, name, "byte {at}");
        }
    }
}

#[test]
fn files_that_change_places_are_mixed_up() {
    let tenant = Published::new();
    let blobs: Vec<_> = names(&tenant.place.path("t"))
        .into_iter()
        .filter(|name| name.starts_with("blob/"))
        .collect();
    for (one, other, expected) in [
        ("policy/1", "policy/2", "mixed"),
        ("head/hr", "head/it", "mixed"),
        ("nodes/enroller-1/1", "nodes/enroller-1/2", "mixed"),
        ("manifest/hr/hr/all/1", "manifest/hr/hr/web/1", "mixed"),
        ("manifest/hr/hr/all/1", "manifest/it/it/all/1", "mixed"),
        ("log/hr/hr/all/1/0", "manifest/it/it/all/1", "mixed"),
        (&blobs[0], &blobs[1], "body-"),
    ] {
        let (one, other) = (
            tenant.place.path(&format!("t/{one}")),
            tenant.place.path(&format!("t/{other}")),
        );
        let (first, second) = (fs::read(&one).unwrap(), fs::read(&other).unwrap());
        fs::write(&one, &second).unwrap();
        fs::write(&other, &first).unwrap();
        // Sealed bodies differ in length by chance: either the size or the digest gives them away.
        let code = problem(&tenant.place.fail("verify @/t")).0;
        assert!(code.starts_with(expected), "{one:?}: {code}");
        fs::write(&one, &first).unwrap();
        fs::write(&other, &second).unwrap();
    }
    tenant.place.succeed("verify @/t");
}

#[test]
fn a_recovery_key_shows_what_wraps_really_hold() {
    let tenant = Published::new();
    let path = |name: &str| tenant.place.path(&format!("t/wrap/{name}"));
    let (all, web) = (
        fs::read(path("all/4/recovery-1")).unwrap(),
        fs::read(path("web/4/recovery-1")).unwrap(),
    );
    fs::write(path("all/4/recovery-1"), &web).unwrap();
    let line = "verify @/t --identity @/recovery";
    assert_eq!(problem(&tenant.place.fail(line)).0, "epoch-key");
    fs::write(path("all/4/recovery-1"), &all[..all.len() - 1]).unwrap();
    assert_eq!(problem(&tenant.place.fail(line)).0, "recovery");
    fs::remove_file(path("all/4/recovery-1")).unwrap();
    assert_eq!(problem(&tenant.place.fail(line)).0, "recovery");
    fs::write(path("all/4/recovery-1"), &all).unwrap();
    tenant.place.succeed(line);
}

#[test]
fn heads_that_nobody_renews_are_told_or_refused() {
    let tenant = Published::new();
    for (issued, word) in [
        ("2026-11-22T07:00:00Z", "stale"),
        ("2026-11-20T07:00:00Z", "expired"),
        ("2026-11-22T09:00:00Z", "clock-behind"),
    ] {
        tenant.snapshots(1, issued.parse().unwrap());
        tenant.place.succeed("verify @/t");
        assert_eq!(problem(&tenant.place.fail("verify @/t --fresh")).0, word);
    }
}

#[test]
fn receipts_that_contradict_each_other_name_the_hosts() {
    let tenant = Published::new();
    let receipts = tenant.place.path("t/receipts");
    fs::create_dir(&receipts).unwrap();
    let write = |name: &str, text: String| fs::write(receipts.join(name), text).unwrap();
    write("one", tenant.receipt(0, None).to_string());
    write("two", tenant.receipt(1, None).to_string());
    assert!(tenant.place.succeed("verify @/t").contains("receipts: 2 agree"));

    write("two", tenant.receipt(1, Some("other")).to_string());
    let error = tenant.place.fail("verify @/t");
    assert_eq!(problem(&error).0, "split-view");
    for node in &tenant.nodes {
        assert!(error.contains(node.0.verifying().name().as_str()), "{error}");
    }
    assert!(error.contains("head 1 of it") && error.contains("this-copy"), "{error}");

    // Both hosts agree, and this copy shows something else.
    write("one", tenant.receipt(0, Some("other")).to_string());
    let error = tenant.place.fail("verify @/t");
    assert!(error.contains("this-copy"), "{error}");

    let forged = tenant.receipt(0, None).to_string().replacen("users 1", "users 2", 1);
    write("one", forged);
    assert_eq!(problem(&tenant.place.fail("verify @/t")).0, "forged");
    let other = Published::new();
    write("one", other.receipt(0, None).to_string());
    assert_eq!(problem(&tenant.place.fail("verify @/t")).0, "unknown-node");
    assert!(tenant.place.fail("verify @/t --receipts @/nothing").contains("missing"));
}
