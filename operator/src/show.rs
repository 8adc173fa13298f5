//! A policy for people, and for scripts.

use std::io::{self, Write};

use dirless_seal::VerifyingKey;
use dirless_seal::trust::Policy;
use serde_json::{Value, json};

use crate::draft::{Draft, Missing, Standing};
use crate::folder::Current;

/// Names with hash: a name alone says nothing.
fn short(key: &VerifyingKey) -> String {
    format!("{}+{}", key.name(), key.hash())
}

fn words<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if words.is_empty() {
        "nothing".to_owned()
    } else {
        words.join(" ")
    }
}

/// Writes what `policy` says.
pub(crate) fn policy(policy: &Policy, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "tenant       {}", policy.tenant)?;
    writeln!(out, "version      {}", policy.version)?;
    writeln!(out, "issued       {}", policy.issued)?;
    writeln!(out, "expires      {}", policy.expires)?;
    writeln!(out, "longest lease  {} s", policy.lease)?;
    writeln!(out, "fingerprint  {}", policy.fingerprint())?;
    writeln!(out, "roots        {} of {} sign", policy.threshold, policy.roots.len())?;
    for root in &policy.roots {
        writeln!(out, "  {root}")?;
    }
    for publisher in &policy.publishers {
        let scope = &publisher.scope;
        writeln!(out, "publisher    {}", publisher.key)?;
        writeln!(out, "  sources    {}", words(&scope.sources))?;
        writeln!(out, "  ids        {}", words(&scope.ids))?;
        writeln!(out, "  names      {}", words(&scope.names))?;
        writeln!(out, "  may state  {}", words(&scope.may))?;
    }
    for enroller in &policy.enrollers {
        writeln!(
            out,
            "enroller     {}\n  recipient  {}",
            enroller.key, enroller.recipient
        )?;
    }
    for recipient in &policy.recovery {
        writeln!(out, "recovery     {recipient}")?;
    }
    for compartment in &policy.compartments {
        writeln!(
            out,
            "compartment  {}: {} when its lease has run out",
            compartment.name, compartment.on_expiry
        )?;
    }
    Ok(())
}

/// Writes who signed and whose signatures are missing.
pub(crate) fn standing(standing: &Standing<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "signed by    {}",
        words(standing.signed.iter().map(|key| short(key)))
    )?;
    let missing = |missing: &Missing<'_>| {
        let of = words(missing.of.iter().map(|key| short(key)));
        format!("{} more of: {of}", missing.count)
    };
    if standing.own.count > 0 {
        writeln!(out, "missing      {}", missing(&standing.own))?;
    }
    match &standing.before {
        Some(before) if before.count > 0 => {
            writeln!(out, "missing      {} (roots of the policy in force)", missing(before))
        }
        _ => Ok(()),
    }
}

/// The lines that differ between two texts whose lines stand in one order: `-` gone, `+` new.
pub(crate) fn difference(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let gone = old
        .iter()
        .filter(|line| !new.contains(line))
        .map(|line| format!("- {line}\n"));
    let come = new
        .iter()
        .filter(|line| !old.contains(line))
        .map(|line| format!("+ {line}\n"));
    gone.chain(come).collect()
}

/// The policy in force and the draft, for a script.
pub(crate) fn as_json(current: Option<&Current>, draft: Option<&Draft>) -> Value {
    let in_force = current.map(|current| &current.policy);
    json!({
        "policy": current.map(|current| policy_json(&current.policy, &current.digest().to_string())),
        "draft": draft.map(|draft| {
            let standing = draft.standing(in_force);
            json!({
                "policy": policy_json(draft.policy(), &draft.note().digest().to_string()),
                "signed": standing.signed.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "missing": standing.own.count,
                "missing_of_roots_in_force": standing.before.map_or(0, |missing| missing.count),
            })
        }),
    })
}

fn policy_json(policy: &Policy, digest: &str) -> Value {
    let texts = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>();
    json!({
        "tenant": policy.tenant.to_string(),
        "version": policy.version,
        "digest": digest,
        "issued": policy.issued.to_string(),
        "expires": policy.expires.to_string(),
        "format": policy.format,
        "lease": policy.lease,
        "fingerprint": policy.fingerprint().to_string(),
        "threshold": policy.threshold,
        "roots": texts(&mut policy.roots.iter().map(ToString::to_string)),
        "publishers": policy.publishers.iter().map(|publisher| json!({
            "key": publisher.key.to_string(),
            "sources": texts(&mut publisher.scope.sources.iter().map(ToString::to_string)),
            "ids": texts(&mut publisher.scope.ids.iter().map(ToString::to_string)),
            "names": texts(&mut publisher.scope.names.iter().map(ToString::to_string)),
            "may": texts(&mut publisher.scope.may.iter().map(ToString::to_string)),
        })).collect::<Vec<_>>(),
        "enrollers": policy.enrollers.iter().map(|enroller| json!({
            "key": enroller.key.to_string(),
            "recipient": enroller.recipient.to_string(),
        })).collect::<Vec<_>>(),
        "recovery": texts(&mut policy.recovery.iter().map(ToString::to_string)),
        "compartments": policy.compartments.iter().map(|compartment| json!({
            "name": compartment.name.to_string(),
            "on_expiry": compartment.on_expiry.to_string(),
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_what_went_and_what_came() {
        assert_eq!(difference("a\nb\nc\n", "a\nd\nc\n"), "- b\n+ d\n");
        assert_eq!(difference("a\n", "a\n"), "");
    }
}
