use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use dirless_program::service;
use tokio::sync::oneshot;

use super::poke::Poker;
use super::revoke::door::Door;
use super::{Setting, run};
use crate::serve::tokens::TokenStore;
use crate::serve::{Server, Sources};

pub(super) async fn serve(setting: &Setting<'_>) -> anyhow::Result<ExitCode> {
    let stop = service::stop_signal();
    let config = &setting.config;
    let tree = config.tree.open(&config.syncer.state_folder, setting.clock.clone())?;
    let tokens = TokenStore::open(&TokenStore::path(&config.syncer.state_folder), setting.clock.clone())?;
    let tree = Arc::new(tree);
    let (poker, pokes) = Poker::new();
    let mut pokes = pokes.over(Arc::clone(&tree));
    let server = Server::bind(
        &config.serve,
        tree,
        Arc::new(tokens),
        Arc::new(poker),
        Arc::new(Door::of(setting)),
        Sources::of(config, (setting.environment)("CREDENTIALS_DIRECTORY")).map(|sources| Arc::new(sources) as _),
        setting.clock.clone(),
    )
    .await?;
    let address = server.address().context("asking for the address that was bound")?;
    let scheme = if config.serve.tls.is_some() { "https" } else { "http" };
    tracing::info!(event = "serve.started", "serving on {scheme}://{address}");
    for address in server.ldap_addresses() {
        tracing::info!(event = "serve.ldap", "LDAP on {address}");
    }
    service::ready(&format!("serving on {scheme}://{address}"));
    let (end, ended) = oneshot::channel::<()>();
    let served = server.run(async move {
        let _ = ended.await;
    });
    let stopped = async {
        let reason = tokio::select! {
            reason = stop => reason.context("installing signal handlers"),
            // Whoever asks must not depend on a backend that answers: the loop only ends to start over.
            never = run::always(setting, &mut pokes) => match never {},
            never = setting.keep_signed() => match never {},
        };
        service::stopping();
        let _ = end.send(());
        reason
    };
    let (served, reason) = tokio::join!(served, stopped);
    served?;
    tracing::info!(event = "syncer.stopping", signal = reason?, "stopping");
    Ok(ExitCode::SUCCESS)
}
