use proptest::prelude::*;

use super::*;

/// A directory in words, to write expectations and compare outcomes.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    users: Vec<String>,
    groups: Vec<String>,
}

#[derive(Default)]
struct Builder {
    texts: Texts,
    parts: Vec<Part>,
}

impl Builder {
    fn source(mut self) -> Self {
        self.parts.push(Part::default());
        self
    }

    fn part(&mut self) -> &mut Part {
        self.parts.last_mut().unwrap()
    }

    fn user(mut self, name: &str, uid: u32) -> Self {
        let name = self.texts.intern(name).unwrap();
        let home = self.texts.add("/home/x").unwrap();
        let shell = self.texts.intern("/bin/sh").unwrap();
        self.part().users.push(UserEntry {
            name,
            raw: name,
            uid: Uid::parse(uid).unwrap(),
            gid: Gid::parse(uid).unwrap(),
            shell,
            gecos: Span::default(),
            home,
        });
        self
    }

    fn group(mut self, name: &str, gid: u32, members: &[&str]) -> Self {
        let name = self.texts.intern(name).unwrap();
        let members: Vec<_> = members
            .iter()
            .map(|member| self.texts.intern(member).unwrap())
            .collect();
        let part = self.part();
        let start = u32::try_from(part.members.len()).unwrap();
        part.members.extend(members);
        let end = u32::try_from(part.members.len()).unwrap();
        part.groups.push(GroupEntry {
            name,
            raw: name,
            gid: Gid::parse(gid).unwrap(),
            start,
            end,
        });
        self
    }

    fn keys(mut self, name: &str, keys: &str) -> Self {
        let name = self.texts.intern(name).unwrap();
        let keys = self.texts.add(keys).unwrap();
        self.part().keys.push(KeyEntry { name, raw: name, keys });
        self
    }

    fn refused_user(mut self, name: &str) -> Self {
        let name = self.texts.intern(name).unwrap();
        self.part().refused_users.push(name);
        self
    }

    fn merge(self) -> (Texts, Merged) {
        let merged = merge(&self.texts, self.parts);
        (self.texts, merged)
    }

    fn words(self) -> Words {
        let (texts, merged) = self.merge();
        words(&texts, &merged.directory)
    }
}

fn words(texts: &Texts, directory: &Directory) -> Words {
    let users = directory.users.iter().map(|user| {
        let keys = texts.get(user.keys);
        format!("{}:{}:{keys}", texts.name(user.name), user.uid)
    });
    let groups = directory.groups.iter().map(|group| {
        let members = directory.members(group).iter();
        let members: Vec<_> = members
            .map(|at| texts.name(directory.users[*at as usize].name))
            .collect();
        format!("{}:{}:{}", texts.name(group.name), group.gid, members.join(","))
    });
    Words {
        users: users.collect(),
        groups: groups.collect(),
    }
}

fn causes(texts: &Texts, merged: &Merged) -> Vec<String> {
    let name = |symbol| texts.name(symbol).to_owned();
    let refusals = merged.refusals.iter().map(|refusal| {
        let entry = match refusal.entry {
            Entry::User(user) => name(user),
            Entry::Group(group) => format!("%{}", name(group)),
            Entry::Keys(user) => format!("key {}", name(user)),
        };
        let cause = match refusal.cause {
            Cause::SameName => "same name".to_owned(),
            Cause::SameId { id, other } => format!("same id {id} as {}", name(other)),
            Cause::IdTaken { id, by, source } => format!("id {id} taken by {} of {source}", name(by)),
            Cause::Shadowed { source } => format!("shadowed by {source}"),
        };
        format!("{}/{entry}: {cause}", refusal.source)
    });
    refusals.collect()
}

#[test]
fn the_earlier_source_wins_users_groups_join_and_duplicates_are_named() {
    let (texts, merged) = Builder::default()
        .source()
        .user("alice", 100_001)
        .group("eng", 100_002, &["carol", "alice"])
        .source()
        .user("alice", 60_002)
        .user("bob", 60_003)
        .user("carol", 60_004)
        .group("eng", 60_001, &["bob", "alice", "ghost"])
        .merge();
    assert_eq!(
        words(&texts, &merged.directory),
        Words {
            users: vec!["alice:100001:".into(), "bob:60003:".into(), "carol:60004:".into()],
            groups: vec!["eng:100002:alice,carol,bob".into()],
        }
    );
    let duplicates: Vec<_> = merged.duplicates.iter().map(|name| texts.name(*name)).collect();
    assert_eq!(duplicates, ["alice"]);
    assert_eq!(merged.unknown_members, 1);
    assert!(merged.refusals.is_empty());
}

#[test]
fn an_empty_entry_for_keys_wins_too_and_absent_ones_leave_the_later_source_alone() {
    let (texts, merged) = Builder::default()
        .source()
        .keys("alice", "")
        .keys("nobody-here", "k")
        .source()
        .user("alice", 2001)
        .user("bob", 2002)
        .keys("alice", "ssh-ed25519 A")
        .keys("bob", "ssh-ed25519 B")
        .merge();
    let expected = ["alice:2001:", "bob:2002:ssh-ed25519 B"];
    assert_eq!(words(&texts, &merged.directory).users, expected);
    assert_eq!(merged.unknown_keys, 1);
}

#[test]
fn collisions_inside_a_source_refuse_all_parties_and_only_them() {
    let (texts, merged) = Builder::default()
        .source()
        .user("alice", 2001)
        .user("alice", 2002)
        .user("bob", 2003)
        .user("carol", 2003)
        .user("dave", 2004)
        .group("g", 3001, &["dave", "alice"])
        .group("h", 3002, &["dave"])
        .group("h", 3003, &["dave"])
        .group("i", 3004, &[])
        .group("j", 3004, &[])
        .keys("dave", "one")
        .keys("dave", "two")
        .merge();
    let expected = Words {
        users: vec!["dave:2004:".into()],
        groups: vec!["g:3001:dave".into()],
    };
    assert_eq!(words(&texts, &merged.directory), expected);
    assert_eq!(
        causes(&texts, &merged),
        [
            "0/alice: same name",
            "0/alice: same name",
            "0/bob: same id 2003 as carol",
            "0/carol: same id 2003 as bob",
            "0/%h: same name",
            "0/%h: same name",
            "0/%i: same id 3004 as j",
            "0/%j: same id 3004 as i",
            "0/key dave: same name",
            "0/key dave: same name",
        ]
    );
}

#[test]
fn an_id_of_an_earlier_source_is_not_given_to_another_name() {
    let (texts, merged) = Builder::default()
        .source()
        .user("alice", 2001)
        .group("eng", 3001, &[])
        .source()
        .user("mallory", 2001)
        .user("bob", 2002)
        .group("ops", 3001, &["bob"])
        .merge();
    let expected = Words {
        users: vec!["alice:2001:".into(), "bob:2002:".into()],
        groups: vec!["eng:3001:".into()],
    };
    assert_eq!(words(&texts, &merged.directory), expected);
    assert_eq!(
        causes(&texts, &merged),
        [
            "1/mallory: id 2001 taken by alice of 0",
            "1/%ops: id 3001 taken by eng of 0"
        ]
    );
}

#[test]
fn a_replaced_users_id_is_free_again() {
    let built = Builder::default()
        .source()
        .user("alice", 2009)
        .user("carol", 2001)
        .source()
        .user("alice", 2001)
        .words();
    assert_eq!(built.users, ["alice:2009:", "carol:2001:"]);
}

#[test]
fn a_broken_override_does_not_bring_back_what_it_overrode() {
    let (texts, merged) = Builder::default()
        .source()
        .refused_user("alice")
        .user("bob", 2001)
        .user("bob", 2002)
        .source()
        .user("alice", 3001)
        .user("bob", 3002)
        .user("carol", 3003)
        .merge();
    assert_eq!(words(&texts, &merged.directory).users, ["carol:3003:"]);
    let shadowed = causes(&texts, &merged);
    assert!(shadowed.contains(&"1/alice: shadowed by 0".to_owned()), "{shadowed:?}");
    assert!(shadowed.contains(&"1/bob: shadowed by 0".to_owned()), "{shadowed:?}");
}

#[test]
fn users_that_are_not_kept_leave_the_lists_of_members_and_groups_stay() {
    let (texts, mut merged) = Builder::default()
        .source()
        .user("a", 2001)
        .user("b", 2002)
        .user("c", 2003)
        .group("g", 3001, &["a", "b", "c"])
        .group("h", 3002, &["b"])
        .merge();
    merged.directory.retain_users(|_, user| texts.name(user.name) != "b");
    let expected = Words {
        users: vec!["a:2001:".into(), "c:2003:".into()],
        groups: vec!["g:3001:a,c".into(), "h:3002:".into()],
    };
    assert_eq!(words(&texts, &merged.directory), expected);
    assert_eq!(merged.directory.user(&texts, "c"), Some(1));
    assert_eq!(merged.directory.user(&texts, "b"), None);
    assert_eq!(merged.directory.group(&texts, "h"), Some(1));
}

type Users = Vec<(String, u32)>;
type Groups = Vec<(String, u32, Vec<String>)>;
type Keys = Vec<(String, String)>;

#[derive(Clone, Debug)]
struct Source {
    users: Users,
    groups: Groups,
    keys: Keys,
}

fn source() -> impl Strategy<Value = Source> {
    let name = || "[a-e]";
    (
        prop::collection::vec((name(), 2000..2008_u32), 0..6),
        prop::collection::vec((name(), 3000..3006_u32, prop::collection::vec(name(), 0..4)), 0..5),
        prop::collection::vec((name(), "[xy]?"), 0..4),
    )
        .prop_map(|(users, groups, keys)| Source {
            users,
            groups: groups.into_iter().collect(),
            keys,
        })
}

fn build(sources: &[Source]) -> Builder {
    sources.iter().fold(Builder::default(), |builder, source| {
        let mut builder = builder.source();
        for (name, uid) in &source.users {
            builder = builder.user(name, *uid);
        }
        for (name, gid, members) in &source.groups {
            let members: Vec<_> = members.iter().map(String::as_str).collect();
            builder = builder.group(name, *gid, &members);
        }
        for (name, keys) in &source.keys {
            builder = builder.keys(name, keys);
        }
        builder
    })
}

/// The same rules, written the slow and obvious way over strings.
fn oracle(sources: &[Source]) -> Words {
    let mut users: Vec<(String, u32, String)> = Vec::new();
    let mut named: Vec<String> = Vec::new();
    for source in sources {
        let alone = |(name, uid): &&(String, u32)| {
            source
                .users
                .iter()
                .filter(|other| other.0 == *name || other.1 == *uid)
                .count()
                == 1
        };
        let taken: Vec<u32> = users.iter().map(|user| user.1).collect();
        let good: Vec<_> = source.users.iter().filter(alone).collect();
        let good = good
            .into_iter()
            .filter(|(name, uid)| !named.contains(name) && !taken.contains(uid));
        users.extend(good.map(|(name, uid)| (name.clone(), *uid, String::new())));
        named.extend(source.users.iter().map(|user| user.0.clone()));
    }
    for user in &mut users {
        let deciding = sources
            .iter()
            .find(|source| source.keys.iter().any(|keys| keys.0 == user.0));
        let mine: Vec<_> = deciding
            .into_iter()
            .flat_map(|source| source.keys.iter().filter(|keys| keys.0 == user.0))
            .collect();
        if let [(_, keys)] = mine.as_slice() {
            user.2.clone_from(keys);
        }
    }
    users.sort();
    let groups = oracle_groups(sources, &users);
    Words {
        users: users
            .into_iter()
            .map(|(name, uid, keys)| format!("{name}:{uid}:{keys}"))
            .collect(),
        groups,
    }
}

fn oracle_groups(sources: &[Source], users: &[(String, u32, String)]) -> Vec<String> {
    let mut groups: Groups = Vec::new();
    let mut lost: Vec<String> = Vec::new();
    for source in sources {
        let before = groups.clone();
        let mut new: Groups = Vec::new();
        for (name, gid, members) in &source.groups {
            let parties = source.groups.iter().filter(|other| other.0 == *name || other.1 == *gid);
            let owned = before.iter().any(|group| group.0 == *name);
            if parties.count() > 1 || !owned && (lost.contains(name) || before.iter().any(|group| group.1 == *gid)) {
                continue;
            }
            let mut known: Vec<String> = members.clone();
            known.retain(|member| users.iter().any(|user| user.0 == *member));
            known.sort();
            known.dedup();
            match groups.iter_mut().find(|group| group.0 == *name) {
                Some(group) => {
                    known.retain(|member| !group.2.contains(member));
                    group.2.extend(known);
                }
                None => new.push((name.clone(), *gid, known)),
            }
        }
        groups.extend(new);
        for (name, ..) in &source.groups {
            if !groups.iter().any(|group| group.0 == *name) {
                lost.push(name.clone());
            }
        }
    }
    groups.sort();
    let groups = groups.into_iter();
    groups
        .map(|(name, gid, members)| format!("{name}:{gid}:{}", members.join(",")))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn merging_follows_the_rules(sources in prop::collection::vec(source(), 0..4)) {
        prop_assert_eq!(build(&sources).words(), oracle(&sources));
    }

    #[test]
    fn the_order_of_records_inside_a_source_does_not_matter(
        sources in prop::collection::vec(source(), 1..3),
        turn in 0..7_usize,
    ) {
        let mut other = sources.clone();
        for source in &mut other {
            let by = |len: usize| turn % len.max(1);
            let (users, groups, keys) = (by(source.users.len()), by(source.groups.len()), by(source.keys.len()));
            source.users.rotate_left(users);
            source.groups.rotate_left(groups);
            source.groups.iter_mut().for_each(|group| group.2.reverse());
            source.keys.rotate_left(keys);
        }
        let (texts, merged) = build(&sources).merge();
        let (other_texts, other_merged) = build(&other).merge();
        prop_assert_eq!(words(&texts, &merged.directory), words(&other_texts, &other_merged.directory));
        prop_assert_eq!(causes(&texts, &merged), causes(&other_texts, &other_merged));
        prop_assert_eq!(merged.unknown_members, other_merged.unknown_members);
    }

    #[test]
    fn merging_the_outcome_again_changes_nothing_and_nothing_is_given_twice(
        sources in prop::collection::vec(source(), 0..4),
    ) {
        let (texts, merged) = build(&sources).merge();
        let first = words(&texts, &merged.directory);
        let directory = &merged.directory;
        let again = Source {
            users: directory
                .users
                .iter()
                .map(|user| (texts.name(user.name).to_owned(), user.uid.number()))
                .collect(),
            groups: directory
                .groups
                .iter()
                .map(|group| {
                    let members = directory.members(group).iter();
                    let members = members.map(|at| texts.name(directory.users[*at as usize].name).to_owned());
                    (texts.name(group.name).to_owned(), group.gid.number(), members.collect())
                })
                .collect(),
            keys: directory
                .users
                .iter()
                .map(|user| (texts.name(user.name).to_owned(), texts.get(user.keys).to_owned()))
                .collect(),
        };
        let (texts, merged) = build(std::slice::from_ref(&again)).merge();
        prop_assert!(merged.refusals.is_empty());
        // Members of several sources are in the order of precedence first, of one source by name.
        let sort = |words: Words| {
            let groups = words.groups.into_iter().map(|group| {
                let mut parts: Vec<_> = group.split([':', ',']).map(str::to_owned).collect();
                parts.sort();
                parts
            });
            (words.users, groups.collect::<Vec<_>>())
        };
        prop_assert_eq!(sort(words(&texts, &merged.directory)), sort(first));
    }
}
