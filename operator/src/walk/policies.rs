//! Policies, from the first to the newest.

use dirless_seal::Note;
use dirless_seal::trust::{Memory, Object, Policy, Refusal, Seen, parse};
use jiff::Timestamp;

use super::source::{Source, read};
use super::{Pinned, Problem, Visitor, Walk};

impl<'a> Walk<'a> {
    pub(super) fn begin(
        source: &'a mut dyn Source,
        visitor: &'a mut dyn Visitor,
        pinned: Pinned<'a>,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let mut version = pinned.first.max(1);
        let mut path = format!("policy/{version}");
        let mut next = policy_note(source, &path)?;
        let claimed: Policy = match &next {
            Some((_, note)) => {
                parse(note).map_err(|error| Problem::refused(&path, &Refusal::Malformed("policy", error)))?
            }
            None => return Err(Problem::missing(&path)),
        };
        let (tenant, roots) = (
            pinned.tenant.unwrap_or(claimed.tenant),
            pinned.roots.unwrap_or(claimed.fingerprint()),
        );
        let mut memory = Memory::pinned(tenant, roots);
        let mut policy: Option<Policy> = None;
        let (mut policies, mut history) = (Vec::new(), Vec::new());
        while let Some((bytes, note)) = next {
            let accepted = memory.policy_after(policy.as_ref(), &note);
            let accepted = accepted.map_err(|refusal| Problem::refused(&path, &refusal))?;
            if accepted.version != version {
                return Err(Problem::new(
                    "mixed",
                    &path,
                    format!("it is policy {}", accepted.version),
                ));
            }
            visitor.object(&path, &bytes)?;
            policies.push(Seen {
                version,
                digest: note.digest(),
            });
            history.push(accepted.clone());
            policy = Some(accepted);
            version += 1;
            path = format!("policy/{version}");
            next = policy_note(source, &path)?;
        }
        let Some(policy) = policy else {
            return Err(Problem::missing(&path));
        };
        let path = format!("policy/{}", policy.version);
        visitor.tell(&path, format!("tenant {}", policy.tenant));
        let how = if pinned.roots.is_some() {
            "as pinned"
        } else {
            "compare it with the recovery sheet"
        };
        visitor.tell(&path, format!("roots of the first policy {roots}, {how}"));
        if policy.expires < now {
            visitor.tell(&path, format!("nobody renewed it by {}", policy.expires));
        }
        Ok(Self {
            source,
            visitor,
            pinned,
            now,
            memory,
            policies,
            history,
            policy,
            heads: Vec::new(),
            manifests: Vec::new(),
            lists: Vec::new(),
            keys: std::collections::BTreeMap::new(),
        })
    }
}

fn policy_note(source: &mut dyn Source, path: &str) -> Result<Option<(Vec<u8>, Note)>, Problem> {
    let Some(bytes) = read(source, path, Policy::MOST)? else {
        return Ok(None);
    };
    let note =
        Note::parse(&bytes, Policy::MOST).map_err(|error| Problem::refused(path, &Refusal::NoNote("policy", error)))?;
    Ok(Some((bytes, note)))
}
