//! What every engine keeps: agents and their heartbeats.

use std::time::Duration;

use dirless_backend::store::{Absorbed, Beat, EXTRAS_MAX, HeartbeatLimits, HeartbeatSink, StoreError, TenantHandle};

use crate::common::{Fixture, start, tenant};

fn sink(fixture: &Fixture) -> HeartbeatSink {
    HeartbeatSink::new(fixture.store.clone(), HeartbeatLimits::default())
}

fn beat<'a>(agent_id: &'a str, hostname: &'a str) -> Beat<'a> {
    Beat {
        agent_id,
        hostname,
        extras: None,
    }
}

/// Ids and host names of the agents seen since the start of the clock.
async fn seen(sink: &HeartbeatSink, handle: &TenantHandle) -> Vec<String> {
    let agents = sink.active(handle, start()).await.unwrap();
    agents
        .into_iter()
        .map(|agent| format!("{}@{}", agent.agent_id, agent.hostname))
        .collect()
}

pub(crate) async fn beats_are_seen_at_once_and_survive_on_disk(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let before = sink(fixture);
    for (agent, host) in [("b", "vm-b"), ("a", "vm-a"), ("c", "old")] {
        assert_eq!(before.beat(&handle, beat(agent, host)), Absorbed::Taken);
    }
    assert_eq!(seen(&before, &handle).await, ["a@vm-a", "b@vm-b", "c@old"]);
    assert_eq!(before.flush().await.unwrap(), 3);
    // As after a restart: only the disk knows them, and memory is merged over it.
    let after = sink(fixture);
    assert_eq!(seen(&after, &handle).await, ["a@vm-a", "b@vm-b", "c@old"]);
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(after.beat(&handle, beat("c", "new")), Absorbed::Taken);
    assert_eq!(seen(&after, &handle).await, ["a@vm-a", "b@vm-b", "c@new"]);
    let recent = after.active(&handle, fixture.clock.now()).await.unwrap();
    assert_eq!(recent.len(), 1);
    assert_eq!(
        (recent[0].agent_id.as_str(), recent[0].last_seen_at),
        ("c", fixture.clock.now())
    );
    assert_eq!(after.flush().await.unwrap(), 1);
    assert_eq!(seen(&sink(fixture), &handle).await, ["a@vm-a", "b@vm-b", "c@new"]);
}

pub(crate) async fn a_tenant_sees_only_its_own_agents(fixture: &Fixture) {
    let (one, two) = (
        tenant(&fixture.store, "acme", "t1").await,
        tenant(&fixture.store, "acme", "t2").await,
    );
    let sink = sink(fixture);
    assert_eq!(sink.beat(&one, beat("node", "vm-1")), Absorbed::Taken);
    assert_eq!(sink.beat(&two, beat("node", "vm-2")), Absorbed::Taken);
    for _ in 0..2 {
        assert_eq!(seen(&sink, &one).await, ["node@vm-1"]);
        assert_eq!(seen(&sink, &two).await, ["node@vm-2"]);
        sink.flush().await.unwrap();
    }
    let view = fixture.store.all_tenants_bypassing_realm_scope();
    let all = view.active_agents(&sink, start()).await.unwrap();
    let all: Vec<_> = all
        .iter()
        .map(|agent| (agent.tenant.as_str(), agent.hostname.as_str()))
        .collect();
    assert_eq!(all, [("t1", "vm-1"), ("t2", "vm-2")]);
}

pub(crate) async fn memory_is_bounded_and_flushed_beats_make_room(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let limits = HeartbeatLimits {
        bytes: 64 * 1024,
        ..HeartbeatLimits::default()
    };
    let sink = HeartbeatSink::new(fixture.store.clone(), limits);
    let mut refused = Vec::new();
    for number in 0..1000 {
        let id = format!("agent-{number}");
        if sink.beat(&handle, beat(&id, "vm")) == Absorbed::Full {
            refused.push(id);
        }
    }
    assert!(
        sink.in_memory() < 420 && refused.len() > 500,
        "{} in memory",
        sink.in_memory()
    );
    // Known agents still beat, and after a flush there is room again.
    assert_eq!(sink.beat(&handle, beat("agent-0", "vm")), Absorbed::Taken);
    sink.flush().await.unwrap();
    assert_eq!(sink.beat(&handle, beat(&refused[0], "vm")), Absorbed::Taken);
    assert_eq!(seen(&sink, &handle).await.len(), 1000 - refused.len() + 1);
}

pub(crate) async fn odd_beats_are_refused(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let sink = sink(fixture);
    let long = "x".repeat(256);
    assert_eq!(sink.beat(&handle, beat("", "vm")), Absorbed::Refused);
    assert_eq!(sink.beat(&handle, beat(&long, "vm")), Absorbed::Refused);
    assert_eq!(sink.beat(&handle, beat("a", &long)), Absorbed::Refused);
    assert_eq!(sink.in_memory(), 0);
    let extras = "x".repeat(EXTRAS_MAX + 1);
    let too_much = Beat {
        extras: Some(&extras),
        ..beat("a", "vm")
    };
    assert_eq!(sink.beat(&handle, too_much), Absorbed::WithoutExtras);
    assert_eq!(sink.active(&handle, start()).await.unwrap()[0].extras, None);
}

pub(crate) async fn extras_are_kept_until_others_come(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let with = |extras| Beat {
        extras,
        ..beat("a", "vm")
    };
    let extras = async |sink: &HeartbeatSink| sink.active(&handle, start()).await.unwrap().remove(0).extras;
    let first = sink(fixture);
    assert_eq!(first.beat(&handle, with(Some("{\"version\":\"1\"}"))), Absorbed::Taken);
    first.flush().await.unwrap();
    assert_eq!(first.beat(&handle, with(None)), Absorbed::Taken);
    assert_eq!(extras(&first).await.unwrap(), "{\"version\":\"1\"}");
    // A new process hears no extras, then another host name, and forgets nothing.
    let second = sink(fixture);
    assert_eq!(second.beat(&handle, with(None)), Absorbed::Taken);
    assert_eq!(extras(&second).await.unwrap(), "{\"version\":\"1\"}");
    second.flush().await.unwrap();
    assert_eq!(second.beat(&handle, beat("a", "renamed")), Absorbed::Taken);
    second.flush().await.unwrap();
    assert_eq!(extras(&sink(fixture)).await.unwrap(), "{\"version\":\"1\"}");
    assert_eq!(second.beat(&handle, with(Some("{}"))), Absorbed::Taken);
    second.flush().await.unwrap();
    assert_eq!(extras(&sink(fixture)).await.unwrap(), "{}");
}

pub(crate) async fn a_failed_flush_keeps_its_beats(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let sink = sink(fixture);
    assert_eq!(sink.beat(&handle, beat("a", "vm")), Absorbed::Taken);
    fixture.store.close().await;
    for _ in 0..2 {
        assert!(matches!(sink.flush().await, Err(StoreError::Closed)));
    }
    assert_eq!(sink.in_memory(), 1);
}

pub(crate) async fn flushing_twice_writes_once(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let sink = sink(fixture);
    for number in 0..5000 {
        assert_eq!(
            sink.beat(&handle, beat(&format!("agent-{number}"), "vm")),
            Absorbed::Taken
        );
    }
    assert_eq!(sink.flush().await.unwrap(), 5000);
    assert_eq!(sink.flush().await.unwrap(), 0);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(sink.beat(&handle, beat("agent-7", "vm")), Absorbed::Taken);
    assert_eq!(sink.flush().await.unwrap(), 1);
    let recent = sink.active(&handle, fixture.clock.now()).await.unwrap();
    assert_eq!(recent.len(), 1);
}

/// Rows of agents are gone or another's, and so are those of tenants.
pub(crate) async fn agents_are_written_under_their_names_when_the_database_lost_rows(fixture: &Fixture) {
    let [one, two, four] = [
        tenant(&fixture.store, "acme", "t1").await,
        tenant(&fixture.store, "acme", "t2").await,
        tenant(&fixture.store, "acme", "t4").await,
    ];
    let sink = sink(fixture);
    for (tenant, agent) in [(&one, "a"), (&one, "b"), (&two, "c")] {
        assert_eq!(sink.beat(tenant, beat(agent, "vm")), Absorbed::Taken);
    }
    assert_eq!(sink.flush().await.unwrap(), 3);
    fixture.clock.advance(Duration::from_secs(60));
    for (tenant, agent) in [(&one, "a"), (&one, "b"), (&two, "c"), (&two, "d"), (&four, "e")] {
        assert_eq!(sink.beat(tenant, beat(agent, "vm")), Absorbed::Taken);
    }
    fixture.alter(
        "UPDATE agents SET agent_id = 'z' WHERE agent_id = 'a'; DELETE FROM agents WHERE agent_id IN ('b', 'c'); \
         UPDATE tenants SET tenant = 't3' WHERE tenant = 't2'; DELETE FROM tenants WHERE tenant = 't4'",
    );
    assert_eq!(
        sink.flush().await.unwrap(),
        2,
        "nothing waits for the tenants that are gone"
    );
    let view = fixture.store.all_tenants_bypassing_realm_scope();
    let everywhere = async |sink: &HeartbeatSink, since| {
        let all = view.active_agents(sink, since).await.unwrap();
        let named = all.iter().map(|agent| format!("{} {}", agent.tenant, agent.agent_id));
        named.collect::<Vec<_>>()
    };
    let other = HeartbeatSink::new(fixture.store.clone(), HeartbeatLimits::default());
    for sink in [&sink, &other] {
        assert_eq!(everywhere(sink, fixture.clock.now()).await, ["t1 a", "t1 b"]);
        assert_eq!(everywhere(sink, start()).await, ["t1 a", "t1 b", "t1 z"]);
    }
    // By their new rows, and by name once the tenant is there again.
    fixture.clock.advance(Duration::from_secs(60));
    let two = tenant(&fixture.store, "acme", "t2").await;
    for (tenant, agent) in [(&one, "a"), (&one, "b"), (&two, "d")] {
        assert_eq!(sink.beat(tenant, beat(agent, "vm")), Absorbed::Taken);
    }
    assert_eq!(sink.flush().await.unwrap(), 3);
    assert_eq!(everywhere(&other, fixture.clock.now()).await, ["t1 a", "t1 b", "t2 d"]);
}

pub(crate) async fn running_flushes_until_stopped(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let limits = HeartbeatLimits {
        interval: Duration::from_millis(5),
        ..HeartbeatLimits::default()
    };
    let sink = std::sync::Arc::new(HeartbeatSink::new(fixture.store.clone(), limits));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn({
        let sink = std::sync::Arc::clone(&sink);
        async move {
            sink.run(async {
                let _stopped = stopped.await;
            })
            .await;
        }
    });
    assert_eq!(sink.beat(&handle, beat("a", "vm")), Absorbed::Taken);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let other = || HeartbeatSink::new(fixture.store.clone(), HeartbeatLimits::default());
    while seen(&other(), &handle).await.is_empty() {
        assert!(std::time::Instant::now() < deadline, "nothing was flushed");
    }
    assert_eq!(sink.beat(&handle, beat("b", "vm")), Absorbed::Taken);
    stop.send(()).unwrap();
    task.await.unwrap();
    assert_eq!(seen(&other(), &handle).await, ["a@vm", "b@vm"]);
}

/// Whatever a clock wrote that was a day ahead gives way to the next beat, and counts nobody who does not beat.
pub(crate) async fn a_clock_that_was_ahead_keeps_no_agent_seen(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let right = sink(fixture);
    let say = |sink: &HeartbeatSink, handle: &TenantHandle, agents: &[&str]| {
        for agent in agents {
            assert_eq!(sink.beat(handle, beat(agent, "vm")), Absorbed::Taken);
        }
    };
    say(&right, &handle, &["a", "b"]);
    right.flush().await.unwrap();
    fixture.clock.advance(Duration::from_secs(60));
    let others: [(u64, &[&str]); 2] = [(24 * 3600, &["a", "b", "c", "gone"]), (5, &["near"])];
    for (seconds, agents) in others {
        let store = fixture.ahead(Duration::from_secs(seconds));
        let ahead = HeartbeatSink::new(store.clone(), HeartbeatLimits::default());
        say(&ahead, &tenant(&store, "acme", "t1").await, agents);
        ahead.flush().await.unwrap();
    }
    // By their rows, one with another host name, and by name.
    say(&right, &handle, &["a", "c", "near"]);
    assert_eq!(right.beat(&handle, beat("b", "moved")), Absorbed::Taken);
    right.flush().await.unwrap();
    let now = fixture.clock.now();
    let fresh = sink(fixture);
    for sink in [&right, &fresh] {
        let agents = sink.active(&handle, now).await.unwrap();
        let seen = agents.iter().map(|agent| {
            let ahead = agent.last_seen_at.duration_since(now).as_secs();
            (agent.agent_id.as_str(), ahead)
        });
        assert_eq!(seen.collect::<Vec<_>>(), [("a", 0), ("b", 0), ("c", 0), ("near", 5)]);
        assert_eq!(sink.active(&handle, start()).await.unwrap().len(), 4);
    }
}

/// Beats of new agents, flushes and counts at once, with so little memory that flushed ones are forgotten all the time: each
/// count has everybody who had beaten before it began.
pub(crate) async fn nobody_is_missing_while_beats_are_written(fixture: &Fixture) {
    let handle = tenant(&fixture.store, "acme", "t1").await;
    let limits = HeartbeatLimits {
        bytes: 64 * 1024,
        ..HeartbeatLimits::default()
    };
    let sink = std::sync::Arc::new(HeartbeatSink::new(fixture.store.clone(), limits));
    let taken = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let beating = tokio::spawn({
        let (sink, handle, taken) = (
            std::sync::Arc::clone(&sink),
            handle.clone(),
            std::sync::Arc::clone(&taken),
        );
        async move {
            for number in 0..2000 {
                let id = format!("agent-{number}");
                while sink.beat(&handle, beat(&id, "vm")) == Absorbed::Full {
                    tokio::task::yield_now().await;
                }
                taken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
    });
    let flushing = tokio::spawn({
        let sink = std::sync::Arc::clone(&sink);
        async move {
            loop {
                sink.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    while !beating.is_finished() {
        let before = taken.load(std::sync::atomic::Ordering::SeqCst);
        let counted = seen(&sink, &handle).await.len();
        let after = taken.load(std::sync::atomic::Ordering::SeqCst) + 1;
        assert!((before..=after).contains(&counted), "{before} {counted} {after}");
    }
    beating.await.unwrap();
    flushing.abort();
    assert_eq!(seen(&sink, &handle).await.len(), 2000);
}
