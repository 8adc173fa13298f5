//! Against moto, an independent stand-in for the AWS API, through our IMDSv2 stand-in.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dirless_testkit::aws::Directory;
use dirless_testkit::eventually;
use serde_json::{Value, json};

use crate::support::{Site, both};

/// `moto_server`, from the path or from where the test script installs it.
fn program() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let installed = here.join("../target/tools/venv/bin/moto_server");
    let found = Command::new("sh")
        .args(["-c", "command -v moto_server"])
        .output()
        .unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    match path.trim() {
        "" if installed.exists() => installed,
        "" => panic!("moto_server is missing: run the test script, or: pip install 'moto[server]'"),
        path => path.into(),
    }
}

struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program())
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { child, port };
        eventually(Duration::from_secs(60), "moto to listen", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        })
        .unwrap();
        moto
    }

    fn call(&self, service: &str, target: &str, body: &Value) -> Value {
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {service}.eu-west-1.amazonaws.com\r\nContent-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Target: {target}\r\nAuthorization: AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-1/{service}/aws4_request, \
             SignedHeaders=host, Signature=0\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body.trim()).unwrap_or(Value::Null)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn people_of_moto_are_published_and_who_is_removed_is_gone() {
    let moto = Moto::start();
    let instances = moto.call("sso", "SWBExternalService.ListInstances", &json!({}));
    let store = instances["Instances"][0]["IdentityStoreId"].clone();
    let mut users = Vec::new();
    for number in 0..130 {
        let name = format!("Person{number:03}@corp.example");
        let user = moto.call(
            "identitystore",
            "AWSIdentityStore.CreateUser",
            &json!({"IdentityStoreId": store, "UserName": name, "DisplayName": name,
                    "Name": {"GivenName": "P", "FamilyName": "X"}}),
        );
        users.push(user["UserId"].clone());
    }
    let group = moto.call(
        "identitystore",
        "AWSIdentityStore.CreateGroup",
        &json!({"IdentityStoreId": store, "DisplayName": "Engineering Team"}),
    );
    for user in &users {
        moto.call(
            "identitystore",
            "AWSIdentityStore.CreateGroupMembership",
            &json!({"IdentityStoreId": store, "GroupId": group["GroupId"], "MemberId": {"UserId": user}}),
        );
    }
    let site = Site::new(Directory::default());
    let once = || {
        let mut command = site.command(&["once"]);
        let output = command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", moto.port))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", both(&output));
        site.published()
    };
    let snapshot = once();
    assert_eq!(snapshot["users"].as_array().unwrap().len(), 130, "two pages");
    assert_eq!(snapshot["groups"][0]["name"], "engineering-team");
    assert_eq!(
        snapshot["groups"][0]["members"].as_array().unwrap().len(),
        130,
        "two pages"
    );
    let before = site.numbers();
    moto.call(
        "identitystore",
        "AWSIdentityStore.DeleteUser",
        &json!({"IdentityStoreId": store, "UserId": users[7]}),
    );
    let snapshot = once();
    assert_eq!(snapshot["users"].as_array().unwrap().len(), 129);
    let after = site.numbers();
    assert!(!after.contains_key("person007"));
    assert!(after.iter().all(|(name, number)| before[name] == *number));
}
