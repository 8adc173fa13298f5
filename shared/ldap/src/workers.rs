//! Threads that serve connections, each with a runtime and all listeners to itself.
//!
//! Who accepts a connection answers on it to its end: a small request costs no hand-over between
//! threads, which takes longer than the answer.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Listener;
use crate::server::{Context, listen};

/// Threads on which slow passwords are verified and changes are made, for each worker.
const BLOCKING: usize = 4;

/// The running threads.
pub(crate) struct Workers {
    /// Closed when all have ended; a message when one has.
    ends: mpsc::Receiver<()>,
}

/// A listener without a runtime.
enum Bare {
    Plain(StdTcpListener),
    Tls(StdTcpListener),
    Local(StdUnixListener),
}

impl Bare {
    fn of(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Plain(listener) => Self::Plain(listener.into_std()?),
            Listener::Tls(listener) => Self::Tls(listener.into_std()?),
            Listener::Local(listener) => Self::Local(listener.into_std()?),
        })
    }

    fn again(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Plain(listener) => Self::Plain(listener.try_clone()?),
            Self::Tls(listener) => Self::Tls(listener.try_clone()?),
            Self::Local(listener) => Self::Local(listener.try_clone()?),
        })
    }

    /// On the runtime that this is called in.
    fn listener(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Plain(listener) => Listener::Plain(TcpListener::from_std(listener)?),
            Self::Tls(listener) => Listener::Tls(TcpListener::from_std(listener)?),
            Self::Local(listener) => Listener::Local(UnixListener::from_std(listener)?),
        })
    }
}

impl Workers {
    /// Starts `count` threads, all of which listen on all of `listeners`: whoever is free takes the next
    /// connection.
    pub(crate) fn start(listeners: Vec<Listener>, count: usize, context: &Context) -> io::Result<Self> {
        let bare = listeners.into_iter().map(Bare::of).collect::<io::Result<Vec<_>>>()?;
        let (end, ends) = mpsc::channel(count.max(1));
        for number in 0..count {
            let mine = bare.iter().map(Bare::again).collect::<io::Result<Vec<_>>>()?;
            let farewell = Farewell(end.clone());
            let context = context.clone();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(BLOCKING)
                .thread_name(format!("ldap-{number}-slow"))
                .build()?;
            std::thread::Builder::new()
                .name(format!("ldap-{number}"))
                .spawn(move || {
                    let _farewell = farewell;
                    if let Err(error) = runtime.block_on(work(mine, context)) {
                        tracing::error!(%error, "ldap.worker.failed");
                    }
                })?;
        }
        Ok(Self { ends })
    }

    /// Waits until one of them ends.
    pub(crate) async fn ended(&mut self) {
        let _ = self.ends.recv().await;
    }

    /// Waits until all of them have ended.
    pub(crate) async fn ended_all(&mut self) {
        while self.ends.recv().await.is_some() {}
    }
}

/// Tells that a thread ended, also by a panic.
struct Farewell(mpsc::Sender<()>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // There is room for one word of each; whoever does not listen any more need not know.
        let _ = self.0.try_send(());
    }
}

async fn work(listeners: Vec<Bare>, context: Context) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    for bare in listeners {
        tasks.spawn(listen(bare.listener()?, context.clone()));
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::{Read, Write};
    use std::sync::Arc;

    use super::*;
    use crate::memory::Memory;
    use crate::{Config, Setup, serve_on_threads};

    #[tokio::test]
    async fn every_worker_answers_and_all_end() {
        let directory = Arc::new(Memory::new(dirless_directory::Schema::standard(), Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let setup = Setup {
            listeners: vec![Listener::Plain(listener)],
            tls: None,
            config: Config::default(),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve_on_threads(3, setup, directory, async {
            if stopped.await.is_err() {
                pending::<()>().await;
            }
        }));
        tokio::task::spawn_blocking(move || {
            // Held open together, so that no worker has all of them by being quick.
            let mut streams: Vec<_> = (0..12)
                .map(|_| std::net::TcpStream::connect(address).unwrap())
                .collect();
            for stream in &mut streams {
                // An anonymous bind and its success.
                stream
                    .write_all(&[0x30, 12, 2, 1, 1, 0x60, 7, 2, 1, 3, 4, 0, 0x80, 0])
                    .unwrap();
                let mut answer = [0; 14];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(answer, [0x30, 12, 2, 1, 1, 0x61, 7, 10, 1, 0, 4, 0, 4, 0]);
            }
            stop.send(()).unwrap();
            for stream in &mut streams {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
                assert!(
                    rest.windows(5).any(|part| part == b"20036"),
                    "a notice of disconnection"
                );
            }
        })
        .await
        .unwrap();
        server.await.unwrap().unwrap();
    }
}
