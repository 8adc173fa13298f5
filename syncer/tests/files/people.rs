use dirless_wire::{Heartbeat, SourceName};
use serde_json::Value;

use crate::support::{Site, both};

const SOURCE: &str = "[[source]]\nkind = \"files\"\nname = \"people\"\nfolder = \"GIT\"\naccess = true\n\
    [plan]\nsudo = { dba = [\"db-*\"] }\n";

fn people(names: &[&str]) -> String {
    let lines = names.iter().map(|name| format!("  - {{name: {name}}}\n"));
    format!("people:\n{}", lines.collect::<String>())
}

fn groups(dba: &str) -> String {
    format!("groups:\n  - {{name: eng, members: [ann, bob, cid, dan]}}\n  - {{name: dba, members: [{dba}]}}\n")
}

fn rules(eng: bool) -> String {
    let eng = if eng {
        "    - {group: eng, host_groups: [app]}\n"
    } else {
        ""
    };
    format!(
        "host_groups:\n  app: [app-1, app-2, app-3, app-4, app-5]\naccess:\n  enforce: true\n  rules:\n{eng}    \
         - {{group: dba, hosts: [db-1, db-2]}}\n"
    )
}

fn json(site: &Site) -> Value {
    serde_json::from_slice(&site.run(&["plan", "--json"]).stdout).unwrap()
}

#[test]
fn a_checkout_becomes_people_and_rules_and_plan_says_who_is_hit() {
    let site = Site::new(SOURCE);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for host in ["app-1", "db-1", "db-9"] {
        let beat = Heartbeat {
            agent_id: host.to_owned(),
            hostname: host.to_owned(),
            report: None,
        };
        runtime.block_on(site.cycle().post_heartbeat(&beat)).unwrap();
    }
    site.write("people.yaml", &people(&["ann", "bob", "cid", "dan", "eve"]));
    site.write("teams/groups.yaml", &groups("eve"));
    site.git(&["add", "-A"]);
    site.git(&["commit", "-q", "-m", "people"]);

    // Before anything: everyone is new, no rules are in force, and heartbeats name the hosts.
    let text = site.ends(&["plan"], 10);
    assert!(
        text.contains("blast radius: 5 people gain every host, 1 gains sudo on db-*"),
        "{text}"
    );
    assert_eq!(json(&site)["radius"]["gain"][0]["hosts"].as_array().unwrap().len(), 3);
    let text = site.good(&["apply", "--yes"]);
    assert!(
        text.contains("blast radius") && text.contains("published snapshot 1"),
        "{text}"
    );
    assert!(
        site.good(&["plan"])
            .contains("blast radius: nobody gains or loses anything")
    );

    // Rules that become enforced wait for a person, and nothing else does.
    site.write("access.yaml", &rules(true));
    let text = site.ends(&["plan"], 11);
    assert!(
        text.contains("would be held back: access rules become enforced"),
        "{text}"
    );
    let text = site.ends(&["apply"], 11);
    assert!(
        text.contains("nothing was written: every change is held back"),
        "{text}"
    );
    let stored = || {
        runtime
            .block_on(site.cycle().get_access_rules())
            .unwrap()
            .map(|rules| rules.config)
    };
    assert_eq!(
        stored().map(|rules| rules.host_group_rules.len()).unwrap_or_default(),
        0
    );
    site.ends(&["apply", "--accept", "000000000000"], 1);
    let id = json(&site)["access_rules"]["change"].as_str().unwrap().to_owned();
    let text = site.good(&["apply", "--accept", &id]);
    assert!(text.contains("access rules +7 -0, enforced from now on"), "{text}");
    let rules_now = stored().unwrap();
    assert!(rules_now.enforce_group_memberships && rules_now.host_group_rules.len() == 7);

    // Four people lose what a rule gave them; one gets sudo.
    site.write("access.yaml", &rules(false));
    site.write("teams/groups.yaml", &groups("eve, ann"));
    let text = both(&site.run(&["plan"]));
    assert!(text.contains("4 people lose 5 hosts (app)"), "{text}");
    let all = json(&site);
    assert_eq!(
        all["radius"]["lose"][0]["people"],
        serde_json::json!(["ann", "bob", "cid", "dan"])
    );
    assert_eq!(all["radius"]["gain_sudo"][0]["people"], serde_json::json!(["ann"]));
    assert_eq!(
        all["summary"],
        "4 people lose 5 hosts (app), 1 gains db-1 and db-2, 1 gains sudo on db-1 and db-2, memberships +1 -0"
    );
}

#[test]
fn one_broken_file_stops_the_read_and_the_last_good_stays() {
    let site = Site::new(SOURCE);
    site.write("people.yaml", &people(&["ann", "bob"]));
    site.write("more.toml", "[[people]]\nname = \"cid\"\n");
    site.good(&["once"]);
    let source = SourceName::new("people").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let sealed = || {
        let mut body = Vec::new();
        let _ = runtime
            .block_on(site.cycle().get_snapshot(&source, None, u64::MAX, &mut body))
            .unwrap();
        body
    };
    let before = sealed();
    for (name, text, says) in [
        (
            "more.toml",
            "[[people]]\nname = \"cid\"\nnmae = 1\n",
            "more.toml:3: unknown field `nmae`",
        ),
        (
            "more.toml",
            "[[people]]\nname = \"ann\"\n",
            "people.yaml:2: person \"ann\" is in more.toml too",
        ),
        (
            "more.toml",
            "[[groups]]\nname = \"x\"\nmembers = [\"zoe\"]\n",
            "more.toml:3: group x: there is no person \"zoe\"; add it",
        ),
    ] {
        site.write(name, text);
        let error = site.ends(&["once"], 1);
        assert!(
            error.contains(says) && error.contains("the last good state stays"),
            "{error}"
        );
        assert!(site.ends(&["check"], 1).contains(says));
    }
    std::os::unix::fs::symlink("/etc/passwd", site.path("git/x.yaml")).unwrap();
    site.write("more.toml", "");
    let error = site.ends(&["plan"], 1);
    assert!(
        error.contains("x.yaml: it is a link that leads out of the folder") && !error.contains("root:"),
        "{error}"
    );
    assert!(sealed() == before, "nothing may be published");
}
