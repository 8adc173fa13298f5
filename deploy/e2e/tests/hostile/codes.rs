//! The table of lies in SECURITY.md, held against the lies that are told and against the codes that there are.

use std::collections::{BTreeMap, BTreeSet};

use dirless_e2e::repository;

use crate::lie::{SCENARIOS, lies};

/// Told outside of the lists, with codes of other programs.
const ELSEWHERE: &str = "nobody_adds_a_host";

fn page(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

/// The words in code marks.
fn marked(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A row of the table of lies.
struct Row {
    codes: BTreeSet<String>,
    names: BTreeSet<String>,
}

fn rows(security: &str) -> Vec<Row> {
    let table = security
        .split("| lie | what finds it | code | name in the test |\n")
        .nth(1);
    let lines = table.unwrap().lines().take_while(|line| line.starts_with('|')).skip(1);
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [_, _, codes, names]: [&str; 4] = cells.try_into().unwrap();
        Row {
            codes: marked(codes),
            names: marked(names),
        }
    };
    lines.map(row).collect()
}

/// Codes that no lie brings about: below the table, with the reason of each.
fn excused(security: &str) -> BTreeSet<String> {
    let list = security.split("\nCodes that none of these brings about:\n\n").nth(1);
    let lines = list.unwrap().lines().take_while(|line| line.starts_with("- "));
    let codes = lines.flat_map(|line| {
        let (codes, reason) = line.split_once(": ").unwrap();
        assert!(reason.len() > 20, "no reason: {line}");
        marked(codes)
    });
    codes.collect()
}

/// The codes of hosts: all that the protocol's page explains, which is all that there are (`deploy/e2e/tests/tree.rs`).
fn explained() -> BTreeSet<String> {
    let text = page("docs/protocol.md");
    let below = text
        .split("\n## Codes\n")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let of_line = |line: &str| match line.split('|').nth(1) {
        Some(first) => marked(first),
        // A word with which a host does not start.
        None => marked(line)
            .into_iter()
            .take(1)
            .filter(|_| line.starts_with('`'))
            .collect(),
    };
    below.lines().flat_map(of_line).collect()
}

#[test]
fn every_lie_and_its_codes_are_documented() {
    let mut told: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for lie in lies() {
        told.entry(lie.name()).or_default().extend(lie.codes());
    }
    for (name, _, codes) in SCENARIOS {
        told.entry(name).or_default().extend(codes);
    }
    let rows = rows(&page("SECURITY.md"));
    for (name, codes) in &told {
        let named: Vec<_> = rows.iter().filter(|row| row.names.contains(*name)).collect();
        assert!(!named.is_empty(), "SECURITY.md says nothing of {name}");
        for code in codes {
            let is_said = named.iter().any(|row| row.codes.contains(*code));
            assert!(is_said, "SECURITY.md does not say {code} of {name}");
        }
    }
    // And nothing is claimed that nobody tells.
    for Row { codes, names } in rows.iter().filter(|row| !row.names.contains(ELSEWHERE)) {
        let mut raised = BTreeSet::<&str>::new();
        for name in names {
            let codes = told.get(name.as_str());
            raised.extend(codes.unwrap_or_else(|| panic!("SECURITY.md speaks of {name}, which nobody tells")));
        }
        for code in codes {
            assert!(raised.contains(code.as_str()), "none of {names:?} raises {code}");
        }
    }
}

#[test]
fn every_code_is_brought_about_by_a_lie_or_has_its_reason() {
    let (explained, security) = (explained(), page("SECURITY.md"));
    assert!(explained.len() > 40, "only {explained:?}");
    let told: BTreeSet<String> = rows(&security).into_iter().flat_map(|row| row.codes).collect();
    let excused = excused(&security);
    let unsaid: Vec<_> = explained
        .iter()
        .filter(|code| !told.contains(*code) && !excused.contains(*code))
        .collect();
    assert!(
        unsaid.is_empty(),
        "SECURITY.md has neither rows nor reasons for {unsaid:?}"
    );
    for code in &excused {
        assert!(explained.contains(code), "{code} has a reason, but is no code");
        assert!(!told.contains(code), "{code} has a row and a reason");
    }
}
