//! Lies about what is signed.

use dirless_e2e::hostile::forge::{self, object, signed, signed_again, stranger};
use dirless_e2e::hostile::{Answer, Scene};
use dirless_seal::trust::{Head, Lease, Policy, print};
use dirless_seal::{Digest, Identity, Note};

use crate::lie::Who::{Behind, Early, Late, Past};
use crate::lie::{Lie, lie};

pub(crate) const HEAD: &str = "head/syncer-1";

pub(crate) fn lies() -> Vec<Lie> {
    let mut lies = forged();
    lies.extend(old());
    lies.extend(foreign());
    lies.extend(keys());
    lies.extend(unlinked());
    lies.extend(crate::successions::lies());
    lies
}

fn forged() -> Vec<Lie> {
    vec![
        lie("forged-snapshot", Early, &["forged"], |scene| {
            scene.next_people()?.tell(&scene.liar, &stranger("syncer-1")?)
        })
        .or(|scene| {
            let thief = scene.world.keys.enroller.renamed(forge::label("syncer-1")?);
            scene.next_people()?.tell(&scene.liar, &thief)
        })
        .or(|scene| {
            let revoked = scene.world.keys.guest.renamed(forge::label("syncer-1")?);
            scene.next_people()?.tell(&scene.liar, &revoked)
        }),
        lie("forged-manifest", Early, &["forged"], |scene| {
            let path = scene.newest_manifest()?;
            let note = scene.liar.file(&path)?;
            scene.liar.put(&path, signed_again(&note, &scene.world.keys.guest)?);
            Ok(())
        })
        .or(|scene| {
            let path = scene.newest_manifest()?;
            let note = scene.liar.file(&path)?;
            scene.liar.put(&path, signed_again(&note, &stranger("syncer-1")?)?);
            Ok(())
        }),
        // Whatever is served in its place, the policy that is known holds, and news under it is believed.
        lie("forged-policy", Early, &["forged"], |scene| {
            let roots = ["root-1", "root-2"].map(stranger);
            let [one, two] = roots;
            let (one, two) = (one?, two?);
            let mut policy = next_policy(scene)?;
            policy.roots = [one.verifying().clone(), two.verifying().clone()].into();
            let note = signed(&policy, &one)?;
            let mut note = Note::parse(&note, 1 << 20)?;
            note.add(&two);
            scene.liar.put("policy/4", note.to_string());
            Ok(())
        })
        .or(|scene| {
            let policy = next_policy(scene)?;
            scene
                .liar
                .put("policy/4", signed(&policy, &scene.world.keys.publisher)?);
            Ok(())
        })
        .meanwhile(&["alice", "carol"]),
        lie("stripped-head", Early, &["no-note"], |scene| strip(scene, HEAD)),
        lie("stripped-manifest", Early, &["no-note"], |scene| {
            strip(scene, &scene.newest_manifest()?)
        }),
        lie("version-two-to-the-63", Early, &["malformed"], |scene| {
            let head: Head = object(&scene.liar.file(HEAD)?)?;
            let (old, new) = (
                format!("\nversion {}\n", head.version),
                "\nversion 9223372036854775808\n",
            );
            scene.change(HEAD, |bytes| {
                *bytes = String::from_utf8_lossy(bytes).replacen(&old, new, 1).into_bytes();
            })
        }),
    ]
}

fn next_policy(scene: &Scene<'_>) -> anyhow::Result<Policy> {
    let note = scene.liar.file("policy/3")?;
    let mut policy: Policy = object(&note)?;
    policy.previous = Some(Note::parse(&note, 1 << 20)?.digest());
    policy.version = 4;
    Ok(policy)
}

fn strip(scene: &Scene<'_>, path: &str) -> anyhow::Result<()> {
    scene.change(path, |bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        *bytes = text
            .split_inclusive("\n\n")
            .next()
            .unwrap_or_default()
            .as_bytes()
            .to_vec();
    })
}

fn old() -> Vec<Lie> {
    vec![
        lie("older-head", Late, &["rollback"], |scene| {
            scene.liar.put(HEAD, std::fs::read(scene.world.then().join(HEAD))?);
            Ok(())
        }),
        lie("older-manifest", Early, &["mixed"], |scene| {
            let old = scene.liar.file("manifest/syncer-1/people/all/1")?;
            scene.liar.put(&scene.newest_manifest()?, old);
            Ok(())
        }),
        // The policy that still had the guest, and newer users by the key that was revoked since.
        lie(
            "older-policy-with-newer-users",
            Late,
            &["rollback", "forged"],
            |scene| {
                scene.liar.put("policy/4", scene.liar.file("policy/2")?);
                let revoked = scene.world.keys.guest.renamed(forge::label("syncer-1")?);
                let mut forgery = scene.next_people()?;
                forgery.head.policy = 2;
                forgery.tell(&scene.liar, &revoked)?;
                scene
                    .next_guests(&[("g-zero", 5002)])?
                    .tell(&scene.liar, &scene.world.keys.guest)
            },
        ),
        lie("withheld-policy", Behind, &["policy-withheld"], |scene| {
            scene.liar.say("policy/3", Answer::absent());
            Ok(())
        }),
        // A publisher that was revoked is forgotten also while another's head is held back.
        lie("withheld-head-after-a-revocation", Behind, &["no-head"], |scene| {
            scene.liar.say(HEAD, Answer::absent());
            Ok(())
        })
        .meanwhile(&["alice", "bob"]),
        lie("two-heads-of-one-version", Late, &["fork"], |scene| {
            let mut head: Head = object(&scene.liar.file(HEAD)?)?;
            head.nodes = None;
            scene.liar.put(HEAD, signed(&head, &scene.world.keys.publisher)?);
            Ok(())
        }),
        lie("leap", Late, &["leap"], |scene| {
            change_head(scene, |head| head.version = 1 << 40)
        }),
        lie("endless-lease", Late, &["lease-too-long"], |scene| {
            change_head(scene, |head| {
                head.version += 1;
                head.lease = Lease {
                    fresh: u32::MAX - 1,
                    expires: u32::MAX,
                };
            })
        }),
    ]
}

pub(crate) fn change_head(scene: &Scene<'_>, change: impl FnOnce(&mut Head)) -> anyhow::Result<()> {
    let mut head: Head = object(&scene.liar.file(HEAD)?)?;
    change(&mut head);
    scene.liar.put(HEAD, signed(&head, &scene.world.keys.publisher)?);
    Ok(())
}

/// Signed by whoever may sign it, and none of it follows on what was accepted, or can be read here.
fn unlinked() -> Vec<Lie> {
    vec![
        // With as many root keys as it takes.
        lie("unlinked-policy", Early, &["chain"], |scene| {
            let mut policy = next_policy(scene)?;
            policy.previous = Some(Digest::of(b"another"));
            put_policy(scene, &policy)
        })
        .or(|scene| {
            let mut policy = next_policy(scene)?;
            policy.version = 5;
            put_policy(scene, &policy)
        })
        .meanwhile(&["alice", "carol"]),
        lie("policy-of-a-newer-format", Early, &["format-too-new"], |scene| {
            let mut policy = next_policy(scene)?;
            policy.format = 2;
            put_policy(scene, &policy)
        })
        .meanwhile(&["alice", "carol"]),
        lie("unlinked-manifest", Late, &["chain"], |scene| {
            let mut forgery = scene.next_people()?;
            forgery.manifest.previous = Some(Digest::of(b"another"));
            forgery.tell(&scene.liar, &scene.world.keys.publisher)
        })
        .until(head_once_more),
    ]
}

/// Serves it as the fourth, signed by the true roots.
fn put_policy(scene: &Scene<'_>, policy: &Policy) -> anyhow::Result<()> {
    let [one, two] = &scene.world.keys.roots;
    let note = Note::sign(print(policy)?, &[one, two])?;
    scene.liar.put("policy/4", note.to_string());
    Ok(())
}

/// The truth, under a head that is newer than any that a stolen key signed.
pub(crate) fn head_once_more(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.liar.truth();
    change_head(scene, |head| head.version += 100)
}

fn foreign() -> Vec<Lie> {
    vec![
        lie("another-tenants-data", Early, &["other-tenant"], |scene| {
            let mut theirs = scene.next_people()?;
            theirs.manifest.tenant = Digest::of(b"another");
            theirs.head.tenant = theirs.manifest.tenant;
            theirs.tell(&scene.liar, &stranger("syncer-1")?)
        })
        .or(|scene| {
            // Of a publisher that both tenants have.
            let mut theirs = scene.next_people()?;
            theirs.manifest.tenant = Digest::of(b"another");
            theirs.head.tenant = theirs.manifest.tenant;
            theirs.tell(&scene.liar, &scene.world.keys.publisher)
        }),
        lie("another-tenants-policy", Early, &["other-tenant"], |scene| {
            let mut policy = next_policy(scene)?;
            policy.tenant = Digest::of(b"another");
            scene
                .liar
                .put("policy/4", signed(&policy, &scene.world.keys.publisher)?);
            Ok(())
        })
        .meanwhile(&["alice", "carol"]),
        // True, signed, and at another's place.
        lie("another-publishers-head", Past, &["mixed"], |scene| {
            let head = scene.liar.file("head/guest")?;
            scene.liar.put(HEAD, head);
            Ok(())
        }),
        lie("another-source", Past, &["out-of-scope"], |scene| {
            let mut forgery = scene.next_guests(&[("mallory", 5002)])?;
            forgery.manifest.source = forge::label("people")?;
            forgery.tell(&scene.liar, &scene.world.keys.guest)
        }),
        // Accepted but for the records that its publisher may not make; what comes next is believed again.
        lie("ids-and-names-out-of-scope", Past, &["out-of-scope"], |scene| {
            let users = [("g-eve", 5001), ("mallory", 5002), ("g-zero", 20_000), ("g-root", 0)];
            scene.next_guests(&users)?.tell(&scene.liar, &scene.world.keys.guest)
        })
        .until(crate::bodies::guests_again),
    ]
}

fn keys() -> Vec<Lie> {
    vec![
        lie("another-hosts-key", Early, &["epoch-key"], |scene| {
            let other = scene
                .liar
                .file(&wrap(scene.world.spare.key()?.verifying().name().as_str()))?;
            give_key(scene, other)
        })
        .or(|scene| {
            // A key of its own, truly sealed to this host.
            let own = Identity::generate();
            let true_wrap = dirless_seal::trust::Wrap {
                tenant: scene.world.tenant.id.parse()?,
                compartment: forge::label("all")?,
                epoch: 2,
                identity: own.expose().parse()?,
            };
            give_key(scene, true_wrap.seal(&scene.host.identity()?.recipient())?)
        })
        .or(|scene| give_key(scene, forge::crowded(100)))
        .or(|scene| give_key(scene, b"not at all".to_vec())),
        lie("key-for-a-crowd", Early, &["too-long"], |scene| {
            give_key(scene, forge::crowded(100_000))
        }),
        lie("withheld-key", Early, &["not-admitted"], |scene| {
            scene.liar.say("wrap/", Answer::absent());
            Ok(())
        }),
    ]
}

fn wrap(node: &str) -> String {
    format!("wrap/all/2/{node}")
}

fn give_key(scene: &Scene<'_>, bytes: Vec<u8>) -> anyhow::Result<()> {
    let own = scene.host.key()?;
    scene.liar.put(&wrap(own.verifying().name().as_str()), bytes);
    Ok(())
}
