//! `dirless verify`: everything that a host would check, and more, from any copy of a tenant.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dirless_seal::trust::{Head, Manifest};
use dirless_seal::{Digest, Note};
use serde_json::{Value, json};

use crate::at::{Access, Remote, is_url};
use crate::options::PassphraseFrom;
use crate::walk::http::HttpSource;
use crate::walk::receipts::{at_backend, in_files};
use crate::walk::source::{FolderSource, Source};
use crate::walk::{Pinned, Problem, Visitor, Walk};
use crate::{Surroundings, keys};

/// Where a tenant is read from.
#[derive(Debug, clap::Args)]
pub(crate) struct From {
    /// The folder of the tenant, or the URL below which its files are, such as https://dirless.example/v2/TENANT
    from: String,
    /// The fingerprint of the first policy's roots, from the recovery sheet
    #[arg(long, value_name = "FINGERPRINT")]
    roots: Option<Digest>,
    /// The tenant's id
    #[arg(long, value_name = "ID")]
    tenant: Option<Digest>,
    /// Begin with this policy instead of the first; --roots is then of this one
    #[arg(long, value_name = "VERSION", default_value_t = 1)]
    policy: u64,
    #[command(flatten)]
    access: Access,
}

/// Arguments of `dirless verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    from: From,
    /// Receipts of hosts: a file, or a folder of them; otherwise those at the backend, or in FROM/receipts
    #[arg(long, value_name = "PATH")]
    receipts: Option<PathBuf>,
    /// A recovery key: opens every sealed body with it
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseFrom,
    /// A head that is stale or has run out is a problem too
    #[arg(long)]
    fresh: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl From {
    /// The folder, when it is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        (!is_url(&self.from)).then(|| Path::new(&self.from))
    }

    pub(crate) fn source(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<Box<dyn Source>> {
        Ok(self.open(surroundings)?.0)
    }

    /// The source, and whether it is a backend that knows us.
    fn open(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<(Box<dyn Source>, bool)> {
        if let Some(folder) = self.folder() {
            return Ok((Box::new(FolderSource(folder.to_owned())), false));
        }
        // A backend wants to know who asks, a web server does not.
        let is_backend = Remote::parse(&self.from).is_ok();
        let token = match is_backend {
            true if surroundings.terminal.is_there() => Some(self.access.token(surroundings)?),
            _ => self.access.token_of_file()?,
        };
        let source = HttpSource::new(&self.from, token.as_ref(), self.access.ca_file())?;
        Ok((Box::new(source), is_backend && token.is_some()))
    }

    pub(crate) fn pinned(&self) -> Pinned<'_> {
        Pinned {
            roots: self.roots,
            tenant: self.tenant,
            first: self.policy,
            ..Pinned::default()
        }
    }
}

impl Verify {
    pub(crate) fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        let now = surroundings.clock.now();
        let open = |file: &PathBuf| keys::identity(file, &self.passphrase, surroundings.terminal);
        let identity = self.identity.as_ref().map(open).transpose()?;
        let (mut source, knows_us) = self.from.open(surroundings)?;
        let beside = self.from.folder().map(|folder| folder.join("receipts"));
        let files = self.receipts.clone().or_else(|| beside.filter(|path| path.is_dir()));
        let receipts = match files {
            Some(files) => in_files(&files)?,
            None if knows_us => at_backend(source.as_mut()),
            None => Ok(Vec::new()),
        };

        let mut report = Report {
            out: (!self.json).then_some(&mut *surroundings.out),
            facts: Vec::new(),
        };
        let pinned = Pinned {
            identity: identity.as_ref(),
            must_be_fresh: self.fresh,
            ..self.from.pinned()
        };
        let walked = Walk::whole(source.as_mut(), &mut report, pinned, now);
        let outcome = walked.and_then(|walk| walk.receipts(&receipts?));
        if let Ok(count @ 1..) = &outcome {
            report.tell("receipts", format!("{count} agree with each other and with this copy"));
        }
        let facts = report.facts;
        if self.json {
            let problem = outcome.as_ref().err().map(as_json);
            writeln!(surroundings.out, "{:#}", json!({ "facts": facts, "problem": problem }))?;
        }
        outcome
            .map(drop)
            .context("the tenant cannot be believed as it is served there")
    }
}

fn as_json(problem: &Problem) -> Value {
    json!({ "code": problem.code, "path": problem.path, "message": problem.message })
}

/// Writes each fact in a line.
struct Report<'a> {
    out: Option<&'a mut dyn Write>,
    facts: Vec<Value>,
}

impl Visitor for Report<'_> {
    fn object(&mut self, _: &str, _: &[u8]) -> Result<(), Problem> {
        Ok(())
    }

    fn has_body(&mut self, _: &str, _: &Manifest) -> Result<bool, Problem> {
        Ok(false)
    }

    fn begin_body(&mut self, _: &str) -> Result<Box<dyn Write + '_>, Problem> {
        Ok(Box::new(std::io::sink()))
    }

    fn end_body(&mut self, _: &str) -> Result<(), Problem> {
        Ok(())
    }

    fn head(&mut self, _: &str, _: &Head, _: &Note, _: &[u8]) -> Result<(), Problem> {
        Ok(())
    }

    fn tell(&mut self, path: &str, fact: String) {
        if let Some(out) = &mut self.out {
            // A reader that went away does not change the outcome, which is in the exit code.
            let _ = writeln!(out, "{path}: {fact}");
        }
        self.facts.push(json!({ "path": path, "fact": fact }));
    }
}
