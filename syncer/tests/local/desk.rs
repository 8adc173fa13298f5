//! Somebody at a terminal: types a command, reads what it says.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use dirless_client::{ClientBuilder, RetryPolicy};
use dirless_model::NameRule;
use dirless_program::{Clock, Secret};
use dirless_seal::Identity;
use dirless_syncer::local::{Context, LocalCommand, LocalConfig, Place, run};
use dirless_wire::TenantId;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: LocalCommand,
}

pub(crate) struct Desk {
    context: Context,
}

impl Desk {
    pub(crate) fn new(url: &str, identity: Identity, memory: Option<PathBuf>) -> Self {
        let client = ClientBuilder::new()
            .url(url)
            .unwrap()
            .bearer(Secret::new("sekret-token-1".to_owned()))
            .tenant(TenantId::new("acme").unwrap())
            .retry(RetryPolicy {
                rounds: 2,
                first: Duration::from_millis(1),
                ceiling: Duration::from_millis(5),
            })
            .build()
            .unwrap();
        Self {
            context: Context {
                place: Place::Backend { client, identity },
                config: LocalConfig::default(),
                names: NameRule::default(),
                clock: Clock::system(),
                memory,
            },
        }
    }

    /// What the command `line` says, given `input`; an error with all its causes.
    pub(crate) async fn type_with(&self, line: &str, input: &str) -> Result<String, String> {
        let words = std::iter::once("local").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let mut said = Vec::new();
        let outcome = run(&line.command, &self.context, &mut said, &mut input.as_bytes()).await;
        let said = String::from_utf8(said).unwrap();
        outcome.map(|()| said).map_err(|error| format!("{error:#}"))
    }

    pub(crate) async fn types(&self, line: &str) -> Result<String, String> {
        self.type_with(line, "").await
    }
}

/// The same identity once more.
pub(crate) fn again(identity: &Identity) -> Identity {
    Identity::parse(&identity.expose()).unwrap()
}
