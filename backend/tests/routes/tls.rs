use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dirless_backend::config::TlsConfig;
use dirless_backend::net::Tls;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::support::{SEALED, SECRET, Site, TENANT, ask, block_on, eventually};

struct Pair {
    files: TlsConfig,
    root: rustls::pki_types::CertificateDer<'static>,
    pem: String,
}

fn write_pair(folder: &Path) -> Pair {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsConfig {
        certificate: folder.join("certificate.pem"),
        key: folder.join("key.pem"),
    };
    dirless_program::fs::publish(&files.certificate, 0o644, made.cert.pem().as_bytes()).unwrap();
    dirless_program::fs::publish(&files.key, 0o600, made.signing_key.serialize_pem().as_bytes()).unwrap();
    Pair {
        files,
        root: made.cert.der().clone(),
        pem: made.cert.pem(),
    }
}

fn site() -> (Site, Pair, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pair = write_pair(folder.path());
    let tls = Arc::new(Tls::load(&pair.files).unwrap());
    let site = Site::launch("[server]\nhandshake_seconds = 1\n", Some(tls));
    (site, pair, folder)
}

fn connect(site: &Site, pair: &Pair) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(pair.root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), site.connect())
}

fn enroll_and_put(site: &Site, pair: &Pair) {
    let body = format!(
        r#"{{"tenant_id":"{TENANT}","age_public_key":"{}"}}"#,
        super::support::KEY
    );
    let mut stream = connect(site, pair);
    ask("POST", "/v1/enrollment/enroll")
        .bearer(SECRET)
        .body(body)
        .send_on(&mut stream)
        .expect_status(200);
    ask("PUT", "/v1/snapshot/local")
        .tenant(SECRET, TENANT)
        .header("X-Dirless-Recipient", super::support::KEY)
        .body(SEALED)
        .send_on(&mut stream)
        .expect_status(200);
}

#[test]
fn http_1_over_tls_serves_the_same() {
    let (site, pair, _folder) = site();
    enroll_and_put(&site, &pair);
    for _ in 0..3 {
        let read = ask("GET", "/v1/snapshot/local")
            .tenant(SECRET, TENANT)
            .send_on(&mut connect(&site, &pair));
        assert_eq!(read.expect_status(200).text(), SEALED);
    }
}

#[test]
fn a_stream_of_notices_goes_on_over_tls_until_the_server_stops() {
    let (mut site, pair, _folder) = site();
    enroll_and_put(&site, &pair);
    let mut stream = connect(&site, &pair);
    let head = ask("GET", "/v1/watch").tenant(SECRET, TENANT).send_on(&mut stream);
    assert_eq!(head.expect_status(200).header("transfer-encoding"), Some("chunked"));
    let mut heard = String::new();
    let mut until = |done: &dyn Fn(&str) -> bool| {
        let mut piece = [0; 256];
        while !done(&heard) {
            let length = stream.read(&mut piece).unwrap();
            assert!(length > 0, "{heard}");
            heard.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
    };
    until(&|heard| heard.matches("event: state\n").count() == 1 && heard.ends_with("\n\n\r\n"));
    ask("PUT", "/v1/snapshot/local")
        .tenant(SECRET, TENANT)
        .header("X-Dirless-Recipient", super::support::KEY)
        .body(format!("{SEALED}2"))
        .send_on(&mut connect(&site, &pair))
        .expect_status(200);
    until(&|heard| heard.matches("event: state\n").count() == 2 && heard.ends_with("\n\n\r\n"));
    site.ask_to_stop();
    until(&|heard| heard.ends_with("\r\n0\r\n\r\n"));
}

#[test]
fn http_2_is_negotiated() {
    let (site, pair, _folder) = site();
    enroll_and_put(&site, &pair);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = reqwest::Certificate::from_pem(pair.pem.as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([certificate])
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/v1/snapshot/local", site.address.port());
    block_on(async {
        for _ in 0..3 {
            let request = client.get(&url).bearer_auth(SECRET).header("X-Tenant-ID", TENANT);
            let reply = request.send().await.unwrap();
            assert_eq!(
                (reply.status().as_u16(), reply.version()),
                (200, reqwest::Version::HTTP_2)
            );
            assert_eq!(reply.text().await.unwrap(), SEALED);
        }
    });
}

#[test]
fn a_renewed_certificate_is_taken_up_without_a_restart() {
    let (site, old, folder) = site();
    enroll_and_put(&site, &old);
    let new = write_pair(folder.path());
    let get = || ask("GET", "/v1/snapshot/local").tenant(SECRET, TENANT);
    eventually("the new certificate is served", || {
        use std::io::Write;
        let mut stream = connect(&site, &new);
        stream.write_all(&get().bytes()).is_ok()
    });
    get().send_on(&mut connect(&site, &new)).expect_status(200);
}

#[test]
fn plain_text_and_silence_do_not_hold_a_tls_port() {
    use std::io::{Read, Write};
    let (site, _pair, _folder) = site();
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b""] {
        let mut stream = site.connect();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        let started = std::time::Instant::now();
        let _ = stream.read_to_end(&mut rest);
        assert!(started.elapsed() < Duration::from_secs(8));
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
}
