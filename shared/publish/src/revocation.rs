//! Taking people away by hand: what is asked, what came of it, and how people are told. The same for the syncer's command
//! line, its REST interface, and whoever asks that.

use std::ffi::OsString;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Waited;

/// Exit code when everything could be done, and a connected host has not applied it in time.
pub const EXIT_BEHIND: u8 = 13;
/// Exit code when not everything could be done.
pub const EXIT_PROBLEMS: u8 = 1;
/// Most people that one request takes away.
pub const MOST_NAMES: usize = 100;
/// Longest reason, in bytes.
pub const LONGEST_REASON: usize = 500;
/// Longest that one request waits for hosts, in seconds.
pub const LONGEST_WAIT: u64 = 60;

/// What there is to say where hosts' receipts go nowhere.
pub const NOBODY_TELLS: &str = "hosts that read a folder tell nobody what they applied";

/// What both command lines take.
#[derive(Clone, Debug, clap::Args)]
pub struct RevokeArguments {
    /// Login names, as hosts have them
    #[arg(required_unless_present = "list")]
    pub names: Vec<String>,
    /// Wait until every connected host has applied it; exits with 13 when one has not in time
    #[arg(long, conflicts_with_all = ["undo", "list"])]
    pub wait: bool,
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait",
        value_parser = clap::value_parser!(u64).range(..=604_800))]
    pub timeout: u64,
    /// Why, for those who read the list later
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["undo", "list"])]
    pub reason: Option<String>,
    /// Also when nobody is published under this name: nobody will be
    #[arg(long, conflicts_with_all = ["undo", "list"])]
    pub unknown: bool,
    /// Let them come back with the next read of their sources
    #[arg(long, conflicts_with = "list")]
    pub undo: bool,
    /// List who is revoked, by whom and why, and which hosts have it
    #[arg(long, conflicts_with = "names")]
    pub list: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

impl RevokeArguments {
    /// What is asked for, apart from waiting.
    #[must_use]
    pub fn request(&self) -> RevokeRequest {
        RevokeRequest {
            names: self.names.clone(),
            reason: self.reason.clone(),
            unknown: self.unknown,
            wait_seconds: 0,
        }
    }

    /// The same again as words of a command line.
    #[must_use]
    pub fn words(&self) -> Vec<OsString> {
        let flags = [
            ("--wait", self.wait),
            ("--unknown", self.unknown),
            ("--undo", self.undo),
            ("--list", self.list),
            ("--json", self.json),
        ];
        let flags = flags.into_iter().filter_map(|(flag, is_set)| is_set.then_some(flag));
        let mut words: Vec<String> = flags.map(str::to_owned).collect();
        if self.wait {
            words.push(format!("--timeout={}", self.timeout));
        }
        words.extend(self.reason.iter().map(|reason| format!("--reason={reason}")));
        if !self.names.is_empty() {
            words.push("--".to_owned());
            words.extend(self.names.iter().cloned());
        }
        words.into_iter().map(OsString::from).collect()
    }
}

/// Who is to be taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Login names, as hosts have them.
    #[schema(min_items = 1, max_items = 100)]
    pub names: Vec<String>,
    /// Why, for those who read the list later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
    /// Also names that nobody is published under: nobody will be.
    #[serde(default)]
    pub unknown: bool,
    /// How long to wait until all connected hosts have applied it.
    #[serde(default)]
    #[schema(maximum = 60)]
    pub wait_seconds: u64,
}

/// A snapshot that was published without somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Took {
    /// Its name on the wire.
    pub source: String,
    /// The sequence number of the new snapshot.
    pub sequence: u64,
}

/// What came of it. Who is named in `revoked` is on the list, on disk, whatever `problems` say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RevokeReply {
    /// Who is kept out from now on.
    pub revoked: Vec<String>,
    /// What was published without them; nothing when that had been done before.
    pub published: Vec<Took>,
    /// The head by which hosts learn of it; absent where nothing is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
    /// How far hosts are; absent when nobody waited, and where they tell nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Waited>,
    /// Are there hosts of the classic protocol, which do not say what they have applied?
    pub classic: bool,
    /// What could not be done.
    pub problems: Vec<String>,
}

impl RevokeReply {
    /// Is there a connected host that has not applied it?
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.hosts.as_ref().is_some_and(|hosts| !hosts.behind.is_empty())
    }

    /// How the command ends.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.problems.is_empty(), self.is_behind()) {
            (false, _) => EXIT_PROBLEMS,
            (true, true) => EXIT_BEHIND,
            (true, false) => 0,
        }
    }
}

impl fmt::Display for RevokeReply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revoked = self.revoked.iter();
        let mut lines: Vec<String> = revoked
            .map(|name| format!("revoked {name}: kept out until the sources agree"))
            .collect();
        let published = self.published.iter();
        lines.extend(published.map(|took| format!("published {} of {}", took.sequence, took.source)));
        lines.extend(self.head.map(|head| format!("signed head {head}")));
        if let Some(hosts) = &self.hosts {
            lines.push(hosts.to_string());
            lines.extend(hosts.laggards().map(|node| format!("not applied by {node}")));
            let doubts = hosts.problems.iter().chain(&hosts.split_views);
            lines.extend(doubts.map(|problem| format!("problem: {problem}")));
        }
        if self.classic {
            lines.push(
                "hosts of the classic protocol do not say what they have applied: those that keep a request open apply it at \
                 once, others within their interval"
                    .to_owned(),
            );
        }
        lines.extend(self.problems.iter().map(|problem| format!("problem: {problem}")));
        formatter.write_str(&lines.join("\n"))
    }
}

/// A source that had somebody who is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokedSource {
    /// Its name.
    pub name: String,
    /// Since when it does not show them any more; absent while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub agrees_since: Option<Timestamp>,
}

/// Somebody who is revoked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RevocationReply {
    /// The login name.
    pub name: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// By whom: a token, or an account on the syncer's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The sources that had them.
    pub sources: Vec<RevokedSource>,
    /// The head by which hosts learn of it; absent where nothing is signed, or before it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
    /// How far hosts are; absent where they tell nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Waited>,
}

impl fmt::Display for RevocationReply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%SZ");
        write!(formatter, "{} since {}", self.name, shown(self.since))?;
        if let Some(by) = &self.by {
            write!(formatter, " by {by}")?;
        }
        if self.sources.is_empty() {
            formatter.write_str(", nobody's")?;
        }
        for source in &self.sources {
            match source.agrees_since {
                Some(since) => write!(formatter, ", {} (agrees since {})", source.name, shown(since))?,
                None => write!(formatter, ", {} (still has them)", source.name)?,
            }
        }
        if let Some(reason) = &self.reason {
            write!(formatter, ": {reason}")?;
        }
        match &self.hosts {
            Some(hosts) => write!(formatter, "\n  {hosts}"),
            None => Ok(()),
        }
    }
}

/// Everybody who is revoked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RevocationsReply {
    /// By name.
    pub revocations: Vec<RevocationReply>,
    /// What is not known.
    pub problems: Vec<String>,
}

impl fmt::Display for RevocationsReply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revocations = self.revocations.iter().map(ToString::to_string);
        let problems = self.problems.iter().map(|problem| format!("problem: {problem}"));
        let lines: Vec<String> = revocations.chain(problems).collect();
        formatter.write_str(&lines.join("\n"))
    }
}

/// Somebody who may come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestoreReply {
    /// The login name.
    pub restored: String,
}

impl fmt::Display for RestoreReply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} comes back with the next read of the sources; to read now: dirless-syncer once",
            self.restored
        )
    }
}

/// The text of an answer, for people or for scripts.
#[must_use]
pub fn text<T: fmt::Display + Serialize>(answer: &T, as_json: bool) -> String {
    match as_json {
        // Texts, numbers and times: it cannot fail.
        true => serde_json::to_string_pretty(answer).unwrap_or_default(),
        false => answer.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Behind;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: RevokeArguments,
    }

    fn parse(words: &[&str]) -> Result<RevokeArguments, String> {
        let all = ["revoke"].iter().chain(words);
        let line = Line::try_parse_from(all).map_err(|error| error.to_string())?;
        Ok(line.arguments)
    }

    #[test]
    fn words_are_read_as_they_were() {
        for words in [
            &["alice"][..],
            &["--wait", "alice", "--timeout", "7", "bob"],
            &["--reason=-- left: \"today\"", "alice", "--unknown", "--json"],
            &["--undo", "--", "-alice"],
            &["--list", "--json"],
        ] {
            let arguments = parse(words).unwrap();
            let again: Vec<String> = arguments
                .words()
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect();
            let again = parse(&again.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            assert_eq!(format!("{arguments:?}"), format!("{again:?}"), "{words:?}");
        }
        for wrong in [
            &[][..],
            &["--list", "alice"],
            &["--undo", "--wait", "alice"],
            &["--timeout", "7", "alice"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    fn reply() -> RevokeReply {
        RevokeReply {
            revoked: vec!["alice".to_owned()],
            published: vec![Took {
                source: "corp".to_owned(),
                sequence: 42,
            }],
            head: Some(1187),
            hosts: Some(Waited {
                connected: 3,
                applied: 3,
                slowest_seconds: Some(0.7),
                ..Waited::default()
            }),
            ..RevokeReply::default()
        }
    }

    #[test]
    fn what_came_of_it_is_told_and_survives_the_wire() {
        let mut reply = reply();
        let told = "revoked alice: kept out until the sources agree\npublished 42 of corp\nsigned head 1187\n\
                    3 of 3 connected hosts, slowest 0.7 s";
        assert_eq!((reply.to_string().as_str(), reply.exit_code()), (told, 0));
        let again: RevokeReply = serde_json::from_str(&text(&reply, true)).unwrap();
        assert_eq!(again, reply);
        reply.hosts.as_mut().unwrap().behind.push(Behind {
            node: "n1".to_owned(),
            heard_at: Some(Timestamp::UNIX_EPOCH),
            alarms: vec!["no-head head/syncer-1".to_owned()],
        });
        assert!(
            reply
                .to_string()
                .ends_with("\nnot applied by n1 (no-head head/syncer-1)")
        );
        assert_eq!(reply.exit_code(), EXIT_BEHIND);
        reply.problems.push("the backend is down".to_owned());
        assert!(reply.to_string().ends_with("\nproblem: the backend is down"));
        assert_eq!(reply.exit_code(), EXIT_PROBLEMS);
        let again: RevokeReply = serde_json::from_str(&text(&reply, true)).unwrap();
        assert_eq!(again, reply);
    }

    #[test]
    fn the_list_says_who_when_why_and_where() {
        let source = |name: &str, agrees_since| RevokedSource {
            name: name.to_owned(),
            agrees_since,
        };
        let mut list = RevocationsReply::default();
        assert_eq!(text(&list, false), "");
        list.revocations.push(RevocationReply {
            name: "alice".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            by: Some("token desk".to_owned()),
            reason: Some("left".to_owned()),
            sources: vec![source("corp", None), source("ldap", Some(Timestamp::UNIX_EPOCH))],
            head: Some(7),
            hosts: Some(Waited::default()),
        });
        list.revocations.push(RevocationReply {
            name: "bob".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            by: None,
            reason: None,
            sources: Vec::new(),
            head: None,
            hosts: None,
        });
        assert_eq!(
            text(&list, false),
            "alice since 1970-01-01 00:00:00Z by token desk, corp (still has them), ldap (agrees since 1970-01-01 00:00:00Z): \
             left\n  0 of 0 connected hosts\nbob since 1970-01-01 00:00:00Z, nobody's"
        );
        let again: RevocationsReply = serde_json::from_str(&text(&list, true)).unwrap();
        assert_eq!(again, list);
    }

    #[test]
    fn a_request_is_read_strictly() {
        let request: RevokeRequest = serde_json::from_str(r#"{"names": ["alice"]}"#).unwrap();
        assert_eq!(
            (request.names.len(), request.unknown, request.wait_seconds),
            (1, false, 0)
        );
        for wrong in [
            r"{}",
            r#"{"names": "alice"}"#,
            r#"{"names": ["a"], "undo": true}"#,
            r#"{"names": ["a"], "wait_seconds": -1}"#,
        ] {
            assert!(serde_json::from_str::<RevokeRequest>(wrong).is_err(), "{wrong}");
        }
    }
}
