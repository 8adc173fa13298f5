//! moto as AWS: an API server that holds an identity store in memory. People and groups are made in
//! it as an administrator of Identity Center would make them.

use std::path::PathBuf;

use anyhow::{Context, bail};
use dirless_testkit::{Program, Running};
use serde_json::{Value, json};

use crate::http;

/// Where moto listens on the machine of a test.
pub const PORT: u16 = 5011;

/// A running moto and the identity store in it.
#[derive(Debug)]
pub struct Moto {
    _server: Running,
    store: String,
}

impl Moto {
    /// Starts it and finds its identity store.
    ///
    /// # Errors
    /// When it is not installed (`deploy/test` and `deploy/demo` do that) or does not come up.
    pub fn start() -> anyhow::Result<Self> {
        let server = Program::system(&program()?.to_string_lossy())
            .args(["-H", "127.0.0.1", "-p", &PORT.to_string()])
            .serve_on(PORT)?;
        let mut moto = Self {
            _server: server,
            store: String::new(),
        };
        let instances = moto.call("sso", "SWBExternalService.ListInstances", &json!({}))?;
        moto.store = text(&instances, "/Instances/0/IdentityStoreId")?;
        Ok(moto)
    }

    /// The URL that AWS clients are given as their endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{PORT}")
    }

    /// Makes a person; returns the id.
    ///
    /// # Errors
    /// When moto refuses.
    pub fn add_user(&self, name: &str, display_name: &str) -> anyhow::Result<String> {
        let (given, family) = display_name.split_once(' ').unwrap_or((display_name, "Example"));
        let reply = self.identity_store(
            "CreateUser",
            json!({
                "UserName": name,
                "DisplayName": display_name,
                "Name": {"GivenName": given, "FamilyName": family},
                "Emails": [{"Value": format!("{name}@example.com"), "Type": "work", "Primary": true}],
            }),
        )?;
        text(&reply, "/UserId")
    }

    /// Makes a group with members (user ids); returns the id.
    ///
    /// # Errors
    /// When moto refuses.
    pub fn add_group(&self, name: &str, members: &[&str]) -> anyhow::Result<String> {
        let group = text(
            &self.identity_store("CreateGroup", json!({"DisplayName": name}))?,
            "/GroupId",
        )?;
        for member in members {
            self.identity_store(
                "CreateGroupMembership",
                json!({"GroupId": group, "MemberId": {"UserId": member}}),
            )?;
        }
        Ok(group)
    }

    /// Removes a person and, as AWS does, their memberships.
    ///
    /// # Errors
    /// When moto refuses.
    pub fn remove_user(&self, id: &str) -> anyhow::Result<()> {
        let member = json!({"MemberId": {"UserId": id}});
        let memberships = self.identity_store("ListGroupMembershipsForMember", member)?;
        for membership in memberships
            .pointer("/GroupMemberships")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let id = membership.get("MembershipId").context("a membership without id")?;
            self.identity_store("DeleteGroupMembership", json!({"MembershipId": id}))?;
        }
        self.identity_store("DeleteUser", json!({"UserId": id})).map(|_| ())
    }

    fn identity_store(&self, action: &str, mut body: Value) -> anyhow::Result<Value> {
        if let Some(fields) = body.as_object_mut() {
            fields.insert("IdentityStoreId".to_owned(), json!(self.store));
        }
        self.call("identitystore", &format!("AWSIdentityStore.{action}"), &body)
    }

    /// moto finds the service by the scope in the signature and checks nothing else of it.
    fn call(&self, service: &str, target: &str, body: &Value) -> anyhow::Result<Value> {
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=x"
        );
        let headers = [
            ("Content-Type", "application/x-amz-json-1.1"),
            ("X-Amz-Target", target),
            ("X-Amz-Date", "20260101T000000Z"),
            ("Authorization", scope.as_str()),
        ];
        let host = format!("127.0.0.1:{PORT}");
        let bytes = http::request("POST", "/", &host, &headers, body.to_string().as_bytes());
        let reply = http::exchange(&host, &bytes)?;
        if reply.status != 200 {
            bail!("{target}: {} {}", reply.status, reply.text());
        }
        if reply.body.is_empty() {
            Ok(Value::Null)
        } else {
            reply.json()
        }
    }
}

fn text(value: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    Ok(found.with_context(|| format!("no {pointer} in {value}"))?.to_owned())
}

/// `moto_server` of the Python environment that the two scripts make under `target/tools`.
fn program() -> anyhow::Result<PathBuf> {
    let path = crate::repository().join("target/tools/venv/bin/moto_server");
    if path.exists() {
        return Ok(path);
    }
    bail!("{} is missing; deploy/setup installs it", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_groups_come_and_go() {
        dirless_testkit::isolated("moto::tests::people_and_groups_come_and_go", || {
            let moto = Moto::start()?;
            let alice = moto.add_user("alice", "Alice Example")?;
            let bob = moto.add_user("bob", "Bob Example")?;
            moto.add_group("Engineering Team", &[&alice, &bob])?;
            moto.remove_user(&alice)?;
            let users = moto.identity_store("ListUsers", json!({}))?;
            assert_eq!(text(&users, "/Users/0/UserName")?, "bob");
            assert_eq!(users.pointer("/Users/1"), None);
            Ok(())
        })
        .unwrap();
    }
}
