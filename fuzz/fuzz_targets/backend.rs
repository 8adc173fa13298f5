//! What a backend reads of strangers' bytes: bodies of the classic protocol, the lines of a receipt, the addresses that fronts
//! pass on, and the first bytes of a body that may be in clear. The first byte chooses.
//!
//! The sources are taken in by path: the backend as a whole would bring its stores into an instrumented build.

#![no_main]

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dirless_seal::trust::{Receipt, read};
use dirless_seal::{Note, Recipient};
use dirless_wire::{AgePublicKey, EnrollRequest, Heartbeat, HostReport, PublicKeyRequest, Setting};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[path = "../../backend/src/http/address.rs"]
mod address;
#[path = "../../backend/src/routes/heartbeat/body.rs"]
mod body;
#[expect(dead_code, reason = "the rest of the file serves the configuration")]
#[path = "../../backend/src/config/address.rs"]
mod network;
#[path = "../../backend/src/store/trust/said.rs"]
mod said;
#[expect(dead_code, reason = "the rest of the file serves the routes")]
#[path = "../../backend/src/http/sniff.rs"]
mod sniff;

mod config {
    pub(crate) use crate::network::Network;
}

use address::Client;
use body::{Sender, fit};
use config::Network;
use said::Said;
use sniff::{InClear, SNIFFED, plainly};

/// Most bytes of a report; two sizes, so that little ones are cut as well.
const MOST: [usize; 2] = [1024, 8 * 1024];

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    match choice % 5 {
        0 => heartbeat(rest),
        1 => {
            let keys = [
                one::<EnrollRequest>(rest).map(|request| request.age_public_key),
                one::<PublicKeyRequest>(rest).map(|request| request.age_public_key),
                std::str::from_utf8(rest)
                    .ok()
                    .and_then(|text| AgePublicKey::new(text).ok()),
            ];
            // What is registered can be sealed to.
            for key in keys.into_iter().flatten() {
                assert!(key.as_str().parse::<Recipient>().is_ok(), "{key:?}");
            }
            let _ = one::<Setting>(rest);
        }
        2 => receipt(rest),
        3 => forwarded(rest),
        _ => in_clear(rest),
    }
});

/// Reads one kind of body.
fn one<T: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let body: T = serde_json::from_slice(data).ok()?;
    let printed = serde_json::to_vec(&body).expect("it has text keys");
    assert_eq!(serde_json::from_slice::<T>(&printed).ok().as_ref(), Some(&body));
    Some(body)
}

/// The hot path reads of a heartbeat what the other one reads; what is kept of a report fits, and is read again.
fn heartbeat(data: &[u8]) {
    let Some(whole) = one::<Heartbeat>(data) else { return };
    let sender: Sender<'_> = serde_json::from_slice(data).expect("what is read whole is read in part");
    assert_eq!(
        (&*sender.agent_id, &*sender.hostname),
        (&*whole.agent_id, &*whole.hostname)
    );
    assert_eq!(sender.report.is_some(), whole.report.is_some());
    let Some(report) = whole.report else { return };
    let mut capped = report.clone();
    capped.cap();
    for most in MOST {
        let text = fit(report.clone(), most);
        assert!(text.len() <= most && !text.contains('\0'));
        if text.is_empty() {
            assert_ne!(most, 8 * 1024, "a capped report is never left out");
            continue;
        }
        let kept: HostReport = serde_json::from_str(&text).expect("it was just written");
        assert_eq!(
            (kept.users, kept.groups, kept.dropped_total),
            (report.users, report.groups, report.dropped_total)
        );
        assert!(capped.dropped.starts_with(&kept.dropped) && capped.problems.starts_with(&kept.problems));
        assert!(
            kept.sources
                .iter()
                .all(|(name, source)| report.sources.get(name) == Some(source))
        );
        assert_eq!(fit(kept, most), text);
    }
}

/// The backend sees of a receipt what those see who hold the tenant's keys.
fn receipt(data: &[u8]) {
    let said = Said::all_of(data);
    let seen: Vec<_> = said
        .iter()
        .map(|said| (said.about.to_string(), said.version.get(), said.digest.to_string()))
        .collect();
    let note = Note::parse(data, 64 * 1024);
    let text = match &note {
        Ok(note) => note.text(),
        Err(_) => match std::str::from_utf8(data) {
            Ok(text) => text,
            Err(_) => return assert!(said.is_empty()),
        },
    };
    for (about, version, digest) in &seen {
        let line = format!("{} {version} {digest}", about.replacen('/', " ", 1));
        assert!(text.contains(&line), "{line} is not in it");
    }
    let Ok(receipt) = read::<Receipt>(text) else { return };
    let policy = ("policy".to_owned(), receipt.policy);
    let heads = receipt
        .heads
        .iter()
        .map(|(publisher, seen)| (format!("head/{publisher}"), *seen));
    let all: Vec<_> = [policy]
        .into_iter()
        .chain(heads)
        .map(|(about, seen)| (about, seen.version, seen.digest.to_string()))
        .collect();
    assert_eq!(seen, all);
}

/// The first line is the other end of the connection, the others are the lines of the header.
fn forwarded(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let peer = lines
        .next()
        .and_then(|line| std::str::from_utf8(line).ok()?.parse::<IpAddr>().ok());
    let peer = peer.unwrap_or(IpAddr::from([10, 0, 0, 1]));
    let trusted = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].map(|network| Network::parse(network).expect("a network"));
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        if let Ok(line) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", line);
        }
    }
    let client = Client::of(SocketAddr::new(peer, 1), &headers, &trusted);
    let all: Vec<&[u8]> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    assert!(!client.is_local || all.is_empty() && peer.to_canonical().is_loopback());
    // All of it is one list. Of what stands behind the last address of a stranger every front is trusted.
    let list = all.join(&b","[..]);
    let mut address = peer.to_canonical();
    for entry in list.rsplit(|byte| *byte == b',') {
        if !trusted.iter().any(|network| network.contains(address)) {
            break;
        }
        let entry = std::str::from_utf8(entry).unwrap_or_default().trim();
        let bare = entry
            .strip_prefix('[')
            .and_then(|entry| entry.strip_suffix(']'))
            .unwrap_or(entry);
        let read = bare.parse::<IpAddr>().ok();
        let Some(next) = read.or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip())) else {
            break;
        };
        address = next.to_canonical();
    }
    assert_eq!(client.address, address);
    let key = client.limit_key();
    match client.address {
        IpAddr::V4(address) => assert_eq!(key, address.to_ipv6_mapped().to_bits()),
        IpAddr::V6(address) => assert_eq!(key >> 64, address.to_bits() >> 64),
    }
}

/// What is sealed passes, whatever is in it, and what is JSON does not, in base64 or bare.
fn in_clear(data: &[u8]) {
    let found = plainly(data);
    assert_eq!(found, plainly(&data[..data.len().min(SNIFFED)]));
    assert_eq!(
        found == Some(InClear::Empty),
        data[..data.len().min(SNIFFED)].trim_ascii().is_empty()
    );
    let sealed = [b"age-encryption.org/v1\n", data].concat();
    let json = [b"{\"a", data].concat();
    assert_eq!(plainly(&sealed), None);
    assert_eq!(plainly(STANDARD.encode(&sealed).as_bytes()), None);
    assert_eq!(plainly(&json), Some(InClear::Json));
    assert_eq!(plainly(STANDARD.encode(&json).as_bytes()), Some(InClear::Base64Json));
}
