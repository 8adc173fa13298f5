use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

/// What a [`Resolve`] gives back.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Turns a host name into every address behind it; tests bring their own.
pub trait Resolve: Send + Sync + std::fmt::Debug {
    /// All addresses of `host`, each with `port`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// The system's resolver (`getaddrinfo`), which also takes literal addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, port)).await?;
            Ok(found.collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literal_addresses_resolve_to_themselves() {
        let four = SystemResolver.resolve("127.0.0.1", 4000).await.unwrap();
        assert_eq!(four, ["127.0.0.1:4000".parse::<SocketAddr>().unwrap()]);
        let six = SystemResolver.resolve("::1", 80).await.unwrap();
        assert_eq!(six, ["[::1]:80".parse::<SocketAddr>().unwrap()]);
    }
}
