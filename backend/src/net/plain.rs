//! Plain HTTP's socket: like [`TcpStream`], except that a body with a copy for the kernel is sent from
//! that copy.
//!
//! hyper hands over slices of memory. Those that lie within the body which this connection is to send
//! ([`Outgoing`]) are recognised by where they are, so nothing depends on how hyper cuts its writes, and
//! what is not recognised is written as ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::kept::Kept;

/// The body that a connection is about to send. Kept here it cannot be freed, so that nothing else is
/// ever at its place in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing(Arc<Mutex<Option<Kept>>>);

impl Outgoing {
    /// Notes the body of the answer that is given to hyper next.
    pub(super) fn announce(&self, body: &Kept) {
        if body.copy().is_some() {
            *self.lock() = Some(body.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct Plain {
    stream: TcpStream,
    outgoing: Outgoing,
}

impl Plain {
    pub(super) fn new(stream: TcpStream, outgoing: Outgoing) -> Self {
        Self { stream, outgoing }
    }

    /// Sends what of `slices` can be sent by the kernel. `None` when it is to be written as ever.
    fn poll_send(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Option<Poll<io::Result<usize>>> {
        let mut outgoing = self.outgoing.lock();
        let body = outgoing.as_ref()?;
        // The head and the body after it, or the body alone.
        let (head, part) = match slices {
            [part, ..] if body.place_of(part).is_some() => (None, part),
            [head, part, ..] if body.place_of(part).is_some() => (Some(head), part),
            _ => return None,
        };
        let place = body.place_of(part)?;
        let sent = self.poll_both(cx, head.map(|head| &**head), body, (place, part.len()));
        match sent {
            // Whatever is wrong, the ordinary way finds and tells it.
            Poll::Ready(Err(_)) => {
                *outgoing = None;
                None
            }
            Poll::Ready(Ok((head, part))) => {
                if place + part == body.bytes().len() {
                    *outgoing = None;
                }
                Some(Poll::Ready(Ok(head + part)))
            }
            Poll::Pending => Some(Poll::Pending),
        }
    }

    /// How much was sent of the head and of the part of the body. An error only when nothing was.
    fn poll_both(
        &self,
        cx: &mut Context<'_>,
        head: Option<&[u8]>,
        body: &Kept,
        (place, length): (usize, usize),
    ) -> Poll<io::Result<(usize, usize)>> {
        let Some(copy) = body.copy() else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let mut before = 0;
        if let Some(head) = head {
            // More follows at once: head and body share packets.
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            before = ready!(self.poll_try(cx, || Ok(send(&self.stream, head, flags)?)))?;
            if before < head.len() {
                return Poll::Ready(Ok((before, 0)));
            }
        }
        let sent = self.poll_try(cx, || {
            let mut offset = place as u64;
            Ok(rustix::fs::sendfile(&self.stream, copy, Some(&mut offset), length)?)
        });
        match sent {
            Poll::Ready(Ok(part)) => Poll::Ready(Ok((before, part))),
            _ if before > 0 => Poll::Ready(Ok((before, 0))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_try(&self, cx: &mut Context<'_>, mut call: impl FnMut() -> io::Result<usize>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, &mut call) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.poll_send(cx, &[IoSlice::new(buf)]) {
            Some(outcome) => outcome,
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (self.poll_send(cx, bufs), bufs) {
            (Some(outcome), _) => outcome,
            // A head alone, as in most answers: send(2) costs the kernel less than writev(2).
            (None, [one]) => Pin::new(&mut self.stream).poll_write(cx, one),
            (None, _) => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    fn body(length: usize) -> Kept {
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        Kept::from(Bytes::from(bytes)).with_copy(&std::env::temp_dir())
    }

    /// Sends head, body and tail as hyper does, and gives what arrived.
    async fn through(plain: &mut Plain, mut far: TcpStream, parts: &[&[u8]]) -> Vec<u8> {
        let receiving = tokio::spawn(async move {
            let mut whole = Vec::new();
            far.read_to_end(&mut whole).await.unwrap();
            whole
        });
        let mut rest: Vec<&[u8]> = parts.to_vec();
        while !rest.is_empty() {
            let slices: Vec<_> = rest.iter().map(|part| IoSlice::new(part)).collect();
            let mut sent = plain.write_vectored(&slices).await.unwrap();
            assert!(sent > 0);
            while let Some(first) = rest.first_mut() {
                if sent < first.len() {
                    *first = &first[sent..];
                    break;
                }
                sent -= first.len();
                rest.remove(0);
            }
        }
        plain.shutdown().await.unwrap();
        receiving.await.unwrap()
    }

    #[tokio::test]
    async fn a_long_body_arrives_whole_between_what_is_before_and_after_it() {
        let (near, far) = pair().await;
        let outgoing = Outgoing::default();
        let body = body(9_000_000);
        outgoing.announce(&body);
        let mut plain = Plain::new(near, outgoing.clone());
        let bytes = body.bytes().clone();
        let got = through(&mut plain, far, &[b"head", &bytes, b"tail"]).await;
        assert!(got == [b"head", &bytes[..], b"tail"].concat());
        assert!(outgoing.lock().is_none(), "what was sent is not held");
    }

    #[tokio::test]
    async fn the_kernel_sends_from_the_copy_and_from_the_right_place() {
        // A copy of other bytes than the memory's shows which of the two was sent.
        let (near, far) = pair().await;
        let memory = Bytes::from(vec![b'm'; 90_000]);
        let forged = body(90_000).instead_of(memory.clone());
        let outgoing = Outgoing::default();
        outgoing.announce(&forged);
        let mut plain = Plain::new(near, outgoing);
        let got = through(&mut plain, far, &[&memory[7..]]).await;
        assert!(got == body(90_000).bytes()[7..]);
    }

    #[tokio::test]
    async fn other_bytes_are_written_as_they_are_while_a_body_is_announced() {
        let (near, far) = pair().await;
        let outgoing = Outgoing::default();
        outgoing.announce(&body(90_000));
        let mut plain = Plain::new(near, outgoing);
        let other = vec![b'o'; 90_000];
        assert!(through(&mut plain, far, &[b"head", &other]).await == [b"head", &other[..]].concat());
    }

    #[tokio::test]
    async fn a_body_without_a_copy_is_not_held() {
        let outgoing = Outgoing::default();
        outgoing.announce(&Kept::from(Bytes::from_static(b"short")));
        assert!(outgoing.lock().is_none());
    }

    #[tokio::test]
    async fn a_reader_that_went_away_is_an_error_and_lets_go_of_the_body() {
        let (near, far) = pair().await;
        drop(far);
        let outgoing = Outgoing::default();
        let body = body(3_000_000);
        outgoing.announce(&body);
        let mut plain = Plain::new(near, outgoing.clone());
        let bytes = body.bytes().clone();
        let mut rest = &bytes[..];
        let failed = loop {
            match plain.write(rest).await {
                Ok(sent) => rest = &rest[sent..],
                Err(error) => break error,
            }
            if rest.is_empty() {
                rest = &bytes;
                outgoing.announce(&body);
            }
        };
        assert!(
            matches!(
                failed.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ),
            "{failed}"
        );
        assert!(outgoing.lock().is_none());
    }
}
