//! `[serve]` of the configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

/// `[serve]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Where the REST interface listens.
    pub listen: SocketAddr,
    /// Wrong tokens of one address in a minute before it is told to wait.
    pub failures_per_minute: u32,
    /// Connections at once.
    pub connections: usize,
    /// Live streams at once.
    pub streams: usize,
    /// Own TLS.
    pub tls: Option<TlsFiles>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8214),
            failures_per_minute: 10,
            connections: 512,
            streams: 64,
            tls: None,
        }
    }
}

/// `[serve.tls]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate and those between it and the authority, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, readable by the syncer alone.
    pub key: PathBuf,
}

impl ServeConfig {
    /// Checks what the types cannot say. The error is the key and what is wrong with it.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.tls.is_none() && !self.listen.ip().is_loopback() {
            return Err((
                "serve.listen",
                format!(
                    "{} can be reached from other machines, and tokens would travel in clear: set [serve.tls], or listen on 127.0.0.1",
                    self.listen
                ),
            ));
        }
        for (key, number) in [("serve.connections", self.connections), ("serve.streams", self.streams)] {
            if number == 0 {
                return Err((key, "must be at least 1".to_owned()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServeConfig, String> {
        let config: ServeConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|(key, reason)| format!("{key}: {reason}"))?;
        Ok(config)
    }

    #[test]
    fn nothing_is_needed_and_nothing_leaves_this_machine() {
        let config = parse("").unwrap();
        assert!(config.listen.ip().is_loopback());
        assert_eq!(parse("listen = \"[::1]:80\"").unwrap().listen.port(), 80);
    }

    #[test]
    fn other_machines_need_tls() {
        let tls = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
        assert!(parse("listen = \"0.0.0.0:80\"").unwrap_err().contains("serve.tls"));
        parse(&format!("listen = \"0.0.0.0:80\"\n{tls}")).unwrap();
    }
}
