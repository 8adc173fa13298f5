//! From the files to the tree, engine by engine.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use dirless_directory::schema::object_class;
use dirless_directory::{AttributeName, Entry, Filter, Schema, Value};

use super::inputs::{Inputs, wanted};
use super::{Engine, EngineConfig, Made, Place};
use crate::config::Config;
use crate::guard::Verdict;
use crate::sources::files::{FileError, Watch};
use crate::sources::{Complete, SourceSetting};
use crate::tree::reconcile::{self, Plan, SourceEntries};
use crate::tree::{Actor, Batch, Query, Reader, Scope, TreeError, TreeStore, skeleton};

/// What becomes of an engine's files.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The tree holds exactly that already.
    Unchanged,
    /// The tree was changed, or would be by a run.
    Changed {
        /// Counts of what changed.
        summary: String,
    },
    /// The change waits for a person.
    Held {
        /// The name of exactly this change.
        change: String,
        /// Counts of what would change.
        summary: String,
        /// Why it waits.
        reasons: Vec<String>,
    },
    /// Nothing was done; what the tree held before stays.
    Failed {
        /// What is wrong, where, and what to do.
        error: String,
    },
    /// The engine has no files.
    Unset,
}

/// How one engine got on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ran {
    /// The engine.
    pub engine: Engine,
    /// What became of its files.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Entries that it has, or would have.
    pub entries: usize,
    /// Names that it would have had, but that are another source's.
    pub refused: Vec<String>,
}

impl Ran {
    /// One that did nothing, for this reason.
    #[must_use]
    pub fn failed(engine: Engine, error: String) -> Self {
        Self::nothing(engine, Outcome::Failed { error })
    }

    fn nothing(engine: Engine, outcome: Outcome) -> Self {
        Self {
            engine,
            outcome,
            entries: 0,
            refused: Vec::new(),
        }
    }

    /// Did it go well, be it that there was nothing to do?
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.outcome, Outcome::Unchanged | Outcome::Changed { .. })
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.engine.name();
        match &self.outcome {
            Outcome::Unchanged => write!(formatter, "engine {name}: nothing changed ({} entries)", self.entries)?,
            Outcome::Changed { summary } => write!(formatter, "engine {name}: {summary} ({} entries)", self.entries)?,
            Outcome::Held {
                change,
                summary,
                reasons,
            } => write!(
                formatter,
                "engine {name}: held back: {summary}; {}; if this is what you want, run: dirless-syncer apply --accept {change}",
                reasons.join("; ")
            )?,
            Outcome::Failed { error } => {
                write!(formatter, "engine {name}: {error}; what the tree holds of it stays")?;
            }
            Outcome::Unset => write!(
                formatter,
                "engine {name} has no files: give it a table [engines.{name}]"
            )?,
        }
        for refused in &self.refused {
            write!(formatter, "\n  not taken: {refused}")?;
        }
        Ok(())
    }
}

/// Why an engine did nothing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// The tree did not take it.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// The engines that have files, and the tree.
#[derive(Debug)]
pub struct Engines<'a> {
    store: &'a TreeStore,
    settings: BTreeMap<Engine, EngineConfig>,
    percent: u8,
}

impl<'a> Engines<'a> {
    /// The engines of `config`.
    #[must_use]
    pub fn new(config: &Config, store: &'a TreeStore) -> Self {
        Self {
            store,
            settings: config.engines.all(&SourceSetting::all(config)),
            percent: config.guard.percent,
        }
    }

    /// The engines that have files.
    #[must_use]
    pub fn set(&self) -> Vec<Engine> {
        self.settings.keys().copied().collect()
    }

    /// Watches the folders of all engines of `config`.
    #[must_use]
    pub fn watch(config: &Config) -> Watch {
        let settings = config.engines.all(&SourceSetting::all(config));
        let all = settings.iter().flat_map(|(engine, config)| {
            let paths = config.folder.iter().chain(config.parts.values());
            paths.map(|path| (path.clone(), wanted(*engine)))
        });
        Watch::of(all.collect())
    }

    /// Reads the files of `engines`, makes entries of them, and puts those into the tree, each engine
    /// in a transaction of its own. A change that looks like an accident is not made unless it is the
    /// one called `accept`.
    pub async fn run(&self, engines: &[Engine], accept: Option<&str>) -> Vec<Ran> {
        let inputs = self.read(engines).await;
        let all = in_order(engines).map(|engine| {
            if !self.has_files(engine, &inputs) {
                return Ran::nothing(engine, Outcome::Unset);
            }
            let actor = Actor::source(&engine.source());
            let done = self
                .store
                .write(&actor, |batch| self.step(engine, &inputs, batch, accept));
            done.unwrap_or_else(|error| Ran::failed(engine, error.to_string()))
        });
        all.collect()
    }

    /// What [`Engines::run`] would do. All of it is done, so that an engine sees what those before it
    /// would have made, and taken back.
    ///
    /// # Errors
    /// When the tree cannot be used.
    pub async fn plan(&self, engines: &[Engine]) -> Result<Vec<Ran>, TreeError> {
        let inputs = self.read(engines).await;
        let undone: Result<(), Undone> = self.store.write(&Actor::syncer(), |batch| {
            let mut all = Vec::new();
            for engine in in_order(engines) {
                all.push(if self.has_files(engine, &inputs) {
                    let done = self.step(engine, &inputs, batch, None);
                    done.unwrap_or_else(|error| Ran::failed(engine, error.to_string()))
                } else {
                    Ran::nothing(engine, Outcome::Unset)
                });
            }
            Err(Undone(Ok(all)))
        });
        match undone {
            Ok(()) => Ok(Vec::new()),
            Err(Undone(outcome)) => outcome,
        }
    }

    async fn read(&self, engines: &[Engine]) -> Inputs {
        let read = engines
            .iter()
            .flat_map(|engine| std::iter::once(engine).chain(engine.reads()));
        let read: BTreeSet<&Engine> = read.collect();
        let settings = self.settings.iter().filter(|(engine, _)| read.contains(engine));
        Inputs::read(&settings.map(|(engine, config)| (*engine, config.clone())).collect()).await
    }

    fn has_files(&self, engine: Engine, inputs: &Inputs) -> bool {
        let laid_over = engine.reads().iter().any(|other| inputs.has(*other));
        inputs.has(engine) || (laid_over && self.settings.contains_key(&engine))
    }

    fn step(
        &self,
        engine: Engine,
        inputs: &Inputs,
        batch: &mut Batch<'_>,
        accept: Option<&str>,
    ) -> Result<Ran, RunError> {
        inputs.check(engine)?;
        let reader = batch.reader();
        let made = make(engine, inputs, reader, &tenants(reader)?)?;
        let mut plan = planned(engine, inputs, reader, &made)?;
        let mut ran = self.looked_at(engine, &plan, accept);
        if !matches!(ran.outcome, Outcome::Changed { .. }) {
            return Ok(ran);
        }
        reconcile::apply(batch, &plan)?;
        if !plan.refused.is_empty() {
            // A tenant gets its units when it is added, and what was refused may now have a place.
            let second = planned(engine, inputs, batch.reader(), &made)?;
            reconcile::apply(batch, &second)?;
            plan.appear.extend(second.appear);
            plan.change.extend(second.change);
            (plan.refused, plan.entries) = (second.refused, second.entries);
            ran = Ran {
                outcome: Outcome::Changed {
                    summary: plan.summary(),
                },
                ..counted(engine, &plan)
            };
        }
        Ok(ran)
    }

    fn looked_at(&self, engine: Engine, plan: &Plan, accept: Option<&str>) -> Ran {
        let outcome = if plan.is_empty() {
            Outcome::Unchanged
        } else {
            let (summary, change) = (plan.summary(), change_id(self.store.schema(), plan));
            match plan.judge(self.percent) {
                Verdict::Hold(reasons) if accept != Some(change.as_str()) => Outcome::Held {
                    change,
                    summary,
                    reasons,
                },
                _ => Outcome::Changed { summary },
            }
        };
        Ran {
            outcome,
            ..counted(engine, plan)
        }
    }
}

fn counted(engine: Engine, plan: &Plan) -> Ran {
    Ran {
        engine,
        outcome: Outcome::Unchanged,
        entries: plan.entries,
        refused: plan.refused.iter().map(ToString::to_string).collect(),
    }
}

/// Takes a transaction back, with what was found out in it.
struct Undone(Result<Vec<Ran>, TreeError>);

impl From<TreeError> for Undone {
    fn from(error: TreeError) -> Self {
        Self(Err(error))
    }
}

fn in_order(engines: &[Engine]) -> impl Iterator<Item = Engine> {
    Engine::ALL.into_iter().filter(|engine| engines.contains(engine))
}

/// The tenants that the tree has.
fn tenants(reader: Reader<'_>) -> Result<BTreeSet<String>, RunError> {
    let mut tenants = BTreeSet::new();
    let query = Query {
        base: &skeleton::unit(reader.base(), "tenants"),
        scope: Scope::OneLevel,
        filter: &Filter::Equality(object_class(), Value::from("aitherTenant")),
        after: None,
    };
    reader.visit(&query, |record| {
        let rdn = record.dn().rdn().and_then(|rdn| rdn.avas().first());
        tenants.extend(rdn.and_then(|ava| ava.value.as_str()).map(str::to_owned));
        ControlFlow::Continue(())
    })?;
    Ok(tenants)
}

fn make<'i>(
    engine: Engine,
    inputs: &'i Inputs,
    reader: Reader<'_>,
    tenants: &BTreeSet<String>,
) -> Result<Vec<Made<'i>>, RunError> {
    let place = Place {
        base: reader.base(),
        tenants,
    };
    let made = engine.make().make(inputs, &place);
    let made = made.and_then(|made| super::each_once(&made).map(|()| made));
    made.map_err(|error| inputs.place(engine, error).into())
}

/// Compares what was made with the tree, after a look at the schema: what it refuses is said of the
/// file and not of the entry.
fn planned(engine: Engine, inputs: &Inputs, reader: Reader<'_>, made: &[Made<'_>]) -> Result<Plan, RunError> {
    for own in made {
        if let Err(violation) = reader.schema().check(&own.entry) {
            let reason = format!("{} {violation}", own.word_or_name());
            return Err(inputs.place(engine, own.error(reason)).into());
        }
    }
    let entries: Vec<Entry> = made.iter().map(|made| made.entry.clone()).collect();
    // All files of the engine were read to their ends, or there would be no inputs.
    let wanted = SourceEntries::new(&engine.source(), Complete::proven(entries));
    Ok(reconcile::plan(&reader, &wanted)?)
}

/// The name of exactly this change: any other has another one.
fn change_id(schema: &Schema, plan: &Plan) -> String {
    let mut text = String::new();
    let theirs = |name: &AttributeName| {
        let kept = schema
            .attribute(name.as_str())
            .is_some_and(|attribute| attribute.no_user_modification);
        !kept
    };
    for (sign, entry) in plan
        .appear
        .iter()
        .map(|entry| ('+', entry))
        .chain(plan.change.iter().map(|entry| ('~', entry)))
    {
        text.push_str(&format!("{sign}{}\n", entry.dn()));
        for (name, values) in entry.attributes().filter(|(name, _)| theirs(name)) {
            let values: Vec<&[u8]> = values.iter().map(Value::as_bytes).collect();
            text.push_str(&format!("{name} {values:?}\n"));
        }
    }
    for dn in &plan.disappear {
        text.push_str(&format!("-{dn}\n"));
    }
    dirless_seal::sha256_hex(text.as_bytes()).chars().take(12).collect()
}

const REPORT: &str = "engines.json";

/// Notes in the state folder how the engines got on, for `status`.
///
/// # Errors
/// When it cannot be written.
pub fn remember(state_folder: &Path, all: &[Ran]) -> std::io::Result<()> {
    let json = serde_json::to_vec_pretty(all).map_err(std::io::Error::other)?;
    dirless_program::fs::ensure_folder(state_folder, 0o700)?;
    dirless_program::fs::publish(&state_folder.join(REPORT), 0o600, &json)
}

/// How the engines got on last; nothing when none ever ran, or the note is damaged.
#[must_use]
pub fn recall(state_folder: &Path) -> Vec<Ran> {
    let text = std::fs::read(state_folder.join(REPORT)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}
