//! Who receives which part of the tree: `[[audience]]` of the configuration, and what travels.
//!
//! Each rule names subtrees and the hosts that receive them; an entry belongs to the deepest subtree
//! that a rule names, and to the rest, which every host may have, when none does. Rules of the same
//! subtree each receive it. What never leaves: password hashes and secret references, unless a rule
//! names the attribute; and what makes an account (numbers, home, shell, members, keys), which hosts take
//! from the checked users and groups of each source alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dirless_directory::schema::object_class;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Filter, Schema, Value};
use dirless_model::snapshot::TreeEntry;
use dirless_seal::Label;
use dirless_wire::SourceName;

use crate::config::Config;
use crate::host_groups::check_pattern;
use crate::revoked::Revocations;
use crate::tree::reconcile::stands_beside;
use crate::tree::secrets::Secrets;
use crate::tree::{Query, Reader, Scope, TreeError, people};

/// The wire name of what no rule restricts; a rule's is `tree-` and its name.
pub const REST: &str = "tree";

/// Attributes of users and groups for hosts that hosts take from the sources' snapshots alone.
const OF_ACCOUNTS: &[&str] = &[
    "uidNumber",
    "gidNumber",
    "gecos",
    "homeDirectory",
    "loginShell",
    "member",
    "memberUid",
    "sshPublicKey",
    "shadowLastChange",
    "shadowMin",
    "shadowMax",
    "shadowWarning",
    "shadowInactive",
    "shadowExpire",
    "shadowFlag",
];
/// Classes that say that an entry is an account: whether it is one on a host is for the host to say.
const CLASSES_OF_ACCOUNTS: &[&str] = &["posixAccount", "posixGroup", "shadowAccount", "ldapPublicKey"];
/// Attributes that mean something beside the syncer's own tree alone.
const OF_THE_STORE: &[&str] = &["hasSubordinates", "aitherSourceManages"];

/// `[[audience]]`
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudienceConfig {
    /// Its name: it is published as `tree-NAME`.
    pub name: String,
    /// The names of the entries on top of what it receives.
    pub subtrees: Vec<String>,
    /// The hosts: names of `[host_groups]`.
    #[serde(default)]
    pub host_groups: Vec<String>,
    /// More hosts: kernel host names as in access rules, `*` standing for any text.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Attributes that this audience receives although they leave for nobody else.
    #[serde(default)]
    pub attributes: Vec<String>,
}

/// Sources of audiences that are for the hosts of some compartments alone, with those compartments. Audiences that make
/// no sense have none: the configuration is checked elsewhere.
#[must_use]
pub fn readers(config: &Config) -> Vec<(Label, BTreeSet<Label>)> {
    let reader = |rule: &AudienceConfig| {
        let named = config.host_groups.named(&rule.host_groups, &rule.hosts).ok()?;
        Some((format!("{REST}-{}", rule.name).parse().ok()?, named.compartments?))
    };
    config.audience.iter().filter_map(reader).collect()
}

/// A snapshot of the tree to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name on the wire.
    pub name: String,
    /// The hosts it is for, as patterns; none for all.
    pub host_groups: Option<Vec<String>>,
    /// The compartments whose hosts alone it is for; none for those of all.
    pub compartments: Option<BTreeSet<Label>>,
    /// Attributes that leave although they are secret.
    attributes: BTreeSet<AttributeName>,
}

impl Target {
    /// Where what was published of it is remembered.
    #[must_use]
    pub fn state_folder(&self, state_folder: &Path) -> PathBuf {
        state_folder.join("sources").join(&self.name)
    }
}

/// All rules.
#[derive(Clone, Debug)]
pub struct Audiences {
    /// What is published: the rest first, then one for each rule in the order of the configuration.
    pub targets: Vec<Target>,
    /// By the key of a subtree, the places of the targets that receive it.
    subtrees: BTreeMap<DnKey, Vec<usize>>,
}

impl Audiences {
    /// The rules of `config` under `schema`.
    ///
    /// # Errors
    /// When a rule makes no sense, with the key that is wrong and why.
    pub fn of(config: &Config, schema: &Schema) -> Result<Self, (String, String)> {
        let base = config
            .tree
            .base()
            .map_err(|error| ("tree.base_dn".to_owned(), error.to_string()))?;
        let base_key = schema.dn_key(&base);
        let mut all = Self {
            targets: vec![Target {
                name: REST.to_owned(),
                host_groups: None,
                compartments: None,
                attributes: BTreeSet::new(),
            }],
            subtrees: BTreeMap::new(),
        };
        for (at, rule) in config.audience.iter().enumerate() {
            let refuse = |own: &str, reason: String| Err((format!("audience[{at}].{own}"), reason));
            let name = format!("{REST}-{}", rule.name);
            if let Err(error) = SourceName::new(&name) {
                return refuse("name", format!("{:?}: {error}", rule.name));
            }
            if all.targets.iter().any(|target| target.name == name) {
                return refuse("name", format!("{:?} is there twice", rule.name));
            }
            if rule.host_groups.is_empty() && rule.hosts.is_empty() {
                return refuse(
                    "host_groups",
                    "names no host; for all hosts write hosts = [\"*\"]".to_owned(),
                );
            }
            let named = match config.host_groups.named(&rule.host_groups, &rule.hosts) {
                Ok(named) => named,
                Err(reason) => return refuse("host_groups", reason),
            };
            if let Some((host, reason)) = rule
                .hosts
                .iter()
                .find_map(|host| Some((host, check_pattern(host).err()?)))
            {
                return refuse("hosts", format!("{host:?} {reason}"));
            }
            if rule.subtrees.is_empty() {
                return refuse("subtrees", "names no subtree".to_owned());
            }
            for subtree in &rule.subtrees {
                let key = Dn::parse(subtree).ok().and_then(|dn| schema.dn_key(&dn));
                match (key, &base_key) {
                    (Some(key), Some(base)) if key.is_within(base) => {
                        let of = all.subtrees.entry(key).or_default();
                        if of.last() != Some(&all.targets.len()) {
                            of.push(all.targets.len());
                        }
                    }
                    _ => {
                        return refuse(
                            "subtrees",
                            format!("{subtree:?} is no name under {:?}", base.to_string()),
                        );
                    }
                }
            }
            let mut attributes = BTreeSet::new();
            for text in &rule.attributes {
                match AttributeName::parse(text) {
                    Ok(name) if schema.attribute(name.as_str()).is_some() => attributes.insert(name),
                    _ => return refuse("attributes", format!("{text:?} is no attribute of the schema")),
                };
            }
            all.targets.push(Target {
                name,
                host_groups: Some(named.hosts),
                compartments: named.compartments,
                attributes,
            });
        }
        Ok(all)
    }

    /// Looks at the rules: the key that is wrong and why.
    ///
    /// # Errors
    /// When a rule makes no sense.
    pub fn check(config: &Config) -> Result<(), (String, String)> {
        if config.audience.is_empty() {
            return Ok(());
        }
        if !config.tree.publish {
            return Err((
                "audience".to_owned(),
                "is of no effect while the tree is not published: set [tree] publish = true".to_owned(),
            ));
        }
        for (source, readers) in readers(config) {
            let own = config.signed.iter().flat_map(|own| own.compartment.iter().enumerate());
            for (at, compartment) in own.filter(|(_, one)| !readers.contains(&one.name)) {
                if compartment
                    .sources
                    .as_ref()
                    .is_some_and(|sources| sources.contains(&source))
                {
                    return Err((
                        format!("signed.compartment[{at}].sources"),
                        format!("names {source}, but the host groups of that audience are of other compartments"),
                    ));
                }
            }
        }
        let schema = config.tree.schema();
        let schema = schema.map_err(|error| ("tree.schema_folder".to_owned(), error.to_string()))?;
        Self::of(config, &schema).map(|_| ())
    }

    /// The targets that receive the entry of that key.
    #[must_use]
    pub fn of_key(&self, key: &DnKey) -> &[usize] {
        const TO_ALL: &[usize] = &[0];
        // Keys of entries above sort before; the nearest one that holds the entry is the deepest.
        let mut above = self.subtrees.range(..=key.clone()).rev();
        let deepest = above.find(|(subtree, _)| key.is_within(subtree));
        deepest.map_or(TO_ALL, |(_, targets)| targets)
    }

    /// What each target receives of the tree, in the order of names.
    ///
    /// # Errors
    /// When the database fails.
    pub fn select(&self, reader: Reader<'_>, revoked: &Revocations) -> Result<Vec<Vec<TreeEntry>>, TreeError> {
        let mut all: Vec<Vec<TreeEntry>> = self.targets.iter().map(|_| Vec::new()).collect();
        let query = Query {
            base: &Dn::ROOT,
            scope: Scope::Subtree,
            filter: &Filter::And(Vec::new()),
            after: None,
        };
        let secrets = Secrets::all(reader.schema());
        let mut damaged = Ok(());
        reader.visit(&query, |record| {
            let entry = match record.entry() {
                Ok(entry) => entry,
                Err(error) => {
                    damaged = Err(error);
                    return ControlFlow::Break(());
                }
            };
            // Who stands beside another one of that name is not who hosts see.
            if stands_beside(&entry) || is_revoked(&entry, revoked) {
                return ControlFlow::Continue(());
            }
            for at in self.of_key(record.key()) {
                if let (Some(target), Some(entries)) = (self.targets.get(*at), all.get_mut(*at)) {
                    entries.push(travelling(&entry, target, &secrets));
                }
            }
            ControlFlow::Continue(())
        })?;
        damaged.map(|()| all)
    }
}

/// Is it the account of somebody who was taken away by hand?
fn is_revoked(entry: &Entry, revoked: &Revocations) -> bool {
    let uids = entry
        .attributes()
        .filter(|(name, _)| name.kind().eq_ignore_ascii_case("uid"));
    let mut names = uids.flat_map(|(_, values)| values.iter().filter_map(Value::as_str));
    !revoked.is_empty() && people::is_person(entry) && names.any(|name| revoked.has_name(&name.to_ascii_lowercase()))
}

/// The part of an entry that travels.
fn travelling(entry: &Entry, target: &Target, secrets: &Secrets) -> TreeEntry {
    let is_person = people::is_person(entry);
    let among = |list: &[&str], name: &AttributeName| list.iter().any(|own| name.kind().eq_ignore_ascii_case(own));
    let mut attributes = Vec::new();
    for (name, values) in entry.attributes() {
        let named = target.attributes.contains(name);
        let stays =
            (secrets.holds(name) && !named) || among(OF_THE_STORE, name) || (is_person && among(OF_ACCOUNTS, name));
        if stays {
            continue;
        }
        let of_account = |value: &&Value| {
            let class = value.as_str().unwrap_or_default();
            !CLASSES_OF_ACCOUNTS.iter().any(|own| own.eq_ignore_ascii_case(class))
        };
        let values = values.iter();
        let values: Vec<Vec<u8>> = if *name == object_class() {
            values
                .filter(of_account)
                .map(|value| value.as_bytes().to_vec())
                .collect()
        } else {
            values.map(|value| value.as_bytes().to_vec()).collect()
        };
        attributes.push((name.to_string(), values));
    }
    TreeEntry {
        dn: entry.dn().to_string(),
        attributes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        let text = format!("[backend]\nurl = \"https://d\"\n[tree]\npublish = true\n{text}");
        Config::parse(&text, Path::new("/x")).map_err(|error| error.to_string())
    }

    fn audiences(text: &str) -> Audiences {
        Audiences::of(&config(text).unwrap(), &Schema::standard()).unwrap()
    }

    const RULES: &str = "[[audience]]\nname = \"db\"\nsubtrees = [\"ou=services,dc=dirless\"]\nhost_groups = [\"db\"]\n\
        attributes = [\"aitherSecretReference\"]\n\
        [[audience]]\nname = \"web\"\nsubtrees = [\"cn=web,OU=Services,dc=dirless\", \"ou=secrets,dc=dirless\"]\n\
        hosts = [\"web-1\"]\n\
        [[audience]]\nname = \"also\"\nsubtrees = [\"ou=services,dc=dirless\"]\nhosts = [\"x\"]\n\
        [host_groups.db]\nhosts = [\"db-*\"]\n";

    fn of(audiences: &Audiences, dn: &str) -> Vec<String> {
        let key = Schema::standard().dn_key(&Dn::parse(dn).unwrap()).unwrap();
        let targets = audiences.of_key(&key).iter();
        targets.map(|at| audiences.targets[*at].name.clone()).collect()
    }

    #[test]
    fn an_entry_belongs_to_the_deepest_subtree() {
        let audiences = audiences(RULES);
        for (dn, targets) in [
            ("dc=dirless", &["tree"][..]),
            ("uid=alice,ou=users,dc=dirless", &["tree"]),
            ("ou=services,dc=dirless", &["tree-db", "tree-also"]),
            ("cn=mail,ou=services,dc=dirless", &["tree-db", "tree-also"]),
            ("cn=web,ou=services,dc=dirless", &["tree-web"]),
            ("cn=a,cn=web,ou=services,dc=dirless", &["tree-web"]),
            ("cn=web2,ou=services,dc=dirless", &["tree-db", "tree-also"]),
            ("cn=x,ou=secrets,dc=dirless", &["tree-web"]),
            ("ou=servicess,dc=dirless", &["tree"]),
        ] {
            assert_eq!(of(&audiences, dn), targets, "{dn}");
        }
    }

    #[test]
    fn rules_that_make_no_sense_name_their_key() {
        let rule = |line: &str| {
            let good = "name = \"a\"\nsubtrees = [\"ou=roles,dc=dirless\"]\nhosts = [\"*\"]\nattributes = []\n";
            let key = line.split(' ').next().unwrap();
            let kept = good.lines().filter(|good| !good.starts_with(key)).collect::<Vec<_>>();
            format!("[[audience]]\n{}\n{line}\n", kept.join("\n"))
        };
        assert!(config(&rule("attributes = [\"userPassword\"]")).is_ok());
        for (line, says) in [
            ("name = \"A b\"", "audience[0].name"),
            ("subtrees = [\"ou=roles,dc=other\"]", "audience[0].subtrees"),
            ("subtrees = [\"nonsense\"]", "audience[0].subtrees"),
            ("subtrees = []", "no subtree"),
            ("hosts = []", "hosts = [\"*\"]"),
            ("host_groups = [\"db-*\"]", "[host_groups.db] hosts = [\"db-*\"]"),
            ("hosts = [\"a b\"]", "audience[0].hosts"),
            ("attributes = [\"nonsense\"]", "audience[0].attributes"),
            ("host = [\"a\"]", "host"),
        ] {
            let error = config(&rule(line)).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
        let twice = config(&rule("name = \"a\"").repeat(2)).unwrap_err();
        assert!(twice.contains("audience[1].name"), "{twice}");
        let off = Config::parse(
            &format!("[backend]\nurl = \"https://d\"\n{}", rule("name = \"a\"")),
            Path::new("/x"),
        );
        assert!(off.unwrap_err().to_string().contains("publish = true"));
    }

    fn entry(dn: &str, attributes: &[(&str, &str)]) -> Entry {
        let mut entry = Entry::new(Dn::parse(dn).unwrap());
        for (name, value) in attributes {
            entry.add(AttributeName::parse(name).unwrap(), Value::from(*value));
        }
        entry
    }

    #[test]
    fn secrets_stay_unless_named_and_accounts_always() {
        let audiences = audiences(RULES);
        let alice = entry(
            "uid=alice,ou=users,dc=dirless",
            &[
                ("objectClass", "inetOrgPerson"),
                ("objectClass", "posixACCOUNT"),
                ("uid", "alice"),
                ("uidNumber", "2001"),
                ("sshPublicKey", "k"),
                ("mail", "a@example"),
                ("userPassword;x-old", "{SSHA}x"),
                ("hasSubordinates", "FALSE"),
                ("entryUUID", "u"),
            ],
        );
        let travels = travelling(&alice, &audiences.targets[0], &Secrets::all(&Schema::standard()));
        let names: Vec<&str> = travels.attributes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["entryUUID", "mail", "objectClass", "uid"]);
        assert_eq!(travels.attributes[2].1, [b"inetOrgPerson".to_vec()]);
        let secret = entry(
            "cn=x,ou=secrets,dc=dirless",
            &[
                ("cn", "x"),
                ("aithersecretreference", "vault:x"),
                ("aitherPasswordHash", "h"),
                ("member", "cn=y"),
            ],
        );
        let names = |target: usize| -> Vec<String> {
            let travels = travelling(&secret, &audiences.targets[target], &Secrets::all(&Schema::standard()));
            travels.attributes.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(0), ["cn", "member"]);
        assert_eq!(names(1), ["aithersecretreference", "cn", "member"]);
    }

    proptest! {
        /// The deepest rule, as looking at all of them finds it.
        #[test]
        fn every_entry_finds_its_rule(
            rules in proptest::collection::vec("(ou=[ab],){1,3}dc=dirless", 1..5),
            dn in "(ou=[ab],){0,4}dc=dirless",
        ) {
            let text: String = rules.iter().enumerate().map(|(at, rule)| {
                format!("[[audience]]\nname = \"r{at}\"\nsubtrees = [{rule:?}]\nhosts = [\"*\"]\n")
            }).collect();
            let audiences = audiences(&text);
            let deepest = rules.iter().filter(|rule| dn.ends_with(rule.as_str())).map(String::len).max();
            let wanted: Vec<String> = match deepest {
                None => vec!["tree".to_owned()],
                Some(deepest) => rules.iter().enumerate()
                    .filter(|(_, rule)| dn.ends_with(rule.as_str()) && rule.len() == deepest)
                    .map(|(at, _)| format!("tree-r{at}"))
                    .collect(),
            };
            prop_assert_eq!(of(&audiences, &dn), wanted);
        }
    }
}
