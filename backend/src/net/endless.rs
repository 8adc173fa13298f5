//! Answers without an end, written without hyper.
//!
//! hyper keeps two buffers of 8 KiB for a connection and a state of some kilobytes, whether anything moves or not. A host that
//! waits for notices needs none of them: once the head of its answer is made, the socket is all that is left.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::response::Parts;
use http::{HeaderName, Response};
use http_body::{Body, Frame};
use hyper::header::{CONNECTION, DATE, TRANSFER_ENCODING};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::http::ReplyBody;

/// How much a client may send that has nothing to say any more.
const IDLE_TALK: usize = 64 * 1024;

/// Where an answer without an end is left for whoever serves the connection.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<Mutex<Option<Box<Response<ReplyBody>>>>>);

impl Handover {
    pub(super) fn leave(&self, answer: Box<Response<ReplyBody>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    pub(super) fn take(&self) -> Option<Box<Response<ReplyBody>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Writes an answer to a GET of HTTP/1.1 (RFC 9112) until its body ends or the client hangs up. No request follows on the
/// connection.
///
/// # Errors
/// When the client cannot be written to, or the body breaks off.
pub(super) async fn write<S>(stream: &mut S, answer: Response<ReplyBody>, now: Timestamp) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (head, mut body) = answer.into_parts();
    let head = head_of(&head, now);
    stream.write_all(&head).await?;
    stream.flush().await?;
    drop(head);
    let mut heard = 0;
    loop {
        let Some(frame) = poll_fn(|cx| next(stream, &mut body, &mut heard, cx)).await else {
            stream.write_all(b"0\r\n\r\n").await?;
            return stream.flush().await;
        };
        // Trailers have nowhere to go, and an empty chunk would be the end.
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else {
            continue;
        };
        if !data.is_empty() {
            let mut chunk = Vec::with_capacity(data.len() + 16);
            write!(chunk, "{:x}\r\n", data.len())?;
            chunk.extend_from_slice(&data);
            chunk.extend_from_slice(b"\r\n");
            stream.write_all(&chunk).await?;
            stream.flush().await?;
        }
    }
}

fn head_of(head: &Parts, now: Timestamp) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    let mut field = |name: &HeaderName, value: &[u8]| {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    };
    for (name, value) in &head.headers {
        field(name, value.as_bytes());
    }
    field(&TRANSFER_ENCODING, b"chunked");
    field(&CONNECTION, b"close");
    // A time that cannot be written is left out: the field is for those who have a clock.
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&now) {
        field(&DATE, date.as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// The next piece of the body; an error when the client hangs up first.
fn next<S: AsyncRead + Unpin>(
    stream: &mut S,
    body: &mut ReplyBody,
    heard: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Option<io::Result<Frame<bytes::Bytes>>>> {
    if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
        return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
    }
    let mut room = [0; 256];
    while *heard <= IDLE_TALK {
        let mut read = ReadBuf::new(&mut room);
        match Pin::new(&mut *stream).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) if !read.filled().is_empty() => *heard += read.filled().len(),
            Poll::Ready(Ok(())) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Some(Err(io::Error::other("the client talks and does not listen"))))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn answer(pieces: &[&'static str], goes_on: bool) -> Response<ReplyBody> {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, io::Error>(bytes::Bytes::from_static(piece.as_bytes())))
            .collect();
        let pieces = stream::iter(pieces);
        let body = if goes_on {
            use futures_util::StreamExt as _;
            axum::body::Body::from_stream(pieces.chain(stream::pending()))
        } else {
            axum::body::Body::from_stream(pieces)
        };
        let mut answer = Response::new(ReplyBody::Stream(body));
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        answer
    }

    #[tokio::test]
    async fn pieces_go_out_as_chunks_and_the_end_is_said() {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        write(&mut ours, answer(&["event: x\n", "", ":\n\n"], false), now)
            .await
            .unwrap();
        drop(ours);
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        let expected = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\
                        date: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\n9\r\nevent: x\n\r\n3\r\n:\n\n\r\n0\r\n\r\n";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_or_talks_on_ends_it() {
        for talk in [0, IDLE_TALK + 1] {
            let (mut ours, mut theirs) = tokio::io::duplex(256 * 1024);
            theirs.write_all(&vec![b'x'; talk]).await.unwrap();
            if talk == 0 {
                theirs.shutdown().await.unwrap();
            }
            let outcome = write(&mut ours, answer(&["a"], true), Timestamp::UNIX_EPOCH).await;
            assert!(outcome.is_err(), "{talk}");
        }
    }
}
