//! TLS: a private authority is trusted when named, the name in the URL decides, by whatever address
//! it is reached; everything else is refused with advice and without showing the token.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::support::{KEY, Names, builder};
use dirless_client::{Client, Error};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            folder,
        }
    }

    /// A TLS server with a certificate for `name`; remembers what was said to it.
    async fn serve(&self, name: &str, years: (i32, i32)) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut piece = [0; 8192];
                if let Ok(count) = stream.read(&mut piece).await {
                    said.lock().unwrap().extend_from_slice(&piece[..count]);
                }
                let body = format!("{{\"age_public_key\":\"{KEY}\"}}");
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        (address, heard)
    }

    fn client(&self, url: &str, addresses: &[SocketAddr]) -> Client {
        let host = url.trim_start_matches("https://").split([':', '/']).next().unwrap();
        builder(url)
            .resolver(Names::with(host, addresses))
            .ca_file(self.folder.path().join("ca.pem"))
            .build()
            .unwrap()
    }
}

const VALID: (i32, i32) = (2020, 2200);

async fn reason(client: &Client) -> String {
    match client.cycle().get_public_key().await {
        Err(Error::Unavailable { tried }) => tried.into_iter().next().unwrap().reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_named_authority_is_trusted_and_the_name_is_kept_over_the_address() {
    let authority = Authority::new();
    let (address, heard) = authority.serve("backend.test", VALID).await;
    let client = authority.client("https://backend.test/prefix", &[address]);
    assert!(client.cycle().get_public_key().await.unwrap().is_some());
    let probed = client.probe().await;
    assert_eq!(probed[0].outcome, Ok(200), "probes speak the URL's own scheme");
    let heard = String::from_utf8(heard.lock().unwrap().clone()).unwrap().to_lowercase();
    assert!(
        heard.starts_with("get /prefix/v1/snapshot/public-key http/1.1\r\n"),
        "{heard}"
    );
    assert!(heard.contains("\r\nhost: backend.test\r\n"), "{heard}");
    assert!(heard.contains("get /prefix/v1/health "), "{heard}");
}

#[tokio::test]
async fn an_unknown_authority_is_refused_with_advice() {
    let (address, heard) = Authority::new().serve("backend.test", VALID).await;
    let client = Authority::new().client("https://backend.test", &[address]);
    let reason = reason(&client).await;
    assert!(reason.contains("CA file"), "{reason}");
    assert!(heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn another_host_name_is_refused_with_advice() {
    let authority = Authority::new();
    let (address, heard) = authority.serve("other.test", VALID).await;
    let client = authority.client("https://backend.test", &[address]);
    let reason = reason(&client).await;
    assert!(reason.contains("another host name"), "{reason}");
    assert!(heard.lock().unwrap().is_empty(), "the token was shown");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_advice() {
    let authority = Authority::new();
    let (address, _) = authority.serve("backend.test", (2020, 2021)).await;
    let reason = reason(&authority.client("https://backend.test", &[address])).await;
    assert!(reason.contains("renew"), "{reason}");
}

#[tokio::test]
async fn plain_http_behind_an_https_url_is_told() {
    let eager = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = eager.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = eager.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let reason = reason(&Authority::new().client("https://backend.test", &[address])).await;
    assert!(reason.contains("http://"), "{reason}");
}

#[tokio::test]
async fn one_bad_certificate_among_several_addresses_is_passed_by() {
    let authority = Authority::new();
    let (bad, _) = authority.serve("other.test", VALID).await;
    let (good, _) = authority.serve("backend.test", VALID).await;
    let client = authority.client("https://backend.test", &[bad, good]);
    for _ in 0..10 {
        assert!(client.cycle().get_public_key().await.unwrap().is_some());
    }
}
