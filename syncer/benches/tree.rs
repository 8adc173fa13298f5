//! The tree at a million entries: look-ups, searches, writes, the rename of a subtree, and a source's
//! read compared and written. A plain program:
//!
//! ```text
//! cargo bench -p dirless-syncer --bench tree -- [PEOPLE [FOLDER]]
//! ```
//!
//! Each person is one entry with some 20 attributes; a hundredth as many groups hold 50 of them each.
//! A write is on disk before it is counted. The folder should be on a disk and not in memory.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measuring program, not the product"
)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dirless_directory::{AttributeName, Dn, DnKey, Entry, Filter, Rdn, Schema, Value};
use dirless_model::NameRule;
use dirless_program::Clock;
use dirless_syncer::config::{HostsConfig, PrimaryGroup};
use dirless_syncer::document::Mapped;
use dirless_syncer::sources::{Complete, Page, SourceDirectory, SourceGroup, SourceUser, read_to_end};
use dirless_syncer::tree::reconcile::{apply, plan};
use dirless_syncer::tree::{Actor, Expect, Modification, Query, Scope, Settings, TreeError, TreeStore, people};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let people: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let temporary = tempfile::tempdir().unwrap();
    let folder = arguments
        .next()
        .map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let store = open(&folder);
    if store.get(&person_dn(0)).unwrap().is_none() {
        fill(&store, people);
    }
    let stats = store.read(|reader| reader.stats()).unwrap();
    println!(
        "{} entries, {} indexed values, {} MiB",
        stats.entries,
        stats.indexed_values,
        stats.bytes >> 20
    );
    let opened = Instant::now();
    drop(store);
    let store = open(&folder);
    println!("opened in {:.1} ms", opened.elapsed().as_secs_f64() * 1000.0);
    look(&store, people);
    search(&store, people);
    walk(&store, people);
    write(&store, people);
    rename(&store, people);
    println!("peak memory so far: {}", peak());
    reconcile(&store, people.min(100_000));
    println!("peak memory: {}", peak());
}

/// The most memory that this process had resident (proc_pid_status(5)).
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.trim_start_matches("VmHWM:").trim().to_owned()
}

fn open(folder: &Path) -> TreeStore {
    let settings = Settings {
        path: folder.join("tree.db"),
        base: dn("dc=dirless"),
        schema: Schema::standard(),
        indexed: Vec::new(),
    };
    TreeStore::open(settings, Clock::system()).unwrap()
}

fn dn(text: &str) -> Dn {
    Dn::parse(text).unwrap()
}

fn person_dn(n: usize) -> Dn {
    dn(&format!("uid=user{n:07},ou=users,dc=dirless"))
}

fn entry(dn: Dn, attributes: &[(&str, String)]) -> Entry {
    let mut entry = Entry::new(dn);
    for (attribute, value) in attributes {
        entry.add(AttributeName::parse(attribute).unwrap(), Value::from(value.as_str()));
    }
    entry
}

fn person(n: usize) -> Entry {
    let classes = [
        "inetOrgPerson",
        "posixAccount",
        "shadowAccount",
        "ldapPublicKey",
        "aitherUser",
    ];
    let mut attributes: Vec<(&str, String)> = classes
        .iter()
        .map(|class| ("objectClass", (*class).to_owned()))
        .collect();
    attributes.extend([
        ("uid", format!("user{n:07}")),
        ("cn", format!("Given{} Family{n}", n % 977)),
        ("sn", format!("Family{n}")),
        ("mail", format!("user{n:07}@corp.example")),
        ("uidNumber", (1_900_000_000 + n).to_string()),
        ("gidNumber", (1_900_000_000 + n).to_string()),
        ("homeDirectory", format!("/home/user{n:07}")),
        ("loginShell", "/bin/bash".to_owned()),
        ("gecos", format!("Given{} Family{n}", n % 977)),
        ("aitherUserType", "human".to_owned()),
        ("aitherSource", "bench".to_owned()),
        ("aitherSourceId", format!("id-{n:07}")),
    ]);
    entry(person_dn(n), &attributes)
}

fn group(n: usize, people: usize) -> Entry {
    let mut group = entry(
        dn(&format!("cn=group{n:05},ou=groups,dc=dirless")),
        &[
            ("objectClass", "groupOfNames".to_owned()),
            ("objectClass", "posixGroup".to_owned()),
            ("cn", format!("group{n:05}")),
            ("gidNumber", (1_800_000_000 + n).to_string()),
        ],
    );
    let members = (0..50).map(|at| Value::from(person_dn((n * 50 + at) % people).to_string()));
    group.set(AttributeName::parse("member").unwrap(), members.collect());
    group
}

fn fill(store: &TreeStore, people: usize) {
    let started = Instant::now();
    let actor = Actor::source("bench");
    for from in (0..people).step_by(50_000) {
        let add = store.write(&actor, |batch| -> Result<(), TreeError> {
            (from..people.min(from + 50_000)).try_for_each(|n| batch.add(&person(n)))
        });
        add.unwrap();
    }
    let groups = store.write(&actor, |batch| -> Result<(), TreeError> {
        (0..people / 100).try_for_each(|n| batch.add(&group(n, people)))
    });
    groups.unwrap();
    let took = started.elapsed().as_secs_f64();
    println!(
        "filled in {took:.1} s: {:.0} entries a second, changelog and indexes included",
        (people + people / 100) as f64 / took
    );
}

/// Runs `work` so many times and prints quantiles.
fn measure(what: &str, times: usize, mut work: impl FnMut(usize)) {
    let mut all: Vec<Duration> = (0..times)
        .map(|time| {
            let started = Instant::now();
            work(time);
            started.elapsed()
        })
        .collect();
    all.sort();
    let micros = |share: f64| all[((times - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "{what}: p50 {:.1} µs, p99 {:.1} µs, worst {:.1} µs ({times} times)",
        micros(0.5),
        micros(0.99),
        micros(1.0)
    );
}

/// Spreads `time` over all people.
fn any(time: usize, people: usize) -> usize {
    (time * 7_919 + time * time) % people
}

fn look(store: &TreeStore, people: usize) {
    measure("look-up of an entry by name", 20_000, |time| {
        assert!(store.get(&person_dn(any(time, people))).unwrap().is_some());
    });
    measure("look-up of a name that is not there", 20_000, |time| {
        assert!(store.get(&person_dn(people + time)).unwrap().is_none());
    });
}

fn search(store: &TreeStore, people: usize) {
    let find = |scope, filter: &str, wanted: usize| {
        let filter = Filter::parse(filter).unwrap();
        let query = Query {
            base: &dn("dc=dirless"),
            scope,
            filter: &filter,
            after: None,
        };
        assert_eq!(store.search(&query, 1_000).unwrap().records.len(), wanted, "{filter}");
    };
    measure("search (uid=…)", 5_000, |time| {
        find(Scope::Subtree, &format!("(uid=user{:07})", any(time, people)), 1);
    });
    measure("search (&(objectClass=posixAccount)(uidNumber=…))", 5_000, |time| {
        let number = 1_900_000_000 + any(time, people);
        find(
            Scope::Subtree,
            &format!("(&(objectClass=posixAccount)(uidNumber={number}))"),
            1,
        );
    });
    measure("search (&(objectClass=posixGroup)(member=…))", 2_000, |time| {
        let n = any(time, people / 2);
        find(
            Scope::Subtree,
            &format!("(&(objectClass=posixGroup)(member={}))", person_dn(n)),
            1,
        );
    });
    measure("search (mail=user00012*)", 200, |time| {
        let n = any(time, people) / 100;
        find(Scope::Subtree, &format!("(mail=user{n:05}*)"), 100);
    });
}

/// Searches that take what they find out of a range of names instead of an index.
fn walk(store: &TreeStore, people: usize) {
    let everything = Filter::And(Vec::new());
    let find = |base: &str, scope, after: Option<&DnKey>, limit: usize| {
        let query = Query {
            base: &dn(base),
            scope,
            filter: &everything,
            after,
        };
        store.search(&query, limit).unwrap()
    };
    measure("base alone", 5_000, |time| {
        let name = person_dn(any(time, people)).to_string();
        assert_eq!(find(&name, Scope::Base, None, 10).records.len(), 1);
    });
    measure("one level, 21 units", 2_000, |_| {
        assert_eq!(find("dc=dirless", Scope::OneLevel, None, 100).records.len(), 21);
    });
    measure("subtree of a tenant, 12 entries", 2_000, |_| {
        let tenant = "o=platform,ou=tenants,dc=dirless";
        assert_eq!(find(tenant, Scope::Subtree, None, 100).records.len(), 12);
    });
    measure("one level, a page of 100 anywhere among everyone", 2_000, |time| {
        let after = store.schema().dn_key(&person_dn(any(time, people - 101))).unwrap();
        let page = find("ou=users,dc=dirless", Scope::OneLevel, Some(&after), 100);
        assert_eq!(page.records.len(), 100);
    });
    let query = Query {
        base: &dn("dc=dirless"),
        scope: Scope::Subtree,
        filter: &everything,
        after: None,
    };
    let started = Instant::now();
    let mut count = 0_usize;
    let walked = store.read(|reader| {
        reader.visit(&query, |record| {
            count += usize::from(!record.encoded().is_empty());
            ControlFlow::Continue(())
        })
    });
    walked.unwrap();
    let took = started.elapsed().as_secs_f64();
    println!(
        "subtree of everything: {count} entries in {took:.2} s, {:.0} a second",
        count as f64 / took
    );
}

fn write(store: &TreeStore, people: usize) {
    let actor = Actor::operator("bench");
    let title = AttributeName::parse("title").unwrap();
    let times = 500;
    measure("one attribute of one entry, on disk", times, |time| {
        let value = Value::from(format!("title {time} {:?}", Instant::now()));
        let step = [Modification::Replace(title.clone(), vec![value])];
        assert!(
            store
                .modify(&actor, &person_dn(any(time, people)), &step, Expect::Anything)
                .unwrap()
        );
    });
    measure("1,000 entries changed in one transaction, on disk", 5, |time| {
        let all = store.write(&actor, |batch| -> Result<(), TreeError> {
            for at in 0..1_000 {
                let value = Value::from(format!("batch {time} {:?}", Instant::now()));
                let step = [Modification::Replace(title.clone(), vec![value])];
                batch.modify(&person_dn(any(at, people)), &step, Expect::Anything)?;
            }
            Ok(())
        });
        all.unwrap();
    });
}

fn rename(store: &TreeStore, people: usize) {
    let actor = Actor::operator("bench");
    let rdn = |text: &str| Rdn::new(AttributeName::parse("ou").unwrap(), Value::from(text));
    let tenant = dn("ou=agents,o=public,ou=tenants,dc=dirless");
    let count = 10_000.min(people);
    if store
        .get(&dn("cn=a0,ou=agents,o=public,ou=tenants,dc=dirless"))
        .unwrap()
        .is_none()
    {
        let add = store.write(&actor, |batch| -> Result<(), TreeError> {
            (0..count).try_for_each(|n| {
                let name = tenant.child(Rdn::new(
                    AttributeName::parse("cn").unwrap(),
                    Value::from(format!("a{n}")),
                ));
                batch.add(&entry(name, &[("objectClass", "aitherAgent".to_owned())]))
            })
        });
        add.unwrap();
    }
    let other = dn("ou=others,o=public,ou=tenants,dc=dirless");
    measure(&format!("rename of a subtree of {count} entries, on disk"), 4, |time| {
        let (from, to) = if time % 2 == 0 {
            (&tenant, "others")
        } else {
            (&other, "agents")
        };
        store
            .rename(&actor, from, rdn(to), true, None, Expect::Anything)
            .unwrap();
    });
}

fn complete<T>(list: Vec<T>) -> Complete<Vec<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut list = Some(list);
    let page = |_| {
        let entries = list.take().unwrap();
        std::future::ready(Ok(Page { entries, next: None }))
    };
    runtime.block_on(read_to_end(page, |_| ())).unwrap()
}

/// So many people in five groups each.
fn source(count: usize, first: usize) -> SourceDirectory {
    let user = |n: usize| SourceUser {
        id: format!("synced-{n:07}"),
        name: format!("synced{n:07}"),
        display_name: Some(format!("Synced {n}")),
        email: Some(format!("synced{n:07}@corp.example")),
        enabled: true,
        ..SourceUser::default()
    };
    let groups = (count / 20).max(1);
    let group = |n: usize| SourceGroup {
        id: format!("team-{n:05}"),
        name: format!("team{n:05}"),
        ..SourceGroup::default()
    };
    let members = (0..groups).map(|n| {
        let ids = (0..100.min(count)).map(|at| format!("synced-{:07}", (n * 20 + at) % count));
        (format!("team-{n:05}"), complete(ids.collect()))
    });
    let users = complete((first..first + count).map(user).collect());
    SourceDirectory::assemble(users, complete((0..groups).map(group).collect()), members.collect()).unwrap()
}

/// A source's read into the tree: the first, one that changes nothing, one that changes one person.
fn reconcile(store: &TreeStore, count: usize) {
    for (what, first) in [
        ("first read", 0),
        ("nothing changed", 0),
        ("one person left, one came", 1),
    ] {
        let directory = source(count, first);
        let started = Instant::now();
        let mapped = Mapped::new(&directory, &NameRule::default());
        let numbers = mapped.live().into_keys().zip(1_000_000_000..).collect();
        let document = mapped
            .document(&numbers, &[], PrimaryGroup::Private, &HostsConfig::default())
            .unwrap();
        let made = started.elapsed();
        let wanted = people::entries("synced", store.base(), store.schema(), &directory, &document);
        let compared = Instant::now();
        let planned = store.read(|reader| plan(&reader, &wanted)).unwrap();
        assert_eq!(planned.derived.document, document);
        let compared = compared.elapsed();
        let written = Instant::now();
        if !planned.is_empty() {
            let write = store.write(&Actor::source("synced"), |batch| -> Result<(), TreeError> {
                apply(batch, &planned)
            });
            write.unwrap();
        }
        println!(
            "source of {count} people, {what}: snapshot made {:.0} ms, compared and derived {:.0} ms, written \
             {:.0} ms ({})",
            made.as_secs_f64() * 1000.0,
            compared.as_secs_f64() * 1000.0,
            written.elapsed().as_secs_f64() * 1000.0,
            planned.summary()
        );
    }
}
