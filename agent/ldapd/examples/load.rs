//! Load for an LDAP server, and what it took. Requests are written and answers counted as bytes, so that
//! the generator costs a fraction of any server.
//!
//! ```text
//! load ADDRESS WORK [users=N] [connections=C] [in-flight=K] [seconds=S] [pid=P] [base=DN]
//! ```
//!
//! WORK is one of uid, uidnumber, member, memberuid, initgroups, group, dump, paged, compare, bind, session.
//! The directory is the one that `make_copy` makes. With `pid` the processor time of the server is told
//! too. The outcome is one line of JSON; times are in microseconds.

#![expect(clippy::indexing_slicing, reason = "a program of its own, which measures")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

const SEARCH_DONE: u8 = 0x65;
const ENTRY: u8 = 0x64;
/// Entries of a page.
const PAGE: u32 = 1000;
/// Different requests of one connection; then they come again.
const REQUESTS: usize = 1 << 15;
/// Bytes that are read at once.
const READ: usize = 256 * 1024;

#[derive(Clone, Debug)]
struct Plan {
    address: String,
    work: String,
    users: u32,
    connections: usize,
    in_flight: usize,
    seconds: f64,
    pid: Option<u32>,
    base: String,
}

/// What one connection did.
#[derive(Default)]
struct Done {
    operations: u64,
    entries: u64,
    bytes: u64,
    times: Vec<u32>,
}

fn main() -> anyhow::Result<()> {
    let plan = plan()?;
    let before = plan.pid.map(processor_time).transpose()?;
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(plan.seconds);
    let threads: Vec<_> = (0..plan.connections)
        .map(|number| {
            let plan = plan.clone();
            std::thread::spawn(move || work(&plan, number, until))
        })
        .collect();
    let mut all = Done::default();
    for thread in threads {
        let done = thread.join().map_err(|_| anyhow::anyhow!("a connection panicked"))??;
        all.operations += done.operations;
        all.entries += done.entries;
        all.bytes += done.bytes;
        all.times.extend(done.times);
    }
    let seconds = start.elapsed().as_secs_f64();
    all.times.sort_unstable();
    let at = |share: f64| {
        let last = all.times.len().saturating_sub(1) as f64;
        all.times.get((last * share) as usize).copied().unwrap_or(0)
    };
    let count = all.operations.max(1) as f64;
    let cpu = match (plan.pid, before) {
        (Some(pid), Some(before)) => (processor_time(pid)? - before) * 1e6 / count,
        _ => 0.0,
    };
    println!(
        "{{\"work\":\"{}\",\"connections\":{},\"in_flight\":{},\"ops_per_second\":{:.0},\"p50\":{},\"p99\":{},\
         \"server_cpu\":{:.1},\"entries_per_op\":{:.1},\"bytes_per_op\":{:.0}}}",
        plan.work,
        plan.connections,
        plan.in_flight,
        all.operations as f64 / seconds,
        at(0.5),
        at(0.99),
        cpu,
        all.entries as f64 / count,
        all.bytes as f64 / count,
    );
    Ok(())
}

fn plan() -> anyhow::Result<Plan> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, work, rest @ ..] = arguments.as_slice() else {
        bail!("usage: load ADDRESS WORK [users=N] [connections=C] [in-flight=K] [seconds=S] [pid=P] [base=DN]");
    };
    let mut plan = Plan {
        address: address.clone(),
        work: work.clone(),
        users: 1000,
        connections: 1,
        in_flight: 1,
        seconds: 2.0,
        pid: None,
        base: "dc=dirless".to_owned(),
    };
    for setting in rest {
        let (name, value) = setting.split_once('=').context("settings are NAME=VALUE")?;
        match name {
            "users" => plan.users = value.parse()?,
            "connections" => plan.connections = value.parse()?,
            "in-flight" => plan.in_flight = value.parse()?,
            "seconds" => plan.seconds = value.parse()?,
            "pid" => plan.pid = Some(value.parse()?),
            "base" => plan.base = value.to_owned(),
            _ => bail!("no such setting: {name}"),
        }
    }
    Ok(plan)
}

/// User and system time of a process, in seconds (proc(5)).
fn processor_time(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    // Fields 14 and 15, counted from 1, with the two before the parenthesis left out; 100 ticks a second.
    Ok((ticks(11) + ticks(12)) / 100.0)
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 33) * u64::from(limit)) >> 31) as u32
    }
}

fn work(plan: &Plan, number: usize, until: Instant) -> anyhow::Result<Done> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ number as u64);
    match plan.work.as_str() {
        "session" => sessions(plan, &mut random, until),
        "paged" => pages(plan, until),
        _ => pipeline(plan, &mut random, until),
    }
}

/// Requests that are made before time counts.
struct Made {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Made {
    fn new(plan: &Plan, random: &mut Random) -> anyhow::Result<Self> {
        let mut made = Self {
            bytes: Vec::new(),
            ends: Vec::new(),
        };
        for _ in 0..REQUESTS {
            request(plan, random, &mut made.bytes)?;
            made.ends.push(made.bytes.len());
        }
        Ok(made)
    }

    fn get(&self, number: usize) -> &[u8] {
        let at = number % self.ends.len();
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }
}

/// Keeps a number of requests under way on one connection.
fn pipeline(plan: &Plan, random: &mut Random, until: Instant) -> anyhow::Result<Done> {
    let mut stream = connect(plan)?;
    let mut answers = Answers::default();
    let mut done = Done::default();
    let mut sent: std::collections::VecDeque<Instant> = std::collections::VecDeque::new();
    let mut requests = Vec::new();
    let made = Made::new(plan, random)?;
    let mut next = 0;
    loop {
        let now = Instant::now();
        if now < until || done.operations == 0 {
            while sent.len() < plan.in_flight {
                requests.extend_from_slice(made.get(next));
                next += 1;
                sent.push_back(now);
            }
        } else if sent.is_empty() {
            done.entries = answers.entries;
            done.bytes = answers.bytes;
            return Ok(done);
        }
        stream.write_all(&requests)?;
        requests.clear();
        let ended = answers.read(&mut stream)?;
        let now = Instant::now();
        for _ in 0..ended {
            let begun = sent.pop_front().context("more answers than requests")?;
            done.times
                .push(u32::try_from((now - begun).as_micros()).unwrap_or(u32::MAX));
            done.operations += 1;
        }
    }
}

/// Connects, binds anonymously, searches once, and goes.
fn sessions(plan: &Plan, random: &mut Random, until: Instant) -> anyhow::Result<Done> {
    let mut done = Done::default();
    while Instant::now() < until {
        let begun = Instant::now();
        let mut stream = connect(plan)?;
        let mut answers = Answers::default();
        stream.write_all(&message(1, &bind("", b""), &[]))?;
        while answers.read(&mut stream)? == 0 {}
        let filter = equality("uid", &user(random.below(plan.users)));
        stream.write_all(&search(plan, &filter, &[], &[]))?;
        while answers.read(&mut stream)? == 0 {}
        stream.write_all(&message(3, &[0x42, 0], &[]))?;
        done.operations += 1;
        done.entries += answers.entries;
        done.bytes += answers.bytes;
        done.times
            .push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(done)
}

/// Reads everything in pages; an operation is a whole dump.
fn pages(plan: &Plan, until: Instant) -> anyhow::Result<Done> {
    let mut stream = connect(plan)?;
    let mut done = Done::default();
    let mut answers = Answers::default();
    while Instant::now() < until || done.operations == 0 {
        let begun = Instant::now();
        let mut cookie: Vec<u8> = Vec::new();
        loop {
            let size = element(0x02, &PAGE.to_be_bytes());
            let value = element(0x30, &[size, element(0x04, &cookie)].concat());
            let control = element(
                0x30,
                &[element(0x04, b"1.2.840.113556.1.4.319"), element(0x04, &value)].concat(),
            );
            stream.write_all(&search(plan, &present("objectClass"), &[], &element(0xa0, &control)))?;
            while answers.read(&mut stream)? == 0 {}
            cookie = page_cookie(&answers.last)?;
            if cookie.is_empty() {
                break;
            }
        }
        done.operations += 1;
        done.times
            .push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    done.entries = answers.entries;
    done.bytes = answers.bytes;
    Ok(done)
}

/// The cookie in the message that ends a page.
fn page_cookie(message: &[u8]) -> anyhow::Result<Vec<u8>> {
    let oid = b"1.2.840.113556.1.4.319";
    let at = message
        .windows(oid.len())
        .position(|window| window == oid)
        .context("no page control in the answer")?;
    // Perhaps a criticality, then OCTET STRING { SEQUENCE { INTEGER, OCTET STRING } }.
    let mut rest = &message[at + oid.len()..];
    if rest[0] == 0x01 {
        rest = &rest[3..];
    }
    let (_, value, _) = split(rest)?;
    let (_, sequence, _) = split(value)?;
    let (_, _, after) = split(sequence)?;
    Ok(split(after)?.1.to_vec())
}

fn split(bytes: &[u8]) -> anyhow::Result<(u8, &[u8], &[u8])> {
    let (header, length) = header(bytes).context("cut short")?;
    ensure!(bytes.len() >= header + length, "cut short");
    Ok((bytes[0], &bytes[header..header + length], &bytes[header + length..]))
}

fn connect(plan: &Plan) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(&plan.address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What comes in, message by message.
#[derive(Default)]
struct Answers {
    buffer: Vec<u8>,
    /// What has come and was not counted yet.
    start: usize,
    end: usize,
    entries: u64,
    bytes: u64,
    /// The last message that ended an operation.
    last: Vec<u8>,
}

impl Answers {
    /// Reads once; how many operations ended.
    fn read(&mut self, stream: &mut TcpStream) -> anyhow::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start * 2 >= self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // Grown seldom: zeroing it for every read would cost more than a small answer.
        if self.buffer.len() < self.end + READ {
            self.buffer.resize((self.end + READ) * 2, 0);
        }
        let read = stream.read(&mut self.buffer[self.end..])?;
        ensure!(read > 0, "the server hung up");
        self.end += read;
        self.bytes += read as u64;
        let mut ended = 0;
        loop {
            let rest = &self.buffer[self.start..self.end];
            let Some((head, length)) = header(rest).filter(|(head, length)| rest.len() >= head + length) else {
                return Ok(ended);
            };
            let message = &rest[..head + length];
            // The message id, then the operation.
            let operation = head + 2 + usize::from(message[head + 1]);
            if message[operation] == ENTRY {
                self.entries += 1;
            } else {
                ended += 1;
                let (_, _, _) = split(&message[operation..])?;
                let (skip, _) = header(&message[operation..]).context("an operation")?;
                let code = message[operation + skip + 2];
                // success, compareFalse, compareTrue
                ensure!(matches!(code, 0 | 5 | 6), "the server answers with {code}");
                if message[operation] == SEARCH_DONE {
                    self.last.clear();
                    self.last.extend_from_slice(message);
                }
            }
            self.start += head + length;
        }
    }
}

/// Length of an element's header and of its content.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = usize::from(*bytes.get(1)?);
    if first < 0x80 {
        return Some((2, first));
    }
    let count = first & 0x7f;
    let digits = bytes.get(2..2 + count)?;
    Some((
        2 + count,
        digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)),
    ))
}

fn user(number: u32) -> String {
    format!("user{number:06}")
}

/// Appends the next request.
fn request(plan: &Plan, random: &mut Random, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let number = random.below(plan.users);
    let name = user(number);
    let dn = format!("uid={name},ou=users,{}", plan.base);
    let groups = |condition: Vec<u8>| element(0xa0, &[equality("objectClass", "posixGroup"), condition].concat());
    let of_groups: &[&str] = &["cn", "gidNumber"];
    let bytes = match plan.work.as_str() {
        "uid" => search(plan, &equality("uid", &name), &[], &[]),
        "uidnumber" => {
            let condition = equality("uidNumber", &(100_000 + number).to_string());
            let filter = element(0xa0, &[equality("objectClass", "posixAccount"), condition].concat());
            search(plan, &filter, &[], &[])
        }
        "member" => search(plan, &groups(equality("member", &dn)), of_groups, &[]),
        "memberuid" => search(plan, &groups(equality("memberUid", &name)), of_groups, &[]),
        "initgroups" => {
            let either = element(0xa1, &[equality("memberUid", &name), equality("member", &dn)].concat());
            search(plan, &groups(either), of_groups, &[])
        }
        "group" => search(plan, &equality("cn", "everyone"), &[], &[]),
        "dump" => search(plan, &present("objectClass"), &[], &[]),
        "compare" => {
            let group = format!("cn=everyone,ou=groups,{}", plan.base);
            let assertion = element(0x30, &[element(4, b"member"), element(4, dn.as_bytes())].concat());
            message(
                2,
                &element(0x6e, &[element(4, group.as_bytes()), assertion].concat()),
                &[],
            )
        }
        "bind" => message(2, &bind(&dn, b"correct horse"), &[]),
        other => bail!("no such work: {other}"),
    };
    out.extend_from_slice(&bytes);
    Ok(())
}

fn bind(dn: &str, password: &[u8]) -> Vec<u8> {
    let parts = [element(2, &[3]), element(4, dn.as_bytes()), element(0x80, password)];
    element(0x60, &parts.concat())
}

fn equality(name: &str, value: &str) -> Vec<u8> {
    element(
        0xa3,
        &[element(4, name.as_bytes()), element(4, value.as_bytes())].concat(),
    )
}

fn present(name: &str) -> Vec<u8> {
    element(0x87, name.as_bytes())
}

/// A search of the whole tree.
fn search(plan: &Plan, filter: &[u8], attributes: &[&str], controls: &[u8]) -> Vec<u8> {
    let attributes: Vec<u8> = attributes.iter().flat_map(|name| element(4, name.as_bytes())).collect();
    let parts = [
        element(4, plan.base.as_bytes()),
        vec![0x0a, 1, 2, 0x0a, 1, 0, 2, 1, 0, 2, 1, 0, 1, 1, 0],
        filter.to_vec(),
        element(0x30, &attributes),
    ];
    message(2, &element(0x63, &parts.concat()), controls)
}

fn message(id: u8, operation: &[u8], controls: &[u8]) -> Vec<u8> {
    element(0x30, &[&[2, 1, id], operation, controls].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend_from_slice(&[0x81, length as u8]),
        _ => out.extend_from_slice(&[0x83, (length >> 16) as u8, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}
