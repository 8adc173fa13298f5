use reqwest::Method;
use serde_json::json;

use crate::support::*;

const ALICE: &str = "uid=alice,ou=users,dc=dirless";

#[tokio::test]
async fn an_entry_is_put_read_changed_and_removed() {
    let site = Site::start().await;
    let answer = site
        .ask(Method::PUT, &entry(ALICE))
        .json(&json!({"attributes": person("alice")}))
        .send()
        .await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text);
    let read = site.get(&entry(ALICE)).send().await;
    assert_eq!(read.tag, answer.tag);
    assert_eq!(read.headers["cache-control"], "no-store");
    let alice: serde_json::Value = serde_json::from_str(&read.text).unwrap();
    assert_eq!(alice["dn"], ALICE);
    assert_eq!(
        alice["attributes"]["creatorsName"],
        json!(["cn=tester,cn=operators"]),
        "the token's name"
    );
    let mut changed = person("alice");
    changed["mail"] = json!(["new@example.com"]);
    let outcome = site
        .ask(Method::PUT, &entry(ALICE))
        .json(&json!({"attributes": changed}))
        .expect(200)
        .await;
    assert_eq!(
        (&outcome["outcome"], &outcome["version"]),
        (&json!("updated"), &json!(2))
    );
    let again = site
        .ask(Method::PUT, &entry(ALICE))
        .json(&json!({"attributes": changed}))
        .expect(200)
        .await;
    assert_eq!(again["outcome"], "unchanged");
    let shown = site
        .get(&format!("{}?attributes=mail,nothing", entry(ALICE)))
        .expect(200)
        .await;
    assert_eq!(shown["attributes"], json!({"mail": ["new@example.com"]}));
    let gone = site.ask(Method::DELETE, &entry(ALICE)).expect(200).await;
    assert_eq!((&gone["outcome"], &gone["entries"]), (&json!("deleted"), &json!(1)));
    assert_eq!(site.get(&entry(ALICE)).problem(404).await, "entry_absent");
    site.stop().await;
}

#[tokio::test]
async fn writes_compare_and_swap() {
    let site = Site::start().await;
    let first = site.put(ALICE, person("alice")).await;
    assert_eq!(
        site.get(&entry(ALICE))
            .header("if-none-match", &first)
            .send()
            .await
            .status,
        304
    );
    let put = |header, tag: &str, mail: &str| {
        let mut attributes = person("alice");
        attributes["mail"] = json!([mail]);
        let body = json!({"attributes": attributes});
        site.ask(Method::PUT, &entry(ALICE)).json(&body).header(header, tag)
    };
    assert_eq!(put("if-none-match", "*", "a@x").problem(412).await, "version_mismatch");
    put("if-match", &first, "b@x").expect(200).await;
    assert_eq!(put("if-match", &first, "c@x").problem(412).await, "version_mismatch");
    assert_eq!(put("if-match", "nonsense", "c@x").problem(400).await, "invalid_request");
    put("if-match", "*", "c@x").expect(200).await;
    assert_eq!(
        site.ask(Method::DELETE, &entry(ALICE))
            .header("if-match", &first)
            .problem(412)
            .await,
        "version_mismatch"
    );
    site.ask(Method::DELETE, &entry(ALICE)).expect(200).await;
    assert_eq!(put("if-match", "*", "d@x").problem(412).await, "version_mismatch");
    put("if-none-match", "*", "alice@example.com").expect(201).await;
    let body = json!({"attributes": person("alice")});
    let stale = site
        .ask(Method::PUT, &entry(ALICE))
        .json(&body)
        .header("if-match", &first);
    assert_eq!(
        stale.problem(412).await,
        "version_mismatch",
        "version 1 again, but another entry"
    );
    site.stop().await;
}

#[tokio::test]
async fn passwords_are_hashed_hidden_and_kept() {
    let site = Site::start().await;
    let mut alice = person("alice");
    alice["userPassword"] = json!(["correct horse"]);
    site.put(ALICE, alice).await;
    let read = site.get(&entry(ALICE)).expect(200).await;
    assert_eq!(read["attributes"]["userPassword"], json!([{"hidden": true}]));
    let held = || {
        let record = site
            .tree
            .get(&dirless_directory::Dn::parse(ALICE).unwrap())
            .unwrap()
            .unwrap();
        let name = dirless_directory::AttributeName::parse("userPassword").unwrap();
        record.entry().unwrap().values(&name).to_vec()
    };
    let stored = held();
    assert!(dirless_ldap::verify_password(stored[0].as_bytes(), b"correct horse"));
    assert!(!String::from_utf8_lossy(stored[0].as_bytes()).contains("horse"));
    let mut back = read["attributes"].clone();
    back["mail"] = json!(["other@example.com"]);
    site.put(ALICE, back).await;
    assert_eq!(held(), stored, "what was hidden comes back as it was");
    let log = site.get("/v1/changelog?limit=1000").send().await.text;
    assert!(!log.contains("PBKDF2") && !log.contains("horse"));
    site.stop().await;
}

#[tokio::test]
async fn entries_move_with_what_is_below_them() {
    let site = Site::start().await;
    let ou = json!({"objectClass": "organizationalUnit"});
    site.put("ou=team,ou=users,dc=dirless", ou).await;
    site.put("uid=bob,ou=team,ou=users,dc=dirless", person("bob")).await;
    let rename = |dn: &str, body| site.ask(Method::POST, &format!("{}/rename", entry(dn))).json(&body);
    let moved = rename(
        "ou=team,ou=users,dc=dirless",
        json!({"rdn": "ou=crew", "above": "ou=agents,dc=dirless"}),
    );
    let moved = moved.expect(200).await;
    assert_eq!(
        (&moved["dn"], &moved["outcome"]),
        (&json!("ou=crew,ou=agents,dc=dirless"), &json!("renamed"))
    );
    site.get(&entry("uid=bob,ou=crew,ou=agents,dc=dirless"))
        .expect(200)
        .await;
    let below = rename(
        "ou=crew,ou=agents,dc=dirless",
        json!({"rdn": "ou=x", "above": "uid=bob,ou=crew,ou=agents,dc=dirless"}),
    );
    assert_eq!(below.problem(422).await, "refused");
    let two = rename("ou=crew,ou=agents,dc=dirless", json!({"rdn": "ou=x,ou=y"}));
    assert_eq!(two.problem(400).await, "invalid_name");
    let taken = rename(
        "ou=crew,ou=agents,dc=dirless",
        json!({"rdn": "ou=users", "above": "dc=dirless"}),
    );
    assert_eq!(taken.problem(409).await, "entry_exists");
    assert_eq!(
        site.ask(Method::DELETE, &entry("ou=crew,ou=agents,dc=dirless"))
            .problem(409)
            .await,
        "not_leaf"
    );
    let all = site.ask(
        Method::DELETE,
        &format!("{}?subtree=true", entry("ou=crew,ou=agents,dc=dirless")),
    );
    assert_eq!(all.expect(200).await["entries"], 2);
    let base = site.ask(Method::DELETE, &format!("{}?subtree=true", entry("dc=dirless")));
    assert_eq!(base.problem(422).await, "refused");
    site.stop().await;
}

#[tokio::test]
async fn what_cannot_be_says_what_and_where() {
    let site = Site::start().await;
    let put = |dn: &str, body| site.ask(Method::PUT, &entry(dn)).json(&body);
    let good = json!({"attributes": person("x")});
    assert_eq!(put("no name", good.clone()).problem(400).await, "invalid_name");
    assert_eq!(
        put("uid=x,dc=elsewhere", good.clone()).problem(400).await,
        "invalid_name"
    );
    assert_eq!(
        put("uid=x,ou=none,dc=dirless", good.clone()).problem(404).await,
        "entry_absent"
    );
    let unknown = json!({"attributes": {"objectClass": "nothing"}});
    assert_eq!(
        put("uid=x,ou=users,dc=dirless", unknown).problem(422).await,
        "schema_violation"
    );
    let missing = json!({"attributes": {"objectClass": "inetOrgPerson"}});
    let answer = put("uid=x,ou=users,dc=dirless", missing).send().await;
    assert!(
        answer.text.contains("inetOrgPerson") || answer.text.contains("person requires"),
        "{}",
        answer.text
    );
    assert_eq!(
        put("uid=x,ou=users,dc=dirless", json!({"attributes": 1}))
            .problem(422)
            .await,
        "invalid_body"
    );
    assert_eq!(
        put("uid=x,ou=users,dc=dirless", json!({"attributes": {}, "x": 1}))
            .problem(422)
            .await,
        "invalid_body"
    );
    let text = site
        .ask(Method::PUT, &entry(ALICE))
        .header("content-type", "text/plain");
    assert_eq!(text.problem(415).await, "unsupported_media_type");
    let huge = json!({"attributes": {"description": "x".repeat(5 << 20)}});
    assert_eq!(
        put("uid=x,ou=users,dc=dirless", huge).problem(413).await,
        "payload_too_large"
    );
    assert_eq!(
        site.ask(Method::PATCH, &entry(ALICE)).problem(405).await,
        "method_not_allowed"
    );
    assert_eq!(site.get("/v2").problem(404).await, "not_found");
    assert_eq!(site.get("/v1/nothing").problem(404).await, "not_found");
    site.stop().await;
}
