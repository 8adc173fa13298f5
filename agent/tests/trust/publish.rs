//! From a join code to a lookup table, over a folder of signed files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dirless_agent::config;
use dirless_agent::daemon::{CycleOptions, Engine, Outcome, WorkerCommand};
use dirless_agent::enroll::Terminal;
use dirless_agent::explain::{self, Caller, Daemon, Live, Told, Trust};
use dirless_agent::host::sshd_program::SshdProgram;
use dirless_agent::paths::Paths;
use dirless_agent::pipeline::Report;
use dirless_agent::trust::{JoinArguments, JoinError, Keeper, join};
use dirless_program::{Clock, Secret};
use dirless_seal::trust::log::{Change, Changes, diff};
use dirless_seal::trust::{Enroller, JoinCode, JoinRequest, OnExpiry, Right};
use dirless_seal::{Content, Identity, Limits, Note, RecordKind, SigningKey};
use dirless_table::Table;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::support::{Tenant, at, label};

struct Nobody(String);

impl Terminal for Nobody {
    fn is_there(&self) -> bool {
        true
    }

    fn ask(&mut self, _prompt: &str) -> std::io::Result<String> {
        Ok(self.0.clone())
    }

    fn confirm(&mut self, _question: &str) -> std::io::Result<bool> {
        Ok(false)
    }

    fn standard_input(&mut self) -> std::io::Result<Option<Secret>> {
        Ok(None)
    }
}

/// A tenant with an enroller, and a host in a folder of its own.
pub(crate) struct Setting {
    pub(crate) tenant: Tenant,
    enroller: Identity,
    code: JoinCode,
    pub(crate) paths: Paths,
    clock: Clock,
    runtime: tokio::runtime::Runtime,
    _root: tempfile::TempDir,
}

impl Setting {
    /// A host that has joined and was admitted, and reads the sources of these tests alone.
    pub(crate) fn admitted() -> Self {
        let mut setting = Self::new();
        setting.join(false).unwrap();
        only_these_sources(&setting);
        setting.admit();
        setting
    }

    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut tenant = Tenant::new(&root.join("srv/tenant"));
        let enroller = Identity::generate();
        let key = SigningKey::generate(label("enroller-1")).unwrap();
        tenant.next_policy(|policy| {
            policy.enrollers = vec![Enroller {
                key: key.verifying().clone(),
                recipient: enroller.recipient(),
            }];
            policy.publishers[0].scope.sources.insert(label("access-rules"));
        });
        let code = JoinCode {
            url: "file:///srv/tenant".to_owned(),
            tenant: tenant.id,
            roots: tenant.policy.fingerprint(),
            policy: 2,
            compartments: [label("all")].into(),
            code: label("web"),
            secret: JoinCode::secret().unwrap(),
        };
        let paths = Paths::under(root);
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(paths.passwd(), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs::write(paths.group(), "root:x:0:\nsudo:x:27:\n").unwrap();
        Self {
            tenant,
            enroller,
            code,
            paths,
            clock: Clock::manual(at(0)),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            _root: folder,
        }
    }

    pub(crate) fn join(&self, again: bool) -> Result<dirless_agent::trust::Joining, JoinError> {
        let arguments = JoinArguments {
            code_file: None,
            from: None,
            request: Some(self.paths.root().join("request.age")),
            ca_file: None,
            rejoin: false,
            again,
        };
        let mut terminal = Nobody(self.code.expose().unwrap().as_str().to_owned());
        self.runtime
            .block_on(join(&arguments, &self.paths, &self.clock, &mut terminal))
    }

    /// What the enroller does with the request.
    pub(crate) fn admit(&mut self) {
        use std::io::Read;
        let sealed = fs::read(self.paths.root().join("request.age")).unwrap();
        let mut note = Vec::new();
        let limits = Limits::default();
        dirless_seal::open_file(&self.enroller, sealed.as_slice(), limits)
            .unwrap()
            .read_to_end(&mut note)
            .unwrap();
        let note = Note::parse(&note, 4096).unwrap();
        let request = JoinRequest::read(&note).unwrap();
        assert!(request.check(&note, self.tenant.id, &self.code.secret).is_ok());
        self.tenant.wrap(request.key.name(), &request.recipient);
        self.tenant.nodes.push((request.key.name().clone(), request.recipient));
    }

    /// Publishes records of `source` under a head of this minute.
    pub(crate) fn publish(&mut self, source: &str, users: &[String], minute: i64) {
        let text = format!(r#"{{"users":[{}]}}"#, users.join(","));
        let mut content = Content::default();
        users
            .iter()
            .for_each(|user| content.add(RecordKind::User.leaf(user.as_bytes())));
        self.publish_as(source, &text, &content, minute);
    }

    pub(crate) fn publish_as(&mut self, source: &str, text: &str, content: &Content, minute: i64) {
        let mut manifest = self.tenant.stage(source, text, minute);
        let place = self
            .tenant
            .manifests
            .iter()
            .position(|note| crate::support::manifest(note) == manifest);
        self.tenant.manifests.remove(place.unwrap());
        manifest.content = content.root();
        self.tenant.put_manifest(&manifest);
        self.tenant.sign_head(minute);
    }

    fn publish_rules(&mut self, text: &str, minute: i64) {
        let mut content = Content::default();
        content.add(RecordKind::Other.leaf(text.as_bytes()));
        self.publish_as("access-rules", text, &content, minute);
    }

    /// A whole cycle at this minute, with the real worker.
    pub(crate) fn cycle(&self, minute: i64) -> Outcome {
        self.watched_cycle(minute, &mut || {})
    }

    /// The same; `alive` is called whenever the watchdog would be told.
    fn watched_cycle(&self, minute: i64, alive: &mut dyn FnMut()) -> Outcome {
        let config = config::load(&self.paths.config(), &self.paths, "web-1").unwrap();
        let root = self.paths.root().display().to_string();
        let worker = WorkerCommand {
            program: env!("CARGO_BIN_EXE_dirless-agent").into(),
            arguments: ["publish", "--root", &root].map(str::to_owned).to_vec(),
            timeout: Duration::from_secs(120),
        };
        let clock = Clock::manual(at(minute));
        let mut engine = Engine::new(config, self.paths.clone(), clock, worker, SshdProgram::none()).unwrap();
        self.runtime.block_on(engine.cycle(&CycleOptions::default(), alive))
    }

    pub(crate) fn report(&self) -> Report {
        Report::load(&self.paths.report()).unwrap().unwrap()
    }

    /// Names that a lookup finds.
    pub(crate) fn names(&self) -> Vec<String> {
        let owner = fs::metadata(self.paths.root()).unwrap().uid();
        let table = Table::open(&self.paths.table(), owner).unwrap();
        let mut names: Vec<String> = table
            .users()
            .map(|user| String::from_utf8(user.unwrap().name().to_vec()).unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn user(name: &str, uid: u32) -> String {
    format!(r#"{{"username":"{name}","uid":{uid},"gid":{uid},"gecos":"","home":"/home/{name}","shell":"/bin/bash"}}"#)
}

/// Names of the default sources: `local` and `aws-identity-center`; the tenant here has `local` and `staff`.
pub(crate) fn only_these_sources(setting: &Setting) {
    let mut text = fs::read_to_string(setting.paths.config()).unwrap();
    text.push_str("[agent]\nsources = [\"local\", \"staff\"]\n");
    fs::write(setting.paths.config(), text).unwrap();
}

#[test]
fn a_host_joins_is_admitted_and_finds_its_people() {
    let mut setting = Setting::new();
    let joining = setting.join(false).unwrap();
    assert_eq!(joining.policy, 2);
    only_these_sources(&setting);
    setting.publish("local", &[user("alice", 10_001), user("bob", 10_002)], 0);
    setting.publish("staff", &[], 0);

    // Not admitted yet: nothing is taken, and nobody is let in by mistake.
    let outcome = setting.cycle(0);
    assert!(
        outcome.problems.iter().any(|problem| problem.contains("not-admitted")),
        "{outcome:?}"
    );
    assert!(!setting.paths.table().exists());

    setting.admit();
    let outcome = setting.cycle(1);
    assert_eq!(outcome.problems, Vec::<String>::new());
    assert_eq!(setting.names(), ["alice", "bob"]);
    assert!(
        fs::read_to_string(setting.paths.trust_summary())
            .unwrap()
            .contains("fresh")
    );

    // A removed person is gone with the next cycle; a cycle without news runs no worker.
    setting.publish("local", &[user("bob", 10_002)], 2);
    assert!(setting.cycle(2).changed);
    assert_eq!(setting.names(), ["bob"]);
    assert!(!setting.cycle(3).worked);
}

/// What `dirless status` says to root at this minute, with a daemon that has no problem or without one.
fn status(setting: &Setting, minute: i64, runs: bool) -> (u8, String) {
    let config = config::load(&setting.paths.config(), &setting.paths, "web-1").unwrap();
    let keeper = Keeper::new(setting.paths.trust_folder(), config.signed().unwrap().joined.clone());
    let told = Told {
        daemon: match runs {
            true => Daemon::Runs(Live::default()),
            false => Daemon::Silent,
        },
        trust: Some(Trust::judge(&keeper, &setting.paths, at(minute))),
    };
    let owner = fs::metadata(setting.paths.root()).unwrap().uid();
    let (clock, mut out) = (Clock::manual(at(minute)), Vec::new());
    let code = explain::status(&setting.paths, owner, Caller::Root, &told, &clock, false, &mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

/// A web server that has the files of a folder, and takes its time over bodies.
struct Slow(PathBuf, Duration);

impl Respond for Slow {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let path = request.url.path().trim_start_matches('/');
        let Ok(bytes) = fs::read(self.0.join(path)) else {
            return ResponseTemplate::new(404);
        };
        let pause = if path.starts_with("blob/") {
            self.1
        } else {
            Duration::ZERO
        };
        ResponseTemplate::new(200).set_body_bytes(bytes).set_delay(pause)
    }
}

#[test]
fn the_watchdog_is_told_while_a_body_takes_its_time() {
    let mut setting = Setting::admitted();
    setting.publish("local", &[user("alice", 10_001)], 0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(MockServer::start());
    let pause = Duration::from_secs(5);
    let files = Slow(setting.tenant.folder.clone(), pause);
    runtime.block_on(Mock::given(any()).respond_with(files).mount(&server));
    let text = fs::read_to_string(setting.paths.config()).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("from = ") {
        true => format!("from = \"{}\"\n", server.uri()),
        false => format!("{line}\n"),
    });
    fs::write(setting.paths.config(), lines.collect::<String>()).unwrap();

    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let outcome = setting.watched_cycle(0, &mut || {
        longest = longest.max(last.elapsed());
        last = Instant::now();
    });
    assert_eq!(outcome.problems, Vec::<String>::new());
    assert_eq!(setting.names(), ["alice"]);
    assert!(longest < pause, "nothing was told for {longest:?}");
}

#[test]
fn status_judges_leases_by_now_and_says_how_old_its_news_is() {
    let mut setting = Setting::admitted();
    setting.publish("local", &[user("alice", 10_001)], 0);
    setting.publish("staff", &[], 0);
    assert_eq!(setting.cycle(0).problems, Vec::<String>::new());
    let asked = format!("as of {}: files from ", at(0));
    let (code, text) = status(&setting, 1, true);
    assert!(text.contains("fresh, lease ends") && text.contains(&asked), "{text}");
    assert_eq!(code, 0, "{text}");
    // A cycle without news is one all the same.
    setting.cycle(3);
    let asked = format!("as of {}: files from ", at(3));
    assert!(status(&setting, 3, true).1.contains(&asked));

    // The daemon died then. What it wrote down last says nothing about today.
    let (code, text) = status(&setting, 4, false);
    assert!(text.contains("DOES NOT ANSWER") && text.contains("fresh"), "{text}");
    assert_eq!(code, 1, "{text}");
    let (code, text) = status(&setting, 30, true);
    assert!(text.contains("STALE since") && text.contains(&asked), "{text}");
    assert_eq!(code, 1, "{text}");
    let (code, text) = status(&setting, 60 * 24 * 9, false);
    assert!(
        text.contains("EXPIRED, lease ended") && !text.contains("fresh"),
        "{text}"
    );
    assert!(text.contains(&asked), "{text}");
    assert_eq!(code, 1, "{text}");
}

#[test]
fn what_is_left_of_the_classic_protocol_holds_nothing_up() {
    let mut setting = Setting::admitted();
    setting.publish("local", &[user("alice", 10_001)], 0);
    let mut text = fs::read_to_string(setting.paths.config()).unwrap();
    // Nobody listens there, and the token is none.
    text.push_str("[backend]\nurl = \"http://127.0.0.1:1\"\n[auth]\nhmac_secret = \"\"\ntenant_id = \"t\"\n");
    fs::write(setting.paths.config(), text).unwrap();
    let outcome = setting.cycle(0);
    assert_eq!((outcome.problems, outcome.failed), (vec![], false));
    assert_eq!(setting.names(), ["alice"]);
}

/// The power went after a head was remembered and before it was kept.
#[test]
fn a_head_that_is_not_kept_is_kept_by_the_next_walk() {
    let mut setting = Setting::admitted();
    setting.publish("local", &[user("alice", 10_001)], 0);
    assert_eq!(setting.cycle(0).problems, Vec::<String>::new());
    let config = config::load(&setting.paths.config(), &setting.paths, "web-1").unwrap();
    let keeper = Keeper::new(setting.paths.trust_folder(), config.signed().unwrap().joined.clone());
    let kept = keeper.head(&label("syncer-1")).unwrap().unwrap();
    fs::remove_file(setting.paths.trust_folder().join("head-syncer-1")).unwrap();
    assert_eq!(setting.cycle(1).problems, Vec::<String>::new());
    let again = keeper.head(&label("syncer-1")).unwrap().unwrap();
    assert_eq!(again.digest(), kept.digest());
}

#[test]
fn what_a_publisher_may_not_say_is_dropped_alone() {
    let mut setting = Setting::admitted();
    setting.tenant.next_policy(|policy| {
        policy.publishers[0].scope.names = vec!["a*".parse().unwrap()];
        policy.publishers[0].scope.may.remove(&Right::Keys);
    });
    let records = [
        user("alice", 10_001),
        user("bob", 10_002),
        user("adam", 20_000),
        user("anna", 1000),
    ];
    setting.publish("local", &records, 0);
    assert!(setting.cycle(0).changed);
    assert_eq!(setting.names(), ["alice"]);
    assert_eq!(setting.report().dropped.by_code.get("out-of-scope"), Some(&3));
    let problems = setting.cycle(1).problems;
    assert!(
        problems.len() == 1 && problems[0].contains("(out-of-scope)"),
        "{problems:?}"
    );
}

#[test]
fn records_that_were_not_signed_leave_the_last_good_ones() {
    let mut setting = Setting::admitted();
    setting.publish("local", &[user("alice", 10_001)], 0);
    assert!(setting.cycle(0).problems.is_empty());
    // A publisher that signs one thing and seals another.
    let text = format!(r#"{{"users":[{},{}]}}"#, user("alice", 10_001), user("mallory", 10_666));
    let mut content = Content::default();
    content.add(RecordKind::User.leaf(user("alice", 10_001).as_bytes()));
    setting.publish_as("local", &text, &content, 1);
    let outcome = setting.cycle(1);
    assert!(
        outcome.problems.iter().any(|problem| problem.contains("content root")),
        "{outcome:?}"
    );
    assert_eq!(setting.names(), ["alice"]);
}

/// What makes `after` of `before`, as a record of the log says it.
fn changes(before: &[(&str, u32)], after: &[(&str, u32)]) -> Changes {
    let (mut content, mut sides) = (Content::default(), [BTreeMap::new(), BTreeMap::new()]);
    for (side, users) in sides.iter_mut().zip([before, after]) {
        for (name, uid) in users {
            side.insert(
                (RecordKind::User, name.as_bytes().to_vec()),
                user(name, *uid).into_bytes(),
            );
        }
    }
    for bytes in sides[1].values() {
        content.add(RecordKind::User.leaf(bytes));
    }
    diff(&sides[0], &sides[1], content.root()).unwrap()
}

#[test]
fn a_log_reaches_the_lookup_table() {
    let mut setting = Setting::admitted();
    setting.publish("local", &[user("alice", 10_001), user("bob", 10_002)], 0);
    setting.publish("staff", &[], 0);
    setting.cycle(0);
    let steps: [&[(&str, u32)]; 3] = [
        &[("alice", 10_001), ("bob", 10_002)],
        &[("alice", 10_001), ("carol", 10_003)],
        &[("carol", 10_003), ("dora", 10_004)],
    ];
    for (minute, step) in (1..).zip(steps.windows(2)) {
        setting.tenant.add_record("local", &changes(step[0], step[1]));
        setting.tenant.sign_head(minute);
        let outcome = setting.cycle(minute);
        assert!(outcome.changed && outcome.problems.is_empty(), "{outcome:?}");
        let names: Vec<_> = step[1].iter().map(|(name, _)| *name).collect();
        assert_eq!(setting.names(), names);
    }
    assert!(!setting.cycle(3).worked);
    let report = setting.report();
    assert!(report.sources.iter().all(|source| source.problem.is_none()));

    // A new base says the same.
    setting.publish("local", &[user("dora", 10_004)], 4);
    setting.cycle(4);
    assert_eq!(setting.names(), ["dora"]);
}

/// A publisher that signs a log which no host can follow: the last good state stays, others go on, and a new base heals it.
#[test]
fn a_log_that_does_not_fit_leaves_the_last_good_state() {
    let alice: &[(&str, u32)] = &[("alice", 10_001)];
    let both: &[(&str, u32)] = &[("alice", 10_001), ("bob", 10_002)];
    let all: &[(&str, u32)] = &[("alice", 10_001), ("bob", 10_002), ("mallory", 10_666)];
    let other_root = Changes {
        content: dirless_seal::Digest::of(b"another root"),
        ..changes(both, all)
    };
    for (bad, code) in [(other_root, "content-root"), (changes(all, both), "log-record")] {
        let mut setting = Setting::admitted();
        setting.publish("local", &[user("alice", 10_001)], 0);
        setting.publish("staff", &[], 0);
        setting.tenant.add_record("local", &changes(alice, both));
        setting.tenant.sign_head(0);
        setting.cycle(0);
        assert_eq!(setting.names(), ["alice", "bob"]);

        setting.tenant.add_record("local", &bad);
        setting.publish("staff", &[user("sam", 10_100)], 1);
        let outcome = setting.cycle(1);
        assert!(!outcome.problems.is_empty());
        assert_eq!(setting.names(), ["alice", "bob", "sam"], "{outcome:?}");
        let local = setting.report().sources.remove(0);
        assert_eq!(local.problem.unwrap().code, code);

        setting.publish("local", &[user("carol", 10_003)], 2);
        assert!(setting.cycle(2).problems.is_empty());
        assert_eq!(setting.names(), ["carol", "sam"]);
    }
}

#[test]
fn access_rules_are_signed_like_everything_else() {
    let mut setting = Setting::admitted();
    setting.publish("local", &[user("alice", 10_001)], 0);
    setting.publish_rules(r#"{"enforce_group_memberships":true,"host_group_rules":[]}"#, 0);
    setting.cycle(0);
    assert_eq!(setting.names(), Vec::<String>::new());
    setting.publish_rules(r#"{"enforce_group_memberships":false,"host_group_rules":[]}"#, 1);
    setting.cycle(1);
    assert_eq!(setting.names(), ["alice"]);
    let mut content = Content::default();
    let rules = br#"{"enforce_group_memberships":true,"host_group_rules":[]}"#;
    content.add(RecordKind::Other.leaf(rules));
    let put = Changes {
        content: content.root(),
        changes: [((RecordKind::Other, vec![]), Change::Put(rules.to_vec()))].into(),
    };
    setting.tenant.add_record("access-rules", &put);
    setting.tenant.sign_head(2);
    setting.cycle(2);
    assert_eq!(setting.names(), Vec::<String>::new());
}

const NOBODY: &str = r#"{"enforce_group_memberships":true,"host_group_rules":[]}"#;
const EVERYBODY: &str = r#"{"enforce_group_memberships":false,"host_group_rules":[]}"#;

/// Has every body of the tenant held back, or served again.
fn hold_back(setting: &Setting, is_held: bool) {
    let (there, aside) = (setting.tenant.folder.join("blob"), setting.tenant.folder.join("held"));
    let (from, to) = if is_held { (there, aside) } else { (aside, there) };
    fs::rename(from, to).unwrap();
}

fn says_unknown_rules(outcome: &Outcome) -> bool {
    outcome.failed
        && outcome
            .problems
            .iter()
            .any(|told| told.contains("access rules are known"))
}

/// Before it joined somebody let everybody onto this host, and nobody signed that.
#[test]
fn rules_from_before_the_join_count_only_while_there_are_no_signed_ones() {
    let mut setting = Setting::admitted();
    fs::write(setting.paths.access_rules(), NOBODY).unwrap();
    fs::write(setting.paths.good_access_rules(), NOBODY).unwrap();
    setting.publish("local", &[user("alice", 10_001)], 0);
    assert_eq!(setting.cycle(0).problems, Vec::<String>::new());
    assert_eq!(setting.names(), Vec::<String>::new());
    for path in [setting.paths.access_rules(), setting.paths.good_access_rules()] {
        fs::write(path, EVERYBODY).unwrap();
    }
    setting.cycle(1);
    assert_eq!(setting.names(), ["alice"]);

    // Whoever serves the files has an interest in those rules.
    setting.publish("local", &[user("alice", 10_001), user("bob", 10_002)], 2);
    setting.publish_rules(NOBODY, 2);
    let rules = setting.tenant.manifests.iter().map(crate::support::manifest);
    let rules = rules
        .clone()
        .find(|manifest| manifest.source.as_str() == "access-rules")
        .unwrap();
    let rules = setting.tenant.folder.join(crate::support::manifest_path(&rules));
    let bytes = fs::read(&rules).unwrap();
    fs::remove_file(&rules).unwrap();
    let outcome = setting.cycle(2);
    assert!(says_unknown_rules(&outcome), "{outcome:?}");
    assert_eq!(setting.names(), ["alice"]);

    fs::write(&rules, bytes).unwrap();
    assert_eq!(setting.cycle(3).problems, Vec::<String>::new());
    assert_eq!(setting.names(), Vec::<String>::new());
    assert!(!setting.paths.access_rules().exists() && !setting.paths.good_access_rules().exists());
}

/// A disk that was full, or a crash, while the next rules were put in place.
#[test]
fn signed_rules_that_are_gone_leave_the_last_signed_ones_in_force() {
    let mut setting = Setting::admitted();
    fs::write(setting.paths.access_rules(), EVERYBODY).unwrap();
    fs::write(setting.paths.good_access_rules(), EVERYBODY).unwrap();
    setting.publish("local", &[user("alice", 10_001)], 0);
    setting.publish_rules(NOBODY, 0);
    setting.cycle(0);
    assert_eq!(setting.names(), Vec::<String>::new());
    // As agents before this one left it when the tenant had no rules.
    fs::write(setting.paths.access_rules(), EVERYBODY).unwrap();
    fs::remove_file(setting.paths.sealed("access-rules")).unwrap();
    setting.publish("local", &[user("bob", 10_002)], 1);
    setting.publish_rules(NOBODY, 1);
    hold_back(&setting, true);
    let outcome = setting.cycle(1);
    assert!(
        outcome.problems.iter().any(|told| told.contains("stay in force")),
        "{outcome:?}"
    );
    assert_eq!(setting.names(), Vec::<String>::new());
    hold_back(&setting, false);
    assert_eq!(setting.cycle(2).problems, Vec::<String>::new());
    assert_eq!(setting.names(), Vec::<String>::new());
    setting.publish_rules(EVERYBODY, 3);
    setting.cycle(3);
    assert_eq!(setting.names(), ["bob"]);
}

/// The publisher of the rules is another one, and nothing of it is served.
#[test]
fn whoever_may_make_rules_is_heard_before_unsigned_ones_count() {
    let mut setting = Setting::admitted();
    fs::write(setting.paths.access_rules(), EVERYBODY).unwrap();
    let key = SigningKey::generate(label("rules-1")).unwrap();
    setting.tenant.next_policy(|policy| {
        let mut second = policy.publishers[0].clone();
        policy.publishers[0].scope.sources.remove(&label("access-rules"));
        second.key = key.verifying().clone();
        second.scope.sources = [label("access-rules")].into();
        policy.publishers.push(second);
        policy
            .publishers
            .sort_by(|left, right| left.key.name().cmp(right.key.name()));
    });
    setting.publish("local", &[user("alice", 10_001)], 0);
    setting.publish("staff", &[], 0);
    let outcome = setting.cycle(0);
    assert!(says_unknown_rules(&outcome), "{outcome:?}");
    assert!(!setting.paths.table().exists());
    let mut head = setting.tenant.next_head(1);
    head.publisher = label("rules-1");
    head.entries.clear();
    let note = crate::support::signed(&head, &[&key]);
    setting.tenant.write("head/rules-1", note.to_string());
    assert_eq!(setting.cycle(1).problems, Vec::<String>::new());
    assert_eq!(setting.names(), ["alice"]);
}

#[test]
fn a_compartment_that_closes_lets_nobody_in_once_its_lease_has_run_out() {
    let mut setting = Setting::admitted();
    setting
        .tenant
        .next_policy(|policy| policy.compartments[0].on_expiry = OnExpiry::Close);
    setting.publish("local", &[user("alice", 10_001)], 0);
    setting.cycle(0);
    assert_eq!(setting.names(), ["alice"]);
    assert!(
        setting
            .cycle(60 * 24 + 1)
            .problems
            .iter()
            .any(|problem| problem.contains("(expired)"))
    );
    assert_eq!(setting.names(), Vec::<String>::new());
    setting.tenant.sign_head(60 * 24 + 2);
    setting.cycle(60 * 24 + 2);
    assert_eq!(setting.names(), ["alice"]);
}

#[test]
fn the_classic_protocol_of_the_same_tenant_does_not_come_back() {
    let setting = Setting::new();
    setting.join(false).unwrap();
    let classic = |tenant: &str| {
        let text = format!("[backend]\nurl = \"http://h\"\n[auth]\nhmac_secret = \"s\"\ntenant_id = \"{tenant}\"\n");
        fs::write(setting.paths.config(), text).unwrap();
        fs::set_permissions(setting.paths.config(), fs::Permissions::from_mode(0o600)).unwrap();
        let config = config::load(&setting.paths.config(), &setting.paths, "web-1").unwrap();
        let worker = WorkerCommand::of_this_program(Vec::new(), Duration::from_secs(1));
        let (paths, clock) = (setting.paths.clone(), setting.clock.clone());
        Engine::new(config, paths, clock, worker, SshdProgram::none())
    };
    let error = classic(&setting.tenant.id.to_string()).unwrap_err().to_string();
    assert!(error.contains("(downgrade)"), "{error}");
    // Another tenant is another decision, and so is a memory that was taken away on purpose.
    assert!(classic(&"ab".repeat(32)).is_ok());
    fs::write(setting.paths.trust_folder().join("memory"), "garbage").unwrap();
    assert!(classic(&"ab".repeat(32)).is_err());
    fs::remove_file(setting.paths.trust_folder().join("memory")).unwrap();
    assert!(classic(&setting.tenant.id.to_string()).is_ok());
}

#[test]
fn joining_twice_or_over_the_classic_protocol_needs_a_decision() {
    let setting = Setting::new();
    let first = setting.join(false).unwrap().node;
    assert!(matches!(setting.join(false), Err(JoinError::Joined(_))));
    assert_ne!(setting.join(true).unwrap().node, first);
    fs::write(setting.paths.config(), "[backend]\nurl = \"https://h\"\n").unwrap();
    assert!(matches!(setting.join(true), Err(JoinError::Configured(_))));
}

#[test]
fn a_code_of_other_roots_joins_nothing() {
    let mut setting = Setting::new();
    setting.code.roots = dirless_seal::Digest::of(b"others");
    let error = setting.join(false).unwrap_err();
    assert!(
        matches!(&error, JoinError::Policy(alarm) if alarm.code == "other-roots"),
        "{error}"
    );
    assert!(!setting.paths.config().exists());
}

#[test]
fn a_host_that_does_not_join_anew_keeps_its_keys_and_what_it_remembers() {
    let mut setting = Setting::admitted();
    setting.publish("local", &[user("alice", 10_001)], 1);
    assert_eq!(setting.cycle(1).problems, Vec::<String>::new());
    let (folder, config) = (setting.paths.trust_folder(), setting.paths.config());
    let everything = || {
        let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let files = files.map(|path| (path.clone(), fs::read(path).unwrap()));
        (files.collect::<BTreeMap<_, _>>(), fs::read(&config).unwrap())
    };
    let before = everything();
    let good = setting.code.roots;
    setting.code.roots = dirless_seal::Digest::of(b"others");
    assert!(matches!(setting.join(true), Err(JoinError::Policy(_))));
    assert_eq!(everything(), before);
    setting.code.roots = good;
    setting.join(true).unwrap();
    assert_ne!(everything().0, before.0);
    let mode = fs::metadata(&folder).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o700);
    let names = fs::read_dir(setting.paths.agent_folder()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let trust: Vec<String> = names.filter(|name| name.starts_with("trust")).collect();
    assert_eq!(trust, ["trust"]);
}

#[test]
fn no_secret_is_readable_by_others_or_shown() {
    let setting = Setting::new();
    setting.join(false).unwrap();
    for name in ["node.key", "node.age", "memory", "policy"] {
        let mode = fs::metadata(setting.paths.trust_folder().join(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let config = config::load(&setting.paths.config(), &setting.paths, "web-1").unwrap();
    let shown = format!("{config:?}{:?}", setting.code);
    assert!(!shown.contains(setting.code.secret.expose().as_str()), "{shown}");
}
