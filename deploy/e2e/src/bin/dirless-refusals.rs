//! `dirless-refusals [SAMPLES]`: how long the backend takes to refuse, by what is wrong, to see that the time tells nothing.
//!
//! Each round asks once for each case of one request, in another order, on one connection. For each case: median and 90th
//! percentile; against the first case of its request, how often a sample of it is the slower one (a half when nobody can tell
//! them apart) and the z-value of the rank test of Mann and Whitney.

#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};
use dirless_e2e::refusals::{Question, Scene};
use dirless_e2e::site::BACKEND;
use dirless_testkit::{inside, isolated_command};

/// Rounds that are asked and not counted.
const WARM_UP: usize = 200;

struct Case {
    name: &'static str,
    request: Vec<u8>,
    nanoseconds: Vec<u64>,
}

fn main() -> ExitCode {
    let samples = std::env::args().nth(1).unwrap_or_else(|| "2000".to_owned());
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
    let scene = Scene::start()?;
    println!("{samples} samples each                       median µs    p90 µs   slower      z");
    let (mut pairs, mut far, mut most) = (0, 0, 0.0_f64);
    for Question { name, cases } in [scene.classic(), scene.verified()?].concat() {
        println!("{name}");
        let mut cases: Vec<Case> = cases
            .into_iter()
            .map(|(name, request)| Case {
                name,
                request,
                nanoseconds: Vec::with_capacity(samples),
            })
            .collect();
        run(&mut cases, samples)?;
        let first = cases.first().context("no case")?.nanoseconds.clone();
        for (at, case) in cases.iter().enumerate() {
            let (slower, z) = ranks(&case.nanoseconds, &first);
            let mut sorted = case.nanoseconds.clone();
            sorted.sort_unstable();
            let at_part =
                |part: usize| sorted.get(sorted.len() * part / 10).copied().unwrap_or_default() as f64 / 1000.0;
            let (median, late) = (at_part(5), at_part(9));
            println!("  {:<36} {median:>9.1} {late:>9.1} {slower:>8.3} {z:>6.1}", case.name);
            if at > 0 {
                pairs += 1;
                far += usize::from(z.abs() > 3.0);
                most = most.max((slower - 0.5).abs());
            }
        }
    }
    println!("{pairs} comparisons: {far} with |z| above 3; slower differs from a half by {most:.3} at most");
    Ok(())
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
    #![expect(clippy::float_cmp, reason = "sums of halves are exact")]

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
