//! A bound connection: one request at a time, every answer bounded, searches that are complete or an
//! error.

use std::sync::Arc;
use std::time::Duration;

use dirless_directory::Filter;
use dirless_program::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use zeroize::Zeroize;

use super::controls;
use super::record::Record;
use super::server::{Protection, Server, Stream};
use super::wire::{self, Control, Ending, Operation, Reply, Scope, Search};
use crate::sources::{Complete, SourceError};

/// How long connecting, and each single answer, may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of one message. A group of half a million members has some 40 MB.
const LONGEST: usize = 64 << 20;
/// Pages without an entry that may follow each other: a server may look at many entries that do not
/// match, but not for ever.
const EMPTY_PAGES: u32 = 1000;

/// `invalidCredentials` (RFC 4511 appendix A.2).
const INVALID_CREDENTIALS: u32 = 49;
/// `insufficientAccessRights`, `inappropriateAuthentication`, `strongerAuthRequired` and the like.
const DENIED: [u32; 5] = [INVALID_CREDENTIALS, 50, 48, 13, 8];
/// `noSuchObject`.
pub(super) const NO_SUCH_OBJECT: u32 = 32;

/// What a bind came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The password is the person's.
    Right,
    /// It is not, or there is no such person.
    Wrong,
}

/// How much a server may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Users, and as many answers of each other search for users.
    pub users: usize,
    /// Groups.
    pub groups: usize,
    /// Members of all groups together, nested ones too.
    pub members: usize,
    /// Bytes in a whole read.
    pub bytes: u64,
}

impl Bounds {
    /// For that many users and groups.
    #[must_use]
    pub fn new(users: usize, groups: usize) -> Self {
        Self {
            users,
            groups,
            members: users.saturating_mul(100).clamp(100_000, 20_000_000),
            // Some 10 kB an entry with its membership, much more than directories have.
            bytes: (users.saturating_add(groups) as u64)
                .saturating_mul(10 << 10)
                .max(256 << 20),
        }
    }
}

/// A connection.
pub(super) struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    buffer: Vec<u8>,
    sent: u32,
    page: u32,
    left: u64,
}

/// How a search ended, with the controls of its end.
pub(super) struct End {
    pub(super) ending: Ending,
    pub(super) controls: Vec<Control>,
}

impl Connection {
    /// Connects, without a bind.
    pub(super) async fn open(
        server: &Server,
        trust: &Arc<rustls::ClientConfig>,
        page: u32,
        bounds: &Bounds,
    ) -> Result<Self, SourceError> {
        let connected = tokio::time::timeout(PATIENCE, Self::connect(server, trust, page, bounds.bytes)).await;
        connected.unwrap_or_else(|_| Err(unavailable("connect", format!("{}: no answer in time", server.url))))
    }

    async fn connect(
        server: &Server,
        trust: &Arc<rustls::ClientConfig>,
        page: u32,
        left: u64,
    ) -> Result<Self, SourceError> {
        let failed = |error: std::io::Error| unavailable("connect", format!("{}: {error}", server.url));
        let stream = server.connect().await.map_err(failed)?;
        let stream: Box<dyn Stream> = match server.protection {
            Protection::Plain => Box::new(stream),
            Protection::Ldaps => server.protect(stream, trust).await.map_err(failed)?,
            Protection::StartTls => {
                let mut stream = stream;
                ask_for_tls(&mut stream)
                    .await
                    .map_err(|reason| unavailable("connect", format!("{}: {reason}", server.url)))?;
                server.protect(stream, trust).await.map_err(failed)?
            }
        };
        Ok(Self {
            stream: BufReader::with_capacity(64 << 10, stream),
            buffer: Vec::new(),
            sent: 0,
            page,
            left,
        })
    }

    /// Binds; the password must not be empty: servers take such a bind for an anonymous one and
    /// answer "success" (RFC 4513 section 5.1.2).
    pub(super) async fn bind(&mut self, name: &str, password: &Secret) -> Result<(), SourceError> {
        let ending = self.try_bind(name, password).await?;
        match ending.code {
            0 => Ok(()),
            _ => Err(refused("bind", &ending)),
        }
    }

    /// Does the server take the password?
    pub(super) async fn verdict(&mut self, name: &str, password: &Secret) -> Result<Verdict, SourceError> {
        let ending = self.try_bind(name, password).await?;
        match ending.code {
            0 => Ok(Verdict::Right),
            // A name that the server cannot make anything of, or a person it does not let in, is
            // for the caller the same as a wrong password.
            INVALID_CREDENTIALS | NO_SUCH_OBJECT | 34 | 48 | 50 | 53 | 19 => Ok(Verdict::Wrong),
            _ => Err(refused("bind", &ending)),
        }
    }

    async fn try_bind(&mut self, name: &str, password: &Secret) -> Result<Ending, SourceError> {
        if name.is_empty() || password.expose().is_empty() {
            return Err(SourceError::Setup(
                "a bind without name or password was refused here".to_owned(),
            ));
        }
        let id = self.next();
        let mut message = wire::bind(id, name, password.expose());
        let sent = self.send(&message).await;
        message.zeroize();
        sent?;
        match self.receive(id).await?.operation {
            Operation::Bound(ending) => Ok(ending),
            _ => Err(unexpected("bind")),
        }
    }

    /// One search. Each answer but the end goes to `sink`; referrals beside entries do not.
    pub(super) async fn search(
        &mut self,
        search: &Search<'_>,
        asked: &[Control],
        mut sink: impl FnMut(&Operation<'_>, &[Control]) -> Result<(), SourceError>,
    ) -> Result<End, SourceError> {
        let id = self.next();
        self.send(&wire::search(id, search, asked)).await?;
        loop {
            let reply = self.receive(id).await?;
            match reply.operation {
                Operation::SearchDone(ending) => {
                    let controls = reply.controls;
                    return Ok(End { ending, controls });
                }
                // Active Directory adds pointers to other partitions to every search.
                Operation::Reference => {}
                Operation::Entry(..) | Operation::Intermediate(..) => sink(&reply.operation, &reply.controls)?,
                Operation::Bound(_) | Operation::Extended(_) => return Err(unexpected("search")),
            }
        }
    }

    /// All entries under `base` that match, page by page into `sink`, at most `most`. Every page must
    /// have ended with success: a size limit, a referral in place of an answer and a broken connection
    /// are errors, not ends. Returns how many there were.
    pub(super) async fn read(
        &mut self,
        what: &Search<'_>,
        most: usize,
        mut sink: impl FnMut(Record) -> Result<(), SourceError> + Send,
    ) -> Result<Complete<usize>, SourceError> {
        let (mut count, mut cookie, mut empty) = (0, Vec::new(), 0);
        loop {
            let before = count;
            let asked = [controls::page(self.page, &cookie)];
            let end = self.search(what, &asked, |operation, _| match operation {
                Operation::Entry(name, attributes) => {
                    count += 1;
                    if count > most {
                        return Err(SourceError::Inconsistent(format!(
                            "the server sent more than {most} entries under {:?}; raise [limits] if it really has so many",
                            what.base
                        )));
                    }
                    sink(Record::read(name, attributes)?)
                }
                _ => Ok(()),
            });
            let end = end.await?;
            check("search", &end.ending)?;
            empty = if count == before { empty + 1 } else { 0 };
            match controls::next_page(&end.controls) {
                None => {
                    return Err(SourceError::Inconsistent(
                        "the server left out the paged-results control, so that nothing tells whether the list is whole"
                            .to_owned(),
                    ));
                }
                Some(next) if next.is_empty() => return Ok(Complete::proven(count)),
                // Not the same cookie twice: Samba's stays the same for a whole search.
                Some(_) if empty > EMPTY_PAGES => {
                    return Err(SourceError::Inconsistent(format!(
                        "the server sent {empty} empty pages in a row, so the list has no end"
                    )));
                }
                Some(next) => cookie = next,
            }
        }
    }

    /// The one entry called `name`, if it is there and matches.
    pub(super) async fn entry(
        &mut self,
        name: &str,
        filter: &Filter,
        attributes: &[String],
    ) -> Result<Option<Record>, SourceError> {
        let mut found = None;
        let what = Search {
            base: name,
            scope: Scope::Base,
            filter,
            attributes,
        };
        let end = self
            .search(&what, &[], |operation, _| {
                if let Operation::Entry(name, attributes) = operation {
                    found = Some(Record::read(name, attributes)?);
                }
                Ok(())
            })
            .await?;
        match end.ending.code {
            NO_SUCH_OBJECT => Ok(None),
            _ => check("search", &end.ending).map(|()| found),
        }
    }

    /// Says goodbye; that it went wrong changes nothing any more.
    pub(super) async fn close(mut self) {
        let id = self.next();
        let _ = self.send(&wire::unbind(id)).await;
        let _ = self.stream.get_mut().shutdown().await;
    }

    fn next(&mut self) -> u32 {
        // Well under 2^31 requests in the life of a connection.
        self.sent += 1;
        self.sent
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), SourceError> {
        let stream = self.stream.get_mut();
        let sent = tokio::time::timeout(PATIENCE, async {
            stream.write_all(message).await?;
            stream.flush().await
        });
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unavailable("request", error.to_string())),
            Err(_) => Err(unavailable("request", "the server takes nothing".to_owned())),
        }
    }

    async fn receive(&mut self, id: u32) -> Result<Reply<'_>, SourceError> {
        let length = match tokio::time::timeout(PATIENCE, self.fill()).await {
            Ok(length) => length?,
            Err(_) => {
                return Err(unavailable(
                    "answer",
                    format!("none came within {} s", PATIENCE.as_secs()),
                ));
            }
        };
        self.left = self.left.checked_sub(length as u64).ok_or_else(|| {
            SourceError::Inconsistent(
                "the server sent more bytes than so many users and groups can have; raise [limits] if that is right"
                    .to_owned(),
            )
        })?;
        let reply = wire::reply(&self.buffer).map_err(|error| SourceError::Inconsistent(error.to_string()))?;
        match (&reply.operation, reply.id) {
            (_, found) if found == id => Ok(reply),
            // Notice of disconnection (RFC 4511 section 4.4.1).
            (Operation::Extended(ending), 0) => {
                Err(unavailable("answer", format!("the server hangs up: {}", told(ending))))
            }
            _ => Err(unexpected("request")),
        }
    }

    /// Reads one message into the buffer. It grows with what comes, not with what is announced.
    async fn fill(&mut self) -> Result<usize, SourceError> {
        let lost = |error: std::io::Error| unavailable("answer", error.to_string());
        self.buffer.clear();
        let (header, content) = loop {
            if let Some(lengths) =
                wire::lengths(&self.buffer).map_err(|error| SourceError::Inconsistent(error.to_string()))?
            {
                break lengths;
            }
            self.buffer.push(self.stream.read_u8().await.map_err(lost)?);
        };
        if content > LONGEST {
            return Err(SourceError::Inconsistent(format!(
                "the server sends a message of {content} bytes; {LONGEST} is the most"
            )));
        }
        let all = header + content;
        let missing = all.saturating_sub(self.buffer.len());
        let came = (&mut self.stream)
            .take(missing as u64)
            .read_to_end(&mut self.buffer)
            .await
            .map_err(lost)?;
        if came < missing {
            return Err(unavailable("answer", "the server closed the connection".to_owned()));
        }
        Ok(all)
    }
}

/// RFC 4511 section 4.14. The answer is read byte by byte: what follows it is TLS.
async fn ask_for_tls(stream: &mut tokio::net::TcpStream) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    stream.write_all(&wire::starttls(1)).await.map_err(said)?;
    let mut buffer = Vec::new();
    let (header, content) = loop {
        if let Some(lengths) = wire::lengths(&buffer).map_err(|error| error.to_string())? {
            break lengths;
        }
        buffer.push(stream.read_u8().await.map_err(said)?);
    };
    if content > 64 << 10 {
        return Err("the answer to StartTLS is too long".to_owned());
    }
    let mut rest = vec![0; (header + content).saturating_sub(buffer.len())];
    stream.read_exact(&mut rest).await.map_err(said)?;
    buffer.extend_from_slice(&rest);
    match wire::reply(&buffer).map_err(|error| error.to_string())?.operation {
        Operation::Extended(ending) if ending.code == 0 => Ok(()),
        Operation::Extended(ending) => Err(format!("the server refused StartTLS: {}", told(&ending))),
        _ => Err("the server answered StartTLS with something else".to_owned()),
    }
}

/// An error unless the operation went well.
pub(super) fn check(operation: &'static str, ending: &Ending) -> Result<(), SourceError> {
    match ending.code {
        0 => Ok(()),
        _ => Err(refused(operation, ending)),
    }
}

pub(super) fn refused(operation: &'static str, ending: &Ending) -> SourceError {
    let said = told(ending);
    let reason = match ending.code {
        3 => format!("{said} (the server's time limit cut the answer short: raise it for the bind DN)"),
        4 | 11 => format!("{said} (the server's size limit cut the answer short: raise it for the bind DN)"),
        10 => format!(
            "{said} (the server refers to {}: name that one in url)",
            ending.referrals.join(", ")
        ),
        12 => format!("{said} (the server lacks a control that this needs)"),
        NO_SUCH_OBJECT => format!("{said} (there is no such base; matched {:?})", ending.matched),
        _ => said,
    };
    if DENIED.contains(&ending.code) {
        SourceError::Refused { operation, reason }
    } else {
        SourceError::Unavailable { operation, reason }
    }
}

fn told(ending: &Ending) -> String {
    match ending.message.as_str() {
        "" => format!("result code {}", ending.code),
        message => format!("result code {}: {message}", ending.code),
    }
}

pub(super) fn unavailable(operation: &'static str, reason: String) -> SourceError {
    SourceError::Unavailable { operation, reason }
}

fn unexpected(operation: &'static str) -> SourceError {
    SourceError::Inconsistent(format!("the server answered a {operation} with something else"))
}
