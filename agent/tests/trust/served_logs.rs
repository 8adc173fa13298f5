//! Logs at a real backend, and hosts that follow them with the real programs.

use dirless_program::Clock;
use dirless_seal::RecordKind;
use dirless_seal::trust::log::diff;

use crate::follow::Source;
use crate::network::{Host, cycle};
use crate::site::Site;

/// Publishes what `change` makes of `source` as one more record of its log; no head names it yet.
fn record(site: &mut Site, source: &mut Source, change: impl FnOnce(&mut Source)) {
    let before = source.0.clone();
    change(source);
    let changes = diff(&before, &source.0, source.content().root()).unwrap();
    site.tenant.add_record("local", &changes);
}

#[test]
fn hosts_follow_a_log_at_a_backend_record_by_record_and_tile_by_tile() {
    let mut site = Site::start();
    let (early, late) = (Host::new(&site), Host::at(&site.folder().join("late")));
    let mut source = Source::default();
    source.user("alice", 10_001);
    site.publish("local", &[("alice", 10_001)]);
    let code = site.code("web", 2);
    early.is_admitted(&mut site, &code, &[]);
    early.good_cycle();
    assert_eq!(early.names(), ["alice"]);

    record(&mut site, &mut source, |source| source.user("bob", 10_002));
    site.sign_head();
    early.good_cycle();
    assert_eq!(early.names(), ["alice", "bob"]);
    record(&mut site, &mut source, |source| {
        source.remove(RecordKind::User, "alice");
    });
    // So many that a tile is full.
    for number in 0..260 {
        record(&mut site, &mut source, |source| source.user("carol", 10_003 + number));
    }
    site.sign_head();
    let bodies = std::fs::read_dir(site.tenant.folder.join("blob")).unwrap();
    assert_eq!(bodies.count(), 1, "no new base");
    late.is_admitted(&mut site, &code, &[]);
    for host in [&early, &late] {
        host.good_cycle();
        assert_eq!(host.names(), ["bob", "carol"]);
    }
    // The next one costs the head, the record, and the receipt that tells of it.
    let mut engine = early.engine(Clock::system());
    cycle(&site, &mut engine);
    record(&mut site, &mut source, |source| source.user("dave", 10_900));
    site.sign_head();
    let (outcome, requests) = site.wire.count(|| cycle(&site, &mut engine));
    assert!(outcome.changed && outcome.problems.is_empty(), "{outcome:?}");
    assert_eq!(requests, 3);
    assert_eq!(early.names(), ["bob", "carol", "dave"]);
}
