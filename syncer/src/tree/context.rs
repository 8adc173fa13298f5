//! What every operation on the tree needs besides the database: names, schema, and what is indexed.

use std::collections::{BTreeSet, HashMap};

use dirless_directory::schema::AttributeType;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, MatchingRule, Schema};

use super::TreeError;
use super::secrets::Secrets;

/// Longest indexed value. What is longer is cut: an index only has to find at least what matches.
const LONGEST: usize = 256;

/// Attributes that are always indexed, as far as the schema has them.
const INDEXED: &[&str] = &[
    "objectClass",
    "uid",
    "cn",
    "ou",
    "o",
    "sn",
    "mail",
    "displayName",
    "uidNumber",
    "gidNumber",
    "member",
    "memberUid",
    "uniqueMember",
    "owner",
    "entryUUID",
    "entryCSN",
    "aitherEntityType",
    "aitherEntityStatus",
    "aitherTrustLevel",
    "aitherMeshId",
    "aitherDeviceType",
    "aitherOwnerUid",
    "aitherTenantId",
    "aitherMailAddress",
    "aitherRoles",
    "aitherGroups",
    "aitherSlug",
    "aitherSource",
    "aitherSourceId",
    "aitherUserType",
    "aitherAuthSource",
    "aitherAccountStatus",
    "aitherOAuthProvider",
    "aitherOAuthSubject",
    "aitherSessionId",
    "aitherCertificateSerial",
    "aitherTaskState",
    "aitherContentHash",
];

/// An attribute whose values are looked up rather than looked through.
#[derive(Clone, Debug)]
pub(super) struct Indexed {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) rule: MatchingRule,
    /// Do its ordering and substrings rules sort and cut the same keys?
    pub(super) ordered: bool,
    pub(super) substrings: bool,
}

impl Indexed {
    /// What stands in the index for `value`; none when the value does not fit the attribute.
    pub(super) fn value(&self, schema: &Schema, value: &[u8]) -> Option<Vec<u8>> {
        let mut key = self.rule.key(schema, value)?;
        key.truncate(LONGEST);
        Some(key)
    }

    pub(super) fn cut(mut key: Vec<u8>) -> Vec<u8> {
        key.truncate(LONGEST);
        key
    }
}

/// Names, schema and indexes of one tree. It does not change while the tree is open.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) schema: Schema,
    pub(super) base: Dn,
    pub(super) base_key: DnKey,
    pub(super) indexed: Vec<Indexed>,
    /// Places in `indexed`, by every name and OID in lower case under which such an attribute or one
    /// derived from it is held.
    held_as: HashMap<String, Vec<usize>>,
    /// What the changelog does not tell.
    pub(super) secrets: Secrets,
}

impl Context {
    pub(super) fn new(schema: Schema, base: Dn, more: &[AttributeName]) -> Result<Self, TreeError> {
        let base_key = schema.dn_key(&base).ok_or_else(|| TreeError::Name(base.clone()))?;
        let mut names = BTreeSet::new();
        for name in INDEXED.iter().copied().chain(more.iter().map(AttributeName::kind)) {
            match schema.attribute(name) {
                Some(attribute) => names.insert(attribute.name().to_owned()),
                None if INDEXED.contains(&name) => false,
                None => {
                    return Err(TreeError::Setting {
                        key: "indexed",
                        reason: format!("{name} is not defined in the schema"),
                    });
                }
            };
        }
        let indexed = names.into_iter().zip(1..).filter_map(|(name, id)| {
            let rule = schema.equality(&name)?;
            Some(Indexed {
                id,
                rule,
                ordered: schema.ordering(&name) == Some(rule),
                substrings: schema.substring(&name) == Some(rule),
                name,
            })
        });
        let indexed: Vec<Indexed> = indexed.collect();
        let mut held_as: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, own) in indexed.iter().enumerate() {
            for spelling in schema.spellings(&own.name).unwrap_or_default() {
                held_as.entry(spelling.to_ascii_lowercase()).or_default().push(at);
            }
        }
        Ok(Self {
            indexed,
            held_as,
            secrets: Secrets::passwords(&schema),
            schema,
            base,
            base_key,
        })
    }

    /// Gives up the indexes, for a tree whose indexes were made for another schema.
    pub(super) fn without_indexes(&mut self) {
        self.indexed.clear();
        self.held_as.clear();
    }

    /// The name as names are compared.
    pub(super) fn key(&self, dn: &Dn) -> Result<DnKey, TreeError> {
        self.schema.dn_key(dn).ok_or_else(|| TreeError::Name(dn.clone()))
    }

    /// The index of exactly that attribute (or another name of it).
    pub(super) fn index_of(&self, name: &AttributeName) -> Option<&Indexed> {
        let canonical = self.schema.attribute(name.as_str()).map(AttributeType::name)?;
        self.indexed.iter().find(|indexed| indexed.name == canonical)
    }

    /// All that the indexes hold of an entry.
    pub(super) fn index_values(&self, entry: &Entry) -> BTreeSet<(i64, Vec<u8>)> {
        let mut all = BTreeSet::new();
        for (name, values) in entry.attributes() {
            let places = self.held_as.get(&name.kind().to_ascii_lowercase());
            for indexed in places.into_iter().flatten().filter_map(|at| self.indexed.get(*at)) {
                let keys = values
                    .iter()
                    .filter_map(|value| indexed.value(&self.schema, value.as_bytes()));
                all.extend(keys.map(|key| (indexed.id, key)));
            }
        }
        all
    }

    /// Changes whenever keys or indexes would come out differently: they are made anew then.
    pub(super) fn fingerprint(&self) -> String {
        let mut text = String::new();
        for attribute in self.schema.attributes() {
            text.push_str(&attribute.to_string());
        }
        for indexed in &self.indexed {
            text.push_str(&indexed.name);
            text.push(' ');
        }
        dirless_seal::sha256_hex(text.as_bytes())
    }
}
