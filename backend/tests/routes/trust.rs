//! The verified protocol over HTTP: who may do what, and one answer to all that is wrong with who asks.

use dirless_backend::store::{RealmChange, RealmName, RealmState, Scope};
use dirless_wire::TenantId;
use dirless_wire::trust::{Digest, SignedRequest, Time};

use super::keys::{SigningKey, sha256_hex};
use super::support::{Ask, KEY, Reply, SECRET, Site, TENANT, ask, block_on};

fn digest(bytes: &[u8]) -> Digest {
    sha256_hex(bytes).parse().unwrap()
}

fn now() -> u64 {
    u64::try_from(dirless_program::Clock::system().now().as_second()).unwrap()
}

fn key(name: &str) -> SigningKey {
    SigningKey::generate(name)
}

/// A node's key, under the name it must have.
fn node() -> SigningKey {
    let key = key("n");
    let name = format!("n{}", &sha256_hex(key.public())[..16]);
    key.renamed(&name)
}

pub(super) fn id(key: &SigningKey) -> String {
    format!("{}+{}", key.name(), key.hash())
}

/// A request signed by `key` for the tenant of its path, at a time.
fn signed_at(key: &SigningKey, method: &str, path: &str, body: &[u8], time: u64) -> Ask {
    let tenant = path.split('/').nth(2).unwrap();
    let time = Time::from_unix_seconds(time).unwrap();
    let text = SignedRequest::text(method, path, &TenantId::new(tenant).unwrap(), &time, &digest(body));
    let request = SignedRequest {
        key: id(key).parse().unwrap(),
        time,
        signature: key.sign(text.as_bytes()).try_into().unwrap(),
    };
    let ask = ask(method, path).header("Authorization", &request.to_string());
    if body.is_empty() { ask } else { ask.body(body) }
}

pub(super) fn signed(key: &SigningKey, method: &str, path: &str, body: &[u8]) -> Ask {
    signed_at(key, method, path, body, now())
}

/// Sends the head of a request alone: what is refused by its head may not be waited for.
fn send_head(site: &Site, ask: &Ask) -> Reply {
    let bytes = ask.bytes();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    site.exchange(&bytes[..end])
}

pub(super) struct Tenant {
    pub(super) site: Site,
    pub(super) token: String,
    pub(super) publisher: SigningKey,
    pub(super) node: SigningKey,
}

impl Tenant {
    /// One with a publisher and a node.
    pub(super) fn start() -> Self {
        Self::with("")
    }

    pub(super) fn with(toml: &str) -> Self {
        let site = Site::with(toml);
        let tenant = Self {
            token: site.token(&[Scope::Tenants], Some("default")),
            publisher: key("syncer"),
            node: node(),
            site,
        };
        tenant.register(&tenant.publisher).expect_status(201);
        tenant.admit(&tenant.node).expect_status(201);
        tenant
    }

    fn register(&self, key: &SigningKey) -> Reply {
        let path = format!("/v2/acme/credential/{}", id(key));
        let body = format!(r#"{{"key":"{}","role":"publisher"}}"#, key.text());
        ask("PUT", &path).bearer(&self.token).body(body).send(&self.site)
    }

    fn admit(&self, node: &SigningKey) -> Reply {
        let path = format!("/v2/acme/credential/{}", id(node));
        let body = format!(r#"{{"key":"{}","role":"node"}}"#, node.text());
        self.publishes("PUT", &path, body.as_bytes())
    }

    pub(super) fn publishes(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        signed(&self.publisher, method, path, body).send(&self.site)
    }

    fn node_gets(&self, path: &str) -> Reply {
        signed(&self.node, "GET", path, b"").send(&self.site)
    }

    fn operates(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let ask = ask(method, path).bearer(&self.token);
        let ask = if body.is_empty() { ask } else { ask.body(body) };
        ask.send(&self.site)
    }
}

#[test]
fn objects_are_written_once_and_read_with_tags() {
    let tenant = Tenant::start();
    let blob = format!("/v2/acme/blob/{}", digest(b"sealed"));
    let stored = tenant.publishes("PUT", &blob, b"sealed").expect_status(201);
    let tag = stored.header("etag").unwrap().to_owned();
    tenant.publishes("PUT", &blob, b"sealed").expect_status(200);
    let reply = tenant.node_gets(&blob).expect_status(200);
    assert_eq!((reply.text(), reply.header("etag")), ("sealed", Some(tag.as_str())));
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
    for _ in 0..2 {
        let again = signed(&tenant.node, "GET", &blob, b"")
            .header("If-None-Match", &tag)
            .send(&tenant.site);
        again.expect_status(304);
    }
    let head = signed(&tenant.node, "HEAD", &blob, b"")
        .send(&tenant.site)
        .expect_status(200);
    assert_eq!(head.header("content-length"), Some("6"));
    let lie = signed(
        &tenant.publisher,
        "PUT",
        &format!("/v2/acme/blob/{}", digest(b"other")),
        b"other",
    );
    let mut bytes = lie.bytes();
    let at = bytes.len() - 5;
    bytes[at..].copy_from_slice(b"OTHER");
    tenant.site.exchange(&bytes).expect_error(422, "digest_mismatch");
    tenant.node_gets("/v2/acme/policy/1").expect_error(404, "object_absent");
    tenant.publishes("PUT", "/v2/acme/policy/1", b"one").expect_status(201);
    assert_eq!(tenant.node_gets("/v2/acme/policy/1").expect_status(200).text(), "one");
    tenant
        .publishes("PUT", "/v2/acme/policy/1", b"two")
        .expect_error(409, "already_exists");
    tenant.publishes("DELETE", &blob, b"").expect_status(200);
    tenant.node_gets(&blob).expect_error(404, "object_absent");
}

#[test]
fn heads_are_swapped() {
    let tenant = Tenant::start();
    let path = "/v2/acme/head/syncer";
    tenant
        .publishes("PUT", path, b"1")
        .expect_error(428, "precondition_required");
    let swap = |name: &str, value: &str, body: &[u8]| {
        signed(&tenant.publisher, "PUT", path, body)
            .header(name, value)
            .send(&tenant.site)
    };
    swap("If-Match", "*", b"1").expect_error(428, "precondition_required");
    let first = swap("If-None-Match", "*", b"1").expect_status(201);
    let tag = first.header("etag").unwrap();
    swap("If-None-Match", "*", b"2").expect_error(412, "precondition_failed");
    assert_eq!(tenant.node_gets(path).text(), "1");
    swap("If-Match", tag, b"2").expect_status(201);
    assert_eq!(tenant.node_gets(path).text(), "2");
    swap("If-Match", tag, b"3").expect_error(412, "precondition_failed");
    tenant
        .publishes("DELETE", path, b"")
        .expect_error(405, "method_not_allowed");
}

#[test]
fn everything_wrong_with_who_asks_is_one_answer() {
    let tenant = Tenant::start();
    tenant.site.enroll(SECRET, TENANT, KEY).expect_status(200);
    let revoked = node();
    tenant.admit(&revoked).expect_status(201);
    let path = format!("/v2/acme/credential/{}", id(&revoked));
    tenant.publishes("DELETE", &path, b"").expect_status(200);
    let other_realm = tenant.site.token(&[Scope::Tenants], Some("other"));
    for (method, rest, body) in [
        ("GET", "policy/1", b"".as_slice()),
        ("PUT", "policy/1", b"x"),
        ("GET", "", b""),
        ("GET", "receipts", b""),
        ("GET", "join", b""),
        ("POST", "heartbeat", b"x"),
        ("DELETE", "policy/1", b""),
    ] {
        let here = format!("/v2/acme/{rest}");
        let elsewhere = |name: &str| format!("/v2/{name}/{rest}");
        let with = |ask: Ask| if body.is_empty() { ask } else { ask.body(body) };
        let first = with(ask(method, &here)).send(&tenant.site).lasting();
        assert_eq!(first.status, 401, "{method} {here}");
        assert_eq!(first.header("www-authenticate"), Some("Dirless-Ed25519"));
        let good = signed(&tenant.publisher, method, &here, body);
        let broken = String::from_utf8(good.bytes())
            .unwrap()
            .replacen("signature=\"", "signature=\"AAAA", 1);
        for wrong in [
            signed(&node(), method, &here, body).bytes(),
            signed(&revoked, method, &here, body).bytes(),
            signed(&tenant.publisher, method, &elsewhere("nobody"), body).bytes(),
            signed(&tenant.publisher, method, &elsewhere(TENANT), body).bytes(),
            signed_at(&tenant.publisher, method, &here, body, now() - 400).bytes(),
            signed_at(&tenant.publisher, method, &here, body, now() + 400).bytes(),
            // Another's signature under its name.
            signed(&tenant.node.renamed("syncer"), method, &here, body).bytes(),
            broken.into_bytes(),
            with(ask(method, &here).bearer("wrong")).bytes(),
            with(ask(method, &here).bearer(SECRET)).bytes(),
            with(ask(method, &here).bearer(&other_realm)).bytes(),
            with(ask(method, &elsewhere("nobody")).bearer(&other_realm)).bytes(),
            with(ask(method, &here).header("Authorization", "Dirless-Ed25519 nonsense")).bytes(),
            with(ask(method, &here).header("Authorization", "Basic eDp5")).bytes(),
        ] {
            assert_eq!(
                tenant.site.exchange(&wrong).lasting(),
                first,
                "{}",
                String::from_utf8_lossy(&wrong)
            );
        }
        // A signature for one request is good for no other.
        let moved = String::from_utf8(good.bytes())
            .unwrap()
            .replacen("/v2/acme/", "/v2/acme/?/", 1);
        assert_ne!(tenant.site.exchange(moved.as_bytes()).status, 200);
    }
}

#[test]
fn a_suspended_realm_is_told_so_once_it_is_known() {
    let tenant = Tenant::start();
    let suspended = block_on(
        tenant
            .site
            .store
            .set_realm_state(&RealmName::default_realm(), RealmState::Suspended),
    );
    assert_eq!(suspended.unwrap(), RealmChange::Done);
    tenant
        .node_gets("/v2/acme/policy/1")
        .expect_error(403, "realm_suspended");
    signed(&node(), "GET", "/v2/acme/policy/1", b"")
        .send(&tenant.site)
        .expect_error(401, "unauthorized");
}

/// What each of a publisher, a node and an operator gets; 0 where the state of things makes a row impossible.
#[test]
fn roles_and_routes() {
    let tenant = Tenant::start();
    let own = format!("/v2/acme/wrap/all/1/{}", tenant.node.name());
    tenant.publishes("PUT", &own, b"mine").expect_status(201);
    tenant
        .publishes("PUT", "/v2/acme/wrap/all/1/recovery-1", b"theirs")
        .expect_status(201);
    tenant
        .publishes("PUT", "/v2/acme/nodes/syncer/1", b"list")
        .expect_status(201);
    let blob = format!("/v2/acme/blob/{}", digest(b"b"));
    let code = format!(
        r#"{{"bearer":"{}","expires_at":"2099-01-01T00:00:00Z","uses":1}}"#,
        digest(b"join bearer")
    );
    let rows: Vec<(&str, String, Vec<u8>, [u16; 3])> = vec![
        ("GET", own.clone(), vec![], [200, 200, 200]),
        ("GET", "/v2/acme/wrap/all/1/recovery-1".into(), vec![], [200, 403, 200]),
        ("GET", "/v2/acme/nodes/syncer/1".into(), vec![], [200, 200, 200]),
        ("GET", "/v2/acme/policy/9".into(), vec![], [404, 404, 404]),
        ("PUT", blob.clone(), b"b".to_vec(), [201, 403, 403]),
        (
            "PUT",
            "/v2/acme/manifest/syncer/aws/all/1".into(),
            b"m".to_vec(),
            [201, 403, 403],
        ),
        (
            "PUT",
            "/v2/acme/manifest/other/aws/all/1".into(),
            b"m".to_vec(),
            [403, 403, 403],
        ),
        (
            "PUT",
            "/v2/acme/succession/syncer/0a1b2c3d/1".into(),
            b"s".to_vec(),
            [201, 403, 403],
        ),
        (
            "PUT",
            "/v2/acme/succession/other/0a1b2c3d/1".into(),
            b"s".to_vec(),
            [403, 403, 403],
        ),
        (
            "GET",
            "/v2/acme/succession/syncer/0a1b2c3d/1".into(),
            vec![],
            [200, 200, 200],
        ),
        // What others follow up from the first is not taken away by whoever stole the key.
        (
            "DELETE",
            "/v2/acme/succession/syncer/0a1b2c3d/1".into(),
            vec![],
            [403, 403, 200],
        ),
        (
            "PUT",
            "/v2/acme/log/syncer/aws/all/1/0".into(),
            b"r".to_vec(),
            [201, 403, 403],
        ),
        (
            "PUT",
            "/v2/acme/log/syncer/aws/all/1/0".into(),
            b"other".to_vec(),
            [409, 403, 403],
        ),
        (
            "PUT",
            "/v2/acme/log/other/aws/all/1/tile-0".into(),
            b"t".to_vec(),
            [403, 403, 403],
        ),
        ("GET", "/v2/acme/log/syncer/aws/all/1/0".into(), vec![], [200, 200, 200]),
        ("GET", "/v2/acme/log/syncer/aws/all/1/1".into(), vec![], [404, 404, 404]),
        ("PUT", "/v2/acme/policy/1".into(), b"p".to_vec(), [201, 403, 200]),
        ("PUT", "/v2/acme/nodes/other/1".into(), b"n".to_vec(), [201, 403, 200]),
        ("DELETE", "/v2/acme/nodes/other/1".into(), vec![], [200, 403, 200]),
        ("DELETE", "/v2/acme/policy/1".into(), vec![], [403, 403, 200]),
        ("DELETE", blob, vec![], [200, 403, 403]),
        ("GET", "/v2/acme/".into(), vec![], [200, 403, 200]),
        ("GET", "/v2/acme/credential?limit=1".into(), vec![], [200, 403, 200]),
        ("GET", "/v2/acme/receipts".into(), vec![], [200, 403, 200]),
        ("GET", "/v2/acme/join".into(), vec![], [200, 403, 200]),
        ("PUT", "/v2/acme/join/web".into(), code.into_bytes(), [200, 403, 200]),
        ("DELETE", "/v2/acme/join/web".into(), vec![], [200, 403, 200]),
        (
            "POST",
            "/v2/acme/heartbeat".into(),
            b"receipt".to_vec(),
            [403, 200, 403],
        ),
        (
            "DELETE",
            format!("/v2/acme/credential/{}", id(&key("syncer"))),
            vec![],
            [200, 403, 200],
        ),
    ];
    for (method, path, body, [publisher, node, operator]) in rows {
        let got = [
            tenant.publishes(method, &path, &body).status,
            signed(&tenant.node, method, &path, &body).send(&tenant.site).status,
            tenant.operates(method, &path, &body).status,
        ];
        assert_eq!(got, [publisher, node, operator], "{method} {path}");
    }
    // Who registers whom.
    let other = key("other");
    let body = format!(r#"{{"key":"{}","role":"publisher"}}"#, other.text());
    let path = format!("/v2/acme/credential/{}", id(&other));
    tenant
        .publishes("PUT", &path, body.as_bytes())
        .expect_error(403, "forbidden");
    let someone = node();
    let body = format!(r#"{{"key":"{}","role":"node"}}"#, someone.text());
    let path = format!("/v2/acme/credential/{}", id(&someone));
    tenant.operates("PUT", &path, body.as_bytes()).expect_status(201);
    let publisher = format!("/v2/acme/credential/{}", id(&tenant.publisher));
    tenant
        .publishes("DELETE", &publisher, b"")
        .expect_error(403, "forbidden");
    // A token without the scope, whatever the tenant.
    let reader = tenant.site.token(&[Scope::Health], Some("default"));
    for name in ["acme", "nobody"] {
        let reply = ask("GET", &format!("/v2/{name}/")).bearer(&reader).send(&tenant.site);
        reply.expect_error(403, "forbidden");
    }
    tenant.operates("DELETE", &publisher, b"").expect_status(200);
    tenant
        .publishes("GET", "/v2/acme/", b"")
        .expect_error(401, "unauthorized");
}

#[test]
fn a_tenant_comes_to_be_once() {
    let site = Site::start();
    let mine = site.token(&[Scope::Tenants], Some("default"));
    let theirs = site.token(&[Scope::Tenants], Some("other"));
    let create = |token: &str, path: &str| ask("POST", path).bearer(token).send(&site);
    create(&mine, "/v2/acme").expect_status(201);
    create(&mine, "/v2/acme").expect_status(200);
    create(&theirs, "/v2/acme").expect_error(401, "unauthorized");
    create(SECRET, "/v2/acme").expect_error(401, "unauthorized");
    create(&mine, "/v2/a%20b").expect_error(400, "invalid_request");
    // Enrolled the classic way it is the same realm's, and nobody else's.
    site.enroll(super::support::OTHER_SECRET, "acme", KEY)
        .expect_status(401);
    site.enroll(SECRET, "acme", KEY).expect_status(200);
    assert_eq!(create(&mine, "/v2/acme/").status, 405);
}

#[test]
fn keys_are_what_they_say() {
    let tenant = Tenant::start();
    let node = node();
    let put = |path: &str, body: &str| tenant.publishes("PUT", path, body.as_bytes());
    let path = format!("/v2/acme/credential/{}", id(&node));
    let body = |key: &str| format!(r#"{{"key":"{key}","role":"node"}}"#);
    put(&path, &body(&tenant.node.text())).expect_error(422, "invalid_body");
    let named = node.renamed("web-1");
    let wrong = put(&format!("/v2/acme/credential/{}", id(&named)), &body(&named.text()));
    wrong.expect_error(422, "invalid_body");
    let mistyped = node.text().replace(&node.hash(), "00000000");
    let path_of = format!("/v2/acme/credential/{}+00000000", node.name());
    put(&path_of, &body(&mistyped)).expect_error(422, "invalid_body");
    put(&path, "{}").expect_error(422, "invalid_body");
    put("/v2/acme/credential/nonsense", "{}").expect_error(404, "not_found");
    tenant.admit(&node).expect_status(201);
    tenant.admit(&node).expect_status(200);
    tenant.publishes("DELETE", &path, b"").expect_status(200);
    tenant.admit(&node).expect_error(409, "already_exists");
    let list = tenant.operates("GET", "/v2/acme/credential", b"").json();
    assert_eq!(list["credentials"].as_array().unwrap().len(), 3);
    let first = tenant.operates("GET", "/v2/acme/credential?limit=1", b"").json();
    let next = first["next"].as_str().unwrap();
    let rest = tenant
        .publishes("GET", &format!("/v2/acme/credential?after={next}"), b"")
        .json();
    assert_eq!(rest["credentials"].as_array().unwrap().len(), 2);
    assert!(rest.get("next").is_none());
}

#[test]
fn a_host_joins_by_its_code_alone() {
    let tenant = Tenant::start();
    let body = format!(
        r#"{{"bearer":"{}","expires_at":"2099-01-01T00:00:00Z","uses":1}}"#,
        digest(b"join bearer")
    );
    tenant
        .publishes("PUT", "/v2/acme/join/web", body.as_bytes())
        .expect_status(200);
    let post = |path: &str, bearer: &str, body: &[u8]| ask("POST", path).bearer(bearer).body(body).send(&tenant.site);
    let unknown = post("/v2/acme/join/db", "join bearer", b"request").lasting();
    assert_eq!(unknown.status, 401);
    for (path, bearer) in [
        ("/v2/acme/join/web", "wrong"),
        ("/v2/nobody/join/web", "join bearer"),
        ("/v2/acme/join/web", SECRET),
    ] {
        assert_eq!(post(path, bearer, b"request").lasting(), unknown, "{path}");
    }
    let long = ask("POST", "/v2/acme/join/web")
        .bearer("join bearer")
        .body(vec![0; 16 * 1024 + 1]);
    send_head(&tenant.site, &long).expect_error(413, "payload_too_large");
    post("/v2/acme/join/web", "join bearer", b"request").expect_status(201);
    post("/v2/acme/join/web", "join bearer", b"request").expect_status(200);
    assert_eq!(post("/v2/acme/join/web", "join bearer", b"another").lasting(), unknown);
    let list = tenant.publishes("GET", "/v2/acme/join", b"").json();
    assert_eq!(list["requests"][0]["request"], digest(b"request").to_string());
    let path = format!("/v2/acme/join/web/{}", digest(b"request"));
    assert_eq!(tenant.publishes("GET", &path, b"").expect_status(200).text(), "request");
    tenant.node_gets(&path).expect_error(403, "forbidden");
    tenant.publishes("DELETE", &path, b"").expect_status(200);
    tenant.publishes("GET", &path, b"").expect_error(404, "object_absent");
    for uses in ["0", "100001"] {
        let wrong = body.replace("\"uses\":1", &format!("\"uses\":{uses}"));
        let reply = tenant.publishes("PUT", "/v2/acme/join/web", wrong.as_bytes());
        reply.expect_error(422, "invalid_body");
    }
}

#[test]
fn receipts_are_kept_for_publishers_and_operators() {
    let tenant = Tenant::start();
    let beat = |body: &[u8]| signed(&tenant.node, "POST", "/v2/acme/heartbeat", body).send(&tenant.site);
    beat(b"first").expect_status(200);
    beat(b"second").expect_status(200);
    beat(b"").expect_status(200);
    let long = signed(&tenant.node, "POST", "/v2/acme/heartbeat", &[b'x'; 16 * 1024 + 1]);
    send_head(&tenant.site, &long).expect_error(413, "payload_too_large");
    let list = tenant.publishes("GET", "/v2/acme/receipts", b"").json();
    assert_eq!(list["receipts"][0]["receipt"], "c2Vjb25k");
    assert_eq!(list["receipts"][0]["node"], id(&tenant.node));
    let health = ask("GET", "/v1/health").send(&tenant.site).json();
    assert_eq!(health["agents"][0]["agent_id"], tenant.node.name());
}

#[test]
fn a_heartbeat_is_answered_with_what_may_be_new() {
    let tenant = Tenant::start();
    let beat = || {
        let reply = signed(&tenant.node, "POST", "/v2/acme/heartbeat", b"").send(&tenant.site);
        reply.expect_status(200).json()
    };
    assert_eq!(beat(), serde_json::json!({"heads": {}}));
    for version in [1, 2, 9, 10] {
        let path = format!("/v2/acme/policy/{version}");
        tenant.publishes("PUT", &path, b"policy").expect_status(201);
    }
    assert_eq!(beat(), serde_json::json!({"policy": 10, "heads": {}}));
    let swap = |name: &str, value: &str, body: &[u8]| {
        let put = signed(&tenant.publisher, "PUT", "/v2/acme/head/syncer", body);
        put.header(name, value).send(&tenant.site).expect_status(201)
    };
    let tag = swap("If-None-Match", "*", b"one");
    assert_eq!(beat()["heads"]["syncer"], "one");
    let tag = swap("If-Match", tag.header("etag").unwrap(), b"two");
    assert_eq!(beat()["heads"]["syncer"], "two");
    tenant.operates("DELETE", "/v2/acme/policy/10", b"").expect_status(200);
    assert_eq!(beat()["policy"], 9);
    // No text, or too long: they have to be asked for.
    let tag = swap("If-Match", tag.header("etag").unwrap(), b"\xff");
    assert_eq!(beat(), serde_json::json!({"policy": 9}));
    swap("If-Match", tag.header("etag").unwrap(), &[b'x'; 64 * 1024 + 1]);
    assert_eq!(beat(), serde_json::json!({"policy": 9}));
}

#[test]
fn whoever_holds_a_join_code_reads_policies_and_nothing_else() {
    let tenant = Tenant::start();
    tenant.publishes("PUT", "/v2/acme/policy/1", b"one").expect_status(201);
    let code = format!(
        r#"{{"bearer":"{}","expires_at":"2099-01-01T00:00:00Z","uses":1}}"#,
        digest(b"join bearer")
    );
    tenant
        .publishes("PUT", "/v2/acme/join/web", code.as_bytes())
        .expect_status(200);
    let get = |path: &str, bearer: &str| ask("GET", path).bearer(bearer).send(&tenant.site);
    let path = "/v2/acme/join/web/policy/1";
    let reply = get(path, "join bearer").expect_status(200);
    assert_eq!(reply.text(), "one");
    let tag = reply.header("etag").unwrap();
    let again = ask("GET", path).bearer("join bearer").header("If-None-Match", tag);
    again.send(&tenant.site).expect_status(304);
    get("/v2/acme/join/web/policy/2", "join bearer").expect_error(404, "object_absent");
    let refused = get(path, "wrong").lasting();
    assert_eq!(refused.status, 401);
    for (path, bearer) in [
        ("/v2/acme/join/other/policy/1", "join bearer"),
        ("/v2/nobody/join/web/policy/1", "join bearer"),
        (path, tenant.token.as_str()),
        ("/v2/acme/policy/1", "join bearer"),
        ("/v2/acme/head/syncer", "join bearer"),
        ("/v2/acme/", "join bearer"),
    ] {
        assert_eq!(get(path, bearer).lasting(), refused, "{path}");
    }
    signed(&tenant.node, "GET", path, b"")
        .send(&tenant.site)
        .expect_status(401);
    for path in ["/v2/acme/join/web/policy/0", "/v2/acme/join/web/policy/x"] {
        get(path, "join bearer").expect_error(404, "not_found");
    }
    // A use is counted for requests alone; one that is used up still shows whom it is for.
    let post = ask("POST", "/v2/acme/join/web").bearer("join bearer").body("request");
    post.send(&tenant.site).expect_status(201);
    get(path, "join bearer").expect_status(200);
    tenant.publishes("DELETE", "/v2/acme/join/web", b"").expect_status(200);
    assert_eq!(get(path, "join bearer").lasting(), refused);
}

#[test]
fn a_publisher_brings_its_successor_and_nobody_else() {
    let tenant = Tenant::start();
    let put = |by: &SigningKey, new: &SigningKey| {
        let body = format!(r#"{{"key":"{}","role":"publisher"}}"#, new.text());
        let path = format!("/v2/acme/credential/{}", id(new));
        signed(by, "PUT", &path, body.as_bytes()).send(&tenant.site)
    };
    let end = |by: &SigningKey, of: &SigningKey| {
        let path = format!("/v2/acme/credential/{}", id(of));
        signed(by, "DELETE", &path, b"").send(&tenant.site)
    };
    let (old, new, third) = (&tenant.publisher, key("syncer"), key("syncer"));
    put(old, &key("other")).expect_error(403, "forbidden");
    put(&tenant.node, &new).expect_error(403, "forbidden");
    put(old, &new).expect_status(201);
    put(old, &new).expect_status(200);
    put(&new, old).expect_status(200);
    // The two of them, as long as both are good.
    for by in [old, &new] {
        put(by, &third).expect_error(409, "already_exists");
    }
    // Both write what is the publisher's.
    for (by, version) in [(old, 1), (&new, 2)] {
        let path = format!("/v2/acme/manifest/syncer/aws/all/{version}");
        signed(by, "PUT", &path, b"m").send(&tenant.site).expect_status(201);
    }
    // Whoever stole the old key does not end the new one.
    end(old, &new).expect_error(403, "forbidden");
    end(&new, old).expect_status(200);
    end(&new, old).expect_status(200);
    signed(old, "GET", "/v2/acme/policy/1", b"")
        .send(&tenant.site)
        .expect_error(401, "unauthorized");
    put(&new, old).expect_error(409, "already_exists");
    put(&new, &third).expect_status(201);
}

#[test]
fn bodies_have_limits_before_and_after_they_are_announced() {
    let tenant = Tenant::with("[sync]\nmax_payload_bytes = 400000\n");
    for (path, longest) in [
        ("/v2/acme/policy/1", 128 * 1024),
        ("/v2/acme/manifest/syncer/aws/all/1", 4 * 1024),
        ("/v2/acme/wrap/all/1/recovery-1", 16 * 1024),
    ] {
        let long = signed(&tenant.publisher, "PUT", path, &vec![1; longest + 1]);
        send_head(&tenant.site, &long).expect_error(413, "payload_too_large");
        tenant.publishes("PUT", path, &vec![1; longest]).expect_status(201);
    }
    let long = vec![7; (4 << 20) + 1];
    let path = "/v2/acme/log/syncer/aws/all/1/0";
    let announced = |bytes: &[u8]| {
        signed(&tenant.publisher, "PUT", path, bytes).header("Content-Digest", &digest(bytes).content_digest())
    };
    send_head(&tenant.site, &announced(&long)).expect_error(413, "payload_too_large");
    announced(&long[1..]).send(&tenant.site).expect_status(201);
    let long = vec![7; 300 * 1024];
    let path = "/v2/acme/nodes/syncer/1";
    let put = || signed(&tenant.publisher, "PUT", path, &long);
    send_head(&tenant.site, &put()).expect_error(413, "payload_too_large");
    let lie = put().header("Content-Digest", &digest(b"another").content_digest());
    send_head(&tenant.site, &lie).expect_error(401, "unauthorized");
    let announced = put().header("Content-Digest", &digest(&long).content_digest());
    announced.send(&tenant.site).expect_status(201);
    assert!(tenant.node_gets(path).expect_status(200).body == long);
    let bad = put().header("Content-Digest", "md5=x");
    send_head(&tenant.site, &bad).expect_error(400, "invalid_request");
    let blob = |bytes: &[u8]| {
        signed(
            &tenant.publisher,
            "PUT",
            &format!("/v2/acme/blob/{}", digest(bytes)),
            bytes,
        )
    };
    send_head(&tenant.site, &blob(&vec![9; 400_001])).expect_error(413, "payload_too_large");
    blob(&vec![9; 400_000]).send(&tenant.site).expect_status(201);
}

#[test]
fn what_is_no_path_is_no_route() {
    let tenant = Tenant::start();
    for path in [
        "/v2/acme/policy/0",
        "/v2/acme/policy/01",
        "/v2/acme/head/A",
        "/v2/acme/head/%61",
        "/v2/acme/blob/00",
        "/v2/acme/more",
        "/v2/acme/wrap/all/x/n",
    ] {
        tenant.node_gets(path).expect_error(404, "not_found");
    }
    let listed = tenant.publishes("GET", "/v2/acme/?limit=x", b"");
    listed.expect_error(400, "invalid_request");
}

#[test]
fn the_log_says_who_wrote_what() {
    let tenant = Tenant::start();
    tenant.publishes("PUT", "/v2/acme/policy/1", b"one").expect_status(201);
    let audit = block_on(tenant.site.store.all_tenants_bypassing_realm_scope().audit(0, 100)).unwrap();
    let lines: Vec<_> = audit
        .iter()
        .filter(|line| line.tenant.as_ref().is_some_and(|id| id.as_str() == "acme"))
        .map(|line| (line.role.as_str(), line.action.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            ("operator", "tenant.create"),
            ("operator", "key.register"),
            ("publisher", "key.register"),
            ("publisher", "object.put"),
        ]
    );
    assert_eq!(audit.last().unwrap().details["by"], id(&tenant.publisher));
}

#[test]
fn hosts_that_are_shown_different_heads_raise_an_alarm_that_names_them() {
    let tenant = Tenant::start();
    let other = node();
    tenant.admit(&other).expect_status(201);
    let beat = |node: &SigningKey, content: char| {
        let digest = |letter: char| letter.to_string().repeat(64);
        let receipt = format!(
            "dirless/receipt/v1\npolicy 1 {}\nhead syncer 7 {}\n\n",
            digest('a'),
            digest(content)
        );
        signed(node, "POST", "/v2/acme/heartbeat", receipt.as_bytes())
            .send(&tenant.site)
            .expect_status(200);
    };
    let splits = || ask("GET", "/v1/health").send(&tenant.site).json()["split_views"].clone();
    let gauge = |value: u8| {
        let reply = ask("GET", "/metrics").send(&tenant.site);
        let text = reply.text();
        assert!(text.contains(&format!("dirless_split_views {value}\n")), "{text}");
    };
    beat(&tenant.node, 'b');
    assert_eq!(splits(), serde_json::json!([]));
    gauge(0);
    beat(&other, 'c');
    let found = splits();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(
        (&found[0]["about"], &found[0]["version"]),
        (&"head/syncer".into(), &7.into())
    );
    let named = |content: usize| found[0]["contents"][content]["nodes"].clone();
    assert_eq!(
        (named(0), named(1)),
        (
            serde_json::json!([tenant.node.name()]),
            serde_json::json!([other.name()])
        )
    );
    gauge(1);
}
