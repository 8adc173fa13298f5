use std::time::Duration;

use dirless_syncer::tree::Actor;
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::*;

fn ids(page: &Json) -> Vec<u64> {
    page["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["id"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn the_changelog_is_read_page_by_page() {
    let site = Site::start().await;
    site.put("uid=alice,ou=users,dc=dirless", person("alice")).await;
    let (mut after, mut all) = (0, Vec::new());
    loop {
        let page = site
            .get(&format!("/v1/changelog?after={after}&limit=20"))
            .expect(200)
            .await;
        all.extend(ids(&page));
        assert_eq!(page["lost"], false);
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => {
                let last = page["changes"].as_array().unwrap().last().unwrap().clone();
                assert_eq!(last["actor"], "cn=tester,cn=operators");
                assert_eq!(
                    (&last["operation"], &last["dn"]),
                    (&json!("add"), &json!("uid=alice,ou=users,dc=dirless"))
                );
                assert_eq!(page["state"], last["id"]);
                break;
            }
        }
    }
    assert!(all.len() > 40 && all.windows(2).all(|pair| pair[0] < pair[1]));
    site.tree
        .write(&Actor::syncer(), |batch| batch.forget_changes(1))
        .unwrap();
    assert_eq!(site.get("/v1/changelog?after=3").expect(200).await["lost"], true);
    assert_eq!(
        site.get(&format!("/v1/changelog?after={}", u64::MAX)).expect(200).await["lost"],
        true
    );
    site.stop().await;
}

/// Events of a stream, as `(event, id, data)`.
struct Events {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<Vec<u8>>> + Send>>,
    text: String,
}

impl Events {
    async fn open(ask: Ask) -> Self {
        let response = ask.open().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: Box::pin(response.bytes_stream().map(|bytes| bytes.map(|bytes| bytes.to_vec()))),
            text: String::new(),
        }
    }

    /// The next event; none when the stream has ended.
    async fn next(&mut self) -> Option<(String, String, Json)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = event.lines().filter_map(|line| line.split_once(": "));
                    lines.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
                };
                let found = (field("event"), field("id"), field("data"));
                self.text = rest.to_owned();
                if let (Some(event), id, Some(data)) = found {
                    return Some((event, id.unwrap_or_default(), serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let more = tokio::time::timeout(PATIENCE, self.body.next()).await.unwrap();
            self.text.push_str(std::str::from_utf8(&more?.ok()?).unwrap());
        }
    }
}

#[tokio::test]
async fn a_stream_tells_changes_as_they_happen_and_resumes() {
    let site = Site::start().await;
    let mut events = Events::open(site.get("/v1/changelog/stream")).await;
    for uid in ["a", "b", "c"] {
        site.put(&format!("uid={uid},ou=users,dc=dirless"), person(uid)).await;
    }
    let (event, id, data) = events.next().await.unwrap();
    assert_eq!(
        (event.as_str(), &data["dn"]),
        ("change", &json!("uid=a,ou=users,dc=dirless"))
    );
    assert_eq!(data["id"].to_string(), id);
    drop(events);
    let mut resumed = Events::open(site.get("/v1/changelog/stream").header("last-event-id", &id)).await;
    for uid in ["b", "c"] {
        let (_, _, data) = resumed.next().await.unwrap();
        assert_eq!(data["dn"], format!("uid={uid},ou=users,dc=dirless"));
    }
    let other = open_tree(site.folder.path(), &site.clock);
    let ou = dirless_directory::Dn::parse("uid=c,ou=users,dc=dirless").unwrap();
    other
        .delete(&Actor::syncer(), &ou, dirless_syncer::tree::Expect::Anything)
        .unwrap();
    let (_, _, data) = resumed.next().await.unwrap();
    assert_eq!(data["operation"], "delete", "also what another program writes");
    site.stop().await;
    assert!(resumed.next().await.is_none(), "it ends with the server");
}

#[tokio::test]
async fn a_stream_says_when_changes_are_lost_and_how_many_streams_there_can_be() {
    let config = dirless_syncer::serve::ServeConfig {
        streams: 1,
        ..Default::default()
    };
    let site = Site::with(config).await;
    site.tree
        .write(&Actor::syncer(), |batch| batch.forget_changes(1))
        .unwrap();
    let mut events = Events::open(site.get("/v1/changelog/stream?after=1")).await;
    assert_eq!(events.next().await.unwrap().0, "lost");
    assert_eq!(events.next().await.unwrap().0, "change");
    assert_eq!(site.get("/v1/changelog/stream").problem(503).await, "unavailable");
    assert_eq!(
        site.get("/v1/changelog/stream")
            .header("last-event-id", "x")
            .problem(400)
            .await,
        "invalid_request"
    );
    drop(events);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while site.get("/v1/changelog/stream").open().await.status() != 200 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "a closed stream gives its place back"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    site.stop().await;
}

/// A client that asks for everything and reads nothing costs itself alone.
#[tokio::test]
async fn who_does_not_read_keeps_nobody_waiting() {
    let site = Site::start().await;
    let long = "x".repeat(100_000);
    for round in 0..40 {
        let mut alice = person("alice");
        alice["description"] = json!(format!("{round}{long}"));
        site.put("uid=alice,ou=users,dc=dirless", alice).await;
    }
    let (_, token) = site
        .tokens
        .create(
            &"slow".parse().unwrap(),
            &[dirless_syncer::serve::tokens::Scope::Read],
            None,
        )
        .unwrap();
    let address = site.url.trim_start_matches("http://").replace("localhost", "127.0.0.1");
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /v1/changelog/stream?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        token.expose()
    );
    slow.write_all(request.as_bytes()).await.unwrap();
    slow.read_exact(&mut [0; 64]).await.unwrap();
    for _ in 0..20 {
        site.get("/v1/users/alice").expect(200).await;
        site.ask(Method::POST, "/v1/search")
            .json(&json!({"attributes": ["uid"]}))
            .expect(200)
            .await;
    }
    site.stop().await;
}
