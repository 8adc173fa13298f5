//! Who is at the other end.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client of a request, put into its extensions before any route sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The address that limits and the audit log go by.
    pub(crate) address: IpAddr,
    /// Whether a program on this machine asks for itself. Never true for what a front passed on:
    /// a front on the same machine has a loopback address too.
    pub(crate) is_local: bool,
}

impl Client {
    /// Derives the client from the connection and, when a trusted front sent it, `X-Forwarded-For`:
    /// the right-most address that is not itself a trusted front.
    pub(crate) fn of(peer: SocketAddr, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let peer = peer.ip().to_canonical();
        let forwarded = headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED);
        let address = if forwarded && is_trusted(peer, trusted) {
            behind(peer, headers, trusted)
        } else {
            peer
        };
        Self {
            address,
            is_local: peer.is_loopback() && !forwarded,
        }
    }

    /// What limits count by: the address, or the /64 of an IPv6 one, since a client owns all of it.
    pub(crate) fn limit_key(&self) -> u128 {
        match self.address {
            IpAddr::V4(address) => u128::from(address.to_bits()) | 0xffff_0000_0000,
            IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
        }
    }
}

fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

fn behind(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let mut nearest = peer;
    // Several header lines are one list; each front appends, so the last entries are the surest.
    let lines: Vec<&[u8]> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // As bytes: a line that is no text must not be passed over, for what a front appended to it counts.
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
        let Some(address) = std::str::from_utf8(entry)
            .ok()
            .and_then(|entry| parse_entry(entry.trim()))
        else {
            break;
        };
        nearest = address;
        if !is_trusted(address, trusted) {
            break;
        }
    }
    nearest
}

/// An address, with or without a port.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(entry);
    let address = bare
        .parse::<IpAddr>()
        .or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> Client {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let trusted = [
            Network::parse("127.0.0.1").unwrap(),
            Network::parse("10.0.0.0/8").unwrap(),
        ];
        Client::of(SocketAddr::new(peer.parse().unwrap(), 1), &headers, &trusted)
    }

    fn address(peer: &str, forwarded: &[&str]) -> String {
        client(peer, forwarded).address.to_string()
    }

    #[test]
    fn only_trusted_fronts_are_believed() {
        assert_eq!(address("192.0.2.1", &["198.51.100.9"]), "192.0.2.1");
        assert_eq!(address("127.0.0.1", &["198.51.100.9"]), "198.51.100.9");
        assert_eq!(address("::ffff:127.0.0.1", &["198.51.100.9"]), "198.51.100.9");
    }

    #[test]
    fn what_a_client_claims_before_the_front_is_not_believed() {
        assert_eq!(address("127.0.0.1", &["1.1.1.1, 198.51.100.9"]), "198.51.100.9");
        assert_eq!(
            address("127.0.0.1", &["1.1.1.1", "198.51.100.9, 10.0.0.3"]),
            "198.51.100.9"
        );
        assert_eq!(address("127.0.0.1", &["198.51.100.9, nonsense, 10.0.0.3"]), "10.0.0.3");
        assert_eq!(address("127.0.0.1", &["[2001:db8::1]:443"]), "2001:db8::1");
        // Nor when it makes no text of the line that the front goes on with.
        assert_eq!(address("127.0.0.1", &["1.1.1.1", "é, 198.51.100.9"]), "198.51.100.9");
        assert_eq!(address("127.0.0.1", &["1.1.1.1", "é"]), "127.0.0.1");
    }

    #[test]
    fn a_front_on_this_machine_is_not_local() {
        assert!(client("127.0.0.1", &[]).is_local);
        assert!(!client("127.0.0.1", &["127.0.0.1"]).is_local);
        assert!(!client("192.0.2.1", &[]).is_local);
    }

    #[test]
    fn one_ipv6_customer_is_one_key() {
        let key = |text: &str| client(text, &[]).limit_key();
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
