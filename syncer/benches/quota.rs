//! How long a whole read of Identity Center takes, ours and as deployed syncers do it, from the same
//! stand-in with the same quota. A plain program:
//!
//! ```text
//! cargo bench -p dirless-syncer --bench quota -- [USERS GROUPS [LATENCY_MS HANDSHAKE_MS [CALLS_A_SECOND BURST]]]
//! ```
//!
//! Latency is added to every call, the handshake (TCP and TLS) to the first of each connection; a
//! quota of 0 calls a second is none. The deployed client was observed to make one connection a
//! call, all calls one after the other, without `MaxResults`, and to wait 2, 4 and 8 s after throttled
//! calls before it gives up.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measuring program, not the product"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dirless_syncer::config::Config;
use dirless_syncer::sources::{self, Unwatched};
use dirless_testkit::aws::{Directory, IdentityCenter, Quota};
use serde_json::{Value, json};

const STORE: &str = "d-1234567890";

fn main() {
    dirless_program::command::start();
    if std::env::var("DIRLESS_BENCH_OURS").is_ok() {
        return ours();
    }
    let numbers: Vec<f64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let number = |index: usize, default: f64| numbers.get(index).copied().unwrap_or(default);
    let (users, groups) = (number(0, 50_000.0) as usize, number(1, 1_000.0) as usize);
    let latency = Duration::from_secs_f64(number(2, 10.0) / 1000.0);
    let handshake = Duration::from_secs_f64(number(3, 20.0) / 1000.0);
    let per_second = number(4, 0.0);
    let quota = (per_second > 0.0).then_some(Quota {
        per_second,
        burst: number(5, per_second),
    });
    println!(
        "{users} users, {groups} groups, latency {latency:?}, handshake {handshake:?}, quota {}",
        quota.map_or("none".to_owned(), |quota| format!(
            "{}/s, burst {}",
            quota.per_second, quota.burst
        ))
    );
    println!("| client | wall s | calls | throttled | connections | users | memberships |");
    let start = || {
        let aws = IdentityCenter::start(Directory::sized(users, groups)).unwrap();
        aws.behave(|behaviour| {
            behaviour.latency = latency;
            behaviour.handshake = handshake;
            behaviour.quota = quota;
        });
        aws
    };
    let line = |name: &str, aws: &IdentityCenter, wall: f64, counts: &str| {
        let (calls, throttled, connections) = (aws.all_calls(), aws.throttled(), aws.connections());
        println!("| {name} | {wall:.2} | {calls} | {throttled} | {connections} | {counts} |");
    };
    let aws = start();
    let output = Command::new(std::env::current_exe().unwrap())
        .env("DIRLESS_BENCH_OURS", "1")
        .env("AWS_ENDPOINT_URL", aws.url())
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "example")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (wall, counts) = text.trim().split_once(' ').unwrap();
    let our_wall: f64 = wall.parse().unwrap();
    line("ours", &aws, our_wall, counts);
    drop(aws);
    let aws = start();
    let began = Instant::now();
    let (users, memberships) = Deployed(aws.url()).read();
    let wall = began.elapsed().as_secs_f64();
    line("as deployed", &aws, wall, &format!("{users} | {memberships}"));
    println!("ratio {:.1}", wall / our_wall);
}

fn ours() {
    let config = Config::parse("[backend]\nurl = \"http://127.0.0.1:1\"\n", Path::new("bench")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let began = Instant::now();
    let directory = runtime.block_on(async {
        let source = sources::open(&config, &sources::SourceSetting::all(&config)[0], &|_| None)
            .await
            .unwrap();
        eprintln!("opened after {:.2} s", began.elapsed().as_secs_f64());
        source.read(&Unwatched).await.unwrap()
    });
    let wall = began.elapsed().as_secs_f64();
    let memberships: usize = directory
        .groups()
        .map(|group| directory.members(&group.id).count())
        .sum();
    println!("{wall} {} | {memberships}", directory.users().count());
}

/// The deployed client's way to read.
struct Deployed(String);

impl Deployed {
    fn read(&self) -> (usize, usize) {
        self.call("SWBExternalService.ListInstances", &json!({}));
        let users = self.list("ListUsers", "Users", json!({"IdentityStoreId": STORE}));
        let groups = self.list("ListGroups", "Groups", json!({"IdentityStoreId": STORE}));
        let mut memberships = 0;
        for group in groups {
            let request = json!({"IdentityStoreId": STORE, "GroupId": group["GroupId"]});
            memberships += self.list("ListGroupMemberships", "GroupMemberships", request).len();
        }
        (users.len(), memberships)
    }

    fn list(&self, operation: &str, key: &str, mut request: Value) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let mut page = self.call(&format!("AWSIdentityStore.{operation}"), &request);
            let Value::Array(entries) = page[key].take() else {
                panic!("no {key} in the reply")
            };
            all.extend(entries);
            match page["NextToken"].take() {
                Value::Null => return all,
                token => request["NextToken"] = token,
            }
        }
    }

    fn call(&self, target: &str, body: &Value) -> Value {
        for wait in [2, 4, 8, 0] {
            let (status, reply) = self.send(target, &body.to_string());
            if status == 200 {
                return serde_json::from_slice(&reply).unwrap();
            }
            assert!(
                wait > 0,
                "the deployed client gives up after three retries: {target} {status}"
            );
            std::thread::sleep(Duration::from_secs(wait));
        }
        unreachable!("the last round returns or panics")
    }

    fn send(&self, target: &str, body: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.0.trim_start_matches("http://")).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: identitystore\r\nX-Amz-Target: {target}\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=AKIA/20260101/eu-west-1/identitystore/aws4_request\r\nContent-Type: \
             application/x-amz-json-1.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let head = reply.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&reply[9..12]).unwrap().parse().unwrap();
        (status, reply.split_off(head + 4))
    }
}
