//! `dirless-syncer serve`: the tree by REST and LDAP, next to the cycles that feed it.
//!
//! What always holds: REST answers nothing without a good token, and LDAP nothing that no rule allows; no
//! answer, filter or log shows a password; every write has a name in the changelog; and a source or
//! backend that is down keeps nobody from asking.

mod app;
mod body;
pub mod config;
mod etag;
mod json;
mod ldap;
mod limits;
mod net;
mod passwords;
pub mod problem;
pub mod requests;
pub mod revoker;
mod routes;
pub mod tokens;
pub mod triggers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dirless_program::Clock;
use dirless_program::tls::Tls;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub use app::{App, Shared};
pub use config::ServeConfig;
use ldap::Ldap;
pub use ldap::{PassThrough, Sources};
use revoker::Revoker;
pub use routes::{description, router};
use tokens::TokenStore;
use triggers::Triggers;

use crate::tree::TreeStore;

/// How often changes of other programs in the tree, and changed certificates, are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A server with its sockets bound.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    rest: TcpListener,
    connections: usize,
    tls: Option<Arc<Tls>>,
    ldap: Option<Ldap>,
    ending: watch::Sender<bool>,
}

impl Server {
    /// Binds the sockets, so that what cannot work is known at once. `pass_through` decides the passwords of
    /// people whose source is asked.
    ///
    /// # Errors
    /// When an address is taken or TLS cannot be used.
    pub async fn bind(
        config: &ServeConfig,
        tree: Arc<TreeStore>,
        tokens: Arc<TokenStore>,
        triggers: Arc<dyn Triggers>,
        revoker: Arc<dyn Revoker>,
        pass_through: Option<Arc<dyn PassThrough>>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let tls = config
            .tls
            .as_ref()
            .map(|files| Tls::load(files, "serve.tls"))
            .transpose()?;
        let rest = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listening on {} ([serve] listen)", config.listen))?;
        let ldap = match &config.ldap {
            Some(ldap) => {
                let (tree, clock) = (Arc::clone(&tree), clock.clone());
                Some(Ldap::bind(ldap, tree, tls.as_ref(), pass_through, clock).await?)
            }
            None => None,
        };
        let (ending, ends) = watch::channel(false);
        let app = App::new(Shared {
            tree,
            tokens,
            triggers,
            revoker,
            clock,
            failures_per_minute: config.failures_per_minute,
            streams: config.streams,
            ending: ends,
        });
        Ok(Self {
            app: Arc::new(app),
            rest,
            connections: config.connections,
            tls,
            ldap,
            ending,
        })
    }

    /// Where the REST interface listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.rest.local_addr()
    }

    /// Where LDAP is spoken over TCP.
    #[must_use]
    pub fn ldap_addresses(&self) -> &[SocketAddr] {
        self.ldap.as_ref().map_or(&[], Ldap::addresses)
    }

    /// Serves until `stop` is ready, then ends what is under way.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let acceptor = match &self.tls {
            Some(tls) => Some(TlsAcceptor::from(tls.server(&[b"h2", b"http/1.1"])?)),
            None => None,
        };
        let stopped = || {
            let mut ends = self.ending.subscribe();
            async move {
                let _ = ends.wait_for(|ending| *ending).await;
            }
        };
        let router = router(&self.app);
        let rest = net::serve(self.rest, acceptor, router, self.connections, stopped());
        let ldap = self.ldap.map(|ldap| ldap.run(stopped()));
        let ldap = async {
            if let Some(ldap) = ldap {
                ldap.await;
            }
        };
        let watching = watch_for_changes(Arc::clone(&self.app), self.tls.clone());
        let ending = &self.ending;
        let end = async move {
            stop.await;
            let _ = ending.send(true);
        };
        tokio::select! {
            ((), (), ()) = async { tokio::join!(rest, ldap, end) } => {}
            () = watching => {}
        }
        Ok(())
    }
}

/// Sees what other programs write into the tree, and certificates that were renewed. Never ends.
async fn watch_for_changes(app: Arc<App>, tls: Option<Arc<Tls>>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let seen = app.work(|app| Ok(app.tree.refresh()?)).await;
        if let Err(problem) = seen {
            tracing::debug!(event = "tree.unread", ?problem);
        }
        if let Some(tls) = &tls {
            match tls.refresh() {
                Ok(true) => tracing::info!(event = "tls.renewed", "the certificate was renewed"),
                Ok(false) => {}
                Err(error) => tracing::error!(event = "tls.unusable", %error, "the old certificate stays in use"),
            }
        }
    }
}
