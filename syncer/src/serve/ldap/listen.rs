//! The sockets of the LDAP server.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use dirless_ldap::{Listener, Setup};
use dirless_program::Clock;
use dirless_program::tls::Tls;
use tokio::net::{TcpListener, UnixListener};

use super::{PassThrough, TreeDirectory};
use crate::serve::config::LdapConfig;
use crate::tree::TreeStore;

/// The LDAP server with its sockets bound.
pub(in crate::serve) struct Ldap {
    setup: Setup,
    directory: Arc<TreeDirectory>,
    addresses: Vec<SocketAddr>,
    socket: Option<PathBuf>,
}

impl std::fmt::Debug for Ldap {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ldap")
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}

impl Ldap {
    pub(in crate::serve) async fn bind(
        config: &LdapConfig,
        tree: Arc<TreeStore>,
        tls: Option<&Arc<Tls>>,
        pass_through: Option<Arc<dyn PassThrough>>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let directory = TreeDirectory::new(config, tree, pass_through, clock).context("[serve.ldap]")?;
        let mut setup = Setup {
            tls: tls.map(|tls| tls.server(&[])).transpose()?,
            ..Setup::default()
        };
        let mut addresses = Vec::new();
        let plain = config.listen.iter().map(|address| (address, false));
        for (address, is_tls) in plain.chain(config.listen_tls.iter().map(|address| (address, true))) {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("listening on {address} ([serve.ldap])"))?;
            addresses.push(listener.local_addr().context("asking for the address that was bound")?);
            setup.listeners.push(if is_tls {
                Listener::Tls(listener)
            } else {
                Listener::Plain(listener)
            });
        }
        if let Some(path) = &config.socket {
            setup.listeners.push(Listener::Local(local_socket(path)?));
        }
        Ok(Self {
            setup,
            directory: Arc::new(directory),
            addresses,
            socket: config.socket.clone(),
        })
    }

    /// Where it listens by TCP: `ldap://`, then `ldaps://`.
    pub(in crate::serve) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `stop` is ready.
    pub(in crate::serve) async fn run(self, stop: impl Future<Output = ()>) {
        let shown: Arc<dyn dirless_ldap::Directory> = Arc::clone(&self.directory) as _;
        tokio::select! {
            () = dirless_ldap::serve(self.setup, shown, stop) => {}
            () = self.directory.follow() => {}
        }
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket that everybody on this machine may connect to: who they are is the kernel's word.
fn local_socket(path: &Path) -> anyhow::Result<UnixListener> {
    let failed = || format!("listening on {} ([serve.ldap] socket)", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    // What an earlier run left, when it could not clean up; one that is served is not taken away.
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path).with_context(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).with_context(failed)?;
    Ok(listener)
}
