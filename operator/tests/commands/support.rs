//! A place to work in, and somebody who answers.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::{CommandFactory, Parser};
use dirless_operator::{Command, Surroundings, Terminal};
use dirless_program::{Clock, Secret};
use dirless_seal::trust::{Object, Policy, parse};
use dirless_seal::{Identity, Note, SigningKey};

/// What every key here is locked with.
pub(crate) const PASSPHRASE: &str = "six words that nobody can guess";

#[derive(Debug, Parser)]
#[command(name = "dirless")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// The commands, as clap sees them.
pub(crate) fn definition() -> clap::Command {
    Arguments::command()
}

/// Somebody who answers from a list, or nobody.
#[derive(Default)]
pub(crate) struct Person {
    pub(crate) answers: VecDeque<String>,
    pub(crate) input: Option<String>,
    pub(crate) asked: Vec<String>,
}

impl Terminal for Person {
    fn is_there(&self) -> bool {
        self.input.is_none()
    }

    fn ask(&mut self, prompt: &str) -> io::Result<Secret> {
        self.asked.push(prompt.to_owned());
        let answer = self.answers.pop_front();
        answer
            .map(Secret::new)
            .ok_or_else(|| io::Error::other("nobody answers"))
    }

    fn confirm(&mut self, question: &str) -> io::Result<bool> {
        self.asked.push(question.to_owned());
        Ok(self.answers.pop_front().as_deref() == Some("yes"))
    }

    fn standard_input(&mut self) -> io::Result<Option<Secret>> {
        Ok(self.input.clone().map(Secret::new))
    }
}

pub(crate) struct Place {
    folder: tempfile::TempDir,
    clock: Clock,
    editor: Option<String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Clock::manual("2026-11-22T08:00:00.75Z".parse().unwrap()),
            editor: None,
        }
    }

    /// One with a tenant of three roots, of which two sign.
    pub(crate) fn with_tenant() -> Self {
        // Passphrases are slow by design: one tenant is made, and copied.
        static FIRST: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
            let place = Place::new();
            place.succeed("tenant init @/t --keys @/k --passphrase-file - --work 10");
            let here = place.folder.path();
            let within = |path: PathBuf| path.strip_prefix(here).unwrap().to_owned();
            tree(here)
                .into_iter()
                .map(|(path, bytes)| (within(path), bytes))
                .collect()
        });
        let place = Self::new();
        for (path, bytes) in FIRST.iter() {
            let to = place.folder.path().join(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, bytes).unwrap();
        }
        place
    }

    pub(crate) fn with_editor(mut self, script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("editor");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        self.editor = Some(path.to_str().unwrap().to_owned());
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command line, in which `@` stands for the place, with the usual passphrase on standard input.
    pub(crate) fn run(&self, line: &str) -> Result<String, String> {
        let mut person = Person {
            input: Some(PASSPHRASE.to_owned()),
            ..Person::default()
        };
        self.run_with(line, &mut person)
    }

    pub(crate) fn run_with(&self, line: &str, person: &mut Person) -> Result<String, String> {
        let here = self.folder.path().to_str().unwrap();
        let words = line.split_whitespace().map(|word| word.replace('@', here));
        let arguments = Arguments::try_parse_from(std::iter::once("dirless".to_owned()).chain(words))
            .map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        let editor = self.editor.clone();
        let environment = move |name: &str| (name == "EDITOR").then(|| editor.clone()).flatten();
        let mut surroundings = Surroundings {
            out: &mut out,
            terminal: person,
            clock: self.clock.clone(),
            environment: &environment,
        };
        let outcome = arguments.command.run(&mut surroundings);
        let out = String::from_utf8(out).unwrap().replace(here, "@");
        match outcome {
            Ok(()) => Ok(out),
            Err(error) => Err(format!("{error:#}").replace(here, "@")),
        }
    }

    #[track_caller]
    pub(crate) fn succeed(&self, line: &str) -> String {
        self.run(line).unwrap()
    }

    #[track_caller]
    pub(crate) fn fail(&self, line: &str) -> String {
        self.run(line).unwrap_err()
    }

    /// The policy of this version in the tenant's folder.
    pub(crate) fn policy(&self, version: u64) -> Policy {
        let bytes = std::fs::read(self.path(&format!("t/policy/{version}"))).unwrap();
        parse(&Note::parse(&bytes, Policy::MOST).unwrap()).unwrap()
    }

    /// Two roots sign the draft.
    pub(crate) fn sign(&self) {
        for root in ["root-1", "root-3"] {
            self.succeed(&format!(
                "policy sign @/t --key @/k/{root}.age --passphrase-file - --yes"
            ));
        }
    }
}

pub(crate) fn key(name: &str) -> SigningKey {
    SigningKey::generate(name.parse().unwrap()).unwrap()
}

pub(crate) fn recipient() -> String {
    Identity::generate().recipient().to_string()
}

/// All files under `folder`, by their paths.
pub(crate) fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(&entry.path()));
        } else {
            found.push((entry.path(), std::fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}
