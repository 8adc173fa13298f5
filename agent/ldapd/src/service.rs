//! From the configuration to a running server and its clean end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dirless_ldap::{Config as ServerConfig, Limits, Listener, Setup, serve_on_threads};
use dirless_program::config::ConfigError;
use dirless_program::{Lookup, service};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::config::{Address, Config, TlsFiles};
use crate::served::Served;

/// How often the copy's file is looked at: one call to the system.
const LOOK: Duration = Duration::from_millis(250);
/// Threads that serve, at most.
const MOST_THREADS: usize = 4;

/// Serves until a signal.
pub(crate) fn run(config: &Config, environment: Lookup<'_>) -> anyhow::Result<()> {
    dirless_program::log::start(&config.log, environment).context("cannot start logging")?;
    let tls = tls(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in &config.listen {
            let (listener, bound) = bind(address).await?;
            listeners.push(listener);
            addresses.push(bound.to_string());
        }
        let addresses = addresses.join(", ");
        let served = Arc::new(Served::new(&config.copy));
        let mut follower = Follower::default();
        follower.look(&served);
        let defaults = Limits::default();
        let setup = Setup {
            listeners,
            tls,
            config: ServerConfig {
                limits: Limits {
                    entries: config.entries.unwrap_or(defaults.entries),
                    connections: config.connections.unwrap_or(defaults.connections),
                    ..defaults
                },
                plain_passwords: false,
                refuse_anonymous: config.refuse_anonymous,
            },
        };
        let (stop, mut stopping) = watch::channel(false);
        let mut server = tokio::spawn(serve_on_threads(
            threads(),
            setup,
            Arc::clone(&served) as _,
            async move {
                // A sender that is gone stops as well.
                let _ = stopping.wait_for(|stop| *stop).await;
            },
        ));
        tracing::info!(name: "ldapd.ready", addresses, "serving on {addresses}");
        service::ready(&format!("serving on {addresses}"));
        let signal = tokio::select! {
            signal = service::stop_signal() => signal.context("waiting for signals")?,
            () = follow(&served, follower) => "the follower's end",
            ended = &mut server => return ended.context("the server ended badly")?.context("the server ended"),
        };
        tracing::info!(name: "ldapd.stopping", signal, "stopping on {signal}");
        service::stopping();
        let _ = stop.send(true);
        server
            .await
            .context("the server ended badly")?
            .context("the server ended")
    })
}

/// One for each processor, and not many: a host has other work.
fn threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MOST_THREADS)
}

/// Looks for newer generations, for ever, and tells the watchdog that somebody does.
async fn follow(served: &Arc<Served>, mut follower: Follower) {
    let watchdog = service::watchdog_interval();
    let mut look = tokio::time::interval(LOOK);
    let mut alive = tokio::time::interval(watchdog.unwrap_or(Duration::from_secs(3600)));
    loop {
        tokio::select! {
            _ = look.tick() => follower.look(served),
            _ = alive.tick() => service::alive(),
        }
    }
}

/// Logs a failure when it begins and when it ends.
#[derive(Default)]
struct Follower {
    failing: Option<String>,
}

impl Follower {
    fn look(&mut self, served: &Served) {
        match served.refresh() {
            Ok(newer) => {
                let recovered = self.failing.take().is_some();
                if newer || recovered {
                    tracing::debug!(name: "ldapd.generation", "another generation is served");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if self.failing.as_ref() != Some(&text) {
                    tracing::warn!(
                        name: "ldapd.no_copy",
                        error = text,
                        "the directory copy cannot be opened ({text}); what was served before is served on. \
                         Is [directory] enabled in dirless-agent.toml, and has the agent published?"
                    );
                    self.failing = Some(text);
                }
            }
        }
    }
}

/// Listens, and says where: port 0 becomes a free one.
async fn bind(address: &Address) -> anyhow::Result<(Listener, Address)> {
    let doing = || format!("cannot listen on {address}; is another LDAP server running here?");
    Ok(match address {
        Address::Plain(socket) => {
            let listener = TcpListener::bind(socket).await.with_context(doing)?;
            let bound = Address::Plain(listener.local_addr()?);
            (Listener::Plain(listener), bound)
        }
        Address::Tls(socket) => {
            let listener = TcpListener::bind(socket).await.with_context(doing)?;
            let bound = Address::Tls(listener.local_addr()?);
            (Listener::Tls(listener), bound)
        }
        Address::Local(path) => (Listener::Local(bind_local(path).with_context(doing)?), address.clone()),
    })
}

/// Anyone on this host may connect: the kernel says who it is.
fn bind_local(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// The certificate and key that the configuration names.
pub(crate) fn tls(config: &Config) -> anyhow::Result<Option<Arc<rustls::ServerConfig>>> {
    let Some(TlsFiles { certificate, key }) = &config.tls else {
        return Ok(None);
    };
    let bad = |path: &Path, reason: String| ConfigError::Parse {
        path: path.to_owned(),
        reason,
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
        .map_err(|error| bad(certificate, error.to_string()))?
        .collect();
    let chain = chain.map_err(|error| bad(certificate, error.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, error.to_string()))?;
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| bad(certificate, format!("does not fit its key: {error}")))?;
    Ok(Some(Arc::new(server)))
}
