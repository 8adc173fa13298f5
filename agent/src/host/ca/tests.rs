use super::super::sshd_program::tests::fake;
use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJp9lpH3Z689KCtDoNSOM11fp0QvdvGeloyE3uFf/0i7 ca@example";
const FINGERPRINT: &str = "SHA256:ICRz6TsJeB9hZfsYR7Fa7pYtWl5GLPI7IV17Op4qf2E";

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn proposes(text: &str) -> Proposal {
    Proposal::Answer(Some(text.to_owned()))
}

#[test]
fn defect_05_a_proposal_alone_is_never_trusted() {
    let (decision, state, notice) = decide(&proposes(KEY), &CaState::default(), None, &names(&[]));
    assert_eq!(decision, Decision::Keep);
    assert_eq!(state.proposed.as_deref(), Some(FINGERPRINT));
    assert!(notice.unwrap().contains(&format!("accept-ca {FINGERPRINT}")));
}

#[test]
fn defect_05_what_was_planted_without_asking_is_taken_away() {
    for proposal in [proposes(KEY), Proposal::Unknown, Proposal::Answer(None)] {
        let (decision, ..) = decide(&proposal, &CaState::default(), Some(KEY), &names(&[]));
        assert!(matches!(decision, Decision::Withdraw(_)), "{proposal:?}");
    }
    let two_keys = format!("{KEY}\n{KEY}\n");
    let (decision, ..) = decide(
        &Proposal::Unknown,
        &CaState::default(),
        Some(&two_keys),
        &names(&[FINGERPRINT]),
    );
    assert!(matches!(decision, Decision::Withdraw(_)));
}

#[test]
fn defect_05_a_withdrawn_key_goes_after_three_good_answers_and_no_sooner() {
    let accepted = names(&[FINGERPRINT]);
    let mut state = CaState::default();
    for round in 1..=3 {
        let (decision, next, _) = decide(&Proposal::Answer(None), &state, Some(KEY), &accepted);
        assert_eq!(matches!(decision, Decision::Withdraw(_)), round == 3, "round {round}");
        // Failures in between neither count nor start the count again.
        let (quiet, unchanged, _) = decide(&Proposal::Unknown, &next, Some(KEY), &accepted);
        assert_eq!((quiet, &unchanged), (Decision::Keep, &next));
        state = next;
    }
    let (decision, state, _) = decide(&proposes(KEY), &state, Some(KEY), &accepted);
    assert_eq!((decision, state.empty_answers), (Decision::Keep, 0));
}

#[test]
fn an_accepted_key_is_trusted_by_fingerprint_or_by_itself() {
    for name in [
        FINGERPRINT,
        KEY,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJp9lpH3Z689KCtDoNSOM11fp0QvdvGeloyE3uFf/0i7",
    ] {
        let (decision, state, notice) = decide(&proposes(KEY), &CaState::default(), None, &names(&[name]));
        assert!(matches!(decision, Decision::Trust(_)), "{name}");
        assert!(notice.is_none() && state.proposed.is_none());
    }
}

#[test]
fn defect_05_malformed_proposals_change_nothing() {
    for text in [
        "",
        "x",
        &format!("{KEY}\n{KEY}"),
        "cert-authority ssh-ed25519 AAAA",
        "ssh-ed25519 AAAA",
    ] {
        let (decision, state, notice) = decide(&proposes(text), &CaState::default(), Some(KEY), &names(&[FINGERPRINT]));
        assert_eq!(decision, Decision::Keep, "{text:?}");
        assert!(state.proposed.is_none() && notice.is_some());
    }
}

fn host() -> (tempfile::TempDir, Paths) {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::under(folder.path());
    std::fs::create_dir_all(paths.sshd_snippets()).unwrap();
    (folder, paths)
}

#[test]
fn trust_and_withdrawal_write_and_remove_the_files_and_keep_the_key_lookup() {
    let (folder, paths) = host();
    std::fs::write(paths.sshd_snippet(), sshd::drop_in(true, false)).unwrap();
    let program = fake(folder.path(), "false");
    let trust = Decision::Trust(SshPublicKey::parse(KEY).unwrap());
    assert!(apply(&trust, &paths, &program).unwrap());
    assert!(
        std::fs::read_to_string(paths.ca_key())
            .unwrap()
            .starts_with("ssh-ed25519 AAAA")
    );
    let snippet = std::fs::read_to_string(paths.sshd_snippet()).unwrap();
    assert_eq!(sshd::drop_in_state(&snippet), (true, true));
    assert!(apply(&Decision::Withdraw("x"), &paths, &program).unwrap());
    assert!(!paths.ca_key().exists());
    let snippet = std::fs::read_to_string(paths.sshd_snippet()).unwrap();
    assert_eq!(sshd::drop_in_state(&snippet), (true, false));
    assert!(!apply(&Decision::Keep, &paths, &program).unwrap());
}

#[test]
fn a_refusal_of_sshd_puts_everything_back() {
    let (folder, paths) = host();
    let program = fake(folder.path(), "true");
    let trust = Decision::Trust(SshPublicKey::parse(KEY).unwrap());
    let error = apply(&trust, &paths, &program).unwrap_err().to_string();
    assert!(error.contains("sshd -t"), "{error}");
    assert!(!paths.ca_key().exists() && !paths.sshd_snippet().exists());
    // Taking trust away happens all the same.
    std::fs::write(paths.ca_key(), KEY).unwrap();
    assert!(apply(&Decision::Withdraw("x"), &paths, &program).unwrap());
    assert!(!paths.ca_key().exists());
}

#[test]
fn acceptance_is_kept_once_and_can_be_taken_back() {
    let (_folder, paths) = host();
    accept(&paths, FINGERPRINT).unwrap();
    accept(&paths, FINGERPRINT).unwrap();
    assert_eq!(
        accepted(&paths, &["SHA256:other".into()]).unwrap(),
        names(&[FINGERPRINT, "SHA256:other"])
    );
    assert_eq!(
        std::fs::read_to_string(paths.accepted_ca()).unwrap(),
        format!("{FINGERPRINT}\n")
    );
    assert!(forget(&paths, FINGERPRINT).unwrap());
    assert!(!forget(&paths, FINGERPRINT).unwrap());
    assert!(accepted(&paths, &[]).unwrap().is_empty());
}

proptest::proptest! {
    #[test]
    fn without_acceptance_no_sequence_of_answers_ever_trusts(answers in proptest::collection::vec(0u8..4, 0..20)) {
        let mut state = CaState::default();
        for answer in answers {
            let proposal = match answer {
                0 => Proposal::Unknown,
                1 => Proposal::Answer(None),
                2 => proposes(KEY),
                _ => proposes("nonsense"),
            };
            let (decision, next, _) = decide(&proposal, &state, None, &names(&["SHA256:other"]));
            proptest::prop_assert_eq!(decision, Decision::Keep);
            state = next;
        }
    }
}
