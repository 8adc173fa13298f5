//! `/etc/pam.d/sshd` (pam.d(5)): one line that makes home folders at the first login.

/// The line, its own mark included: PAM ignores what follows `#`.
const LINE: &str = "session optional pam_mkhomedir.so umask=0077 # added by dirless install\n";

/// Adds the line at the end; `None` when something there makes home folders already.
#[must_use]
pub fn add(text: &str) -> Option<String> {
    let made_already = text
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with('#'))
        .any(|line| line.contains("pam_mkhomedir") || line.contains("pam_oddjob_mkhomedir"));
    if made_already {
        return None;
    }
    let line_end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    Some(format!("{text}{line_end}{LINE}"))
}

/// Takes the line back. `line_end`: the file did not end in a line end before.
#[must_use]
pub fn remove(text: &str, line_end: bool) -> String {
    let Some(at) = text.rfind(LINE) else {
        return text.to_owned();
    };
    let mut before = text.get(..at).unwrap_or("");
    let after = text.get(at + LINE.len()..).unwrap_or("");
    if line_end && after.is_empty() {
        before = before.strip_suffix('\n').unwrap_or(before);
    }
    format!("{before}{after}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_that_makes_home_folders_already_is_left_alone() {
        assert_eq!(add("session required pam_mkhomedir.so skel=/etc/skel\n"), None);
        assert!(add("#session required pam_mkhomedir.so\n").is_some());
    }

    #[test]
    fn lines_added_behind_ours_stay() {
        let with = add("auth required pam_unix.so").unwrap() + "session optional pam_motd.so\n";
        assert_eq!(
            remove(&with, true),
            "auth required pam_unix.so\nsession optional pam_motd.so\n"
        );
    }

    proptest! {
        #[test]
        fn removal_after_adding_is_the_identity(text in "\\PC{0,40}(\n\\PC{0,40}){0,4}\n?") {
            if let Some(with) = add(&text) {
                let line_end = !text.is_empty() && !text.ends_with('\n');
                prop_assert_eq!(remove(&with, line_end), text);
            }
        }
    }
}
