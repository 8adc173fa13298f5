//! `dirless revoke`: takes people away from all hosts, by the REST interface of the syncer that publishes them.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use dirless_publish::Waited;
use dirless_publish::revocation::{
    NOBODY_TELLS, RestoreReply, RevocationReply, RevocationsReply, RevokeArguments, RevokeReply, text,
};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Surroundings;
use crate::at::Access;
use crate::http::{Server, cause};

/// Longest answer.
const MOST: usize = 64 * 1024 * 1024;
/// How long one request waits for hosts: shorter than what a front on the way may allow.
const ONE_WAIT: Duration = Duration::from_secs(20);
/// Before it is asked again after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `dirless revoke`.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    #[command(flatten)]
    arguments: RevokeArguments,
    /// The syncer's REST interface, such as `https://syncer.example.com:8214`; without it, the syncer of this machine
    #[arg(long, value_name = "URL")]
    syncer: Option<String>,
    #[command(flatten)]
    access: Access,
}

impl Revoke {
    /// What is asked of the syncer of this machine; none when it is another one.
    ///
    /// # Errors
    /// When options for another one are given without it.
    pub fn here(&self) -> anyhow::Result<Option<&RevokeArguments>> {
        match &self.syncer {
            Some(_) => Ok(None),
            None if self.access.is_given() => {
                bail!("--token-file and --ca-file are for the syncer on another machine: name it with --syncer URL")
            }
            None => Ok(Some(&self.arguments)),
        }
    }

    /// Asks the syncer that was named.
    ///
    /// # Errors
    /// When it cannot be asked, or refuses.
    pub fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<ExitCode> {
        let url = self.syncer.as_deref().unwrap_or_default();
        let token = self.access.token(surroundings)?;
        let syncer = Syncer(Server::new(url, Some(&token), self.access.ca_file())?);
        let own = &self.arguments;
        if own.list {
            let list: RevocationsReply = syncer.ask(Method::GET, "v1/revocations", None)?;
            tell(surroundings.out, &list, own.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        if own.undo {
            for name in &own.names {
                let restored: RestoreReply = syncer.ask(Method::DELETE, &of(name), None)?;
                tell(surroundings.out, &restored, own.json)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let reply = self.take_away(&syncer)?;
        tell(surroundings.out, &reply, own.json)?;
        Ok(ExitCode::from(reply.exit_code()))
    }

    fn take_away(&self, syncer: &Syncer) -> anyhow::Result<RevokeReply> {
        let end = Instant::now() + Duration::from_secs(self.arguments.timeout);
        let body = serde_json::to_vec(&self.arguments.request())?;
        let mut reply: RevokeReply = syncer.ask(Method::POST, "v1/revocations", Some(body))?;
        if !self.arguments.wait || reply.head.is_none() {
            return Ok(reply);
        }
        let failed = loop {
            let left = end.saturating_duration_since(Instant::now());
            let looked = syncer.look(&self.arguments.names, left.min(ONE_WAIT));
            match looked {
                Ok(hosts) => {
                    if hosts.is_none() {
                        reply.problems.push(NOBODY_TELLS.to_owned());
                    }
                    reply.hosts = hosts;
                    if left.is_zero() || !reply.is_behind() {
                        break None;
                    }
                }
                Err(error) if left.is_zero() => break Some(error),
                Err(_again) => std::thread::sleep(left.min(PAUSE)),
            }
        };
        let unknown = failed.map(|error| format!("what hosts have applied is not known: {error:#}"));
        reply.problems.extend(unknown);
        Ok(reply)
    }
}

/// The path of somebody's revocation.
fn of(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let written = name.bytes().map(|byte| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    format!("v1/revocations/{}", written.collect::<String>())
}

fn tell<T: std::fmt::Display + Serialize>(out: &mut dyn Write, answer: &T, as_json: bool) -> anyhow::Result<()> {
    let text = text(answer, as_json);
    if !text.is_empty() {
        writeln!(out, "{text}")?;
    }
    Ok(out.flush()?)
}

/// A syncer's REST interface.
struct Syncer(Server);

impl Syncer {
    /// Asks, and reads what is answered with success; a problem is told in the server's own words.
    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> anyhow::Result<T> {
        let (base, changes) = (self.0.base(), method != Method::GET);
        let unreachable = |reason: String| match changes {
            true => anyhow!("{base}: {reason}; whether it was done is not known, and asking again does no harm"),
            false => anyhow!("{base}: {reason}"),
        };
        let mut answer = self.0.send(method, path, body).map_err(unreachable)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = self
            .0
            .wait(answer.chunk())
            .map_err(|error| unreachable(cause(&error)))?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST {
                bail!("{base} answers with more than {MOST} bytes");
            }
        }
        read(base, status, &bytes)
    }

    /// How far hosts are with the latest of these revocations, once none is behind or the patience is over; none where they
    /// tell nobody.
    fn look(&self, names: &[String], patience: Duration) -> anyhow::Result<Option<Waited>> {
        let mut latest: Option<RevocationReply> = None;
        for name in names {
            let seconds = patience.as_secs_f64().ceil();
            let own: RevocationReply = self.ask(Method::GET, &format!("{}?wait={seconds}", of(name)), None)?;
            if latest.as_ref().is_none_or(|before| before.head < own.head) {
                latest = Some(own);
            }
        }
        Ok(latest.and_then(|latest| latest.hosts))
    }
}

/// What is answered with success, or the server's own words for what is wrong.
pub(crate) fn read<T: DeserializeOwned>(base: &str, status: StatusCode, answer: &[u8]) -> anyhow::Result<T> {
    let said = serde_json::from_slice(answer).map(harmless);
    if status.is_success() {
        return said
            .and_then(serde_json::from_value)
            .map_err(|error| anyhow!("{base} is no syncer, or another version: {error}"));
    }
    let problem = said.unwrap_or_default();
    let text = |key: &str| problem.get(key).and_then(Value::as_str);
    match (text("title"), text("hint")) {
        (Some(title), Some(hint)) => bail!("{title}; {hint}"),
        (Some(title), None) => bail!("{title}"),
        (None, _) => bail!("{base} answers {status}; is it the syncer's REST interface?"),
    }
}

/// What a server says, without characters that would move a terminal or begin a line of their own.
fn harmless(said: Value) -> Value {
    match said {
        Value::String(text) => Value::String(text.chars().filter(|character| !character.is_control()).collect()),
        Value::Array(all) => all.into_iter().map(harmless).collect(),
        Value::Object(all) => all.into_iter().map(|(key, value)| (key, harmless(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(of("alice.b-c_d"), "v1/revocations/alice.b-c_d");
        assert_eq!(of("../a b?ü"), "v1/revocations/..%2Fa%20b%3F%C3%BC");
    }

    #[test]
    fn what_a_server_says_moves_no_terminal() {
        let list =
            br#"{"revocations": [{"name": "a\u001b[2J", "since": "2026-01-01T00:00:00Z", "reason": "x\nbob since",
            "sources": []}], "problems": ["\u009b1A"]}"#;
        let list: RevocationsReply = read("https://s", StatusCode::OK, list).unwrap();
        assert_eq!(
            text(&list, false),
            "a[2J since 2026-01-01 00:00:00Z, nobody's: xbob since\nproblem: 1A"
        );
        let refusal = |answer: &[u8]| {
            let error = read::<RestoreReply>("https://s", StatusCode::NOT_FOUND, answer).unwrap_err();
            error.to_string()
        };
        assert_eq!(refusal(br#"{"title": "no\u0007", "hint": "look"}"#), "no; look");
        assert_eq!(refusal(br#"{"title": "no"}"#), "no");
        for odd in [&b""[..], b"[]", b"\xff", br#"{"title": 1, "hint": "x"}"#] {
            assert!(refusal(odd).contains("is it the syncer's REST interface"), "{odd:?}");
            assert!(
                read::<RestoreReply>("https://s", StatusCode::OK, odd).is_err(),
                "{odd:?}"
            );
        }
    }
}
