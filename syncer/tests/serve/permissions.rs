use serde_json::{Value as Json, json};

use crate::support::*;

async fn role(site: &Site, dn: &str, permissions: &[&str], inherits: &[&str]) {
    let mut role = json!({"objectClass": "aitherRole"});
    if !permissions.is_empty() {
        role["aitherPermission"] = json!(permissions);
    }
    if !inherits.is_empty() {
        role["aitherInherits"] = json!(inherits);
    }
    site.put(dn, role).await;
}

async fn user(site: &Site, dn: &str, more: Json) {
    let mut person = person(dn.split(['=', ',']).nth(1).unwrap());
    for (name, value) in more.as_object().unwrap() {
        person[name] = value.clone();
    }
    site.put(dn, person).await;
}

async fn group(site: &Site, dn: &str, more: Json) {
    let mut group = json!({"objectClass": ["groupOfNames", "aitherGroup"]});
    for (name, value) in more.as_object().unwrap() {
        group[name] = value.clone();
    }
    site.put(dn, group).await;
}

async fn check(site: &Site, user: &str, permission: &str, tenant: Option<&str>) -> Json {
    let tenant = tenant.map(|tenant| format!("&tenant={tenant}")).unwrap_or_default();
    let path = format!("/v1/permissions/check?user={user}&permission={permission}{tenant}");
    site.get(&path).expect(200).await
}

fn chain(answer: &Json) -> Vec<&str> {
    answer["chain"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect()
}

async fn fill(site: &Site) {
    role(site, "cn=reader,ou=roles,dc=dirless", &["document:read:*"], &[]).await;
    role(
        site,
        "cn=editor,ou=roles,dc=dirless",
        &["document:write:own"],
        &["reader"],
    )
    .await;
    role(site, "cn=owner,ou=roles,dc=dirless", &["*"], &[]).await;
    user(
        site,
        "uid=alice,ou=users,dc=dirless",
        json!({"aitherRoles": ["editor"]}),
    )
    .await;
    user(site, "uid=bob,ou=users,dc=dirless", json!({})).await;
    user(site, "uid=carol,ou=users,dc=dirless", json!({"aitherGroups": ["ops"]})).await;
    user(
        site,
        "uid=dave,ou=users,dc=dirless",
        json!({"aitherRoles": ["owner"], "aitherAccountStatus": "suspended"}),
    )
    .await;
    group(
        site,
        "cn=ops,ou=groups,dc=dirless",
        json!({"member": "uid=bob,ou=users,dc=dirless"}),
    )
    .await;
    group(
        site,
        "cn=all,ou=groups,dc=dirless",
        json!({"member": "cn=ops,ou=groups,dc=dirless", "aitherRoles": ["owner"]}),
    )
    .await;
}

#[tokio::test]
async fn roles_come_by_oneself_by_groups_and_by_groups_of_groups() {
    let site = Site::start().await;
    fill(&site).await;
    let answer = check(&site, "alice", "document:read:all", None).await;
    assert_eq!(answer["allowed"], true);
    assert_eq!(
        chain(&answer),
        [
            "uid=alice,ou=users,dc=dirless",
            "cn=editor,ou=roles,dc=dirless",
            "cn=reader,ou=roles,dc=dirless",
            "document:read:*"
        ]
    );
    assert_eq!(
        check(&site, "alice", "document:delete:own", None).await["allowed"],
        false
    );
    for user in ["bob", "carol", "uid=bob,ou=users,dc=dirless"] {
        let answer = check(&site, user, "any:thing:at-all", None).await;
        let chain = chain(&answer);
        assert_eq!(
            chain[1..],
            [
                "cn=ops,ou=groups,dc=dirless",
                "cn=all,ou=groups,dc=dirless",
                "cn=owner,ou=roles,dc=dirless",
                "*"
            ],
            "{user}"
        );
    }
    let answer = check(&site, "dave", "a:b:c", None).await;
    assert_eq!(answer["allowed"], false);
    assert!(answer["notes"][0].as_str().unwrap().contains("suspended"));
    site.stop().await;
}

#[tokio::test]
async fn groups_and_roles_that_go_in_circles_end() {
    let site = Site::start().await;
    fill(&site).await;
    group(
        &site,
        "cn=ops,ou=groups,dc=dirless",
        json!({"member": ["uid=bob,ou=users,dc=dirless", "cn=all,ou=groups,dc=dirless"], "aitherRoles": ["a", "gone"]}),
    )
    .await;
    role(&site, "cn=a,ou=roles,dc=dirless", &["no permission"], &["b"]).await;
    role(&site, "cn=b,ou=roles,dc=dirless", &["x:y:z"], &["a"]).await;
    role(&site, "cn=owner,ou=roles,dc=dirless", &["q:q:q"], &[]).await;
    assert_eq!(check(&site, "bob", "x:y:z", None).await["allowed"], true);
    let answer = check(&site, "bob", "nothing:at:all", None).await;
    let notes = answer["notes"].to_string();
    assert!(
        notes.contains("inherits from itself") && notes.contains("gone") && notes.contains("no permission"),
        "{notes}"
    );
    site.stop().await;
}

#[tokio::test]
async fn a_tenant_says_nothing_about_others() {
    let site = Site::start().await;
    fill(&site).await;
    for tenant in ["acme", "umbrella"] {
        let dn = format!("o={tenant},ou=tenants,dc=dirless");
        site.put(&dn, json!({"objectClass": ["organization", "aitherTenant"]}))
            .await;
    }
    let acme = "o=acme,ou=tenants,dc=dirless";
    role(&site, &format!("cn=reader,ou=roles,{acme}"), &["*"], &[]).await;
    user(
        &site,
        &format!("uid=zoe,ou=users,{acme}"),
        json!({"aitherRoles": ["reader"]}),
    )
    .await;
    let allowed = async |user: &str, tenant: Option<&str>| {
        check(&site, user, "document:write:x", tenant).await["allowed"].clone()
    };
    assert_eq!(
        allowed("zoe", Some("acme")).await,
        true,
        "the tenant's own role of that name"
    );
    assert_eq!(
        allowed("alice", Some("acme")).await,
        false,
        "the platform's people mean the platform's roles"
    );
    let everywhere = format!("/v1/permissions/check?user=uid=zoe,ou=users,{acme}&permission=document:write:x");
    assert_eq!(
        site.get(&everywhere).problem(404).await,
        "entry_absent",
        "a tenant's people are nobody elsewhere"
    );
    assert_eq!(
        site.get(&format!("{everywhere}&tenant=umbrella")).problem(404).await,
        "entry_absent"
    );
    let takeover = json!({"member": ["uid=bob,ou=users,dc=dirless"], "aitherRoles": ["reader"]});
    group(&site, &format!("cn=g,ou=groups,{acme}"), takeover).await;
    user(&site, "uid=erin,ou=users,dc=dirless", json!({})).await;
    let uids = json!({"objectClass": ["posixGroup", "aitherGroup"], "gidNumber": 2000, "memberUid": ["erin"], "aitherRoles": ["reader"], "cn": "h"});
    let uids = {
        let mut uids = uids;
        uids["objectClass"] = json!(["groupOfNames", "posixGroup", "aitherGroup"]);
        uids
    };
    site.put(&format!("cn=h,ou=groups,{acme}"), uids).await;
    assert_eq!(
        check(&site, "erin", "a:b:c", Some("acme")).await["allowed"],
        false,
        "another place's uid"
    );
    assert_eq!(
        site.get("/v1/permissions/check?user=none&permission=a:b:c")
            .problem(404)
            .await,
        "entry_absent"
    );
    assert_eq!(
        site.get("/v1/permissions/check?user=bob&permission=a:b")
            .problem(400)
            .await,
        "invalid_request"
    );
    assert_eq!(
        site.get("/v1/permissions/check?user=bob&permission=a:b:c&tenant=x")
            .problem(404)
            .await,
        "tenant_absent"
    );
    site.stop().await;
}
