//! The demonstration is a test: what the README promises happens, and with the protocol of deployed programs as well.

use dirless_e2e::demo::{self, Protocol};
use dirless_e2e::story::Story;
use dirless_testkit::isolated;

#[test]
fn the_demo_runs_to_its_end() {
    isolated("the_demo_runs_to_its_end", || {
        demo::run(&mut Story::default(), Protocol::Signed)
    })
    .unwrap();
}

#[test]
fn the_classic_demo_runs_to_its_end() {
    isolated("the_classic_demo_runs_to_its_end", || {
        demo::run(&mut Story::default(), Protocol::Classic)
    })
    .unwrap();
}
