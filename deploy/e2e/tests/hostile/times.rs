//! Frozen heads, leases that run out, and clocks that are wrong.

use anyhow::ensure;
use dirless_e2e::hostile::{Answer, Host, Kind, Scene, World};
use dirless_e2e::tenant::{operator, sign_policy};
use dirless_testkit::Program;

use crate::lie::codes;

/// A copy of the tenant whose policy lets nobody in once a lease has run out.
const CLOSING: &str = "/srv/closing";

/// Says what is expected of a host at some time.
fn expect(host: &Host, clock: &str, expected: &[&str], people: &[&str]) -> anyhow::Result<()> {
    host.set_clock(clock)?;
    let (before, said) = (host.alarms().len(), host.refresh()?);
    ensure!(codes(&said) == expected, "at {clock}: {said:#?}");
    let again = host.refresh()?;
    ensure!(
        again == said,
        "at {clock} each cycle says something else: {said:#?} {again:#?}"
    );
    // What was wrong before as well is told no second time.
    let alarms = host.alarms().len() - before;
    ensure!(
        alarms <= expected.len(),
        "at {clock} {alarms} alarms: {:#?}",
        host.alarms()
    );
    for code in expected {
        let told = host.alarms().iter().any(|line| line.contains(&format!("({code})")));
        ensure!(told, "at {clock} nothing was told of {code}: {:#?}", host.alarms());
    }
    let nobody: Vec<&str> = ["alice", "bob", "carol"]
        .into_iter()
        .filter(|name| !people.contains(name))
        .collect();
    host.knows(people, &nobody)
}

/// The backend shows the same head for ever: noticed, told, and served on.
pub(crate) fn a_frozen_head_is_noticed_and_runs_out(world: &World, kind: Kind) -> anyhow::Result<()> {
    let mut scene = Scene::new(world, &format!("frozen-{kind:?}"), &world.late, world.now(), kind)?;
    let people = ["alice", "carol"];
    scene.host.start_with_clock("+0")?;
    expect(&scene.host, "+0", &[], &people)?;
    expect(&scene.host, "+30m", &["stale"], &people)?;
    expect(&scene.host, "+2d", &["expired"], &people)?;
    // Held back instead, it runs out all the same.
    scene.liar.say("head/", Answer::absent());
    expect(&scene.host, "+2d", &["no-head", "expired"], &people)?;
    scene.liar.truth();
    expect(&scene.host, "+0", &[], &people)?;
    ensure!(scene.host.log().contains("in order again"), "{}", scene.host.log());
    Ok(())
}

/// Where the policy says `close`, nobody comes in any more; neither replay nor silence keeps the door open.
pub(crate) fn a_lease_that_closes_is_no_suggestion(world: &World, kind: Kind) -> anyhow::Result<()> {
    if !std::path::Path::new(CLOSING).exists() {
        Program::system("cp")
            .arg("-a")
            .arg(world.now())
            .arg(CLOSING)
            .succeed()?;
        operator(&["compartment", "remove", CLOSING, "all"])?;
        operator(&["compartment", "add", CLOSING, "all", "--on-expiry", "close"])?;
        sign_policy(CLOSING)?;
    }
    let mut scene = Scene::new(world, &format!("closing-{kind:?}"), &world.late, CLOSING.as_ref(), kind)?;
    let people = ["alice", "carol"];
    scene.host.start_with_clock("+0")?;
    expect(&scene.host, "+0", &[], &people)?;
    expect(&scene.host, "+30m", &["stale"], &people)?;
    expect(&scene.host, "+2d", &["expired"], &[])?;
    expect(&scene.host, "+0", &[], &people)?;
    for silence in [Answer::absent(), Answer::Drop] {
        let code = if silence == Answer::Drop {
            "unreachable"
        } else {
            "no-head"
        };
        scene.liar.say("head/", silence);
        expect(&scene.host, "+0", &[code], &people)?;
        scene.host.set_clock("+2d")?;
        let said = scene.host.refresh()?;
        ensure!(codes(&said) == [code, "expired"], "{said:#?}");
        scene.host.knows(&[], &people)?;
        scene.liar.truth();
        expect(&scene.host, "+0", &[], &people)?;
    }
    Ok(())
}

/// A clock ten years off is told, and loses nothing; what is true is believed by it as well.
pub(crate) fn clocks_ten_years_off_lose_nothing(world: &World, kind: Kind) -> anyhow::Result<()> {
    let mut scene = Scene::new(world, &format!("clocks-{kind:?}"), &world.early, world.now(), kind)?;
    scene.host.start_with_clock("+10y")?;
    expect(&scene.host, "+10y", &["policy-expired", "expired"], &["alice", "carol"])?;
    expect(&scene.host, "-10y", &["clock-behind"], &["alice", "carol"])?;
    expect(&scene.host, "+0", &[], &["alice", "carol"])?;
    let mut behind = Scene::new(world, &format!("behind-{kind:?}"), &world.early, world.now(), kind)?;
    behind.host.start_with_clock("-10y")?;
    expect(&behind.host, "-10y", &["clock-behind"], &["alice", "carol"])?;
    // An old head is old by every clock.
    behind
        .liar
        .put("head/syncer-1", std::fs::read(world.then().join("head/syncer-1"))?);
    expect(&behind.host, "-10y", &["rollback", "clock-behind"], &["alice", "carol"])
}
