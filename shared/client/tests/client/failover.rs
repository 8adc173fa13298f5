//! Several addresses, some of them bad in every way a network can be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{KEY, Names, builder, dead, raw, says, timeouts};
use bytes::Bytes;
use dirless_client::{Client, Error, Expected, Fetched, RetryPolicy, SnapshotHeaders, Timeouts};
use dirless_program::Clock;
use dirless_wire::{AgePublicKey, ETag, SourceName};
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood";

fn client(name: &str, addresses: &[SocketAddr]) -> Client {
    let names = Names::with(name, addresses);
    builder(&format!("http://{name}")).resolver(names).build().unwrap()
}

async fn fetch(client: &Client) -> (Result<Fetched, Error>, Vec<u8>) {
    let mut sink = Vec::new();
    let fetched = client
        .cycle()
        .get_snapshot(&SourceName::local(), None, 1000, &mut sink)
        .await;
    (fetched, sink)
}

#[tokio::test]
async fn a_dead_address_is_passed_by_and_remembered() {
    let (dead, good) = (dead().await, says(GOOD).await);
    // Whichever is picked first, a fetch works; after some the dead one was met.
    let client = client("backend.test", &[dead, good]);
    for _ in 0..20 {
        let (fetched, sink) = fetch(&client).await;
        assert!(matches!(fetched, Ok(Fetched::Body(_))), "{fetched:?}");
        assert_eq!(sink, b"good");
    }
    let failed: Vec<_> = client
        .backends()
        .into_iter()
        .filter(|backend| backend.failure.is_some())
        .collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].name.contains("backend.test"));
    let reason = &failed[0].failure.as_ref().unwrap().1;
    assert!(reason.to_lowercase().contains("refused"), "{reason}");
}

#[tokio::test]
async fn every_nasty_answer_fails_over_and_leaves_a_clean_sink() {
    let nasty: [&[u8]; 7] = [
        b"",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 16\r\n\r\n{\"error\":\"busy\"}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part of it",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ];
    for bytes in nasty {
        let (bad, good) = (says(bytes).await, says(GOOD).await);
        let client = client("backend.test", &[bad, good]);
        let mut met = false;
        for _ in 0..20 {
            let (fetched, sink) = fetch(&client).await;
            assert!(matches!(fetched, Ok(Fetched::Body(_))), "{fetched:?}");
            assert_eq!(sink, b"good", "after {:?}", String::from_utf8_lossy(bytes));
            met |= client.backends().iter().any(|backend| backend.failure.is_some());
        }
        assert!(met, "{:?} was never tried", String::from_utf8_lossy(bytes));
        let alone = self::client("backend.test", &[says(bytes).await]);
        let (fetched, _) = fetch(&alone).await;
        let Err(Error::Unavailable { tried }) = fetched else {
            panic!("{fetched:?}");
        };
        assert_eq!(tried.len(), 1);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_at_the_limit() {
    let endless = raw("127.0.0.1:0", |_, mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        while stream.write_all(b"400\r\n").await.is_ok()
            && stream.write_all(&[b'x'; 1024]).await.is_ok()
            && stream.write_all(b"\r\n").await.is_ok()
        {}
    })
    .await;
    let client = client("backend.test", &[endless]);
    let (fetched, sink) = fetch(&client).await;
    assert!(
        matches!(fetched, Err(Error::BodyTooLarge { limit: 1000, .. })),
        "{fetched:?}"
    );
    assert!(sink.len() <= 1000);
    let json = client.cycle().get_public_key().await;
    assert!(matches!(json, Err(Error::BodyTooLarge { .. })), "{json:?}");
}

#[tokio::test]
async fn a_compressed_bomb_is_cut_at_the_limit_too() {
    let bomb = gzip_of_zeros(10 << 20);
    assert!(bomb.len() < 100_000);
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    )
    .into_bytes();
    answer.extend_from_slice(&bomb);
    let client = client("backend.test", &[says(answer).await]);
    let (fetched, sink) = fetch(&client).await;
    assert!(matches!(fetched, Err(Error::BodyTooLarge { .. })), "{fetched:?}");
    assert!(sink.len() <= 1000);
}

fn gzip_of_zeros(count: usize) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; count]).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_drip_of_bytes_runs_into_the_deadline() {
    let dripping = raw("127.0.0.1:0", |_, mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
            .await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let names = Names::with("backend.test", &[dripping]);
    let short = Timeouts {
        fetch: Duration::from_millis(300),
        ..timeouts()
    };
    let client = builder("http://backend.test")
        .resolver(names)
        .timeouts(short)
        .build()
        .unwrap();
    let begin = std::time::Instant::now();
    let (fetched, _) = fetch(&client).await;
    let Err(Error::Unavailable { tried }) = fetched else {
        panic!("{fetched:?}");
    };
    assert!(tried[0].reason.contains("timeout"), "{tried:?}");
    assert!(begin.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn one_cycle_stays_with_one_backend() {
    let hits: Vec<Arc<AtomicUsize>> = (0..3).map(|_| Arc::default()).collect();
    let mut addresses = Vec::new();
    for counter in &hits {
        let counter = Arc::clone(counter);
        let answer = move |_, mut stream: tokio::net::TcpStream| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move {
                let _ = stream.write_all(GOOD.as_bytes()).await;
            }
        };
        addresses.push(raw("127.0.0.1:0", answer).await);
    }
    let client = client("backend.test", &addresses);
    let cycle = client.cycle();
    for _ in 0..6 {
        let fetched = cycle
            .get_snapshot(&SourceName::local(), None, 10, &mut Vec::new())
            .await;
        assert!(matches!(fetched, Ok(Fetched::Body(_))), "{fetched:?}");
    }
    let used: Vec<_> = hits
        .iter()
        .map(|counter| counter.load(Ordering::SeqCst))
        .filter(|&count| count > 0)
        .collect();
    assert_eq!(used, [6]);
    for _ in 0..40 {
        let _ = fetch(&client).await;
    }
    assert!(
        hits.iter().all(|counter| counter.load(Ordering::SeqCst) > 0),
        "cycles spread"
    );
}

#[tokio::test]
async fn a_failed_backend_is_readmitted_after_its_time_or_by_a_probe() {
    let port = dead().await;
    let good = says(GOOD).await;
    let names = Names::with("backend.test", &[port, good]);
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let build = builder("http://backend.test").resolver(names).clock(clock.clone());
    let client = build.readmit_after(Duration::from_secs(300)).build().unwrap();
    while client.backends().iter().all(|backend| backend.failure.is_none()) {
        let (fetched, _) = fetch(&client).await;
        assert!(fetched.is_ok());
    }
    let since = |client: &Client| {
        client
            .backends()
            .into_iter()
            .find_map(|backend| backend.failure)
            .map(|(at, _)| at)
    };
    assert_eq!(since(&client), Some(Timestamp::UNIX_EPOCH));
    clock.advance(Duration::from_secs(299));
    for _ in 0..20 {
        let _ = fetch(&client).await;
    }
    assert_eq!(since(&client), Some(Timestamp::UNIX_EPOCH), "tried before its time");
    clock.advance(Duration::from_secs(1));
    while since(&client) == Some(Timestamp::UNIX_EPOCH) {
        let (fetched, _) = fetch(&client).await;
        assert!(fetched.is_ok());
    }
    let again = raw(&port.to_string(), |_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    assert_eq!(again, port);
    let probed = client.probe().await;
    assert_eq!(probed.len(), 2);
    assert!(probed.iter().all(|result| result.outcome.is_ok()), "{probed:?}");
    assert_eq!(since(&client), None);
}

#[tokio::test]
async fn addresses_follow_the_name_and_outlive_its_failure() {
    let (first, second) = (says(GOOD).await, says(GOOD.replace("good", "next")).await);
    let names = Names::with("backend.test", &[first]);
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let build = builder("http://backend.test")
        .resolver(Arc::clone(&names) as Arc<_>)
        .clock(clock.clone());
    let client = build.resolve_every(Duration::from_secs(30)).build().unwrap();
    assert_eq!(fetch(&client).await.1, b"good");
    names.set("backend.test", &[second]);
    assert_eq!(fetch(&client).await.1, b"good", "asked again too early");
    clock.advance(Duration::from_secs(30));
    assert_eq!(fetch(&client).await.1, b"next");
    names.set("backend.test", &[]);
    clock.advance(Duration::from_secs(30));
    assert_eq!(fetch(&client).await.1, b"next");
}

#[tokio::test]
async fn a_name_without_address_is_told() {
    let client = client("other.test", &[]);
    let (fetched, _) = fetch(&client).await;
    let text = fetched.unwrap_err().to_string();
    assert!(text.contains("other.test") && text.contains("no address"), "{text}");
    let unknown = builder("http://unknown.test")
        .resolver(Names::with("x", &[]))
        .build()
        .unwrap();
    let text = fetch(&unknown).await.0.unwrap_err().to_string();
    assert!(text.contains("cannot resolve unknown.test"), "{text}");
    assert_eq!(unknown.probe().await.len(), 1);
}

#[tokio::test]
async fn rounds_repeat_until_a_backend_is_there() {
    let flaky = raw("127.0.0.1:0", |number, mut stream| async move {
        if number >= 2 {
            let _ = stream.write_all(GOOD.as_bytes()).await;
        }
    })
    .await;
    let retry = |rounds| RetryPolicy {
        rounds,
        first: Duration::from_millis(1),
        ceiling: Duration::from_millis(5),
    };
    let build = |rounds| {
        builder(&format!("http://{flaky}"))
            .retry(retry(rounds))
            .build()
            .unwrap()
    };
    let (fetched, _) = fetch(&build(2)).await;
    assert!(matches!(fetched, Err(Error::Unavailable { tried }) if tried.len() == 2));
    assert_eq!(fetch(&build(1)).await.1, b"good");
}

#[tokio::test]
async fn a_conditional_write_that_may_have_arrived_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let seen = Arc::clone(&seen);
        let swallow = move |_, stream: tokio::net::TcpStream| {
            seen.fetch_add(1, Ordering::SeqCst);
            async move { drop(stream) }
        };
        addresses.push(raw("127.0.0.1:0", swallow).await);
    }
    let names = Names::with("backend.test", &addresses);
    let retry = RetryPolicy {
        rounds: 3,
        first: Duration::from_millis(1),
        ceiling: Duration::from_millis(5),
    };
    let client = builder("http://backend.test")
        .resolver(names)
        .retry(retry)
        .build()
        .unwrap();
    let put = |expected| {
        let headers = SnapshotHeaders::for_recipient(AgePublicKey::new(KEY).unwrap());
        let cycle = client.cycle();
        let body = Bytes::from_static(b"x");
        async move {
            cycle
                .put_snapshot(&SourceName::local(), &headers, body, &expected)
                .await
        }
    };
    let conditional = put(Expected::Tag(ETag::strong("a").unwrap())).await;
    assert!(matches!(conditional, Err(Error::Unavailable { .. })), "{conditional:?}");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    let plain = put(Expected::Anything).await;
    assert!(matches!(plain, Err(Error::Unavailable { .. })));
    assert_eq!(seen.load(Ordering::SeqCst), 1 + 2 * 3, "two addresses, three rounds");
}
