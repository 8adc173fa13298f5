//! `/etc/nsswitch.conf` (nsswitch.conf(5)) edited in place: one word in, one word out, everything
//! else byte for byte as the administrator left it. Pure text in, text out.

use std::collections::BTreeSet;

/// The service name that glibc turns into `libnss_dirless.so.2`.
const SERVICE: &str = "dirless";

/// Databases that get the service, with what glibc uses when the file has no line for them.
/// `initgroups` has no line on most hosts and then follows `group`, so it is edited but never added.
const DATABASES: [(&str, bool); 4] = [
    ("passwd", true),
    ("group", true),
    ("shadow", true),
    ("initgroups", false),
];

/// What an edit added, so that removal takes back exactly that.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// Databases whose existing lines got the service.
    pub edited: BTreeSet<String>,
    /// Databases that had no line and got one.
    pub lines: BTreeSet<String>,
    /// A line end had to be put behind the file's last line first.
    pub line_end: bool,
    /// Inserted texts, a database each: `" dirless"`, or with the actions of the service before.
    pub words: std::collections::BTreeMap<String, String>,
}

impl Added {
    /// Whether the edit changed anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edited.is_empty() && self.lines.is_empty()
    }
}

/// Adds the service after `files` (or `compat`) in every line of the four databases, and a line
/// for `passwd`, `group` and `shadow` where there is none. A line that has it already is left.
#[must_use]
pub fn add(text: &str) -> (String, Added) {
    let mut added = Added::default();
    let mut result = String::with_capacity(text.len() + 64);
    let mut seen = BTreeSet::new();
    // A database that has the service already is somebody else's doing and stays as it is.
    let skip: BTreeSet<&str> = DATABASES
        .into_iter()
        .map(|(database, _)| database)
        .filter(|database| has_service(text, database))
        .collect();
    for line in text.split_inclusive('\n') {
        let Some(entry) = Entry::parse(line) else {
            result.push_str(line);
            continue;
        };
        seen.insert(entry.database);
        match entry.insertion() {
            // One database may stand on several lines; all get the same words or none, so that
            // removal needs no line numbers.
            Some((at, words))
                if !skip.contains(entry.database)
                    && added.words.get(entry.database).is_none_or(|before| *before == words) =>
            {
                added.edited.insert(entry.database.to_owned());
                result.push_str(line.get(..at).unwrap_or(line));
                result.push_str(&words);
                result.push_str(line.get(at..).unwrap_or(""));
                added.words.insert(entry.database.to_owned(), words);
            }
            _ => result.push_str(line),
        }
    }
    for (database, may_add) in DATABASES {
        if may_add && !seen.contains(database) {
            if !result.is_empty() && !result.ends_with('\n') {
                result.push('\n');
                added.line_end = true;
            }
            result.push_str(&own_line(database));
            added.lines.insert(database.to_owned());
        }
    }
    (result, added)
}

/// Takes back what [`add`] added, from the file as it stands now: lines that someone edited in
/// between lose the one word and keep the rest.
#[must_use]
pub fn remove(text: &str, added: &Added) -> String {
    let mut result = String::with_capacity(text.len());
    let mut dropped_last = false;
    for line in text.split_inclusive('\n') {
        let ours = added
            .lines
            .iter()
            .any(|database| line.trim_end() == own_line(database).trim_end());
        dropped_last = ours;
        if ours {
            continue;
        }
        match Entry::parse(line) {
            Some(entry)
                if !entry.is_broken()
                    && (added.edited.contains(entry.database) || added.lines.contains(entry.database)) =>
            {
                let words = added.words.get(entry.database).map_or(" dirless", String::as_str);
                result.push_str(&entry.without(words));
            }
            _ => result.push_str(line),
        }
    }
    if added.line_end && dropped_last && result.ends_with('\n') {
        result.pop();
    }
    result
}

/// Whether lookups of `database` reach the service.
#[must_use]
pub fn has_service(text: &str, database: &str) -> bool {
    text.lines()
        .filter_map(Entry::parse)
        .any(|entry| entry.database == database && entry.words().any(|(_, word)| word == SERVICE))
}

fn own_line(database: &str) -> String {
    format!("{database}: files {SERVICE}\n")
}

/// One line of a database that concerns us, comment and line end included.
struct Entry<'a> {
    database: &'static str,
    line: &'a str,
    /// Where the services begin and where a comment or the line ends.
    body: std::ops::Range<usize>,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let start = line.len() - line.trim_start().len();
        let (database, _) = DATABASES.into_iter().find(|(database, _)| {
            line.get(start..)
                .and_then(|rest| rest.strip_prefix(database))
                .is_some_and(|rest| rest.starts_with(':'))
        })?;
        let end = line.find('#').unwrap_or(line.len());
        let from = start + database.len() + 1;
        (from <= end).then_some(Self {
            database,
            line,
            body: from..end,
        })
    }

    /// Services and `[actions]` with the offset where each ends. Blanks inside brackets belong to them.
    fn words(&self) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
        let line = self.line;
        let mut at = self.body.start;
        let end = self.body.end;
        std::iter::from_fn(move || {
            let rest = line.get(at..end)?;
            let start = at + (rest.len() - rest.trim_start().len());
            let rest = line.get(start..end).filter(|rest| !rest.is_empty())?;
            let length = if rest.starts_with('[') {
                rest.find(']').map_or(rest.trim_end().len(), |close| close + 1)
            } else {
                rest.find(|character: char| character.is_whitespace() || character == '[')
                    .unwrap_or(rest.len())
            };
            at = start + length;
            Some((at, line.get(start..at)?))
        })
    }

    /// An action without its end makes glibc skip the line, and us too.
    fn is_broken(&self) -> bool {
        self.words()
            .any(|(_, word)| word.starts_with('[') && !word.ends_with(']'))
    }

    /// Where to insert what; `None` when the service is there already or there is nothing to stand behind.
    fn insertion(&self) -> Option<(usize, String)> {
        let words: Vec<_> = self.words().collect();
        if self.is_broken() || words.iter().any(|(_, word)| *word == SERVICE) {
            return None;
        }
        let plain = format!(" {SERVICE}");
        let anchor = words.iter().position(|(_, word)| matches!(*word, "files" | "compat"));
        let Some(anchor) = anchor else {
            // No local files in this line: last place, so that nothing of the host is shadowed.
            return words.last().map(|(end, _)| (*end, plain));
        };
        let (mut at, _) = *words.get(anchor)?;
        let actions: Vec<_> = words
            .iter()
            .skip(anchor + 1)
            .take_while(|(_, word)| word.starts_with('['))
            .collect();
        // `files [NOTFOUND=return] x`: behind the action we would never be asked, before it the
        // action moves on to us, which is what it means. `files [SUCCESS=merge] x`: the merge has
        // to go on through us, so the action is repeated.
        let returns = |action: &str| action.to_ascii_lowercase().contains("return");
        if actions.is_empty() || actions.iter().any(|(_, action)| returns(action)) {
            return Some((at, plain));
        }
        let mut repeated = plain;
        for (end, action) in actions {
            at = *end;
            repeated.push(' ');
            repeated.push_str(action);
        }
        Some((at, repeated))
    }

    /// The line without `words`; without the bare service when someone took them apart.
    fn without(&self, words: &str) -> String {
        let Some((end, _)) = self.words().find(|(_, word)| *word == SERVICE) else {
            return self.line.to_owned();
        };
        // The blank before it is ours too.
        let word = end - SERVICE.len();
        let blank = self
            .line
            .get(..word)
            .is_some_and(|before| before.ends_with([' ', '\t']));
        let from = word - usize::from(blank);
        let rest = self.line.get(from..).unwrap_or("");
        let length = if rest.starts_with(words) {
            words.len()
        } else {
            end - from
        };
        match (self.line.get(..from), rest.get(length..)) {
            (Some(before), Some(after)) => format!("{before}{after}"),
            _ => self.line.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEBIAN: &str = "# /etc/nsswitch.conf\n\npasswd:         files systemd\ngroup:          files systemd\n\
        shadow:         files\ngshadow:        files\n\nhosts:          files dns\nnetgroup:       nis\n";

    #[test]
    fn existing_lines_get_one_word_and_nothing_else_moves() {
        let (text, added) = add(DEBIAN);
        assert!(text.contains("passwd:         files dirless systemd\n"), "{text}");
        assert!(text.contains("shadow:         files dirless\n"), "{text}");
        assert!(text.contains("gshadow:        files\n"), "{text}");
        assert_eq!(text.replace(" dirless", ""), DEBIAN);
        assert_eq!(remove(&text, &added), DEBIAN);
    }

    #[test]
    fn a_second_run_changes_nothing() {
        let (once, _) = add(DEBIAN);
        let (twice, added) = add(&once);
        assert_eq!(once, twice);
        assert!(added.is_empty());
    }

    #[test]
    fn actions_keep_their_meaning() {
        for (line, expected) in [
            (
                "group: files [SUCCESS=merge] systemd\n",
                "group: files [SUCCESS=merge] dirless [SUCCESS=merge] systemd\n",
            ),
            (
                "group: files [ NOTFOUND = return ] nis\n",
                "group: files dirless [ NOTFOUND = return ] nis\n",
            ),
            ("group: compat\n", "group: compat dirless\n"),
            ("group: sss files # local\n", "group: sss files dirless # local\n"),
            ("group: sss\n", "group: sss dirless\n"),
            ("group: myfiles files\n", "group: myfiles files dirless\n"),
            ("initgroups: files\n", "initgroups: files dirless\n"),
        ] {
            let (text, added) = add(line);
            assert!(text.starts_with(expected), "{line:?} became {text:?}");
            assert_eq!(remove(&text, &added), line, "{line:?}");
        }
    }

    #[test]
    fn missing_lines_are_added_but_never_initgroups() {
        let (text, added) = add("hosts: files");
        assert_eq!(
            text,
            "hosts: files\npasswd: files dirless\ngroup: files dirless\nshadow: files dirless\n"
        );
        assert_eq!(remove(&text, &added), "hosts: files");
        assert!(!has_service(&text, "initgroups"));
        assert!(has_service(&text, "passwd"));
    }

    #[test]
    fn what_was_edited_in_between_keeps_the_edit() {
        let (text, added) = add(DEBIAN);
        let edited = text.replace("files dirless systemd", "files dirless sss systemd") + "services: db files\n";
        let expected = DEBIAN.replace("files systemd", "files sss systemd") + "services: db files\n";
        assert_eq!(remove(&edited, &added), expected);
    }

    #[test]
    fn a_service_that_was_there_before_stays() {
        let before = "passwd: files dirless\ngroup: files dirless\nshadow: files dirless\n";
        let (text, added) = add(before);
        assert_eq!(remove(&text, &added), before);
        assert_eq!(text, before);
    }

    #[test]
    fn a_line_that_someone_squeezed_keeps_its_colon() {
        let (text, added) = add(DEBIAN);
        let edited = text.replace("passwd:         files dirless", "passwd:dirless files");
        assert_eq!(
            remove(&edited, &added),
            DEBIAN.replace("passwd:         files", "passwd: files")
        );
    }

    fn lines() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("files".to_owned()),
            Just("compat".to_owned()),
            Just("systemd".to_owned()),
            Just("dirless".to_owned()),
            Just("[NOTFOUND=return]".to_owned()),
            Just("[SUCCESS=merge]".to_owned()),
            Just("[".to_owned()),
            Just("#x".to_owned()),
            "[a-z\\]\\[=# \t]{0,6}",
        ];
        let name = prop_oneof![
            Just("passwd:"),
            Just("group:"),
            Just("shadow:"),
            Just("initgroups:"),
            Just(" passwd:"),
            Just("#passwd:"),
            Just("hosts:"),
            Just("passwd"),
            Just(""),
        ];
        let line = (
            name,
            proptest::collection::vec(word, 0..5),
            prop_oneof![Just(" "), Just("\t"), Just("  ")],
        )
            .prop_map(|(name, words, blank)| format!("{name}{blank}{}", words.join(blank)));
        (
            proptest::collection::vec(line, 0..8),
            prop_oneof![Just(""), Just("\n"), Just("\r\n")],
        )
            .prop_map(|(lines, end)| lines.join("\n") + end)
    }

    proptest! {
        #[test]
        fn removal_after_adding_is_the_identity(text in lines()) {
            let (with, added) = add(&text);
            prop_assert_eq!(remove(&with, &added), text);
        }

        #[test]
        fn removal_after_adding_is_the_identity_for_any_text(text in "\\PC{0,80}(\n\\PC{0,40}){0,4}") {
            let (with, added) = add(&text);
            prop_assert_eq!(remove(&with, &added), text);
        }

        #[test]
        fn adding_twice_is_adding_once(text in lines()) {
            let (once, _) = add(&text);
            let (twice, again) = add(&once);
            prop_assert_eq!(once, twice);
            prop_assert!(again.lines.is_empty());
        }
    }
}
