//! The one writing thread: takes queued writes, has its engine run a group of them in one
//! transaction, and answers each caller after the commit.
//!
//! What always holds: a caller that was told "done" finds its write after any crash; a write that
//! fails takes nobody with it; changes are told in commit order, before the callers are answered.

mod postgres;
mod sqlite;

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::StoreError;
use super::change::{Change, Notices};
use super::directory::{Binding, Directory, KeyEffect};
use super::sql::Connection;
pub(crate) use postgres::PostgresGroups;
pub(crate) use sqlite::{SqliteGroups, data_version};

/// How often an idle writer looks whether another process has written.
const IDLE_TICK: Duration = Duration::from_millis(500);

/// When a group is full.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    /// Most writes in one commit; 1 turns group commit off.
    pub writes: usize,
    /// Most body bytes in one commit, unless a single body is longer.
    pub bytes: u64,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            writes: 256,
            bytes: 16 * 1024 * 1024,
        }
    }
}

/// What follows from a write once it is durable.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) changes: Vec<Change>,
    pub(crate) binding: Option<Arc<Binding>>,
    pub(crate) reload_bearers: bool,
    pub(crate) key: Option<KeyEffect>,
}

/// A queued write. It may run more than once: when a group fails as a whole, each write of it is
/// tried alone.
trait Write: Send {
    /// Runs inside a transaction; a refused write has left nothing behind once its savepoint is
    /// rolled back.
    fn run(&mut self, connection: &Connection, effects: &mut Effects) -> Result<(), StoreError>;
    /// Answers the caller.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Typed<T, F> {
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Write for Typed<T, F>
where
    T: Send,
    F: FnMut(&Connection, &mut Effects) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection, effects: &mut Effects) -> Result<(), StoreError> {
        self.value = Some((self.work)(connection, effects)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { value, reply, .. } = *self;
        let answer = outcome.and_then(|()| value.ok_or(StoreError::Closed));
        // A caller that stopped waiting (a dropped request) is fine; the write stands.
        let _gone = reply.send(answer);
    }
}

pub(crate) struct Queued {
    write: Box<dyn Write>,
    bytes: u64,
    since: Instant,
    effects: Effects,
    /// Held until the caller is answered: the queue's bound.
    _permit: OwnedSemaphorePermit,
}

/// What the thread is woken by.
enum Message {
    Write(Box<Queued>),
    /// Others have written.
    Look,
    /// There will be no more writes.
    Stop,
}

/// The sending side, shared by all handles.
pub(crate) struct Writer {
    /// Its sender is dropped when the thread ends, however it ends.
    running: watch::Receiver<()>,
    queue: Mutex<Option<Sender<Message>>>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// How an engine commits.
pub(crate) trait Groups: Send {
    /// Called once, first: whoever hears of others' writes calls `wake` to be asked to look.
    fn start(&mut self, wake: Arc<dyn Fn() + Send + Sync>);
    /// Notices what other processes have written since the last time.
    fn look(&mut self, told: &Told);
    /// Commits writes together where it can, and [finishes](Told::finish) each.
    fn commit(&mut self, group: Vec<Queued>, told: &Told);
    /// There will be no more writes.
    fn close(&mut self);
}

/// Who is told of what was committed.
pub(crate) struct Told {
    pub(crate) directory: Arc<Directory>,
    pub(crate) notices: Arc<Notices>,
}

/// What the thread works with.
pub(crate) struct Workshop {
    pub(crate) groups: Box<dyn Groups>,
    pub(crate) told: Told,
    pub(crate) limits: GroupLimits,
}

impl Writer {
    pub(crate) fn start(mut workshop: Workshop, queue_length: usize) -> Result<Self, std::io::Error> {
        let (sender, receiver) = channel();
        let others = sender.clone();
        workshop.groups.start(Arc::new(move || {
            // The thread has ended: nobody needs to know.
            let _ended = others.send(Message::Look);
        }));
        let (alive, running) = watch::channel(());
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || {
            let _alive = alive;
            serve(workshop, &receiver);
        })?;
        Ok(Self {
            running,
            queue: Mutex::new(Some(sender)),
            room: Arc::new(Semaphore::new(queue_length.max(1))),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues `work` and waits until it is durable. `bytes` is the length of the body it carries.
    pub(crate) async fn write<T, F>(&self, bytes: u64, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection, &mut Effects) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|_closed| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let queued = Queued {
            write: Box::new(Typed {
                work,
                value: None,
                reply,
            }),
            bytes,
            since: Instant::now(),
            effects: Effects::default(),
            _permit: permit,
        };
        {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let sender = queue.as_ref().ok_or(StoreError::Closed)?;
            sender
                .send(Message::Write(Box::new(queued)))
                .map_err(|_stopped| StoreError::Closed)?;
        }
        answer.await.map_err(|_stopped| StoreError::Closed)?
    }

    /// Takes no more writes, finishes the queued ones, and waits for the thread. Blocks.
    pub(crate) fn stop(&self) {
        self.room.close();
        if let Some(sender) = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Behind all writes. That the thread ended before is said below.
            let _ended = sender.send(Message::Stop);
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the store's writer ended by a panic");
        }
    }

    /// Waits until the thread has ended.
    pub(crate) async fn ended(&self) {
        let mut running = self.running.clone();
        // Nothing is ever sent: the only thing that can happen is that the sender goes.
        while running.changed().await.is_ok() {}
    }

    /// Whether the thread still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.running.has_changed().is_ok()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(mut workshop: Workshop, queue: &Receiver<Message>) {
    let mut carried: Option<Message> = None;
    workshop.groups.look(&workshop.told);
    loop {
        let message = match carried.take() {
            Some(message) => message,
            None => match queue.recv_timeout(IDLE_TICK) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => Message::Look,
                Err(RecvTimeoutError::Disconnected) => break,
            },
        };
        match message {
            Message::Stop => break,
            Message::Look => workshop.groups.look(&workshop.told),
            Message::Write(first) => {
                workshop.groups.look(&workshop.told);
                let (group, next) = gather(*first, queue, workshop.limits);
                carried = next;
                workshop.groups.commit(group, &workshop.told);
            }
        }
    }
    workshop.groups.close();
}

/// Takes what is waiting, up to the limits; what does not belong to the group is carried over.
fn gather(first: Queued, queue: &Receiver<Message>, limits: GroupLimits) -> (Vec<Queued>, Option<Message>) {
    let mut bytes = first.bytes;
    let mut group = vec![first];
    while group.len() < limits.writes {
        match queue.try_recv() {
            Ok(Message::Write(queued)) if bytes.saturating_add(queued.bytes) <= limits.bytes => {
                bytes = bytes.saturating_add(queued.bytes);
                group.push(*queued);
            }
            Ok(other) => return (group, Some(other)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    (group, None)
}

impl Queued {
    /// Runs the write inside a transaction.
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError> {
        self.effects = Effects::default();
        self.write.run(connection, &mut self.effects)
    }

    /// Answers the caller of a write that was not stored.
    fn refuse(self, error: StoreError) {
        self.write.answer(Err(error));
    }
}

impl Told {
    /// Tells of a write that is durable, and answers its caller.
    fn finish(&self, queued: Queued, connection: Option<&Connection>) {
        let effects = queued.effects;
        if let Some(binding) = effects.binding {
            self.directory.bind(binding);
        }
        if let Some(key) = effects.key {
            self.directory.apply_key(key);
        }
        if effects.reload_bearers {
            let loaded = connection.map_or(Err(StoreError::Closed), |connection| {
                self.directory.load_bearers(connection)
            });
            if let Err(error) = loaded {
                tracing::error!(%error, "cannot read the credentials again; they are as before until a restart");
            }
        }
        effects.changes.into_iter().for_each(|change| self.notices.tell(change));
        queued.write.answer(Ok(()));
    }
}
