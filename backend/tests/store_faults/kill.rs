//! Kill -9 under load: what was acknowledged is there, nothing else is damaged.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use dirless_backend::store::{
    Beat, Expected, Generation, HeartbeatLimits, HeartbeatSink, ObjectPut, PutOutcome, SnapshotPut, SourceState,
    SpooledBody, Store, TenantHandle, TrustHandle, verify,
};
use dirless_wire::trust::ObjectPath;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::common::{noise, open, origin, path, source, tenant, trusted};

/// Times the writer is killed.
const ROUNDS: usize = 200;
/// Sources written at once, each by a task of its own.
const WRITERS: usize = 16;
/// Where the object that the head was acknowledged to name is noted; objects themselves stand under [`WRITERS`].
const HEADS: usize = WRITERS + 1;
/// Longest life of a writer after its first acknowledgement, or after its start.
const LONGEST: Duration = Duration::from_millis(60);

/// The body of a generation: most are short, one in eight takes two chunks.
fn body(writer: usize, generation: u64) -> Vec<u8> {
    let seed = ((writer as u64) << 32) | generation;
    match generation % 8 {
        0 => noise(seed, 70_000).repeat(16),
        other => noise(seed, 300 + usize::try_from(other).unwrap() * 7_000),
    }
}

/// The child: every acknowledged write is a line `WRITER GENERATION` on standard output.
pub(crate) fn write_until_killed(folder: &Path) {
    crate::block_on(async {
        let store = open(folder);
        let handle = tenant(&store, "acme", "t1").await;
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            tasks.spawn(write_one(store.clone(), handle.clone(), writer));
        }
        tasks.spawn(write_objects(store.clone()));
        tasks.spawn(beat(store, handle));
        tasks.join_all().await;
    });
}

async fn write_one(store: Store, handle: TenantHandle, writer: usize) {
    let name = source(&format!("s{writer}"));
    let mut generation = generation_of(&handle, writer).await;
    loop {
        generation += 1;
        let mut spool = store.body_writer(u64::MAX);
        spool.write(&body(writer, generation)).await.unwrap();
        let body: SpooledBody = spool.finish().await.unwrap();
        let put = handle.put_snapshot(&name, SnapshotPut::default(), body, origin()).await;
        let Ok(PutOutcome::Stored(meta)) = put else {
            panic!("{put:?}")
        };
        assert_eq!(meta.generation, Generation(generation));
        // One write call, so that lines of several tasks do not mix.
        std::io::stdout()
            .lock()
            .write_all(format!("{writer} {generation}\n").as_bytes())
            .unwrap();
    }
}

/// Objects, each written once, beside a head that follows; acknowledged as those of writer [`WRITERS`].
async fn write_objects(store: Store) {
    let tenant = trusted(&store, "v1").await;
    let head = path("head/syncer");
    let mut number = newest_object(&tenant).await;
    loop {
        number += 1;
        let once = object(&body(WRITERS, number));
        let put = tenant
            .put_object(&policy(number), Expected::Anything, once, origin())
            .await;
        assert!(matches!(put, Ok(ObjectPut::Stored(_))), "{put:?}");
        let before = tenant.object(&head, u64::MAX).await.unwrap();
        let expected = before.map_or(Expected::Nothing, |(meta, _)| Expected::Tag(meta.etag));
        let swap = tenant
            .put_object(&head, expected, object(number.to_string().as_bytes()), origin())
            .await;
        assert!(
            matches!(swap, Ok(ObjectPut::Stored(_) | ObjectPut::Same(_))),
            "{swap:?}"
        );
        std::io::stdout()
            .lock()
            .write_all(format!("{WRITERS} {number}\n").as_bytes())
            .unwrap();
    }
}

fn policy(number: u64) -> ObjectPath {
    path(&format!("policy/{number}"))
}

fn object(bytes: &[u8]) -> SpooledBody {
    SpooledBody::from_bytes(Bytes::copy_from_slice(bytes))
}

async fn newest_object(tenant: &TrustHandle) -> u64 {
    let mut number = match tenant.object(&path("head/syncer"), u64::MAX).await.unwrap() {
        Some((_, bytes)) => std::str::from_utf8(&bytes.unwrap()).unwrap().parse().unwrap(),
        None => 0,
    };
    // The policy is written before the head that names it.
    while tenant.object(&policy(number + 1), 0).await.unwrap().is_some() {
        number += 1;
    }
    number
}

/// Heartbeats and sweeping run beside, as in the server.
async fn beat(store: Store, handle: TenantHandle) {
    let sink = HeartbeatSink::new(store.clone(), HeartbeatLimits::default());
    for number in 0u64.. {
        let agent_id = format!("agent-{}", number % 500);
        let _absorbed = sink.beat(
            &handle,
            Beat {
                agent_id: &agent_id,
                hostname: "vm",
                extras: None,
            },
        );
        if number % 50 == 0 {
            sink.flush().await.unwrap();
            store.sweep().await.unwrap();
        }
    }
}

async fn generation_of(handle: &TenantHandle, writer: usize) -> u64 {
    match handle.source(&source(&format!("s{writer}"))).await.unwrap() {
        SourceState::Present(meta) => meta.generation.0,
        SourceState::Absent => 0,
        SourceState::Deleted { .. } => panic!("nobody deletes here"),
    }
}

pub(crate) fn test() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<usize, u64> = BTreeMap::new();
    drop(open(folder.path()));
    let mut total = 0;
    for round in 0..ROUNDS {
        for (writer, generation) in run_and_kill(folder.path()) {
            total += 1;
            // An acknowledged object is one that the head names.
            let heads = (writer == WRITERS).then_some(HEADS);
            for place in [Some(writer), heads].into_iter().flatten() {
                let newest = acknowledged.entry(place).or_default();
                *newest = generation.max(*newest);
            }
        }
        let seen = verify(folder.path()).unwrap();
        assert!(seen.is_clean(), "round {round}: {:?}", seen.problems);
        check(folder.path(), &mut acknowledged, round);
    }
    // Three rounds of four wait for an acknowledgement; a machine under load gives few more.
    assert!(total >= ROUNDS / 2, "only {total} writes were acknowledged");
    println!("{total} acknowledged writes survived {ROUNDS} kills");
}

/// Starts a writer, kills it at a random moment, and gives what it had acknowledged.
fn run_and_kill(folder: &Path) -> Vec<(usize, u64)> {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program)
        .arg("writer")
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    let life = Duration::from_micros(random_below(u64::try_from(LONGEST.as_micros()).unwrap()));
    let (first, acknowledged) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        while lines.read_line(&mut text).unwrap() > 0 {
            let _killed_already = first.send(());
        }
        text
    });
    // One in four may die while it opens the store and recovers from the last time; the others
    // are at work.
    if !random_below(4).is_multiple_of(4) {
        acknowledged.recv_timeout(Duration::from_secs(30)).unwrap();
    }
    std::thread::sleep(life);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let text = reader.join().unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(status.signal(), Some(9), "the writer ended by itself: {status}");
    // A last line may be cut; it counts as acknowledged only when it is whole.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _cut)| whole);
    whole.lines().map(parse).collect()
}

/// The object that was there before or acknowledged since is there, and the head names the acknowledged one or a later one that
/// is there: rounds may be cut off between both writes, again and again.
async fn check_objects(store: &Store, acknowledged: u64, head: u64, round: usize) -> u64 {
    let tenant = trusted(store, "v1").await;
    let newest = newest_object(&tenant).await;
    assert!(
        (acknowledged..=acknowledged + 1).contains(&newest),
        "round {round}: {newest}, {acknowledged}"
    );
    for number in [acknowledged, newest] {
        let (_, bytes) = tenant.object(&policy(number), u64::MAX).await.unwrap().unwrap();
        assert!(
            bytes.unwrap() == body(WRITERS, number),
            "round {round}: policy {number}"
        );
    }
    let (_, bytes) = tenant.object(&path("head/syncer"), u64::MAX).await.unwrap().unwrap();
    let named: u64 = std::str::from_utf8(&bytes.unwrap()).unwrap().parse().unwrap();
    assert!(
        (head..=newest).contains(&named),
        "round {round}: the head names {named}, acknowledged {head}, there is {newest}"
    );
    newest
}

fn parse(line: &str) -> (usize, u64) {
    let (writer, generation) = line.split_once(' ').unwrap();
    (writer.parse().unwrap(), generation.parse().unwrap())
}

fn random_below(top: u64) -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % top
}

/// Every source holds the acknowledged generation or the one after, and exactly its body.
fn check(folder: &Path, acknowledged: &mut BTreeMap<usize, u64>, round: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = open(folder);
        let handle = tenant(&store, "acme", "t1").await;
        let head = acknowledged.get(&HEADS).copied().unwrap_or_default();
        for (writer, newest) in acknowledged.iter_mut() {
            if *writer == WRITERS {
                *newest = check_objects(&store, *newest, head, round).await;
            }
            if [WRITERS, HEADS].contains(writer) {
                continue;
            }
            let (state, bytes) = handle.snapshot(&source(&format!("s{writer}")), u64::MAX).await.unwrap();
            let SourceState::Present(meta) = state else {
                panic!("round {round}: source {writer} is gone")
            };
            let found = meta.generation.0;
            assert!(
                (*newest..=*newest + 1).contains(&found),
                "round {round}: {found}, acknowledged {newest}"
            );
            assert!(
                bytes == Some(Bytes::from(body(*writer, found))),
                "round {round}: body of {writer}"
            );
            // What was committed without an answer is where the next writer begins.
            *newest = found;
        }
        store.close().await;
    });
}
