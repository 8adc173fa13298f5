//! Hosts in processes of their own: one process has 20,000 open files on many machines, and a host takes two.
//!
//! A process is told its [`Crew`] in the first line of its standard input and orders in those that follow; it tells what
//! happens to its hosts on its standard output, and ends with its input. What always holds: it says when something happened
//! by the clock of all processes, and in the order in which it did.

use std::io::{BufRead, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::command::{make_room, runtime};
use crate::crew::Crew;
use crate::event::{Event, Notes, monotonic};
use crate::host::Reconnect;

/// How long what happened may wait to be told.
const LATEST: Duration = Duration::from_millis(10);
/// The command for it.
pub(crate) const COMMAND: &str = "hosts";

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// When the board was hung up, by the clock of all processes.
    begun: Duration,
    crew: Crew,
}

/// A process of hosts; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    orders: ChildStdin,
    /// Ends with this.
    _reading: JoinSet<()>,
}

impl Child {
    /// Starts one with these hosts.
    pub(crate) async fn start(crew: Crew, board: &Arc<Board>) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("finding this program")?;
        let mut process = Command::new(own)
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting a process of hosts")?;
        let orders = process.stdin.take().context("its standard input is a pipe")?;
        let said = process.stdout.take().context("its standard output is a pipe")?;
        let (board, begun) = (Arc::clone(board), board.begun());
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let mut lines = BufReader::with_capacity(1 << 20, said).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(events) = serde_json::from_str::<Vec<Event>>(&line) else {
                    break;
                };
                events.into_iter().for_each(|event| board.note(event));
            }
            board.lose();
        });
        let mut child = Self {
            process,
            orders,
            _reading: reading,
        };
        child.tell(&Told { begun, crew }).await?;
        Ok(child)
    }

    /// Gives its hosts an order.
    pub(crate) async fn order(&mut self, order: Reconnect) -> anyhow::Result<()> {
        self.tell(&order).await
    }

    async fn tell(&mut self, what: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        let told = self.orders.write_all(&line).await;
        told.context("a process of hosts does not listen")
    }

    /// Its number, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.id()
    }
}

/// What happened here and was not told yet.
#[derive(Debug)]
struct Relay {
    begun: Duration,
    events: Mutex<Vec<Event>>,
}

impl Relay {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Notes for Relay {
    fn now(&self) -> Duration {
        monotonic().saturating_sub(self.begun)
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// Plays hosts in this process, as it is told on standard input, until that ends.
///
/// # Errors
/// When what it is told makes no sense, or nobody wants to know what happens.
pub(crate) fn play() -> anyhow::Result<()> {
    let mut first = String::new();
    std::io::stdin().read_line(&mut first)?;
    let told: Told = serde_json::from_str(&first).context("which hosts")?;
    make_room(told.crew.count())?;
    let relay = Arc::new(Relay {
        begun: told.begun,
        events: Mutex::default(),
    });
    let (sender, _) = watch::channel(Reconnect::default());
    let (orders, ended) = (sender.clone(), watch::Sender::new(false));
    let (end, mut over) = (ended.clone(), ended.subscribe());
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Ok(order) = serde_json::from_str(&line) {
                orders.send_replace(order);
            }
        }
        end.send_replace(true);
    });
    runtime()?.block_on(async move {
        let notes: Arc<dyn Notes> = Arc::<Relay>::clone(&relay);
        let mut starting = Box::pin(told.crew.start(&notes, &sender));
        let mut hosts = None;
        let mut ticks = tokio::time::interval(LATEST);
        loop {
            tokio::select! {
                _ = over.wait_for(|over| *over) => return Ok(()),
                started = &mut starting, if hosts.is_none() => hosts = Some(started?),
                _ = ticks.tick() => tell(&relay.take())?,
            }
        }
    })
}

fn tell(events: &[Event]) -> anyhow::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut line = serde_json::to_vec(events)?;
    line.push(b'\n');
    if std::io::stdout().lock().write_all(&line).is_err() {
        bail!("nobody wants to know what happens to hosts");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Desk, What};

    #[test]
    fn what_happened_is_told_once_and_in_order() {
        let relay = Arc::new(Relay {
            begun: monotonic(),
            events: Mutex::default(),
        });
        let desk = Desk {
            host: 3,
            notes: Arc::<Relay>::clone(&relay),
        };
        for what in [What::Begins, What::Has(u64::MAX), What::Ends { well: true }] {
            desk.say(what);
        }
        let told = serde_json::to_string(&relay.take()).unwrap();
        let heard: Vec<Event> = serde_json::from_str(&told).unwrap();
        let said: Vec<_> = heard.iter().map(|event| event.what).collect();
        assert_eq!(said, [What::Begins, What::Has(u64::MAX), What::Ends { well: true }]);
        assert!(heard.iter().all(|event| event.host == 3) && heard.is_sorted_by_key(|event| event.at));
        assert!(relay.take().is_empty());
    }
}
