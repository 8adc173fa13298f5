//! A tenant to measure with.
#![expect(clippy::unwrap_used, reason = "a measuring program, not the product")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dirless_program::Clock;
use dirless_publish::{Custody, DiskFolder, SignedConfig, Signer};
use dirless_seal::trust::{Compartment, Enroller, OnExpiry, Policy, Publisher, Right, Scope, print};
use dirless_seal::{Digest, Identity, Note, SigningKey};
use jiff::SignedDuration;
use rustix::time::{ClockId, clock_gettime};

/// Processor time of this process.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// A publisher of `corp` to one compartment, whose folders are on the disk of `temporary`.
pub(crate) fn signer(temporary: &Path, folder: &Path) -> Signer {
    let clock = Clock::system();
    let tenant = Digest::of(b"tenant");
    let keys = Custody::generate(&"syncer-1".parse().unwrap()).unwrap();
    let root = SigningKey::generate("root-1".parse().unwrap()).unwrap();
    let (public, now) = (keys.public(), clock.now());
    let issued = jiff::Timestamp::from_second(now.as_second()).unwrap();
    let policy = Policy {
        tenant,
        version: 1,
        previous: None,
        issued,
        expires: issued + SignedDuration::from_hours(24),
        format: 1,
        lease: 86_400,
        threshold: 1,
        roots: [root.verifying().clone()].into(),
        publishers: vec![Publisher {
            key: public.publisher,
            scope: Scope {
                sources: ["corp".parse().unwrap()].into(),
                ids: vec!["2000-2000000000".parse().unwrap()],
                names: vec!["*".parse().unwrap()],
                may: BTreeSet::from(Right::ALL),
            },
        }],
        enrollers: vec![Enroller {
            key: public.enroller,
            recipient: public.recipient,
        }],
        recovery: vec![Identity::generate().recipient()],
        compartments: vec![Compartment {
            name: "all".parse().unwrap(),
            on_expiry: OnExpiry::Serve,
        }],
    };
    std::fs::create_dir_all(folder.join("policy")).unwrap();
    let note = Note::sign(print(&policy).unwrap(), &[&root]).unwrap();
    std::fs::write(folder.join("policy/1"), note.to_string()).unwrap();
    let config: SignedConfig =
        toml::from_str(&format!("folder = {folder:?}\nroots = \"{}\"", policy.fingerprint())).unwrap();
    let state = DiskFolder::private(&temporary.join("state"));
    Signer::over(
        config,
        tenant,
        keys,
        Arc::new(state),
        Arc::new(DiskFolder::public(folder)),
        clock,
    )
}
