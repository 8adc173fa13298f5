//! `dirless-refusals [SAMPLES]`: how long the backend takes to refuse, by what is wrong, to see that the time tells nothing.
//!
//! Each round asks once for each case, in another order, on one connection. Printed for each case: median and 90th percentile;
//! against the first case of its protocol, how often a sample of it is the slower one (a half when nobody can tell them
//! apart) and the z-value of the rank test (Mann and Whitney).

#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dirless_e2e::http::request;
use dirless_e2e::site::{self, BACKEND, SECRET, TENANT, private};
use dirless_e2e::vectors;
use dirless_seal::{Digest, SigningKey};
use dirless_testkit::{Program, inside, isolated_command};

/// Rounds that are asked and not counted.
const WARM_UP: usize = 500;

struct Case {
    name: &'static str,
    request: Vec<u8>,
    nanoseconds: Vec<u64>,
}

fn main() -> ExitCode {
    let samples = std::env::args().nth(1).unwrap_or_else(|| "10000".to_owned());
    let outcome = if inside() {
        samples.parse().map_err(anyhow::Error::from).and_then(measure)
    } else {
        isolated_command(&[&samples]).and_then(|mut command| {
            ensure!(command.status()?.success(), "it failed on its own machine");
            Ok(())
        })
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(samples: usize) -> anyhow::Result<()> {
    let limits = "address_per_minute = 0\nfailed_authentication_cost = 0\ntenant_per_minute = 0\n";
    let config = format!("[hmac]\nsecret = \"{SECRET}\"\n[storage]\npath = \"/srv/backend\"\n[limits]\n{limits}");
    private("/etc/dirless/dirless.toml", &config)?;
    let _backend = site::start_backend()?;
    enroll()?;
    for (protocol, mut cases) in [("classic", classic()), ("verified", verified()?)] {
        run(&mut cases, samples)?;
        println!("{protocol}, {samples} samples each   median µs    p90 µs   slower      z");
        for case in &cases {
            let first = cases.first().context("no case")?;
            let (slower, z) = ranks(&case.nanoseconds, &first.nanoseconds);
            let mut sorted = case.nanoseconds.clone();
            sorted.sort_unstable();
            let at = |part: usize| sorted.get(sorted.len() * part / 10).copied().unwrap_or_default() as f64 / 1000.0;
            println!(
                "{:<34} {:>9.1} {:>9.1} {:>8.3} {:>6.1}",
                case.name,
                at(5),
                at(9),
                slower,
                z
            );
        }
    }
    Ok(())
}

/// The tenant in both protocols.
fn enroll() -> anyhow::Result<()> {
    private("/srv/age.key", vectors::IDENTITY)?;
    private("/srv/token", SECRET)?;
    let url = format!("http://{BACKEND}");
    Program::ours("dirless")?
        .args(["enroll", "--server", &url, "--tenant-id", TENANT])
        .args(["--token-file", "/srv/token", "--age-key", "/srv/age.key"])
        .succeed()
        .map(drop)
}

fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request("GET", path, BACKEND, headers, b"")
}

fn case(name: &'static str, request: Vec<u8>) -> Case {
    Case {
        name,
        request,
        nanoseconds: Vec::new(),
    }
}

fn classic() -> Vec<Case> {
    let wrong: String = SECRET.chars().rev().collect();
    let nobody: String = TENANT.chars().rev().collect();
    let ask = |secret: &str, tenant: &str| {
        let bearer = format!("Bearer {secret}");
        get(
            "/v1/snapshot/local",
            &[("Authorization", &bearer), ("X-Tenant-ID", tenant)],
        )
    };
    vec![
        case("wrong token, known tenant", ask(&wrong, TENANT)),
        case("right token, unknown tenant", ask(SECRET, &nobody)),
        case("wrong token, unknown tenant", ask(&wrong, &nobody)),
    ]
}

fn verified() -> anyhow::Result<Vec<Case>> {
    let token = Program::ours("dirless-backend")?;
    let token = token
        .args(["token", "create", "--label", "x", "--scope", "tenants"])
        .succeed()?;
    let token = token
        .split_whitespace()
        .max_by_key(|word| word.len())
        .context("no token")?;
    let generate = || {
        SigningKey::generate("syncer-1".parse()?)
            .ok()
            .context("no random bytes")
    };
    let (known, unknown) = (generate()?, generate()?);
    let (whole, bearer) = (known.verifying().to_string(), format!("Bearer {token}"));
    let body = format!(r#"{{"key":"{whole}","role":"publisher"}}"#);
    let path = format!("/v2/{TENANT}/credential/{}", id(&known));
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let reply = dirless_e2e::http::exchange(BACKEND, &request("PUT", &path, BACKEND, &headers, body.as_bytes()))?;
    ensure!(
        reply.status < 300,
        "registering the key: {} {}",
        reply.status,
        reply.text()
    );
    // Good for five minutes, which is longer than this takes.
    let time = Program::system("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).succeed()?;
    let time = time.trim();
    let nobody: String = TENANT.chars().rev().collect();
    let ask = |key: &SigningKey, tenant: &str, spoilt: bool| {
        let path = format!("/v2/{tenant}/policy/1");
        let signed = if spoilt {
            "another text".to_owned()
        } else {
            canonical(&path, tenant, time)
        };
        let signature = STANDARD.encode(key.sign(signed.as_bytes()));
        let value = format!(
            r#"Dirless-Ed25519 key="{}", time="{time}", signature="{signature}""#,
            id(key)
        );
        get(&path, &[("Authorization", &value)])
    };
    Ok(vec![
        case("known key, bad signature", ask(&known, TENANT, true)),
        case("unknown key, known tenant", ask(&unknown, TENANT, false)),
        case("known key, unknown tenant", ask(&known, &nobody, false)),
        case("unknown key, unknown tenant", ask(&unknown, &nobody, false)),
    ])
}

fn id(key: &SigningKey) -> String {
    format!("{}+{}", key.verifying().name(), key.verifying().hash())
}

fn canonical(path: &str, tenant: &str, time: &str) -> String {
    format!(
        "dirless/request/v1\nGET\n{path}\n{tenant}\n{time}\n{}\n",
        Digest::of(b"")
    )
}

/// Asks in rounds, each in another order.
fn run(cases: &mut [Case], samples: usize) -> anyhow::Result<()> {
    let mut line = Line::new()?;
    // Any order will do that is not always the same (Knuth's multiplier).
    let mut state = 1_u64;
    let mut order: Vec<usize> = (0..cases.len()).collect();
    for round in 0..samples + WARM_UP {
        for place in (1..order.len()).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            order.swap(place, usize::try_from(state >> 33)? % (place + 1));
        }
        for at in &order {
            let Some(case) = cases.get_mut(*at) else { continue };
            let taken = line.ask(&case.request)?;
            if round >= WARM_UP {
                case.nanoseconds.push(taken);
            }
        }
    }
    Ok(())
}

/// One connection, opened anew when the backend closes it.
struct Line(BufReader<TcpStream>);

impl Line {
    fn new() -> anyhow::Result<Self> {
        let stream = TcpStream::connect(BACKEND)?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Nanoseconds from the request's last byte to the answer's.
    fn ask(&mut self, request: &[u8]) -> anyhow::Result<u64> {
        let begun = Instant::now();
        self.0.get_mut().write_all(request)?;
        let (mut status, mut length, mut closes) = (String::new(), 0, false);
        self.0.read_line(&mut status)?;
        loop {
            let mut header = String::new();
            self.0.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse()?;
            }
            closes |= header == "connection: close";
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        let taken = begun.elapsed().as_nanos();
        ensure!(status.contains(" 401 "), "not refused: {status}");
        if closes {
            *self = Self::new()?;
        }
        Ok(u64::try_from(taken)?)
    }
}

/// How often a sample of `these` is slower than one of `those` (equal ones count half), and the z-value of that.
fn ranks(these: &[u64], those: &[u64]) -> (f64, f64) {
    let mut all: Vec<(u64, bool)> = these.iter().map(|taken| (*taken, true)).collect();
    all.extend(those.iter().map(|taken| (*taken, false)));
    all.sort_unstable();
    let (mut sum, mut from) = (0.0, 0);
    for group in all.chunk_by(|left, right| left.0 == right.0) {
        // All of a group have the mean of their ranks.
        let rank = from as f64 + (group.len() as f64 + 1.0) / 2.0;
        sum += rank * group.iter().filter(|(_, own)| *own).count() as f64;
        from += group.len();
    }
    let (n, m) = (these.len() as f64, those.len() as f64);
    let above = sum - n * (n + 1.0) / 2.0;
    let z = (above - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt();
    (above / (n * m), z)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_tell_the_slower_one() {
        let slow: Vec<u64> = (100..200).collect();
        let fast: Vec<u64> = (0..100).collect();
        assert_eq!(ranks(&slow, &fast).0, 1.0);
        assert_eq!(ranks(&fast, &slow).0, 0.0);
        let (slower, z) = ranks(&fast, &fast);
        assert_eq!((slower, z), (0.5, 0.0));
    }
}
