//! A tenant's files at backends: the second transport of a [`Folder`].
//!
//! What always holds: the caller waits, whatever runtime it is called from; everything but a head may be sent again, by
//! another address as well, until it is there; a head is replaced only when it is still the one that was read.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use dirless_client::{Client, Cycle, Error, Expected, Fetched, RequestKey};
use dirless_seal::{Digest, Label, SigningKey, VerifyingKey};
use dirless_wire::trust::{
    CredentialReply, CredentialRequest, JoinCodeRequest, KeyId, KeyRole, ObjectPath, ReceiptReply, Time,
};
use dirless_wire::{ETag, ErrorCode, Notice, trust as wire};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tokio::runtime::Runtime;

use super::folder::{Folder, Registry};
use super::paths;

/// How many files are sent at once: a thousand wraps over a slow link are not sent one after the other.
const AT_ONCE: usize = 16;

/// Most pages of a list that are asked for: ten times as many hosts as there are.
const MOST_PAGES: usize = 10_000;
/// Longest time that a list may take.
const LONGEST_LIST: Duration = Duration::from_secs(300);
/// Pause before a stream of notices is opened again.
const OPEN_AGAIN: Duration = Duration::from_secs(2);

/// The files of a tenant at the backends of a client that has a key of its own, or an operator's token.
pub struct BackendFolder {
    client: Client,
    /// The tag of each head that was read.
    tags: Mutex<HashMap<String, Option<ETag>>>,
    /// Where the network is waited for. None only while this is dropped.
    runtime: Option<Runtime>,
}

impl Debug for BackendFolder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("BackendFolder").field(&self.client).finish()
    }
}

impl Drop for BackendFolder {
    fn drop(&mut self) {
        // Waiting for it is not allowed within another runtime, and nothing is under way that nobody waits for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Signs requests with `key`.
///
/// # Errors
/// Never in practice: both sides know the same names.
pub fn request_key(key: &SigningKey) -> io::Result<RequestKey> {
    let own = key.renamed(key.verifying().name().clone());
    RequestKey::of(&key.verifying().to_string(), move |text| own.sign(text)).map_err(io::Error::other)
}

impl BackendFolder {
    /// The files of the tenant of `client`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(client: Client) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("dirless-backend")
            .enable_all()
            .build()?;
        Ok(Self {
            client,
            tags: Mutex::default(),
            runtime: Some(runtime),
        })
    }

    /// Sees that the tenant is there, for the realm of the client's token.
    ///
    /// # Errors
    /// When it is not, or belongs to somebody else.
    pub fn make_tenant(&self) -> io::Result<()> {
        self.ask(|cycle| async move { cycle.post_tenant().await })?
            .map_err(failed)
    }

    /// The paths of all objects that begin with `prefix`, in order.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn paths(&self, prefix: &str) -> io::Result<Vec<String>> {
        let prefix = prefix.to_owned();
        let paths = self.ask(|cycle| async move { cycle.objects_below(&prefix).await })?;
        paths.map_err(failed)
    }

    /// The publishers' keys that may ask.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn publishers(&self) -> io::Result<Vec<String>> {
        let all = self.credentials()?.into_iter();
        let ours = all.filter(|one| one.role == KeyRole::Publisher && one.revoked_at.is_none());
        Ok(ours.map(|one| one.key.id().to_string()).collect())
    }

    /// All keys that are or were registered.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn credentials(&self) -> io::Result<Vec<CredentialReply>> {
        self.ask(|cycle| {
            whole(async move |after| {
                let page = cycle.get_credentials(after).await?;
                Ok((page.credentials, page.next))
            })
        })?
    }

    /// What the backend tells of the tenant as it happens, for as long as what is returned is kept. It begins with what holds
    /// now, and after an interruption it does so again.
    ///
    /// # Errors
    /// When the program is stopping.
    pub fn notices(&self) -> io::Result<mpsc::Receiver<Notice>> {
        let runtime = self.runtime.as_ref().ok_or_else(stopped)?;
        let (client, (sender, receiver)) = (self.client.clone(), mpsc::channel());
        runtime.spawn(async move {
            loop {
                // Without a stream whoever listens finds out by asking.
                if let Ok(Some(mut stream)) = client.watch_tenant().await {
                    while let Some(notice) = stream.next().await {
                        if sender.send(notice).is_err() {
                            return;
                        }
                    }
                }
                tokio::time::sleep(OPEN_AGAIN).await;
            }
        });
        Ok(receiver)
    }

    /// Asks a backend, and waits.
    fn ask<T, W>(&self, work: impl FnOnce(Arc<Cycle>) -> W) -> io::Result<T>
    where
        T: Send + 'static,
        W: Future<Output = T> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().ok_or_else(stopped)?;
        let cycle = Arc::new(self.client.cycle());
        let (sender, receiver) = mpsc::channel();
        let work = work(cycle);
        runtime.spawn(async move {
            // Nobody listens any more only when the caller is gone.
            let _ = sender.send(work.await);
        });
        receiver.recv().map_err(|_| stopped())
    }

    fn tags(&self) -> MutexGuard<'_, HashMap<String, Option<ETag>>> {
        // Nothing panics while holding it.
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, key: &VerifyingKey, role: KeyRole) -> io::Result<()> {
        let credential = CredentialRequest {
            key: key.to_string().parse().map_err(io::Error::other)?,
            role,
            expires_at: None,
        };
        self.ask(|cycle| async move { cycle.put_credential(&credential).await })?
            .map_err(failed)
    }
}

fn stopped() -> io::Error {
    io::Error::other("the program is stopping")
}

/// All of a list that a backend gives in pages, as long as it gives something new and comes to an end.
async fn whole<T>(page: impl AsyncFn(Option<&KeyId>) -> Result<(Vec<T>, Option<KeyId>), Error>) -> io::Result<Vec<T>> {
    let read = async {
        let (mut all, mut after) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let (some, next) = page(after.as_ref()).await.map_err(failed)?;
            let is_more = !some.is_empty() && next != after;
            all.extend(some);
            match next {
                None => return Ok(all),
                Some(next) if is_more => after = Some(next),
                Some(_) => break,
            }
        }
        Err(endless())
    };
    tokio::time::timeout(LONGEST_LIST, read)
        .await
        .unwrap_or_else(|_| Err(endless()))
}

fn endless() -> io::Error {
    io::Error::other("the backend gives a list that does not end; check that the URL names a Dirless backend")
}

fn failed(error: Error) -> io::Error {
    let kind = match error {
        Error::BodyTooLarge { .. } => io::ErrorKind::FileTooLarge,
        Error::KeyRefused { .. } | Error::Unauthorized | Error::Forbidden { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn object(path: &str) -> io::Result<ObjectPath> {
    let refuse = |error| io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?}: {error}"));
    path.parse().map_err(refuse)
}

/// Code and digest of a request in the mailbox.
fn request(path: &str) -> Option<(wire::Label, wire::Digest)> {
    let (code, digest) = path.strip_prefix("join/")?.split_once('/')?;
    Some((code.parse().ok()?, digest.parse().ok()?))
}

async fn put(cycle: &Cycle, path: &ObjectPath, bytes: Bytes) -> Result<(), Error> {
    match cycle.put_object(path, bytes, &Expected::Anything).await {
        // Left as it is: what must be its own bytes is read back by whoever wrote it.
        Err(Error::Rejected {
            code: ErrorCode::AlreadyExists,
            ..
        }) => Ok(()),
        other => other.map(drop),
    }
}

impl Folder for BackendFolder {
    fn get(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        if let Some((code, digest)) = request(path) {
            let found = self.ask(|cycle| async move { cycle.get_join_request(&code, &digest).await })?;
            return found.map_err(failed);
        }
        let object = object(path)?;
        let is_mutable = object.is_mutable();
        let fetched = self.ask(|cycle| async move {
            let mut bytes = Vec::new();
            let fetched = cycle.get_object(&object, None, most, &mut bytes).await;
            fetched.map(|fetched| (fetched, bytes))
        })?;
        let (found, tag) = match fetched.map_err(failed)? {
            (Fetched::Body(body), bytes) => (Some(bytes), body.etag),
            (
                Fetched::Absent {
                    code: ErrorCode::ObjectAbsent,
                },
                _,
            ) => (None, None),
            // A front that lost its way must not make anybody begin anew.
            (Fetched::Absent { .. } | Fetched::NotModified, _) => {
                let reason = "the answer is not that of a Dirless backend; check the URL and its path";
                return Err(io::Error::other(format!("{path}: {reason}")));
            }
        };
        if is_mutable {
            self.tags().insert(path.to_owned(), tag);
        }
        Ok(found)
    }

    fn has(&self, path: &str) -> io::Result<bool> {
        let object = object(path)?;
        self.ask(|cycle| async move { cycle.has_object(&object).await })?
            .map_err(failed)
    }

    fn create(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        let files: Vec<_> = files
            .iter()
            .map(|(path, bytes)| Ok((object(path)?, Bytes::copy_from_slice(bytes))))
            .collect::<io::Result<_>>()?;
        let done = self.ask(|cycle| async move {
            let puts = files.into_iter().map(|(path, bytes)| {
                let cycle = Arc::clone(&cycle);
                async move { put(&cycle, &path, bytes).await }
            });
            stream::iter(puts).buffer_unordered(AT_ONCE).try_collect::<()>().await
        })?;
        done.map_err(failed)
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let known = self.tags().get(path).cloned();
        let tag = match known {
            Some(tag) => tag,
            None => {
                self.get(path, 1 << 20)?;
                self.tags().get(path).cloned().flatten()
            }
        };
        let expected = tag.map_or(Expected::Absent, Expected::Tag);
        let (object, bytes) = (object(path)?, Bytes::copy_from_slice(bytes));
        let put = self.ask(|cycle| async move {
            match cycle.put_object(&object, bytes.clone(), &expected).await {
                // It may have arrived; the same bytes again are fine if it has.
                Err(Error::Unavailable { .. }) => cycle.put_object(&object, bytes, &expected).await,
                other => other,
            }
        })?;
        match put {
            Ok(written) => {
                self.tags().insert(path.to_owned(), written.etag);
                Ok(())
            }
            Err(error) => {
                // What is there now is not known; it is read before the next try.
                self.tags().remove(path);
                Err(match error {
                    Error::Changed => io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        format!(
                            "somebody else replaced {path} after it was read: another copy of this program runs with the \
                             same key, and was faster"
                        ),
                    ),
                    other => failed(other),
                })
            }
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let path = path.to_owned();
        let names = self.ask(|cycle| async move { cycle.names_below(&path).await })?;
        Ok(names.map_err(failed)?.into_iter().collect())
    }

    fn has_any(&self, path: &str) -> io::Result<bool> {
        let folder = format!("{path}/");
        let first = self.ask(|cycle| async move {
            let page = cycle.get_objects(&folder, 1).await?;
            Ok(page
                .objects
                .first()
                .is_some_and(|object| object.path.starts_with(&folder)))
        })?;
        first.map_err(failed)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        if let Some((code, digest)) = request(path) {
            return self
                .ask(|cycle| async move { cycle.delete_join_request(&code, &digest).await })?
                .map_err(failed);
        }
        let object = object(path)?;
        self.ask(|cycle| async move { cycle.delete_object(&object).await })?
            .map_err(failed)
    }

    /// Nothing: heads are compared when they are replaced, and everything else is written once.
    fn lock(&self) -> io::Result<Box<dyn Debug + Send>> {
        Ok(Box::new(()))
    }

    fn mailbox(&self, most: usize) -> io::Result<Vec<(Label, Digest)>> {
        let found = self.ask(|cycle| async move { cycle.get_mailbox().await })?;
        let waiting = found.map_err(failed)?.requests.into_iter();
        let ours = waiting.filter_map(|one| {
            let digest = Digest::from_bytes(*one.request.as_bytes());
            Some((one.code.as_str().parse().ok()?, digest))
        });
        Ok(ours.take(most).collect())
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(self)
    }
}

impl Registry for BackendFolder {
    fn register_code(&self, code: &Label, bearer: Digest, expires: Timestamp, uses: u32) -> io::Result<()> {
        let code = on_wire(code)?;
        let seconds = u64::try_from(expires.as_second()).map_err(io::Error::other)?;
        let request = JoinCodeRequest {
            bearer: wire::Digest::from_bytes(*bearer.as_bytes()),
            expires_at: Time::from_unix_seconds(seconds).map_err(io::Error::other)?,
            uses,
        };
        self.ask(|cycle| async move { cycle.put_join_code(&code, &request).await })?
            .map_err(failed)
    }

    fn end_code(&self, code: &Label) -> io::Result<()> {
        let code = on_wire(code)?;
        self.ask(|cycle| async move { cycle.delete_join_code(&code).await })?
            .map_err(failed)
    }

    fn register_node(&self, key: &VerifyingKey) -> io::Result<()> {
        self.register(key, KeyRole::Node)
    }

    fn register_publisher(&self, key: &VerifyingKey) -> io::Result<()> {
        self.register(key, KeyRole::Publisher)
    }

    fn end_key(&self, id: &str) -> io::Result<()> {
        let id: KeyId = id.parse().map_err(io::Error::other)?;
        self.ask(|cycle| async move { cycle.delete_credential(&id).await })?
            .map_err(failed)
    }

    fn receipts(&self) -> io::Result<Vec<ReceiptReply>> {
        self.ask(|cycle| {
            whole(async move |after| {
                let page = cycle.get_receipts(after).await?;
                Ok((page.receipts, page.next))
            })
        })?
    }
}

fn on_wire(label: &Label) -> io::Result<wire::Label> {
    label.as_str().parse().map_err(io::Error::other)
}

/// The path under which a backend has the mailbox; for messages.
#[must_use]
pub(super) fn is_request(path: &str) -> bool {
    path.strip_prefix(paths::JOIN).is_some_and(|rest| rest.starts_with('/'))
}
