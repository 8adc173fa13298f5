//! Stand-ins for the two AWS services that a syncer meets: the Identity Center API
//! ([`IdentityCenter`]) and the instance metadata service ([`Imds`]). Both listen on a free port of
//! the loopback in a thread of their own, so that plain and async tests use them alike.

mod directory;
mod identity_center;
mod imds;
mod quota;

use std::future::Future;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use directory::{Directory, Group, User, group_id, user_id};
pub use identity_center::{Behaviour, Failure, IdentityCenter};
pub use imds::{Imds, RoleCredentials};
pub use quota::Quota;

/// A server thread that stops, and is waited for, when this is dropped.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds a free port, then serves what `serve` makes of the listener until dropped.
    ///
    /// # Errors
    /// When no port or thread is to be had.
    fn start<F, S>(serve: F) -> std::io::Result<Self>
    where
        F: FnOnce(TcpListener) -> S + Send + 'static,
        S: Future<Output = ()>,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("aws-stand-in".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    if let Ok(listener) = TcpListener::from_std(listener) {
                        tokio::select! {
                            () = serve(listener) => {}
                            _ = stopped => {}
                        }
                    }
                });
            })?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
