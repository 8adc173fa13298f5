//! `dirless tenant`: begins a tenant.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use dirless_program::Secret;
use dirless_program::fs::ensure_folder;
use dirless_seal::trust::{Compartment, FORMAT, OnExpiry, Policy};
use dirless_seal::{Digest, Label, Recipient, SigningKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::at::{Access, Remote};
use crate::draft::Draft;
use crate::folder::Folder;
use crate::options::{Making, days_after, whole_seconds};
use crate::{Surroundings, files, keys, sheet, syncer};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make root keys and the first policy, signed by all of them
    ///
    /// Do it on a machine without a network. It writes each root key to a file of its own under a
    /// passphrase, the first policy to FOLDER/policy/1, and prints the recovery sheet.
    Init(Box<Init>),
}

/// Arguments of `dirless tenant init`.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The folder of the tenant, whose content everybody may see; it is made when missing
    folder: PathBuf,
    /// The folder that root keys are written to; not the tenant's
    #[arg(long, value_name = "FOLDER")]
    keys: PathBuf,
    /// How many root keys to make
    #[arg(long, value_name = "1-16", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    roots: u8,
    /// How many of them must sign
    #[arg(long, value_name = "1-16", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    threshold: u8,
    /// Id of the tenant, as the syncer shows it (64 hexadecimal digits); a random one otherwise
    #[arg(long, value_name = "ID")]
    tenant: Option<Digest>,
    /// Days until hosts warn that nobody renewed the policy
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    valid_for: u16,
    /// Longest lease of a head, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(60..))]
    lease: u32,
    /// A recovery recipient (age1…), who can open everything; may be repeated
    #[arg(long, value_name = "RECIPIENT")]
    recovery: Vec<Recipient>,
    /// Write the recovery sheet to this file too
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Write a sheet with the secret keys in clear to this file, to be printed and destroyed
    #[arg(long, value_name = "FILE")]
    secret_sheet: Option<PathBuf>,
    /// The public lines of a syncer, as "dirless-syncer signing init" prints them: it may publish and admit hosts; may be repeated
    #[arg(long, value_name = "FILE")]
    syncer: Vec<PathBuf>,
    /// Bring it to the backend with this base URL at once, with an operator's token
    #[arg(long, value_name = "URL")]
    backend: Option<String>,
    /// Write the [signed] table for the syncer's configuration to this file too
    #[arg(long, value_name = "FILE")]
    signed: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    making: Making,
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::Init(init) => init.run(surroundings),
    }
}

impl Init {
    fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        self.check()?;
        let names: Vec<String> = (1..=self.roots).map(|number| format!("root-{number}")).collect();
        let passphrases = self.making.passphrase.fresh(&names, surroundings.terminal)?;
        let roots: Vec<SigningKey> = names
            .iter()
            .map(|name| keys::generate(name.parse::<Label>().context("naming a root")?))
            .collect::<anyhow::Result<_>>()?;
        let mut policy = self.policy(&roots, whole_seconds(surroundings.clock.now()))?;
        syncer::admit(&mut policy, &self.syncer)?;
        let mut first = Draft::new(&policy)?;
        roots.iter().for_each(|root| first.sign(root));
        // Before anything is written: a wrong address or token file ends it here.
        let folder = self.place(policy.tenant, surroundings)?;

        self.write_keys(&roots, &passphrases)?;
        ensure_folder(&self.folder.join("policy"), 0o755)
            .with_context(|| format!("making {}", self.folder.display()))?;
        let path = folder.publish(&first)?;
        self.tell(&first, &roots, &path, surroundings.out)?;
        let push = || {
            format!(
                "keys and policy are written, and not at the backend; bring them there with: dirless policy push {} {}",
                self.folder.display(),
                folder.name()
            )
        };
        folder.push(surroundings.out).with_context(push)
    }

    /// The folder, and the backend that it is brought to.
    fn place(&self, tenant: Digest, surroundings: &mut Surroundings<'_>) -> anyhow::Result<Folder> {
        let Some(url) = &self.backend else {
            return Ok(Folder::new(&self.folder));
        };
        let remote = Remote {
            base: url.trim_end_matches('/').to_owned(),
            tenant,
        };
        let backend = self.access.backend(&remote, surroundings)?;
        Ok(Folder::of(&self.folder, &remote.url(), Some(backend)))
    }

    fn tell(&self, first: &Draft, roots: &[SigningKey], path: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
        let sheet = sheet::text(first.policy(), None);
        if let Some(path) = &self.sheet {
            files::create(path, 0o644, sheet.as_bytes())?;
        }
        if let Some(path) = &self.secret_sheet {
            files::create(path, 0o600, sheet::text(first.policy(), Some(roots)).as_bytes())?;
        }
        let backend = self.backend.as_deref().map(|url| url.trim_end_matches('/'));
        let table = syncer::table(first.policy(), backend, &self.folder)?;
        if let Some(path) = &self.signed {
            files::create(path, 0o644, table.as_bytes())?;
        }
        writeln!(out, "{sheet}")?;
        for root in roots {
            writeln!(
                out,
                "wrote {}",
                self.key_path(root.verifying().name().as_str()).display()
            )?;
        }
        writeln!(out, "wrote {}", path.display())?;
        for publisher in &first.policy().publishers {
            let key = &publisher.key;
            writeln!(
                out,
                "admitted {}+{}; compare it with what its syncer printed",
                key.name(),
                key.hash()
            )?;
        }
        writeln!(out, "for the configuration of a syncer:\n{table}")?;
        if self.syncer.is_empty() {
            writeln!(out, "next: dirless policy edit {} --syncer FILE", self.folder.display())?;
        }
        Ok(())
    }

    /// Everything that can be refused is refused before anything is written.
    fn check(&self) -> anyhow::Result<()> {
        if self.threshold > self.roots {
            bail!(
                "--threshold {} is more than the {} --roots there are",
                self.threshold,
                self.roots
            );
        }
        for taken in [self.folder.join("policy/1"), self.folder.join("policy/draft")] {
            if taken.exists() {
                bail!(
                    "{} is a tenant already: {} is there",
                    self.folder.display(),
                    taken.display()
                );
            }
        }
        ensure_folder(&self.folder, 0o755).with_context(|| format!("making {}", self.folder.display()))?;
        ensure_folder(&self.keys, 0o700).with_context(|| format!("making {}", self.keys.display()))?;
        let real = |path: &Path| {
            path.canonicalize()
                .with_context(|| format!("looking at {}", path.display()))
        };
        if real(&self.keys)?.starts_with(real(&self.folder)?) {
            bail!(
                "--keys {} lies within the tenant's folder, which everybody may see",
                self.keys.display()
            );
        }
        let names = (1..=self.roots).map(|number| self.key_path(&format!("root-{number}")));
        let sheets = [&self.sheet, &self.secret_sheet, &self.signed]
            .into_iter()
            .flatten()
            .cloned();
        for path in names.chain(sheets) {
            if path.exists() {
                bail!(
                    "{} is there already and is not overwritten; move it away first",
                    path.display()
                );
            }
        }
        Ok(())
    }

    fn key_path(&self, name: &str) -> PathBuf {
        self.keys.join(format!("{name}.age"))
    }

    fn write_keys(&self, roots: &[SigningKey], passphrases: &[Secret]) -> anyhow::Result<()> {
        for (root, passphrase) in roots.iter().zip(passphrases) {
            let path = self.key_path(root.verifying().name().as_str());
            keys::write(&path, &root.expose(), passphrase, self.making.work)?;
        }
        Ok(())
    }

    fn policy(&self, roots: &[SigningKey], now: jiff::Timestamp) -> anyhow::Result<Policy> {
        let mut recovery = self.recovery.clone();
        recovery.sort_by(|left, right| left.as_str().cmp(right.as_str()));
        Ok(Policy {
            tenant: match self.tenant {
                Some(tenant) => tenant,
                None => random_tenant()?,
            },
            version: 1,
            previous: None,
            issued: now,
            expires: days_after(now, self.valid_for)?,
            format: FORMAT,
            lease: self.lease,
            threshold: usize::from(self.threshold),
            roots: roots.iter().map(|root| root.verifying().clone()).collect(),
            publishers: Vec::new(),
            enrollers: Vec::new(),
            recovery,
            compartments: vec![Compartment {
                name: "all".parse::<Label>().context("naming a compartment")?,
                on_expiry: OnExpiry::Serve,
            }],
        })
    }
}

fn random_tenant() -> anyhow::Result<Digest> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.ok().context("the system gives no random bytes")?;
    Ok(Digest::from_bytes(bytes))
}
