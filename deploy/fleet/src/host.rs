//! One host: cycles at its rhythm and when a notice is news, as the agent has them, in whichever protocol.

use std::time::Duration;

use dirless_client::{Callers, Client, Looks, Notices, Rhythm};
use dirless_wire::Notice;
use rand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::classic::Classic;
use crate::event::{Desk, What};
use crate::verified::Verified;

/// An order to the hosts with a lower number: close the stream and open another at once. It counts up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Reconnect {
    pub(crate) order: u64,
    pub(crate) hosts: usize,
}

/// A cycle failed.
#[derive(Debug, Default)]
pub(crate) struct Failed {
    /// How long the backend asks to wait.
    pub(crate) retry_after: Option<Duration>,
}

/// What a host speaks, and what it knows of its tenant by that.
#[derive(Debug)]
pub(crate) enum Speaks {
    Classic(Classic),
    Verified(Box<Verified>),
}

impl Speaks {
    fn client(&self) -> &Client {
        match self {
            Self::Classic(host) => host.client(),
            Self::Verified(host) => host.client(),
        }
    }

    fn is_news(&self, notice: &Notice) -> bool {
        match self {
            Self::Classic(host) => host.is_news(notice),
            Self::Verified(host) => host.is_news(notice),
        }
    }

    fn called(&mut self, notice: &Notice) {
        match self {
            Self::Classic(host) => host.called(notice),
            Self::Verified(host) => host.called(notice),
        }
    }

    fn is_ahead(&self, notice: &Notice) -> bool {
        match self {
            Self::Classic(host) => host.is_ahead(notice),
            Self::Verified(_) => false,
        }
    }

    async fn cycle(&mut self, desk: &Desk) -> Result<(), Failed> {
        match self {
            Self::Classic(host) => host.cycle(desk).await,
            Self::Verified(host) => host.cycle(desk).await,
        }
    }
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its way to the backends, and what it knows.
    pub(crate) speaks: Speaks,
    /// How often it looks without being told.
    pub(crate) rhythm: Rhythm,
    /// Where it notes what happens.
    pub(crate) desk: Desk,
}

/// What a host knows while it lives.
struct Living {
    host: Host,
    callers: Callers,
    looks: Looks,
    /// The notice that came last.
    last: Option<Notice>,
    failures: u32,
}

impl Host {
    /// Lives until nobody gives orders any more; the first cycle after `wait`.
    pub(crate) async fn live(self, wait: Duration, mut orders: watch::Receiver<Reconnect>) {
        tokio::time::sleep(wait).await;
        let (desk, client, rhythm) = (self.desk.clone(), self.speaks.client().clone(), self.rhythm);
        let mut living = Living {
            host: self,
            callers: Callers::default(),
            looks: Looks::default(),
            last: None,
            failures: 0,
        };
        let mut next = living.cycle().await;
        let mut notices = Notices::start(client.clone(), rhythm);
        loop {
            tokio::select! {
                biased;
                order = orders.changed() => {
                    if order.is_err() {
                        return;
                    }
                    if desk.host < orders.borrow_and_update().hosts {
                        notices = Notices::start(client.clone(), rhythm);
                    }
                }
                heard = living.hear(&mut notices) => {
                    let speaks = &mut living.host.speaks;
                    if let Some(notice) = living.callers.choose(heard, |notice| speaks.is_news(notice)) {
                        speaks.called(&notice);
                        living.looks.begin(notice);
                        next = living.cycle().await;
                    }
                }
                () = tokio::time::sleep_until(next) => next = living.cycle().await,
            }
        }
    }
}

impl Living {
    /// Notices that were not looked at, or that are to be looked at once more.
    async fn hear(&mut self, notices: &mut Notices) -> Vec<Notice> {
        if let Some(notice) = self.callers.again() {
            return vec![notice];
        }
        let heard = notices.next().await;
        for notice in &heard {
            let is_same = self.last.as_ref() == Some(notice);
            self.host.desk.say(if is_same { What::Heard } else { What::Told });
            self.last = Some(notice.clone());
        }
        heard
    }

    /// One cycle; says when the next is due.
    async fn cycle(&mut self) -> Instant {
        let Host { speaks, rhythm, desk } = &mut self.host;
        desk.say(What::Begins);
        let outcome = speaks.cycle(desk).await;
        desk.say(What::Ends { well: outcome.is_ok() });
        let (failures, asked) = match outcome {
            Ok(()) => (0, None),
            Err(failed) => (self.failures.saturating_add(1), failed.retry_after),
        };
        self.failures = failures;
        let wait = rhythm.next(failures, asked, rand::rng().random());
        let pause = self.looks.pause(|notice| speaks.is_ahead(notice));
        Instant::now() + pause.map_or(wait, |pause| pause.min(wait))
    }
}
