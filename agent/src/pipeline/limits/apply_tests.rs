use dirless_model::merge::{GroupEntry, Part, UserEntry, merge};
use dirless_model::{IdRange, Name, Uid};

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nlocaluser:x:1500:1600:::/bin/sh\n";
const GROUP: &str = "root:x:0:\nsudo:x:27:\nlocalgroup:x:1700:\n";

/// A directory under test and what the limits make of it.
struct Bench {
    texts: Texts,
    part: Part,
    limits: HostLimits,
}

impl Bench {
    fn new() -> Self {
        Self {
            texts: Texts::new(),
            part: Part::default(),
            limits: HostLimits::default(),
        }
    }

    fn user(mut self, name: &str, uid: u32, gid: u32, home: &str, shell: &str) -> Self {
        let name = self.texts.intern(name).unwrap();
        let entry = UserEntry {
            name,
            raw: name,
            uid: Uid::parse(uid).unwrap(),
            gid: Gid::parse(gid).unwrap(),
            shell: self.texts.intern(shell).unwrap(),
            gecos: Default::default(),
            home: self.texts.add(home).unwrap(),
        };
        self.part.users.push(entry);
        self
    }

    fn plain(self, name: &str, uid: u32) -> Self {
        let home = format!("/home/{name}");
        self.user(name, uid, uid, &home, "/bin/bash")
    }

    fn group(mut self, name: &str, gid: u32, members: &[&str]) -> Self {
        let name = self.texts.intern(name).unwrap();
        let start = u32::try_from(self.part.members.len()).unwrap();
        for member in members {
            let member = self.texts.intern(member).unwrap();
            self.part.members.push(member);
        }
        let end = u32::try_from(self.part.members.len()).unwrap();
        self.part.groups.push(GroupEntry {
            name,
            raw: name,
            gid: Gid::parse(gid).unwrap(),
            start,
            end,
        });
        self
    }

    /// Users, groups with gid and members, private groups, and codes of what was dropped.
    fn apply(self, shells: Option<&str>) -> (Vec<String>, Vec<String>, Vec<String>, Vec<String>) {
        let Self { texts, part, limits } = self;
        let mut directory = merge(&texts, vec![part]).directory;
        let mut drops = Drops::default();
        let accounts = Accounts::parse(PASSWD, GROUP);
        let sources = ["local".to_owned()];
        let private = apply(&limits, &accounts, shells, &sources, &texts, &mut directory, &mut drops);
        let name = |place: u32| texts.name(directory.users[place as usize].name).to_owned();
        let groups = directory.groups.iter().map(|group| {
            let members: Vec<_> = directory.members(group).iter().map(|place| name(*place)).collect();
            format!("{}:{}:{}", texts.name(group.name), group.gid, members.join(","))
        });
        (
            (0..).take(directory.users.len()).map(name).collect(),
            groups.collect(),
            private.users.iter().map(|place| name(*place)).collect(),
            drops
                .entries
                .iter()
                .map(|entry| format!("{} {}", entry.name, entry.code))
                .collect(),
        )
    }
}

#[test]
fn each_bad_user_is_dropped_alone_and_leaves_the_groups() {
    let cases: [(&str, u32, u32, &str, &str, &str); 13] = [
        ("root", 2000, 2000, "/home/root", "/bin/bash", "reserved-name"),
        ("sudo", 2000, 2000, "/home/sudo", "/bin/bash", "reserved-name"),
        ("systemd-oom", 2000, 2000, "/home/x", "/bin/bash", "reserved-name"),
        ("bad", 999, 2000, "/home/bad", "/bin/bash", "uid-range"),
        ("bad", 2000, 999, "/home/bad", "/bin/bash", "gid-range"),
        ("bad", 2000, 27, "/home/bad", "/bin/bash", "gid-range"),
        ("localuser", 2000, 2000, "/home/x", "/bin/bash", "local-name"),
        ("bad", 1500, 2000, "/home/bad", "/bin/bash", "local-id"),
        ("bad", 2000, 1700, "/home/bad", "/bin/bash", "local-id"),
        ("bad", 2000, 1600, "/home/bad", "/bin/bash", "local-id"),
        ("bad", 2000, 2000, "/root", "/bin/bash", "home"),
        ("bad", 2000, 2000, "/homes/bad", "/bin/bash", "home"),
        ("bad", 2000, 2000, "/home/bad", "/bin/evil", "shell"),
    ];
    for (name, uid, gid, home, shell, code) in cases {
        let bench = Bench::new()
            .plain("alice", 3000)
            .user(name, uid, gid, home, shell)
            .group("team", 4000, &["alice", name]);
        let (users, groups, _, dropped) = bench.apply(None);
        assert_eq!(users, ["alice"], "{name} {home} {shell}");
        assert_eq!(groups, ["team:4000:alice"]);
        assert_eq!(dropped, [format!("{name} {code}")]);
    }
}

#[test]
fn the_group_of_all_local_users_is_published_for_they_have_it_as_primary_one() {
    let bench = Bench::new()
        .user("alice", 100_001, 100_000, "/home/alice", "/bin/bash")
        .user("bob", 100_002, 100_000, "/home/bob", "/bin/bash")
        .group("dirless-local", 100_000, &["alice", "bob"]);
    let (users, groups, private, dropped) = bench.apply(None);
    assert_eq!(users, ["alice", "bob"]);
    assert_eq!(groups, ["dirless-local:100000:alice,bob"]);
    assert!(private.is_empty() && dropped.is_empty(), "{private:?} {dropped:?}");
}

#[test]
fn each_bad_group_is_dropped_alone_and_its_members_stay() {
    for (name, gid, code) in [
        ("sudo", 5000, "reserved-name"),
        ("wheel", 5000, "reserved-name"),
        ("docker", 5000, "reserved-name"),
        ("team", 27, "gid-range"),
        ("team", 1700, "local-id"),
        ("team", 1600, "local-id"),
        ("localgroup", 5000, "local-name"),
    ] {
        let bench = Bench::new()
            .plain("alice", 3000)
            .group(name, gid, &["alice"])
            .group("other", 4000, &["alice"]);
        let (users, groups, _, dropped) = bench.apply(None);
        assert_eq!(users, ["alice"]);
        assert_eq!(groups, ["other:4000:alice"], "{name}");
        assert_eq!(dropped, [format!("{name} {code}")]);
    }
}

#[test]
fn a_mapped_group_takes_the_local_gid_and_an_unmapped_or_absent_one_nothing() {
    let mut bench = Bench::new()
        .plain("alice", 3000)
        .group("sudo", 5000, &["alice"])
        .group("wheel", 5001, &["alice"]);
    bench.limits.map_groups = ["sudo", "wheel"].map(|name| Name::parse(name).unwrap()).to_vec();
    let (_, groups, _, dropped) = bench.apply(None);
    assert_eq!(groups, ["sudo:27:alice"]);
    assert_eq!(dropped, ["wheel map-group"]);
}

#[test]
fn a_private_group_is_made_only_where_nobody_else_is_meant() {
    let bench = Bench::new()
        .plain("alice", 3000)
        .user("bob", 3001, 4000, "/home/bob", "/bin/bash")
        .user("carol", 3002, 5000, "/home/carol", "/bin/bash")
        .user("dave", 3003, 5000, "/home/dave", "/bin/bash")
        .plain("localgroup", 3004)
        .plain("eve", 3005)
        .group("team", 4000, &[])
        .group("eve", 4001, &[]);
    let (users, _, private, dropped) = bench.apply(None);
    assert_eq!(users.len(), 6);
    assert_eq!(private, ["alice"]);
    assert!(dropped.is_empty());
}

#[test]
fn the_host_decides_ids_homes_shells_and_names() {
    let bench = || {
        let mut bench = Bench::new()
            .user("alice", 3000, 3000, "/srv/people/alice", "/opt/fancy/sh")
            .user("bob", 9000, 9000, "/home/bob", "/bin/bash")
            .user("svc", 3001, 3001, "/home/svc", "/usr/sbin/nologin")
            .plain("deploy", 3002)
            .group("builders", 3500, &["alice"]);
        bench.limits.user_ids = vec![IdRange::new(3000, 3999).unwrap()];
        bench.limits.group_ids = bench.limits.user_ids.clone();
        bench.limits.reserved_users = vec!["deploy".into()];
        bench.limits.reserved_groups = vec!["builders".into()];
        bench.limits.home_prefixes = ["/srv/people", "/home"]
            .map(|prefix| dirless_model::HostPath::parse(prefix).unwrap())
            .to_vec();
        bench
    };
    let (users, groups, _, _) = bench().apply(Some("# shells\n/opt/fancy/sh\n"));
    assert_eq!(users, ["alice", "svc"]);
    assert!(groups.is_empty());
    let (users, ..) = bench().apply(Some("/bin/bash\n"));
    assert_eq!(users, ["svc"]);
    let mut listed = bench();
    listed.limits.shells = Some(Vec::new());
    assert_eq!(listed.apply(Some("/opt/fancy/sh\n")).0, ["svc"]);
}

#[test]
fn a_home_must_lie_below_a_prefix_and_not_beside_it() {
    for (path, below) in [
        ("/home/alice", true),
        ("/home/a/b", true),
        ("/home", false),
        ("/home/", false),
        ("/homework/a", false),
        ("/etc", false),
    ] {
        assert_eq!(is_below(path, "/home"), below, "{path}");
    }
}
