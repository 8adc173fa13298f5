//! What the sources themselves must look like: dependency closures, where unsafe code may stand, sizes
//! of files and functions, words that may not appear.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dirless_e2e::repository;
use dirless_testkit::Program;

/// The names of all crates that are built into `package`, itself included.
fn closure(package: &str) -> BTreeSet<String> {
    let listed = Program::system("cargo")
        .args([
            "tree",
            "--offline",
            "--locked",
            "--prefix",
            "none",
            "--edges",
            "normal,build",
            "--package",
            package,
        ])
        .arg("--manifest-path")
        .arg(repository().join("Cargo.toml"))
        .succeed()
        .unwrap();
    listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn one_tls_stack_and_no_openssl() {
    for package in ["dirless-backend", "dirless-syncer", "dirless-agent"] {
        let crates = closure(package);
        assert!(crates.contains("ring"), "{package} should stand on ring");
        for banned in ["aws-lc-sys", "aws-lc-rs", "openssl-sys", "openssl", "native-tls"] {
            assert!(!crates.contains(banned), "{package} builds {banned}");
        }
    }
}

#[test]
fn the_backend_cannot_read_a_tenant() {
    let crates = closure("dirless-backend");
    for banned in [
        "age",
        "dirless-seal",
        "dirless-model",
        "dirless-directory",
        "dirless-table",
    ] {
        assert!(!crates.contains(banned), "the backend is built with {banned}");
    }
}

#[test]
fn the_ldap_server_of_a_host_holds_no_key_and_calls_nobody() {
    let crates = closure("dirless-ldapd");
    for banned in [
        "age",
        "dirless-seal",
        "dirless-client",
        "dirless-wire",
        "dirless-model",
        "dirless-agent",
        "reqwest",
        "hyper",
        "openssl-sys",
        "aws-lc-sys",
    ] {
        assert!(
            !crates.contains(banned),
            "the host's LDAP server is built with {banned}"
        );
    }
}

#[test]
fn the_name_service_module_is_std_and_the_table() {
    let allowed = BTreeSet::from(["dirless-nss".to_owned(), "dirless-table".to_owned()]);
    assert_eq!(closure("dirless-nss"), allowed);
}

/// A Rust source of ours: where it is, its production lines, and how many lines of tests.
struct Source {
    path: PathBuf,
    production: Vec<String>,
    tests: usize,
}

fn sources() -> Vec<Source> {
    let root = repository().canonicalize().unwrap();
    let mut files = Vec::new();
    for folder in ["shared", "backend", "syncer", "agent", "operator", "deploy"] {
        collect(&root.join(folder), &mut files);
    }
    files.into_iter().map(|path| read(&root, &path)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn read(root: &Path, path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let short = path.strip_prefix(root).unwrap().to_owned();
    let folders = ["tests", "benches", "testkit", "e2e", "fleet"];
    let stem = short.file_stem().unwrap().to_string_lossy().into_owned();
    // The test module stands at the foot of a file, or in a file or folder of its own.
    let start = if stem.ends_with("tests") || folders.iter().any(|folder| short.iter().any(|part| part == *folder)) {
        0
    } else {
        let foot = |pair: &[String]| pair[0] == "#[cfg(test)]" && pair[1].ends_with("mod tests {");
        lines.windows(2).position(foot).unwrap_or(lines.len())
    };
    let tests = code(&lines[start..]);
    Source {
        path: short,
        production: lines.into_iter().take(start).collect(),
        tests,
    }
}

/// Lines that are neither blank nor comment.
fn code(lines: &[String]) -> usize {
    lines
        .iter()
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//"))
        .count()
}

/// The functions of formatted code with their lengths: from the line with `fn` to the closing brace at
/// the same depth.
fn functions(lines: &[String]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line
            .trim_start()
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub(super) ");
        let words = ["pub ", "const ", "async ", "unsafe ", "extern \"C\" "]
            .iter()
            .fold(words, |words, word| words.trim_start_matches(word));
        let Some(name) = words.strip_prefix("fn ") else {
            continue;
        };
        // A declaration without a body ends with a semicolon before any brace opens.
        let mut rest = lines.iter().skip(start);
        if rest
            .find(|line| line.ends_with('{') || line.ends_with('}') || line.ends_with(';'))
            .is_none_or(|line| line.ends_with(';'))
        {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines
            .iter()
            .skip(start)
            .position(|line| *line == end)
            .map_or(1, |length| length + 1);
        let name = name.split(['(', '<']).next().unwrap_or(name);
        found.push((name.to_owned(), length));
    }
    found
}

#[test]
fn files_stay_short() {
    let sources = sources();
    let mut long = 0;
    for source in &sources {
        let lines = source.production.len();
        let all = lines + source.tests;
        assert!(all <= 1500, "{} has {all} lines", source.path.display());
        assert!(lines <= 800, "{} has {lines} lines", source.path.display());
        if lines > 400 {
            println!("{}: {lines} lines", source.path.display());
            long += 1;
        }
        if source.path.ends_with("src/main.rs") {
            assert!(lines < 30, "{} has {lines} lines", source.path.display());
        }
    }
    assert!(
        long * 10 <= sources.len(),
        "{long} of {} files have more than 400 lines",
        sources.len()
    );
}

#[test]
fn functions_stay_short() {
    let mut all = 0;
    let mut long = 0;
    for source in sources() {
        for (name, lines) in functions(&source.production) {
            assert!(lines <= 120, "{}: {name} has {lines} lines", source.path.display());
            all += 1;
            if lines > 60 {
                println!("{}: {name} has {lines} lines", source.path.display());
                long += 1;
            }
        }
    }
    assert!(long * 20 <= all, "{long} of {all} functions have more than 60 lines");
}

#[test]
fn there_is_enough_test_code() {
    let mut crates = std::collections::BTreeMap::<PathBuf, (usize, usize)>::new();
    for source in sources() {
        let part: PathBuf = source
            .path
            .iter()
            .take_while(|part| *part != "src" && *part != "tests")
            .collect();
        let sums = crates.entry(part).or_default();
        *sums = (sums.0 + code(&source.production), sums.1 + source.tests);
    }
    for (part, (production, tests)) in &crates {
        println!("{}: {production} lines, {tests} of tests", part.display());
    }
    let (production, tests) = crates
        .values()
        .fold((0, 0), |sums, own| (sums.0 + own.0, sums.1 + own.1));
    // The aim is one line of test for each line of production code; below half of that nothing lands.
    assert!(
        tests * 2 >= production,
        "{tests} lines of tests for {production} lines of production code"
    );
}

#[test]
fn unsafe_code_stands_in_two_crates_only() {
    for source in sources() {
        let exempt = source.path.starts_with("agent/nss") || source.path.starts_with("agent/table");
        let is_root = source.path.ends_with("src/lib.rs") && !source.production.is_empty();
        if is_root && !exempt {
            let forbids = source.production.iter().any(|line| line == "#![forbid(unsafe_code)]");
            assert!(forbids, "{} does not forbid unsafe code", source.path.display());
        }
        if !exempt {
            let found = source.production.iter().find(|line| {
                let code = line.split("//").next().unwrap_or(line);
                ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                    .iter()
                    .any(|word| code.contains(word) && !code.contains('"'))
            });
            assert!(found.is_none(), "{}: {}", source.path.display(), found.unwrap());
        }
    }
}

#[test]
fn lints_are_excepted_with_reasons_and_nothing_is_left_for_later() {
    // Spelled apart, so that this file does not find itself.
    let banned = [
        concat!("#[", "allow("),
        concat!("#![", "allow("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("#[", "ignore"),
    ];
    for source in sources() {
        for (number, line) in source.production.iter().enumerate() {
            let found = banned.iter().find(|word| line.contains(**word));
            assert!(
                found.is_none(),
                "{}:{}: {}",
                source.path.display(),
                number + 1,
                line.trim()
            );
        }
    }
}

/// The codes that `source` gives to refusals and alarms, found by what stands in front of them.
fn codes(source: &Source) -> BTreeSet<String> {
    let text: String = source.production.iter().map(|line| line.trim()).collect();
    let mut marks = vec![
        "BodyError::new(\"",
        "Problem::new(\"",
        "ReceiptAlarm::new(\"",
        "code: \"",
    ];
    if source.path.ends_with("trust/refusal.rs") || source.path.ends_with("trust/walk.rs") {
        marks.push("=> \"");
    }
    if source.path.ends_with("trust/walk.rs") || source.path.ends_with("pipeline/open.rs") {
        marks.push("=> (\"");
    }
    let found = marks.iter().flat_map(|mark| text.split(*mark).skip(1));
    found
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .filter(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
        .collect()
}

/// The words in the first column of the tables below `heading` of a page, up to the next heading of its level.
fn listed(page: &str, heading: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(repository().join("docs").join(page)).unwrap();
    let below = text.split(heading).nth(1).unwrap().split("\n## ").next().unwrap();
    let cells = below
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let words = cells.flat_map(|cell| cell.split('`').step_by(2));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_code_is_explained_and_every_explained_one_is_given() {
    let sources = sources();
    let is_hosts = |source: &&Source| {
        let places = ["shared/seal/src/trust", "agent/src/trust", "agent/src/pipeline"];
        places.iter().any(|place| source.path.starts_with(place)) || source.path.ends_with("daemon/signed.rs")
    };
    let hosts: BTreeSet<String> = sources.iter().filter(is_hosts).flat_map(codes).collect();
    assert!(hosts.len() > 40, "where codes are made was not found: {hosts:?}");
    let protocol = listed("protocol.md", "\n## Codes\n");
    let unexplained: Vec<_> = hosts.difference(&protocol).collect();
    assert!(
        unexplained.is_empty(),
        "docs/protocol.md does not explain {unexplained:?}"
    );
    let is_walk = |source: &&Source| source.path.starts_with("operator/src/walk");
    let verify: BTreeSet<String> = sources.iter().filter(is_walk).flat_map(codes).collect();
    assert!(verify.len() > 5, "where codes are made was not found: {verify:?}");
    let trust = listed("trust.md", "\n## Check\n");
    let unexplained: Vec<_> = verify
        .iter()
        .filter(|code| !protocol.contains(*code) && !trust.contains(*code))
        .collect();
    assert!(unexplained.is_empty(), "docs/trust.md does not explain {unexplained:?}");
    let production: String = sources.iter().flat_map(|source| source.production.clone()).collect();
    let is_gone = |code: &&String| !production.contains(&format!("\"{code}\""));
    let gone: Vec<_> = protocol.iter().filter(is_gone).collect();
    assert!(
        gone.is_empty(),
        "docs/protocol.md explains {gone:?}, which nothing gives"
    );
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let root = repository();
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        let text = std::fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap();
        let own = member == "agent/nss" || member == "agent/table";
        assert!(
            own || text.contains("[lints]\nworkspace = true"),
            "{member} has lints of its own"
        );
    }
}

#[test]
fn functions_are_measured_right() {
    let text = "trait T {\n    fn t(&self) -> &str;\n}\n\nimpl X {\n    pub fn a(&self) {\n        1\n    }\n}\n\nfn b() {\n}\n";
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(functions(&lines), [("a".to_owned(), 3), ("b".to_owned(), 2)]);
}
