//! Whether a tenant's access rules are signed.

use dirless_seal::trust::{Head, parse};

use super::ACCESS_RULES;
use super::keeper::{Keeper, KeeperError};

/// Do access rules that nobody signed count on a host that joined? Only while there are no signed ones: every publisher that the
/// policy lets make some has a head here, none of these names any, in whatever compartment, and none were ever accepted.
///
/// Otherwise whoever serves the files could hold back the signed ones, and have the host go by what somebody wrote before it
/// joined, or by none at all.
///
/// # Errors
/// When what this host keeps cannot be used.
pub fn unsigned_rules_count(keeper: &Keeper) -> Result<bool, KeeperError> {
    let memory = keeper.memory()?;
    let Some(policy) = keeper.policy(&memory)? else {
        return Ok(false);
    };
    if memory.sources().iter().any(|source| source.as_str() == ACCESS_RULES) {
        return Ok(false);
    }
    for publisher in &policy.publishers {
        let sources = &publisher.scope.sources;
        if !sources.iter().any(|source| source.as_str() == ACCESS_RULES) {
            continue;
        }
        let name = publisher.key.name();
        let mut heads = memory.heads();
        let accepted = heads.find_map(|(own, seen)| (own == name).then_some(seen.digest));
        let kept = keeper.head(name)?.filter(|note| Some(note.digest()) == accepted);
        let head = kept.and_then(|note| parse::<Head>(&note).ok());
        let names = |head: &Head| head.entries.iter().any(|entry| entry.source.as_str() == ACCESS_RULES);
        if head.is_none_or(|head| names(&head)) {
            return Ok(false);
        }
    }
    Ok(true)
}
