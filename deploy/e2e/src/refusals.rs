//! Requests that the backend refuses, each in every way that it can be wrong: what comes back must not tell which.

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dirless_seal::{Digest, SigningKey};
use dirless_testkit::{Program, Running};

use crate::http::{Reply, exchange, request};
use crate::site::{self, BACKEND, SECRET, TENANT, private};

/// What would be stored.
const BLOB: &[u8] = b"sealed";

/// One request of both protocols, as it is sent by those who may not.
#[derive(Clone, Debug)]
pub struct Question {
    /// Method and path, for people.
    pub name: String,
    /// What is wrong with each, and its bytes.
    pub cases: Vec<(&'static str, Vec<u8>)>,
}

/// A backend with two realms, a tenant in each, and keys and tokens of all kinds.
#[derive(Debug)]
pub struct Scene {
    _backend: Running,
    /// Of realm `default`; it owns [`TENANT`].
    good: SigningKey,
    revoked: SigningKey,
    unknown: SigningKey,
    /// The tenant of realm `other`, which `good` is no key of.
    others: String,
    /// A tenant that is nowhere.
    nobody: String,
    /// The bearer of realm `other`.
    others_secret: String,
    /// A token for tenants of realm `other`.
    others_token: String,
}

impl Scene {
    /// Starts it. Limits are off, or refusals would be refused before they are looked at.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start() -> anyhow::Result<Self> {
        let limits = "address_per_minute = 0\nfailed_authentication_cost = 0\ntenant_per_minute = 0\n";
        let config = format!("[hmac]\nsecret = \"{SECRET}\"\n[storage]\npath = \"/srv/backend\"\n[limits]\n{limits}");
        private("/etc/dirless/dirless.toml", &config)?;
        let backend = site::start_backend()?;
        let others_secret = shown(&["realm", "create", "other"])?;
        let token = shown(&["token", "create", "--label", "all", "--scope", "tenants"])?;
        let others_token = shown(&[
            "token", "create", "--label", "o", "--scope", "tenants", "--realm", "other",
        ])?;
        let key = |name: &str| {
            let made = SigningKey::generate(name.parse()?).ok();
            made.context("no random bytes")
        };
        let scene = Self {
            _backend: backend,
            good: key("syncer-1")?,
            revoked: key("syncer-2")?,
            unknown: key("syncer-1")?,
            others: Digest::of(b"the other's").to_string(),
            nobody: Digest::of(b"nobody's").to_string(),
            others_secret,
            others_token,
        };
        enroll(SECRET, TENANT)?;
        enroll(&scene.others_secret, &scene.others)?;
        let bearer = format!("Bearer {token}");
        for key in [&scene.good, &scene.revoked] {
            let path = format!("/v2/{TENANT}/credential/{}", id(key));
            let body = format!(r#"{{"key":"{}","role":"publisher"}}"#, key.verifying());
            expect(
                &send("PUT", &path, &[("Authorization", &bearer)], body.as_bytes())?,
                201,
            )?;
        }
        let path = format!("/v2/{TENANT}/credential/{}", id(&scene.revoked));
        expect(&send("DELETE", &path, &[("Authorization", &bearer)], b"")?, 200)?;
        let code = format!(
            r#"{{"bearer":"{}","expires_at":"2999-01-01T00:00:00Z","uses":1}}"#,
            Digest::of(b"bearer")
        );
        let path = format!("/v2/{TENANT}/join/code-1");
        expect(
            &send("PUT", &path, &[("Authorization", &bearer)], code.as_bytes())?,
            200,
        )?;
        Ok(scene)
    }

    /// Whether what is right is not refused: otherwise all refusals could be of something else.
    ///
    /// # Errors
    /// When it is.
    pub fn is_open_to_the_right_ones(&self) -> anyhow::Result<()> {
        let bearer = format!("Bearer {SECRET}");
        let headers = [("Authorization", bearer.as_str()), ("X-Tenant-ID", TENANT)];
        expect(&send("GET", "/v1/snapshot/authz-config", &headers, b"")?, 200)?;
        let path = format!("/v2/{TENANT}/receipts");
        let value = self.signed(&self.good, "GET", &path, TENANT, b"", true)?;
        expect(&send("GET", &path, &[("Authorization", &value)], b"")?, 200)?;
        let path = format!("/v2/{TENANT}/join/code-1/policy/1");
        expect(&send("GET", &path, &[("Authorization", "Bearer bearer")], b"")?, 404)
    }

    /// Of the classic protocol.
    #[must_use]
    pub fn classic(&self) -> Vec<Question> {
        let questions = [
            ("GET", "/v1/snapshot", ""),
            ("GET", "/v1/snapshot/local", ""),
            ("PUT", "/v1/snapshot/local", "c2VhbGVk"),
            ("DELETE", "/v1/snapshot/local", ""),
            ("GET", "/v1/snapshot/public-key", ""),
            ("PUT", "/v1/snapshot/public-key", "{}"),
            ("GET", "/v1/snapshot/authz-config", ""),
            ("PUT", "/v1/snapshot/authz-config", "{}"),
            ("GET", "/v1/snapshot/ca-public-key", ""),
            ("PUT", "/v1/snapshot/duplicates", "{}"),
            ("POST", "/v1/agent/heartbeat", "{}"),
            ("POST", "/v1/admin/settings", "{}"),
            ("GET", "/v1/watch", ""),
        ];
        let wrong: String = SECRET.chars().rev().collect();
        let ask = |method: &str, path: &str, secret: &str, tenant: &str, body: &str| {
            let bearer = format!("Bearer {secret}");
            let headers = [("Authorization", bearer.as_str()), ("X-Tenant-ID", tenant)];
            request(method, path, BACKEND, &headers, body.as_bytes())
        };
        let of = |(method, path, body): (&str, &str, &str)| Question {
            name: format!("{method} {path}"),
            cases: vec![
                ("wrong token", ask(method, path, &wrong, TENANT, body)),
                ("unknown tenant", ask(method, path, SECRET, &self.nobody, body)),
                ("both wrong", ask(method, path, &wrong, &self.nobody, body)),
                (
                    "another realm's token",
                    ask(method, path, &self.others_secret, TENANT, body),
                ),
                ("another realm's tenant", ask(method, path, SECRET, &self.others, body)),
            ],
        };
        questions.into_iter().map(of).collect()
    }

    /// Of the verified protocol.
    ///
    /// # Errors
    /// When a request cannot be signed.
    pub fn verified(&self) -> anyhow::Result<Vec<Question>> {
        let mut all = Vec::new();
        let blob = format!("blob/{}", Digest::of(BLOB));
        let credential = format!("credential/{}", id(&self.unknown));
        for (method, rest, body) in [
            ("GET", "", &b""[..]),
            ("GET", "policy/1", b""),
            ("DELETE", "policy/1", b""),
            ("GET", "head/syncer-1", b""),
            ("PUT", "head/syncer-1", b"head"),
            ("GET", &blob, b""),
            ("PUT", &blob, BLOB),
            ("GET", "wrap/all/1/recovery-1", b""),
            ("GET", "credential", b""),
            ("PUT", &credential, b"{}"),
            ("DELETE", &credential, b""),
            ("GET", "join", b""),
            ("PUT", "join/code-2", b"{}"),
            ("POST", "heartbeat", b"receipt"),
            ("GET", "receipts", b""),
            ("GET", "watch", b""),
        ] {
            all.push(self.by_signature(method, rest, body)?);
        }
        for (method, rest, body) in [("GET", "", &b""[..]), ("GET", "policy/1", b""), ("PUT", &blob, BLOB)] {
            all.push(self.by_token(method, rest, body));
        }
        for (method, rest, body) in [("POST", "", &b"request"[..]), ("GET", "/policy/1", b"")] {
            all.push(self.by_code(method, rest, body));
        }
        Ok(all)
    }

    fn by_signature(&self, method: &str, rest: &str, body: &[u8]) -> anyhow::Result<Question> {
        let ask = |key: &SigningKey, tenant: &str, is_true: bool| -> anyhow::Result<Vec<u8>> {
            let path = format!("/v2/{tenant}/{rest}");
            let value = self.signed(key, method, &path, tenant, body, is_true)?;
            let mut headers = vec![("Authorization", value.as_str())];
            if method == "PUT" {
                // A head's first; others do not mind.
                headers.push(("If-None-Match", "*"));
            }
            Ok(request(method, &path, BACKEND, &headers, body))
        };
        Ok(Question {
            name: format!("{method} /v2/TENANT/{}, signed", short(rest)),
            cases: vec![
                ("bad signature", ask(&self.good, TENANT, false)?),
                ("unknown key", ask(&self.unknown, TENANT, true)?),
                ("revoked key", ask(&self.revoked, TENANT, true)?),
                ("unknown tenant", ask(&self.good, &self.nobody, true)?),
                ("both unknown", ask(&self.unknown, &self.nobody, true)?),
                ("another realm's tenant", ask(&self.good, &self.others, true)?),
            ],
        })
    }

    fn by_token(&self, method: &str, rest: &str, body: &[u8]) -> Question {
        let wrong: String = self.others_token.chars().rev().collect();
        let ask = |token: &str, tenant: &str| {
            let bearer = format!("Bearer {token}");
            let path = format!("/v2/{tenant}/{rest}");
            request(method, &path, BACKEND, &[("Authorization", &bearer)], body)
        };
        Question {
            name: format!("{method} /v2/TENANT/{}, operator", short(rest)),
            cases: vec![
                ("wrong token", ask(&wrong, TENANT)),
                ("both wrong", ask(&wrong, &self.nobody)),
                ("unknown tenant", ask(&self.others_token, &self.nobody)),
                ("another realm's tenant", ask(&self.others_token, TENANT)),
            ],
        }
    }

    fn by_code(&self, method: &str, rest: &str, body: &[u8]) -> Question {
        let ask = |bearer: &str, tenant: &str, code: &str| {
            let path = format!("/v2/{tenant}/join/{code}{rest}");
            request(method, &path, BACKEND, &[("Authorization", bearer)], body)
        };
        Question {
            name: format!("{method} /v2/TENANT/join/CODE{rest}"),
            cases: vec![
                ("wrong bearer", ask("Bearer other", TENANT, "code-1")),
                ("unknown code", ask("Bearer bearer", TENANT, "code-9")),
                ("unknown tenant", ask("Bearer bearer", &self.nobody, "code-1")),
                ("another realm's tenant", ask("Bearer bearer", &self.others, "code-1")),
            ],
        }
    }

    /// The header of a signed request; not `is_true`, it is of another text.
    fn signed(
        &self,
        key: &SigningKey,
        method: &str,
        path: &str,
        tenant: &str,
        body: &[u8],
        is_true: bool,
    ) -> anyhow::Result<String> {
        // Good for five minutes, which is longer than all of it takes.
        let time = Program::system("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).succeed()?;
        let time = time.trim();
        let digest = Digest::of(body);
        let text = match is_true {
            true => format!("dirless/request/v1\n{method}\n{path}\n{tenant}\n{time}\n{digest}\n"),
            false => "another text".to_owned(),
        };
        let signature = STANDARD.encode(key.sign(text.as_bytes()));
        Ok(format!(
            r#"Dirless-Ed25519 key="{}", time="{time}", signature="{signature}""#,
            id(key)
        ))
    }
}

/// The path without what is long.
fn short(rest: &str) -> &str {
    match rest.split_once('/') {
        Some((kind @ ("blob" | "credential"), _)) => kind,
        _ => rest,
    }
}

fn id(key: &SigningKey) -> String {
    format!("{}+{}", key.verifying().name(), key.verifying().hash())
}

fn send(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<Reply> {
    exchange(BACKEND, &request(method, path, BACKEND, headers, body))
}

fn expect(reply: &Reply, status: u16) -> anyhow::Result<()> {
    ensure!(
        reply.status == status,
        "{} where {status} was expected: {}",
        reply.status,
        reply.text()
    );
    Ok(())
}

/// The secret that a command of the backend shows once: its longest word.
fn shown(command: &[&str]) -> anyhow::Result<String> {
    let said = Program::ours("dirless-backend")?.args(command).succeed()?;
    let longest = said.split_whitespace().max_by_key(|word| word.len());
    Ok(longest.context("no secret was shown")?.to_owned())
}

fn enroll(secret: &str, tenant: &str) -> anyhow::Result<()> {
    let key = crate::blob::recipient(crate::vectors::IDENTITY)?;
    let body = format!(r#"{{"tenant_id":"{tenant}","age_public_key":"{key}"}}"#);
    let bearer = format!("Bearer {secret}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    expect(&send("POST", "/v1/enrollment/enroll", &headers, body.as_bytes())?, 200)
}
