//! A host behind a TLS front: the shipped Caddyfile, with an authority of its own.

use std::path::Path;

use dirless_e2e::site::{SECRET, TENANT, call, private, start_backend};
use dirless_e2e::world::{ARRIVAL, appears, user};
use dirless_e2e::{blob, demo, machine, repository, vectors};
use dirless_testkit::{Program, eventually, isolated};
use serde_json::json;

#[test]
fn a_host_behind_the_shipped_front() {
    isolated("a_host_behind_the_shipped_front", || {
        let config = format!("[hmac]\nsecret = \"{SECRET}\"\n[server]\ntrusted_proxies = [\"127.0.0.1\"]\n");
        private("/etc/dirless/dirless.toml", &config)?;
        let _backend = start_backend()?;
        let hosts = std::fs::read_to_string("/etc/hosts")?;
        std::fs::write("/etc/hosts", hosts + "\n127.0.0.1 dirless.test\n")?;

        // The file as it is shipped; only where Caddy keeps things is ours.
        let global = "{\n\tadmin off\n\tskip_install_trust\n\tstorage file_system /run/work/caddy\n}\n";
        let shipped = std::fs::read_to_string(repository().join("deploy/samples/Caddyfile"))?;
        std::fs::write("/run/work/Caddyfile", global.to_owned() + &shipped)?;
        let _front = Program::system("caddy")
            .args(["run", "--adapter", "caddyfile", "--config", "/run/work/Caddyfile"])
            .env("DIRLESS_HOST", "dirless.test")
            .env("DIRLESS_TLS", "tls internal")
            .env("HOME", "/run/work")
            .serve_on(443)?;
        let root = Path::new("/run/work/caddy/pki/authorities/local/root.crt");
        eventually(ARRIVAL, "the front's authority", || root.exists().then_some(()))?;

        machine::install(&["dirless-agent"])?;
        private("/srv/age.key", vectors::IDENTITY)?;
        private("/srv/token", SECRET)?;
        Program::ours("dirless")?
            .args([
                "enroll",
                "--server",
                "https://dirless.test",
                "--tenant-id",
                TENANT,
                "--token-file",
                "/srv/token",
            ])
            .args(["--age-key", "/srv/age.key", "--ca-file"])
            .arg(root)
            .succeed()?;
        demo::quicken()?;
        Program::ours("dirless")?.args(["install", "--nss"]).succeed()?;
        let _agent = demo::start_agent()?;
        let key = blob::recipient(vectors::IDENTITY)?;
        // Large enough that the front has to stream it.
        let users: Vec<_> = (100_001..110_001).map(|uid| user(&format!("u{uid}"), uid)).collect();
        let body = blob::sealed(&key, &json!({"users": users, "groups": []}))?;
        let reply = call(
            "PUT",
            "/v1/snapshot/local",
            &[("X-Dirless-Recipient", &key)],
            body.as_bytes(),
        )?;
        assert_eq!(reply.status, 200, "{}", reply.text());
        appears("u110000")?;
        // Through the front nobody is on the machine itself.
        let health = Program::system("curl")
            .args(["-s", "--cacert"])
            .arg(root)
            .arg("https://dirless.test/v1/health")
            .succeed()?;
        assert!(health.contains("ok") && !health.contains(TENANT), "{health}");
        Ok(())
    })
    .unwrap();
}
