//! What a connection is read from and written to: a socket, plain or under TLS.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// A socket, plain or under TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Writes bytes that are followed by more at once, so that they share packets, and wake their reader
    /// together.
    fn poll_write_more(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends from a file without reading it: `Unsupported` where what is sent is not what lies there.
    fn poll_send_file(
        &mut self,
        _context: &mut Context<'_>,
        _file: &File,
        _offset: u64,
        _length: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for TlsStream<T> {
    fn poll_write_more(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(context, bytes)
    }
}

/// The same words for both kinds of socket, which share no trait.
macro_rules! socket {
    ($kind:ty) => {
        impl Stream for $kind {
            fn poll_write_more(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                loop {
                    ready!(self.poll_write_ready(context))?;
                    match self.try_io(Interest::WRITABLE, || Ok(send(&*self, bytes, flags)?)) {
                        Err(error) if again(&error) => {}
                        outcome => return Poll::Ready(outcome),
                    }
                }
            }

            fn poll_send_file(
                &mut self,
                context: &mut Context<'_>,
                file: &File,
                offset: u64,
                length: usize,
            ) -> Poll<io::Result<usize>> {
                loop {
                    ready!(self.poll_write_ready(context))?;
                    let mut from = offset;
                    let sent = || Ok(rustix::fs::sendfile(&*self, file, Some(&mut from), length)?);
                    match self.try_io(Interest::WRITABLE, sent) {
                        Err(error) if again(&error) => {}
                        outcome => return Poll::Ready(outcome),
                    }
                }
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
