//! A host that waits to be admitted, and what becomes of its request meanwhile, with a real backend and the real programs.

use dirless_program::Clock;
use jiff::SignedDuration;

use crate::network::{Host, cycle, site_with_alice};
use crate::site::{Site, now};

/// A cycle so many minutes from now.
fn cycle_in(site: &Site, host: &Host, minutes: i64) {
    let clock = Clock::manual(now() + SignedDuration::from_mins(minutes));
    cycle(site, &mut host.engine(clock));
}

#[test]
fn a_request_that_is_taken_out_of_the_mailbox_is_there_again_by_itself() {
    let (mut site, host) = site_with_alice();
    let code = site.code("web", 1);
    host.asks(&code, &[]);
    assert!(host.bad_cycle().ends_with("(waiting)"));
    site.empty_mailbox();
    assert!(host.bad_cycle().ends_with("(waiting)"));
    assert_eq!(site.waiting(), 0, "not each time that it looks");
    cycle_in(&site, &host, 11);
    assert_eq!(site.waiting(), 1);
    let problem = host.bad_cycle();
    assert!(
        problem.contains("taken out of the mailbox") && problem.ends_with("(waiting)"),
        "{problem}"
    );
    assert!(
        host.status().contains("waits to be admitted since"),
        "{}",
        host.status()
    );
    // The code was for one host, and is.
    assert_eq!(site.waiting(), 1);
    site.admit(&code);
    host.good_cycle();
    assert_eq!(host.names(), ["alice"]);
    assert!(!host.paths.trust_folder().join("joining.bearer").exists());
}

#[test]
fn one_that_joins_anew_asks_again_as_well_and_keeps_its_new_keys() {
    let (mut site, host) = site_with_alice();
    let code = site.code("fleet", 2);
    let first = host.is_admitted(&mut site, &code, &["--rejoin"]);
    host.good_cycle();
    site.revoke(&first);
    for _ in 0..4 {
        host.bad_cycle();
    }
    site.empty_mailbox();
    cycle_in(&site, &host, 11);
    assert_eq!(site.waiting(), 1);
    let problem = host.bad_cycle();
    assert!(
        problem.contains("taken out of the mailbox") && problem.ends_with("(refused)"),
        "{problem}"
    );
    let second = site.admit(&code).remove(0);
    // Whatever the code is worth by now: the keys are accepted.
    site.end_code(&code);
    host.good_cycle();
    assert!(site.receipt(&second).is_some());
}

#[test]
fn a_host_whose_code_ends_while_it_waits_says_so_and_gives_up_in_the_end() {
    let (mut site, host) = site_with_alice();
    let code = site.code("web", 1);
    host.asks(&code, &[]);
    site.end_code(&code);
    cycle_in(&site, &host, 11);
    let problem = host.bad_cycle();
    assert!(
        problem.contains("did not accept its join code any more") && problem.ends_with("(waiting)"),
        "{problem}"
    );
    // The same code may be there again: of a backend that was set back to an old copy.
    cycle_in(&site, &host, 60);
    assert!(host.paths.trust_folder().join("joining.bearer").exists());
    cycle_in(&site, &host, 300);
    assert!(!host.paths.trust_folder().join("joining.bearer").exists());
    let problem = host.bad_cycle();
    assert!(problem.contains("dirless join --again"), "{problem}");
    // With another code it begins again.
    let code = site.code("other", 1);
    host.is_admitted(&mut site, &code, &["--again"]);
    host.good_cycle();
    assert_eq!(host.names(), ["alice"]);
}
