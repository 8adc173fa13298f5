//! The recovery sheet: what is printed and put into the safe.

use std::fmt::Write as _;

use dirless_seal::SigningKey;
use dirless_seal::trust::Policy;

/// What whoever begins again with nothing but paper has to know. No secret stands in it, but with `secrets`.
pub(crate) fn text(policy: &Policy, secrets: Option<&[SigningKey]>) -> String {
    let mut text = String::from("DIRLESS RECOVERY SHEET\n\n");
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    };
    line(format_args!("tenant            {}", policy.tenant));
    line(format_args!("root fingerprint  {}", policy.fingerprint()));
    line(format_args!("made              {}", policy.issued));
    line(format_args!(
        "threshold         {} of {} root keys sign a policy",
        policy.threshold,
        policy.roots.len()
    ));
    line(format_args!(
        "\nRoot keys, each in a file of its own under a passphrase of its own:\n"
    ));
    for root in &policy.roots {
        line(format_args!("  {root}"));
        line(format_args!("    file:                        held by:\n"));
    }
    if !policy.recovery.is_empty() {
        line(format_args!("Recovery recipients, who can open everything:\n"));
        for recipient in &policy.recovery {
            line(format_args!("  {recipient}"));
            line(format_args!("    file:                        held by:\n"));
        }
    }
    line(format_args!(
        "Keep root keys on no machine that is on a network, never two at one place, and this sheet apart from all of\n\
         them. Hosts believe whoever holds {} root keys, and nobody else; without that many nothing can be changed any\n\
         more, and every host has to join anew.\n\n\
         To use it: dirless policy sign FOLDER --key FILE; to check a copy: dirless verify FOLDER --roots {}",
        policy.threshold,
        policy.fingerprint()
    ));
    if let Some(keys) = secrets {
        line(format_args!("\nSECRET. Whoever reads these lines has the keys:\n"));
        for key in keys {
            line(format_args!("  {}", key.expose().as_str()));
        }
    }
    text
}
