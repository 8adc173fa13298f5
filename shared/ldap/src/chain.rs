//! Membership through any number of groups: the matching rule in chain of Active Directory.

use std::collections::HashSet;
use std::ops::ControlFlow;

use dirless_directory::filter::Extensible;
use dirless_directory::{AttributeName, Dn, DnKey, Filter, Schema, Value};

use crate::{Directory, Failure, Identity, Query, Scope, Visibility};

/// `LDAP_MATCHING_RULE_IN_CHAIN`.
pub(crate) const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";

/// Entries visited at most for one chain; a cycle ends by itself.
const MOST: usize = 200_000;

/// The entries for which a match in chain is true; none when the filter is not one.
///
/// `member` is followed upwards from the asserted entry: its groups, their groups and so on.
/// `memberOf` is followed downwards: the members of the asserted group, their members and so on.
pub(crate) fn entries(
    directory: &dyn Directory,
    schema: &Schema,
    who: &Identity,
    extensible: &Extensible,
) -> Option<Result<HashSet<DnKey>, Failure>> {
    let name = extensible.name.as_ref()?;
    if extensible.rule.as_deref() != Some(IN_CHAIN) {
        return None;
    }
    let start = extensible.value.as_str().and_then(|text| Dn::parse(text).ok());
    let start = start.and_then(|dn| Some((schema.dn_key(&dn)?, dn)));
    let Some((key, dn)) = start else {
        return Some(Ok(HashSet::new()));
    };
    if name.as_str().eq_ignore_ascii_case("memberOf") {
        Some(down(directory, schema, who, key))
    } else {
        Some(up(directory, who, schema, name, dn, key))
    }
}

fn visible(directory: &dyn Directory, schema: &Schema, who: &Identity, key: &[u8], attribute: &str) -> bool {
    let listed = |names: &[AttributeName]| names.iter().any(|name| schema.is_subtype(attribute, name.as_str()));
    match directory.visibility(who, key) {
        Visibility::Hidden => false,
        Visibility::Whole => true,
        Visibility::Without(names) => !listed(&names),
        Visibility::Only(names) => listed(&names),
    }
}

/// Every entry that holds the asserted one, itself or through others.
fn up(
    directory: &dyn Directory,
    who: &Identity,
    schema: &Schema,
    name: &AttributeName,
    dn: Dn,
    key: DnKey,
) -> Result<HashSet<DnKey>, Failure> {
    let root = schema.dn_key(&Dn::ROOT).unwrap_or_else(|| key.clone());
    let mut found = HashSet::new();
    let mut open = vec![dn.to_string()];
    while let Some(dn) = open.pop() {
        let filter = Filter::Equality(name.clone(), Value::from(dn));
        let matcher = dirless_directory::encoded::Matcher::new(schema, &filter);
        let query = Query {
            base: &root,
            scope: Scope::Subtree,
            filter: &filter,
            after: None,
            wants: crate::Wants::default(),
        };
        directory.candidates(&query, &mut |candidate| {
            let stored = candidate.stored;
            let matches = candidate.exact
                || matcher.matches(schema, crate::emit::subject(&stored)) == dirless_directory::filter::Truth::True;
            if matches
                && visible(directory, schema, who, stored.key, name.as_str())
                && found.insert(DnKey::from(stored.key.to_vec()))
            {
                open.push(stored.dn.to_owned());
            }
            if found.len() < MOST {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
    }
    Ok(found)
}

/// Every entry that the asserted one holds, itself or through others.
fn down(directory: &dyn Directory, schema: &Schema, who: &Identity, key: DnKey) -> Result<HashSet<DnKey>, Failure> {
    let mut found = HashSet::new();
    let mut open = vec![key];
    while let Some(key) = open.pop() {
        if !visible(directory, schema, who, key.as_bytes(), "member") {
            continue;
        }
        directory.lookup(&key, &mut |stored| {
            let members = stored.attributes.attribute("member").map(|attribute| attribute.values);
            for value in members.into_iter().flatten() {
                let text = std::str::from_utf8(value).unwrap_or_default();
                let member = Dn::parse(text).ok().and_then(|dn| schema.dn_key(&dn));
                if let Some(member) = member.filter(|_| found.len() < MOST)
                    && found.insert(member.clone())
                {
                    open.push(member);
                }
            }
        })?;
    }
    Ok(found)
}
