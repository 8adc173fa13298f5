//! From the files to one directory. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dirless_directory::{Dn, Entry};

use super::format::{Access, AccessRule, Content, Format, line_of};
use crate::host_groups::check_pattern;
use crate::sources::ldap::{Member, expand};
use crate::sources::{Posix, SourceGroup, SourceUser};

/// A file's name and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is in its folder.
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
    /// Is it only that somebody is writing, so that reading again in a moment helps?
    pub busy: bool,
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
    /// Hosts by the names of groups of hosts.
    pub host_groups: BTreeMap<String, BTreeSet<String>>,
    /// Access rules, when a file has any; groups of hosts are resolved.
    pub access: Option<Access>,
    /// Further entries.
    pub entries: Vec<Entry>,
}

/// Parses all `files` and puts them together. How the facts are spread over files, and in what order
/// the files come, makes no difference.
///
/// # Errors
/// The first file with something wrong: its form, a name that comes twice, a member that is nowhere.
pub fn gather(files: &[File]) -> Result<Gathered, FileError> {
    gather_with(files, &Groups::default())
}

/// Groups of hosts that access rules may name although no file has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Hosts by the names of groups.
    pub hosts: BTreeMap<String, BTreeSet<String>>,
    /// Groups of which only patterns are known: nobody said which hosts there are.
    pub open: BTreeSet<String>,
}

/// The same, with groups of hosts that are defined elsewhere.
///
/// # Errors
/// As [`gather`], and when a file defines one of them again.
pub fn gather_with(files: &[File], groups: &Groups) -> Result<Gathered, FileError> {
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
                busy: false,
            })?;
            contents.push((file, content));
        }
    }
    let gathering = Gathering {
        elsewhere: groups,
        gathered: Gathered::default(),
        people: BTreeMap::new(),
        teams: BTreeMap::new(),
        ids: BTreeSet::new(),
        entries: BTreeMap::new(),
        rules_in: None,
    };
    gathering.all(&contents)
}

struct Gathering<'a> {
    elsewhere: &'a Groups,
    gathered: Gathered,
    people: BTreeMap<&'a str, (&'a Path, String)>,
    teams: BTreeMap<&'a str, (&'a Path, String)>,
    ids: BTreeSet<(bool, String)>,
    entries: BTreeMap<String, &'a Path>,
    rules_in: Option<&'a Path>,
}

impl<'a> Gathering<'a> {
    fn all(mut self, contents: &'a [(&File, Content)]) -> Result<Gathered, FileError> {
        for (file, content) in contents {
            self.people(file, content)?;
            self.teams(file, content)?;
            self.entries(file, content)?;
            self.host_groups(file, content)?;
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
            self.members(file, content, &mut direct)?;
            self.rules(file, content)?;
        }
        self.gathered.members = expand(&direct);
        self.gathered.users.sort_by(|one, other| one.id.cmp(&other.id));
        self.gathered.groups.sort_by(|one, other| one.id.cmp(&other.id));
        self.gathered.entries.sort_by_cached_key(|entry| plain(entry.dn()));
        Ok(self.gathered)
    }

    fn members(
        &self,
        file: &File,
        content: &Content,
        direct: &mut BTreeMap<String, Vec<Member>>,
    ) -> Result<(), FileError> {
        for team in &content.groups {
            let mut members = Vec::new();
            let nobody = |kind: &str, name: &str| {
                let reason = format!(
                    "group {}: there is no {kind} {name:?}; add it to a file, or take it out here",
                    team.name
                );
                error(file, name, reason)
            };
            for name in &team.members {
                let person = self.people.get(name.as_str()).ok_or_else(|| nobody("person", name))?;
                members.push(Member::User(person.1.clone()));
            }
            for name in &team.groups {
                let group = self.teams.get(name.as_str()).ok_or_else(|| nobody("group", name))?;
                members.push(Member::Group(group.1.clone()));
            }
            direct.insert(team.id.clone().unwrap_or_else(|| team.name.clone()), members);
        }
        Ok(())
    }

    /// Checks the access rules of a file and resolves their groups of hosts.
    fn rules(&mut self, file: &File, content: &Content) -> Result<(), FileError> {
        let Some(access) = &content.access else {
            return Ok(());
        };
        let mut rules = BTreeSet::new();
        for rule in &access.rules {
            if !self.teams.contains_key(rule.group.as_str()) {
                let reason = format!("access: there is no group {:?}; add it, or drop the rule", rule.group);
                return Err(error(file, &rule.group, reason));
            }
            let mut hosts: BTreeSet<String> = rule.hosts.iter().cloned().collect();
            for name in &rule.host_groups {
                if self.elsewhere.open.contains(name) {
                    let reason = format!(
                        "access: [host_groups.{name}] has a pattern, and hosts compare names as they stand; list all hosts \
                         with [plan] inventory, or name those of the group there"
                    );
                    return Err(error(file, name, reason));
                }
                let held = self
                    .gathered
                    .host_groups
                    .get(name)
                    .or_else(|| self.elsewhere.hosts.get(name));
                let Some(group) = held else {
                    let reason = format!(
                        "access: there is no group of hosts {name:?}, neither under host_groups in a file nor as \
                         [host_groups.{name}] in the configuration"
                    );
                    return Err(error(file, name, reason));
                };
                hosts.extend(group.iter().cloned());
            }
            for host in hosts {
                check_host(&host).map_err(|reason| error(file, &host, format!("access: host {host:?} {reason}")))?;
                rules.insert((rule.group.clone(), host));
            }
        }
        if access.enforce && rules.is_empty() {
            let reason =
                "access: enforced without a single rule, nobody would be on any host; add rules, or enforce: false";
            return Err(error(file, "enforce", reason.to_owned()));
        }
        if let Some(resolved) = &mut self.gathered.access {
            let rule = |(group, host)| AccessRule {
                group,
                hosts: vec![host],
                host_groups: Vec::new(),
            };
            resolved.rules = rules.into_iter().map(rule).collect();
        }
        Ok(())
    }

    fn entries(&mut self, file: &'a File, content: &'a Content) -> Result<(), FileError> {
        for raw in &content.entries {
            let entry = raw.entry().map_err(|reason| error(file, &raw.dn, reason))?;
            if let Some(other) = self.entries.insert(plain(entry.dn()), &file.path) {
                let reason = format!("entry {:?} is in {} too; keep one of them", raw.dn, other.display());
                return Err(error(file, &raw.dn, reason));
            }
            self.gathered.entries.push(entry);
        }
        Ok(())
    }

    fn host_groups(&mut self, file: &File, content: &Content) -> Result<(), FileError> {
        for (name, hosts) in &content.host_groups {
            if self.gathered.host_groups.contains_key(name) {
                return Err(error(
                    file,
                    name,
                    format!("the group of hosts {name:?} comes twice; keep one of them"),
                ));
            }
            if self.elsewhere.hosts.contains_key(name) {
                let reason =
                    format!("the group of hosts {name:?} is [host_groups.{name}] of the configuration; keep one");
                return Err(error(file, name, reason));
            }
            for host in hosts {
                check_host(host).map_err(|reason| error(file, host, format!("host {host:?} {reason}")))?;
            }
            let hosts = hosts.iter().cloned().collect();
            self.gathered.host_groups.insert(name.clone(), hosts);
        }
        Ok(())
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
            return Err(error(
                file,
                id,
                format!("the id {id:?} is empty or comes twice; each object has its own"),
            ));
        }
        Ok(())
    }
}

/// A name as names compare, near enough to find doubles: the tree itself is stricter.
fn plain(dn: &Dn) -> String {
    dn.to_string().to_lowercase()
}

/// Is it one host's name?
fn check_host(host: &str) -> Result<(), &'static str> {
    check_pattern(host)?;
    if host.contains(['*', '?']) {
        Err("has a wildcard, which hosts compare as it stands; name the hosts, or list them under host_groups")
    } else {
        Ok(())
    }
}

fn twice(file: &File, kind: &str, name: &str, known: Option<&Path>) -> Result<(), FileError> {
    match known {
        Some(other) => Err(error(
            file,
            name,
            format!("{kind} {name:?} is in {} too; keep one of them", other.display()),
        )),
        None => Ok(()),
    }
}

/// What is wrong with `file` where the word `needle` first stands in it.
pub(crate) fn error(file: &File, needle: &str, reason: String) -> FileError {
    FileError {
        path: file.path.clone(),
        line: line_of(&file.text, needle),
        reason,
        busy: false,
    }
}
