//! Streams of notices.

use std::sync::Arc;
use std::time::Duration;

use dirless_client::{Error, Notices, Rhythm};
use dirless_wire::{ETag, KEEP_OPEN, Notice};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::support::{builder, raw};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

fn state(tag: &str) -> Notice {
    Notice::State(ETag::parse(tag).unwrap(), None)
}

#[tokio::test]
async fn notices_come_as_they_are_sent_and_longer_than_a_call_may_take() {
    let address = raw("127.0.0.1:0", |_, mut stream| async move {
        stream.write_all(HEAD).await.unwrap();
        let bytes = [state("\"a\"").to_bytes(), KEEP_OPEN.to_vec(), state("\"b\"").to_bytes()].concat();
        for piece in bytes.chunks(7) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.write_all(piece).await.unwrap();
        }
    })
    .await;
    let url = format!("http://{address}");
    let mut timeouts = crate::support::timeouts();
    timeouts.call = Duration::from_millis(300);
    let client = builder(&url).timeouts(timeouts).build().unwrap();
    let mut stream = client.watch().await.unwrap().unwrap();
    assert!(stream.backend().contains(&address.ip().to_string()));
    assert_eq!(stream.next().await, Some(state("\"a\"")));
    assert_eq!(stream.next().await, Some(state("\"b\"")));
    assert_eq!(stream.next().await, None, "it broke off");
}

#[tokio::test]
async fn a_backend_without_them_is_told_from_one_that_fails() {
    let answers = |answer: &'static [u8]| async move {
        let address = raw("127.0.0.1:0", move |_, mut stream| async move {
            stream.write_all(answer).await.unwrap();
        })
        .await;
        builder(&format!("http://{address}")).build().unwrap().watch().await
    };
    let deployed = answers(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    assert!(deployed.unwrap().is_none());
    let page = answers(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n").await;
    assert!(matches!(page, Err(Error::Malformed { .. })), "{page:?}");
    let full = answers(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n").await;
    assert!(matches!(full, Err(Error::Unavailable { .. })), "{full:?}");
    let refused = answers(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
    assert!(matches!(refused, Err(Error::Unauthorized)), "{refused:?}");
}

#[tokio::test]
async fn an_endless_line_ends_the_stream() {
    let address = raw("127.0.0.1:0", |_, mut stream| async move {
        stream.write_all(HEAD).await.unwrap();
        while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
    })
    .await;
    let client = builder(&format!("http://{address}")).build().unwrap();
    assert_eq!(client.watch().await.unwrap().unwrap().next().await, None);
}

fn head(publisher: &str, text: &str) -> Notice {
    Notice::Head(format!("dirless/head/v1\ntenant x\npublisher {publisher}\n{text}\n").into_bytes())
}

/// Listens to a backend that writes these pieces on the first stream, each once the one before was seen, and then ends it.
async fn listener(pieces: Vec<Vec<u8>>) -> (Notices, mpsc::Sender<()>) {
    let (go, seen) = mpsc::channel::<()>(1);
    let seen = Arc::new(tokio::sync::Mutex::new(seen));
    let pieces = Arc::new(pieces);
    let address = raw("127.0.0.1:0", move |number, mut stream| {
        let (seen, pieces) = (Arc::clone(&seen), Arc::clone(&pieces));
        async move {
            if number > 0 {
                return;
            }
            stream.write_all(HEAD).await.unwrap();
            for piece in pieces.iter() {
                stream.write_all(piece).await.unwrap();
                seen.lock().await.recv().await;
            }
        }
    })
    .await;
    let client = builder(&format!("http://{address}")).build().unwrap();
    let hour = Duration::from_secs(3600);
    let rhythm = Rhythm {
        interval: hour,
        jitter: hour,
        splay: hour,
    };
    (Notices::start(client, rhythm), go)
}

#[tokio::test]
async fn heads_that_come_in_one_piece_are_all_heard() {
    let (a, b) = (head("a", "1"), head("b", "1"));
    let (mut notices, _go) = listener(vec![[a.to_bytes(), b.to_bytes()].concat()]).await;
    let mut heard = notices.next().await;
    while heard.len() < 2 {
        heard.extend(notices.next().await);
    }
    assert_eq!(heard, [a, b]);
}

#[tokio::test]
async fn what_is_told_while_nobody_listens_is_kept_for_each_publisher() {
    let first = head("a", "1");
    let told = [
        Notice::Changed,
        head("a", "2"),
        head("b", "1"),
        head("b", "2"),
        state("\"t\""),
    ];
    let bytes = told.iter().map(Notice::to_bytes);
    let (mut notices, go) = listener([first.to_bytes()].into_iter().chain(bytes).collect()).await;
    assert_eq!(notices.next().await, [first]);
    for _ in 0..=told.len() {
        go.send(()).await.unwrap();
    }
    while notices.backend().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        notices.next().await,
        [Notice::Changed, head("a", "2"), head("b", "2"), state("\"t\"")]
    );
}
