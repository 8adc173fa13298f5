use super::*;

#[test]
fn the_written_configuration_is_read_back_as_it_was_meant() {
    let paths = Paths::system();
    let tenant = TenantId::new("t-1").unwrap();
    for token in ["sekret", "with \"quotes\" and \\", "'''", "#not-a-comment"] {
        let text = write_config(
            "https://h.example/p",
            None,
            "node \"a\"",
            &Secret::new(token.into()),
            &tenant,
        );
        let config = crate::config::from_text(&text, &paths.config(), &paths, "web-1").unwrap();
        let classic = config.classic().unwrap();
        assert_eq!(classic.secret.expose(), token);
        assert_eq!(
            (classic.urls[0].as_str(), config.agent_id.as_str()),
            ("https://h.example/p", "node \"a\"")
        );
        assert!(config.unknown_keys.is_empty());
    }
}

proptest::proptest! {
    #[test]
    fn no_value_breaks_out_of_its_place(token in "[ -~]{1,40}", id in "[ -~]{1,40}") {
        let paths = Paths::system();
        let tenant = TenantId::new("t-1").unwrap();
        let text = write_config("https://h.example", None, &id, &Secret::new(token.clone()), &tenant);
        let config = crate::config::from_text(&text, &paths.config(), &paths, "web-1").unwrap();
        let classic = config.classic().unwrap();
        proptest::prop_assert_eq!(classic.secret.expose(), token.as_str());
        proptest::prop_assert_eq!(&config.agent_id, &id);
        proptest::prop_assert_eq!(classic.tenant.as_str(), "t-1");
    }
}

#[test]
fn errors_of_the_client_become_the_words_of_deployed_tools() {
    let own = AgePublicKey::new("age1sc4gd6wwdn3mfcc9r26lmeh0ze0l67artuy6gjp73ztafn3amensnq6mr6").unwrap();
    for (error, words) in [
        (Error::Unauthorized, "does not accept this token"),
        (Error::Suspended { error: "x".into() }, "enrollment rejected - x"),
        (Error::KeyConflict { registered_key: None }, "another key registered"),
        (Error::AccountConflict { error: "y".into() }, "invalid request - y"),
        (Error::Unavailable { tried: Vec::new() }, "unexpected response"),
    ] {
        let text = refusal(error, &own).to_string();
        assert!(text.contains(words), "{text}");
    }
}
