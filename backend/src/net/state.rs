//! What a worker knows of each of its connections, and the sweep that ends the slow ones.
//!
//! Timers of the runtime cost more than the rest of a small request, so no request arms one: every
//! connection notes what it waits for and since when, on a clock of whole seconds, and one task a
//! worker looks at all of them once a second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// Time limits of connections, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimits {
    pub(crate) header: u32,
    pub(crate) idle: u32,
    pub(crate) write: u32,
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The next request, or the client reading the last answer.
    Idle = 0,
    /// The rest of a request's headers.
    Header = 1,
    /// Us.
    Handling = 2,
}

/// One connection. Fields are written by its task and read by the sweep, all on one thread; atomics
/// only because tasks must be `Send`.
#[derive(Debug)]
pub(crate) struct Connection {
    clock: Arc<AtomicU32>,
    phase: AtomicU8,
    since: AtomicU32,
    /// 0, or the second (plus one) at which the socket stopped taking our bytes.
    write_blocked: AtomicU32,
    multiplexed: AtomicBool,
    handling: AtomicU32,
    killed: AtomicBool,
    linger: AtomicBool,
    heard: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Connection {
    fn new(clock: Arc<AtomicU32>) -> Self {
        let now = clock.load(Ordering::Relaxed);
        Self {
            clock,
            // A new connection owes us a request at once.
            phase: AtomicU8::new(Phase::Header as u8),
            since: AtomicU32::new(now),
            write_blocked: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
            handling: AtomicU32::new(0),
            killed: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    fn now(&self) -> u32 {
        self.clock.load(Ordering::Relaxed)
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.since.store(self.now(), Ordering::Relaxed);
    }

    /// HTTP/2: requests overlap, so only "nothing at all happens" is told apart.
    pub(crate) fn set_multiplexed(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
        self.enter(Phase::Idle);
    }

    /// Bytes came in.
    pub(crate) fn received(&self) {
        self.heard.store(true, Ordering::Relaxed);
        if self.multiplexed.load(Ordering::Relaxed) {
            self.since.store(self.now(), Ordering::Relaxed);
        } else if self.phase.load(Ordering::Relaxed) == Phase::Idle as u8 {
            self.enter(Phase::Header);
        }
    }

    /// Bytes went out.
    pub(crate) fn sent(&self) {
        self.write_blocked.store(0, Ordering::Relaxed);
        if self.phase.load(Ordering::Relaxed) == Phase::Idle as u8 {
            self.since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The socket takes no more bytes until its peer has read some.
    pub(crate) fn send_blocked(&self) {
        if self.write_blocked.load(Ordering::Relaxed) == 0 {
            self.write_blocked
                .store(self.now().saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Everything that was written went out.
    pub(crate) fn flushed(&self) {
        self.write_blocked.store(0, Ordering::Relaxed);
    }

    /// Whether the socket takes no bytes now.
    pub(crate) fn is_blocked(&self) -> bool {
        self.write_blocked.load(Ordering::Relaxed) != 0
    }

    /// A request's headers are complete.
    pub(crate) fn request_began(&self) {
        self.handling.fetch_add(1, Ordering::Relaxed);
        self.enter(Phase::Handling);
    }

    /// Its answer is ready to be sent, or nobody waits for it any more.
    pub(crate) fn request_ended(&self) {
        if self.handling.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enter(Phase::Idle);
        }
    }

    /// The answer went out before the request's body was read: the client may still be writing.
    pub(crate) fn ask_to_linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wants_to_linger(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }

    /// Whether a request has begun to arrive and its headers are not complete.
    pub(crate) fn is_inside_header(&self) -> bool {
        self.heard.load(Ordering::Relaxed) && self.phase.load(Ordering::Relaxed) == Phase::Header as u8
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// Remembers how to wake the connection's task. A task's waker stays good for its life.
    pub(crate) fn wake_with(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }

    /// Whether the connection has used up its time at `now`.
    fn is_overdue(&self, now: u32, limits: TimeLimits) -> bool {
        let blocked = self.write_blocked.load(Ordering::Relaxed);
        if blocked != 0 && now.saturating_sub(blocked - 1) > limits.write {
            return true;
        }
        let waited = now.saturating_sub(self.since.load(Ordering::Relaxed));
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Header as u8 => waited > limits.header,
            phase if phase == Phase::Idle as u8 => waited > limits.idle,
            _ => false,
        }
    }
}

/// All connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    clock: Arc<AtomicU32>,
    stopping: AtomicBool,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<Connection>>,
}

/// Takes its connection off the list when dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    connections: Arc<Connections>,
    number: u64,
    pub(crate) connection: Arc<Connection>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.lock().all.remove(&self.number);
    }
}

impl Connections {
    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection.
    pub(crate) fn register(self: &Arc<Self>) -> Registered {
        let connection = Arc::new(Connection::new(Arc::clone(&self.clock)));
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        open.all.insert(number, Arc::clone(&connection));
        Registered {
            connections: Arc::clone(self),
            number,
            connection,
        }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().all.len()
    }

    /// Moves the clock on and ends the connections that are over their time.
    pub(crate) fn sweep(&self, now: u32, limits: TimeLimits) {
        self.clock.store(now, Ordering::Relaxed);
        let overdue: Vec<_> = self
            .lock()
            .all
            .values()
            .filter(|connection| connection.is_overdue(now, limits))
            .cloned()
            .collect();
        for connection in overdue {
            connection.killed.store(true, Ordering::Relaxed);
            connection.wake();
        }
    }

    /// Lets every connection finish the request it is at, and no further one.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let all: Vec<_> = self.lock().all.values().cloned().collect();
        all.iter().for_each(|connection| connection.wake());
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TimeLimits = TimeLimits {
        header: 10,
        idle: 90,
        write: 30,
    };

    fn one() -> (Arc<Connections>, Registered) {
        let connections = Arc::new(Connections::default());
        let registered = connections.register();
        (connections, registered)
    }

    #[test]
    fn a_silent_new_connection_gets_the_header_time_only() {
        let (connections, registered) = one();
        connections.sweep(10, LIMITS);
        assert!(!registered.connection.is_killed());
        connections.sweep(11, LIMITS);
        assert!(registered.connection.is_killed());
    }

    #[test]
    fn a_trickle_of_header_bytes_buys_no_time() {
        let (connections, registered) = one();
        for second in 1..=11 {
            registered.connection.received();
            connections.sweep(second, LIMITS);
        }
        assert!(registered.connection.is_killed());
    }

    #[test]
    fn work_of_ours_is_not_counted_and_idle_time_starts_after_it() {
        let (connections, registered) = one();
        registered.connection.request_began();
        connections.sweep(1000, LIMITS);
        assert!(!registered.connection.is_killed());
        registered.connection.request_ended();
        connections.sweep(1090, LIMITS);
        assert!(!registered.connection.is_killed());
        connections.sweep(1091, LIMITS);
        assert!(registered.connection.is_killed());
    }

    #[test]
    fn a_reader_that_stops_reading_is_ended_a_slow_one_is_not() {
        let (connections, registered) = one();
        registered.connection.request_began();
        registered.connection.request_ended();
        for second in (0..200).step_by(20) {
            registered.connection.send_blocked();
            connections.sweep(second, LIMITS);
            registered.connection.sent();
        }
        assert!(!registered.connection.is_killed());
        registered.connection.send_blocked();
        connections.sweep(212, LIMITS);
        assert!(registered.connection.is_killed());
    }

    #[test]
    fn what_went_out_late_is_not_held_against_the_reader() {
        let (connections, registered) = one();
        let connection = &registered.connection;
        connection.request_began();
        connection.send_blocked();
        assert!(connection.is_blocked());
        connection.flushed();
        assert!(!connection.is_blocked());
        connections.sweep(31, LIMITS);
        assert!(!connection.is_killed());
    }

    #[test]
    fn a_dropped_registration_leaves_the_list() {
        let (connections, registered) = one();
        assert_eq!(connections.count(), 1);
        drop(registered);
        assert_eq!(connections.count(), 0);
    }

    #[test]
    fn overlapping_requests_keep_a_multiplexed_connection_busy() {
        let (connections, registered) = one();
        let connection = &registered.connection;
        connection.set_multiplexed();
        connection.request_began();
        connection.request_began();
        connection.request_ended();
        connections.sweep(1000, LIMITS);
        assert!(!connection.is_killed());
        connection.request_ended();
        connections.sweep(1091, LIMITS);
        assert!(connection.is_killed());
    }
}
