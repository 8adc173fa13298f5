//! Lies about who is in the tenant, the way back to the classic protocol, and what the worst bodies cost.

use std::path::Path;

use anyhow::{Context, ensure};
use dirless_e2e::hostile::forge::{self, signed};
use dirless_e2e::hostile::{Answer, CODE, Host, Kind, Liar, Scene, World};
use dirless_e2e::site::private;
use dirless_e2e::tenant::{FOLDER, operator, syncer, syncer_outcome};
use dirless_seal::trust::{JoinCode, Node, NodeList, Policy, Wrap, node_name, print};
use dirless_seal::{Identity, Note};
use dirless_testkit::built;

use crate::lie::{codes, told_once};

/// Prints the most memory, in KiB, that the rest of the command line took.
const PEAK: &str = "import resource, subprocess, sys; subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL); \
                    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";

/// What was stolen opens nothing of the epoch after, whatever the backend hands out.
pub(crate) fn a_stolen_host_reads_nothing_more(world: &World, kind: Kind) -> anyhow::Result<()> {
    let mut scene = Scene::new(world, &format!("thief-{kind:?}"), &world.stolen, world.now(), kind)?;
    scene.host.start()?;
    told_once(&scene.host, &["not-admitted"])?;
    scene.host.knows(&["alice", "bob"], &["carol"])?;
    let own = scene.host.identity()?;
    let name = scene.host.key()?.verifying().name().clone();
    let mut wraps = 0;
    for entry in std::fs::read_dir(world.now().join("wrap/all/2"))? {
        let bytes = std::fs::read(entry?.path())?;
        ensure!(Wrap::open(&bytes, &own).is_err(), "a wrap of the new epoch opens");
        scene.liar.put(&format!("wrap/all/2/{name}"), bytes);
        let said = scene.host.refresh()?;
        ensure!(codes(&said) == ["epoch-key"], "{said:#?}");
        wraps += 1;
    }
    ensure!(wraps >= 2, "only {wraps} hosts are left");
    scene.host.knows(&["alice", "bob"], &["carol"])
}

/// Nobody but the enroller's key adds a host, and a host that nobody added has nothing.
pub(crate) fn nobody_adds_a_host(world: &World) -> anyhow::Result<()> {
    // The code that let three in lets in no fourth.
    let mut rogue = Host::new("rogue")?;
    rogue.join(CODE, "[\"people\"]")?;
    syncer(&["once"])?;
    let (key, identity) = (rogue.key()?, Identity::generate());
    let name = node_name(key.verifying().as_bytes());
    let folder = Path::new(FOLDER).join("nodes/syncer-1-enroller");
    let versions = std::fs::read_dir(&folder)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let newest: u64 = versions.max().context("no node list")?;
    let note = std::fs::read(folder.join(newest.to_string()))?;
    let mut list: NodeList = forge::object(&note)?;
    let like: &Node = list.nodes.first().context("an empty node list")?;
    let node = Node {
        key: key.verifying().clone(),
        recipient: identity.recipient(),
        ..like.clone()
    };
    list.nodes.push(node);
    list.nodes.sort_by(|left, right| left.key.name().cmp(right.key.name()));
    list.version = newest + 1;
    list.previous = Some(Note::parse(&note, 1 << 26)?.digest());
    // Signed by nobody, and by a publisher whose scope it is not.
    let planted = folder.join(list.version.to_string());
    for liar in [
        forge::stranger("syncer-1-enroller")?,
        world.keys.publisher.renamed(forge::label("syncer-1-enroller")?),
    ] {
        std::fs::write(&planted, signed(&list, &liar)?)?;
        let verified = operator(&["verify", FOLDER, "--roots", &world.tenant.roots]);
        let error = verified.err().context("a planted node list was taken for a good one")?;
        ensure!(error.to_string().contains("[forged]"), "{error}");
    }
    // The syncer goes its own way, and says once what stands there: nothing is wrapped for the planted one.
    let rotated = syncer_outcome(&["signing", "rotate"])?;
    ensure!(
        rotated.code() != 0 && rotated.stdout.contains("epoch 3 of all began"),
        "{rotated:?}"
    );
    let told = format!("problem: nodes/syncer-1-enroller/{}: ", list.version);
    ensure!(
        rotated.stdout.matches("problem: ").count() == 1 && rotated.stdout.contains(&told),
        "{rotated:?}"
    );
    ensure!(rotated.stdout.contains("(forged)"), "{rotated:?}");
    for epoch in std::fs::read_dir(Path::new(FOLDER).join("wrap/all"))? {
        ensure!(
            !epoch?.path().join(name.as_str()).exists(),
            "the planted host has a key"
        );
    }
    std::fs::remove_file(&planted)?;
    syncer(&["once"]).context("without it all is well")?;
    rogue.start()?;
    // It has nothing at all: so it looks when it starts, and says that as well.
    let nothing = "nothing is published before every source was asked for once; missing: people";
    let said = rogue.refresh()?;
    ensure!(codes(&said) == ["not-admitted", nothing], "{said:#?}");
    ensure!(
        rogue.refresh()? == said && rogue.alarms().len() == said.len(),
        "{:#?}",
        rogue.alarms()
    );
    rogue.knows(&[], &["alice", "carol"])
}

/// A host that joins believes policies of the roots that its code names, and of no others.
pub(crate) fn other_roots_are_nobodys(world: &World, kind: Kind) -> anyhow::Result<()> {
    let code = JoinCode::parse(std::fs::read_to_string(CODE)?.trim())?.code;
    let (prefix, below) = match kind {
        Kind::Files => ("/".to_owned(), String::new()),
        Kind::Backend => (format!("/v2/{}/", world.tenant.id), format!("join/{code}/")),
    };
    let liar = Liar::start(world.now(), &prefix)?;
    let serve = |change: &dyn Fn(Vec<u8>) -> anyhow::Result<Vec<u8>>| -> anyhow::Result<()> {
        liar.truth();
        // As a backend asks strangers for a signature, and takes requests.
        let scheme = vec![("WWW-Authenticate", "Dirless-Ed25519".to_owned())];
        liar.say("", Answer::Status(401, scheme, Vec::new()));
        liar.say(&format!("join/{code}"), Answer::Status(201, Vec::new(), b"{}".to_vec()));
        for version in 1..=3 {
            let policy = std::fs::read(world.now().join(format!("policy/{version}")))?;
            liar.put(&format!("{below}policy/{version}"), change(policy)?);
        }
        Ok(())
    };
    let host = Host::new(&format!("roots-{kind:?}"))?;
    let join = || {
        let join = host.ours("dirless")?.args(["join", "--code-file", CODE, "--from"]);
        join.arg(liar.url()).run()
    };
    let (one, two) = (forge::stranger("root-1")?, forge::stranger("root-2")?);
    serve(&|policy| {
        let mut policy: Policy = forge::object(&policy)?;
        policy.roots = [one.verifying().clone(), two.verifying().clone()].into();
        Ok(Note::sign(print(&policy)?, &[&one, &two])?.to_string().into_bytes())
    })?;
    let refused = join()?;
    ensure!(
        refused.code() != 0 && refused.stderr.matches("(other-roots)").count() == 1,
        "{refused:?}"
    );
    ensure!(!host.config().exists(), "it joined all the same");
    serve(&Ok)?;
    let joined = join()?;
    ensure!(joined.code() == 0 && host.config().exists(), "{joined:?}");
    Ok(())
}

/// Classic bodies are never taken again: not because nothing else is served, and not because an old configuration came back.
pub(crate) fn nothing_leads_back_to_the_classic_protocol(world: &World, kind: Kind) -> anyhow::Result<()> {
    let mut scene = Scene::new(world, &format!("downgrade-{kind:?}"), &world.late, world.now(), kind)?;
    scene.host.start()?;
    for all in ["policy/", "head/", "manifest/", "blob/", "wrap/"] {
        scene.liar.say(
            all,
            Answer::Status(410, Vec::new(), b"this server speaks /v1 alone".to_vec()),
        );
    }
    told_once(&scene.host, &["no-head"])?;
    ensure!(
        !scene.liar.asked().iter().any(|line| line.contains("/v1/")),
        "{:?}",
        scene.liar.asked()
    );
    scene.liar.truth();
    ensure!(scene.host.refresh()?.is_empty());
    scene.host.stop()?;

    let joined = std::fs::read_to_string(scene.host.config())?;
    let (url, tenant) = (scene.liar.url(), &world.tenant.id);
    let classic = format!("[backend]\nurl = \"{url}\"\n[auth]\nhmac_secret = \"s\"\ntenant_id = \"{tenant}\"\n");
    let age_key = format!("{}\n", Identity::generate().expose().as_str());
    private(scene.host.config().with_file_name("age.key"), &age_key)?;
    private(scene.host.config(), &classic)?;
    let asked = scene.liar.asked().len();
    let ended = scene
        .host
        .start()
        .err()
        .context("it serves under a classic configuration")?;
    let ended = format!("{ended:#}");
    ensure!(ended.matches("(downgrade)").count() == 1, "{ended}");
    let said = scene.host.once()?;
    ensure!(
        said.len() == 1 && said.iter().any(|line| line.contains("(downgrade)")),
        "{said:#?}"
    );
    ensure!(scene.liar.asked().len() == asked, "{:?}", scene.liar.asked());
    scene.host.knows(&["alice", "carol"], &["bob"])?;
    private(scene.host.config(), &joined)?;
    scene.host.start()?;
    ensure!(scene.host.refresh()?.is_empty());
    scene.host.knows(&["alice", "carol"], &["bob"])
}

/// A bomb and a header of a crowd, signed by a stolen key, take the worker hardly more memory than the truth.
pub(crate) fn what_swells_costs_little(world: &World, kind: Kind) -> anyhow::Result<()> {
    /// Most that they may take beyond the truth, in KiB: a sixteenth of the bomb.
    const MORE: u64 = 64 << 10;
    let scene = Scene::new(world, &format!("bounds-{kind:?}"), &world.past, world.then(), kind)?;
    let usual = peak(&scene.host)?;
    for code in ["bomb", "header-too-large"] {
        scene.liar.truth();
        let forgery = scene.next_guests(&[("mallory", 5002)])?;
        let body = match code {
            "bomb" => forge::sealed(&forge::bomb()?, &forgery.manifest.recipient)?,
            _ => forge::crowded(100_000),
        };
        let forgery = forgery.with_body(body);
        // A host of the past for each.
        let mut host = scene.host.duplicate(&format!("bounds-{kind:?}-{code}"))?;
        forgery.tell(&scene.liar, &world.keys.guest)?;
        host.start()?;
        told_once(&host, &[code])?;
        let taken = peak(&host)?;
        ensure!(taken < usual + MORE, "{code}: {taken} KiB, usually {usual} KiB");
        host.knows(&["alice", "bob", "g-eve"], &["mallory"])?;
    }
    Ok(())
}

/// The most memory that a worker takes on this host, in KiB.
fn peak(host: &Host) -> anyhow::Result<u64> {
    // So that it looks at everything anew.
    std::fs::remove_file(host.state("agent/report.json"))?;
    let worker = host
        .command("python3")
        .args(["-c", PEAK])
        .arg(built("dirless-agent")?)
        .arg("publish");
    let said = worker.succeed()?;
    said.trim().parse().with_context(|| format!("no number: {said}"))
}
