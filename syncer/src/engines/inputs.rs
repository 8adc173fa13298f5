//! The files of all engines, read whole or not at all.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Engine, EngineConfig};
use crate::sources::files::{File, FileError, Folder, Format, Wanted};

/// The files of the engines, by their paths in the engine's folder. Parts that stand elsewhere have
/// the path that they would have there.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    files: BTreeMap<Engine, Vec<File>>,
    /// Where a file really is.
    real: BTreeMap<(Engine, PathBuf), PathBuf>,
    failed: BTreeMap<Engine, FileError>,
}

impl Inputs {
    /// Reads the files of `engines` (and of those that they read besides). What fails is remembered
    /// for [`Inputs::check`].
    pub async fn read(engines: &BTreeMap<Engine, EngineConfig>) -> Self {
        let mut inputs = Self::default();
        for (engine, config) in engines {
            if let Err(error) = inputs.read_one(*engine, config).await {
                inputs.files.remove(engine);
                inputs.failed.insert(*engine, error);
            }
        }
        inputs
    }

    async fn read_one(&mut self, engine: Engine, config: &EngineConfig) -> Result<(), FileError> {
        let mut all: BTreeMap<PathBuf, File> = BTreeMap::new();
        if let Some(path) = &config.folder {
            let folder = Folder::new(path);
            for file in folder.read_at_rest(wanted(engine)).await? {
                self.real.insert((engine, file.path.clone()), path.join(&file.path));
                all.insert(file.path.clone(), file);
            }
        }
        for (part, path) in &config.parts {
            let folder = Folder::new(path);
            let is_file = path.is_file();
            for mut file in folder.read_at_rest(wanted(engine)).await? {
                let real = if is_file { path.clone() } else { path.join(&file.path) };
                let inside = match (is_file, file.path.extension()) {
                    (true, Some(ending)) => Path::new(part).with_extension(ending),
                    (true, None) => PathBuf::from(part),
                    (false, _) => Path::new(part).join(&file.path),
                };
                file.path = inside.clone();
                self.real.insert((engine, inside.clone()), real);
                if let Some(twice) = all.insert(inside, file) {
                    return Err(FileError {
                        path: path.clone(),
                        line: None,
                        reason: format!(
                            "{} is in the engine's folder too; keep one of the two",
                            twice.path.display()
                        ),
                        busy: false,
                    });
                }
            }
        }
        self.files.insert(engine, all.into_values().collect());
        Ok(())
    }

    /// Files that were read elsewhere.
    #[must_use]
    pub fn given(files: impl IntoIterator<Item = (Engine, File)>) -> Self {
        let mut inputs = Self::default();
        for (engine, file) in files {
            inputs.files.entry(engine).or_default().push(file);
        }
        inputs
    }

    /// Has `engine` files, be it none in its folder?
    #[must_use]
    pub fn has(&self, engine: Engine) -> bool {
        self.files.contains_key(&engine) || self.failed.contains_key(&engine)
    }

    /// What kept the files of `engine`, or of those that it reads besides, from being read.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self, engine: Engine) -> Result<(), FileError> {
        let all = std::iter::once(&engine).chain(engine.reads());
        match all.filter_map(|engine| self.failed.get(engine)).next() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// The files of `engine`.
    pub(super) fn of(&self, engine: Engine) -> &[File] {
        self.files.get(&engine).map(Vec::as_slice).unwrap_or_default()
    }

    /// The files of a part of `engine`: those in the folder `part`, and the file `part.*`.
    pub(super) fn part(&self, engine: Engine, part: &str) -> impl Iterator<Item = &File> {
        self.of(engine)
            .iter()
            .filter(move |file| part_of(&file.path) == Some(part))
    }

    /// The same with the path where the file really is.
    pub(super) fn place(&self, engine: Engine, error: FileError) -> FileError {
        let own = std::iter::once(&engine).chain(engine.reads());
        let real = own
            .filter_map(|engine| self.real.get(&(*engine, error.path.clone())))
            .next();
        match real {
            Some(real) => FileError {
                path: real.clone(),
                ..error
            },
            None => error,
        }
    }
}

/// The part that a file belongs to: its first folder, or its own name without the ending.
pub(super) fn part_of(path: &Path) -> Option<&str> {
    match path.components().next() {
        Some(Component::Normal(first)) if Path::new(first) == path => path.file_stem()?.to_str(),
        Some(Component::Normal(first)) => first.to_str(),
        _ => None,
    }
}

/// What stands in `file`, in whichever format.
pub(super) fn parse<T: serde::de::DeserializeOwned>(file: &File) -> Result<T, FileError> {
    let ending = file
        .path
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    let refuse = |(line, reason)| FileError {
        path: file.path.clone(),
        line,
        reason,
        busy: false,
    };
    match Format::of(ending) {
        Some(format) => format.document(&file.text).map_err(refuse),
        None => Err(refuse((
            None,
            "has none of the endings .yaml, .yml, .json and .toml".to_owned(),
        ))),
    }
}

/// The files that are read for `engine`, as a watch wants to know it.
pub(super) fn wanted(engine: Engine) -> Wanted {
    Arc::new(move |path| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending {
            "pem" | "crt" => engine == Engine::Certificates,
            "ldif" => false,
            _ => Format::of(ending).is_some(),
        }
    })
}
