//! One connection: reading, answering, and waiting, in one task.
//!
//! Everything that one read brought is answered into one buffer and written at once. While searches
//! are under way, batches of them alternate with reading, so that they can be abandoned. The buffer is
//! written before more is done: a client that does not read stops its own requests and nobody else's.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Duration, Instant, Sleep, sleep, timeout};

use crate::answers::{Answers, Next, Piece};
use crate::ber::{DecodeError, message_length};
use crate::reply::{self, Outcome};
use crate::request::decode;
use crate::session::{Action, Link, Session, Verification, unavailable};
use crate::stream::Stream;
use crate::{Config, Credentials, Directory, Failure, ResultCode, State, password};

/// Answers are written when there are this many bytes of them.
const WRITE_AT: usize = 256 * 1024;
/// Bytes of a file that are sent at once; others have a turn in between.
const SEND_AT: usize = 1024 * 1024;
/// What a quiet connection keeps of its buffers.
const KEPT: usize = 16 * 1024;
/// A well-formed hash of no password: 64 bytes of digest, then salt.
const NOBODY: &[u8] =
    b"{SSHA512}AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// What is read at once.
const READ: usize = 8 * 1024;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) config: Arc<Config>,
    /// Passwords that may be verified or hashed at once.
    pub(crate) verifications: Semaphore,
    /// Passwords that something else may be asked about at once.
    pub(crate) asked: Semaphore,
    /// Changes that may be made at once.
    pub(crate) writes: Semaphore,
    /// True when the server ends.
    pub(crate) ending: watch::Receiver<bool>,
}

/// How a connection ended.
pub(crate) enum End {
    Closed,
    /// The client starts TLS now.
    StartTls(Box<dyn Stream>),
}

/// Serves a connection until it ends or starts TLS.
pub(crate) async fn serve(stream: Box<dyn Stream>, link: Link, shared: Arc<Shared>) -> std::io::Result<End> {
    let session = Session::new(Arc::clone(&shared.directory), Arc::clone(&shared.config), link);
    let states = shared.directory.state();
    let mut ending = shared.ending.clone();
    let idle = Idle::new(shared.config.limits.idle);
    let mut connection = Connection {
        stream,
        session,
        states,
        idle,
        shared,
        input: BytesMut::new(),
        out: Answers::default(),
    };
    // One future for all turns: to wait anew each time costs more than a small request.
    let mut ending = pin!(async move { ending.wait_for(|end| *end).await.is_ok() });
    loop {
        match connection.turn(ending.as_mut()).await? {
            Turn::Next => {}
            Turn::Close => {
                let _ = connection.flush().await;
                let _ = connection.stream.shutdown().await;
                return Ok(End::Closed);
            }
            Turn::StartTls => return Ok(End::StartTls(connection.stream)),
        }
    }
}

enum Turn {
    Next,
    Close,
    StartTls,
}

struct Connection {
    stream: Box<dyn Stream>,
    session: Session,
    states: watch::Receiver<State>,
    idle: Idle,
    shared: Arc<Shared>,
    input: BytesMut,
    out: Answers,
}

impl Connection {
    /// Answers what was read, works off a batch, writes, and waits for more.
    async fn turn(&mut self, ending: Pin<&mut impl Future<Output = bool>>) -> std::io::Result<Turn> {
        loop {
            match self.requests().await? {
                Some(Turn::Next) | None => {}
                Some(end) => return Ok(end),
            }
            if self.out.size() < WRITE_AT || !self.has_request() {
                break;
            }
            self.flush().await?;
        }
        self.session.step(&mut self.out);
        self.flush().await?;
        if self.may_read() {
            self.wait(ending).await
        } else {
            // Every place is taken: go on with what is under way. Others have a turn between batches.
            tokio::task::yield_now().await;
            Ok(Turn::Next)
        }
    }

    fn may_read(&self) -> bool {
        self.session.running.len() < self.shared.config.limits.outstanding
    }

    fn has_request(&self) -> bool {
        let longest = self.shared.config.limits.message;
        self.may_read()
            && match message_length(&self.input, longest) {
                Ok(Some(length)) => self.input.len() >= length,
                Ok(None) => false,
                Err(_) => true,
            }
    }

    /// Takes the requests that have come, until there is much to write.
    async fn requests(&mut self) -> std::io::Result<Option<Turn>> {
        while self.out.size() < WRITE_AT && self.has_request() {
            let length = match message_length(&self.input, self.shared.config.limits.message) {
                Ok(Some(length)) => length,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(self.refuse(error))),
            };
            let message = self.input.get(..length).unwrap_or_default();
            let action = match decode(message, self.session.filter_limits()) {
                Ok(message) => self.session.handle(message, &mut self.out),
                Err(error) => return Ok(Some(self.refuse(error))),
            };
            self.input.advance(length);
            match action {
                Action::None => {}
                Action::Close => return Ok(Some(Turn::Close)),
                Action::Verify(verification) => self.verify(verification).await?,
                Action::Write(write) => {
                    let slow = write.is_slow(self.shared.directory.as_ref());
                    self.change(slow, move |directory| write.make(directory)).await?;
                }
                Action::SetPassword(set) => {
                    self.change(true, move |directory| set.make(directory)).await?;
                }
                Action::StartTls => {
                    // What came in the same breath came unprotected: whoever sent it is not to be
                    // taken for the client (the STARTTLS injection of CVE-2011-0411).
                    if !self.input.is_empty() {
                        return Ok(Some(Turn::Close));
                    }
                    self.flush().await?;
                    return Ok(Some(Turn::StartTls));
                }
            }
        }
        Ok(None)
    }

    /// Says why the connection ends (RFC 4511 section 4.1.1).
    fn refuse(&mut self, error: DecodeError) -> Turn {
        tracing::debug!(%error, "ldap.request.malformed");
        let outcome = Outcome::new(ResultCode::ProtocolError, error.to_string());
        reply::disconnection(&mut self.out, &outcome);
        Turn::Close
    }

    /// Makes a change where blocking is allowed, in its turn.
    async fn change(
        &mut self,
        slow: bool,
        make: impl FnOnce(&Arc<dyn Directory>) -> Vec<u8> + Send + 'static,
    ) -> std::io::Result<()> {
        // What was answered before need not wait for it.
        self.flush().await?;
        let shared = Arc::clone(&self.shared);
        // Neither is ever closed.
        let _turn = match slow {
            true => Some(shared.verifications.acquire().await.map_err(std::io::Error::other)?),
            false => None,
        };
        let _place = shared.writes.acquire().await.map_err(std::io::Error::other)?;
        let directory = Arc::clone(&shared.directory);
        let made = tokio::task::spawn_blocking(move || make(&directory)).await;
        self.out.extend_from_slice(&made.map_err(std::io::Error::other)?);
        Ok(())
    }

    async fn verify(&mut self, verification: Verification) -> std::io::Result<()> {
        let Verification {
            id,
            who,
            name,
            credentials,
            password,
        } = verification;
        let quick = is_quick(&credentials);
        if !quick {
            // What was answered before need not wait for a slow hash.
            self.flush().await?;
        }
        let directory = Arc::clone(&self.shared.directory);
        let places = match &credentials {
            Credentials::Ask(_) => &self.shared.asked,
            Credentials::Hashes(_) | Credentials::Unknown => &self.shared.verifications,
        };
        // Before and after waiting: many may have waited with as many wrong passwords.
        let verified = if !directory.admits(&name) {
            Err(too_often())
        } else if quick {
            // A digest takes less than handing it to another thread.
            let verified = is_right(credentials, &password);
            if let Ok(right) = &verified {
                directory.verified(&name, *right);
            }
            verified.map_err(|failure| unavailable(&failure))
        } else if let Ok(_place) = places.acquire().await {
            if directory.admits(&name) {
                let task = tokio::task::spawn_blocking(move || is_right(credentials, &password));
                let verified = task.await.map_err(std::io::Error::other)?;
                if let Ok(right) = &verified {
                    directory.verified(&name, *right);
                }
                verified.map_err(|failure| unavailable(&failure))
            } else {
                Err(too_often())
            }
        } else {
            Err(ResultCode::Unavailable.into())
        };
        if matches!(verified, Ok(false)) {
            tracing::info!("ldap.bind.refused");
        }
        self.session.bound(id, who, verified, &mut self.out);
        Ok(())
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let limit = self.shared.config.limits.write;
        if self.out.has_pieces() {
            self.flush_pieces(limit).await?;
            self.out.written(KEPT);
            return Ok(());
        }
        // Nearly always the socket takes it all, and no timer is needed.
        let stream = &mut self.stream;
        let out = &self.out;
        let tried = poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll_write(context, out))).await;
        let done = match tried {
            Poll::Pending => 0,
            Poll::Ready(taken) => taken?,
        };
        let written = async {
            self.stream.write_all(self.out.get(done..).unwrap_or_default()).await?;
            self.stream.flush().await
        };
        timeout(limit, written)
            .await
            .map_err(|_| std::io::Error::from(ErrorKind::TimedOut))??;
        // A search that goes on fills it again.
        let kept = if self.session.running.is_empty() {
            KEPT
        } else {
            usize::MAX
        };
        self.out.written(kept);
        Ok(())
    }

    /// Writes answers of which parts lie in files. A client has the limit of time for each part that is taken at once,
    /// for all of them may be megabytes.
    async fn flush_pieces(&mut self, limit: Duration) -> std::io::Result<()> {
        let mut written = 0;
        while let Some(next) = self.out.after(written) {
            let stream = &mut self.stream;
            match next {
                Next::Bytes(bytes, more) => {
                    let part = poll_fn(|context| match more {
                        true => stream.poll_write_more(context, bytes),
                        false => Pin::new(&mut *stream).poll_write(context, bytes),
                    });
                    written += in_time(limit, part).await?;
                }
                Next::Piece(mut piece) => {
                    while piece.length > 0 {
                        let sent = send_piece(stream, &piece, limit).await?;
                        piece.offset += sent as u64;
                        piece.length = piece.length.saturating_sub(sent);
                    }
                }
            }
        }
        in_time(
            limit,
            poll_fn(|context| Pin::new(&mut self.stream).poll_flush(context).map_ok(|()| 1)),
        )
        .await?;
        Ok(())
    }

    /// Waits for bytes, for changes that a consumer waits for, for the end; not at all while searches
    /// are under way.
    async fn wait(&mut self, ending: Pin<&mut impl Future<Output = bool>>) -> std::io::Result<Turn> {
        if *self.shared.ending.borrow() {
            return Ok(self.ended());
        }
        let busy = !self.session.running.is_empty();
        let follows = !self.session.consumers.is_empty();
        if self.input.is_empty() && self.input.capacity() > KEPT {
            self.input = BytesMut::new();
        }
        // A long message is read into one piece of memory, once its length is known and allowed.
        let expected = message_length(&self.input, self.shared.config.limits.message);
        let missing = expected.ok().flatten().unwrap_or(0).saturating_sub(self.input.len());
        self.input.reserve(missing.max(READ));
        self.idle.restart();
        tokio::select! {
            biased;
            read = self.stream.read_buf(&mut self.input) => match read? {
                0 => Ok(Turn::Close),
                _ => Ok(Turn::Next),
            },
            _ = ending => Ok(self.ended()),
            changed = self.states.changed(), if follows => {
                if changed.is_err() {
                    return Ok(Turn::Close);
                }
                self.session.follow(&mut self.out);
                Ok(Turn::Next)
            }
            () = tokio::task::yield_now(), if busy => Ok(Turn::Next),
            () = self.idle.over(), if !busy && !follows => Ok(Turn::Close),
        }
    }

    fn ended(&mut self) -> Turn {
        let outcome = Outcome::new(ResultCode::Unavailable, "the server ends");
        reply::disconnection(&mut self.out, &outcome);
        Turn::Close
    }
}

/// Sends some of a piece of a file.
async fn send_piece(stream: &mut Box<dyn Stream>, piece: &Piece, limit: Duration) -> std::io::Result<usize> {
    let part = piece.length.min(SEND_AT);
    let file = piece.file.as_ref();
    let sent = poll_fn(|context| stream.poll_send_file(context, file, piece.offset, part));
    match in_time(limit, sent).await {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => {
            let mut bytes = vec![0; part.min(WRITE_AT)];
            file.read_exact_at(&mut bytes, piece.offset)?;
            timeout(limit, stream.write_all(&bytes))
                .await
                .map_err(|_| std::io::Error::from(ErrorKind::TimedOut))??;
            Ok(bytes.len())
        }
        sent => sent,
    }
}

/// What comes of writing something, which has to go on within `limit`.
async fn in_time(limit: Duration, written: impl Future<Output = std::io::Result<usize>>) -> std::io::Result<usize> {
    match timeout(limit, written).await {
        // The client is gone, or the file is shorter than it was.
        Ok(Ok(0)) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(written) => written,
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

/// How long nothing has come. The timer is set once in a while and not for every wait: whoever asks a
/// thousand times a second would pay for a thousand.
struct Idle {
    limit: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: Instant::now(),
            timer: Box::pin(sleep(limit)),
        }
    }

    fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// Ends when nothing has come for too long.
    async fn over(&mut self) {
        loop {
            self.timer.as_mut().await;
            let end = self.since + self.limit;
            if Instant::now() >= end {
                return;
            }
            self.timer.as_mut().reset(end);
        }
    }
}

/// Are these credentials held against a password faster than another thread takes it?
fn is_quick(credentials: &Credentials) -> bool {
    match credentials {
        Credentials::Hashes(hashes) => {
            hashes.len() <= 4 && hashes.iter().all(|hash| password::is_quick(hash.as_bytes()))
        }
        Credentials::Unknown => true,
        Credentials::Ask(_) => false,
    }
}

/// Is it the password? May block.
fn is_right(credentials: Credentials, password: &[u8]) -> Result<bool, Failure> {
    match credentials {
        Credentials::Hashes(hashes) => Ok(hashes.iter().any(|hash| password::verify(hash.as_bytes(), password))),
        Credentials::Ask(ask) => ask(password),
        Credentials::Unknown => {
            // As long as with a hash: the time tells nobody which names there are.
            let _ = password::verify(NOBODY, password);
            Ok(false)
        }
    }
}

fn too_often() -> Outcome {
    Outcome::new(
        ResultCode::Busy,
        "too many wrong passwords for this name: wait a minute",
    )
}

/// Tells a client that it cannot be served now.
pub(crate) async fn turn_away(mut stream: Box<dyn Stream>, config: &Config) {
    let mut out = Vec::new();
    reply::disconnection(&mut out, &Outcome::new(ResultCode::Busy, "too many connections"));
    let _ = timeout(config.limits.write, stream.write_all(&out)).await;
}
