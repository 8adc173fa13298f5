//! Hosts that only listen, on a bare connection: the same for every server, so that servers can be compared.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::event::{Desk, What};

/// How one listens at a server.
#[derive(Clone, Debug)]
pub struct Listening {
    /// What is sent first.
    pub request: Arc<[u8]>,
    /// Has come when one listens.
    pub ready: &'static [u8],
    /// Comes with each message, near its beginning.
    pub message: &'static [u8],
}

/// Is `what` in `piece`?
fn holds(piece: &[u8], what: &[u8]) -> bool {
    piece.windows(what.len().max(1)).any(|window| window == what)
}

impl Listening {
    /// Connects and waits until one listens.
    ///
    /// # Errors
    /// When the server cannot be reached or hangs up.
    pub async fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.request).await?;
        let mut said = Vec::new();
        while !holds(&said, self.ready) {
            if stream.read_buf(&mut said).await? == 0 {
                let said = String::from_utf8_lossy(&said).into_owned();
                return Err(io::Error::other(format!("the server hung up: {said:?}")));
            }
        }
        Ok(stream)
    }

    /// Notes each message until the stream ends.
    pub(crate) async fn listen(self, stream: TcpStream, desk: Desk) {
        loop {
            // Only while something is there to be read is there room for it: an idle host is a socket and a task.
            if stream.readable().await.is_err() {
                return;
            }
            let mut piece = [0; 2048];
            match stream.try_read(&mut piece) {
                Ok(0) => return,
                Ok(length) => {
                    let is_message = piece.get(..length).is_some_and(|piece| holds(piece, self.message));
                    desk.say(if is_message { What::Told } else { What::Heard });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// Asks, with as small a window as the system allows, and never reads.
pub(crate) async fn never_read(address: SocketAddr, request: &[u8]) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(1)?;
    let mut stream = socket.connect(address).await?;
    stream.write_all(request).await?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_a_part_of_it() {
        assert!(holds(b"4b\r\nevent: state\ndata: x\n\n", b"event: state"));
        assert!(!holds(b"3\r\n:\n\n\r\n", b"event: state") && !holds(b"", b"x"));
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_is_an_error_with_its_words() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(b"no room").await.unwrap();
            request
        });
        let listening = Listening {
            request: Arc::from(&b"hello"[..]),
            ready: b"ready",
            message: b"message",
        };
        let error = listening.open(address).await.unwrap_err().to_string();
        assert!(error.contains("no room"), "{error}");
        assert_eq!(&served.await.unwrap(), b"hello");
    }
}
