//! Where things are, and what every command needs of them.

use std::path::PathBuf;

use dirless_program::Lookup;
use dirless_program::config::ConfigError;

use crate::config::{self, Config};
use crate::paths::Paths;
use crate::pipeline::local_hostname;

/// Options that every command has.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Places {
    /// Another configuration file than /etc/dirless/dirless-agent.toml (root only)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A folder that stands for /
    #[arg(long, global = true, value_name = "FOLDER", hide = true)]
    pub(crate) root: Option<PathBuf>,
}

impl Places {
    /// The paths that the options name.
    pub(crate) fn paths(&self, environment: Lookup<'_>) -> Paths {
        let paths = self.root.as_deref().map_or_else(Paths::system, Paths::under);
        let config = match &self.config {
            Some(config) => config.clone(),
            None => config::path(&paths, environment, rustix::process::geteuid().as_raw()),
        };
        paths.with_config(config)
    }

    /// The configuration, and the paths with the key file that it names.
    pub(crate) fn load(&self, environment: Lookup<'_>) -> Result<(Config, Paths), ConfigError> {
        let paths = self.paths(environment);
        let config = config::load(&paths.config(), &paths, &local_hostname())?;
        let paths = paths.with_age_key(config.age_key_path.clone());
        Ok((config, paths))
    }

    /// Who must own the table and the host limits: root, but for a root folder of one's own.
    pub(crate) fn owner(&self) -> u32 {
        match self.root {
            Some(_) => rustix::process::geteuid().as_raw(),
            None => 0,
        }
    }

    /// The same options again, for the worker.
    pub(crate) fn arguments(&self, paths: &Paths) -> Vec<String> {
        let mut arguments = vec!["--config".to_owned(), paths.config().to_string_lossy().into_owned()];
        if let Some(root) = &self.root {
            arguments.extend(["--root".to_owned(), root.to_string_lossy().into_owned()]);
        }
        arguments
    }
}
