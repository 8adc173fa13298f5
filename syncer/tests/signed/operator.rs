//! An operator's own commands beside a syncer that publishes, over a folder and over a backend.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use dirless_operator::{Command, Surroundings, Terminal};
use dirless_program::Secret;
use dirless_seal::trust::{Enroller, JoinCode, Publisher, Receipt, ReceiptAlarm, Succession, print};
use dirless_seal::{Digest, Note, SigningKey};
use dirless_syncer::signed::{Custody, DiskFolder, Folder, PublicLines, Signer, Wish};

use crate::support::*;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Nobody sits there.
struct Nobody;

impl Terminal for Nobody {
    fn is_there(&self) -> bool {
        false
    }

    fn ask(&mut self, _prompt: &str) -> io::Result<Secret> {
        Err(io::Error::other("nobody answers"))
    }

    fn confirm(&mut self, _question: &str) -> io::Result<bool> {
        Ok(false)
    }

    fn standard_input(&mut self) -> io::Result<Option<Secret>> {
        Ok(None)
    }
}

/// A desk with an enroller's key, that the tenant's policy has.
pub(crate) struct Desk {
    pub(crate) tenant: Tenant,
    folder: tempfile::TempDir,
}

impl Desk {
    pub(crate) fn of(tenant: Tenant) -> Self {
        let desk = Self {
            tenant,
            folder: temporary(),
        };
        desk.private("passphrase", "six words that nobody can guess");
        let line = desk.good("enroller create @/desk.key --name desk --work 10 --passphrase-file @/passphrase");
        let (key, recipient) = line.trim().split_once(' ').unwrap();
        desk.tenant.next_policy(|policy| {
            policy.enrollers.push(Enroller {
                key: key.parse().unwrap(),
                recipient: recipient.parse().unwrap(),
            });
            policy
                .enrollers
                .sort_by(|left, right| left.key.name().cmp(right.key.name()));
        });
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn private(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), mode).unwrap();
    }

    /// How commands name the tenant.
    pub(crate) fn at(&self) -> String {
        match &self.tenant.place {
            Place::Folder => format!("{} --desk @/desk", self.tenant.folder().display()),
            Place::Backend(site) => {
                self.private("token", &site.token);
                format!(
                    "{}/v2/{} --token-file @/token --desk @/desk",
                    site.url(),
                    self.tenant.id
                )
            }
        }
    }

    pub(crate) fn run(&self, line: &str) -> Result<String, String> {
        let mut out = Vec::new();
        let outcome = self.run_into(line, &mut out);
        let text = String::from_utf8(out).unwrap();
        outcome.map(|()| text)
    }

    /// The same, for a command that says something before it ends.
    pub(crate) fn run_into(&self, line: &str, out: &mut dyn io::Write) -> Result<(), String> {
        let line = line.replace('@', &self.folder.path().display().to_string());
        let arguments = std::iter::once("dirless").chain(line.split(' '));
        let parsed = Arguments::try_parse_from(arguments).map_err(|error| error.to_string())?;
        let outcome = parsed.command.run(&mut Surroundings {
            out,
            terminal: &mut Nobody,
            clock: self.tenant.clock.clone(),
            environment: &|_| None,
        });
        outcome.map_err(|error| format!("{error:#}"))
    }

    pub(crate) fn good(&self, line: &str) -> String {
        self.run(line).unwrap_or_else(|error| unreachable!("{line}: {error}"))
    }

    /// Has `host` say that it applied this version of the head, with this content.
    pub(crate) fn receipt(&self, host: &Host, version: u64, content: &[u8], alarms: &[(&str, &str)]) {
        let tenant = &self.tenant;
        let note = tenant.site().operator().get("policy/2", 1 << 20).unwrap().unwrap();
        let receipt = Receipt {
            tenant: tenant.id,
            node: host.key.verifying().name().clone(),
            issued: start(),
            policy: dirless_seal::trust::Seen {
                version: 2,
                digest: Note::parse(&note, 1 << 20).unwrap().digest(),
            },
            heads: vec![(
                label("syncer-1"),
                dirless_seal::trust::Seen {
                    version,
                    digest: Digest::of(content),
                },
            )],
            generation: 3,
            users: 1,
            groups: 0,
            dropped: 2,
            alarms: alarms
                .iter()
                .filter_map(|(code, about)| ReceiptAlarm::new(code, about))
                .collect(),
        };
        let note = Note::sign(print(&receipt).unwrap(), &[&host.key]).unwrap();
        tenant.site().beat(&host.key, note.to_string().as_bytes());
    }

    /// The same, by the enroller's key.
    fn signed(&self, command: &str, more: &str) -> String {
        let with = "--key @/desk.key --passphrase-file @/passphrase";
        self.good(format!("{command} {} {with} {more}", self.at()).trim_end())
    }
}

fn admits_renews_and_revokes(tenant: Tenant) {
    stock(&tenant.signer(), "corp", &snapshot(2000, &["alice"]));
    settle(&tenant.signer());
    let desk = Desk::of(tenant);
    let tenant = &desk.tenant;
    settle(&tenant.signer());
    let out = "--compartment all --url https://dirless.example.com --out @/code";
    let said = desk.signed("join-code create", out);
    let text = std::fs::read_to_string(desk.path("code")).unwrap();
    assert!(!said.contains(text.trim()), "the code was shown");
    let code = JoinCode::parse(&text).unwrap();
    assert!(desk.signed("join-code list", "").contains("0 of 1 used"));

    let policy = tenant.signer().enroller().policy(&mut Vec::new()).unwrap();
    let all: Vec<_> = policy.enrollers.into_iter().map(|one| one.recipient).collect();
    let mut host = Host::new(tenant, "all");
    host.ask_sealed_to_all(tenant, &code, "web-1", &all, tenant.clock.now());
    assert!(settle(&tenant.signer()).refused.is_empty());
    assert!(desk.signed("node list", "").contains("waits: n"));
    let list: serde_json::Value = serde_json::from_str(&desk.signed("node list", "--json")).unwrap();
    assert_eq!(list["waiting"][0]["host"]["host"], "web-1");
    assert!(desk.signed("node approve", "web-1").contains("admitted n"));
    assert!(tenant.signer().is_due().unwrap());
    settle(&tenant.signer());
    let now = tenant.clock.now();
    let seen = host.look(&tenant.folder(), now).unwrap();
    assert!(seen["corp"].contains("alice"));

    assert!(
        desk.signed("epoch rotate", "")
            .contains("a new epoch of all is asked for")
    );
    assert_eq!(settle(&tenant.signer()).epochs[0].why, "an enroller asked for it");
    assert_eq!(host.look(&tenant.folder(), now).unwrap(), seen);

    assert!(desk.signed("node revoke", "web-1").contains("(web-1)"));
    if let Place::Backend(site) = &tenant.place {
        let files = site.of(&host.key, &[&site.url()], &tenant.clock);
        let refused = files.has("policy/1").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "at once");
    }
    settle(&tenant.signer());
    assert!(host.look(&tenant.folder(), now).is_err());
    assert!(
        desk.signed("join-code revoke", code.code.as_str())
            .contains("is revoked")
    );
    assert!(!desk.signed("node list", "").contains("web-1"));
}

#[test]
fn an_enroller_of_ones_own_over_a_folder() {
    admits_renews_and_revokes(Tenant::new());
}

#[test]
fn an_enroller_of_ones_own_over_a_backend() {
    admits_renews_and_revokes(Tenant::at_backend());
}

#[test]
fn commands_without_a_token_or_over_the_open_network_are_refused() {
    let desk = Desk::of(Tenant::at_backend());
    let url = format!("{}/v2/{}", desk.tenant.site().url(), desk.tenant.id);
    let error = desk.run(&format!("policy show {url} --desk @/desk")).unwrap_err();
    assert!(error.contains("--token-file"), "{error}");
    desk.private("token", "wrong");
    let error = desk
        .run(&format!("policy show {url} --desk @/desk --token-file @/token"))
        .unwrap_err();
    assert!(error.contains("does not accept"), "{error}");
    let open = format!("http://192.0.2.1/v2/{}", desk.tenant.id);
    let error = desk
        .run(&format!("policy show {open} --desk @/desk --token-file @/token"))
        .unwrap_err();
    assert!(error.contains("without TLS"), "{error}");
    let error = desk
        .run(&format!(
            "policy show {} --token-file @/token",
            desk.tenant.site().url()
        ))
        .unwrap_err();
    assert!(error.contains("names no tenant"), "{error}");
    let (at, zeros) = (desk.at(), "00".repeat(32));
    let error = desk.run(&format!("policy show {at} --roots {zeros}")).unwrap_err();
    assert!(error.contains("not this tenant's"), "{error}");
    assert!(desk.good(&format!("policy show {at}")).contains("version      2"));
}

#[test]
fn policies_are_brought_to_a_backend_with_their_publishers() {
    let desk = Desk::of(Tenant::new());
    // One that knows nothing of the tenant but a key that no policy has.
    let old = SigningKey::generate(label("old")).unwrap();
    let site = Site::start(desk.tenant.id, &old, &desk.tenant.clock);
    desk.private("token", &site.token);
    let folder = desk.tenant.folder();
    let url = format!("{}/v2/{}", site.url(), desk.tenant.id);
    let push = format!("policy push {} {url} --token-file @/token", folder.display());
    let said = desk.good(&push);
    assert!(said.contains("publisher syncer-1 may write there"), "{said}");
    assert!(
        said.contains("key old+") && said.contains("may write there no more"),
        "{said}"
    );
    let own = site.of(&desk.tenant.keys().publisher, &[&site.url()], &desk.tenant.clock);
    assert!(own.has("policy/2").unwrap());
    desk.good(&push);

    // A policy without the publisher takes its key away.
    let second = std::fs::read(folder.join("policy/2")).unwrap();
    let second = Note::parse(&second, 1 << 20).unwrap();
    desk.tenant.put_policy(&dirless_seal::trust::Policy {
        version: 3,
        previous: Some(second.digest()),
        publishers: vec![],
        ..desk.tenant.policy()
    });
    assert!(desk.good(&push).contains("may write there no more"));
    assert_eq!(own.has("policy/2").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_push_leaves_successors_and_a_policy_that_revokes_ends_all_of_them() {
    let desk = Desk::of(Tenant::at_backend());
    let (tenant, site) = (&desk.tenant, desk.tenant.site());
    stock(&tenant.signer(), "corp", &snapshot(2000, &["alice"]));
    settle(&tenant.signer());
    let mut host = tenant.join("web-1", &["all"]);
    let wish = Wish {
        key: true,
        ..Wish::default()
    };
    let key = tenant.signer().settle(&wish).unwrap().key.unwrap();
    // Over a folder that has the policies alone: what successors there are the backend says.
    let copy = temporary();
    std::fs::create_dir(copy.path().join("policy")).unwrap();
    for version in ["1", "2"] {
        let name = format!("policy/{version}");
        std::fs::copy(tenant.folder().join(&name), copy.path().join(&name)).unwrap();
    }
    let url = format!("{}/v2/{}", site.url(), tenant.id);
    desk.private("token", &site.token);
    let push = format!("policy push {} {url} --token-file @/token", copy.path().display());
    let stranger = SigningKey::generate(label("stranger")).unwrap();
    use dirless_syncer::signed::Registry;
    site.operator().register_publisher(stranger.verifying()).unwrap();
    let said = desk.good(&push);
    assert!(
        said.contains("key stranger+") && said.matches("no more").count() == 1,
        "{said}"
    );
    assert_eq!(
        site.operator().publishers().unwrap().len(),
        2,
        "the old key signs along"
    );
    tenant.minutes(8 * 24 * 60);
    assert_eq!(settle(&tenant.signer()).problems, Vec::<String>::new());
    // The first one, which the policy names, was ended; its successor is what counts.
    desk.good(&push);
    let newest = format!("{}+{}", key.name(), key.hash());
    assert_eq!(site.operator().publishers().unwrap(), std::slice::from_ref(&newest));
    host.look(&tenant.folder(), tenant.clock.now()).unwrap();

    // Whoever looks from outside, or copies, follows them as well.
    let source = tenant.folder();
    let said = desk.good(&format!("verify {}", source.display()));
    assert!(
        said.contains("succession/syncer-1/") && said.contains(&newest),
        "{said}"
    );
    let mirrored = desk.path("mirror");
    desk.good(&format!("mirror {} {}", source.display(), mirrored.display()));
    host.look(&mirrored, tenant.clock.now()).unwrap();
    std::fs::remove_dir_all(mirrored.join("succession")).unwrap();
    let error = desk.run(&format!("verify {}", mirrored.display())).unwrap_err();
    assert!(error.contains("[forged]"), "{error}");

    // And so does who watches; who is shown none knows of nobody that what is current was applied.
    let watch = || desk.good(&format!("watch {} --once", desk.at()));
    desk.receipt(&host, head(tenant).version, b"newest", &[]);
    let said = watch();
    assert!(said.contains("syncer-1  head ") && !said.contains("problem"), "{said}");
    assert!(said.contains("  applied  generation 3"), "{said}");
    let succession = Succession::path(tenant.keys().publisher.verifying(), 1);
    site.operator().remove(&succession).unwrap();
    let said = watch();
    assert!(
        said.contains("problem: head: the head of syncer-1 is not signed by its key"),
        "{said}"
    );
    assert!(
        said.contains("  unknown  generation 3") && said.contains("  no head of syncer-1"),
        "{said}"
    );
    assert!(!said.contains("applied"), "{said}");

    let second = std::fs::read(copy.path().join("policy/2")).unwrap();
    let second = Note::parse(&second, 1 << 20).unwrap();
    let first = tenant.policy();
    let third = dirless_seal::trust::Policy {
        version: 3,
        previous: Some(second.digest()),
        publishers: vec![],
        ..first
    };
    let roots: Vec<_> = tenant.roots.iter().collect();
    let note = Note::sign(print(&third).unwrap(), &roots).unwrap();
    std::fs::write(copy.path().join("policy/3"), note.to_string()).unwrap();
    assert!(desk.good(&push).contains("may write there no more"));
    assert_eq!(site.operator().publishers().unwrap(), Vec::<String>::new());
}

impl Desk {
    /// Has the policy name another syncer, whose keys are in `keys`.
    fn succeeded(&self) -> PublicLines {
        let lines = Custody::init(&self.path("keys"), &label("syncer-1")).unwrap();
        self.tenant.next_policy(|policy| {
            policy.publishers = vec![Publisher {
                key: lines.publisher.clone(),
                scope: policy.publishers[0].scope.clone(),
            }];
            policy.enrollers = vec![Enroller {
                key: lines.enroller.clone(),
                recipient: lines.recipient.clone(),
            }];
        });
        self.private("recovery", &self.tenant.recovery.expose());
        lines
    }
}

fn recovers(tenant: Tenant) {
    let signer = tenant.signer();
    for (source, first) in [("corp", 2000), ("local", 2100)] {
        stock(&signer, source, &snapshot(first, &["alice"]));
    }
    settle(&signer);
    for users in [&["alice", "bob"][..], &["bob", "carol"]] {
        stock(&signer, "corp", &snapshot(2000, users));
        settle(&signer);
    }
    let mut host = tenant.join("web-1", &["all"]);
    let before = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    assert!(before["corp"].contains("carol"));
    let desk = Desk {
        tenant,
        folder: temporary(),
    };
    let tenant = &desk.tenant;
    // Everything of the syncer is gone; the roots give another one its place.
    let lines = desk.succeeded();
    let keys = || Custody::load(&desk.path("keys"), &|_| None).unwrap();
    if let Place::Backend(site) = &tenant.place {
        use dirless_syncer::signed::Registry;
        site.operator().register_publisher(&lines.publisher).unwrap();
        site.of(&keys().publisher, &[&site.url()], &tenant.clock)
            .has("policy/2")
            .unwrap();
    }
    let recover = format!(
        "recover {} --identity @/recovery --keys @/keys --state @/state --out @/out",
        desk.at()
    );
    let said = desk.good(&recover);
    assert!(said.contains("with 1 hosts") && said.contains("opened corp"), "{said}");
    let plain = std::fs::read_to_string(desk.path("out/corp.json")).unwrap();
    assert_eq!(plain, before["corp"]);

    tenant.minutes(1);
    let place: Arc<dyn Folder> = match &tenant.place {
        Place::Folder => Arc::new(DiskFolder::public(&tenant.folder())),
        Place::Backend(site) => Arc::new(site.of(&keys().publisher, &[&site.url()], &tenant.clock)),
    };
    let signer = Signer::over(
        tenant.config(),
        tenant.id,
        keys(),
        Arc::new(DiskFolder::private(&desk.path("state"))),
        place,
        tenant.clock.clone(),
    );
    let settled = signer.settle(&Wish::default()).unwrap();
    assert_eq!((settled.published.len(), settled.epochs.len()), (2, 1), "{settled:?}");
    assert_eq!(settled.epochs[0].number, 2, "a key that nobody had before");
    assert_eq!(host.look(&tenant.folder(), tenant.clock.now()).unwrap(), before);
    // Whoever looks from outside finds the whole chain sound, over the change of keys too.
    if matches!(tenant.place, Place::Folder) {
        let verified = desk.good(&format!("verify {} --identity @/recovery", tenant.folder().display()));
        assert!(verified.contains("1 nodes, 0 revoked"), "{verified}");
    }
    // The lost one says nothing any more, should it come back.
    assert!(tenant.signer().settle(&Wish::default()).is_err());

    desk.private("other", &dirless_seal::Identity::generate().expose());
    let wrong = recover.replace("@/recovery", "@/other").replace("@/state", "@/state2");
    assert!(desk.run(&wrong).is_err());
}

#[test]
fn a_lost_syncer_is_recovered_from_a_folder() {
    recovers(Tenant::new());
}

#[test]
fn a_lost_syncer_is_recovered_from_a_backend() {
    recovers(Tenant::at_backend());
}

#[test]
fn a_lost_syncer_is_recovered_with_what_its_logs_say() {
    for tenant in [Tenant::new(), Tenant::at_backend()] {
        let tenant = tenant.logging(50);
        recovers(tenant);
    }
}

#[test]
fn a_syncer_whose_key_was_renewed_is_recovered() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    stock(&signer, "corp", &snapshot(2000, &["alice"]));
    settle(&signer);
    let wish = Wish {
        key: true,
        ..Wish::default()
    };
    assert!(signer.settle(&wish).unwrap().key.is_some());
    tenant.minutes(8 * 24 * 60);
    settle(&tenant.signer());
    let succession = |number| {
        tenant
            .folder()
            .join(Succession::path(tenant.keys().publisher.verifying(), number))
    };
    let (first, second) = (succession(1), succession(2));
    let desk = Desk {
        tenant,
        folder: temporary(),
    };
    desk.succeeded();
    let recover = format!(
        "recover {} --identity @/recovery --keys @/keys --state @/state --out @/out",
        desk.at()
    );
    // The one before in the place of the next is not followed for ever.
    std::fs::copy(first, &second).unwrap();
    let error = desk.run(&recover).unwrap_err();
    assert!(error.contains("succession/syncer-1/"), "{error}");
    std::fs::remove_file(second).unwrap();
    let _ = std::fs::remove_dir_all(desk.path("state"));
    desk.good(&recover);
    let plain = std::fs::read_to_string(desk.path("out/corp.json")).unwrap();
    assert!(plain.contains("alice"), "{plain}");
}

#[test]
fn a_log_that_is_not_whole_recovers_nothing() {
    let tenant = Tenant::new().logging(50);
    let signer = tenant.signer();
    for users in [&["alice"][..], &["alice", "bob"], &["bob"]] {
        stock(&signer, "corp", &snapshot(2000, users));
        settle(&signer);
    }
    let log = tenant.folder().join("log/syncer-1/corp/all/1");
    let desk = Desk {
        tenant,
        folder: temporary(),
    };
    desk.succeeded();
    let recover = format!(
        "recover {} --identity @/recovery --keys @/keys --state @/state --out @/out",
        desk.at()
    );
    let [first, second] = ["0", "1"].map(|name| std::fs::read(log.join(name)).unwrap());
    let mut flipped = first.clone();
    flipped[40] ^= 1;
    for (spoilt, word) in [
        (Some(flipped), "record 0"),
        (Some(second), "record 0"),
        (None, "log/syncer-1/corp/all/1/0"),
    ] {
        match spoilt {
            Some(bytes) => std::fs::write(log.join("0"), bytes).unwrap(),
            None => std::fs::remove_file(log.join("0")).unwrap(),
        }
        let error = desk.run(&recover).unwrap_err();
        assert!(error.contains(word), "{error}");
        assert!(!desk.path("out/corp.json").exists());
        let _ = std::fs::remove_dir_all(desk.path("state"));
    }
    std::fs::write(log.join("0"), first).unwrap();
    desk.good(&recover);
    let plain = std::fs::read_to_string(desk.path("out/corp.json")).unwrap();
    assert!(plain.contains("bob") && !plain.contains("alice"), "{plain}");
}
