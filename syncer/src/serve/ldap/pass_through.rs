//! Passwords that the source of a person decides about.

use dirless_ldap::{Failure, Verify};
use dirless_program::Secret;

use crate::config::Config;
use crate::sources::ldap::{Bounds, LdapConfig, LdapSource, Verdict, VerifyPassword as _, Who};
use crate::sources::{SourceError, SourceKind, SourceSetting};

/// Decides the passwords of entries that came from a source.
pub trait PassThrough: Send + Sync {
    /// What decides for an entry of that source, by the id that it has there; none when that source is
    /// not asked.
    fn verifier(&self, source: &str, id: &str) -> Option<Verify>;
}

/// The sources that are asked: those that `[serve.ldap] pass_through` names.
#[derive(Clone, Debug)]
pub struct Sources {
    asked: Vec<(String, LdapConfig)>,
    bounds: Bounds,
    credentials: Option<String>,
}

impl Sources {
    /// Those that `config` names; none when it names none. `credentials` is the folder of service
    /// credentials, `$CREDENTIALS_DIRECTORY`.
    #[must_use]
    pub fn of(config: &Config, credentials: Option<String>) -> Option<Self> {
        let named = &config.serve.ldap.as_ref()?.pass_through;
        let asked = SourceSetting::all(config)
            .into_iter()
            .filter_map(|setting| match setting.kind {
                SourceKind::Ldap(ldap) if named.contains(&setting.name) => Some((setting.name, *ldap)),
                _ => None,
            });
        let sources = Self {
            asked: asked.collect(),
            bounds: Bounds::new(config.limits.users, config.limits.groups),
            credentials,
        };
        (!sources.asked.is_empty()).then_some(sources)
    }
}

impl PassThrough for Sources {
    fn verifier(&self, source: &str, id: &str) -> Option<Verify> {
        let (name, config) = self.asked.iter().find(|(name, _)| name == source)?.clone();
        let (bounds, credentials, id) = (self.bounds, self.credentials.clone(), id.to_owned());
        Some(Box::new(move |password| {
            // A password that is no text is nobody's.
            let Ok(text) = std::str::from_utf8(password) else {
                return Ok(false);
            };
            let password = Secret::new(text.to_owned());
            let environment = |asked: &str| credentials.clone().filter(|_| asked == "CREDENTIALS_DIRECTORY");
            let told = |error: SourceError| Failure(format!("source {name}: {error}").into());
            // Opened anew each time: its own password and its authorities may have changed.
            let source = LdapSource::open(&name, &config, bounds, None, &environment).map_err(told)?;
            let who = Who::Id(id);
            let verdict = tokio::runtime::Handle::current().block_on(source.verify_password(&who, &password));
            Ok(verdict.map_err(told)? == Verdict::Right)
        }))
    }
}
