//! The demonstration is a test: what the README promises happens.

use dirless_e2e::{demo, story::Story};
use dirless_testkit::isolated;

#[test]
fn the_demo_runs_to_its_end() {
    isolated("the_demo_runs_to_its_end", || demo::run(&mut Story::default())).unwrap();
}
