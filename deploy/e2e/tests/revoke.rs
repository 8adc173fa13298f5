//! Somebody is taken away from another machine, by the syncer's REST interface, with everything else running as in service:
//! backend, syncer, agent, LDAP.

use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Context, ensure};
use dirless_e2e::demo;
use dirless_e2e::ldap_host::{self, BASE, traces};
use dirless_e2e::machine::{self, Person, getent};
use dirless_e2e::site::private;
use dirless_e2e::tenant::{at_backend, join_code, operator, syncer};
use dirless_e2e::world::as_nobody;
use dirless_testkit::{Outcome, Program, eventually, isolated};

/// Where the syncer serves.
const REST: &str = "http://127.0.0.1:8214";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who administers, on a machine that has this and nothing else.
const NOBODY: u32 = 65534;

/// A token for the syncer, in the hands of the administrator.
fn token(scope: &str) -> anyhow::Result<String> {
    let file = format!("/srv/desk/{scope}");
    syncer(&["token", "create", scope, "--scope", scope, "--file", &file])?;
    chown(&file, Some(NOBODY), Some(NOBODY))?;
    Ok(file)
}

/// `dirless revoke` of the administrator.
fn elsewhere(token: &str, arguments: &[&str]) -> anyhow::Result<Outcome> {
    let place = ["/usr/bin/dirless", "revoke", "--syncer", REST, "--token-file", token];
    as_nobody([&place[..], arguments].concat()).run()
}

#[test]
fn a_person_is_taken_away_from_another_machine() {
    isolated("a_person_is_taken_away_from_another_machine", || {
        machine::install(&["dirless-agent", "dirless-syncer"])?;
        let _backend = at_backend("[serve]\n")?;
        let key = std::fs::read_to_string(Person::new("alice")?.public_key())?;
        let text = format!(
            "people:\n  - {{name: alice, keys: [\"{}\"]}}\n  - {{name: bob}}\ngroups:\n  - {{name: eng, members: [alice, bob]}}\n",
            key.trim()
        );
        private("/srv/people/people.yaml", &text)?;
        syncer(&["once"])?;
        std::fs::create_dir_all("/srv/desk")?;
        let (may_revoke, may_restore) = (token("revoke")?, token("restore")?);
        let syncer_serves = Program::ours("dirless-syncer")?
            .args(["--config", "/srv/syncer/syncer.toml", "serve"])
            .serve()?;
        join_code("/srv/code", 1)?;
        operator(&["join", "--code-file", "/srv/code"])?;
        demo::quicken()?;
        let path = "/etc/dirless/dirless-agent.toml";
        let config = std::fs::read_to_string(path)?.replace("[agent]\n", "[agent]\nsources = [\"people\"]\n");
        private(path, &format!("{config}\n[directory]\nbase = \"{BASE}\"\n"))?;
        operator(&["install", "--nss"])?;
        ldap_host::install()?;
        let agent = demo::start_agent()?;
        eventually(PATIENCE, "alice", || getent("passwd", "alice").ok().flatten())
            .with_context(|| format!("{}\n{}", agent.log(), syncer_serves.log()))?;
        let _server = ldap_host::serve()?;
        eventually(PATIENCE, "alice, whole", || (traces("alice").ok()?.len() == 5).then_some(()))?;
        let before = getent("passwd", "alice")?;

        // Nothing of the syncer's is within reach.
        let reach = as_nobody(["ls", "/srv/syncer/state"]).run()?;
        ensure!(reach.code() != 0, "{}", reach.stdout);
        let said = elsewhere(&may_revoke, &["alice", "--reason", "left", "--wait"])?;
        ensure!(said.code() == 0, "{said:?}");
        // Every connected host said, signed, that it has applied it.
        ensure!(said.stdout.contains("1 of 1 connected hosts, slowest "), "{}", said.stdout);
        println!("{}", said.stdout);
        ensure!(getent("passwd", "alice")?.is_none(), "a receipt before the table");
        // The LDAP server looks for a newer copy four times a second.
        eventually(PATIENCE, "alice is gone", || traces("alice").ok()?.is_empty().then_some(()))?;
        ensure!(getent("passwd", "bob")?.is_some() && getent("group", "eng")?.is_some_and(|group| group.ends_with("bob")));
        let list = elsewhere(&may_restore, &["--list"])?.stdout;
        ensure!(list.contains("by token revoke, people (still has them): left\n  1 of 1 connected hosts"), "{list}");

        // Who may take away may not let back.
        let refused = elsewhere(&may_revoke, &["--undo", "alice"])?;
        ensure!(refused.code() == 1 && refused.stderr.contains("does not allow restore"), "{refused:?}");
        let undone = elsewhere(&may_restore, &["--undo", "alice"])?;
        ensure!(undone.code() == 0, "{undone:?}");
        eventually(PATIENCE, "alice again", || (traces("alice").ok()?.len() == 5).then_some(()))?;
        ensure!(getent("passwd", "alice")? == before, "under another number");
        Ok(())
    })
    .unwrap();
}
