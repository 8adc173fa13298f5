//! The description of these routes. They are alike in so much that a table says it shorter than an attribute for each:
//! who may, what comes in, what goes out.

use serde_json::{Map, Value, json};
use utoipa::openapi::{OpenApi, PathItem};

/// What comes in or goes out.
#[derive(Clone, Copy)]
enum Body {
    Nothing,
    Bytes,
    /// Server-sent events.
    Events,
    Json(&'static str),
}

struct Call {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    takes: Body,
    gives: Body,
    /// Other statuses than those that every call has.
    statuses: &'static [u16],
    /// Names of query parameters or conditional headers.
    options: &'static [&'static str],
}

const STATUS: Body = Body::Json("StatusReply");
const PAGE: &[&str] = &["after", "limit"];

const fn call(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Call {
    Call {
        method,
        path,
        id,
        summary,
        takes: Body::Nothing,
        gives: STATUS,
        statuses: &[],
        options: &[],
    }
}

/// Objects: path, the name in operation ids, what it is, whether it can be deleted.
const OBJECTS: [(&str, [&str; 3], &str); 8] = [
    (
        "policy/{version}",
        ["readPolicy", "putPolicy", "deletePolicy"],
        "a policy; publishers and operators write it, operators delete it",
    ),
    (
        "head/{publisher}",
        ["readHead", "swapHead", ""],
        "the head of a publisher",
    ),
    (
        "succession/{publisher}/{anchor}/{version}",
        ["readSuccession", "putSuccession", "deleteSuccession"],
        "a publisher's key names its successor; `anchor` is the hash of the key that the policy names; operators delete it",
    ),
    (
        "manifest/{publisher}/{source}/{compartment}/{version}",
        ["readManifest", "putManifest", "deleteManifest"],
        "a manifest",
    ),
    (
        "log/{publisher}/{source}/{compartment}/{version}/{file}",
        ["readLog", "putLog", "deleteLog"],
        "a record of a log (its number), or a tile of them (`tile-NUMBER`)",
    ),
    (
        "blob/{digest}",
        ["readBlob", "putBlob", "deleteBlob"],
        "a sealed body, named by its SHA-256",
    ),
    (
        "nodes/{enroller}/{version}",
        ["readNodes", "putNodes", "deleteNodes"],
        "a node list",
    ),
    (
        "wrap/{compartment}/{epoch}/{name}",
        ["readWrap", "putWrap", "deleteWrap"],
        "the key of an epoch for a node, which alone among nodes reads it, or for recovery",
    ),
];

const CALLS: [Call; 15] = [
    Call {
        statuses: &[201],
        ..call("post", "", "createTenant", "Makes a tenant in an operator's realm")
    },
    Call {
        gives: Body::Json("StoredList"),
        options: PAGE,
        ..call("get", "/", "listObjects", "What is stored; publishers and operators")
    },
    Call {
        gives: Body::Json("CredentialList"),
        options: PAGE,
        ..call(
            "get",
            "/credential",
            "listCredentials",
            "Keys; publishers and operators",
        )
    },
    Call {
        takes: Body::Json("CredentialRequest"),
        statuses: &[201, 409],
        ..call(
            "put",
            "/credential/{key}",
            "registerCredential",
            "Registers a publisher (operators; makes the tenant; a publisher its one successor) or a node (publishers and operators)",
        )
    },
    call(
        "delete",
        "/credential/{key}",
        "revokeCredential",
        "Revokes a key for good; publishers those of nodes, and those of their own name that they succeeded",
    ),
    Call {
        gives: Body::Json("JoinList"),
        ..call(
            "get",
            "/join",
            "listJoins",
            "Join codes and requests that wait; publishers and operators",
        )
    },
    Call {
        takes: Body::Json("JoinCodeRequest"),
        statuses: &[409],
        ..call(
            "put",
            "/join/{code}",
            "registerJoinCode",
            "Registers a join code; publishers and operators",
        )
    },
    call(
        "delete",
        "/join/{code}",
        "deleteJoinCode",
        "Ends a join code; publishers and operators",
    ),
    Call {
        takes: Body::Bytes,
        statuses: &[201],
        ..call(
            "post",
            "/join/{code}",
            "postJoinRequest",
            "A sealed join request, with the code's bearer",
        )
    },
    Call {
        gives: Body::Bytes,
        ..call(
            "get",
            "/join/{code}/{request}",
            "readJoinRequest",
            "A join request; publishers and operators",
        )
    },
    call(
        "delete",
        "/join/{code}/{request}",
        "deleteJoinRequest",
        "Takes a join request away; publishers and operators",
    ),
    Call {
        gives: Body::Bytes,
        statuses: &[304],
        options: &["If-None-Match"],
        ..call(
            "get",
            "/join/{code}/policy/{version}",
            "readPolicyToJoin",
            "A policy, with the code's bearer",
        )
    },
    Call {
        takes: Body::Bytes,
        gives: Body::Json("HeartbeatReply"),
        statuses: &[503],
        ..call(
            "post",
            "/heartbeat",
            "nodeHeartbeat",
            "A node is alive; its body is a signed receipt, or nothing. The answer says what may be new",
        )
    },
    Call {
        gives: Body::Events,
        statuses: &[503],
        ..call(
            "get",
            "/watch",
            "watchHeads",
            "Heads as they are stored: event `head` with the note as its data, those of now at once; `changed`: ask",
        )
    },
    Call {
        gives: Body::Json("ReceiptList"),
        options: PAGE,
        ..call(
            "get",
            "/receipts",
            "listReceipts",
            "The last receipt of each node; publishers and operators",
        )
    },
];

/// Adds them.
pub(in crate::routes) fn add(openapi: &mut OpenApi) {
    let mut items: Map<String, Value> = Map::new();
    let mut put = |path: &str, method: &str, operation: Value| {
        let item = items
            .entry(format!("/v2/{{tenant}}{path}"))
            .or_insert_with(|| json!({}));
        if let Value::Object(item) = item {
            item.insert(method.to_owned(), operation);
        }
    };
    for (path, ids, what) in OBJECTS {
        for call in of_object(path, ids) {
            put(
                &format!("/{path}"),
                call.method,
                operation(&call, path, &summary(&call, what)),
            );
        }
    }
    for call in &CALLS {
        put(call.path, call.method, operation(call, call.path, call.summary));
    }
    for (path, item) in items {
        let item: PathItem = serde_json::from_value(item).expect("the table makes path items, which a test reads");
        openapi.paths.paths.insert(path, item);
    }
}

fn summary(call: &Call, what: &str) -> String {
    format!("{} {what}", call.summary)
}

fn of_object(path: &'static str, [read, write, delete]: [&'static str; 3]) -> Vec<Call> {
    let is_head = path.starts_with("head/");
    let mut calls = vec![
        Call {
            gives: Body::Bytes,
            statuses: &[304],
            options: &["If-None-Match"],
            ..call("get", path, read, "Reads")
        },
        Call {
            takes: Body::Bytes,
            statuses: if is_head {
                &[201, 412, 428, 507]
            } else {
                &[201, 409, 507]
            },
            options: if is_head { &["If-Match", "If-None-Match"] } else { &[] },
            ..call("put", path, write, if is_head { "Swaps" } else { "Writes once" })
        },
    ];
    if !delete.is_empty() {
        calls.push(call("delete", path, delete, "Deletes"));
    }
    calls
}

fn operation(call: &Call, path: &str, summary: &str) -> Value {
    let mut operation = json!({
        "tags": ["verified"],
        "summary": summary,
        "operationId": call.id,
        "parameters": parameters(call, path),
        "responses": responses(call),
        "security": [{"signed": []}, {"bearer": []}],
    });
    if let (Some(content), Value::Object(fields)) = (content(call.takes), &mut operation) {
        fields.insert("requestBody".to_owned(), json!({"content": content, "required": false}));
    }
    operation
}

fn parameters(call: &Call, path: &str) -> Vec<Value> {
    let schema = |name: &str| match name {
        "version" | "epoch" => json!({"$ref": "#/components/schemas/Version"}),
        "digest" | "request" => json!({"$ref": "#/components/schemas/Digest"}),
        "key" => json!({"$ref": "#/components/schemas/KeyId"}),
        "tenant" => json!({"$ref": "#/components/schemas/TenantId"}),
        "file" => json!({"type": "string", "pattern": "^(tile-)?(0|[1-9][0-9]{0,7})$"}),
        "limit" => json!({"type": "integer", "minimum": 1, "maximum": crate::store::PAGE_MAX}),
        "after" | "If-Match" | "If-None-Match" => json!({"type": "string"}),
        _ => json!({"$ref": "#/components/schemas/Label"}),
    };
    let in_path = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = std::iter::once("tenant")
        .chain(in_path)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": schema(name)}))
        .collect();
    parameters.extend(call.options.iter().map(|name| {
        let place = if name.starts_with("If-") { "header" } else { "query" };
        json!({"name": name, "in": place, "required": false, "schema": schema(name)})
    }));
    parameters
}

fn responses(call: &Call) -> Value {
    let mut responses = Map::new();
    let common = [400, 401, 403, 404, 408, 413, 422, 429];
    for status in common.iter().chain(call.statuses) {
        let response = match status {
            201 => json!({"description": "It is new", "content": content(call.gives)}),
            304 => json!({"description": "The copy at hand is current"}),
            _ => json!({"description": reason(*status), "content": content(Body::Json("ErrorReply"))}),
        };
        responses.insert(status.to_string(), response);
    }
    let mut done = json!({"description": "Done"});
    if let (Some(content), Value::Object(done)) = (content(call.gives), &mut done) {
        done.insert("content".to_owned(), content);
    }
    responses.insert("200".to_owned(), done);
    Value::Object(responses)
}

fn reason(status: u16) -> &'static str {
    match status {
        401 => "Unknown, expired, revoked, wrong or of another realm: one answer",
        403 => "This key or token may not do that, or the realm is suspended",
        409 => "Something else is there and stays",
        412 => "What is stored has changed since it was read",
        428 => "Without If-Match or If-None-Match",
        429 => "Too many requests",
        _ => "Refused",
    }
}

fn content(body: Body) -> Option<Value> {
    match body {
        Body::Nothing => None,
        Body::Bytes => Some(json!({"application/octet-stream": {"schema": {"type": "string"}}})),
        Body::Events => Some(json!({"text/event-stream": {"schema": {"type": "string"}}})),
        Body::Json(name) => {
            Some(json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}}))
        }
    }
}
