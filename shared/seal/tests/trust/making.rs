//! Makes the vectors, from fixed seeds and always the same bytes.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use dirless_seal::trust::log::Chain;
use dirless_seal::trust::{
    Compartment, Enroller, Entry, Head, JoinCode, JoinRequest, Lease, Manifest, Memory, Node, NodeList, Object,
    OnExpiry, Policy, Publisher, Receipt, ReceiptAlarm, Revoked, Right, Scope, Seen, Succession, Wrap, node_name,
    print,
};
use dirless_seal::{Digest, Identity, Label, Note, SigningKey};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::support::{at, label};

mod of_hosts;
mod of_logs;
mod of_policies;
mod of_publishers;
mod of_successions;

pub(crate) struct Made {
    pub(crate) path: String,
    pub(crate) kind: &'static str,
    pub(crate) result: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// All vectors, in the order of the index.
pub(crate) fn all() -> Vec<Made> {
    let mut maker = Maker { made: Vec::new() };
    notes(&mut maker);
    keys(&mut maker);
    of_policies::make(&mut maker);
    of_publishers::make(&mut maker);
    of_hosts::make(&mut maker);
    of_logs::make(&mut maker);
    of_successions::make(&mut maker);
    maker.made
}

struct Maker {
    made: Vec<Made>,
}

impl Maker {
    fn add(&mut self, kind: &'static str, name: &str, result: &'static str, bytes: impl Into<Vec<u8>>) {
        self.made.push(Made {
            path: format!("{kind}/{name}"),
            kind,
            result,
            bytes: bytes.into(),
        });
    }

    /// What can be wrong with the note of any object: `good` is signed by `key`, alone or with others.
    fn spoilt(&mut self, kind: &'static str, good: &str, key: &SigningKey) {
        let (text, _) = good.rsplit_once("\n\n").unwrap();
        let text = format!("{text}\n");
        self.add(kind, "unsigned", "no-note/unsigned", text.clone());
        self.add(kind, "stripped-signature", "no-note/unsigned", format!("{text}\n"));
        // No blank line is left in it.
        self.add(kind, "crlf", "no-note/unsigned", good.replace('\n', "\r\n"));
        self.add(kind, "tab", "no-note/characters", good.replacen(' ', "\t", 1));
        let nul = resigned(&text.replacen(' ', " \0", 1), key);
        self.add(kind, "nul", "no-note/characters", nul);
        let cut = &good[..good.len() / 3];
        self.add(kind, "cut-in-the-middle", "no-note/unsigned", cut);
        self.add(kind, "cut-at-the-end", "no-note/unsigned", &good[..good.len() - 1]);
        self.add(kind, "trailing-blank-line", "no-note/unsigned", format!("{good}\n"));
        let many = good.to_owned() + &"\u{2014} a AAAAAAAA\n".repeat(64);
        self.add(kind, "sixty-five-signatures", "no-note/too-many", many);
        let strange = format!("{text}\n\u{2014} stranger {}\n", STANDARD.encode([7; 68]));
        self.add(kind, "signed-by-nobody", "forged", strange);
        let changed = good.replacen("2026", "2025", 1);
        self.add(kind, "changed-after-signing", "forged", changed);
        let other = text.replacen("/v1\n", "/v2\n", 1);
        self.add(kind, "newer-format", "malformed/context", resigned(&other, key));
        let mut lines: Vec<_> = text.lines().collect();
        lines.swap(1, 2);
        let swapped = lines.join("\n") + "\n";
        self.add(kind, "fields-swapped", "malformed/line-2", resigned(&swapped, key));
    }
}

/// Signs `text`, whatever is in it, as somebody would who does not mind the rules.
fn resigned(text: &str, key: &SigningKey) -> String {
    let verifying = key.verifying();
    let printed = verifying.to_string();
    let hash = printed.split('+').nth(1).unwrap();
    let mut bytes: Vec<u8> = (0..4)
        .map(|at| u8::from_str_radix(&hash[at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    bytes.extend(key.sign(text.as_bytes()));
    format!("{text}\n\u{2014} {} {}\n", verifying.name(), STANDARD.encode(bytes))
}

fn signed<T: Object>(object: &T, keys: &[&SigningKey]) -> String {
    Note::sign(print(object).unwrap(), keys).unwrap().to_string()
}

fn digest_of(note: &str) -> Digest {
    Note::parse(note.as_bytes(), 1 << 20).unwrap().digest()
}

/// The Ed25519 key of 32 times this byte.
fn key(name: &str, seed: u8) -> SigningKey {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let mut named = format!("{name}\n\u{1}").into_bytes();
    named.extend(pair.public_key().as_ref());
    let hash = &Digest::of(&named).to_string()[..8];
    let mut typed = vec![1];
    typed.extend([seed; 32]);
    SigningKey::parse(&format!("PRIVATE+KEY+{name}+{hash}+{}", STANDARD.encode(typed))).unwrap()
}

fn node_key(seed: u8) -> SigningKey {
    let nameless = key("n", seed);
    nameless.renamed(node_name(nameless.verifying().as_bytes()))
}

/// The age identities of 32 times 1 to 5.
fn identity(number: usize) -> Identity {
    [
        "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZ9K4CN",
        "AGE-SECRET-KEY-1QGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQ0N3JDM",
        "AGE-SECRET-KEY-1QVPSXQCRQVPSXQCRQVPSXQCRQVPSXQCRQVPSXQCRQVPSXQCRQVPS2PGGME",
        "AGE-SECRET-KEY-1QSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQMDXKL7",
        "AGE-SECRET-KEY-1Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9Q5ZS2PG9Q5ZS7LLVFU",
    ][number - 1]
        .parse()
        .unwrap()
}

fn tenant() -> Digest {
    Digest::of(b"tenant")
}

fn root(number: u8) -> SigningKey {
    key(&format!("root-{number}"), number)
}

fn publisher() -> SigningKey {
    key("syncer-1", 4)
}

fn enroller() -> SigningKey {
    key("enroller-1", 5)
}

fn first_policy() -> Policy {
    Policy {
        tenant: tenant(),
        version: 1,
        previous: None,
        issued: at(-60),
        expires: at(60 * 24 * 365),
        format: 1,
        lease: 86_400,
        threshold: 2,
        roots: (1..=3).map(|number| root(number).verifying().clone()).collect(),
        publishers: vec![Publisher {
            key: publisher().verifying().clone(),
            scope: Scope {
                sources: [label("aws-identity-center"), label("local")].into(),
                ids: vec!["10000-19999".parse().unwrap(), "30000-30000".parse().unwrap()],
                names: vec!["*".parse().unwrap()],
                may: Right::ALL.into(),
            },
        }],
        enrollers: vec![Enroller {
            key: enroller().verifying().clone(),
            recipient: identity(1).recipient(),
        }],
        recovery: vec![identity(2).recipient()],
        compartments: vec![
            Compartment {
                name: label("all"),
                on_expiry: OnExpiry::Serve,
            },
            Compartment {
                name: label("web"),
                on_expiry: OnExpiry::Close,
            },
        ],
    }
}

fn notes(maker: &mut Maker) {
    const KIND: &str = "note";
    let (first, second) = (key("a", 1), key("b", 2));
    let good = Note::sign("one\n\ntwo \u{e4}\n".to_owned(), &[&first]).unwrap();
    let text = good.text().to_owned();
    let (good, line) = (good.to_string(), good.to_string().lines().last().unwrap().to_owned());
    let under = |line: &str| format!("x\n\n{line}\n");
    maker.add(KIND, "good", "ok", good.clone());
    let two = Note::sign("x\n".to_owned(), &[&first, &second]).unwrap().to_string();
    maker.add(KIND, "two-signatures", "ok", two);
    maker.add(KIND, "signature-of-another-kind", "ok", under("\u{2014} a AAAAAAAA"));
    let sixty_four = good.clone() + &format!("{line}\n").repeat(63);
    maker.add(KIND, "sixty-four-signatures", "no-note/too-long", sixty_four.clone());
    let short: String = (0..64).map(|_| "\u{2014} a AAAAAAAA\n").collect();
    maker.add(KIND, "sixty-four-short-signatures", "ok", format!("x\n\n{short}"));
    let more = format!("x\n\n{short}\u{2014} a AAAAAAAA\n");
    maker.add(KIND, "sixty-five-signatures", "no-note/too-many", more);
    maker.add(KIND, "empty", "no-note/unsigned", "");
    maker.add(KIND, "one-newline", "no-note/unsigned", "\n");
    maker.add(KIND, "two-newlines", "no-note/unsigned", "\n\n");
    maker.add(KIND, "no-text", "no-note/unsigned", format!("\n\n{line}\n"));
    maker.add(KIND, "text-alone", "no-note/unsigned", "x\n");
    maker.add(KIND, "stripped-signature", "no-note/unsigned", "x\n\n");
    maker.add(KIND, "blank-line-missing", "no-note/unsigned", format!("x\n{line}\n"));
    maker.add(KIND, "cut-at-the-end", "no-note/unsigned", &good[..good.len() - 1]);
    maker.add(KIND, "trailing-blank-line", "no-note/unsigned", format!("{good}\n"));
    maker.add(KIND, "text-under-signatures", "no-note/signature", format!("{good}x\n"));
    maker.add(
        KIND,
        "carriage-return",
        "no-note/characters",
        format!("x\r\n\n{line}\n"),
    );
    maker.add(KIND, "crlf", "no-note/unsigned", good.replace('\n', "\r\n"));
    maker.add(KIND, "tab", "no-note/characters", format!("x\ty\n\n{line}\n"));
    maker.add(KIND, "nul", "no-note/characters", format!("x\0\n\n{line}\n"));
    maker.add(KIND, "delete", "no-note/characters", format!("x\u{7f}\n\n{line}\n"));
    maker.add(KIND, "c1-control", "no-note/characters", format!("x\u{85}\n\n{line}\n"));
    let broken = [b"x\xff\n\n".as_slice(), line.as_bytes(), b"\n"].concat();
    maker.add(KIND, "no-utf-8", "no-note/characters", broken);
    maker.add(KIND, "hyphen-for-dash", "no-note/signature", under("- a AAAAAAAA"));
    maker.add(KIND, "no-name", "no-note/signature", under("\u{2014}  AAAAAAAA"));
    maker.add(
        KIND,
        "plus-in-name",
        "no-note/signature",
        under("\u{2014} a+b AAAAAAAA"),
    );
    maker.add(
        KIND,
        "space-at-the-end",
        "no-note/signature",
        under("\u{2014} a AAAAAAAA "),
    );
    maker.add(KIND, "hash-alone", "no-note/signature", under("\u{2014} a AAAAAA=="));
    maker.add(KIND, "no-base64", "no-note/signature", under("\u{2014} a AAAA*AAA"));
    maker.add(KIND, "no-padding", "no-note/signature", under("\u{2014} a AAAAAAA"));
    maker.add(
        KIND,
        "bits-in-padding",
        "no-note/signature",
        under("\u{2014} a AAAAAAB="),
    );
    let long = format!("{}{text}\n{line}\n", "x".repeat(4096));
    maker.add(KIND, "too-long", "no-note/too-long", long);
}

fn keys(maker: &mut Maker) {
    const KIND: &str = "key";
    let good = key("root-1", 1).verifying().to_string();
    let raw = key("root-1", 1).verifying().as_bytes().to_vec();
    let typed = |kind: u8, bytes: &[u8]| STANDARD.encode([&[kind], bytes].concat());
    let (hash, encoded) = (good.split('+').nth(1).unwrap(), typed(1, &raw));
    maker.add(KIND, "good", "ok", good.clone());
    maker.add(KIND, "renamed", "hash", good.replace("root-1", "root-2"));
    maker.add(
        KIND,
        "upper-case-hash",
        "hash",
        format!("root-1+{}+{encoded}", hash.to_uppercase()),
    );
    maker.add(KIND, "upper-case-name", "name", good.replace("root", "Root"));
    maker.add(KIND, "no-name", "name", format!("+{hash}+{encoded}"));
    maker.add(KIND, "no-hash", "form", format!("root-1+{encoded}"));
    maker.add(
        KIND,
        "other-algorithm",
        "algorithm",
        format!("root-1+{hash}+{}", typed(2, &raw)),
    );
    maker.add(KIND, "short", "form", format!("root-1+{hash}+{}", typed(1, &raw[1..])));
    maker.add(
        KIND,
        "long",
        "form",
        format!("root-1+{hash}+{}", typed(1, &[&raw[..], &[0]].concat())),
    );
    maker.add(KIND, "cut", "form", &good[..good.len() - 1]);
    maker.add(KIND, "newline", "form", format!("{good}\n"));
    maker.add(KIND, "empty", "form", "");
    let secret = key("root-1", 1).expose();
    maker.add(KIND, "secret-half", "form", secret.as_str());
}
