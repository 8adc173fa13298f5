//! What both doors do: the command line of this machine, and REST.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dirless_model::snapshot::Document;
use dirless_model::{Name, NameRule};
use dirless_publish::revocation::{
    LONGEST_REASON, MOST_NAMES, NOBODY_TELLS, RevocationReply, RevocationsReply, RevokeReply, RevokeRequest,
    RevokedSource,
};

use super::super::Setting;
use crate::keys::{self, Access};
use crate::remote::Remote;
use crate::revoked::{
    Desk, Identity, Place, Revocation, Revocations, RevokedError, SignedHead, parse_snapshot, signed_text,
};
use crate::serve::revoker::RevokeError;
use crate::signed::{Awaited, Pace, Settled, Signer, Waited, Wish};
use crate::sources::SourceSetting;
use crate::state::{Published, State, StateError};

/// Where people stand who were entered with `local`.
const LOCAL: &str = "local";
/// How long a cycle that publishes is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Takes people away: they are on the list, on disk, before anything is published without them. Asked again it does what was
/// left undone. Gives as well what hosts are to be waited for.
pub(super) async fn revoke(
    setting: &Setting<'_>,
    request: &RevokeRequest,
    by: &str,
) -> anyhow::Result<(RevokeReply, Option<Awaited>)> {
    check(request)?;
    let access = setting.access()?;
    let mut reply = RevokeReply {
        revoked: request.names.clone(),
        classic: access.classic,
        ..RevokeReply::default()
    };
    let is_whole = take_away(setting, &access, request, by, &mut reply).await?;
    let mut awaited = None;
    if setting.config.signed.is_some() {
        let noted = settle(setting, request, is_whole, &mut reply).await;
        awaited = noted.unwrap_or_else(|error| {
            reply.problems.push(format!("{error:#}"));
            None
        });
    }
    reply.head = awaited.map(|awaited| awaited.version);
    look_for_locals(setting, &access, &mut reply).await;
    Ok((reply, awaited))
}

/// Is that a request that can be carried out?
fn check(request: &RevokeRequest) -> Result<(), RevokeError> {
    let wrong = |reason: String| Err(RevokeError::Malformed(reason));
    if !(1..=MOST_NAMES).contains(&request.names.len()) {
        return wrong(format!(
            "1 to {MOST_NAMES} names are taken, not {}",
            request.names.len()
        ));
    }
    for name in &request.names {
        if let Err(error) = Name::parse(name) {
            return wrong(format!("{name:?} is no login name of a host: {error}"));
        }
    }
    match &request.reason {
        // It is shown on terminals.
        Some(reason) if reason.len() > LONGEST_REASON || reason.chars().any(char::is_control) => wrong(format!(
            "the reason has more than {LONGEST_REASON} bytes, or characters that are no text"
        )),
        _ => Ok(()),
    }
}

/// Puts them on the list, and publishes everything without them. Is it without them everywhere, as far as it is signed?
async fn take_away(
    setting: &Setting<'_>,
    access: &Access,
    request: &RevokeRequest,
    by: &str,
    reply: &mut RevokeReply,
) -> anyhow::Result<bool> {
    // Until all of it is published nobody else publishes what was read before.
    let mut desk = desk(setting).await?;
    // That nothing can be signed is told once they are on the list.
    let signer = setting.signer().ok().flatten();
    let sources = setting.sources().into_iter();
    let sources = sources.map(|source| Known::of(source, signer.as_ref()));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let found = who(setting, &sources, &request.names)?;
    let unknown = request.names.iter().find(|name| !found.contains_key(*name));
    if let Some(name) = unknown.filter(|_| !request.unknown) {
        bail!(RevokeError::NotPublished(name.clone()));
    }
    for name in &request.names {
        desk.add(Revocation {
            name: name.clone(),
            identities: found.get(name).cloned().unwrap_or_default(),
            since: setting.clock.now(),
            by: Some(by.to_owned()),
            reason: request.reason.clone(),
            signed: None,
            agreed: BTreeMap::new(),
        })?;
        tracing::warn!(event = "user.revoked", user = name, by, "{name} was revoked by {by}");
    }
    let known = reply.problems.len();
    let places = places(setting, access, sources, &mut reply.problems)?;
    let mut is_whole = reply.problems.len() == known;
    for place in places {
        let name = place.name.clone();
        let left = match place.take_away(&desk).await {
            Ok(None) => continue,
            Ok(Some(gone)) => {
                reply.published.push(gone.took);
                gone.unpushed
            }
            Err(error) => {
                is_whole = false;
                Some(error)
            }
        };
        reply.problems.extend(left.map(|error| format!("{name}: {error:#}")));
    }
    Ok(is_whole)
}

/// The list, as soon as nobody else has it: whoever publishes a large directory does for seconds.
async fn desk(setting: &Setting<'_>) -> Result<Desk, RevokedError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match Desk::open(&setting.config.syncer.state_folder) {
            Err(error) if error.is_busy() && Instant::now() < end => tokio::time::sleep(LOOK_EVERY).await,
            done => return done,
        }
    }
}

/// What is published somewhere, as it is remembered here.
struct Known {
    name: String,
    state: State,
    names: NameRule,
    published: Option<Published>,
    /// What is published signed.
    document: Option<Document>,
}

impl Known {
    fn of(source: SourceSetting, signer: Option<&Signer>) -> Result<Self, StateError> {
        let state = State::at(&source.state_folder);
        // Both are as large as the directory, and somebody waits.
        let (published, document) = std::thread::scope(|scope| {
            let published = scope.spawn(|| state.published());
            // What is wrong with it is told by who reads it again.
            let text = signer.and_then(|signer| signed_text(signer, &source.name).ok().flatten());
            let document = text.and_then(|text| parse_snapshot(&text).ok());
            let published = published.join();
            (
                published.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                document,
            )
        });
        Ok(Self {
            name: source.name,
            published: published?,
            document,
            state,
            names: source.names,
        })
    }
}

/// Who bears these names in what is published.
fn who(
    setting: &Setting<'_>,
    sources: &[Known],
    names: &[String],
) -> anyhow::Result<BTreeMap<String, BTreeSet<Identity>>> {
    let mut found: BTreeMap<String, BTreeSet<Identity>> = BTreeMap::new();
    for source in sources {
        let users = source.published.iter().flat_map(|published| &published.shape.users);
        for (id, user) in users.filter(|(_, user)| names.contains(&user.name)) {
            found.entry(user.name.clone()).or_default().insert(Identity {
                source: source.name.clone(),
                id: id.clone(),
            });
        }
    }
    for own in Revocations::load(&setting.config.syncer.state_folder)?.iter() {
        if names.contains(&own.name) {
            found.entry(own.name.clone()).or_default();
        }
    }
    Ok(found)
}

/// Everything that is published. What is not known of an audience is told, and keeps nothing from the others.
fn places<'s>(
    setting: &'s Setting<'_>,
    access: &'s Access,
    mut all: Vec<Known>,
    problems: &mut Vec<String>,
) -> anyhow::Result<Vec<Place<'s>>> {
    for target in setting.audiences() {
        let state = State::at(&target.state_folder(&setting.config.syncer.state_folder));
        match state.published() {
            Ok(published) => all.push(Known {
                name: target.name,
                state,
                names: setting.config.names.clone(),
                published,
                document: None,
            }),
            Err(error) => problems.push(format!("{}: {error}", target.name)),
        }
    }
    let places = all.into_iter().map(|known| {
        Ok(Place {
            config: &setting.config,
            access,
            client: keys::client(&setting.config, &access.bearer, Some(&access.tenant))?,
            name: known.name,
            state: known.state,
            published: known.published,
            document: known.document,
            names: known.names,
            signer: setting.signer()?,
            clock: setting.clock.clone(),
        })
    });
    places.collect()
}

/// Signs what was published, and notes by which head hosts learn of it if what was stocked `is_whole`: the later of those of
/// these people.
async fn settle(
    setting: &Setting<'_>,
    request: &RevokeRequest,
    is_whole: bool,
    reply: &mut RevokeReply,
) -> anyhow::Result<Option<Awaited>> {
    let settled: Settled = setting.settle(Wish::default()).await?.unwrap_or_default();
    let is_whole = is_whole && settled.held.is_empty();
    reply.problems.extend(settled.problems);
    let book = setting.needed_signer()?.book()?;
    let mut desk = desk(setting).await?;
    // What could not be signed is not in this head.
    if is_whole {
        let signed = SignedHead {
            // A syncer that runs may have been faster.
            head: settled.head.unwrap_or(book.head),
            policy: book.policy,
            at: setting.clock.now(),
        };
        desk.note_head(&request.names, signed, !reply.published.is_empty())?;
    }
    let of_these = desk
        .revocations()
        .iter()
        .filter(|own| request.names.contains(&own.name));
    Ok(of_these.filter_map(awaited).max())
}

/// What hosts have to apply so that they know of it.
fn awaited(revocation: &Revocation) -> Option<Awaited> {
    revocation.signed.map(|signed| Awaited {
        version: signed.head,
        policy: signed.policy,
        signed_by: signed.at,
    })
}

/// Users that people entered with `local` are no source's.
async fn look_for_locals(setting: &Setting<'_>, access: &Access, reply: &mut RevokeReply) {
    let text = async {
        if !access.classic {
            return Ok(setting.needed_signer()?.stocked_text(&LOCAL.parse()?)?);
        }
        let client = keys::client(&setting.config, &access.bearer, Some(&access.tenant))?;
        Remote::new(client, LOCAL.parse()?, access).text_if_any().await
    };
    let text: anyhow::Result<Option<String>> = text.await;
    match text {
        Ok(text) => {
            let named = |name: &&String| {
                text.as_ref()
                    .is_some_and(|text| text.contains(&format!("\"username\":\"{name}\"")))
            };
            let stay = reply.revoked.iter().filter(named).map(|name| {
                format!("{name} is a local user as well, who stays: dirless-syncer local user remove {name}")
            });
            reply.problems.extend(stay);
        }
        Err(error) => reply
            .problems
            .push(format!("whether they are local users is not known: {error:#}")),
    }
}

/// How far hosts are.
#[derive(Debug)]
pub(super) struct Applied {
    /// None where they tell nobody.
    pub(super) hosts: Option<Waited>,
    /// What does not hold of those who may tell.
    problems: Vec<String>,
}

impl Applied {
    /// Is there a connected host that has not applied it?
    pub(super) fn is_behind(&self) -> bool {
        self.hosts.as_ref().is_some_and(|hosts| !hosts.behind.is_empty())
    }
}

/// How far hosts are, once all that are connected have applied it, or it is `until`.
pub(super) async fn applied(
    setting: &Setting<'_>,
    awaited: Awaited,
    pace: &mut Pace,
    until: Instant,
) -> anyhow::Result<Applied> {
    let signer = setting.needed_signer()?;
    let mut own = *pace;
    // Asking waits, and a runtime may not.
    let waited = tokio::task::spawn_blocking(move || {
        let mut problems = Vec::new();
        let hosts = signer.wait(awaited, &mut own, until, &mut problems)?;
        anyhow::Ok((Applied { hosts, problems }, own))
    });
    let (applied, own) = waited.await.context("waiting for hosts")??;
    *pace = own;
    Ok(applied)
}

/// Puts what came of waiting into `reply`.
pub(super) fn note_hosts<E: std::fmt::Display>(reply: &mut RevokeReply, applied: Result<Applied, E>) {
    match applied {
        Ok(applied) => {
            reply.problems.extend(applied.problems);
            if applied.hosts.is_none() {
                reply.problems.push(NOBODY_TELLS.to_owned());
            }
            reply.hosts = applied.hosts;
        }
        Err(error) => reply
            .problems
            .push(format!("what hosts have applied is not known: {error:#}")),
    }
}

/// Lets somebody come back.
pub(super) async fn restore(setting: &Setting<'_>, name: &str, by: &str) -> anyhow::Result<()> {
    let mut desk = desk(setting).await?;
    if desk.remove(name)?.is_none() {
        bail!(RevokeError::NotRevoked(name.to_owned()));
    }
    tracing::warn!(
        event = "user.restored",
        user = name,
        by,
        "the revocation of {name} was undone by {by}"
    );
    Ok(())
}

/// Who is revoked, and how far hosts are with each.
pub(super) async fn list(setting: &Setting<'_>) -> anyhow::Result<RevocationsReply> {
    let all = Revocations::load(&setting.config.syncer.state_folder)?;
    let mut reply = RevocationsReply {
        revocations: all.iter().map(shown).collect(),
        problems: Vec::new(),
    };
    let heads: BTreeSet<Awaited> = all.iter().filter_map(awaited).collect();
    if heads.is_empty() || setting.config.signed.is_none() {
        return Ok(reply);
    }
    let looked = async {
        let signer = setting.needed_signer()?;
        let looked = tokio::task::spawn_blocking(move || {
            let mut problems = Vec::new();
            let standings = signer.standings(heads, &mut problems)?;
            anyhow::Ok((standings.unwrap_or_default(), problems))
        });
        looked.await.context("asking for receipts")?
    };
    match looked.await {
        Ok((standings, problems)) => {
            reply.problems = problems;
            for (shown, own) in reply.revocations.iter_mut().zip(all.iter()) {
                shown.hosts = awaited(own).and_then(|awaited| standings.get(&awaited).cloned());
            }
        }
        Err(error) => reply
            .problems
            .push(format!("what hosts have applied is not known: {error:#}")),
    }
    Ok(reply)
}

/// One of them, and what hosts have to apply for it.
pub(super) fn one(setting: &Setting<'_>, name: &str) -> anyhow::Result<(RevocationReply, Option<Awaited>)> {
    let all = Revocations::load(&setting.config.syncer.state_folder)?;
    let own = all.iter().find(|own| own.name == name);
    let own = own.ok_or_else(|| RevokeError::NotRevoked(name.to_owned()))?;
    Ok((shown(own), awaited(own)))
}

fn shown(own: &Revocation) -> RevocationReply {
    let sources: BTreeSet<&str> = own.identities.iter().map(|own| own.source.as_str()).collect();
    let sources = sources.into_iter().map(|source| RevokedSource {
        name: source.to_owned(),
        agrees_since: own.agreed.get(source).copied(),
    });
    RevocationReply {
        name: own.name.clone(),
        since: own.since,
        by: own.by.clone(),
        reason: own.reason.clone(),
        sources: sources.collect(),
        head: own.signed.map(|signed| signed.head),
        hosts: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_reasons_are_checked() {
        let request = |names: &[&str], reason: Option<&str>| RevokeRequest {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            reason: reason.map(str::to_owned),
            ..RevokeRequest::default()
        };
        assert!(check(&request(&["alice", "b.c_d-1"], Some("left – for good"))).is_ok());
        for (wrong, told) in [
            (request(&[], None), "1 to 100"),
            (request(&["a"; MOST_NAMES + 1], None), "not 101"),
            (request(&["Alice"], None), "\"Alice\""),
            (request(&["a\nb"], None), "no login name"),
            (request(&["a"], Some("\u{1b}[2J")), "reason"),
            (request(&["a"], Some(&"x".repeat(LONGEST_REASON + 1))), "reason"),
        ] {
            let error = check(&wrong).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
