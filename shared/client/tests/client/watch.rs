//! Streams of notices.

use std::time::Duration;

use dirless_client::Error;
use dirless_wire::{ETag, KEEP_OPEN, Notice};
use tokio::io::AsyncWriteExt;

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
