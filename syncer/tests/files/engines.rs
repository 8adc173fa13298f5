use serde_json::Value;

use crate::support::{Site, both};

const ENGINES: &str = "[[source]]\nkind = \"files\"\nname = \"people\"\nfolder = \"GIT\"\n\
    engines = [\"agents\", \"services\", \"tenants\", \"certificates\", \"mail\", \"configs\"]\n";

fn fill(site: &Site) {
    let (certificate, key) = {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["genesis".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        (made.pem(), key.serialize_pem())
    };
    assert!(key.contains("PRIVATE KEY"));
    for (name, text) in [
        ("people.yaml", "people: [{name: alice}]\n"),
        (
            "agents/identities/athena.yaml",
            "name: Athena\nrole: security\nroles: [security]\n",
        ),
        (
            "agents/cards/athena.json",
            "{\"name\": \"Athena\", \"skills\": [{\"id\": \"audit\"}]}",
        ),
        ("agents/addresses.yaml", "athena: athena@corp.example\n"),
        (
            "agents/registrations/athena.json",
            "{\"name\": \"athena\", \"port\": 8770, \"status\": \"approved\"}",
        ),
        (
            "services/registry.yaml",
            "services:\n  Genesis: {port: 8001, features: [plan]}\n  Relay: {tenant: globex}\n",
        ),
        ("certificates/genesis.pem", certificate.as_str()),
        (
            "certificates/bindings.yaml",
            "bindings:\n  Genesis: {certificate: genesis.pem, ca: ca-1}\n",
        ),
        (
            "mail/smtp.yaml",
            "provider: resend\nrelay: smtp.resend.com\nport: 587\n",
        ),
        (
            "mail/lists.yaml",
            "lists:\n  security: {address: sec@corp.example, members: [alice, 'agent:athena']}\n",
        ),
        (
            "tenants/globex.yaml",
            "display_name: Globex\nplan_tier: gold\nquotas: {seats: 5}\n",
        ),
        ("tenants/globex/configs/theme.yaml", "dark: true\n"),
        ("configs/services.yaml", "AitherRelay: {port: 8300}\n"),
        ("configs/security/permissions.toml", "strict = true\n"),
    ] {
        site.write(name, text);
    }
}

#[test]
fn all_engines_fill_the_tree_and_say_what_they_did() {
    let site = Site::new(ENGINES);
    fill(&site);
    let text = site.ends(&["plan"], 10);
    assert!(
        text.contains("engine tenants: entries +") && text.contains("engine configs: entries +2"),
        "{text}"
    );
    assert!(!site.path("state/tree.db").exists(), "a plan makes no tree");
    let text = site.good(&["once"]);
    for line in [
        "engine agents: entries +1",
        "engine services: entries +3",
        "engine certificates: entries +1",
    ] {
        assert!(text.contains(line), "{line} is missing: {text}");
    }
    let agent = "cn=athena,ou=agents,dc=dirless";
    assert_eq!(site.value(agent, "aitherA2ACapabilities"), ["audit"]);
    assert_eq!(site.value(agent, "mail"), ["athena@corp.example"]);
    assert_eq!(site.value(agent, "aitherSource"), ["engine-agents"]);
    assert_eq!(
        site.value("cn=Genesis,ou=services,dc=dirless", "aitherCertificateAuthority"),
        ["ca-1"]
    );
    assert_eq!(
        site.value("cn=smtp,ou=services,dc=dirless", "aitherMailRelay"),
        ["smtp.resend.com"]
    );
    assert_eq!(
        site.found("(&(objectClass=aitherService)(aitherTenantId=globex))"),
        ["cn=Relay,ou=services,o=globex,ou=tenants,dc=dirless"]
    );
    assert_eq!(
        site.value("o=globex,ou=tenants,dc=dirless", "aitherQuota"),
        ["{\"seats\":5}"]
    );
    assert_eq!(
        site.value("cn=theme,ou=configs,o=globex,ou=tenants,dc=dirless", "aitherConfigData"),
        ["{\"dark\":true}"]
    );
    assert_eq!(
        site.found("(&(objectClass=groupOfNames)(aitherGroupType=distribution_list))")
            .len(),
        1
    );
    assert_eq!(
        site.value("cn=security.permissions,ou=configs,dc=dirless", "aitherConfigData"),
        ["{\"strict\":true}"]
    );

    // Nothing changes twice; what goes from the files goes from the tree.
    assert!(
        site.good(&["once"])
            .contains("engine agents: nothing changed (1 entries)")
    );
    std::fs::remove_file(site.path("git/configs/services.yaml")).unwrap();
    assert!(site.good(&["once"]).contains("engine configs: entries +0 -1 ~0"));
    assert!(site.found("(cn=services)").is_empty());
    let status: Vec<Value> = serde_json::Deserializer::from_slice(&site.run(&["status", "--json"]).stdout)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let engines = status.last().unwrap()["engines"].as_array().unwrap();
    assert!(
        engines
            .iter()
            .any(|ran| ran["engine"] == "configs" && ran["outcome"] == "changed")
    );
}

#[test]
fn a_broken_file_stops_its_engine_alone_and_a_mass_change_waits() {
    let site = Site::new(ENGINES);
    fill(&site);
    for n in 0..20 {
        site.write(&format!("configs/c{n}.json"), "{}");
    }
    site.good(&["once"]);
    site.write("agents/identities/athena.yaml", "name: Athena\nrank: 3\n");
    site.write("configs/c0.json", "{\"new\": 1}");
    let output = site.run(&["once"]);
    let text = both(&output);
    assert!(
        !output.status.success() && text.contains("git/agents/identities/athena.yaml:2"),
        "{text}"
    );
    assert!(text.contains("engine configs: entries +0 -0 ~1"), "{text}");
    assert_eq!(
        site.value("cn=athena,ou=agents,dc=dirless", "aitherAgentRole"),
        ["security"]
    );
    site.write("agents/identities/athena.yaml", "name: Athena\nrole: chief\n");

    for n in 0..10 {
        std::fs::remove_file(site.path(&format!("git/configs/c{n}.json"))).unwrap();
    }
    let text = site.ends(&["once"], 11);
    assert!(text.contains("engine configs: held back"), "{text}");
    assert_eq!(
        site.value("cn=athena,ou=agents,dc=dirless", "aitherAgentRole"),
        ["chief"]
    );
    let plan: Value = serde_json::from_slice(&site.run(&["plan", "--json"]).stdout).unwrap();
    let engines = plan["engines"].as_array().unwrap();
    let held = engines.iter().find(|ran| ran["outcome"] == "held").unwrap();
    site.good(&["apply", "--yes", "--accept", held["change"].as_str().unwrap()]);
    assert!(site.found("(cn=c3)").is_empty() && site.found("(cn=c13)").len() == 1);
}
