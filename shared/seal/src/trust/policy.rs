//! The trust policy: who may say what in a tenant. Root keys sign it; everything else follows from it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::scope::{List, Scope};
use super::text::{Fields, FormatError, Lines, Object, Time, ascending};
use crate::{Digest, Label, Note, Recipient, VerifyingKey};

/// Who may publish, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Signs heads and manifests.
    pub key: VerifyingKey,
    /// What it may say.
    pub scope: Scope,
}

/// Who may admit hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enroller {
    /// Signs node lists.
    pub key: VerifyingKey,
    /// Join requests are sealed to it.
    pub recipient: Recipient,
}

/// What the hosts of a compartment do once a lease has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExpiry {
    /// Serve on as before; the alarm is all there is.
    Serve,
    /// Let nobody of the directory in until every publisher of the policy has a head that has not run out.
    Close,
}

impl fmt::Display for OnExpiry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Serve => "serve",
            Self::Close => "close",
        })
    }
}

impl FromStr for OnExpiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "serve" => Ok(Self::Serve),
            "close" => Ok(Self::Close),
            _ => Err(format!("{text:?} is neither serve nor close")),
        }
    }
}

/// A part of the tenant's data with a key of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compartment {
    /// Its name.
    pub name: Label,
    /// What its hosts do when their lease has run out.
    pub on_expiry: OnExpiry,
}

/// The trust policy of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whose it is.
    pub tenant: Digest,
    /// Counts up by one.
    pub version: u64,
    /// Digest of the policy before; none for the first.
    pub previous: Option<Digest>,
    /// When it was made.
    pub issued: Timestamp,
    /// When hosts begin to warn that nobody renews it.
    pub expires: Timestamp,
    /// Hosts that do not read this format keep what they have.
    pub format: u32,
    /// The longest lease of a head, in seconds.
    pub lease: u32,
    /// How many of the roots must sign.
    pub threshold: usize,
    /// Root keys, at most 16.
    pub roots: BTreeSet<VerifyingKey>,
    /// At most 32, in the order of their keys.
    pub publishers: Vec<Publisher>,
    /// At most 8, in the order of their keys.
    pub enrollers: Vec<Enroller>,
    /// Who can open everything when all else is lost; at most 8, in the order of their texts.
    pub recovery: Vec<Recipient>,
    /// At most 256, in the order of their names.
    pub compartments: Vec<Compartment>,
}

/// What a host pins when it joins: the digest of the threshold and the root keys.
#[must_use]
pub fn roots_fingerprint(threshold: usize, roots: &BTreeSet<VerifyingKey>) -> Digest {
    let mut text = format!("dirless/roots/v1\nthreshold {threshold}\n");
    for root in roots {
        text.push_str(&format!("root {root}\n"));
    }
    Digest::of(text.as_bytes())
}

impl Policy {
    /// The fingerprint of its roots.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        roots_fingerprint(self.threshold, &self.roots)
    }

    /// Did enough of its own roots sign `note`?
    #[must_use]
    pub fn is_signed(&self, note: &Note) -> bool {
        note.signers(&self.roots).len() >= self.threshold
    }

    /// The publisher that `name` (as in a head) means.
    #[must_use]
    pub fn publisher(&self, name: &Label) -> Option<&Publisher> {
        self.publishers.iter().find(|publisher| publisher.key.name() == name)
    }

    /// The enroller that `name` means.
    #[must_use]
    pub fn enroller(&self, name: &Label) -> Option<&Enroller> {
        self.enrollers.iter().find(|enroller| enroller.key.name() == name)
    }
}

impl Object for Policy {
    const CONTEXT: &'static str = "dirless/policy/v1";
    const MOST: usize = 128 * 1024;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let policy = Self {
            tenant: fields.value("tenant")?,
            version: fields.version("version")?,
            previous: fields.optional("previous")?,
            issued: fields.value::<Time>("issued")?.0,
            expires: fields.value::<Time>("expires")?.0,
            format: fields.value("format")?,
            lease: fields.value("lease")?,
            threshold: fields.value("threshold")?,
            roots: roots(fields)?,
            publishers: publishers(fields)?,
            enrollers: enrollers(fields)?,
            recovery: recovery(fields)?,
            compartments: compartments(fields)?,
        };
        policy.check().map(|()| policy)
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("tenant", self.tenant);
        lines.line("version", self.version);
        lines.optional("previous", self.previous);
        lines.line("issued", Time(self.issued));
        lines.line("expires", Time(self.expires));
        lines.line("format", self.format);
        lines.line("lease", self.lease);
        lines.line("threshold", self.threshold);
        for root in &self.roots {
            lines.line("root", root);
        }
        for Publisher { key, scope } in &self.publishers {
            let sources = List(scope.sources.iter().collect());
            let (ids, names) = (List(scope.ids.iter().collect()), List(scope.names.iter().collect()));
            let may = List(scope.may.iter().collect());
            lines.line(
                "publisher",
                format_args!("{key} sources={sources} ids={ids} names={names} may={may}"),
            );
        }
        for Enroller { key, recipient } in &self.enrollers {
            lines.line("enroller", format_args!("{key} {recipient}"));
        }
        for recipient in &self.recovery {
            lines.line("recovery", recipient);
        }
        for Compartment { name, on_expiry } in &self.compartments {
            lines.line("compartment", format_args!("{name} {on_expiry}"));
        }
    }
}

fn roots(fields: &mut Fields<'_>) -> Result<BTreeSet<VerifyingKey>, FormatError> {
    let roots = fields.rows("root", 16, |fields, [key]| fields.convert("root", key))?;
    Ok(roots.into_iter().collect())
}

fn publishers(fields: &mut Fields<'_>) -> Result<Vec<Publisher>, FormatError> {
    const NAME: &str = "publisher";
    fields.rows(NAME, 32, |fields, [key, sources, ids, names, may]| {
        let sources: List<Label> = fields.keyed(NAME, "sources", sources)?;
        let ids: List<_> = fields.keyed(NAME, "ids", ids)?;
        let names: List<_> = fields.keyed(NAME, "names", names)?;
        let may: List<_> = fields.keyed(NAME, "may", may)?;
        Ok(Publisher {
            key: fields.convert(NAME, key)?,
            scope: Scope {
                sources: sources.0.into_iter().collect(),
                ids: ids.0,
                names: names.0,
                may: may.0.into_iter().collect(),
            },
        })
    })
}

fn enrollers(fields: &mut Fields<'_>) -> Result<Vec<Enroller>, FormatError> {
    fields.rows("enroller", 8, |fields, [key, recipient]| {
        Ok(Enroller {
            key: fields.convert("enroller", key)?,
            recipient: fields.convert("enroller", recipient)?,
        })
    })
}

fn recovery(fields: &mut Fields<'_>) -> Result<Vec<Recipient>, FormatError> {
    fields.rows("recovery", 8, |fields, [recipient]| {
        fields.convert("recovery", recipient)
    })
}

fn compartments(fields: &mut Fields<'_>) -> Result<Vec<Compartment>, FormatError> {
    fields.rows("compartment", 256, |fields, [name, on_expiry]| {
        Ok(Compartment {
            name: fields.convert("compartment", name)?,
            on_expiry: fields.convert("compartment", on_expiry)?,
        })
    })
}

impl Policy {
    fn check(&self) -> Result<(), FormatError> {
        let wrong = |reason: &str| Err(FormatError::Contradiction(reason.to_owned()));
        if self.threshold == 0 || self.threshold > self.roots.len() {
            return wrong("its threshold is none of 1 to the number of its roots");
        }
        let distinct: BTreeSet<_> = self.roots.iter().map(VerifyingKey::as_bytes).collect();
        if distinct.len() < self.roots.len() {
            return wrong("one root key stands there under two names and would count twice");
        }
        if (self.version == 1) != self.previous.is_none() {
            return wrong("the first policy, and no other, has no previous one");
        }
        if self.expires <= self.issued {
            return wrong("it expires before it was issued");
        }
        if self.lease < 60 {
            return wrong("a lease under 60 seconds cannot be kept");
        }
        let mut sources = BTreeSet::new();
        for publisher in &self.publishers {
            if let Some(source) = publisher.scope.sources.iter().find(|source| !sources.insert(*source)) {
                return Err(FormatError::Contradiction(format!(
                    "source {source} has two publishers"
                )));
            }
        }
        // A name alone picks the key of a head, so it must be unique whatever the keys are.
        ascending("publishers", &self.publishers, |publisher| publisher.key.name().clone())?;
        ascending("enrollers", &self.enrollers, |enroller| enroller.key.name().clone())?;
        ascending("recovery recipients", &self.recovery, |recipient| {
            recipient.as_str().to_owned()
        })?;
        ascending("compartments", &self.compartments, |compartment| {
            compartment.name.clone()
        })
    }
}
