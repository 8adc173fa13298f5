//! `dirless watch`: heads and receipts of a tenant at a backend, as they come.

mod keys;
mod looks;
mod view;

use std::io::Write;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Instant;

use anyhow::{Context, bail};
use dirless_program::Clock;
use dirless_publish::{BackendFolder, Folder as _, Receipts};
use dirless_seal::trust::{Head, Object, Policy};
use dirless_wire::Notice;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use self::looks::Looks;
use self::view::View;
use crate::Surroundings;
use crate::at::At;

/// How long node lists are believed: hosts come and go.
const LISTS_FOR: SignedDuration = SignedDuration::from_secs(60);

/// Arguments of `dirless watch`.
#[derive(Debug, clap::Args)]
pub struct Watch {
    #[command(flatten)]
    at: At,
    /// Show what holds now, and end
    #[arg(long)]
    once: bool,
    /// As JSON, a line for each change
    #[arg(long)]
    json: bool,
}

impl Watch {
    pub(crate) fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        let folder = self.at.open(surroundings)?;
        let policy = folder.current()?.policy;
        let Some(backend) = folder.into_backend() else {
            bail!("hosts report to a backend alone: give the tenant's URL there, such as https://…/v2/TENANT");
        };
        let mut scene = Scene {
            backend: &backend,
            clock: surroundings.clock.clone(),
            view: View::of(policy.clone()),
            policy,
            receipts: None,
            told: Told {
                json: self.json,
                lines: Vec::new(),
            },
        };
        scene.heads()?;
        scene.look()?;
        scene.told.flush(surroundings.out)?;
        if self.once {
            return Ok(());
        }
        let notices = backend.notices()?;
        let mut looks = Looks::begin(Instant::now());
        loop {
            match notices.recv_timeout(looks.left(Instant::now())) {
                Ok(notice) => {
                    if scene.hear(&notice) {
                        looks.hurry(Instant::now());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the program is stopping"),
            }
            let began = Instant::now();
            if looks.left(began).is_zero() {
                if let Err(error) = scene.look() {
                    scene.told.problem("receipts", format!("{error:#}"));
                }
                looks.made(began, Instant::now());
            }
            scene.told.flush(surroundings.out)?;
        }
    }
}

/// A tenant that is watched.
struct Scene<'a> {
    backend: &'a BackendFolder,
    clock: Clock,
    policy: Policy,
    /// With the node lists, which were read then.
    receipts: Option<(Timestamp, Receipts<'a>)>,
    view: View,
    told: Told,
}

impl Scene<'_> {
    /// Takes the heads that are there.
    fn heads(&mut self) -> anyhow::Result<()> {
        for publisher in &self.policy.publishers {
            let name = publisher.key.name();
            match self.backend.get(&format!("head/{name}"), 2 * Head::MOST as u64)? {
                Some(bytes) => {
                    self.view.take(self.backend, &bytes, &mut self.told);
                }
                None => self.told.problem(
                    "head",
                    format!("{name} has no head: it has published nothing yet, or its head is held back"),
                ),
            }
        }
        Ok(())
    }

    /// Takes what the backend tells; is there something new for hosts in it?
    fn hear(&mut self, notice: &Notice) -> bool {
        match notice {
            Notice::Head(bytes) => return self.view.take(self.backend, bytes, &mut self.told),
            Notice::Changed => self.told.problem(
                "policy",
                "another policy may be in force: run this again to follow it".to_owned(),
            ),
            Notice::State(..) => {}
        }
        false
    }

    /// Looks at the hosts, and at what has become of their keys.
    fn look(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now();
        self.receipts
            .take_if(|(read, _)| now.duration_since(*read) >= LISTS_FOR);
        if self.receipts.is_none() {
            let mut problems = Vec::new();
            let receipts = Receipts::at(self.backend, self.policy.clone(), Vec::new(), &mut problems)?;
            problems.extend(
                receipts
                    .iter()
                    .flat_map(|receipts| self.view.withheld(receipts.roster())),
            );
            for problem in problems {
                self.view.once("node lists", &problem, &mut self.told);
            }
            self.receipts = receipts.map(|receipts| (now, receipts));
        }
        let (_, receipts) = self.receipts.as_ref().context("the backend has no receipts")?;
        let fleet = receipts.fleet()?;
        self.view.look_at_keys(self.backend, &fleet, now, &mut self.told);
        self.view.hosts(&fleet, now, &mut self.told);
        Ok(())
    }
}

/// Lines to be written.
struct Told {
    json: bool,
    lines: Vec<String>,
}

impl Told {
    fn line(&mut self, text: String, value: &Value) {
        self.lines.push(if self.json { value.to_string() } else { text });
    }

    fn problem(&mut self, about: &str, text: String) {
        let value = json!({ "event": "problem", "about": about, "message": text });
        self.line(format!("problem: {about}: {text}"), &value);
    }

    fn flush(&mut self, out: &mut dyn Write) -> anyhow::Result<()> {
        for line in self.lines.drain(..) {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }
}
