//! `dirless-backend run`: from a configuration to a serving process, and back down.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use dirless_program::{Clock, Lookup, service};
use ring::rand::SystemRandom;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::config::{BearerOrigin, BearerSecret, Config, find_secret, resolve_secret};
use crate::net::{self, Serving, Tls};
use crate::routes;
use crate::store::{Location, Purpose, RealmChange, SecretHash, Store, StoreOptions};

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(config: Config, environment: Lookup<'_>) -> anyhow::Result<()> {
    dirless_program::log::start(&config.log, environment).context("cannot start logging")?;
    // Each connection is a file.
    if let Err(error) = service::raise_open_files(0) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    // From here on, with TLS or without: what nobody waits for ends the process, and opening a large store takes a while.
    let hangup = {
        let _within = runtime.enter();
        signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?
    };
    let tls = config.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
    let clock = Clock::system();
    let location = config.storage.location(environment)?;
    let bearer = bearer(&config, &location, environment)?;
    let options = StoreOptions {
        clock: clock.clone(),
        ..StoreOptions::new(location.clone())
    };
    let store = Store::open(options, Purpose::Serve).with_context(|| format!("cannot open the store in {location}"))?;
    tracing::info!(engine = store.engine().name, store = %location, "the store is open");
    let address = config.listen_address();
    let workers = worker_count(config.server.workers);
    let listeners =
        net::bind(address, workers).with_context(|| format!("cannot listen on {address} ([server] host, port)"))?;
    let bound = listeners
        .first()
        .and_then(|listener| listener.local_addr().ok())
        .unwrap_or(address);
    runtime.block_on(async {
        let hash = SecretHash::of(bearer.secret.expose().as_bytes());
        let change = store
            .ensure_default_realm(hash)
            .await
            .context("cannot keep the hash of the secret")?;
        if change != RealmChange::Done {
            bail!("the secret of [hmac] is that of another realm or of a token: give the default realm one of its own");
        }
        announce(&bearer);
        // Listening for signals before the service manager is told that we serve: it may stop us at once.
        let stop = tokio::spawn(service::stop_signal());
        tokio::task::yield_now().await;
        let metrics = bind_metrics(&config).await?;
        let app = App::new(config, store, clock);
        let serving = Serving { app, listeners, tls };
        let scheme = if serving.tls.is_some() { "https" } else { "http" };
        tracing::info!(address = %bound, scheme, workers, "serving on {scheme}://{bound}");
        service::ready(&format!("serving on {scheme}://{bound}"));
        serve(serving, metrics, stop, hangup).await
    })
}

/// The classic secret. Alone on its machine a server may make one up; one of several would then shut out the hosts of
/// the others.
fn bearer(config: &Config, location: &Location, environment: Lookup<'_>) -> anyhow::Result<BearerSecret> {
    let (hmac, storage) = (&config.hmac, &location.folder);
    let found = if location.database.is_some() {
        find_secret(hmac, storage, environment)
    } else {
        dirless_program::fs::ensure_folder(storage, 0o700)
            .with_context(|| format!("cannot use {}", storage.display()))?;
        resolve_secret(hmac, storage, environment, &SystemRandom::new()).map(Some)
    };
    found.context("there is no secret for deployed components")?.context(
        "there is no secret for deployed components: servers that share a database share it, so none makes one up; \
         put the same one into [hmac] secret_file of each",
    )
}

/// Opens `[metrics] listen`, when it is set.
async fn bind_metrics(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = config.metrics.listen else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).await;
    bound
        .map(Some)
        .with_context(|| format!("cannot listen on {address} ([metrics] listen)"))
}

async fn serve(
    serving: Serving,
    metrics: Option<TcpListener>,
    stop: JoinHandle<std::io::Result<&'static str>>,
    hangup: Signal,
) -> anyhow::Result<()> {
    let app = Arc::clone(&serving.app);
    let reload = tokio::spawn(reload_on_hangup(hangup, serving.tls.clone()));
    let scraping = metrics.map(|listener| {
        let router = routes::metrics_router(&app);
        tokio::spawn(async move { axum::serve(listener, router).await })
    });
    let (stop_beats, stopping) = oneshot::channel::<()>();
    let sink = Arc::clone(app.heartbeats());
    let beats = tokio::spawn(async move {
        // An error means that the sender is gone, which is a stop as well.
        sink.run(async { drop(stopping.await) }).await;
    });
    let store = app.store.clone();
    let shutdown = async {
        tokio::select! {
            signal = stop => match signal {
                Ok(Ok(signal)) => tracing::info!(signal, "stopping"),
                Ok(Err(error)) => tracing::error!(%error, "cannot wait for signals; stopping"),
                Err(error) => tracing::error!(%error, "waiting for signals ended by a defect; stopping"),
            },
            // Better started again by the service manager than lingering without writes.
            () = store.ended() => tracing::error!("the store's writer ended by a defect; stopping"),
        }
        service::stopping();
    };
    let outcome = serving.run(shutdown, service::alive).await;
    // After the last request: flush the heartbeats, then close the store.
    let _ = stop_beats.send(());
    beats.await.context("the flushing of heartbeats ended by a defect")?;
    let writing = app.store.is_alive();
    app.store.close().await;
    for task in scraping.iter().map(JoinHandle::abort_handle) {
        task.abort();
    }
    reload.abort();
    outcome?;
    if !writing {
        bail!("the store's writer ended by a defect, which the log names");
    }
    Ok(())
}

async fn reload_on_hangup(mut hangup: Signal, tls: Option<Arc<Tls>>) {
    while hangup.recv().await.is_some() {
        match tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => tracing::info!("the TLS certificate was read again"),
            Some(Err(error)) => tracing::error!(%error, "the TLS certificate cannot be used; the old one stays"),
            None => tracing::info!("SIGHUP changes nothing here: there is no TLS certificate to read again"),
        }
    }
}

fn announce(bearer: &BearerSecret) {
    match &bearer.origin {
        BearerOrigin::Generated(path) => {
            tracing::info!(path = %path.display(), "made a secret for hosts and syncers and kept it in {}", path.display());
            // Only to a person: under a service manager standard output is the journal, which is kept
            // and read by others. The file has it in any case.
            let mut output = std::io::stdout().lock();
            if output.is_terminal() {
                let shown = writeln!(output, "secret (shown once): {}", bearer.secret.expose());
                let _ = shown.and_then(|()| output.flush());
            }
        }
        BearerOrigin::File(path) => tracing::debug!(path = %path.display(), "the secret is from a file"),
        BearerOrigin::Config => tracing::warn!("[hmac] secret is in the configuration; secret_file is safer"),
        BearerOrigin::Credential => tracing::debug!("the secret is from the service manager"),
        BearerOrigin::Environment => tracing::debug!("the secret is from the environment"),
    }
}

fn worker_count(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        number => number,
    }
}
