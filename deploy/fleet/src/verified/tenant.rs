//! The tenant that hosts of the verified protocol have joined: policy, enroller and publisher with the code that publishes in
//! earnest, and one person after the other who changes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use dirless_client::{Client, Timeouts};
use dirless_program::{Clock, Secret};
use dirless_publish::{
    Awaited, BackendFolder, Custody, DiskFolder, Folder as _, Kind, NewCode, Pace, Registry as _, SignedConfig, Signer,
    Waited, Wish, content_root, request_key,
};
use dirless_seal::trust::{
    Compartment, Enroller, JoinCode, JoinRequest, OnExpiry, Policy, Publisher, Right, Scope, node_name, print,
};
use dirless_seal::{Digest, Identity, Label, Note, SigningKey, seal_file};
use dirless_wire::TenantId;
use dirless_wire::trust::{CredentialRequest, KeyRole, SignedRequest, Time};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::doorstep::Doorstep;
use super::{Joined, Node, read, whole_second};
use crate::event::{Mark, mark_of};
use crate::people::{People, name};
use crate::reach::towards;

/// Hosts that are registered at a time.
const AT_ONCE: usize = 64;
/// How long anything may be refused before it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rest before it is tried again.
const REST: Duration = Duration::from_millis(20);
/// How often it is looked whether a head is due: they are signed each minute.
const LOOK: Duration = Duration::from_secs(5);
const SOURCE: &str = "fleet";
/// How long a backend may take for a base: that of a million people is long.
const SLOW: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    call: Duration::from_secs(30),
    fetch: Duration::from_secs(600),
    probe: Duration::from_secs(5),
    silence: Duration::from_secs(30),
};

/// What a tenant is founded with.
#[derive(Debug)]
pub(crate) struct Founding<'a> {
    /// Addresses of its backends.
    pub(crate) urls: &'a [String],
    /// An operator's token.
    pub(crate) token: Secret,
    /// A folder for what is private.
    pub(crate) folder: &'a Path,
    /// How many hosts.
    pub(crate) hosts: usize,
    /// How many people.
    pub(crate) users: usize,
    /// Heads are signed each minute.
    pub(crate) minutes: bool,
}

/// Somebody who changed.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    pub(crate) name: String,
    /// Their full name now.
    pub(crate) full_name: String,
}

/// Somebody who left.
#[derive(Debug)]
pub(crate) struct Revoked {
    /// From the new snapshot to the acknowledgement.
    pub(crate) published: Duration,
    /// How far hosts said they were in the end, with what it took from the new snapshot until the last had said so.
    pub(crate) hosts: Waited,
}

/// A tenant with its publisher.
#[derive(Debug)]
pub(crate) struct Tenant {
    id: Digest,
    joined: Joined,
    signer: Arc<Signer>,
    /// Who they are, and who changes next.
    people: Mutex<(People, usize)>,
    /// The mark of what it was founded with.
    first: Option<Mark>,
    /// The keys of a host.
    listener: Node,
    /// Ends with this.
    minutes: JoinSet<()>,
}

fn a_label(text: &str) -> Label {
    text.parse().expect("a short word is a label")
}

impl Tenant {
    /// Founds a tenant, lets all hosts in and publishes its people.
    pub(crate) async fn found(founding: Founding<'_>) -> anyhow::Result<Self> {
        let Founding {
            urls,
            token,
            folder,
            hosts,
            users,
            minutes,
        } = founding;
        let keys = Custody::generate(&a_label("syncer-1"))?;
        let root = SigningKey::generate(a_label("root-1")).map_err(|_| anyhow!("there is no randomness"))?;
        let id = Digest::of(root.verifying().as_bytes());
        let policy = policy(id, &root, &keys)?;
        let first = urls.first().context("a tenant without a backend")?;
        let tenant_name = id.to_string();
        let operator = towards([first.as_str()], &tenant_name)?.bearer(token).build()?;
        let own = keys.publisher.renamed(keys.publisher.verifying().name().clone());
        let publisher = own.verifying().clone();
        let client = towards(urls.iter().map(String::as_str), &tenant_name)?.timeouts(SLOW);
        let client = client.key(request_key(&own)?).build()?;
        let nodes = new_nodes(hosts)?;
        let file = folder.join("nodes");
        keep(&nodes, &file)?;
        let joined = Joined {
            tenant: tenant_name,
            roots: policy.fingerprint().to_string(),
            publisher: publisher.name().to_string(),
            nodes: file,
        };
        let note = Note::sign(print(&policy)?, &[&root])?;
        // The backend that has just heard of them is asked until all know them. Connections of one runtime are none of another.
        let at_first = || {
            let builder = towards([first.as_str()], &joined.tenant)?.key(request_key(&own)?);
            anyhow::Ok(builder.build()?)
        };
        let by_publisher = at_first()?;
        let door = tokio::task::spawn_blocking(move || {
            let operator = BackendFolder::new(operator)?;
            operator.make_tenant().context("making the tenant")?;
            operator
                .register_publisher(&publisher)
                .context("registering the publisher")?;
            let backend = BackendFolder::new(by_publisher)?;
            backend.create(&[("policy/1".to_owned(), note.to_string().into_bytes())])?;
            anyhow::Ok(BackendFolder::new(client)?)
        });
        let names = nodes.iter().map(|node| node.key.verifying().name().clone()).collect();
        let door = Arc::new(Doorstep::of(door.await??, names));
        let publishes = async |client: Client| client.cycle().get_receipts(None).await.map(drop);
        known_everywhere(urls, &joined.tenant, &own, publishes).await?;
        register(&at_first()?, &nodes).await?;
        let config: SignedConfig = serde_json::from_value(json!({"urls": [first], "roots": joined.roots}))?;
        let signer = Arc::new(Signer::over(
            config,
            id,
            keys,
            Arc::new(DiskFolder::private(&folder.join("state"))),
            Arc::clone(&door) as Arc<dyn dirless_publish::Folder>,
            Clock::system(),
        ));
        let (signing, at) = (Arc::clone(&signer), Arc::clone(&door));
        let listener = tokio::task::spawn_blocking(move || let_in(&signing, &at, nodes));
        let listener = listener.await??;
        let mut tenant = Self {
            id,
            joined,
            signer,
            people: Mutex::new((People::new(users), 0)),
            first: None,
            listener,
            minutes: JoinSet::new(),
        };
        let mut first = None;
        tenant.change(|mark| first = Some(mark)).await?;
        tenant.first = first;
        let listens = async |client: Client| client.cycle().post_receipt(None).await.map(drop);
        known_everywhere(urls, &tenant.joined.tenant, &tenant.listener.key, listens).await?;
        if minutes {
            tenant.minutes.spawn(each_minute(Arc::clone(&tenant.signer)));
        }
        Ok(tenant)
    }

    /// The mark of all records that it was founded with.
    pub(crate) fn first(&self) -> Option<Mark> {
        self.first
    }

    /// What its hosts have joined.
    pub(crate) fn joined(&self) -> Joined {
        self.joined.clone()
    }

    /// The request of a host that only listens.
    pub(crate) fn listening(&self) -> anyhow::Result<Vec<u8>> {
        let tenant = TenantId::new(&self.id.to_string())?;
        let path = format!("/v2/{tenant}/watch");
        let seconds = u64::try_from(whole_second(&Clock::system()).as_second())?;
        let time = Time::from_unix_seconds(seconds)?;
        let nothing = dirless_wire::trust::Digest::from_bytes(*Digest::of(b"").as_bytes());
        let text = SignedRequest::text("GET", &path, &tenant, &time, &nothing);
        let request = SignedRequest {
            key: request_key(&self.listener.key)?.id().clone(),
            time,
            signature: self.listener.key.sign(text.as_bytes()).try_into().unwrap_or([0; 64]),
        };
        Ok(format!("GET {path} HTTP/1.1\r\nhost: fleet\r\nauthorization: {request}\r\n\r\n").into_bytes())
    }

    /// A code for one host that joins as in earnest, and finds the tenant at `url`.
    pub(crate) async fn code(&self, url: &str) -> anyhow::Result<Secret> {
        let (signer, new) = (Arc::clone(&self.signer), new_code(1, url));
        let code = tokio::task::spawn_blocking(move || signer.enroller().create_code(&new));
        Ok(Secret::new(code.await??.expose()?.to_string()))
    }

    /// Does what is due; with `head`, a head is signed anyway. How many hosts were let in.
    pub(crate) async fn settle(&self, head: bool) -> anyhow::Result<usize> {
        let signer = Arc::clone(&self.signer);
        let wish = Wish {
            head,
            ..Wish::default()
        };
        let settled = tokio::task::spawn_blocking(move || signer.settle(&wish)).await??;
        Ok(settled.admitted.len())
    }

    /// Publishes the people after the next one of them changed: who, and what that took from the new snapshot to
    /// the acknowledgement. `before` is called with the mark of all records first.
    pub(crate) async fn change(&self, before: impl FnOnce(Mark)) -> anyhow::Result<(Changed, Duration)> {
        let (plaintext, says, changed) = self.next_person()?;
        let began = self.publish(plaintext, says, before).await?.0;
        Ok((changed, began.elapsed()))
    }

    /// Publishes the people after one of them left, and waits until all connected hosts say that they have it, as
    /// `dirless revoke --wait` does. `before` is called with the mark of all records first.
    pub(crate) async fn revoke(&self, before: impl FnOnce(Mark)) -> anyhow::Result<Revoked> {
        let (plaintext, says) = {
            let mut people = self.people();
            let (people, next) = &mut *people;
            people.leave().context("somebody has to stay")?;
            *next += 1;
            (people.snapshot(), format!("{next}"))
        };
        let (began, head) = self.publish(plaintext, says, before).await?;
        let published = began.elapsed();
        let (signer, until) = (Arc::clone(&self.signer), Instant::now() + PATIENCE);
        let waited = tokio::task::spawn_blocking(move || {
            let book = signer.book()?;
            let awaited = Awaited {
                // Whoever signs each minute may have been faster.
                version: head.unwrap_or(book.head),
                policy: book.policy,
                signed_by: Clock::system().now(),
            };
            signer.wait(awaited, &mut Pace::since(began), until, &mut Vec::new())
        });
        let hosts = waited.await??.context("nobody reports to a folder")?;
        Ok(Revoked { published, hosts })
    }

    /// When it began, and the head that was signed for it.
    async fn publish(
        &self,
        plaintext: Vec<u8>,
        says: String,
        before: impl FnOnce(Mark),
    ) -> anyhow::Result<(Instant, Option<u64>)> {
        let root = content_root(Kind::Snapshot, plaintext.as_slice()).map_err(|reason| anyhow!(reason))?;
        before(mark_of(root.as_bytes()));
        let (began, plaintext) = (Instant::now(), Arc::new(plaintext));
        loop {
            let (signer, plaintext, says) = (Arc::clone(&self.signer), Arc::clone(&plaintext), says.clone());
            let published = tokio::task::spawn_blocking(move || {
                signer.stock(&a_label(SOURCE), Kind::Snapshot, &says, &plaintext)?;
                signer.settle(&Wish::default())
            });
            match published.await? {
                Ok(settled) if settled.problems.is_empty() => return Ok((began, settled.head)),
                // As publishers do: what is under way passes.
                _ if began.elapsed() < PATIENCE => tokio::time::sleep(REST).await,
                Ok(settled) => bail!("publishing: {}", settled.problems.join("; ")),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn people(&self) -> MutexGuard<'_, (People, usize)> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_person(&self) -> anyhow::Result<(Vec<u8>, String, Changed)> {
        let mut people = self.people();
        let (people, next) = &mut *people;
        let there = people.there().count().max(1);
        let number = people.there().nth(*next % there).context("nobody is left")?;
        *next += 1;
        let changed = Changed {
            full_name: people.change(number),
            name: name(number),
        };
        Ok((people.snapshot(), format!("{next}"), changed))
    }
}

/// The backends that were not asked hear of keys a moment later: until each answers what the owner of this one may `ask`.
async fn known_everywhere(
    urls: &[String],
    tenant: &str,
    key: &SigningKey,
    ask: impl AsyncFn(Client) -> Result<(), dirless_client::Error>,
) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    for url in urls {
        let client = towards([url.as_str()], tenant)?.key(request_key(key)?).build()?;
        while let Err(error) = ask(client.clone()).await {
            if Instant::now() > until {
                let name = key.verifying().name();
                return Err(error).with_context(|| format!("{url} does not know {name}"));
            }
            tokio::time::sleep(REST).await;
        }
    }
    Ok(())
}

/// Signs a head when one is due. What fails now is tried again soon.
async fn each_minute(signer: Arc<Signer>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let signer = Arc::clone(&signer);
        let looked = tokio::task::spawn_blocking(move || match signer.is_due() {
            Ok(true) => signer.settle(&Wish::default()).map(drop),
            other => other.map(drop),
        });
        let _tried = looked.await;
    }
}

fn policy(tenant: Digest, root: &SigningKey, keys: &Custody) -> anyhow::Result<Policy> {
    let (public, issued) = (keys.public(), whole_second(&Clock::system()));
    Ok(Policy {
        tenant,
        version: 1,
        previous: None,
        issued,
        expires: issued + SignedDuration::from_hours(24 * 30),
        format: 1,
        lease: 86_400,
        threshold: 1,
        roots: [root.verifying().clone()].into(),
        publishers: vec![Publisher {
            key: public.publisher,
            scope: Scope {
                sources: [a_label(SOURCE)].into(),
                ids: vec![read("1000-2147483647")?],
                names: vec![read("*")?],
                may: BTreeSet::from(Right::ALL),
            },
        }],
        enrollers: vec![Enroller {
            key: public.enroller,
            recipient: public.recipient,
        }],
        recovery: vec![],
        compartments: vec![Compartment {
            name: a_label("all"),
            on_expiry: OnExpiry::Serve,
        }],
    })
}

fn new_code(uses: u32, url: &str) -> NewCode {
    NewCode {
        compartments: [a_label("all")].into(),
        hosts: BTreeSet::new(),
        uses,
        expires: whole_second(&Clock::system()) + SignedDuration::from_hours(1),
        url: url.to_owned(),
    }
}

fn new_nodes(hosts: usize) -> anyhow::Result<Vec<Node>> {
    let node = |_| {
        let key = SigningKey::generate(a_label("new")).map_err(|_| anyhow!("there is no randomness"))?;
        Ok(Node {
            key: key.renamed(node_name(key.verifying().as_bytes())),
            identity: Identity::generate(),
        })
    };
    (0..hosts.max(1)).map(node).collect()
}

/// A line for each, for the processes that play them.
fn keep(nodes: &[Node], file: &Path) -> anyhow::Result<()> {
    let mut text = Zeroizing::new(String::new());
    for node in nodes {
        text.push_str(&node.key.expose());
        text.push(' ');
        text.push_str(&node.identity.expose());
        text.push('\n');
    }
    Ok(dirless_program::fs::publish(file, 0o600, text.as_bytes())?)
}

/// Lets these ask the backend.
async fn register(client: &Client, nodes: &[Node]) -> anyhow::Result<()> {
    let mut asking = JoinSet::new();
    for node in nodes {
        if asking.len() >= AT_ONCE {
            asking.join_next().await.transpose()?.transpose()?;
        }
        let credential = CredentialRequest {
            key: read(&node.key.verifying().to_string())?,
            role: KeyRole::Node,
            expires_at: None,
        };
        let client = client.clone();
        asking.spawn(async move { client.cycle().put_credential(&credential).await });
    }
    while let Some(asked) = asking.join_next().await {
        asked?.context("registering a host")?;
    }
    Ok(())
}

/// Has the enroller let all of them in, and gives one of them back.
fn let_in(signer: &Signer, door: &Doorstep, mut nodes: Vec<Node>) -> anyhow::Result<Node> {
    let uses = u32::try_from(nodes.len())?;
    let code = signer.enroller().create_code(&new_code(uses, "https://fleet"))?;
    for (number, node) in nodes.iter().enumerate() {
        door.post(&code.code, ask(signer, &code, number, node)?);
    }
    let mut admitted = 0;
    while admitted < nodes.len() {
        let settled = signer.settle(&Wish::default())?;
        if settled.admitted.is_empty() {
            bail!("hosts were not let in: {:?} {:?}", settled.refused, settled.problems);
        }
        admitted += settled.admitted.len();
    }
    nodes.pop().context("a tenant has one host at least")
}

fn ask(signer: &Signer, code: &JoinCode, number: usize, node: &Node) -> anyhow::Result<Vec<u8>> {
    let now: Timestamp = whole_second(&Clock::system());
    let request = JoinRequest::ask(
        code,
        now,
        &format!("host-{number}"),
        &node.key,
        &node.identity.recipient(),
    )?;
    let mut sealed = Vec::new();
    seal_file(&[&signer.enroller().recipient()], &mut sealed, |out| {
        out.write_all(request.to_string().as_bytes())
    })?;
    Ok(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_their_number() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = new_nodes(3).unwrap();
        let file = folder.path().join("nodes");
        keep(&nodes, &file).unwrap();
        let digest = Digest::of(b"x").to_string();
        let joined = Joined {
            tenant: digest.clone(),
            roots: digest,
            publisher: "p".to_owned(),
            nodes: file,
        };
        let membership = super::super::Membership::of(&joined).unwrap();
        for (number, node) in nodes.iter().enumerate() {
            let found = membership.node(number).unwrap();
            assert_eq!(found.key.verifying(), node.key.verifying());
            assert_eq!(found.identity.recipient(), node.identity.recipient());
        }
        assert!(membership.node(3).is_err());
    }
}
