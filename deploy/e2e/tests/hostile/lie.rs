//! One lie, and what must come of it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use anyhow::{Context, ensure};
use dirless_e2e::hostile::{Host, Kind, Scene, World};
use dirless_testkit::isolated;

/// Lies that run at the same time.
const SIDE_BY_SIDE: usize = 4;

type Tell = Box<dyn Fn(&Scene<'_>) -> anyhow::Result<()> + Send + Sync>;

/// Who is lied to, and what is true.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    /// A host that has yet to hear of the last snapshot: carol came, bob went.
    Early,
    /// A host that is up to date.
    Late,
    /// A host of the past, to which the past is true: the guest may still publish.
    Past,
    /// A host of the past that has yet to hear of everything.
    Behind,
    /// A host with one record of a log of three: dora is to go, and erin to come.
    Following,
    /// A host with all of it.
    Followed,
}

impl Who {
    /// Who is found before the truth is heard, and after.
    fn people(self) -> [&'static [&'static str]; 2] {
        match self {
            Self::Early => [&["alice", "bob"], &["alice", "carol"]],
            Self::Late => [&["alice", "carol"]; 2],
            Self::Past => [&["alice", "bob", "g-eve"]; 2],
            Self::Behind => [&["alice", "bob", "g-eve"], &["alice", "carol"]],
            Self::Following => [&["alice", "carol", "dora"], &["alice", "carol", "erin"]],
            Self::Followed => [&["alice", "carol", "erin"]; 2],
        }
    }
}

/// A lie in one or several variants, one after the other.
pub(crate) struct Lie {
    name: &'static str,
    who: Who,
    codes: &'static [&'static str],
    at_backends: &'static [&'static str],
    variants: Vec<Tell>,
    truth: Tell,
    people: [&'static [&'static str]; 2],
}

/// A lie that raises alarms with these codes, one each.
pub(crate) fn lie(
    name: &'static str,
    who: Who,
    codes: &'static [&'static str],
    tell: impl Fn(&Scene<'_>) -> anyhow::Result<()> + Send + Sync + 'static,
) -> Lie {
    Lie {
        name,
        who,
        codes,
        at_backends: codes,
        variants: vec![Box::new(tell)],
        truth: Box::new(|scene| {
            scene.liar.truth();
            Ok(())
        }),
        people: who.people(),
    }
}

impl Lie {
    /// With other codes where a backend tells it: its client says of each backend that it cannot be used, and asks the next.
    pub(crate) fn at_backends(mut self, codes: &'static [&'static str]) -> Self {
        self.at_backends = codes;
        self
    }

    /// Told in another way, with the same effect.
    pub(crate) fn or(mut self, tell: impl Fn(&Scene<'_>) -> anyhow::Result<()> + Send + Sync + 'static) -> Self {
        self.variants.push(Box::new(tell));
        self
    }

    /// What the truth is afterwards, where a stolen key has used up version numbers.
    pub(crate) fn until(mut self, tell: impl Fn(&Scene<'_>) -> anyhow::Result<()> + Send + Sync + 'static) -> Self {
        self.truth = Box::new(tell);
        self
    }

    /// Other people than usual are found while it is told.
    pub(crate) fn meanwhile(mut self, people: &'static [&'static str]) -> Self {
        self.people[0] = people;
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// All codes that it is refused under, but for the one that is every backend's that cannot be used.
    pub(crate) fn codes(&self) -> impl Iterator<Item = &'static str> {
        let at_backends = self.at_backends.iter().filter(|code| **code != "unreachable");
        self.codes.iter().chain(at_backends).copied()
    }

    fn run(&self, world: &World, kind: Kind) -> anyhow::Result<()> {
        let (host, folder): (&Host, _) = match self.who {
            Who::Early => (&world.early, world.now()),
            Who::Late => (&world.late, world.now()),
            Who::Past => (&world.past, world.then()),
            Who::Behind => (&world.past, world.now()),
            Who::Following => (&world.following, world.later()),
            Who::Followed => (&world.followed, world.later()),
        };
        let name = format!("{}-{kind:?}", self.name);
        let mut scene = Scene::new(world, &name, host, folder, kind)?;
        scene.host.start()?;
        let mut told = BTreeSet::new();
        for tell in &self.variants {
            tell(&scene)?;
            let problems = self.heard(&scene, kind)?;
            told.extend(problems);
            knows(&scene, self.people[0]).context("while it is told")?;
        }
        let alarms = scene.host.alarms();
        ensure!(
            alarms.len() == told.len(),
            "{} problems, but these alarms: {alarms:#?}",
            told.len()
        );
        (self.truth)(&scene)?;
        let problems = scene.host.refresh()?;
        ensure!(problems.is_empty(), "the truth does not heal it: {problems:?}");
        knows(&scene, self.people[1]).context("after the truth")?;
        ensure!(scene.host.log().contains("in order again"), "{}", scene.host.log());
        let classic = scene.liar.asked().into_iter().find(|asked| asked.contains("/v1/"));
        ensure!(classic.is_none(), "it asked for {classic:?}");
        Ok(())
    }

    /// What the daemon says in each of three cycles: the same, with the expected codes.
    fn heard(&self, scene: &Scene<'_>, kind: Kind) -> anyhow::Result<BTreeSet<String>> {
        let expected = if kind == Kind::Backend {
            self.at_backends
        } else {
            self.codes
        };
        let first = scene.host.refresh()?;
        ensure!(
            codes(&first) == expected,
            "{first:#?} instead of {:?}; its log:\n{}",
            expected,
            scene.host.log()
        );
        let second = scene.host.refresh()?;
        ensure!(
            second == first,
            "each cycle says something else: {first:#?} {second:#?}"
        );
        let shown = scene.host.problems()?;
        ensure!(shown == first, "dirless status says something else: {shown:#?}");
        Ok(first.into_iter().collect())
    }
}

/// Has the daemon look twice: it says the same both times, with these codes, and each is one alarm more.
pub(crate) fn told_once(host: &Host, expected: &[&str]) -> anyhow::Result<()> {
    let (before, said) = (host.alarms().len(), host.refresh()?);
    ensure!(codes(&said) == expected, "{said:#?} instead of {expected:?}");
    let again = host.refresh()?;
    ensure!(again == said, "each cycle says something else: {said:#?} {again:#?}");
    let alarms = host.alarms().len() - before;
    ensure!(alarms == expected.len(), "{alarms} alarms: {:#?}", host.alarms());
    Ok(())
}

/// The code of each problem; the whole problem where it has none.
pub(crate) fn codes(problems: &[String]) -> Vec<&str> {
    // The last one: what is quoted before it may hold brackets too.
    problems
        .iter()
        .map(|problem| {
            let mut words = problem
                .rsplit('(')
                .filter_map(|part| part.split_once(')'))
                .map(|(word, _)| word);
            words.find(|word| is_code(word)).unwrap_or(problem)
        })
        .collect()
}

pub(crate) fn is_code(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

fn knows(scene: &Scene<'_>, those: &[&str]) -> anyhow::Result<()> {
    let everybody = [
        "alice", "bob", "carol", "dora", "erin", "g-eve", "mallory", "g-zero", "g-root",
    ];
    let nobody: Vec<&str> = everybody.into_iter().filter(|name| !those.contains(name)).collect();
    scene.host.knows(those, &nobody)
}

type Scenario = fn(&World, Kind) -> anyhow::Result<()>;

/// What is more than one lie, with the codes that it raises.
pub(crate) const SCENARIOS: [(&str, Scenario, &[&str]); 7] = [
    (
        "frozen head",
        crate::times::a_frozen_head_is_noticed_and_runs_out,
        &["stale", "expired", "no-head"],
    ),
    (
        "closing lease",
        crate::times::a_lease_that_closes_is_no_suggestion,
        &["stale", "expired", "no-head", "unreachable"],
    ),
    (
        "clocks",
        crate::times::clocks_ten_years_off_lose_nothing,
        &["policy-expired", "expired", "clock-behind", "rollback"],
    ),
    (
        "stolen host",
        crate::hosts::a_stolen_host_reads_nothing_more,
        &["not-admitted", "epoch-key"],
    ),
    (
        "downgrade",
        crate::hosts::nothing_leads_back_to_the_classic_protocol,
        &["no-head", "downgrade"],
    ),
    (
        "bounds",
        crate::hosts::what_swells_costs_little,
        &["bomb", "header-too-large"],
    ),
    ("other roots", crate::hosts::other_roots_are_nobodys, &["other-roots"]),
];

pub(crate) fn lies() -> Vec<Lie> {
    let mut lies = crate::objects::lies();
    lies.extend(crate::bodies::lies());
    lies.extend(crate::logs::lies());
    lies.extend(crate::answers::lies());
    lies
}

/// Does all of this side by side, each with a host of its own, and fails with all that went wrong.
fn tell_all(world: &World, kinds: &[Kind]) -> anyhow::Result<()> {
    let lies = lies();
    let lies = lies.iter().map(|lie| {
        (
            lie.name,
            Box::new(|kind| lie.run(world, kind)) as Box<dyn Fn(Kind) -> _ + Send + Sync>,
        )
    });
    let scenarios = SCENARIOS
        .iter()
        .map(|(name, run, _)| (*name, Box::new(|kind| run(world, kind)) as Box<_>));
    // What waits longest begins first.
    let all: Vec<_> = scenarios.chain(lies).collect();
    let queue = Mutex::new(
        kinds
            .iter()
            .flat_map(|kind| all.iter().map(|(name, run)| (*kind, *name, run))),
    );
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some((kind, name, run)) = next else { break };
                    if let Err(error) = run(kind) {
                        failed.lock().unwrap().push(format!("{name} ({kind:?}): {error:#}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    ensure!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), all.len());
    Ok(())
}

#[test]
fn lies_are_refused_and_told_once_and_the_truth_heals() {
    isolated("lie::lies_are_refused_and_told_once_and_the_truth_heals", || {
        let world = World::new()?;
        tell_all(&world, &[Kind::Files, Kind::Backend])?;
        crate::hosts::nobody_adds_a_host(&world)
    })
    .unwrap();
}
