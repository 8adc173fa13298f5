//! What the commands say of themselves, in man pages too.

use crate::support::definition;

#[test]
fn every_command_says_what_it_does_and_no_other_thing() {
    let definition = definition();
    definition.clone().debug_assert();
    for (path, about) in [
        (
            &["verify"][..],
            "Check a whole tenant, as a host would and more, from any copy of it",
        ),
        (&["mirror"], "Copy a tenant as plain files, for a web server or a stick"),
        (
            &["tenant", "init"],
            "Make root keys and the first policy, signed by all of them",
        ),
        (
            &["policy", "sign"],
            "Add one root's signature to the draft; when enough have signed, it becomes the policy",
        ),
        (&["publisher", "add"], "Let a key publish, within bounds"),
        (&["root", "create"], "Make a root key, and show its public half"),
    ] {
        let mut command = &definition;
        for word in path {
            command = command.find_subcommand(word).unwrap();
        }
        assert_eq!(command.get_about().unwrap().to_string(), about, "{path:?}");
    }
}

/// A secret in an argument is seen by every process of the machine.
#[test]
fn no_option_takes_a_secret() {
    fn options(command: &clap::Command) -> Vec<String> {
        let own = command.get_arguments().map(|option| option.get_id().to_string());
        own.chain(command.get_subcommands().flat_map(options)).collect()
    }
    let options = options(&definition());
    assert!(options.iter().any(|option| option == "passphrase_file"));
    for word in ["passphrase", "password", "secret", "token"] {
        assert!(!options.iter().any(|option| option == word), "--{word}");
    }
}
