//! Copies: whole or as they were, by folder and by HTTP.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use crate::published::{Published, names};
use crate::support::tree;

/// What a copy holds, by name and bytes.
fn files(tenant: &Published, folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = tenant.place.path(folder);
    names(&path)
        .into_iter()
        .zip(tree(&path).into_iter().map(|(_, bytes)| bytes))
        .collect()
}

/// Serves a folder by HTTP until the test ends, and answers with its URL.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            let path = request
                .split(' ')
                .nth(1)
                .unwrap_or("/")
                .trim_start_matches("/tenant/")
                .to_owned();
            let (status, body) = match fs::read(folder.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", b"<html>not here</html>".to_vec()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    format!("{url}/tenant")
}

#[test]
fn a_copy_is_the_tenant_and_nothing_else() {
    let tenant = Published::new();
    fs::write(tenant.place.path("t/policy/draft"), "unfinished").unwrap();
    let out = tenant.place.succeed("mirror @/t @/copy");
    fs::remove_file(tenant.place.path("t/policy/draft")).unwrap();
    assert_eq!(files(&tenant, "copy"), files(&tenant, "t"));
    let count = files(&tenant, "t").len();
    assert_eq!(out, format!("{count} files written, 0 were there\n"));
    assert_eq!(
        tenant.place.succeed("mirror @/t @/copy"),
        format!("0 files written, {count} were there\n")
    );
    tenant
        .place
        .succeed(&format!("verify @/copy --roots {}", tenant.fingerprint()));
    let json = tenant.place.succeed("mirror @/t @/copy --json");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["written"], 0);
}

/// From a web server onto a stick, and from the stick to where no network is.
#[test]
fn a_web_server_and_a_stick_serve_it_as_well() {
    let tenant = Published::new();
    let url = serve(tenant.place.path("t"));
    tenant
        .place
        .succeed(&format!("verify {url} --roots {}", tenant.fingerprint()));
    tenant.place.succeed(&format!("mirror {url} @/stick"));
    tenant.place.succeed("mirror @/stick @/inside");
    assert_eq!(files(&tenant, "inside"), files(&tenant, "t"));
    let gone = tenant.place.fail("verify http://127.0.0.1:1/tenant");
    assert!(gone.contains("[unreachable]"), "{gone}");
    fs::write(tenant.place.path("token"), "x").unwrap();
    let clear = tenant.place.fail(&format!("verify {url} --token-file @/token"));
    assert!(clear.contains("chmod 600") || clear.contains("TLS"), "{clear}");
}

#[test]
fn long_logs_are_copied_by_tiles_and_followed_to_their_end() {
    let tenant = Published::new();
    tenant.snapshots_and_log(2, "2026-11-22T08:01:00Z".parse().unwrap(), 258);
    tenant.place.succeed("mirror @/t @/copy");
    tenant.place.succeed("verify @/copy");
    let logs: Vec<_> = names(&tenant.place.path("copy"))
        .into_iter()
        .filter_map(|name| name.strip_prefix("log/hr/hr/all/2/").map(str::to_owned))
        .collect();
    assert_eq!(logs, ["256", "257", "tile-0"]);
    // Without the tile its records will do; cut, it does not.
    let tile = tenant.place.path("t/log/hr/hr/all/2/tile-0");
    let good = fs::read(&tile).unwrap();
    fs::write(&tile, &good[..good.len() - 1]).unwrap();
    let error = tenant.place.fail("verify @/t");
    assert!(error.contains("tile-0") && error.contains("[mixed]"), "{error}");
    fs::remove_file(&tile).unwrap();
    tenant.place.succeed("verify @/t");
    fs::remove_file(tenant.place.path("t/log/hr/hr/all/2/7")).unwrap();
    let error = tenant.place.fail("verify @/t");
    assert!(error.contains("/2/7") && error.contains("[missing]"), "{error}");
}

#[test]
fn a_copy_goes_on_where_it_stopped() {
    let tenant = Published::new();
    let blob = names(&tenant.place.path("t"))
        .into_iter()
        .find(|name| name.starts_with("blob/"))
        .unwrap();
    let good = fs::read(tenant.place.path(&format!("t/{blob}"))).unwrap();
    fs::write(tenant.place.path(&format!("t/{blob}")), &good[1..]).unwrap();
    let error = tenant.place.fail("mirror @/t @/copy");
    assert!(error.contains("[body-size]"), "{error}");
    let there = names(&tenant.place.path("copy"));
    assert!(
        !there.iter().any(|name| name.starts_with("head/") || name == &blob),
        "{there:?}"
    );
    assert!(
        !there.iter().any(|name| name.contains(".publish-")),
        "nothing is left aside: {there:?}"
    );

    fs::write(tenant.place.path(&format!("t/{blob}")), &good).unwrap();
    let out = tenant.place.succeed("mirror @/t @/copy");
    assert!(!out.ends_with(" 0 were there\n"), "{out}");
    assert_eq!(files(&tenant, "copy"), files(&tenant, "t"));
}

#[test]
fn news_come_and_older_heads_do_not() {
    let tenant = Published::new();
    tenant.place.succeed("mirror @/t @/copy");
    tenant.place.succeed("mirror @/t @/older");
    tenant.snapshots(2, "2026-11-22T08:01:00Z".parse().unwrap());
    tenant.place.succeed("mirror @/t @/copy");
    let now = files(&tenant, "copy");
    let error = tenant.place.fail("mirror @/older @/copy");
    assert!(error.contains("[rollback]"), "{error}");
    assert_eq!(files(&tenant, "copy"), now);
    // The same number again, with another time in it.
    tenant.snapshots(2, "2026-11-22T08:02:00Z".parse().unwrap());
    let error = tenant.place.fail("mirror @/t @/copy");
    assert!(error.contains("[fork]"), "{error}");
}

#[test]
fn a_damaged_copy_is_mended_or_named() {
    let tenant = Published::new();
    tenant.place.succeed("mirror @/t @/copy");
    let blob = names(&tenant.place.path("t"))
        .into_iter()
        .find(|name| name.starts_with("blob/"))
        .unwrap();
    fs::write(tenant.place.path(&format!("copy/{blob}")), b"damaged").unwrap();
    tenant.place.succeed("mirror @/t @/copy");
    assert_eq!(files(&tenant, "copy"), files(&tenant, "t"));

    let policy = tenant.place.path("copy/policy/2");
    fs::write(&policy, b"damaged").unwrap();
    let error = tenant.place.fail("mirror @/t @/copy");
    assert!(
        error.contains("policy/2") && error.contains("remove it") && error.contains("[fork]"),
        "{error}"
    );
    fs::remove_file(policy).unwrap();
    tenant.place.succeed("mirror @/t @/copy");
    assert_eq!(files(&tenant, "copy"), files(&tenant, "t"));
}
