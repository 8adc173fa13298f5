//! sshd's configuration (sshd_config(5)): our own drop-in file, and the `Include` line that makes
//! sshd read it, added to `sshd_config` only where none is. Pure text in, text out.

/// Marks the line below as ours. Removal looks for both lines together.
const MARK: &str = "# Added by \"dirless install\"; \"dirless uninstall\" takes it away.";

/// The line that makes sshd read our file. Only ours: where nothing reads the drop-in folder, somebody
/// may have meant what lies there to be without effect.
const INCLUDE: &str = "Include /etc/ssh/sshd_config.d/dirless.conf";

/// The drop-in file's text. `with_keys`: sshd asks the lookup table for people's keys (`install
/// --ssh`). `with_ca`: certificates of the accepted authority open sessions.
#[must_use]
pub fn drop_in(with_keys: bool, with_ca: bool) -> String {
    let mut text =
        String::from("# Written by Dirless. Changes are lost; put your own settings into a file that sorts before.\n");
    if with_keys {
        text.push_str("AuthorizedKeysCommand /usr/libexec/dirless/dirless-authorized-keys %u\n");
        text.push_str("AuthorizedKeysCommandUser nobody\n");
    }
    if with_ca {
        text.push_str("TrustedUserCAKeys /etc/ssh/dirless_ca.pub\n");
    }
    text
}

/// What a drop-in file on disk turns on: (keys from the table, certificate authority).
#[must_use]
pub fn drop_in_state(text: &str) -> (bool, bool) {
    let mut state = (false, false);
    for (keyword, argument) in text.lines().filter_map(directive) {
        state.0 |= keyword.eq_ignore_ascii_case("AuthorizedKeysCommand") && argument.contains("dirless");
        state.1 |= keyword.eq_ignore_ascii_case("TrustedUserCAKeys") && argument.contains("dirless_ca.pub");
    }
    state
}

/// Whether `sshd_config` reads our file for every connection (an `Include` inside a `Match` block does
/// not count).
#[must_use]
pub fn includes_drop_ins(text: &str) -> bool {
    global(text).any(includes_ours)
}

/// The settings for every connection: those above the first `Match`.
fn global(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter_map(directive)
        .take_while(|(keyword, _)| !keyword.eq_ignore_ascii_case("Match"))
}

fn includes_ours((keyword, argument): (&str, &str)) -> bool {
    keyword.eq_ignore_ascii_case("Include")
        && argument.split_whitespace().any(|pattern| {
            let pattern = pattern.trim_matches('"');
            // A relative pattern is relative to /etc/ssh.
            let pattern = pattern.strip_prefix("/etc/ssh/").unwrap_or(pattern);
            matches!(
                pattern,
                "sshd_config.d/*.conf" | "sshd_config.d/*" | "sshd_config.d/dirless.conf"
            )
        })
}

/// Adds the `Include` line at the top, where the first value of a setting wins; `None` when the
/// file reads the folder already.
#[must_use]
pub fn add_include(text: &str) -> Option<String> {
    (!includes_drop_ins(text)).then(|| format!("{MARK}\n{INCLUDE}\n{text}"))
}

/// Takes the two lines of [`add_include`] back, wherever they stand by now.
#[must_use]
pub fn remove_include(text: &str) -> String {
    let ours = format!("{MARK}\n{INCLUDE}\n");
    let at = if text.starts_with(&ours) {
        Some(0)
    } else {
        text.find(&format!("\n{ours}")).map(|at| at + 1)
    };
    match at.and_then(|at| Some((text.get(..at)?, text.get(at + ours.len()..)?))) {
        Some((before, after)) => format!("{before}{after}"),
        None => text.to_owned(),
    }
}

/// A setting of the administrator that sshd weighs against ours. Of several the first one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// The line.
    pub setting: String,
    /// Whether ours, where `install` puts it, comes before it and silences it.
    pub ours_wins: bool,
}

/// Commands for keys that stand in `sshd_config` itself.
#[must_use]
pub fn rivals(text: &str) -> Vec<Rival> {
    // An `Include` of our own goes to the top.
    let mut ours_wins = !includes_drop_ins(text);
    let mut rivals = Vec::new();
    for (keyword, argument) in global(text) {
        ours_wins |= includes_ours((keyword, argument));
        if keyword.eq_ignore_ascii_case("AuthorizedKeysCommand")
            && !argument.contains("dirless")
            && !(ours_wins && argument.eq_ignore_ascii_case("none"))
        {
            rivals.push(Rival {
                setting: format!("{keyword} {argument}"),
                ours_wins,
            });
        }
    }
    rivals
}

fn directive(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|character: char| character.is_whitespace() || character == '=')?;
    let argument = line.get(end..)?.trim_start().trim_start_matches('=').trim();
    Some((line.get(..end)?, argument))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_include_is_seen_in_every_spelling_and_not_inside_a_match_block() {
        for text in [
            "Include /etc/ssh/sshd_config.d/*.conf\n",
            "include sshd_config.d/*.conf\n",
            "  INCLUDE=\"/etc/ssh/sshd_config.d/*.conf\"",
            "Port 22\nInclude /etc/x /etc/ssh/sshd_config.d/*.conf\nMatch User x\n",
        ] {
            assert!(includes_drop_ins(text), "{text:?}");
            assert_eq!(add_include(text), None);
        }
        for text in [
            "",
            "#Include /etc/ssh/sshd_config.d/*.conf\n",
            "Match all\nInclude /etc/ssh/sshd_config.d/*.conf\n",
            "Include /etc/ssh/other.d/*.conf\n",
        ] {
            assert!(!includes_drop_ins(text), "{text:?}");
        }
    }

    #[test]
    fn the_include_is_taken_back_also_when_lines_were_put_above_it() {
        let with = add_include("Port 22\n").unwrap();
        assert!(includes_drop_ins(&with));
        let edited = format!("# mine\n{with}UsePAM yes\n");
        assert_eq!(remove_include(&edited), "# mine\nPort 22\nUsePAM yes\n");
    }

    #[test]
    fn the_drop_in_says_what_it_turns_on() {
        for keys in [false, true] {
            for authority in [false, true] {
                assert_eq!(drop_in_state(&drop_in(keys, authority)), (keys, authority));
            }
        }
        // What the deployed agent writes.
        assert_eq!(
            drop_in_state("TrustedUserCAKeys /etc/ssh/dirless_ca.pub\n"),
            (false, true)
        );
    }

    #[test]
    fn a_command_of_the_administrator_is_named() {
        let command = "AuthorizedKeysCommand /usr/bin/sss_ssh_authorizedkeys";
        let include = "Include /etc/ssh/sshd_config.d/*.conf";
        for (text, ours_wins) in [
            (format!("{command}\n"), true),
            (format!("{include}\n{command}\n"), true),
            (format!("{command}\n{include}\n"), false),
        ] {
            let rival = Rival {
                setting: command.to_owned(),
                ours_wins,
            };
            assert_eq!(rivals(&text), [rival], "{text}");
        }
        assert!(rivals(&drop_in(true, true)).is_empty());
        assert!(rivals("AuthorizedKeysCommand none\n").is_empty());
        assert_eq!(rivals(&format!("AuthorizedKeysCommand none\n{include}\n")).len(), 1);
    }

    #[test]
    fn only_our_own_file_is_brought_in() {
        // Somebody else's file in the folder must not come into force by our hand.
        assert!(!add_include("Port 22\n").unwrap().contains('*'));
    }

    proptest! {
        #[test]
        fn removal_after_adding_is_the_identity(
            text in "(Port 22|Include [a-z/.*]{0,20}|Match all|#[a-z ]{0,9}|\\PC{0,30})?(\n(Port 22|Match all|\\PC{0,30})){0,5}\n?"
        ) {
            if let Some(with) = add_include(&text) {
                prop_assert!(includes_drop_ins(&with));
                prop_assert_eq!(remove_include(&with), text);
            }
        }
    }
}
