//! Two publishers on one backend, and a daemon that hears of both.

use std::process::Command;
use std::time::Duration;

use dirless_client::{Cycle, Expected, Fetched};
use dirless_seal::trust::log::Chain;
use dirless_seal::trust::{Compartment, Entry, Head, Lease, OnExpiry, Publisher, Scope};
use dirless_seal::{Digest, SigningKey};
use dirless_testkit::eventually;
use dirless_wire::trust::ObjectPath;

use crate::network::site_with_alice;
use crate::site::{Site, now};
use crate::support::{label, signed};

/// The publisher `syncer-2`, which has nothing for hosts of the compartment `all`.
struct Second {
    key: SigningKey,
    cycle: Cycle,
    head: Head,
}

impl Second {
    /// The policy names it, and it has signed a head.
    fn join(site: &mut Site) -> Self {
        let key = SigningKey::generate(label("syncer-2")).unwrap();
        site.tenant.next_policy(|policy| {
            policy.publishers.push(Publisher {
                key: key.verifying().clone(),
                scope: Scope {
                    sources: [label("other")].into(),
                    ids: vec!["20000-29999".parse().unwrap()],
                    names: vec!["*".parse().unwrap()],
                    may: [].into(),
                },
            });
            policy.compartments.push(Compartment {
                name: label("db"),
                on_expiry: OnExpiry::Serve,
            });
        });
        site.sign_head();
        let head = Head {
            tenant: site.tenant.id,
            publisher: label("syncer-2"),
            version: 0,
            issued: now(),
            lease: Lease {
                fresh: 900,
                expires: 86_400,
            },
            policy: site.tenant.policy.version,
            nodes: None,
            entries: Vec::new(),
        };
        let cycle = site.another_publisher(&key);
        let mut second = Self { key, cycle, head };
        second.sign_head(site);
        second
    }

    /// Its head once more, as each minute.
    fn sign_head(&mut self, site: &Site) {
        self.head.version += 1;
        let path: ObjectPath = "head/syncer-2".parse().unwrap();
        let note = signed(&self.head, &[&self.key]).to_string();
        let put = async {
            let before = self.cycle.get_object(&path, None, 1 << 20, &mut Vec::new()).await?;
            let expected = match before {
                Fetched::Body(body) => Expected::Tag(body.etag.unwrap()),
                _ => Expected::Absent,
            };
            self.cycle.put_object(&path, note.into_bytes().into(), &expected).await
        };
        site.runtime.block_on(put).unwrap();
    }

    /// It has something for hosts of another compartment.
    fn publish(&mut self, site: &Site) {
        self.head.entries = vec![Entry {
            source: label("other"),
            compartment: label("db"),
            version: 1,
            chain: Chain::of(Digest::of(b"manifest")),
        }];
        self.sign_head(site);
    }
}

/// Sends a signal to a program.
fn signal(name: &str, id: u32) {
    let sent = Command::new("kill").args([name, &id.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn news_of_one_publisher_is_not_lost_behind_what_another_says_after_it() {
    let (mut site, host) = site_with_alice();
    let mut second = Second::join(&mut site);
    let code = site.code("web", 1);
    let node = host.is_admitted(&mut site, &code, &[]);
    let agent = host.daemon();
    assert_eq!(host.names(), ["alice"]);
    let limit = Duration::from_secs(60);
    // Both say something while the daemon is busy: the one who comes last is only alive, and then has news as well.
    for (name, has_news) in [("bob", false), ("carol", true)] {
        signal("-STOP", agent.id());
        site.publish("local", &[(name, 10_002)]);
        if has_news {
            second.publish(&site);
        } else {
            second.sign_head(&site);
        }
        signal("-CONT", agent.id());
        eventually(limit, name, || (host.names() == [name]).then_some(())).unwrap();
        let told = || {
            let receipt = site.receipt(&node)?;
            let versions: Vec<u64> = receipt.heads.iter().map(|(_, seen)| seen.version).collect();
            let seconds = !has_news || versions[1] == second.head.version;
            (versions[0] == site.tenant.head && seconds).then_some(())
        };
        eventually(limit, "the receipt", told).unwrap();
    }
    assert_eq!(agent.stop().unwrap().code(), 0);
}
