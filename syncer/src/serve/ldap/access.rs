//! Who may see and change what over LDAP. Rights add up: what nothing grants is not allowed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dirless_directory::schema::{PASSWORDS, SECRET_REFERENCES};
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Schema, Value};
use dirless_ldap::{Identity, Visibility};

use super::closed;
use crate::serve::config::{AccessRule, LdapConfig, Readers, Right, Who};
use crate::serve::json::Secrets;
use crate::tree::{Reader, TreeError, TreeStore};

/// Identities whose groups are remembered.
const REMEMBERED: usize = 4096;
/// What decides who can bind as an entry, besides its own password: as good as one, so that whoever may
/// write all attributes does not write these.
const ORIGINS: [&str; 2] = ["aitherSource", "aitherSourceId"];

/// How much somebody may use of an entry; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    Compare,
    Search,
    Read,
}

/// A rule with its names as they are compared.
#[derive(Debug)]
struct Rule {
    subtree: DnKey,
    who: RuleWho,
    uses: Option<Use>,
    write: bool,
    /// All attributes but secrets.
    all: bool,
    names: Vec<AttributeName>,
    /// The names without passwords.
    shown: Vec<AttributeName>,
}

#[derive(Debug)]
enum RuleWho {
    Everyone,
    /// Whoever is no entry.
    Anonymous,
    Users,
    Oneself,
    Entry(DnKey),
    Group(DnKey),
}

/// Somebody, with the groups that rules name and that they are in. Nobody in particular by default.
#[derive(Debug, Default)]
pub(crate) struct Subject {
    key: Option<DnKey>,
    /// Is it an entry, or the manager?
    is_bound: bool,
    is_manager: bool,
    groups: BTreeSet<DnKey>,
}

impl Subject {
    /// Is it nobody that a rule could name?
    pub(crate) fn is_nobody(&self) -> bool {
        self.key.is_none()
    }
}

/// All rules.
#[derive(Debug)]
pub(crate) struct Access {
    rules: Vec<Rule>,
    groups: Vec<(DnKey, Dn)>,
    read: Readers,
    manager: DnKey,
    /// What only rules that name it let anybody write.
    guarded: Secrets,
    /// What nobody sees.
    passwords: Arc<[AttributeName]>,
    /// That, and what only rules that name it show.
    secret_names: Arc<[AttributeName]>,
    /// By identity, with the state of the tree that it was made from.
    known: Mutex<HashMap<DnKey, (u64, Arc<Subject>)>>,
}

impl Access {
    pub(crate) fn new(config: &LdapConfig, tree: &TreeStore, manager: DnKey) -> Result<Self, TreeError> {
        let schema = tree.schema();
        let mut groups = Vec::new();
        let rules = config.access.iter().map(|rule| compile(rule, tree, &mut groups));
        let named = |names: &[&str]| -> Vec<AttributeName> {
            names
                .iter()
                .filter_map(|name| AttributeName::parse(name).ok())
                .collect()
        };
        let passwords = named(PASSWORDS);
        let secret_names = [passwords.clone(), named(SECRET_REFERENCES)].concat();
        let guarded = PASSWORDS.iter().chain(SECRET_REFERENCES).chain(&ORIGINS);
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
            groups,
            read: config.read,
            manager,
            guarded: Secrets::of(schema, guarded.copied()),
            passwords: passwords.into(),
            secret_names: secret_names.into(),
            known: Mutex::default(),
        })
    }

    /// Somebody, as the tree says now: an entry that is gone or closed since it bound is nobody any more.
    pub(crate) fn subject(&self, tree: &TreeStore, who: &Identity) -> Arc<Subject> {
        let key = match who {
            Identity::Anonymous => return Arc::default(),
            // A process of this machine that is no entry is none of the users; rules may name it.
            Identity::Peer(_) => {
                let name = Dn::parse(&who.dn()).ok();
                return Arc::new(Subject {
                    key: name.and_then(|name| tree.schema().dn_key(&name)),
                    ..Subject::default()
                });
            }
            Identity::Entry { key, .. } => key,
        };
        if *key == self.manager {
            return Arc::new(Subject {
                key: Some(key.clone()),
                is_bound: true,
                is_manager: true,
                groups: BTreeSet::new(),
            });
        }
        let state = *tree.watch().borrow();
        if let Some((made, subject)) = self.known().get(key)
            && *made == state
        {
            return Arc::clone(subject);
        }
        let subject = match tree.read(|reader| self.read(reader, key)) {
            Ok(subject) => Arc::new(subject),
            Err(error) => {
                // Without knowing who it is there are fewer rights, not more.
                tracing::error!(event = "ldap.subject.unread", %error, "the entry of somebody cannot be read");
                return Arc::default();
            }
        };
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key.clone(), (state, Arc::clone(&subject)));
        subject
    }

    fn known(&self) -> MutexGuard<'_, HashMap<DnKey, (u64, Arc<Subject>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, reader: Reader<'_>, key: &DnKey) -> Result<Subject, TreeError> {
        match reader.find(key)? {
            Some(record) if !closed(&record) => Ok(Subject {
                key: Some(key.clone()),
                is_bound: true,
                is_manager: false,
                groups: self.groups_of(reader, key)?,
            }),
            _ => Ok(Subject::default()),
        }
    }

    fn groups_of(&self, reader: Reader<'_>, who: &DnKey) -> Result<BTreeSet<DnKey>, TreeError> {
        let mut groups = BTreeSet::new();
        for (key, dn) in &self.groups {
            let Some(record) = reader.get(dn)? else { continue };
            let entry = record.entry()?;
            let is_member = |value: &Value| {
                let dn = value.as_str().and_then(|text| Dn::parse(text).ok());
                dn.and_then(|dn| reader.schema().dn_key(&dn)).as_ref() == Some(who)
            };
            let members = ["member", "uniqueMember"].map(|name| AttributeName::parse(name).ok());
            if members
                .iter()
                .flatten()
                .any(|name| entry.values(name).iter().any(is_member))
            {
                groups.insert(key.clone());
            }
        }
        Ok(groups)
    }

    fn rules<'a>(&'a self, subject: &'a Subject, key: &'a [u8]) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| {
            let is_meant = match &rule.who {
                RuleWho::Everyone => true,
                RuleWho::Anonymous => !subject.is_bound,
                RuleWho::Users => subject.is_bound,
                RuleWho::Oneself => subject.key.as_ref().is_some_and(|own| own.as_bytes() == key),
                RuleWho::Entry(entry) => subject.key.as_ref() == Some(entry),
                RuleWho::Group(group) => subject.groups.contains(group),
            };
            is_meant && key.starts_with(rule.subtree.as_bytes())
        })
    }

    /// What somebody may use of the entry of that key. Nobody has a use of passwords: they are written,
    /// and held against.
    pub(crate) fn visibility(&self, subject: &Subject, key: &[u8], wanted: Use) -> Visibility {
        if subject.is_manager {
            return Visibility::Without(Arc::clone(&self.passwords));
        }
        let mut all = match self.read {
            Readers::Nobody => false,
            Readers::Users => subject.is_bound,
            Readers::Everyone => true,
        };
        let mut names = Vec::new();
        for rule in self.rules(subject, key).filter(|rule| rule.uses >= Some(wanted)) {
            all |= rule.all;
            names.extend_from_slice(&rule.shown);
        }
        match (all, names.is_empty()) {
            (true, true) => Visibility::Without(Arc::clone(&self.secret_names)),
            (true, false) => {
                let hidden = self.secret_names.iter().filter(|secret| !names.contains(secret));
                Visibility::Without(hidden.cloned().collect())
            }
            (false, true) => Visibility::Hidden,
            (false, false) => Visibility::Only(names.into()),
        }
    }

    /// Are there rules that let somebody use what they do not see?
    pub(crate) fn has_lesser_uses(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| matches!(rule.uses, Some(Use::Compare | Use::Search)))
    }

    /// May somebody add, remove or move the entry of that key?
    pub(crate) fn may_write_entry(&self, subject: &Subject, key: &[u8]) -> bool {
        subject.is_manager || self.rules(subject, key).any(|rule| rule.write && rule.all)
    }

    /// May somebody change anything of the entry of that key?
    pub(crate) fn may_write_something(&self, subject: &Subject, key: &[u8]) -> bool {
        subject.is_manager || self.rules(subject, key).any(|rule| rule.write)
    }

    /// May somebody change that attribute of the entry?
    pub(crate) fn may_write(&self, schema: &Schema, subject: &Subject, key: &[u8], name: &AttributeName) -> bool {
        let is_named = |rule: &Rule| {
            let mut names = rule.names.iter();
            names.any(|own| schema.is_subtype(name.kind(), own.kind()) || own == name)
        };
        subject.is_manager
            || self
                .rules(subject, key)
                .any(|rule| rule.write && (is_named(rule) || (rule.all && !self.guarded.holds(name))))
    }
}

/// Of an entry what somebody may use.
pub(crate) fn seen(schema: &Schema, entry: &Entry, visibility: &Visibility) -> Option<Entry> {
    let fits = |names: &[AttributeName], name: &AttributeName| {
        names
            .iter()
            .any(|one| one == name || schema.is_subtype(name.kind(), one.kind()))
    };
    let keep = |name: &AttributeName| match visibility {
        Visibility::Hidden => false,
        Visibility::Whole => true,
        Visibility::Without(names) => !fits(names, name),
        Visibility::Only(names) => fits(names, name),
    };
    if *visibility == Visibility::Hidden {
        return None;
    }
    let mut seen = Entry::new(entry.dn().clone());
    for (name, values) in entry.attributes().filter(|(name, _)| keep(name)) {
        seen.set(name.clone(), values.to_vec());
    }
    Some(seen)
}

fn compile(rule: &AccessRule, tree: &TreeStore, groups: &mut Vec<(DnKey, Dn)>) -> Result<Rule, TreeError> {
    let refuse = |reason: String| TreeError::Setting { key: "access", reason };
    let key = |dn: &Dn| tree.schema().dn_key(dn).ok_or_else(|| TreeError::Name(dn.clone()));
    let subtree = match &rule.subtree {
        None => key(tree.base())?,
        Some(text) => key(&Dn::parse(text).map_err(|error| refuse(error.to_string()))?)?,
    };
    let who = match &rule.who {
        Who::Everyone => RuleWho::Everyone,
        Who::Anonymous => RuleWho::Anonymous,
        Who::Users => RuleWho::Users,
        Who::Oneself => RuleWho::Oneself,
        Who::Entry(dn) => RuleWho::Entry(key(dn)?),
        Who::Group(dn) => {
            groups.push((key(dn)?, dn.clone()));
            RuleWho::Group(key(dn)?)
        }
    };
    let level = |right: &Right| match right {
        Right::Compare => Some(Use::Compare),
        Right::Search => Some(Use::Search),
        Right::Read => Some(Use::Read),
        Right::Write => None,
    };
    let mut names = Vec::new();
    for text in rule.attributes.iter().flatten().filter(|text| *text != "*") {
        let name = AttributeName::parse(text).map_err(|error| refuse(error.to_string()))?;
        let Some(known) = tree.schema().attribute(text) else {
            return Err(refuse(format!("the attribute {text} is not defined in the schema")));
        };
        names.push(AttributeName::parse(known.name()).unwrap_or(name));
    }
    let passwords = Secrets::passwords(tree.schema());
    Ok(Rule {
        subtree,
        who,
        uses: rule.rights.iter().filter_map(level).max(),
        write: rule.rights.contains(&Right::Write),
        all: rule
            .attributes
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name == "*")),
        shown: names.iter().filter(|name| !passwords.holds(name)).cloned().collect(),
        names,
    })
}
