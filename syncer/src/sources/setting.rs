use std::collections::BTreeSet;
use std::path::PathBuf;

use dirless_model::NameRule;
use dirless_wire::SourceName;

use super::files::{FilesConfig, KnownHosts};
use super::identity_center;
use super::ldap::LdapConfig;
use crate::config::Config;
use crate::tree::by_hand;

/// One `[[source]]` table.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SourceConfig {
    /// AWS IAM Identity Center, as `[identity_center]` describes it.
    IdentityCenter(IdentityCenterSource),
    /// An LDAP server or Active Directory.
    Ldap(Box<LdapConfig>),
    /// A folder of files.
    Files(Box<FilesConfig>),
}

/// What a `[[source]]` of Identity Center may say beyond `[identity_center]`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityCenterSource {
    /// The name rule; without it `[names]`.
    pub names: Option<NameRule>,
}

/// A source to be read, with what the rest of the pipeline has to know of it.
#[derive(Clone, Debug)]
pub struct SourceSetting {
    /// Its name on the wire and in the ledger.
    pub name: String,
    /// How its names become names on hosts.
    pub names: NameRule,
    /// Where what was published of it is remembered.
    pub state_folder: PathBuf,
    /// What it is.
    pub kind: SourceKind,
}

/// What a source is, with its own settings.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// AWS IAM Identity Center.
    IdentityCenter,
    /// LDAP or Active Directory.
    Ldap(Box<LdapConfig>),
    /// A folder of files.
    Files(Box<FilesConfig>),
    /// What people entered into the tree.
    Directory,
}

impl SourceSetting {
    /// The sources of `config`, in its order. Without a `[[source]]` table it is Identity Center
    /// alone, as in the deployed file, with its state where it always was.
    #[must_use]
    pub fn all(config: &Config) -> Vec<Self> {
        let only = [SourceConfig::IdentityCenter(IdentityCenterSource::default())];
        let tables = if config.source.is_empty() {
            only.as_slice()
        } else {
            &config.source
        };
        tables.iter().map(|table| Self::of(config, table)).collect()
    }

    fn of(config: &Config, table: &SourceConfig) -> Self {
        let (name, names, kind) = match table {
            SourceConfig::IdentityCenter(own) => {
                (identity_center::NAME, own.names.as_ref(), SourceKind::IdentityCenter)
            }
            SourceConfig::Ldap(ldap) => (ldap.name.as_str(), ldap.names.as_ref(), SourceKind::Ldap(ldap.clone())),
            SourceConfig::Files(files) => (
                files.name.as_str(),
                files.names.as_ref(),
                SourceKind::Files(Box::new(FilesConfig {
                    hosts: KnownHosts {
                        groups: config.host_groups.clone(),
                        plan: config.plan.clone(),
                    },
                    ..files.as_ref().clone()
                })),
            ),
        };
        let state = &config.syncer.state_folder;
        Self {
            name: name.to_owned(),
            names: names.unwrap_or(&config.names).clone(),
            state_folder: match kind {
                // Where deployed state is: a source that joins later does not move it.
                SourceKind::IdentityCenter => state.clone(),
                SourceKind::Ldap(_) | SourceKind::Files(_) | SourceKind::Directory => state.join("sources").join(name),
            },
            kind,
        }
    }

    /// The accounts and groups that people entered into the tree.
    #[must_use]
    pub fn by_hand(config: &Config) -> Self {
        Self {
            name: by_hand::NAME.to_owned(),
            names: config.names.clone(),
            state_folder: config.syncer.state_folder.join("sources").join(by_hand::NAME),
            kind: SourceKind::Directory,
        }
    }

    /// Can the source tell whether a password is somebody's?
    #[must_use]
    pub fn can_verify(&self) -> bool {
        matches!(self.kind, SourceKind::Ldap(_))
    }

    /// Can the source give its objects numbers of its own?
    #[must_use]
    pub fn gives_numbers(&self) -> bool {
        !matches!(self.kind, SourceKind::IdentityCenter)
    }

    /// Seconds that a whole read may take.
    #[must_use]
    pub fn deadline_seconds(&self, config: &Config) -> u64 {
        match &self.kind {
            SourceKind::IdentityCenter => config.identity_center.deadline_seconds,
            SourceKind::Ldap(ldap) => ldap.deadline_seconds,
            SourceKind::Files(_) | SourceKind::Directory => 60,
        }
    }

    /// Looks at the tables: the key that is wrong and why.
    ///
    /// # Errors
    /// When a name cannot stand on the wire or comes twice, or a table makes no sense.
    pub fn check(config: &Config) -> Result<(), (String, String)> {
        let mut seen = BTreeSet::new();
        let mut has_rules = None;
        for (at, setting) in Self::all(config).into_iter().enumerate() {
            let key = |own: &str| format!("source[{at}].{own}");
            if let Err(error) = SourceName::new(&setting.name) {
                return Err((key("name"), format!("{:?}: {error}", setting.name)));
            }
            if setting.name == SourceName::LOCAL {
                return Err((
                    key("name"),
                    "\"local\" is for people who are entered by hand".to_owned(),
                ));
            }
            let is_tree = setting.name == "tree" || setting.name.starts_with("tree-");
            if is_tree || setting.name == by_hand::NAME {
                return Err((
                    key("name"),
                    "\"directory\", \"tree\" and \"tree-…\" are what the tree itself is published as".to_owned(),
                ));
            }
            if !seen.insert(setting.name.clone()) {
                return Err((key("name"), format!("{:?} is there twice", setting.name)));
            }
            if matches!(&setting.kind, SourceKind::Files(files) if files.access) && has_rules.replace(at).is_some() {
                return Err((key("access"), "another source has the access rules already".to_owned()));
            }
            match &setting.kind {
                SourceKind::IdentityCenter | SourceKind::Directory => {}
                SourceKind::Ldap(ldap) => ldap.check().map_err(|(own, reason)| (key(own), reason))?,
                SourceKind::Files(files) => files.check().map_err(|(own, reason)| (key(own), reason))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let text = format!("[backend]\nurl = \"https://d\"\n{text}");
        Config::parse(&text, Path::new("/x")).map_err(|error| error.to_string())
    }

    const THREE: &str = "[names]\nprefix = \"c-\"\n[[source]]\nkind = \"files\"\nname = \"git\"\nfolder = \"/srv/people\"\n\
        [[source]]\nkind = \"identity-center\"\n[[source]]\nkind = \"ldap\"\nname = \"corp-ad\"\npreset = \"ad\"\n\
        url = \"ldaps://dc1.corp.example\"\nbase = \"DC=corp,DC=example\"\nnames = { prefix = \"ad-\" }\n";

    #[test]
    fn without_a_table_it_is_identity_center_where_it_always_was() {
        let settings = SourceSetting::all(&parse("").unwrap());
        assert_eq!(settings.len(), 1);
        assert_eq!(settings[0].name, "aws-identity-center");
        assert_eq!(settings[0].state_folder, Path::new("/var/lib/dirless/syncer"));
        assert!(!settings[0].gives_numbers());
    }

    #[test]
    fn tables_keep_their_order_and_have_rule_and_state_of_their_own() {
        let settings = SourceSetting::all(&parse(THREE).unwrap());
        let names: Vec<_> = settings.iter().map(|setting| setting.name.as_str()).collect();
        assert_eq!(names, ["git", "aws-identity-center", "corp-ad"]);
        let prefixes: Vec<_> = settings.iter().map(|setting| setting.names.prefix.as_str()).collect();
        assert_eq!(prefixes, ["c-", "c-", "ad-"]);
        let folders: BTreeSet<_> = settings.iter().map(|setting| &setting.state_folder).collect();
        assert_eq!(folders.len(), 3);
    }

    #[test]
    fn tables_that_make_no_sense_name_their_key() {
        let twice = "[[source]]\nkind = \"identity-center\"\n".repeat(2);
        let cases = [
            (twice.as_str(), "source[1].name"),
            (
                "[[source]]\nkind = \"files\"\nname = \"local\"\nfolder = \"/a\"\n",
                "by hand",
            ),
            (
                "[[source]]\nkind = \"files\"\nname = \"tree-x\"\nfolder = \"/a\"\n",
                "the tree itself",
            ),
            (
                "[[source]]\nkind = \"files\"\nname = \"A b\"\nfolder = \"/a\"\n",
                "source[0].name",
            ),
            (
                "[[source]]\nkind = \"files\"\nfolder = \"relative\"\n",
                "source[0].folder",
            ),
            ("[[source]]\nkind = \"nis\"\n", "nis"),
            ("[[source]]\nkind = \"identity-center\"\nnmaes = {}\n", "nmaes"),
            (
                "[[source]]\nkind = \"ldap\"\nurl = \"ldap://d\"\nbase = \"dc=d\"\n",
                "plain",
            ),
        ];
        for (text, says) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
