//! The lines of a receipt that say what a node applied: all that a backend reads of it. Pure.

use dirless_wire::trust::{Digest, Label, Version};

/// The first line of a receipt.
const CONTEXT: &str = "dirless/receipt/v1";

/// Most lines of one receipt that say what was applied: a policy and as many publishers as a policy may have.
const SAID: usize = 33;

/// One line of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// `policy` or `head/PUBLISHER`.
    pub(super) about: Box<str>,
    pub(super) version: Version,
    pub(super) digest: Digest,
}

impl Said {
    /// What the text of a receipt says that was applied; nothing for other texts.
    pub(super) fn all_of(receipt: &[u8]) -> Vec<Self> {
        let text = std::str::from_utf8(receipt).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(CONTEXT) {
            return Vec::new();
        }
        lines
            .take_while(|line| !line.is_empty())
            .filter_map(Self::of_line)
            .take(SAID)
            .collect()
    }

    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let about = match words.next()? {
            "policy" => "policy".to_owned(),
            "head" => format!("head/{}", Label::new(words.next()?).ok()?),
            _ => return None,
        };
        let said = Self {
            about: about.into(),
            version: words.next()?.parse().ok()?,
            digest: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_read_and_nothing_else() {
        let digest = "0a".repeat(32);
        let text = format!(
            "{CONTEXT}\ntenant {digest}\nnode n1\nissued 2026-01-01T00:00:00Z\npolicy 3 {digest}\nhead syncer 7 {digest}\n\
             head bad 0 {digest}\nhead worse 1\nhead more 1 {digest} 1\ngeneration 4\n\nhead late 9 {digest}\n— n1 AAAA\n"
        );
        let said = Said::all_of(text.as_bytes());
        let seen: Vec<_> = said.iter().map(|said| (&*said.about, said.version.get())).collect();
        assert_eq!(seen, [("policy", 3), ("head/syncer", 7)]);
        assert_eq!(said[0].digest.to_string(), digest);
        for other in [
            &b"second"[..],
            b"",
            b"\xff\xfe",
            text.replace("receipt", "head").as_bytes(),
        ] {
            assert_eq!(Said::all_of(other), []);
        }
        let many = format!("{CONTEXT}\n{}", format!("policy 3 {digest}\n").repeat(100));
        assert_eq!(Said::all_of(many.as_bytes()).len(), SAID);
    }
}
