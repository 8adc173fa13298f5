//! Agents: one entry each out of identity files, A2A cards, mail addresses and registrations.
//!
//! `identities/` is what people say of an agent and wins; `cards/` are the agents' own A2A cards, kept
//! whole; `addresses` gives mail addresses; `registrations/` is what agents said when they started. An
//! agent that any of them names gets an entry. Names are compared without case and blanks.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::draft::{Draft, Strict, check_name, slug};
use super::inputs::parse;
use super::mail::address;
use super::{Engine, Inputs, Made, Make, Place};
use crate::sources::files::{File, FileError, error};

pub(super) struct Agents;

/// An identity file.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    /// What it is called; the file's name when missing.
    name: Option<String>,
    /// Its name in the tree, when that is not `name` in lower case.
    id: Option<String>,
    display_name: Option<String>,
    description: Option<String>,
    /// What it is for.
    role: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    tool_profiles: Vec<String>,
    effort_budget: Option<u64>,
    email: Option<String>,
    endpoint: Option<String>,
    port: Option<u16>,
    owner: Option<String>,
    tenant: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    metadata: Strict,
}

/// What an agent said when it started.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    name: String,
    endpoint: Option<String>,
    port: Option<u16>,
    status: Option<String>,
    trust_level: Option<u64>,
    code_hash: Option<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    allowed_services: Vec<String>,
    last_seen: Option<Timestamp>,
    tenant: Option<String>,
    #[serde(default)]
    metadata: Strict,
}

/// The addresses of one agent.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
enum Addresses {
    One(String),
    Several(Vec<String>),
}

/// Everything about one agent.
#[derive(Default)]
struct Agent<'i> {
    identity: Option<(&'i File, Identity)>,
    card: Option<(&'i File, Json)>,
    addresses: Option<(&'i File, Vec<String>)>,
    registration: Option<(&'i File, Registration)>,
}

impl Make for Agents {
    fn make<'i>(&self, inputs: &'i Inputs, place: &Place<'_>) -> Result<Vec<Made<'i>>, FileError> {
        let agents = merge(inputs)?;
        let made = agents.iter().map(|(id, agent)| agent.made(id, place).transpose());
        made.flatten().collect()
    }
}

fn merge(inputs: &Inputs) -> Result<BTreeMap<String, Agent<'_>>, FileError> {
    let mut agents: BTreeMap<String, Agent<'_>> = BTreeMap::new();
    let part = |part| inputs.part(Engine::Agents, part);
    let mut aliases: BTreeMap<String, String> = BTreeMap::new();
    for file in part("identities") {
        let identity: Identity = parse(file)?;
        let stem = file.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let shown = identity.name.as_deref().unwrap_or(stem);
        let id = identity.id.as_deref().map_or_else(|| slug(shown), slug);
        aliases.insert(slug(shown), id.clone());
        let agent = entry(&mut agents, file, &id)?;
        put(&mut agent.identity, file, &id, identity)?;
    }
    // Cards and the rest name an agent as people do; its identity file knows its id.
    let id = |name: &str| aliases.get(&slug(name)).cloned().unwrap_or_else(|| slug(name));
    for file in part("cards") {
        for card in cards(file)? {
            let Some(name) = card.get("name").and_then(Json::as_str) else {
                return Err(error(
                    file,
                    "name",
                    "a card has no name; A2A cards must have one".to_owned(),
                ));
            };
            let id = id(name);
            let agent = entry(&mut agents, file, &id)?;
            put(&mut agent.card, file, name, card.clone())?;
        }
    }
    for file in part("addresses") {
        for (name, addresses) in parse::<BTreeMap<String, Addresses>>(file)? {
            let addresses = match addresses {
                Addresses::One(one) => vec![one],
                Addresses::Several(several) => several,
            };
            if let Some(odd) = addresses.iter().find(|one| address(one).is_err()) {
                return Err(error(file, odd, format!("{odd:?} is no mail address; correct it")));
            }
            let agent = entry(&mut agents, file, &id(&name))?;
            put(&mut agent.addresses, file, &name, addresses)?;
        }
    }
    for file in part("registrations") {
        for registration in registrations(file)? {
            let (id, name) = (id(&registration.name), registration.name.clone());
            let agent = entry(&mut agents, file, &id)?;
            put(&mut agent.registration, file, &name, registration)?;
        }
    }
    let known = ["identities", "cards", "addresses", "registrations"];
    for file in inputs.of(Engine::Agents) {
        if !super::inputs::part_of(&file.path).is_some_and(|part| known.contains(&part)) {
            let reason = format!("belongs to no part of the agents; there are {}", known.join(", "));
            return Err(error(file, "", reason));
        }
    }
    Ok(agents)
}

fn entry<'a, 'i>(
    agents: &'a mut BTreeMap<String, Agent<'i>>,
    file: &File,
    id: &str,
) -> Result<&'a mut Agent<'i>, FileError> {
    check_name(id).map_err(|reason| error(file, id, format!("the agent's name {reason}")))?;
    Ok(agents.entry(id.to_owned()).or_default())
}

/// Puts what a file says where nothing may stand yet.
fn put<'i, T>(slot: &mut Option<(&'i File, T)>, file: &'i File, name: &str, value: T) -> Result<(), FileError> {
    match slot.replace((file, value)) {
        None => Ok(()),
        Some((other, _)) => {
            let reason = format!("agent {name:?} is in {} too; keep one of them", other.path.display());
            Err(error(file, name, reason))
        }
    }
}

/// One card, a list of cards, or a table of lists of them.
fn cards(file: &File) -> Result<Vec<Json>, FileError> {
    let Strict(json) = parse(file)?;
    let odd = || error(file, "", "is neither an A2A card nor a list of them".to_owned());
    match json {
        Json::Array(cards) => Ok(cards),
        Json::Object(table) if table.contains_key("name") => Ok(vec![Json::Object(table)]),
        Json::Object(mut table) => match table.remove("cards").or_else(|| table.remove("agents")) {
            Some(Json::Array(cards)) if table.is_empty() => Ok(cards),
            _ => Err(odd()),
        },
        _ => Err(odd()),
    }
}

fn registrations(file: &File) -> Result<Vec<Registration>, FileError> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Either {
        Several(Vec<Strict>),
        One(Strict),
    }
    let all = match parse(file)? {
        Either::Several(several) => several,
        Either::One(one) => vec![one],
    };
    let one = |Strict(json): Strict| {
        let word = json.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        serde_json::from_value(json).map_err(|reason| error(file, &word, format!("a registration: {reason}")))
    };
    all.into_iter().map(one).collect()
}

impl<'i> Agent<'i> {
    fn made(&self, id: &str, place: &Place<'_>) -> Result<Option<Made<'i>>, FileError> {
        let files = [
            self.identity.as_ref().map(|(file, _)| *file),
            self.registration.as_ref().map(|(file, _)| *file),
            self.card.as_ref().map(|(file, _)| *file),
            self.addresses.as_ref().map(|(file, _)| *file),
        ];
        let Some(file) = files.into_iter().flatten().next() else {
            return Ok(None);
        };
        let empty = Identity::default();
        let identity = self.identity.as_ref().map_or(&empty, |(_, identity)| identity);
        let none = Registration::default();
        let running = self
            .registration
            .as_ref()
            .map_or(&none, |(_, registration)| registration);
        let card = self.card.as_ref().map_or(&Json::Null, |(_, card)| card);
        let of_card = |key: &str| card.get(key).and_then(Json::as_str);

        let tenant = identity.tenant.as_deref().or(running.tenant.as_deref());
        let refuse = |reason| error(file, tenant.unwrap_or_default(), format!("agent {id}: {reason}"));
        let above = place.unit(tenant, "agents").map_err(refuse)?;
        let shown = identity
            .display_name
            .as_deref()
            .or(identity.name.as_deref())
            .or(of_card("name"));
        let mail: Vec<&str> = self
            .addresses
            .iter()
            .flat_map(|(_, all)| all.iter().map(String::as_str))
            .collect();
        let mail = identity.email.as_deref().into_iter().chain(mail);
        let endpoint = running
            .endpoint
            .as_deref()
            .or(identity.endpoint.as_deref())
            .or(of_card("url"));

        let mut draft = Draft::new(&above, "cn", id, &["aitherAgent", "aitherUser"]);
        draft
            .text("uid", Some(id))
            .text("aitherUserType", Some("agent"))
            .text("displayName", Some(shown.unwrap_or(id)))
            .text(
                "description",
                identity.description.as_deref().or(of_card("description")),
            )
            .text("aitherAgentRole", identity.role.as_deref())
            .list("aitherRoles", &identity.roles)
            .list("aitherGroups", &identity.groups)
            .list(
                "aitherCapabilities",
                identity.capabilities.iter().chain(&running.capabilities),
            )
            .list("aitherToolProfile", &identity.tool_profiles)
            .number("aitherEffortBudget", identity.effort_budget)
            .text("aitherOwnerUid", identity.owner.as_deref())
            .text("aitherTenantId", tenant)
            .list("aitherTag", &identity.tags)
            .list("mail", mail.clone())
            .list("aitherMailAddress", mail)
            .text("aitherEndpoint", endpoint)
            .number("aitherAgentPort", running.port.or(identity.port).map(u64::from))
            .text("aitherEntityStatus", running.status.as_deref())
            .number("aitherTrustLevel", running.trust_level)
            .text("aitherCodeHash", running.code_hash.as_deref())
            .list("aitherAllowedServices", &running.allowed_services)
            .text("aitherLastSeen", running.last_seen.map(time).as_deref())
            .list("aitherA2ACapabilities", capabilities(card))
            .json("aitherA2ACard", card)
            .json("aitherMetadata", &metadata(&identity.metadata.0, &running.metadata.0));
        Ok(Some(Made {
            entry: draft.entry(),
            file: Some(file),
            word: id.to_owned(),
        }))
    }
}

/// What a card says that the agent can do: its skills, and the capabilities that are switched on.
fn capabilities(card: &Json) -> Vec<String> {
    let skills = card.get("skills").and_then(Json::as_array).into_iter().flatten();
    let skills = skills.filter_map(|skill| {
        let id = skill.get("id").or_else(|| skill.get("name")).unwrap_or(skill);
        id.as_str().map(str::to_owned)
    });
    let switched_on = card.get("capabilities").and_then(Json::as_object).into_iter().flatten();
    let switched_on = switched_on
        .filter(|(_, on)| **on == Json::Bool(true))
        .map(|(name, _)| name.clone());
    skills.chain(switched_on).collect()
}

fn metadata(identity: &Json, registration: &Json) -> Json {
    match (identity.is_null(), registration.is_null()) {
        (true, true) => Json::Null,
        (false, true) => identity.clone(),
        (true, false) => json!({ "registration": registration }),
        (false, false) => {
            let mut both = identity.clone();
            if let Some(table) = both.as_object_mut() {
                table.insert("registration".to_owned(), registration.clone());
            }
            both
        }
    }
}

/// A time as LDAP writes it (RFC 4517, 3.3.13).
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y%m%d%H%M%SZ").to_string()
}
