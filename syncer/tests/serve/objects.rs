use serde_json::{Value as Json, json};

use crate::support::*;

fn names(page: &Json) -> Vec<&str> {
    let objects = page["objects"].as_array().unwrap().iter();
    objects.map(|object| object["name"].as_str().unwrap()).collect()
}

async fn fill(site: &Site) {
    for (dn, attributes) in [
        ("uid=alice,ou=users,dc=dirless", person("alice")),
        ("uid=athena,ou=users,dc=dirless", {
            let mut athena = person("athena");
            athena["aitherUserType"] = json!("agent");
            athena
        }),
        (
            "cn=saga,ou=agents,dc=dirless",
            json!({"objectClass": "aitherAgent", "aitherEffortBudget": 7, "aitherA2ACard": "{\"skills\":[\"x\"]}"}),
        ),
        (
            "cn=ops,ou=groups,dc=dirless",
            json!({"objectClass": ["groupOfNames", "aitherGroup"], "member": "uid=alice,ou=users,dc=dirless", "aitherRoles": ["owner"]}),
        ),
        (
            "cn=owner,ou=roles,dc=dirless",
            json!({"objectClass": "aitherRole", "aitherPermission": ["*"]}),
        ),
        (
            "o=acme,ou=tenants,dc=dirless",
            json!({"objectClass": ["organization", "aitherTenant"], "aitherSlug": "acme-corp", "aitherQuota": "{\"users\":5}"}),
        ),
        (
            "cn=strata,ou=services,dc=dirless",
            json!({"objectClass": "aitherService", "aitherStorageRole": "lake", "aitherPort": 8136}),
        ),
        (
            "cn=gpu-1,ou=devices,dc=dirless",
            json!({"objectClass": "aitherDevice", "aitherDeviceType": "gpu", "aitherGpuClass": "A100"}),
        ),
        (
            "cn=mail,ou=configs,dc=dirless",
            json!({"objectClass": "aitherConfig", "aitherConfigData": "{\"port\":25}"}),
        ),
        (
            "cn=n1,ou=entities,dc=dirless",
            json!({"objectClass": "aitherEntity", "aitherEntityType": "mesh_node", "aitherTrustLevel": 4}),
        ),
    ] {
        site.put(dn, attributes).await;
    }
    site.put("uid=bob,ou=users,o=acme,ou=tenants,dc=dirless", person("bob"))
        .await;
}

#[tokio::test]
async fn every_kind_is_listed_and_found_by_name() {
    let site = Site::start().await;
    fill(&site).await;
    for (kind, listed) in [
        ("users", vec!["alice", "athena"]),
        ("agents", vec!["saga", "athena"]),
        ("groups", vec!["ops"]),
        ("roles", vec!["owner"]),
        ("tenants", vec!["acme", "platform", "public"]),
        ("services", vec!["strata"]),
        ("devices", vec!["gpu-1"]),
        ("configs", vec!["mail"]),
        ("entities", vec!["n1"]),
    ] {
        let page = site.get(&format!("/v1/{kind}")).expect(200).await;
        assert_eq!(names(&page), listed, "{kind}");
        for name in listed {
            let one = site.get(&format!("/v1/{kind}/{name}")).send().await;
            assert!(
                one.status.is_success() && one.tag.is_some(),
                "{kind} {name}: {}",
                one.text
            );
        }
        assert_eq!(site.get(&format!("/v1/{kind}/none")).problem(404).await, "entry_absent");
    }
    site.stop().await;
}

#[tokio::test]
async fn fields_have_their_types_and_tenants_their_own() {
    let site = Site::start().await;
    fill(&site).await;
    let fields = async |path: &str| site.get(path).expect(200).await["fields"].clone();
    let saga = fields("/v1/agents/saga").await;
    assert_eq!(
        (&saga["effort_budget"], &saga["a2a_card"]),
        (&json!(7), &json!({"skills": ["x"]}))
    );
    assert_eq!(fields("/v1/configs/mail").await["data"], json!({"port": 25}));
    assert_eq!(fields("/v1/services/strata").await["port"], json!(8136));
    assert_eq!(
        fields("/v1/tenants/acme-corp").await["quotas"],
        json!({"users": 5}),
        "by its slug"
    );
    assert_eq!(fields("/v1/entities/n1").await["trust_level"], json!(4));
    assert_eq!(
        fields("/v1/groups/ops").await["members"],
        json!(["uid=alice,ou=users,dc=dirless"])
    );
    let page = site.get("/v1/users?tenant=acme").expect(200).await;
    assert_eq!(names(&page), ["bob"]);
    assert_eq!(
        site.get("/v1/users/bob").problem(404).await,
        "entry_absent",
        "not the platform's"
    );
    site.get("/v1/users/bob?tenant=acme").expect(200).await;
    assert_eq!(site.get("/v1/users?tenant=none").problem(404).await, "tenant_absent");
    site.stop().await;
}

#[tokio::test]
async fn lists_are_paged_over_all_units_and_filtered() {
    let site = Site::start().await;
    fill(&site).await;
    let first = site.get("/v1/agents?limit=1").expect(200).await;
    assert_eq!(names(&first), ["saga"]);
    let next = first["next"].as_str().unwrap();
    let second = site.get(&format!("/v1/agents?limit=1&cursor={next}")).expect(200).await;
    assert_eq!((names(&second), second["next"].is_null()), (vec!["athena"], true));
    let filtered = site.get("/v1/users?filter=(mail=alice*)").expect(200).await;
    assert_eq!(names(&filtered), ["alice"]);
    assert_eq!(
        site.get("/v1/users?filter=(userPassword=*)").problem(400).await,
        "secret_in_filter"
    );
    assert_eq!(site.get("/v1/users?nothing=1").problem(400).await, "invalid_request");
    let twin = json!({"objectClass": "aitherAgent", "uid": "athena"});
    site.put("cn=other,ou=agents,dc=dirless", twin).await;
    assert_eq!(site.get("/v1/agents/athena").problem(409).await, "ambiguous");
    site.stop().await;
}

#[tokio::test]
async fn the_tree_and_its_counts_are_shown() {
    let site = Site::start().await;
    fill(&site).await;
    let top = site.get("/v1/tree").expect(200).await;
    assert_eq!(top["nodes"].as_array().unwrap().len(), 21);
    let users = site.get("/v1/tree?dn=ou=users,dc=dirless&limit=1").expect(200).await;
    assert_eq!(users["nodes"][0]["rdn"], "uid=alice");
    assert!(
        users["nodes"][0]["object_classes"]
            .as_array()
            .unwrap()
            .contains(&json!("inetOrgPerson"))
    );
    let next = users["next"].as_str().unwrap();
    let rest = site
        .get(&format!("/v1/tree?dn=ou=users,dc=dirless&cursor={next}"))
        .expect(200)
        .await;
    assert_eq!(rest["nodes"][0]["rdn"], "uid=athena");
    assert_eq!(
        site.get("/v1/tree?dn=ou=none,dc=dirless").problem(404).await,
        "entry_absent"
    );
    let stats = site.get("/v1/stats").expect(200).await;
    let users = json!({"rdn": "ou=users", "entries": 2});
    assert!(stats["subtrees"].as_array().unwrap().contains(&users), "{stats}");
    assert_eq!(stats["state"], stats["changes"]);
    site.stop().await;
}
