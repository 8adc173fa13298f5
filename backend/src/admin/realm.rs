//! `realm create|list|rotate|disable|enable`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use dirless_program::Secret;

use super::{Console, Span, say, shown, table};
use crate::store::{NewRealm, RealmChange, RealmName, RealmState, SecretHash, Store, generate_secret};

/// What to do with realms.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum RealmCommand {
    /// Make a realm. Its secret is made up and printed once, unless one is given.
    Create {
        /// Its name.
        name: RealmName,
        /// Take the secret from this file (`-`: standard input) instead of making one up.
        #[arg(long, value_name = "PATH")]
        secret_file: Option<PathBuf>,
    },
    /// List all realms.
    List,
    /// Give a realm another secret. The old one ends at once, or later with --keep-old.
    Rotate {
        /// Its name.
        name: RealmName,
        /// Take the secret from this file (`-`: standard input) instead of making one up.
        #[arg(long, value_name = "PATH")]
        secret_file: Option<PathBuf>,
        /// How long the old secret stays good, such as 7d.
        #[arg(long, value_name = "SPAN")]
        keep_old: Option<Span>,
    },
    /// Suspend a realm: its callers get 403, its data stays.
    Disable {
        /// Its name.
        name: RealmName,
    },
    /// Take a suspended realm into use again.
    Enable {
        /// Its name.
        name: RealmName,
    },
}

/// Shortest secret that is taken from a file: below 128 bits of base64 it can be guessed.
const SHORTEST: usize = 16;

pub(super) async fn run(command: RealmCommand, store: &Store, console: &mut Console<'_>) -> anyhow::Result<()> {
    match command {
        RealmCommand::Create { name, secret_file } => {
            let secret = Choice::make(secret_file.as_deref(), console)?;
            match store.create_realm(&name, secret.hash()).await? {
                NewRealm::Created => {}
                NewRealm::NameTaken => {
                    bail!("there is a realm {name} already; to replace its secret run: realm rotate {name}")
                }
                NewRealm::SecretTaken => bail!("this secret belongs to another realm or token: take another one"),
            }
            say(console, &format!("made realm {name}"))?;
            secret.show(console)
        }
        RealmCommand::List => list(store, console).await,
        RealmCommand::Rotate {
            name,
            secret_file,
            keep_old,
        } => {
            let secret = Choice::make(secret_file.as_deref(), console)?;
            let kept = keep_old.map(|span| span.0);
            demand(store.rotate_realm(&name, secret.hash(), kept).await?, &name)?;
            say(console, &format!("realm {name} has another secret"))?;
            secret.show(console)
        }
        RealmCommand::Disable { name } => {
            demand(store.set_realm_state(&name, RealmState::Suspended).await?, &name)?;
            say(console, &format!("realm {name} is suspended"))
        }
        RealmCommand::Enable { name } => {
            demand(store.set_realm_state(&name, RealmState::Active).await?, &name)?;
            say(console, &format!("realm {name} is active"))
        }
    }
}

async fn list(store: &Store, console: &mut Console<'_>) -> anyhow::Result<()> {
    let rows: Vec<_> = store
        .realms()
        .await?
        .into_iter()
        .map(|realm| {
            vec![
                realm.name.to_string(),
                realm.state.as_str().to_owned(),
                realm.tenants.to_string(),
                realm.secrets.to_string(),
                shown(Some(realm.created_at)),
                shown(realm.rotated_at),
            ]
        })
        .collect();
    table(
        console,
        &["NAME", "STATE", "TENANTS", "SECRETS", "CREATED", "ROTATED"],
        &rows,
    )
}

fn demand(change: RealmChange, name: &RealmName) -> anyhow::Result<()> {
    match change {
        RealmChange::Done => Ok(()),
        RealmChange::Unknown => bail!("there is no realm {name}; see: realm list"),
        RealmChange::SecretTaken => bail!("this secret belongs to another realm or token: take another one"),
    }
}

/// A realm's secret: given, or made up and then shown once.
enum Choice {
    Given(Secret),
    MadeUp(Secret),
}

impl Choice {
    fn make(file: Option<&Path>, console: &mut Console<'_>) -> anyhow::Result<Self> {
        let Some(file) = file else {
            return Ok(Self::MadeUp(generate_secret(console.random)?));
        };
        let secret = if file == Path::new("-") {
            Secret::from_reader(&mut *console.input)
                .context("cannot read the secret from standard input")?
                .context("standard input holds no secret: write it there on one line")?
        } else {
            Secret::from_file(file)?
        };
        if secret.expose().len() < SHORTEST {
            bail!("the secret is shorter than {SHORTEST} characters: take a longer one, or leave --secret-file out");
        }
        Ok(Self::Given(secret))
    }

    fn hash(&self) -> SecretHash {
        let (Self::Given(secret) | Self::MadeUp(secret)) = self;
        SecretHash::of(secret.expose().as_bytes())
    }

    fn show(&self, console: &mut Console<'_>) -> anyhow::Result<()> {
        match self {
            Self::Given(_) => Ok(()),
            Self::MadeUp(secret) => {
                say(console, "its secret, which is shown only this once:")?;
                writeln!(console.output, "{}", secret.expose()).context("cannot write to standard output")
            }
        }
    }
}
