//! Changes of the policy's draft, a command for each thing that stands in a policy.

pub(crate) mod compartment;
pub(crate) mod enroller;
pub(crate) mod publisher;
pub(crate) mod recovery;
pub(crate) mod root;

use dirless_seal::trust::Policy;
use jiff::Timestamp;

use crate::at::At;
use crate::draft::Draft;
use crate::folder::{Current, Folder};
use crate::options::whole_seconds;
use crate::{Surroundings, show};

/// The policy in force, and the draft of the next: a new one when none was begun, or when it does not continue.
pub(crate) fn begin(folder: &Folder, now: Timestamp) -> anyhow::Result<(Current, Policy)> {
    let current = folder.current()?;
    let policy = match folder.draft()? {
        Some(draft) if draft.continues(&current) => draft.policy().clone(),
        Some(draft) => anyhow::bail!(
            "the draft of version {} does not continue policy {}, which is in force; drop it: dirless policy drop {}",
            draft.policy().version,
            current.policy.version,
            folder.name()
        ),
        None => current.next(now)?,
    };
    Ok((current, policy))
}

/// Keeps `policy` as the draft, when it is well-formed, and says what to do next.
pub(crate) fn keep(
    folder: &Folder,
    current: &Current,
    policy: &Policy,
    surroundings: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    let draft = Draft::new(policy)
        .map_err(|error| anyhow::Error::new(error).context("the change is refused, and the draft is as it was"))?;
    if !draft.continues(current) {
        anyhow::bail!("tenant, version and previous follow from the policy in force; leave them as they are");
    }
    let lost = folder.draft()?.is_some_and(|before| {
        before.note().text() != draft.note().text() && !before.standing(Some(&current.policy)).signed.is_empty()
    });
    folder.keep(&draft)?;
    let out = &mut surroundings.out;
    write!(out, "{}", show::difference(&current.text(), draft.note().text()))?;
    if lost {
        writeln!(out, "the signatures under the draft before are void")?;
    }
    writeln!(out, "next: dirless policy sign {} --key FILE", folder.name())?;
    Ok(())
}

/// One change, from the policy before to the draft after.
fn change(
    at: &At,
    surroundings: &mut Surroundings<'_>,
    edit: impl FnOnce(&mut Policy) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = at.open(surroundings)?;
    let (current, mut policy) = begin(&folder, whole_seconds(surroundings.clock.now()))?;
    edit(&mut policy)?;
    // One order, whatever was added: what a reader wants.
    policy
        .publishers
        .sort_by(|left, right| left.key.name().cmp(right.key.name()));
    policy
        .enrollers
        .sort_by(|left, right| left.key.name().cmp(right.key.name()));
    policy.recovery.sort_by(|left, right| left.as_str().cmp(right.as_str()));
    policy.compartments.sort_by(|left, right| left.name.cmp(&right.name));
    keep(&folder, &current, &policy, surroundings)
}

/// Removes the items that `gone` names; `what` is told when there is none.
fn remove<T>(items: &mut Vec<T>, what: &str, gone: impl Fn(&T) -> bool) -> anyhow::Result<()> {
    let before = items.len();
    items.retain(|item| !gone(item));
    if items.len() == before {
        anyhow::bail!("the policy has no {what}; look at it with: dirless policy show");
    }
    Ok(())
}
