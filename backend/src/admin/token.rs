//! `token create|list|revoke`.

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};

use super::{Console, Span, say, shown, table};
use crate::store::{NewToken, RealmName, Scope, SecretHash, Store, Token, TokenCreation, TokenId, generate_secret};

/// What to do with operator tokens.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, once.
    Create {
        /// What it is for.
        #[arg(long)]
        label: String,
        /// What it allows; give it several times for several.
        #[arg(long = "scope", required = true, value_delimiter = ',')]
        scopes: Vec<Scope>,
        /// The only realm it reaches; without it, all.
        #[arg(long, value_name = "NAME")]
        realm: Option<RealmName>,
        /// When it ends, such as 90d.
        #[arg(long, value_name = "SPAN", default_value = "90d", conflicts_with = "never_expires")]
        expires: Span,
        /// Make a token without an end.
        #[arg(long)]
        never_expires: bool,
    },
    /// List all tokens, without their secrets.
    List,
    /// End a token now.
    Revoke {
        /// Its id, as the list shows it.
        id: String,
    },
}

pub(super) async fn run(command: TokenCommand, store: &Store, console: &mut Console<'_>) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create {
            label,
            scopes,
            realm,
            expires,
            never_expires,
        } => {
            let now = console.clock.now();
            let expires_at = if never_expires { None } else { Some(end(now, expires)?) };
            create(store, console, label, scopes, realm, expires_at).await
        }
        TokenCommand::List => list(store, console).await,
        TokenCommand::Revoke { id } => {
            if !store.revoke_token(&id).await? {
                bail!("there is no token {id:?} that could be revoked; see: token list");
            }
            say(console, &format!("token {id} is revoked"))
        }
    }
}

fn end(now: Timestamp, expires: Span) -> anyhow::Result<Timestamp> {
    SignedDuration::try_from(expires.0)
        .ok()
        .and_then(|span| now.checked_add(span).ok())
        .context("the token would end after the year 9999: take a shorter span, or --never-expires")
}

async fn create(
    store: &Store,
    console: &mut Console<'_>,
    label: String,
    mut scopes: Vec<Scope>,
    realm: Option<RealmName>,
    expires_at: Option<Timestamp>,
) -> anyhow::Result<()> {
    scopes.sort_unstable();
    scopes.dedup();
    let secret = generate_secret(console.random)?;
    let id = TokenId::generate(console.random)?;
    let new = NewToken {
        id: id.clone(),
        label,
        scopes,
        realm,
        expires_at,
        secret: SecretHash::of(secret.expose().as_bytes()),
    };
    match store.create_token(new).await? {
        TokenCreation::Created => {}
        TokenCreation::UnknownRealm => bail!("there is no such realm; see: realm list"),
        TokenCreation::SecretTaken => bail!("the random source gave a secret twice: it is broken"),
    }
    say(console, &format!("made token {id}, good until {}", shown(expires_at)))?;
    say(console, "the token, which is shown only this once:")?;
    writeln!(console.output, "{}", secret.expose()).context("cannot write to standard output")
}

async fn list(store: &Store, console: &mut Console<'_>) -> anyhow::Result<()> {
    let now = console.clock.now();
    let row = |token: Token| {
        let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        let state = match (token.revoked_at, token.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now => "expired",
            _ => "good",
        };
        vec![
            token.id.to_string(),
            state.to_owned(),
            scopes.join(","),
            token.realm.map_or_else(|| "all".to_owned(), |realm| realm.to_string()),
            shown(Some(token.created_at)),
            shown(token.expires_at),
            shown(token.last_used_at),
            token.label,
        ]
    };
    let rows: Vec<_> = store.tokens().await?.into_iter().map(row).collect();
    let head = [
        "ID",
        "STATE",
        "SCOPES",
        "REALM",
        "CREATED",
        "EXPIRES",
        "LAST USED",
        "LABEL",
    ];
    table(console, &head, &rows)
}
