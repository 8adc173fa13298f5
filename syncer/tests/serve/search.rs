use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::support::*;

fn names(page: &Json) -> Vec<String> {
    let entries = page["entries"].as_array().unwrap().iter();
    entries.map(|entry| entry["dn"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn searches_go_page_by_page_and_show_what_is_wanted() {
    let site = Site::start().await;
    for uid in ["a", "b", "c", "d", "e"] {
        site.put(&format!("uid={uid},ou=users,dc=dirless"), person(uid)).await;
    }
    let search = |body: Json| site.ask(Method::POST, "/v1/search").json(&body);
    let (mut found, mut cursor) = (Vec::new(), Json::Null);
    loop {
        let page =
            search(json!({"filter": "(objectClass=person)", "limit": 2, "cursor": cursor, "attributes": ["mail"]}));
        let page = page.expect(200).await;
        assert_eq!(
            page["entries"][0]["attributes"].as_object().map(serde_json::Map::len),
            Some(1),
            "{page}"
        );
        found.extend(names(&page));
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(found.len(), 5);
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
    let base = search(json!({"base": "ou=users,dc=dirless", "scope": "base"}))
        .expect(200)
        .await;
    assert_eq!(names(&base), ["ou=users,dc=dirless"]);
    let one = search(json!({"base": "dc=dirless", "scope": "one", "limit": 1000}))
        .expect(200)
        .await;
    assert_eq!(names(&one).len(), 21);
    assert_eq!(names(&search(json!({})).expect(200).await).len(), 51);
    site.stop().await;
}

#[tokio::test]
async fn the_query_of_the_seed_system_finds_its_nodes() {
    let site = Site::start().await;
    for (name, kind, status, trust) in [
        ("n1", "mesh_node", "approved", 4),
        ("n2", "mesh_node", "pending", 4),
        ("n3", "local_agent", "approved", 4),
        ("n4", "mesh_node", "approved", 3),
    ] {
        let entity = json!({
            "objectClass": "aitherEntity", "aitherEntityType": kind, "aitherEntityStatus": status,
            "aitherTrustLevel": trust, "aitherAllowedServices": ["*"],
        });
        site.put(&format!("cn={name},ou=entities,dc=dirless"), entity).await;
    }
    let filter =
        "(&(objectClass=aitherEntity)(aitherEntityType=mesh_node)(aitherEntityStatus=approved)(aitherTrustLevel=4))";
    let page = site
        .ask(Method::POST, "/v1/search")
        .json(&json!({"filter": filter}))
        .expect(200)
        .await;
    assert_eq!(names(&page), ["cn=n1,ou=entities,dc=dirless"]);
    site.stop().await;
}

#[tokio::test]
async fn what_cannot_be_searched_is_refused() {
    let site = Site::start().await;
    let search = |body: Json| site.ask(Method::POST, "/v1/search").json(&body);
    for (body, status, code) in [
        (json!({"filter": "(cn=a"}), 400, "invalid_filter"),
        (json!({"filter": "(userPassword=*)"}), 400, "secret_in_filter"),
        (json!({"filter": "(|(cn=a)(2.5.4.35>={S))"}), 400, "secret_in_filter"),
        (json!({"filter": "(:caseExactMatch:=x)"}), 400, "secret_in_filter"),
        (json!({"base": "x"}), 400, "invalid_name"),
        (json!({"base": "ou=none,dc=dirless"}), 404, "entry_absent"),
        (json!({"limit": 0}), 400, "invalid_request"),
        (json!({"limit": 1001}), 400, "invalid_request"),
        (json!({"cursor": "!"}), 400, "invalid_request"),
        (json!({"scope": "all"}), 422, "invalid_body"),
        (json!([]), 422, "invalid_body"),
    ] {
        println!("{body}");
        assert_eq!(search(body.clone()).problem(status).await, code, "{body}");
    }
    site.stop().await;
}
