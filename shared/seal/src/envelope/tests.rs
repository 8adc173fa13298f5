use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE};
use proptest::prelude::*;

use super::*;

/// What a deployed syncer 0.5.3 sealed, with the identity that opens it, as recorded.
const IDENTITY: &str = "AGE-SECRET-KEY-1QQXTNUSC48NY9JYL8M7TUU7C7HW0EGUCZJ8ZUKU9FAZ5QP08SASS6MXCWJ";
const SEALED: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSB1bmxTMmNKYXZ2SzloMDVEQ2d3VktxY2YyZlUrZGlZRGVqNE54Q0xxTzJ3CnVNNTRlUkp4TmFqSTJDVTA5MlI1bWdBalliL1l1RzdZT3ZYcFNZbGhSdEkKLS0tIE05amZibm9mYlFOdDQ4NzVyZTEwRzZSa0tqclZhUXRpNmtSSUhEQ3NaakkKSdO33VusuTxLoQqKRhcm6l/4MvYlaJkiwZVc6Vh4f70Z4XMtk9nwHrslYsbLkrzjNGpYQfIhp/5oPi28VG5puMV8Le636aV0gjvtKorGV1jI9BYGzdNLCh/4h9gx/KIpg0gP+I+3n5WTMVO5ILWUC9ogHuAjYlCrYo7cCZhVGm5OxT/hVAPIiynBK1YsvRSVNULNKNegOnE3FcA2+lhATAuIIUbug/8K8CGRUR9w2QNxxLXCVVamjMBBKWvyzGKVzhgzF3kOsSc5QnQ=";
const PLAINTEXT: &str = r#"{"groups":[{"name":"Engineering Team","gid":60001,"members":["alice"]}],"users":[{"username":"alice","uid":60002,"gid":60001,"gecos":"Alice Example","home":"/home/alice","shell":"/bin/bash"},{"username":"bob","uid":60003,"gid":60003,"gecos":"Bob Example","home":"/home/bob","shell":"/bin/bash"}]}"#;

fn identity() -> Identity {
    Identity::parse(IDENTITY).unwrap()
}

fn open_all(identity: &Identity, sealed: &[u8], limits: Limits) -> Result<Vec<u8>, String> {
    let mut plaintext = Vec::new();
    open(identity, sealed, limits)
        .map_err(|error| error.to_string())?
        .read_to_end(&mut plaintext)
        .map_err(|error| error.to_string())?;
    Ok(plaintext)
}

fn age_file(recipients: &[&Recipient], plaintext: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let encryptor = age::Encryptor::with_recipients(recipients.iter().map(|recipient| recipient.age())).unwrap();
    let mut writer = encryptor.wrap_output(&mut file).unwrap();
    writer.write_all(plaintext).unwrap();
    writer.finish().unwrap();
    file
}

#[test]
fn the_recorded_deployed_body_opens() {
    let plaintext = open_all(&identity(), SEALED.as_bytes(), Limits::default()).unwrap();
    assert_eq!(String::from_utf8(plaintext).unwrap(), PLAINTEXT);
}

#[test]
fn every_spelling_that_deployed_agents_take_opens() {
    let binary = STANDARD.decode(SEALED).unwrap();
    let wrapped = SEALED
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect::<Vec<_>>();
    let other = Identity::generate();
    let plain = age_file(&[&identity().recipient()], PLAINTEXT.as_bytes());
    let several = age_file(&[&other.recipient(), &identity().recipient()], PLAINTEXT.as_bytes());
    let spellings = [
        wrapped.join("\r\n") + "\n",
        STANDARD_NO_PAD.encode(&binary),
        URL_SAFE.encode(&binary),
        STANDARD.encode(plain),
        STANDARD.encode(several),
    ];
    for spelling in spellings {
        let plaintext = open_all(&identity(), spelling.as_bytes(), Limits::default()).unwrap();
        assert_eq!(String::from_utf8(plaintext).unwrap(), PLAINTEXT, "{spelling}");
    }
}

#[test]
fn what_is_not_sealed_is_refused_as_such() {
    let binary = STANDARD.decode(SEALED).unwrap();
    let not_sealed = [
        Vec::new(),
        b"{}".to_vec(),
        PLAINTEXT.as_bytes().to_vec(),
        binary,
        STANDARD.encode(PLAINTEXT).into_bytes(),
        b"age-encryption.org/v1".to_vec(),
    ];
    for body in not_sealed {
        let error = open(&identity(), body.as_slice(), Limits::default()).unwrap_err();
        assert!(
            matches!(error, OpenError::NotSealed),
            "{error:?} for {:?}",
            String::from_utf8_lossy(&body)
        );
    }
}

#[test]
fn another_key_is_named_as_the_cause() {
    let error = open(&Identity::generate(), SEALED.as_bytes(), Limits::default()).unwrap_err();
    assert!(matches!(error, OpenError::WrongKey), "{error:?}");
}

#[test]
fn sealing_writes_what_opens_and_what_age_itself_reads() {
    let mut sealed = Vec::new();
    seal(&identity().recipient(), &mut PLAINTEXT.as_bytes(), &mut sealed).unwrap();
    assert!(sealed.is_ascii() && !sealed.contains(&b'\n') && sealed.len() % 4 == 0);
    assert_eq!(
        open_all(&identity(), &sealed, Limits::default()).unwrap(),
        PLAINTEXT.as_bytes()
    );
    let file = STANDARD.decode(&sealed).unwrap();
    assert!(file.starts_with(b"age-encryption.org/v1\n-> X25519 "));
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let limits = Limits {
        plaintext: 1 << 20,
        ..Limits::default()
    };
    let mut sealed = Vec::new();
    seal(
        &identity().recipient(),
        &mut io::repeat(b' ').take(64 << 20),
        &mut sealed,
    )
    .unwrap();
    assert!(sealed.len() < 128 << 10, "64 MiB of blanks take {} bytes", sealed.len());
    let error = open_all(&identity(), &sealed, limits).unwrap_err();
    assert!(error.contains("limit"), "{error}");
}

#[test]
fn a_header_of_a_hundred_thousand_stanzas_is_refused_before_any_work() {
    let mut file = b"age-encryption.org/v1\n".to_vec();
    for _ in 0..100_000 {
        file.extend_from_slice(
            b"-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\nEmECAEcKN+n/Vs9SbWiV+Hu0r+E8R77DdWYyd83nw7U\n",
        );
    }
    file.extend_from_slice(b"--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
    let error = open(&identity(), STANDARD.encode(&file).as_bytes(), Limits::default()).unwrap_err();
    assert!(
        matches!(error, OpenError::HeaderTooLarge { unit: "bytes", .. }),
        "{error:?}"
    );
    let limits = Limits {
        header: usize::MAX,
        ..Limits::default()
    };
    let error = open(&identity(), STANDARD.encode(&file).as_bytes(), limits).unwrap_err();
    assert!(
        matches!(error, OpenError::HeaderTooLarge { unit: "recipients", .. }),
        "{error:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_changed_or_cut_body_never_reads_to_its_end(at in 0.0..1.0_f64, bit in 0..8_u32, cut in any::<bool>()) {
        let mut file = STANDARD.decode(SEALED).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a small length")]
        let at = (file.len() as f64 * at) as usize;
        if cut { file.truncate(at) } else { file[at] ^= 1 << bit }
        prop_assert!(open_all(&identity(), STANDARD.encode(&file).as_bytes(), Limits::default()).is_err());
    }

    #[test]
    fn any_bytes_are_an_answer_and_not_a_crash(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = open_all(&identity(), &bytes, Limits::default());
        let mut file = b"age-encryption.org/v1\n".to_vec();
        file.extend_from_slice(&bytes);
        let _ = open_all(&identity(), STANDARD.encode(&file).as_bytes(), Limits::default());
    }

    #[test]
    fn what_is_sealed_opens(plaintext in proptest::collection::vec(any::<u8>(), 0..200_000)) {
        let identity = Identity::generate();
        let mut sealed = Vec::new();
        seal(&identity.recipient(), &mut plaintext.as_slice(), &mut sealed).unwrap();
        prop_assert_eq!(open_all(&identity, &sealed, Limits::default()).unwrap(), plaintext);
    }
}
