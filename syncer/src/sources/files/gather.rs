//! From the files to one directory. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dirless_directory::Entry;

use super::format::{Access, Content, Format, line_of};
use crate::sources::ldap::{Member, expand};
use crate::sources::{Posix, SourceGroup, SourceUser};

/// A file's name and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What stands in it.
    pub text: String,
}

/// What is wrong with the files: nothing of them is published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", path.display(), line.map_or_else(String::new, |line| format!(":{line}")))]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub reason: String,
}

/// Everything in the files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// People.
    pub users: Vec<SourceUser>,
    /// Groups.
    pub groups: Vec<SourceGroup>,
    /// Ids of people by group id, groups in groups resolved.
    pub members: BTreeMap<String, BTreeSet<String>>,
    /// Access rules, when a file has any.
    pub access: Option<Access>,
    /// Further entries.
    pub entries: Vec<Entry>,
}

/// Parses all `files` and puts them together.
///
/// # Errors
/// The first file, by path, with something wrong: its form, a name that comes twice, a member that
/// is nowhere.
pub fn gather(files: &[File]) -> Result<Gathered, FileError> {
    let mut contents = Vec::with_capacity(files.len());
    for file in files {
        let ending = file
            .path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        if let Some(format) = Format::of(ending) {
            let content = format.parse(&file.text).map_err(|(line, reason)| FileError {
                path: file.path.clone(),
                line,
                reason,
            })?;
            contents.push((file, content));
        }
    }
    Gathering::default().all(&contents)
}

#[derive(Default)]
struct Gathering<'a> {
    gathered: Gathered,
    people: BTreeMap<&'a str, (&'a Path, String)>,
    teams: BTreeMap<&'a str, (&'a Path, String)>,
    ids: BTreeSet<(bool, String)>,
    rules_in: Option<&'a Path>,
}

impl<'a> Gathering<'a> {
    fn all(mut self, contents: &'a [(&File, Content)]) -> Result<Gathered, FileError> {
        for (file, content) in contents {
            self.people(file, content)?;
            self.teams(file, content)?;
            for raw in &content.entries {
                let entry = raw.entry().map_err(|reason| error(file, &raw.dn, reason))?;
                if self.gathered.entries.iter().any(|other| other.dn() == entry.dn()) {
                    return Err(error(file, &raw.dn, format!("entry {:?} comes twice", raw.dn)));
                }
                self.gathered.entries.push(entry);
            }
            if let Some(access) = &content.access {
                if let Some(other) = self.rules_in.replace(&file.path) {
                    let reason = format!("access rules stand in {} too; keep them in one file", other.display());
                    return Err(error(file, "access", reason));
                }
                self.gathered.access = Some(access.clone());
            }
        }
        let mut direct = BTreeMap::new();
        for (file, content) in contents {
            for team in &content.groups {
                let mut members = Vec::new();
                for name in &team.members {
                    let Some((_, id)) = self.people.get(name.as_str()) else {
                        return Err(error(
                            file,
                            name,
                            format!("group {}: there is no person {name:?}", team.name),
                        ));
                    };
                    members.push(Member::User(id.clone()));
                }
                for name in &team.groups {
                    let Some((_, id)) = self.teams.get(name.as_str()) else {
                        return Err(error(
                            file,
                            name,
                            format!("group {}: there is no group {name:?}", team.name),
                        ));
                    };
                    members.push(Member::Group(id.clone()));
                }
                direct.insert(team.id.clone().unwrap_or_else(|| team.name.clone()), members);
            }
            for rule in content.access.iter().flat_map(|access| &access.rules) {
                if !self.teams.contains_key(rule.group.as_str()) {
                    return Err(error(
                        file,
                        &rule.group,
                        format!("access: there is no group {:?}", rule.group),
                    ));
                }
            }
        }
        self.gathered.members = expand(&direct);
        Ok(self.gathered)
    }

    fn people(&mut self, file: &'a File, content: &'a Content) -> Result<(), FileError> {
        for person in &content.people {
            let id = person.id.clone().unwrap_or_else(|| person.name.clone());
            let known = self.people.insert(&person.name, (&file.path, id.clone()));
            twice(file, "person", &person.name, known.map(|(path, _)| path))?;
            self.own_id(file, true, &id)?;
            for line in &person.keys {
                if let Err(reason) = dirless_model::key::AuthorizedKey::parse(line.trim()) {
                    return Err(error(file, line, format!("person {}: a key: {reason}", person.name)));
                }
            }
            self.gathered.users.push(SourceUser {
                id,
                name: person.name.clone(),
                display_name: person.display_name.clone(),
                email: person.email.clone(),
                enabled: !person.disabled,
                posix: Posix {
                    uid: person.uid,
                    gid: person.gid,
                    home: person.home.clone(),
                    shell: person.shell.clone(),
                },
                keys: person.keys.clone(),
            });
        }
        Ok(())
    }

    fn teams(&mut self, file: &'a File, content: &'a Content) -> Result<(), FileError> {
        for team in &content.groups {
            let id = team.id.clone().unwrap_or_else(|| team.name.clone());
            let known = self.teams.insert(&team.name, (&file.path, id.clone()));
            twice(file, "group", &team.name, known.map(|(path, _)| path))?;
            self.own_id(file, false, &id)?;
            self.gathered.groups.push(SourceGroup {
                id,
                name: team.name.clone(),
                gid: team.gid,
                roles: team.roles.clone(),
            });
        }
        Ok(())
    }

    fn own_id(&mut self, file: &File, person: bool, id: &str) -> Result<(), FileError> {
        if id.is_empty() || !self.ids.insert((person, id.to_owned())) {
            return Err(error(file, id, format!("the id {id:?} is empty or comes twice")));
        }
        Ok(())
    }
}

fn twice(file: &File, kind: &str, name: &str, known: Option<&Path>) -> Result<(), FileError> {
    match known {
        Some(other) => Err(error(
            file,
            name,
            format!("{kind} {name:?} is in {} too", other.display()),
        )),
        None => Ok(()),
    }
}

fn error(file: &File, needle: &str, reason: String) -> FileError {
    FileError {
        path: file.path.clone(),
        line: line_of(&file.text, needle),
        reason,
    }
}
