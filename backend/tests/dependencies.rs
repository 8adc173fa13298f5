//! The server cannot read what it keeps: nothing that opens, seals or understands a snapshot is
//! among the crates it is built from.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Names of all crates that a normal build of `root` contains.
fn closure(root: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let names: HashMap<String, String> = packages
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let nodes: HashMap<String, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let mut open: Vec<String> = names
        .iter()
        .filter(|(_, name)| *name == root)
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(open.len(), 1, "{root}");
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        for dependency in nodes[&id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            // A normal dependency has the kind null; "dev" and "build" are not in the program.
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                open.push(text(&dependency["pkg"]));
            }
        }
    }
    seen.iter().map(|id| names[id].clone()).collect()
}

#[test]
fn the_server_has_nothing_that_could_open_a_snapshot() {
    let built_from = closure("dirless-backend");
    for forbidden in [
        "age",
        "age-core",
        "dirless-seal",
        "dirless-model",
        "dirless-client",
        "flate2",
        "reqwest",
    ] {
        assert!(!built_from.contains(forbidden), "dirless-backend contains {forbidden}");
    }
    for forbidden in ["openssl-sys", "aws-lc-sys", "native-tls"] {
        assert!(!built_from.contains(forbidden), "dirless-backend contains {forbidden}");
    }
    // That the list is not empty for a wrong reason.
    for expected in ["rusqlite", "hyper", "rustls", "dirless-wire"] {
        assert!(built_from.contains(expected), "{expected} is missing");
    }
}

/// Whatever of a source makes keys or signatures. Checking them has names of its own.
fn names_of_signing(source: &str) -> Vec<&'static str> {
    const SIGNING: [&str; 9] = [
        "KeyPair",
        "SigningKey",
        "hmac::sign",
        "hmac::Key",
        "from_seed",
        "from_pkcs8",
        "generate_pkcs8",
        "dirless_seal",
        "PrivateKey",
    ];
    let names = SIGNING.into_iter().filter(|name| source.contains(name));
    names.collect()
}

#[test]
fn the_server_names_nothing_that_signs() {
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut read = 0;
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            // The server's own certificate is the one thing it holds a private key for.
            let text = std::fs::read_to_string(&path).unwrap();
            let names = names_of_signing(&text);
            let tls = path.ends_with("net/tls.rs") && names == ["PrivateKey"];
            assert!(names.is_empty() || tls, "{} names {names:?}", path.display());
            read += 1;
        }
    }
    assert!(read > 50, "only {read} files");
}

#[test]
fn the_check_can_fail() {
    assert_eq!(names_of_signing("use ring::signature::Ed25519KeyPair;"), ["KeyPair"]);
    assert!(names_of_signing("use ring::signature::{ED25519, UnparsedPublicKey};").is_empty());
    assert!(closure("dirless-seal").contains("age"));
}
