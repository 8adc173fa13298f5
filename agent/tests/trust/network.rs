//! The whole way over the network, with a real backend and the real programs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use dirless_agent::config;
use dirless_agent::daemon::{CycleOptions, Engine, Outcome, WorkerCommand};
use dirless_agent::host::sshd_program::SshdProgram;
use dirless_agent::paths::Paths;
use dirless_program::Clock;
use dirless_seal::VerifyingKey;
use dirless_seal::trust::{JoinCode, OnExpiry};
use dirless_table::Table;
use dirless_testkit::{Outcome as Ended, Program, Running, eventually};
use jiff::SignedDuration;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::site::{Site, code_for, minute, now, private, tenant_with_enroller};
use crate::support::manifest;

/// A host in a folder of its own.
pub(crate) struct Host {
    pub(crate) paths: Paths,
}

impl Host {
    /// In the folder of `site`.
    pub(crate) fn new(site: &Site) -> Self {
        Self::at(&site.folder().join("host"))
    }

    pub(crate) fn at(folder: &Path) -> Self {
        let paths = Paths::under(folder);
        private(&paths.passwd(), "root:x:0:0::/root:/bin/sh\n");
        private(&paths.group(), "root:x:0:\n");
        Self { paths }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Ended {
        let program = Program::system(program)
            .args(arguments)
            .arg("--root")
            .arg(self.paths.root());
        program.run().unwrap()
    }

    fn dirless(&self, arguments: &[&str]) -> Ended {
        self.run(env!("CARGO_BIN_EXE_dirless"), arguments)
    }

    /// What `dirless join` says.
    pub(crate) fn join(&self, code: &JoinCode, more: &[&str]) -> Ended {
        let file = self.code_file(code);
        let ended = self.dirless(&[&["join", "--code-file", &file], more].concat());
        if ended.code() == 0 {
            self.configure("[agent]\nsources = [\"local\", \"staff\"]\n");
        }
        ended
    }

    /// Joins, which leaves a request that waits.
    pub(crate) fn asks(&self, code: &JoinCode, more: &[&str]) {
        let ended = self.join(code, more);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }

    /// Joins and is admitted: the key of the new node.
    pub(crate) fn is_admitted(&self, site: &mut Site, code: &JoinCode, more: &[&str]) -> VerifyingKey {
        self.asks(code, more);
        site.admit(code).remove(0)
    }

    fn code_file(&self, code: &JoinCode) -> String {
        let path = self.paths.root().join("srv/code");
        private(&path, &code.expose().unwrap());
        path.display().to_string()
    }

    /// Adds to the configuration.
    fn configure(&self, more: &str) {
        let path = self.paths.config();
        let text = fs::read_to_string(&path).unwrap();
        private(&path, &format!("{text}{more}"));
    }

    /// The real agent as a service, which hears of what is new long before its interval.
    pub(crate) fn daemon(&self) -> Running {
        self.configure("interval_seconds = 3600\nsplay_seconds = 0\n");
        let agent = Program::system(env!("CARGO_BIN_EXE_dirless-agent")).args(["run", "--root"]);
        agent.arg(self.paths.root()).serve().unwrap()
    }

    /// One cycle of the real agent: its exit code, and what it says is wrong.
    fn cycle(&self) -> (i32, Vec<String>) {
        let ended = self.run(
            env!("CARGO_BIN_EXE_dirless-agent"),
            &["run", "--once", "--log-format", "text"],
        );
        let lines = ended.stderr.lines();
        // Log lines have a level, problems have none.
        let logged = |line: &&str| ["INFO", "WARN"].iter().any(|level| line.contains(level));
        (
            ended.code(),
            lines.filter(|line| !logged(line)).map(str::to_owned).collect(),
        )
    }

    pub(crate) fn good_cycle(&self) {
        assert_eq!(self.cycle(), (0, Vec::new()));
    }

    /// The first problem of a cycle that has one.
    pub(crate) fn bad_cycle(&self) -> String {
        let (code, problems) = self.cycle();
        assert_eq!(code, 1, "{problems:?}");
        problems[0].clone()
    }

    /// A daemon that stays, with its own clock.
    pub(crate) fn engine(&self, clock: Clock) -> Engine {
        let config = config::load(&self.paths.config(), &self.paths, "web-1").unwrap();
        let root = self.paths.root().display().to_string();
        let worker = WorkerCommand {
            program: env!("CARGO_BIN_EXE_dirless-agent").into(),
            arguments: ["publish", "--root", &root].map(str::to_owned).to_vec(),
            timeout: Duration::from_secs(120),
        };
        Engine::new(config, self.paths.clone(), clock, worker, SshdProgram::none()).unwrap()
    }

    /// A daemon by the system's clock, after its first cycle, which was a good one.
    fn good_engine(&self, site: &Site) -> Engine {
        let mut engine = self.engine(Clock::system());
        assert_eq!(cycle(site, &mut engine).problems, Vec::<String>::new());
        engine
    }

    /// Names that a lookup finds.
    pub(crate) fn names(&self) -> Vec<String> {
        let owner = fs::metadata(self.paths.root()).unwrap().uid();
        let table = Table::open(&self.paths.table(), owner).unwrap();
        let name = |user: Result<dirless_table::User<'_>, _>| String::from_utf8(user.unwrap().name().to_vec()).unwrap();
        let mut names: Vec<String> = table.users().map(name).collect();
        names.sort();
        names
    }

    pub(crate) fn status(&self) -> String {
        self.dirless(&["status"]).stdout
    }
}

/// A tenant whose source `local` has alice, and a host that has not joined.
pub(crate) fn site_with_alice() -> (Site, Host) {
    let mut site = Site::start();
    let host = Host::new(&site);
    site.publish("local", &[("alice", 10_001)]);
    (site, host)
}

pub(crate) fn cycle(site: &Site, engine: &mut Engine) -> Outcome {
    site.runtime
        .block_on(engine.cycle(&CycleOptions::default(), &mut || {}))
}

#[test]
fn from_a_join_code_to_a_receipt_and_on_without_the_backend() {
    let mut site = Site::start();
    let host = Host::new(&site);
    site.publish("local", &[("alice", 10_001), ("bob", 10_002)]);
    let code = site.code("web", 1);

    let joined = host.join(&code, &[]);
    assert_eq!(joined.code(), 0, "{}", joined.stderr);
    assert!(
        joined.stdout.contains("in the mailbox of http://127.0.0.1:"),
        "{}",
        joined.stdout
    );
    assert_eq!(site.waiting(), 1);
    // It waits, over restarts, and asks once.
    for _ in 0..2 {
        let problem = host.bad_cycle();
        assert!(problem.ends_with("(waiting)"), "{problem}");
    }
    assert_eq!(site.waiting(), 1);
    assert!(
        host.status().contains("waits to be admitted since"),
        "{}",
        host.status()
    );
    assert!(!host.paths.table().exists());

    let node = site.admit(&code).remove(0);
    host.good_cycle();
    assert_eq!(host.names(), ["alice", "bob"]);
    // There is no daemon, and root can know that there should be one.
    assert_eq!(host.dirless(&["status"]).code(), 1);
    let status = host.status();
    assert!(
        status.contains("fresh, lease ends") && status.contains(": the backend accepts"),
        "{status}"
    );
    let receipt = site.receipt(&node).unwrap();
    assert_eq!(
        (receipt.users, receipt.policy.version, receipt.heads[0].1.version),
        (2, 2, 1)
    );
    // Nothing that lets anybody in is left lying about.
    assert!(!host.paths.trust_folder().join("joining.bearer").exists());

    site.publish("local", &[("bob", 10_002)]);
    host.good_cycle();
    assert_eq!(host.names(), ["bob"]);
    assert_eq!(site.receipt(&node).unwrap().heads[0].1.version, 2);
    let doctor = host.dirless(&["doctor"]).stdout;
    let line = |what: &str| {
        doctor
            .lines()
            .find(|line| line.contains(what))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        line("credential").starts_with("ok") && line("trust ").starts_with("ok"),
        "{doctor}"
    );
    assert!(
        line("trust ").contains("lease ends") && line("node keys").starts_with("ok"),
        "{doctor}"
    );

    site.kill_backend();
    let (code, problems) = host.cycle();
    assert_eq!((code, problems.len()), (1, 1), "{problems:?}");
    assert!(problems[0].ends_with("(unreachable)"), "{problems:?}");
    assert_eq!(host.names(), ["bob"]);
    assert!(host.status().contains("no backend answers"), "{}", host.status());
}

#[test]
fn a_host_that_cannot_follow_says_why() {
    let (mut site, host) = site_with_alice();
    let code = site.code("web", 1);
    let node = host.is_admitted(&mut site, &code, &[]);
    let mut engine = host.good_engine(&site);
    assert_eq!(site.receipt(&node).unwrap().alarms, []);

    site.publish("local", &[("bob", 10_002)]);
    site.lose_bodies();
    assert!(cycle(&site, &mut engine).failed);
    let receipt = site.receipt(&node).unwrap();
    let why: Vec<&str> = receipt.alarms.iter().map(|alarm| alarm.code.as_str()).collect();
    assert_eq!((why, receipt.heads[0].1.version), (vec!["missing"], 1));
    // Started again, it has applied nothing that it knows of, and says why all the same.
    drop(engine);
    let mut engine = host.engine(Clock::system());
    assert!(cycle(&site, &mut engine).failed);
    let again = site.receipt(&node).unwrap();
    assert_eq!((again.alarms, again.heads), (receipt.alarms, Vec::new()));

    site.push();
    assert_eq!(cycle(&site, &mut engine).problems, Vec::<String>::new());
    let receipt = site.receipt(&node).unwrap();
    assert_eq!((receipt.alarms, receipt.heads[0].1.version), (Vec::new(), 2));
    assert_eq!(host.names(), ["bob"]);
}

/// Alarms of the last receipt of `node`, and the version of the one head that it claims.
fn said(site: &Site, node: &VerifyingKey) -> (Vec<String>, Option<u64>) {
    let receipt = site.receipt(node).unwrap();
    let alarms = receipt.alarms.iter().map(ToString::to_string).collect();
    (alarms, receipt.heads.first().map(|(_, seen)| seen.version))
}

#[test]
fn no_receipt_claims_a_head_that_the_table_does_not_follow() {
    let (mut site, host) = site_with_alice();
    let code = site.code("web", 1);
    let node = host.is_admitted(&mut site, &code, &[]);
    let mut engine = host.good_engine(&site);
    assert_eq!(said(&site, &node), (vec![], Some(1)));

    // A publisher that signs one thing and seals another: who was taken away is in the table still.
    site.tenant.stage("local", r#"{"users":[]}"#, minute());
    site.sign_head();
    for _ in 0..2 {
        assert!(!cycle(&site, &mut engine).problems.is_empty());
        assert_eq!(host.names(), ["alice"]);
        assert_eq!(said(&site, &node), (vec!["not-published local".to_owned()], Some(1)));
    }
    // Started again, it has applied nothing that it knows of.
    drop(engine);
    let mut engine = host.engine(Clock::system());
    cycle(&site, &mut engine);
    assert_eq!(said(&site, &node), (vec!["not-published local".to_owned()], None));

    site.publish("local", &[("bob", 10_002)]);
    assert_eq!(cycle(&site, &mut engine).problems, Vec::<String>::new());
    assert_eq!(
        (host.names(), said(&site, &node)),
        (vec!["bob".to_owned()], (vec![], Some(3)))
    );
}

#[test]
fn no_receipt_claims_a_head_that_the_copy_for_ldap_does_not_follow() {
    let (mut site, host) = site_with_alice();
    let code = site.code("web", 1);
    let node = host.is_admitted(&mut site, &code, &[]);
    host.configure("[directory]\nsources = [\"tree\"]\n");
    let mut engine = host.good_engine(&site);
    // Nobody publishes a tree, and that holds nothing up.
    assert_eq!(said(&site, &node), (vec![], Some(1)));

    let mut draft = host.paths.directory_copy().into_os_string();
    draft.push(".new");
    fs::create_dir(&draft).unwrap();
    site.publish("local", &[("bob", 10_002)]);
    cycle(&site, &mut engine);
    assert_eq!(host.names(), ["bob"]);
    assert_eq!(said(&site, &node), (vec!["not-published copy".to_owned()], Some(1)));
    fs::remove_dir(&draft).unwrap();
    cycle(&site, &mut engine);
    assert_eq!(said(&site, &node), (vec![], Some(2)));

    // The tree cannot be used, so that the copy stays as it is whatever else was published.
    site.tenant.stage("tree", r#"{"entries":[]}"#, minute());
    site.publish("local", &[("carol", 10_003)]);
    cycle(&site, &mut engine);
    assert_eq!(host.names(), ["carol"]);
    assert_eq!(said(&site, &node), (vec!["not-published copy".to_owned()], Some(2)));
}

#[test]
fn a_cycle_without_news_is_one_request() {
    let (mut site, host) = site_with_alice();
    let code = site.code("web", 1);
    let node = host.is_admitted(&mut site, &code, &[]);
    let mut engine = host.good_engine(&site);
    let quiet = |site: &Site, engine: &mut Engine| {
        let (outcome, requests) = site.wire.count(|| cycle(site, engine));
        assert_eq!((outcome.problems, outcome.worked), (vec![], false));
        requests
    };
    assert_eq!(quiet(&site, &mut engine), 1);
    // A head that was only signed again comes with the answer.
    site.sign_head();
    assert_eq!(quiet(&site, &mut engine), 1);
    assert_eq!(quiet(&site, &mut engine), 1);
    assert_eq!(site.receipt(&node).unwrap().heads[0].1.version, 2);
    // News: the heartbeat, the manifest, the body, and the receipt at once.
    site.publish("local", &[("bob", 10_002)]);
    let (outcome, requests) = site.wire.count(|| cycle(&site, &mut engine));
    assert!(outcome.changed && requests == 4, "{outcome:?}, {requests} requests");
    assert_eq!(site.receipt(&node).unwrap().heads[0].1.version, 3);
    // A new policy is seen and told at once: the table may depend on it.
    site.tenant
        .next_policy(|policy| policy.compartments[0].on_expiry = OnExpiry::Close);
    site.sign_head();
    assert!(cycle(&site, &mut engine).problems.is_empty());
    assert_eq!(site.receipt(&node).unwrap().policy.version, 3);
}

#[test]
fn a_publishers_key_is_renewed_and_hosts_that_slept_catch_up() {
    let mut site = Site::start();
    let (awake, asleep) = (Host::new(&site), Host::at(&site.folder().join("asleep")));
    site.publish("local", &[("alice", 10_001)]);
    let code = site.code("web", 2);
    for host in [&awake, &asleep] {
        host.is_admitted(&mut site, &code, &[]);
        host.good_cycle();
    }
    let mut engine = awake.good_engine(&site);
    let old = site.succeed();
    site.publish("local", &[("bob", 10_002)]);
    let outcome = cycle(&site, &mut engine);
    assert!(outcome.changed && outcome.problems.is_empty(), "{outcome:?}");
    assert_eq!(awake.names(), ["bob"]);
    // While both sign there is nothing more to ask than before.
    let (outcome, requests) = site.wire.count(|| cycle(&site, &mut engine));
    assert_eq!((outcome.problems, requests), (vec![], 1));

    site.end_overlap();
    let refused = site.runtime.block_on(old.get_mailbox()).unwrap_err();
    assert!(
        matches!(refused, dirless_client::Error::KeyRefused { .. }),
        "{refused:?}"
    );
    site.succeed();
    site.publish("local", &[("carol", 10_003)]);
    site.end_overlap();
    site.publish("local", &[("dave", 10_004)]);
    asleep.good_cycle();
    assert_eq!(asleep.names(), ["dave"]);
    let outcome = cycle(&site, &mut engine);
    assert!(outcome.changed && outcome.problems.is_empty(), "{outcome:?}");
    assert_eq!(awake.names(), ["dave"]);
}

#[test]
fn a_daemon_hears_of_news_long_before_its_interval() {
    let (mut site, host) = site_with_alice();
    let code = site.code("web", 1);
    let node = host.is_admitted(&mut site, &code, &[]);
    let agent = host.daemon();
    assert_eq!(host.names(), ["alice"]);
    let limit = Duration::from_secs(60);
    for (name, version) in [("bob", 2), ("carol", 3)] {
        let before = site.wire.requests();
        site.publish("local", &[(name, 10_002)]);
        eventually(limit, name, || (host.names() == [name]).then_some(())).unwrap();
        let told = || (site.receipt(&node)?.heads[0].1.version == version).then_some(());
        eventually(limit, "the receipt", told).unwrap();
        let requests = site.wire.requests() - before;
        // The notice brought the head: the manifest, the body and the receipt. The first may be what the stream began with.
        assert!(requests == 3 || version == 2, "{name}: {requests} requests");
    }
    // One of another compartment's hosts, who alone read it: this one says all the same that it knows of the head.
    let mut made = site.tenant.stage("staff", "{}", minute());
    site.tenant.manifests.retain(|note| manifest(note) != made);
    made.compartment = "db".parse().unwrap();
    site.tenant.put_manifest(&made);
    site.sign_head();
    let told = || (site.receipt(&node)?.heads[0].1.version == 4).then_some(());
    eventually(limit, "the receipt", told).unwrap();
    assert_eq!(agent.stop().unwrap().code(), 0);
}

#[test]
fn a_lease_runs_out_for_a_host_that_is_cut_off() {
    let mut site = Site::start();
    let host = Host::new(&site);
    site.tenant
        .next_policy(|policy| policy.compartments[0].on_expiry = OnExpiry::Close);
    site.publish("local", &[("alice", 10_001)]);
    let code = site.code("web", 1);
    host.is_admitted(&mut site, &code, &[]);
    host.good_cycle();
    assert_eq!(host.names(), ["alice"]);
    site.kill_backend();
    for (hours, problem, names) in [(1, "(stale)", vec!["alice"]), (25, "(expired)", vec![])] {
        let clock = Clock::manual(now() + SignedDuration::from_hours(hours));
        let outcome = cycle(&site, &mut host.engine(clock));
        assert!(
            outcome.problems.iter().any(|told| told.ends_with(problem)),
            "{outcome:?}"
        );
        assert_eq!(host.names(), names);
    }
    // A clock that is wrong at the backend's end is told as such, once it answers again.
    let ended = host.dirless(&["doctor"]);
    assert!(
        ended
            .stdout
            .lines()
            .any(|line| line.starts_with("FAIL") && line.contains("credential"))
    );
}

#[test]
fn a_host_that_was_revoked_joins_anew_once_with_the_code_it_was_left() {
    let (mut site, host) = site_with_alice();
    let code = site.code("fleet", 2);
    let first = host.is_admitted(&mut site, &code, &["--rejoin"]);
    host.good_cycle();

    site.revoke(&first);
    for _ in 0..2 {
        let problem = host.bad_cycle();
        assert!(
            problem.contains("refuses this host's key") && problem.contains("if it stays so"),
            "{problem}"
        );
    }
    assert!(host.status().contains("REFUSES"), "{}", host.status());
    assert!(host.bad_cycle().contains("joining anew"));
    assert_eq!((site.waiting(), host.names()), (0, vec!["alice".to_owned()]));
    let problem = host.bad_cycle();
    assert!(
        problem.contains("asked to join anew") && problem.ends_with("(refused)"),
        "{problem}"
    );
    assert_eq!(site.waiting(), 1);
    // Meanwhile the table can be made again from what was sealed to the old key.
    private(&host.paths.group(), "root:x:0:\nadm:x:4:\n");
    host.bad_cycle();
    assert_eq!(host.names(), ["alice"]);

    let second = site.admit(&code).remove(0);
    assert_ne!(first.name(), second.name());
    host.good_cycle();
    site.tenant.rotate();
    site.publish("local", &[("alice", 10_001), ("carol", 10_003)]);
    host.good_cycle();
    assert_eq!(host.names(), ["alice", "carol"]);
    assert_eq!(site.receipt(&second).unwrap().users, 2);

    // Refused again, it asks nobody: that is for people to look at.
    site.revoke(&second);
    for _ in 0..4 {
        let problem = host.bad_cycle();
        assert!(problem.contains("put a new code there"), "{problem}");
    }
    assert_eq!((site.waiting(), host.names().len()), (0, 2));
    // With a new one it goes on.
    let code = site.code("other", 1);
    host.code_file(&code);
    for _ in 0..2 {
        host.bad_cycle();
    }
    let third = site.admit(&code).remove(0);
    host.good_cycle();
    assert_eq!(site.receipt(&third).unwrap().users, 2);
}

#[test]
fn a_request_that_could_not_be_sent_is_sent_by_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::at(&folder.path().join("host"));
    let (tenant, _) = tenant_with_enroller(&folder.path().join("tenant"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(MockServer::start());
    let answer = |verb: &str, below: &str, answer: ResponseTemplate, times: u64| {
        let at = format!("/v2/{}/{below}", tenant.id);
        let mock = Mock::given(method(verb)).and(path(at)).respond_with(answer);
        runtime.block_on(mock.up_to_n_times(times).mount(&server));
    };
    let refused = || ResponseTemplate::new(401).insert_header("www-authenticate", "Dirless-Ed25519");
    answer("GET", "", refused(), 1);
    let absent = r#"{"error": "none", "code": "object_absent"}"#;
    let policy = fs::read(folder.path().join("tenant/policy/2")).unwrap();
    answer(
        "GET",
        "join/web/policy/2",
        ResponseTemplate::new(200).set_body_bytes(policy),
        1,
    );
    let absent = ResponseTemplate::new(404).set_body_raw(absent, "application/json");
    answer("GET", "join/web/policy/3", absent, 1);
    answer("POST", "join/web", ResponseTemplate::new(503), 2);
    answer("POST", "join/web", ResponseTemplate::new(201), 1);
    answer("POST", "heartbeat", refused(), 9);

    let code = code_for(&tenant, &server.uri(), "web");
    let ended = host.join(&code, &[]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("could not be sent yet"), "{}", ended.stdout);
    for expected in ["(unsent)", "(waiting)", "(waiting)"] {
        let problem = host.bad_cycle();
        assert!(problem.ends_with(expected), "{problem}");
    }
    let asked = runtime.block_on(server.received_requests()).unwrap();
    let posted: Vec<_> = asked
        .iter()
        .filter(|one| one.url.path().ends_with("/join/web"))
        .collect();
    assert_eq!(posted.len(), 3);
    let bearer = code.secret.bearer(tenant.id, &code.code);
    for request in posted {
        assert_eq!(request.headers["authorization"], format!("Bearer {}", bearer.as_str()));
        assert_eq!(
            request.body, asked[3].body,
            "the same request costs one use of the code"
        );
    }
}

#[test]
fn a_code_that_the_backend_does_not_take_joins_nothing() {
    let (mut site, host) = site_with_alice();
    let used_up = site.code("web", 1);
    let first = Host::at(&site.folder().join("first"));
    first.asks(&used_up, &[]);
    let mut unknown = site.code("other", 1);
    unknown.secret = JoinCode::secret().unwrap();
    for code in [&used_up, &unknown] {
        let ended = host.join(code, &[]);
        assert_eq!(ended.code(), 1);
        assert!(
            ended.stderr.contains("does not accept this join code"),
            "{}",
            ended.stderr
        );
        assert!(!host.paths.config().exists());
    }
    // Roots that are others than the code's.
    let mut other = site.code("third", 1);
    other.roots = dirless_seal::Digest::of(b"others");
    let ended = host.join(&other, &[]);
    assert!(ended.stderr.contains("other-roots"), "{}", ended.stderr);
    // A host that is in the tenant goes on as it was.
    site.admit(&used_up);
    first.good_cycle();
    for code in [&used_up, &unknown, &other] {
        assert_eq!(first.join(code, &["--again"]).code(), 1);
        first.good_cycle();
    }
    // A code that can be used still works after all that.
    let good = site.code("good", 1);
    host.asks(&good, &[]);
    site.kill_backend();
    let nobody = Host {
        paths: Paths::under(&site.folder().join("second")),
    };
    let ended = nobody.join(&good, &[]);
    assert!(
        ended.code() == 1 && ended.stderr.contains("cannot ask http://"),
        "{}",
        ended.stderr
    );
}
