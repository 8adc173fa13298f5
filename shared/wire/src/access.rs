use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Access rules as `GET` and `PUT /v1/snapshot/authz-config` carry them.
///
/// Missing fields mean "not enforced, no rules", as deployed agents read them; a field of the wrong
/// type is an error here, where deployed agents would let everyone in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuthzConfig {
    /// Whether only members of a group with a rule for the host may be there.
    #[schema(required = false)]
    pub enforce_group_memberships: bool,
    /// The rules.
    #[schema(required = false)]
    pub host_group_rules: Vec<HostGroupRule>,
}

/// A derived reader takes `[]` for "all fields missing", which here would mean "let everyone in"; so
/// this one takes objects only.
impl<'de> Deserialize<'de> for AuthzConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            #[serde(default)]
            enforce_group_memberships: bool,
            #[serde(default)]
            host_group_rules: Vec<HostGroupRule>,
        }
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with enforce_group_memberships and host_group_rules")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map))
            }
        }
        let fields = deserializer.deserialize_map(Object)?;
        Ok(Self {
            enforce_group_memberships: fields.enforce_group_memberships,
            host_group_rules: fields.host_group_rules,
        })
    }
}

/// "Members of this group may use this host."
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct HostGroupRule {
    /// Group name as the source spells it.
    pub group: String,
    /// Kernel host name, compared byte for byte.
    pub host: String,
}

/// Body of `PUT /v1/snapshot/duplicates`: names that more than one source has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Duplicates {
    /// The names; empty when a conflict is resolved.
    #[schema(max_items = 10000)]
    pub duplicate_usernames: Vec<String>,
}

impl Duplicates {
    /// Most names a server keeps of one report.
    pub const MAX_NAMES: usize = 10_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_rules_are_read() {
        let body = r#"{"enforce_group_memberships":true,"host_group_rules":[{"group":"eng","host":"web-1"}]}"#;
        let rules: AuthzConfig = serde_json::from_str(body).unwrap();
        assert!(rules.enforce_group_memberships);
        assert_eq!(serde_json::to_string(&rules).unwrap(), body);
    }

    #[test]
    fn absent_rules_are_not_enforced_and_wrong_types_are_errors() {
        assert_eq!(
            serde_json::from_str::<AuthzConfig>("{}").unwrap(),
            AuthzConfig::default()
        );
        assert_eq!(
            serde_json::to_string(&AuthzConfig::default()).unwrap(),
            r#"{"enforce_group_memberships":false,"host_group_rules":[]}"#
        );
        for body in [
            r#"{"enforce_group_memberships":"true"}"#,
            r#"{"enforce_group_memberships":null}"#,
            r#"{"host_group_rules":{}}"#,
            r#"{"host_group_rules":[{"group":"eng"}]}"#,
            r#"{"enforce_group_memberships":true,"enforce_group_memberships":false}"#,
            "[]",
            "[false]",
            "null",
        ] {
            assert!(serde_json::from_str::<AuthzConfig>(body).is_err(), "{body}");
        }
    }

    #[test]
    fn the_recorded_duplicates_are_read() {
        let report: Duplicates = serde_json::from_str(r#"{"duplicate_usernames":["alice"]}"#).unwrap();
        assert_eq!(report.duplicate_usernames, ["alice"]);
        assert!(serde_json::from_str::<Duplicates>("{}").is_err());
    }
}
