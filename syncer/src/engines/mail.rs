//! Mail: distribution lists become groups, mailboxes entries. SMTP settings (`smtp.yaml`) are laid over
//! the services, see [`super::services`].

use std::collections::{BTreeMap, BTreeSet};

use dirless_directory::Dn;

use super::draft::{Draft, check_name, slug};
use super::inputs::parse;
use super::{Engine, Inputs, Made, Make, Place};
use crate::sources::files::{File, FileError, error};

pub(super) struct Mail;

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default)]
    lists: BTreeMap<String, List>,
    #[serde(default)]
    mailboxes: BTreeMap<String, Mailbox>,
}

/// A distribution list.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    address: String,
    description: Option<String>,
    /// People, `agent:NAME`, `group:NAME`, `list:NAME`, and addresses outside.
    #[serde(default)]
    members: Vec<String>,
    owner: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

/// A mailbox, called by its address.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Mailbox {
    owner: Option<String>,
    quota_bytes: Option<u64>,
    relay: Option<String>,
    enabled: Option<bool>,
    description: Option<String>,
}

/// `smtp.yaml`
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Smtp {
    /// Who carries the mail, such as `resend`.
    pub(super) provider: Option<String>,
    /// The relay's host name.
    pub(super) relay: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) enabled: Option<bool>,
    /// Services that send through it; they get provider and relay too.
    #[serde(default)]
    pub(super) services: Vec<String>,
    pub(super) description: Option<String>,
}

/// The SMTP settings, when there are any.
pub(super) fn smtp(inputs: &Inputs) -> Result<Option<(&File, Smtp)>, FileError> {
    let mut found: Option<(&File, Smtp)> = None;
    for file in inputs.part(Engine::Mail, "smtp") {
        if let Some((other, _)) = found.replace((file, parse(file)?)) {
            let reason = format!("SMTP settings stand in {} too; keep one of them", other.path.display());
            return Err(error(file, "", reason));
        }
    }
    Ok(found)
}

impl Make for Mail {
    fn make<'i>(&self, inputs: &'i Inputs, place: &Place<'_>) -> Result<Vec<Made<'i>>, FileError> {
        smtp(inputs)?;
        let mut all = Vec::new();
        let mut contents = Vec::new();
        let files = inputs.of(Engine::Mail).iter();
        for file in files.filter(|file| super::inputs::part_of(&file.path) != Some("smtp")) {
            contents.push((file, parse::<Content>(file)?));
        }
        let lists: BTreeSet<String> = contents
            .iter()
            .flat_map(|(_, content)| content.lists.keys().map(|name| slug(name)))
            .collect();
        for (file, content) in &contents {
            for (name, list) in &content.lists {
                all.push(made_list(file, name, list, &lists, place)?);
            }
            for (address, mailbox) in &content.mailboxes {
                all.push(made_mailbox(file, address, mailbox, place)?);
            }
        }
        Ok(all)
    }
}

fn made_list<'i>(
    file: &'i File,
    name: &str,
    list: &List,
    lists: &BTreeSet<String>,
    place: &Place<'_>,
) -> Result<Made<'i>, FileError> {
    let refuse = |word: &str, reason: String| error(file, word, format!("list {name}: {reason}"));
    check_name(name).map_err(|reason| refuse(name, reason))?;
    address(&list.address).map_err(|reason| refuse(&list.address, reason))?;
    let (mut members, mut outside): (Vec<Dn>, Vec<&str>) = (Vec::new(), Vec::new());
    for member in &list.members {
        match member.split_once(':') {
            Some(("agent", agent)) => members.push(place.named("agents", &slug(agent))),
            Some(("group", group)) => members.push(place.named("groups", group)),
            Some(("list", other)) if lists.contains(&slug(other)) => {
                members.push(place.named("distribution-lists", &slug(other)));
            }
            Some(("list", other)) => {
                return Err(refuse(
                    member,
                    format!("there is no list {other:?}; add it, or take it out here"),
                ));
            }
            Some(_) => {
                let reason = format!("{member:?} is neither agent:NAME, group:NAME nor list:NAME");
                return Err(refuse(member, reason));
            }
            None if member.contains('@') => {
                address(member).map_err(|reason| refuse(member, reason))?;
                outside.push(member);
            }
            None => {
                check_name(member).map_err(|reason| refuse(member, reason))?;
                members.push(place.user(member));
            }
        }
    }
    let above = place
        .unit(None, "distribution-lists")
        .map_err(|reason| refuse(name, reason))?;
    let classes = ["groupOfNames", "aitherGroup", "aitherDistributionList"];
    let mut draft = Draft::new(&above, "cn", &slug(name), &classes);
    draft
        .text("displayName", Some(name))
        .text("description", list.description.as_deref())
        .text("aitherGroupType", Some("distribution_list"))
        .text("mail", Some(&list.address))
        .text("aitherMailAddress", Some(&list.address))
        .names("member", members)
        .list("aitherOutsideMember", outside)
        .text("aitherOwnerUid", list.owner.as_deref())
        .list("aitherTag", &list.tags);
    Ok(Made {
        entry: draft.entry(),
        file: Some(file),
        word: name.to_owned(),
    })
}

fn made_mailbox<'i>(
    file: &'i File,
    box_address: &str,
    mailbox: &Mailbox,
    place: &Place<'_>,
) -> Result<Made<'i>, FileError> {
    let refuse = |reason: String| error(file, box_address, format!("mailbox {box_address}: {reason}"));
    address(box_address).map_err(refuse)?;
    let above = place.unit(None, "mailboxes").map_err(refuse)?;
    let mut draft = Draft::new(&above, "cn", &box_address.to_lowercase(), &["aitherMailbox"]);
    draft
        .text("aitherMailAddress", Some(box_address))
        .text("description", mailbox.description.as_deref())
        .number("aitherQuotaBytes", mailbox.quota_bytes)
        .text("aitherMailRelay", mailbox.relay.as_deref())
        .boolean("aitherEnabled", mailbox.enabled)
        .names("owner", mailbox.owner.as_deref().map(|owner| place.user(owner)))
        .text("aitherOwnerUid", mailbox.owner.as_deref());
    Ok(Made {
        entry: draft.entry(),
        file: Some(file),
        word: box_address.to_owned(),
    })
}

/// Checks a mail address as far as it matters here: what the schema keeps is ASCII (RFC 4524, 2.16).
pub(super) fn address(text: &str) -> Result<(), String> {
    let plain = text.is_ascii() && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    let parts = text.split_once('@');
    match parts {
        Some((local, domain)) if plain && !local.is_empty() && !domain.is_empty() && !domain.contains('@') => Ok(()),
        _ => Err(format!("{text:?} is no mail address; correct it")),
    }
}
