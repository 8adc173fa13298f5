//! Whole cycles against a backend that answers as it likes: what the host serves afterwards.

use crate::common::{Answer, CA, CLOUD, DUPLICATES, Fake, HEARTBEAT, Host, LOCAL, RULES, cycle, seal, users};
use dirless_agent::daemon::CycleOptions;
use dirless_agent::host::sshd_program::SshdProgram;
use dirless_seal::Identity;
use dirless_wire::{Duplicates, Heartbeat, SourceName};

pub(crate) fn start() -> (Fake, Host) {
    let fake = Fake::start();
    let host = Host::new(&[fake.url()]);
    fake.answer(
        CLOUD,
        Answer::sealed(&host.identity, &users(&["alice", "bob"], 70_001), "c1"),
    );
    (fake, host)
}

fn beat(fake: &Fake) -> Heartbeat {
    let asked = fake.asked();
    let beat = asked.iter().rev().find(|asked| asked.line == HEARTBEAT).unwrap();
    serde_json::from_slice(&beat.body).unwrap()
}

#[tokio::test]
async fn a_cycle_publishes_and_an_unchanged_one_writes_nothing() {
    let (fake, host) = start();
    let mut engine = host.engine();
    let outcome = cycle(&mut engine).await;
    assert_eq!(outcome.problems, Vec::<String>::new());
    assert!(outcome.worked && outcome.changed && !outcome.failed);
    assert!(host.has("alice") && host.has("bob") && !host.has("carol"));
    let lines: Vec<String> = fake.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(
        lines,
        [CLOUD, LOCAL, RULES, HEARTBEAT, CA],
        "the order of deployed agents"
    );

    let before = host.stamps();
    let outcome = cycle(&mut engine).await;
    assert!(!outcome.worked && !outcome.changed && !outcome.failed);
    assert_eq!(host.stamps(), before, "an unchanged cycle wrote something");
    let asked = fake.asked();
    let cloud = asked.iter().find(|asked| asked.line == CLOUD).unwrap();
    assert_eq!(cloud.header("if-none-match"), Some("\"c1\""));
    assert_eq!(cloud.header("authorization"), Some("Bearer sekret-token-1"));
    assert_eq!(cloud.header("x-tenant-id"), Some(crate::common::TENANT));

    // And so it is after a restart: tags and bodies are on disk.
    drop(engine);
    let mut engine = host.engine();
    assert!(!cycle(&mut engine).await.worked);
    let asked = fake.asked();
    assert_eq!(asked[0].header("if-none-match"), Some("\"c1\""));
}

const STATE: &str = "GET /v1/snapshot";

/// Has the backend tell a state of this tag, in which the first source has the tag `cloud`.
fn tell_state(fake: &Fake, tag: &str, cloud: &str) {
    let key = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
    let parts = serde_json::json!({
        "sources": {"aws-identity-center": format!("\"{cloud}\"")},
        "authz_config": null,
        "ca_public_key": null,
        "public_key": key,
    });
    let tag = format!("\"{tag}\"");
    fake.answer(HEARTBEAT, Answer::json(200, "{}").with("X-Dirless-Tenant-State", &tag));
    fake.answer(STATE, Answer::json(200, &parts.to_string()).with("ETag", &tag));
}

/// Behind one address there may be several backends, one of which is behind the others.
#[tokio::test]
async fn a_state_that_was_told_and_not_served_is_asked_for_again() {
    let (fake, host) = start();
    tell_state(&fake, "s1", "c1");
    let mut engine = host.engine();
    for _ in 0..2 {
        cycle(&mut engine).await;
    }
    fake.asked();
    // Told by one, while another serves what was before.
    tell_state(&fake, "s2", "c2");
    for _ in 0..3 {
        cycle(&mut engine).await;
        assert!(fake.asked().iter().any(|asked| asked.line == CLOUD));
    }
    fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&["carol"], 70_003), "c2"));
    assert!(cycle(&mut engine).await.changed && host.has("carol"));
    fake.asked();
    cycle(&mut engine).await;
    let lines: Vec<String> = fake.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, [HEARTBEAT]);
}

/// With a backend that tells the tenant's state, nothing changed is one request.
#[tokio::test]
async fn while_the_state_stays_the_heartbeat_is_the_only_request() {
    let (fake, host) = start();
    let state = |tag: &str, cloud: &str| tell_state(&fake, tag, cloud);
    let asked = || fake.asked().into_iter().map(|asked| asked.line).collect::<Vec<_>>();
    let everything = [HEARTBEAT, CLOUD, LOCAL, RULES, CA, STATE];
    state("s1", "c1");
    let mut engine = host.engine();
    assert!(cycle(&mut engine).await.changed);
    assert_eq!(
        asked(),
        [CLOUD, LOCAL, RULES, HEARTBEAT, CA],
        "the first asks for everything"
    );
    assert!(!cycle(&mut engine).await.changed);
    assert_eq!(
        asked(),
        everything,
        "and so does the one that knows the state beforehand"
    );
    let before = host.stamps();
    for _ in 0..3 {
        let outcome = cycle(&mut engine).await;
        assert!(!outcome.worked && !outcome.failed && outcome.problems.is_empty());
        assert_eq!(asked(), [HEARTBEAT]);
    }
    assert_eq!(host.stamps(), before, "an unchanged cycle wrote something");

    // Whoever asks by hand is not put off with a tag.
    engine.cycle(&CycleOptions::thorough(), &mut || {}).await;
    assert_eq!(asked(), everything);

    // Another state is followed at once, and reported at once.
    fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&["carol"], 70_003), "c2"));
    state("s2", "c2");
    assert!(cycle(&mut engine).await.changed);
    assert_eq!(asked(), [HEARTBEAT, CLOUD, LOCAL, RULES, HEARTBEAT, CA, STATE]);
    assert!(host.has("carol") && !host.has("alice"));
    cycle(&mut engine).await;
    assert_eq!(asked(), [HEARTBEAT], "it was fetched whole with that state");

    // What changes on this host counts without the backend.
    std::fs::remove_file(host.paths.table()).unwrap();
    assert!(cycle(&mut engine).await.worked && host.has("carol"));
    assert_eq!(asked(), [HEARTBEAT, HEARTBEAT]);

    // A failure keeps it asking until all is well, however often the state is the same.
    state("s3", "c2");
    fake.answer(RULES, Answer::json(500, "{}"));
    for _ in 0..2 {
        assert!(cycle(&mut engine).await.failed);
        assert!(asked().contains(&CLOUD.to_owned()));
    }
    // And a backend that stops telling the state is asked as a deployed one is.
    fake.answer(HEARTBEAT, Answer::json(200, "{}"));
    for _ in 0..2 {
        cycle(&mut engine).await;
        assert!(asked().contains(&CLOUD.to_owned()));
    }
}

#[tokio::test]
async fn a_source_reported_as_deleted_is_asked_for_until_that_is_decided() {
    let (fake, host) = start();
    fake.answer(
        HEARTBEAT,
        Answer::json(200, "{}").with("X-Dirless-Tenant-State", "\"s1\""),
    );
    let mut engine = host.engine();
    cycle(&mut engine).await;
    fake.answer(CLOUD, Answer::json(404, r#"{"error":"gone","code":"source_deleted"}"#));
    for round in 1..=3 {
        assert!(host.has("alice"), "round {round}");
        cycle(&mut engine).await;
    }
    assert!(!host.has("alice"));
}

#[tokio::test]
async fn without_entity_tags_the_same_body_is_not_written_again() {
    let (fake, host) = start();
    let body = seal(&host.identity, &users(&["alice"], 70_001));
    let deployed = Answer::Reply(200, vec![("X-Dirless-Encrypted".into(), "age".into())], body);
    fake.answer(CLOUD, deployed);
    let mut engine = host.engine();
    assert!(cycle(&mut engine).await.changed);
    // It is received into a file aside, so folders change; nothing that is kept does.
    let files = |host: &Host| {
        let mut stamps = host.stamps();
        stamps.retain(|(path, ..)| path.is_file());
        stamps
    };
    let before = files(&host);
    assert!(!cycle(&mut engine).await.worked);
    assert_eq!(files(&host), before);
}

#[tokio::test]
async fn whatever_one_source_answers_the_last_good_stays_and_the_other_goes_on() {
    let (fake, host) = start();
    let mut engine = host.engine();
    cycle(&mut engine).await;
    let other = Identity::generate();
    let mut failures: Vec<Answer> = [401, 403, 409, 429, 204, 301, 418, 500, 502, 503]
        .map(|status| Answer::json(status, r#"{"error":"x"}"#))
        .to_vec();
    failures.extend([Answer::Drop, Answer::Truncated, Answer::Garbage]);
    failures.extend([
        Answer::json(200, r#"{"users":[]}"#),
        Answer::json(404, "{}"),
        Answer::sealed(&other, &users(&["mallory"], 70_009), "o1"),
        Answer::blob(b"not base64 at all !!".to_vec(), "o2"),
        Answer::blob(Vec::new(), "o3"),
        Answer::blob(seal(&host.identity, "null"), "o4"),
        Answer::blob(seal(&host.identity, "[]"), "o5"),
        Answer::sealed(&host.identity, r#"{"users":[{"username":"#, "o6"),
    ]);
    for (number, failure) in failures.into_iter().enumerate() {
        fake.answer(CLOUD, failure.clone());
        let newcomer = format!("local{number}");
        fake.answer(
            LOCAL,
            Answer::sealed(&host.identity, &users(&[&newcomer], 100_001), &newcomer),
        );
        let outcome = cycle(&mut engine).await;
        assert!(!outcome.problems.is_empty(), "nobody was told of {failure:?}");
        assert!(
            host.has("alice") && host.has("bob") && !host.has("mallory"),
            "{failure:?}"
        );
        // 401, 403 and 429 are about the caller, not about one source: nothing else is asked then.
        let about_caller = matches!(&failure, Answer::Reply(401 | 403 | 429, ..));
        assert_eq!(host.has(&newcomer), !about_caller, "{failure:?}");
    }
}

#[tokio::test]
async fn defect_08_a_bad_blob_stops_only_itself_and_a_good_one_mends_it() {
    let (fake, host) = start();
    let mut engine = host.engine();
    cycle(&mut engine).await;
    fake.answer(CLOUD, Answer::blob(b"@@@@".to_vec(), "bad"));
    fake.answer(LOCAL, Answer::sealed(&host.identity, &users(&["carol"], 100_001), "l1"));
    cycle(&mut engine).await;
    assert!(host.has("alice") && host.has("carol"));
    fake.asked();
    // The bad one is neither fetched nor tried again, and the host says what it thinks of it.
    let outcome = cycle(&mut engine).await;
    assert!(!outcome.worked);
    let report = beat(&fake).report.unwrap();
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.contains("aws-identity-center")),
        "{:?}",
        report.problems
    );
    fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&["alice"], 70_001), "c2"));
    let outcome = cycle(&mut engine).await;
    assert!(
        outcome.problems.is_empty() && host.has("alice") && !host.has("bob"),
        "{:?}",
        outcome.problems
    );
}

#[tokio::test]
async fn defect_03_a_body_in_clear_is_not_even_kept() {
    let (fake, host) = start();
    let mut engine = host.engine();
    cycle(&mut engine).await;
    let clear = Answer::json(200, &users(&["mallory"], 70_001)).with("ETag", "\"clear\"");
    for answer in [
        clear.clone(),
        clear.clone().with("X-Dirless-Encrypted", "AGE"),
        clear.with("X-Dirless-Encrypted", "true"),
    ] {
        fake.answer(CLOUD, answer);
        let outcome = cycle(&mut engine).await;
        assert!(outcome.failed && !outcome.worked && host.has("alice") && !host.has("mallory"));
        let kept = std::fs::read_to_string(host.paths.sealed("aws-identity-center")).unwrap();
        assert!(!kept.contains("mallory"));
    }
}

#[tokio::test]
async fn a_body_for_another_key_is_refused_untried_until_the_key_is_mended() {
    let (fake, host) = start();
    let other = Identity::generate();
    let sealed = Answer::sealed(&other, &users(&["alice"], 70_001), "k1");
    fake.answer(
        CLOUD,
        sealed.with("X-Dirless-Registered-Key", other.recipient().as_str()),
    );
    let mut engine = host.engine();
    for _ in 0..2 {
        let outcome = cycle(&mut engine).await;
        assert!(outcome.failed && !outcome.worked);
        assert!(outcome.problems[0].contains("rotate-key"), "{:?}", outcome.problems);
        assert!(!host.paths.sealed("aws-identity-center").exists());
    }
    assert_eq!(
        fake.asked()
            .iter()
            .rfind(|asked| asked.line == CLOUD)
            .unwrap()
            .header("if-none-match"),
        Some("\"k1\"")
    );
    host.write(&host.paths.age_key(), &other.expose());
    let outcome = cycle(&mut engine).await;
    assert!(
        outcome.problems.is_empty() && host.has("alice"),
        "{:?}",
        outcome.problems
    );
}

#[tokio::test]
async fn defect_06_failing_rules_keep_the_last_good_ones_and_publish_nothing_before_the_first() {
    let (fake, host) = start();
    fake.answer(RULES, Answer::json(500, "{}"));
    let mut engine = host.engine();
    let outcome = cycle(&mut engine).await;
    assert!(outcome.failed && !outcome.worked && host.table().is_none());
    fake.answer(
        RULES,
        Answer::json(200, r#"{"enforce_group_memberships":true,"host_group_rules":[]}"#),
    );
    cycle(&mut engine).await;
    assert!(
        host.table().is_some() && !host.has("alice"),
        "a host that no rule names lets nobody in"
    );
    let failures = [
        Answer::json(500, "{}"),
        Answer::json(404, "{}"),
        Answer::json(401, "{}"),
        Answer::json(200, "{\"enforce"),
        Answer::json(200, "[]"),
        Answer::json(200, "null"),
        Answer::json(200, r#"{"enforce_group_memberships":"true"}"#),
        Answer::json(200, r#"{"enforce_group_memberships":true,"host_group_rules":null}"#),
        Answer::Drop,
        Answer::Truncated,
        Answer::Garbage,
    ];
    for failure in failures {
        fake.answer(RULES, failure.clone());
        let outcome = cycle(&mut engine).await;
        assert!(!outcome.problems.is_empty() && !host.has("alice"), "{failure:?}");
    }
    // A file that something damaged does not pass for "no rules" either.
    fake.answer(RULES, Answer::json(500, "{}"));
    std::fs::write(host.paths.access_rules(), "{").unwrap();
    cycle(&mut engine).await;
    assert!(!host.has("alice"));
}

#[tokio::test]
async fn defect_07_only_a_repeated_deletion_or_an_operator_empties_a_source() {
    let (fake, host) = start();
    let mut engine = host.engine();
    cycle(&mut engine).await;
    fake.answer(CLOUD, Answer::json(404, r#"{"error":"x","code":"source_absent"}"#));
    for _ in 0..4 {
        cycle(&mut engine).await;
        assert!(host.has("alice"));
    }
    let accept = CycleOptions {
        accept_absent: Some(SourceName::aws_identity_center()),
        ..CycleOptions::default()
    };
    engine.cycle(&accept, &mut || {}).await;
    assert!(!host.has("alice"));

    fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&["alice"], 70_001), "c2"));
    cycle(&mut engine).await;
    assert!(host.has("alice"));
    fake.answer(CLOUD, Answer::json(404, r#"{"error":"x","code":"source_deleted"}"#));
    for round in 1..=3 {
        assert!(host.has("alice"), "gone before round {round}");
        // A restart in between does not start the count again.
        drop(engine);
        engine = host.engine();
        cycle(&mut engine).await;
    }
    assert!(!host.has("alice"));
}

#[tokio::test]
async fn a_host_that_cannot_open_anything_still_reports() {
    let (fake, host) = start();
    std::fs::remove_file(host.paths.age_key()).unwrap();
    let mut engine = host.engine();
    let outcome = cycle(&mut engine).await;
    assert!(
        outcome.failed && outcome.problems.iter().any(|problem| problem.contains("age.key")),
        "{:?}",
        outcome.problems
    );
    let beat = beat(&fake);
    assert_eq!(beat.agent_id, "node-a");
    assert!(
        beat.report
            .unwrap()
            .problems
            .iter()
            .any(|problem| problem.contains("age.key"))
    );
    // Mended without a restart.
    host.write(&host.paths.age_key(), &host.identity.expose());
    assert!(cycle(&mut engine).await.problems.is_empty() && host.has("alice"));
    let report = self::beat(&fake).report.unwrap();
    assert_eq!((report.users, report.generation), (2, 1));
    assert_eq!(
        report.sources[&SourceName::aws_identity_center()]
            .etag
            .as_ref()
            .unwrap()
            .header(),
        "\"c1\""
    );
}

#[tokio::test]
async fn duplicates_are_reported_when_they_change_and_again_when_that_failed() {
    let (fake, host) = start();
    fake.answer(LOCAL, Answer::sealed(&host.identity, &users(&["alice"], 100_001), "l1"));
    fake.answer(DUPLICATES, Answer::json(500, "{}"));
    let mut engine = host.engine();
    cycle(&mut engine).await;
    fake.answer(DUPLICATES, Answer::json(200, "{}"));
    let reported = |fake: &Fake| -> Vec<Duplicates> {
        let asked = fake.asked();
        let puts = asked.iter().filter(|asked| asked.line == DUPLICATES);
        puts.map(|asked| serde_json::from_slice(&asked.body).unwrap()).collect()
    };
    assert_eq!(reported(&fake).len(), 1);
    cycle(&mut engine).await;
    cycle(&mut engine).await;
    assert_eq!(
        reported(&fake),
        [Duplicates {
            duplicate_usernames: vec!["alice".into()]
        }]
    );
    fake.answer(LOCAL, Answer::sealed(&host.identity, &users(&["carol"], 100_001), "l2"));
    cycle(&mut engine).await;
    cycle(&mut engine).await;
    assert_eq!(
        reported(&fake),
        [Duplicates {
            duplicate_usernames: vec![]
        }]
    );
}

#[tokio::test]
async fn one_backend_serves_a_whole_cycle_and_a_dead_one_is_left() {
    let (first, host) = start();
    let second = Fake::start();
    second.answer(CLOUD, Answer::sealed(&host.identity, &users(&["alice"], 70_001), "c1"));
    let gone = "http://127.0.0.1:9".to_owned();
    let mut host = host;
    host.urls = vec![gone, first.url(), second.url()];
    host.configure("interval_seconds = 1");
    let mut engine = host.engine();
    for _ in 0..8 {
        let outcome = cycle(&mut engine).await;
        assert!(!outcome.failed, "{:?}", outcome.problems);
        let asked = (first.asked().len(), second.asked().len());
        assert!(asked.0 == 0 || asked.1 == 0, "one cycle mixed two backends: {asked:?}");
    }
    // One that fails in the middle is left, and the other answers.
    for line in [CLOUD, LOCAL, RULES] {
        first.answer(line, Answer::json(500, "{}"));
    }
    for _ in 0..4 {
        assert!(!cycle(&mut engine).await.failed);
        assert!(host.has("alice"));
    }
}

#[tokio::test]
async fn a_worker_that_dies_costs_nothing_and_is_tried_again() {
    let (fake, host) = start();
    let mut engine = host.engine();
    cycle(&mut engine).await;
    drop(engine);
    fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&["carol"], 70_005), "c2"));
    // The report cannot be written over a folder: the worker fails after all its work.
    let report = host.paths.report();
    std::fs::remove_file(&report).unwrap();
    std::fs::create_dir_all(report.join("in-the-way")).unwrap();
    let mut engine = host.engine();
    let outcome = cycle(&mut engine).await;
    assert!(outcome.worked && outcome.failed, "{:?}", outcome.problems);
    std::fs::remove_dir_all(&report).unwrap();
    let outcome = cycle(&mut engine).await;
    assert!(
        outcome.worked && outcome.problems.is_empty() && host.has("carol"),
        "{:?}",
        outcome.problems
    );
}

#[tokio::test]
async fn there_is_one_daemon_at_a_time() {
    let (_fake, host) = start();
    let first = host.engine();
    let config = dirless_agent::config::load(&host.paths.config(), &host.paths, "web-1").unwrap();
    let worker = dirless_agent::daemon::WorkerCommand::of_this_program(Vec::new(), std::time::Duration::from_secs(1));
    let clock = dirless_program::Clock::system();
    let second = dirless_agent::daemon::Engine::new(config, host.paths.clone(), clock, worker, SshdProgram::none());
    assert!(second.unwrap_err().to_string().contains("dirless refresh"));
    drop(first);
    host.engine();
}
