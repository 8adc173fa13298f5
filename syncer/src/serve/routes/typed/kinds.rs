//! What kinds there are: where their entries stand, how they are told, and their fields.

use dirless_directory::{Entry, Filter, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::{attribute, equality};
use crate::serve::json::shown_value;

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// People, and agents and services that act as people do.
    Users,
    /// Agents.
    Agents,
    /// Groups and distribution lists.
    Groups,
    /// Bundles of permissions.
    Roles,
    /// Organisations.
    Tenants,
    /// Running services.
    Services,
    /// Machines.
    Devices,
    /// Configuration documents.
    Configs,
    /// Registered nodes, agents and clients.
    Entities,
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
enum Type {
    /// The first value.
    Text,
    /// All values.
    List,
    Number,
    Truth,
    /// The first value as JSON; as a text when it is none.
    Document,
}

use Type::{Document, List, Number, Text, Truth};

type Field = (&'static str, &'static str, Type);

/// Fields that every kind has.
const COMMON: &[Field] = &[
    ("id", "entryUUID", Text),
    ("description", "description", Text),
    ("display_name", "displayName", Text),
    ("owner_uid", "aitherOwnerUid", Text),
    ("tenant_id", "aitherTenantId", Text),
    ("status", "aitherStatus", Text),
    ("tags", "aitherTag", List),
    ("metadata", "aitherMetadata", Document),
    ("source", "aitherSource", Text),
    ("source_id", "aitherSourceId", Text),
    ("created_at", "createTimestamp", Text),
    ("modified_at", "modifyTimestamp", Text),
];

const USERS: &[Field] = &[
    ("uid", "uid", Text),
    ("full_name", "cn", Text),
    ("mail", "mail", List),
    ("mail_addresses", "aitherMailAddress", List),
    ("user_type", "aitherUserType", Text),
    ("account_status", "aitherAccountStatus", Text),
    ("auth_source", "aitherAuthSource", Text),
    ("registration_source", "aitherRegistrationSource", Text),
    ("oauth_provider", "aitherOAuthProvider", Text),
    ("email_verified", "aitherEmailVerified", Truth),
    ("email_verified_at", "aitherEmailVerifiedAt", Text),
    ("humanity_verified", "aitherHumanityVerified", Truth),
    ("humanity_score", "aitherHumanityScore", Text),
    ("humanity_verified_at", "aitherHumanityVerifiedAt", Text),
    ("roles", "aitherRoles", List),
    ("groups", "aitherGroups", List),
    ("agent_role", "aitherAgentRole", Text),
    ("effort_budget", "aitherEffortBudget", Number),
    ("capabilities", "aitherCapabilities", List),
    ("a2a_capabilities", "aitherA2ACapabilities", List),
    ("a2a_card", "aitherA2ACard", Document),
    ("tool_profile", "aitherToolProfile", List),
    ("endpoint", "aitherEndpoint", Text),
    ("port", "aitherAgentPort", Number),
    ("entity_status", "aitherEntityStatus", Text),
    ("trust_level", "aitherTrustLevel", Number),
    ("code_hash", "aitherCodeHash", Text),
    ("allowed_services", "aitherAllowedServices", List),
    ("last_seen", "aitherLastSeen", Text),
    ("last_login", "aitherLastLogin", Text),
    ("last_login_ip", "aitherLastLoginIp", Text),
    ("login_count", "aitherLoginCount", Number),
    ("uid_number", "uidNumber", Number),
    ("gid_number", "gidNumber", Number),
    ("home_folder", "homeDirectory", Text),
    ("shell", "loginShell", Text),
    ("ssh_keys", "sshPublicKey", List),
];

const GROUPS: &[Field] = &[
    ("group_type", "aitherGroupType", Text),
    ("members", "member", List),
    ("unique_members", "uniqueMember", List),
    ("member_uids", "memberUid", List),
    ("roles", "aitherRoles", List),
    ("mail", "mail", List),
    ("mail_addresses", "aitherMailAddress", List),
    ("gid_number", "gidNumber", Number),
];

const ROLES: &[Field] = &[
    ("permissions", "aitherPermission", List),
    ("inherits", "aitherInherits", List),
    ("scope", "aitherScope", List),
    ("priority", "aitherPriority", Number),
];

const TENANTS: &[Field] = &[
    ("slug", "aitherSlug", Text),
    ("plan_tier", "aitherPlanTier", Text),
    ("quotas", "aitherQuota", Document),
    ("quota_bytes", "aitherQuotaBytes", Number),
    ("features", "aitherFeatures", List),
    ("enabled", "aitherEnabled", Truth),
];

const SERVICES: &[Field] = &[
    ("storage_role", "aitherStorageRole", Text),
    ("dependencies", "aitherDependencies", List),
    ("features", "aitherFeatures", List),
    ("capabilities", "aitherCapabilities", List),
    ("port", "aitherPort", Number),
    ("url", "aitherUrl", Text),
    ("endpoint", "aitherEndpoint", Text),
    ("version", "aitherVersion", Text),
    ("enabled", "aitherEnabled", Truth),
    ("mail_relay", "aitherMailRelay", Text),
    ("mail_provider", "aitherMailProvider", Text),
    ("certificate_authority", "aitherCertificateAuthority", Text),
    ("certificate_serial", "aitherCertificateSerial", Text),
    ("certificate_not_after", "aitherCertificateNotAfter", Text),
    ("certificate_fingerprint", "aitherCertificateFingerprint", Text),
    ("last_seen", "aitherLastSeen", Text),
];

const DEVICES: &[Field] = &[
    ("device_type", "aitherDeviceType", Text),
    ("mesh_id", "aitherMeshId", Text),
    ("gpu_class", "aitherGpuClass", Text),
    ("capabilities", "aitherCapabilities", List),
    ("serial_number", "serialNumber", Text),
    ("mac_addresses", "macAddress", List),
    ("addresses", "ipHostNumber", List),
    ("last_seen", "aitherLastSeen", Text),
];

const CONFIGS: &[Field] = &[
    ("data", "aitherConfigData", Document),
    ("scope", "aitherConfigScope", Text),
    ("version", "aitherConfigVersion", Text),
    ("content_hash", "aitherContentHash", Text),
];

const ENTITIES: &[Field] = &[
    ("entity_type", "aitherEntityType", Text),
    ("entity_name", "aitherEntityName", Text),
    ("entity_status", "aitherEntityStatus", Text),
    ("trust_level", "aitherTrustLevel", Number),
    ("code_hash", "aitherCodeHash", Text),
    ("port", "aitherAgentPort", Number),
    ("endpoint", "aitherEndpoint", Text),
    ("allowed_services", "aitherAllowedServices", List),
    ("rbac_roles", "aitherRbacRoles", List),
    ("last_seen", "aitherLastSeen", Text),
];

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Users,
        Self::Agents,
        Self::Groups,
        Self::Roles,
        Self::Tenants,
        Self::Services,
        Self::Devices,
        Self::Configs,
        Self::Entities,
    ];

    /// The word in the path.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Agents => "agents",
            Self::Groups => "groups",
            Self::Roles => "roles",
            Self::Tenants => "tenants",
            Self::Services => "services",
            Self::Devices => "devices",
            Self::Configs => "configs",
            Self::Entities => "entities",
        }
    }

    /// The kind of that word.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The organisational units that its entries stand below.
    pub(crate) fn units(self) -> &'static [&'static str] {
        match self {
            Self::Agents => &["agents", "users"],
            Self::Groups => &["groups", "distribution-lists"],
            Self::Users => &["users"],
            Self::Roles => &["roles"],
            Self::Tenants => &["tenants"],
            Self::Services => &["services"],
            Self::Devices => &["devices"],
            Self::Configs => &["configs"],
            Self::Entities => &["entities"],
        }
    }

    /// What its entries match.
    pub(crate) fn filter(self) -> Filter {
        let classes: &[&str] = match self {
            Self::Users => &["person", "aitherUser", "posixAccount"],
            Self::Agents => {
                return Filter::Or(vec![
                    equality("objectClass", "aitherAgent"),
                    equality("aitherUserType", "agent"),
                ]);
            }
            Self::Groups => &[
                "groupOfNames",
                "groupOfUniqueNames",
                "posixGroup",
                "aitherGroup",
                "aitherDistributionList",
            ],
            Self::Roles => &["aitherRole"],
            Self::Tenants => &["aitherTenant"],
            Self::Services => &["aitherService"],
            Self::Devices => &["aitherDevice"],
            Self::Configs => &["aitherConfig"],
            Self::Entities => &["aitherEntity"],
        };
        Filter::Or(classes.iter().map(|class| equality("objectClass", class)).collect())
    }

    /// The attributes that name its entries.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Users => &["uid"],
            Self::Agents => &["cn", "uid"],
            Self::Tenants => &["o", "aitherSlug"],
            _ => &["cn"],
        }
    }

    /// What the one of that name matches.
    pub(crate) fn named(self, name: &str) -> Filter {
        Filter::Or(self.names().iter().map(|attribute| equality(attribute, name)).collect())
    }

    /// The name of an entry among its kind: the value in its DN, when that is one of the naming ones.
    pub(crate) fn name_of(self, entry: &Entry) -> String {
        let named = entry.dn().rdn().into_iter().flat_map(|rdn| rdn.avas());
        let in_dn = named
            .filter(|ava| {
                self.names()
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(ava.name.as_str()))
            })
            .find_map(|ava| ava.value.as_str());
        let first = || {
            self.names()
                .iter()
                .find_map(|name| entry.values(&attribute(name)).first()?.as_str())
        };
        in_dn.or_else(first).unwrap_or_default().to_owned()
    }

    fn own_fields(self) -> &'static [Field] {
        match self {
            Self::Users | Self::Agents => USERS,
            Self::Groups => GROUPS,
            Self::Roles => ROLES,
            Self::Tenants => TENANTS,
            Self::Services => SERVICES,
            Self::Devices => DEVICES,
            Self::Configs => CONFIGS,
            Self::Entities => ENTITIES,
        }
    }

    /// What is known of an entry.
    pub(crate) fn fields(self, entry: &Entry) -> Map<String, Json> {
        let fields = self.own_fields().iter().chain(COMMON);
        fields
            .filter_map(|(field, name, kind)| {
                let values = entry.values(&attribute(name));
                Some(((*field).to_owned(), kind.of(values)?))
            })
            .collect()
    }
}

impl Type {
    /// The values as the field shows them; none when there are none.
    fn of(self, values: &[Value]) -> Option<Json> {
        let first = values.first()?;
        let text = first.as_str();
        Some(match self {
            Text => shown_value(first),
            List => values.iter().map(shown_value).collect(),
            Number => text
                .and_then(|text| text.parse::<i64>().ok())
                .map_or_else(|| shown_value(first), Json::from),
            Truth => Json::from(text.is_some_and(|text| text.eq_ignore_ascii_case("TRUE"))),
            Document => text
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_else(|| shown_value(first)),
        })
    }
}

#[cfg(test)]
mod tests {
    use dirless_directory::{Dn, Schema};
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_is_an_attribute_of_the_schema_and_no_secret() {
        let schema = Schema::standard();
        let secrets = crate::serve::json::Secrets::all(&schema);
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
            for (field, name, _) in kind.own_fields().iter().chain(COMMON) {
                assert!(schema.attribute(name).is_some(), "{field}: {name}");
                assert!(!secrets.holds(&attribute(name)), "{field}");
            }
            let mut names: Vec<_> = kind
                .own_fields()
                .iter()
                .chain(COMMON)
                .map(|(field, ..)| *field)
                .collect();
            names.sort_unstable();
            assert!(
                names.windows(2).all(|pair| pair[0] != pair[1]),
                "{kind:?} has a field twice"
            );
        }
    }

    #[test]
    fn fields_have_their_types() {
        let mut entry = Entry::new(Dn::parse("cn=mail,ou=configs,dc=dirless").unwrap());
        entry.add(attribute("aitherConfigData"), Value::from("{\"port\": 25}"));
        entry.add(attribute("aitherTag"), Value::from("a"));
        assert_eq!(
            Json::Object(Kind::Configs.fields(&entry)),
            json!({"data": {"port": 25}, "tags": ["a"]})
        );
        entry.set(attribute("aitherConfigData"), vec![Value::from("no json")]);
        assert_eq!(Kind::Configs.fields(&entry)["data"], json!("no json"));
        entry.add(attribute("aitherTrustLevel"), Value::from("4"));
        assert_eq!(Kind::Entities.fields(&entry)["trust_level"], json!(4));
        entry.add(attribute("aitherEnabled"), Value::from("FALSE"));
        assert_eq!(Kind::Tenants.fields(&entry)["enabled"], json!(false));
        assert_eq!(Kind::Configs.name_of(&entry), "mail");
    }
}
