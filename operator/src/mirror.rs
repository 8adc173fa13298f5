//! `dirless mirror`: a tenant as plain files, for a web server or a stick.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dirless_program::fs::publish;
use dirless_seal::Note;
use dirless_seal::trust::{Head, Manifest, Object, parse};
use serde_json::json;

use crate::verify::From;
use crate::walk::bodies::is_body;
use crate::walk::{Problem, Visitor, Walk};
use crate::{Surroundings, files};

/// Arguments of `dirless mirror`.
#[derive(Debug, clap::Args)]
pub struct Mirror {
    #[command(flatten)]
    from: From,
    /// The folder to copy to; what is there and right is not fetched again
    to: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Mirror {
    pub(crate) fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        let now = surroundings.clock.now();
        let mut source = self.from.source(surroundings)?;
        let mut copy = Copy {
            to: self.to.clone(),
            aside: None,
            written: 0,
            kept: 0,
        };
        Walk::whole(source.as_mut(), &mut copy, self.from.pinned(), now)
            .context("the copy stops here; heads that are there still name what they named before")?;
        let (written, kept) = (copy.written, copy.kept);
        if self.json {
            writeln!(surroundings.out, "{:#}", json!({ "written": written, "kept": kept }))?;
        } else {
            writeln!(surroundings.out, "{written} files written, {kept} were there")?;
        }
        Ok(())
    }
}

/// Writes what was found right. Everything but heads is written once.
struct Copy {
    to: PathBuf,
    /// The body that is being written.
    aside: Option<tempfile::NamedTempFile>,
    written: u64,
    kept: u64,
}

impl Copy {
    fn path(&self, path: &str) -> Result<PathBuf, Problem> {
        let whole = self.to.join(path);
        let folder = whole.parent().unwrap_or(&self.to);
        std::fs::create_dir_all(folder).map_err(|error| write_problem(path, &error))?;
        Ok(whole)
    }

    fn there(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, Problem> {
        files::read(&self.to.join(path), most).map_err(|error| Problem::new("unwritable", path, format!("{error:#}")))
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), Problem> {
        let to = self.path(path)?;
        publish(&to, 0o644, bytes).map_err(|error| write_problem(path, &error))?;
        self.written += 1;
        Ok(())
    }
}

fn write_problem(path: &str, error: &io::Error) -> Problem {
    Problem::new("unwritable", path, format!("writing the copy: {error}"))
}

/// The same text, whoever signed it.
fn same_text(one: &[u8], other: &[u8]) -> bool {
    let digest = |bytes: &[u8]| Note::parse(bytes, bytes.len()).ok().map(|note| note.digest());
    one == other || digest(one).is_some_and(|one| digest(other) == Some(one))
}

impl Visitor for Copy {
    fn object(&mut self, path: &str, bytes: &[u8]) -> Result<(), Problem> {
        match self.there(path, bytes.len().max(64 * 1024 * 1024))? {
            Some(there) if same_text(&there, bytes) => {
                self.kept += 1;
                Ok(())
            }
            Some(_) => Err(Problem::new(
                "fork",
                path,
                "the copy has another one under this name; if that file is damaged, remove it, and copy again",
            )),
            None => self.write(path, bytes),
        }
    }

    fn has_body(&mut self, path: &str, manifest: &Manifest) -> Result<bool, Problem> {
        match File::open(self.to.join(path)) {
            Ok(mut file) => {
                let whole = is_body(&mut file, manifest).map_err(|error| write_problem(path, &error))?;
                self.kept += u64::from(whole);
                Ok(whole)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(write_problem(path, &error)),
        }
    }

    fn begin_body(&mut self, path: &str) -> Result<Box<dyn Write + '_>, Problem> {
        let to = self.path(path)?;
        let folder = to.parent().unwrap_or(Path::new("."));
        let aside = tempfile::Builder::new()
            .prefix(".publish-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder)
            .map_err(|error| write_problem(path, &error))?;
        Ok(Box::new(self.aside.insert(aside).as_file_mut()))
    }

    fn end_body(&mut self, path: &str) -> Result<(), Problem> {
        let Some(aside) = self.aside.take() else { return Ok(()) };
        let to = self.path(path)?;
        let publish = || {
            aside.as_file().set_permissions(Permissions::from_mode(0o644))?;
            aside.as_file().sync_all()?;
            aside.persist(&to).map_err(|error| error.error)?;
            File::open(to.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        publish().map_err(|error: io::Error| write_problem(path, &error))?;
        self.written += 1;
        Ok(())
    }

    fn head(&mut self, path: &str, head: &Head, note: &Note, bytes: &[u8]) -> Result<(), Problem> {
        let there = self.there(path, Head::MOST)?;
        let before = there.and_then(|there| Note::parse(&there, Head::MOST).ok());
        let seen = before.as_ref().and_then(|before| parse::<Head>(before).ok());
        match (seen, before) {
            (Some(seen), _) if seen.version > head.version => {
                let older = format!(
                    "the copy has version {} already, and {} is being served",
                    seen.version, head.version
                );
                Err(Problem::new("rollback", path, older))
            }
            (Some(seen), Some(before)) if seen.version == head.version => {
                if before.digest() == note.digest() {
                    self.kept += 1;
                    return Ok(());
                }
                Err(Problem::new("fork", path, "the copy has another head of this version"))
            }
            _ => self.write(path, bytes),
        }
    }

    fn tell(&mut self, _: &str, _: String) {}
}
