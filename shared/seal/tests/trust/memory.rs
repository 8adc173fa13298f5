//! The memory's own text: nothing is forgotten when it is written and read.

use dirless_seal::trust::{FormatError, Memory, parse, print};
use dirless_seal::{Note, SigningKey};

use crate::support::{Tenant, at, label, signed};

#[test]
fn a_memory_survives_its_text() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let manifest = signed(&tenant.manifest(7, Some(tenant.id)), &[&tenant.publisher]);
    let head = tenant.sign_head(&tenant.head(3, 0, &[&manifest]));
    let (head, _) = memory.head(&policy, &head, at(0)).unwrap();
    assert!(memory.manifest(&policy, &head, &manifest).is_ok());

    let text = print(&memory).unwrap();
    let note = Note::sign(text.clone(), &[]).unwrap();
    let read: Memory = parse(&note).unwrap();
    assert_eq!(read, memory);
    assert_eq!(read.policy().unwrap().version, 1);
    assert_eq!(read.tenant(), tenant.id);
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("manifest syncer-1+") && line.contains(" local all 7 "))
            .count(),
        1
    );
}

#[test]
fn a_damaged_memory_is_an_error_and_no_new_beginning() {
    let tenant = Tenant::new();
    let (memory, _) = tenant.host();
    let key = SigningKey::generate(label("x")).unwrap();
    let text = print(&memory).unwrap();
    let cut = text.lines().take(3).map(|line| format!("{line}\n")).collect::<String>();
    for damaged in [
        cut,
        text.replace("policy 1", "policy 01"),
        text.replace("/memory/v2", "/memory/v1"),
        format!("{text}head\n"),
    ] {
        let note = Note::sign(damaged, &[&key]).unwrap();
        assert!(parse::<Memory>(&note).is_err());
    }
    let spelled = Note::sign(text.replace("policy 1 ", "policy 01 "), &[&key]).unwrap();
    assert_eq!(parse::<Memory>(&spelled), Err(FormatError::Spelling(4)));
}
