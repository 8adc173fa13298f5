use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Engine;
use crate::sources::{SourceKind, SourceSetting};

/// `[engines]`: a table for each engine whose files are not in the folder of a file source.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct EnginesConfig(BTreeMap<Engine, EngineConfig>);

/// `[engines.NAME]`
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Its folder.
    pub folder: Option<PathBuf>,
    /// Parts of it that stand elsewhere, each a file or folder, such as `registrations`.
    #[serde(default)]
    pub parts: BTreeMap<String, PathBuf>,
}

impl EnginesConfig {
    /// The engines that have files, with their tables, those in folders of file sources among them.
    #[must_use]
    pub fn all(&self, sources: &[SourceSetting]) -> BTreeMap<Engine, EngineConfig> {
        let mut all = self.0.clone();
        for source in sources {
            let SourceKind::Files(files) = &source.kind else {
                continue;
            };
            for engine in &files.engines {
                let own = all.entry(*engine).or_default();
                own.folder.get_or_insert_with(|| files.folder.join(engine.name()));
            }
        }
        all
    }

    /// Looks at the tables: the key that is wrong and why.
    ///
    /// # Errors
    /// When a path is not absolute, an engine has no files, or one has two folders.
    pub fn check(&self, sources: &[SourceSetting]) -> Result<(), (String, String)> {
        for (engine, own) in &self.0 {
            let key = |name: &str| format!("engines.{}.{name}", engine.name());
            let absolute = |name: &str, path: &Path| match path.is_absolute() {
                true => Ok(()),
                false => Err((key(name), "must be an absolute path".to_owned())),
            };
            own.folder
                .as_deref()
                .map_or(Ok(()), |folder| absolute("folder", folder))?;
            for (part, path) in &own.parts {
                absolute(&format!("parts.{part}"), path)?;
            }
            let of_source = sources.iter().any(|source| has(source, *engine));
            if own.folder.is_none() && own.parts.is_empty() {
                return Err((key("folder"), "is missing, so the engine has no files".to_owned()));
            }
            if own.folder.is_some() && of_source {
                let reason = "a [[source]] of kind files lists this engine too; keep one of the two folders";
                return Err((key("folder"), reason.to_owned()));
            }
        }
        for engine in Engine::ALL {
            if sources.iter().filter(|source| has(source, engine)).count() > 1 {
                let reason = format!("{:?} is listed by two sources; keep one", engine.name());
                return Err(("source.engines".to_owned(), reason));
            }
        }
        Ok(())
    }
}

fn has(source: &SourceSetting, engine: Engine) -> bool {
    matches!(&source.kind, SourceKind::Files(files) if files.engines.contains(&engine))
}
