//! Host limits against a directory: whatever stands in the limits file and whatever a publisher
//! sealed, nothing that grants rights gets into the table, and nothing into the directory copy that is an account
//! there and none in the table: neither by the snapshot's own entries nor by what its schema makes of them.
//!
//! The input is a limits file, a NUL, and the JSON of a snapshot, which is that of the accounts and that of the tree.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use dirless_agent::pipeline::{Body, Content, DirectoryInput, HostLimits, Opener, Tree, publish_directory, run};
use dirless_copy::{Query, Reader, Row, Scope};
use dirless_directory::encoded::{Matcher, Subject};
use dirless_directory::filter::Truth;
use dirless_directory::{Dn, DnKey, Filter, Schema};
use dirless_program::Clock;
use dirless_seal::Identity;
use dirless_table::Table;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

#[path = "../folder.rs"]
mod folder;
#[path = "../host.rs"]
mod host;

use folder::Folder;

/// Where the copy begins.
const BASE: &str = "dc=dirless";

fuzz_target!(|data: &[u8]| {
    let place = data.iter().position(|byte| *byte == 0);
    let (limits, json) = place.map_or((&b""[..], data), |at| (&data[..at], &data[at + 1..]));
    let limits = std::str::from_utf8(limits).ok();
    let limits = limits.and_then(|text| HostLimits::parse(text, Path::new("limits.toml")).ok());
    let limits = limits.unwrap_or_default();
    let mapped: Vec<String> = limits.map_groups.iter().map(ToString::to_string).collect();
    let identity = Identity::generate();
    let mut sealed = Vec::new();
    dirless_seal::seal(&identity.recipient(), &mut &*json, &mut sealed).expect("memory can be written");
    let mut inputs = host::inputs(Body::Bytes(sealed), Opener::Key(identity), limits);
    let mut tree = inputs.sources.clone();
    tree.iter_mut().for_each(|source| source.name = "tree".into());
    inputs.directory = Some(DirectoryInput {
        base: Dn::parse(BASE).expect("a name"),
        sources: tree,
    });
    let outcome = run(&inputs, &Clock::system(), None);
    let Some(content) = outcome.content else { return };
    let table = Table::from_bytes(host::table(&content)).expect("what was written can be read");
    check(&table, &mapped);
    let tree = outcome.tree.filter(|tree| !tree.overlay.is_empty());
    if let Some(tree) = tree {
        check_copy(&content, &tree, &table);
    }
});

fn check(table: &Table, mapped: &[String]) {
    for user in table.users() {
        let user = user.expect("whole");
        assert!(user.uid != 0 && user.gid != 0 && user.uid != 1500 && user.gid != 1500 && user.gid != 27);
        for name in [&b"root"[..], b"local", b"sudo"] {
            assert_ne!(user.name(), name);
        }
        assert!(!user.strings.contains(&b':') && !user.strings.contains(&b'\n'));
        assert!(user.home().starts_with(b"/") && !user.home().ends_with(b"/.."));
    }
    for group in table.groups() {
        let group = group.expect("whole");
        assert_ne!(group.gid, 0);
        let name = String::from_utf8_lossy(group.name()).into_owned();
        assert_ne!(name, "root");
        let local = ["sudo", "local"].contains(&name.as_str()) || [27, 1500].contains(&group.gid);
        assert!(!local || mapped.contains(&name), "{name}");
    }
}

/// The copy that is made of both.
fn check_copy(content: &Content, tree: &Tree, table: &Table) {
    let folder = Folder::new();
    let path = folder.path().join("copy.db");
    let base = Dn::parse(BASE).expect("a name");
    let digest = content.digest(true);
    let published = publish_directory(&path, &base, content, tree, &digest, Timestamp::UNIX_EPOCH);
    published.expect("what a run gives can be published");
    let reader = Reader::open(&path, Schema::standard()).expect("what was written can be read");
    let mut users = BTreeMap::new();
    for user in table.users() {
        let user = user.expect("whole");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (numbers, keys) = ((user.uid, user.gid), text(user.keys));
        users.insert(text(user.name()), (numbers, text(user.home()), keys));
    }
    let groups: BTreeMap<String, u32> = table
        .groups()
        .map(|group| group.expect("whole"))
        .map(|group| (String::from_utf8_lossy(group.name()).into_owned(), group.gid))
        .collect();
    let gids: BTreeSet<u32> = groups.values().copied().collect();
    // By class and by attribute, as name services look for them; types that the site derives from these answer as well.
    for filter in ["(objectClass=posixAccount)", "(uidNumber=*)"] {
        each(&reader, filter, &mut |row| {
            let name = account(row, "uid=", "ou=users,dc=dirless");
            let Some(((uid, gid), home, keys)) = name.and_then(|name| users.get(name)) else {
                panic!("{} is no user of the table, for {filter}", row.dn);
            };
            assert_eq!(values(row, "uidNumber"), [uid.to_string()], "{}", row.dn);
            assert_eq!(values(row, "gidNumber"), [gid.to_string()], "{}", row.dn);
            assert_eq!(values(row, "homeDirectory"), [home.as_str()], "{}", row.dn);
            let keys: Vec<&str> = keys.lines().collect();
            assert_eq!(values(row, "sshPublicKey"), keys, "{}", row.dn);
        });
    }
    // What only the site calls a key is one to whoever asks for keys.
    each(&reader, "(&(objectClass=posixAccount)(sshPublicKey=*))", &mut |row| {
        assert!(!values(row, "sshPublicKey").is_empty(), "{} has other keys", row.dn);
    });
    for filter in ["(objectClass=posixGroup)", "(memberUid=*)"] {
        each(&reader, filter, &mut |row| {
            let name = account(row, "cn=", "ou=groups,dc=dirless");
            let numbers = values(row, "gidNumber");
            let [number] = numbers.as_slice() else {
                panic!("{} has the numbers {numbers:?}", row.dn);
            };
            let own = name.and_then(|name| groups.get(name).or_else(|| users.get(name).map(|((_, gid), ..)| gid)));
            assert_eq!(own.map(ToString::to_string).as_ref(), Some(number), "{}", row.dn);
            assert!(
                values(row, "memberUid").iter().all(|name| users.contains_key(name)),
                "{}",
                row.dn
            );
        });
    }
    for number in [0, 27, 1500] {
        each(&reader, &format!("(gidNumber={number})"), &mut |row| {
            assert!(gids.contains(&number), "{} is of the group {number}", row.dn);
        });
        each(&reader, &format!("(uidNumber={number})"), &mut |row| {
            panic!("{} is {number}", row.dn)
        });
    }
}

/// Shows each entry that a client gets for `filter`: the reader may offer more than match.
fn each(reader: &Reader, filter: &str, see: &mut dyn FnMut(&Row<'_>)) {
    let filter = Filter::parse(filter).expect("a filter");
    let matcher = Matcher::new(reader.schema(), &filter);
    let query = Query {
        base: &DnKey::from(Vec::new()),
        scope: Scope::Subtree,
        filter: &filter,
        after: None,
        wants: None,
        apart: false,
    };
    let searched = reader.search(&query, &mut |row| {
        let subject = Subject {
            dn: row.dn,
            key: row.key,
            attributes: row.attributes,
        };
        if row.exact || matcher.matches(reader.schema(), subject) == Truth::True {
            see(&row);
        }
        ControlFlow::Continue(())
    });
    searched.expect("what was written can be read");
}

/// The name of the account whose place this is.
fn account<'r>(row: &Row<'r>, before: &str, below: &str) -> Option<&'r str> {
    row.dn.strip_prefix(before)?.strip_suffix(below)?.strip_suffix(',')
}

/// The values of one attribute, with whatever options.
fn values(row: &Row<'_>, name: &str) -> Vec<String> {
    let own = row.attributes.iter().filter(|attribute| {
        attribute
            .name
            .split(';')
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case(name))
    });
    own.flat_map(|attribute| attribute.values)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}
