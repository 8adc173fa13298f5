//! Where a tenant is read from: a folder or a web server.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Problem;

/// Files under their paths.
pub(crate) trait Source {
    /// The file at `path`; none when there is none.
    fn open(&mut self, path: &str) -> Result<Option<Box<dyn Read + '_>>, Problem>;
}

/// The file at `path`, of at most `most` bytes; a longer one is one byte longer, and refused for that.
pub(crate) fn read(source: &mut dyn Source, path: &str, most: usize) -> Result<Option<Vec<u8>>, Problem> {
    let Some(file) = source.open(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Problem::new("unreadable", path, error))?;
    if bytes.len() > most {
        return Err(Problem::new(
            "no-note",
            path,
            format!("it is longer than the {most} bytes allowed"),
        ));
    }
    Ok(Some(bytes))
}

/// A folder.
pub(crate) struct FolderSource(pub(crate) PathBuf);

impl Source for FolderSource {
    fn open(&mut self, path: &str) -> Result<Option<Box<dyn Read + '_>>, Problem> {
        open_file(&self.0.join(path)).map_err(|error| Problem::new("unreadable", path, error))
    }
}

fn open_file(path: &Path) -> io::Result<Option<Box<dyn Read>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(Box::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
