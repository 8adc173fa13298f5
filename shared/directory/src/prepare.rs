//! String preparation for matching (RFC 4518): what makes "Engineering  Team" equal to
//! "engineering team" under `caseIgnoreMatch`.
//!
//! Prohibited characters (section 2.4) compare as they stand: directories hold such values, and
//! matching gives an answer for any stored one.

use unicode_normalization::UnicodeNormalization;

/// Whether letters of different case are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `caseExactMatch` and its kin.
    Exact,
    /// `caseIgnoreMatch` and its kin.
    Ignore,
}

/// Prepares a whole value: maps, folds case, normalises (NFKC), and makes each inner run of blanks
/// one blank and leading and trailing ones none (section 2.6.1, without the padding that only
/// substring matching needs).
#[must_use]
pub fn prepare(text: &str, case: Case) -> String {
    let mut has_blanks = false;
    let is_plain = text.bytes().all(|byte| {
        has_blanks |= byte == b' ';
        byte.is_ascii_graphic() || byte == b' '
    });
    if !is_plain {
        return squeeze(&map(text, case));
    }
    // Most values are names and numbers: nothing to map or normalise.
    let mut prepared = if has_blanks { squeeze(text) } else { text.to_owned() };
    if case == Case::Ignore {
        prepared.make_ascii_lowercase();
    }
    prepared
}

/// Prepares one piece of a substring assertion: as [`prepare`], but a blank at either end stays one
/// blank when the piece has a neighbour there (section 2.6.1).
#[must_use]
pub fn prepare_piece(text: &str, case: Case, first: bool, last: bool) -> String {
    let mapped = map(text, case);
    let squeezed = squeeze(&mapped);
    let mut piece = String::with_capacity(squeezed.len() + 2);
    if !first && mapped.starts_with(' ') {
        piece.push(' ');
    }
    piece.push_str(&squeezed);
    let only_a_blank = squeezed.is_empty() && !piece.is_empty();
    if !last && mapped.ends_with(' ') && !only_a_blank {
        piece.push(' ');
    }
    piece
}

/// Steps 2 and 3: mapping (section 2.2) and NFKC.
fn map(text: &str, case: Case) -> String {
    let mapped = text.chars().filter_map(|c| match c {
        // Soft hyphen, joiners, variation selectors, tags and the other code points mapped to nothing.
        '\u{ad}'
        | '\u{34f}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{1806}'
        | '\u{180b}'..='\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2063}'
        | '\u{206a}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffc}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0001}'
        | '\u{e0020}'..='\u{e007f}' => None,
        '\t'..='\r' | '\u{85}' => Some(' '),
        _ if c.is_whitespace() => Some(' '),
        _ if c.is_control() => None,
        _ => Some(c),
    });
    match case {
        Case::Exact => mapped.nfkc().collect(),
        // Lower-casing, normalising and lower-casing again reaches a fixed point for the characters
        // whose compatibility form is upper case.
        Case::Ignore => mapped
            .flat_map(char::to_lowercase)
            .nfkc()
            .flat_map(char::to_lowercase)
            .nfkc()
            .collect(),
    }
}

fn squeeze(text: &str) -> String {
    let mut squeezed = String::with_capacity(text.len());
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !squeezed.is_empty() {
            squeezed.push(' ');
        }
        squeezed.push_str(word);
    }
    squeezed
}

/// Prepares a telephone number (section 2.6.3) or a numeric string (section 2.6.2): blanks, and for a
/// telephone number hyphens too, are insignificant.
#[must_use]
pub fn prepare_number(text: &str, drop_hyphens: bool) -> String {
    prepare(text, Case::Ignore)
        .chars()
        .filter(|c| *c != ' ' && !(drop_hyphens && is_hyphen(*c)))
        .collect()
}

fn is_hyphen(c: char) -> bool {
    matches!(
        c,
        '-' | '\u{58a}' | '\u{2010}' | '\u{2011}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_blanks_and_width_do_not_matter_where_case_is_ignored() {
        let same = [
            "Engineering Team",
            "  engineering   TEAM ",
            "ENGINEERING\u{a0}\tteam",
            "Ｅngineering\u{ad} Team",
            "engineering\u{e0041}\u{e0001} te\u{180e}am\u{fffb}",
        ];
        for text in same {
            assert_eq!(prepare(text, Case::Ignore), "engineering team", "{text:?}");
        }
        assert_ne!(prepare("Team", Case::Exact), prepare("team", Case::Exact));
        assert_eq!(prepare("Å", Case::Ignore), prepare("a\u{30a}", Case::Ignore));
        assert_eq!(prepare("   ", Case::Ignore), "");
    }

    #[test]
    fn pieces_keep_the_blank_towards_their_neighbours() {
        assert_eq!(prepare_piece("ada ", Case::Ignore, true, false), "ada ");
        assert_eq!(prepare_piece(" love  lace ", Case::Ignore, false, true), " love lace");
        assert_eq!(prepare_piece("  ", Case::Ignore, false, false), " ");
        assert_eq!(prepare_piece(" x ", Case::Ignore, true, true), "x");
    }

    #[test]
    fn numbers_lose_their_punctuation() {
        assert_eq!(prepare_number("+1 555-01 23", true), "+15550123");
        assert_eq!(prepare_number("12 34", false), "1234");
    }

    proptest! {
        #[test]
        fn preparing_twice_changes_nothing(text in "\\PC{0,40}") {
            for case in [Case::Exact, Case::Ignore] {
                let once = prepare(&text, case);
                prop_assert_eq!(prepare(&once, case), once);
            }
        }

        #[test]
        fn plain_text_is_prepared_as_any_other(text in "[ -~é\t]{0,20}") {
            for case in [Case::Exact, Case::Ignore] {
                prop_assert_eq!(prepare(&text, case), squeeze(&map(&text, case)));
            }
        }
    }
}
