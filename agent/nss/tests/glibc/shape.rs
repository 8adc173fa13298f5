//! What the shipped file is made of. Most promises of the module can be read off its imports.

use crate::namespace::released;
use std::collections::BTreeSet;
use std::process::Command;

fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name)
        .args(arguments)
        .arg(released())
        .output()
        .expect("binutils are needed");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_is_small() {
    let stripped = tempfile::tempdir().unwrap().keep();
    let file = stripped.join("stripped");
    assert!(
        Command::new("strip")
            .arg("-o")
            .arg(&file)
            .arg(released())
            .status()
            .unwrap()
            .success()
    );
    let size = std::fs::metadata(&file).unwrap().len();
    std::fs::remove_dir_all(stripped).unwrap();
    assert!(size < 150_000, "{size} bytes");
}

/// No environment, no threads, no signals, no stdio, no thread-local destructor, no allocation but the
/// caller's gid list, no unwinding: none of what they need is there to be called.
#[test]
fn it_imports_nothing_but_these() {
    let allowed: BTreeSet<&str> = [
        // opening and mapping the table
        "open",
        "statx",
        "mmap",
        "munmap",
        "close",
        "__errno_location",
        // the lock, the wait between two looks at a missing file
        "sched_yield",
        "clock_gettime",
        "pthread_setcancelstate",
        // strings; bcmp and memcpy are how the compiler compares and copies
        "strlen",
        "bcmp",
        "memcmp",
        "memcpy",
        "memmove",
        "memset",
        // initgroups_dyn grows the caller's list; free belongs to tables held in memory (tests, fuzzing)
        "realloc",
        "free",
        // loading, unloading, forking
        "__cxa_finalize",
        "__register_atfork",
        "__gmon_start__",
        "_ITM_deregisterTMCloneTable",
        "_ITM_registerTMCloneTable",
    ]
    .into();
    let symbols = tool("nm", &["-D", "--undefined-only"]);
    let imported: BTreeSet<&str> = symbols
        .split_whitespace()
        .filter(|word| word.len() > 1)
        .map(|word| word.split('@').next().unwrap())
        .collect();
    let unexpected: Vec<_> = imported.difference(&allowed).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

#[test]
fn it_exports_what_glibc_looks_for_and_nothing_else() {
    let symbols = tool("nm", &["-D", "--defined-only"]);
    let exported: BTreeSet<&str> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    let wanted: BTreeSet<String> = [
        "setpwent",
        "getpwent_r",
        "endpwent",
        "setgrent",
        "getgrent_r",
        "endgrent",
        "setspent",
        "getspent_r",
        "endspent",
        "getpwnam_r",
        "getpwuid_r",
        "getgrnam_r",
        "getgrgid_r",
        "getspnam_r",
        "initgroups_dyn",
    ]
    .map(|name| format!("_nss_dirless_{name}"))
    .into();
    assert!(
        exported.iter().copied().eq(wanted.iter().map(String::as_str)),
        "{exported:?}"
    );
}

#[test]
fn it_depends_on_libc_alone() {
    let dynamic = tool("readelf", &["--dynamic", "--wide"]);
    let needed: Vec<&str> = dynamic.lines().filter(|line| line.contains("(NEEDED)")).collect();
    let libc = |line: &&str| ["[libc.so", "[ld-linux"].iter().any(|name| line.contains(name));
    assert!(needed.iter().all(libc), "{needed:?}");
    assert!(dynamic.contains("Library soname: [libnss_dirless.so.2]"));
    assert!(!dynamic.contains("RUNPATH") && !dynamic.contains("RPATH"));
}

/// `cargo tree` would say the same: the table crate, and nothing below it.
#[test]
fn its_sources_depend_on_the_table_crate_alone() {
    let dependencies = |manifest: &str| {
        let start = manifest.find("[dependencies]").unwrap() + "[dependencies]".len();
        let section = &manifest[start..];
        let end = section.find("\n[").unwrap_or(section.len());
        section[..end].trim().to_owned()
    };
    assert_eq!(
        dependencies(include_str!("../../Cargo.toml")),
        "dirless-table.workspace = true"
    );
    assert_eq!(dependencies(include_str!("../../../table/Cargo.toml")), "");
}
