//! Lies about what is sealed.

use dirless_e2e::hostile::forge::{self, Forgery, Snapshot, users};
use dirless_e2e::hostile::{Answer, Scene};
use dirless_seal::Digest;

use crate::lie::Who::{Early, Past};
use crate::lie::{Lie, lie};

pub(crate) fn lies() -> Vec<Lie> {
    let mut lies = damaged();
    lies.extend(swollen());
    lies
}

fn damaged() -> Vec<Lie> {
    let flip = |at: fn(usize) -> usize| {
        move |scene: &Scene<'_>| {
            let (path, _) = scene.newest_body()?;
            scene.change(&path, |bytes| {
                let at = at(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1;
                }
            })
        }
    };
    let cut = |to: fn(usize) -> usize| {
        move |scene: &Scene<'_>| {
            let (path, _) = scene.newest_body()?;
            scene.change(&path, |bytes| bytes.truncate(to(bytes.len())))
        }
    };
    vec![
        lie("sealed-again", Early, &["body-changed"], |scene| {
            let (path, recipient) = scene.newest_body()?;
            let size = scene.liar.file(&path)?.len();
            scene.liar.put(&path, forge::sealed_to_size(size, &recipient)?);
            Ok(())
        }),
        lie("flipped-bits", Early, &["body-changed"], flip(|_| 0))
            .or(flip(|_| 30))
            .or(flip(|size| size / 2))
            .or(flip(|size| size - 1)),
        lie("truncated-body", Early, &["body-size"], cut(|size| size - 1))
            .or(cut(|size| size / 2))
            .or(cut(|_| 22))
            .or(cut(|_| 0))
            .or(|scene| {
                let (path, _) = scene.newest_body()?;
                scene.change(&path, |bytes| bytes.push(0))
            }),
        lie("another-body", Early, &["body-size"], |scene| {
            let (path, recipient) = scene.newest_body()?;
            let theirs = users(&[("mallory", 11_111), ("g-zero", 11_112), ("g-root", 11_113), ("m", 9000)]);
            scene.liar.put(&path, forge::sealed(&theirs.plaintext, &recipient)?);
            Ok(())
        }),
        lie("withheld-body", Early, &["missing"], |scene| {
            scene.liar.say("blob/", Answer::absent());
            Ok(())
        }),
        lie("withheld-manifest", Early, &["missing"], |scene| {
            scene.liar.say("manifest/", Answer::absent());
            Ok(())
        }),
    ]
}

/// What a thief of a publisher's key signs; the publisher goes on after it.
fn stolen(
    name: &'static str,
    codes: &'static [&'static str],
    make: impl Fn(Forgery) -> anyhow::Result<Forgery> + Send + Sync + 'static,
) -> Lie {
    lie(name, Past, codes, move |scene| {
        let forgery = make(scene.next_guests(&[("mallory", 5002)])?)?;
        forgery.tell(&scene.liar, &scene.world.keys.guest)
    })
    .until(guests_again)
}

/// The other publisher's next snapshot, after whatever was signed by its key.
pub(crate) fn guests_again(scene: &Scene<'_>) -> anyhow::Result<()> {
    let manifest = scene.liar.file(&scene.newest_of_guest()?)?;
    let head = scene.liar.file("head/guest")?;
    scene.liar.truth();
    let next = Forgery::after(&manifest, &head, &users(&[("g-eve", 5001)]))?;
    next.tell(&scene.liar, &scene.world.keys.guest)
}

fn swollen() -> Vec<Lie> {
    vec![
        stolen("records-that-were-not-signed", &["content-root"], |mut forgery| {
            forgery.manifest.content = Digest::of(b"other records");
            Ok(forgery)
        }),
        stolen("zip-bomb", &["bomb"], |forgery| {
            let body = forge::sealed(&forge::bomb()?, &forgery.manifest.recipient)?;
            Ok(forgery.with_body(body))
        }),
        stolen("promised-bomb", &["too-large"], |mut forgery| {
            forgery.manifest.plaintext_size = 1 << 50;
            Ok(forgery)
        }),
        stolen("promised-body", &["body-size"], |mut forgery| {
            forgery.manifest.ciphertext_size = 1 << 40;
            Ok(forgery)
        }),
        stolen("header-of-a-crowd", &["header-too-large"], |forgery| {
            Ok(forgery.with_body(forge::crowded(100_000)))
        }),
        stolen("no-age-file", &["not-sealed"], |forgery| {
            let Snapshot { plaintext, .. } = users(&[("mallory", 5002)]);
            Ok(forgery.with_body(plaintext))
        }),
        stolen("half-a-header", &["damaged"], |forgery| {
            Ok(forgery.with_body(b"age-encryption.org/v1\n-> X25519\n".to_vec()))
        }),
        lie("snapshot-of-another-source", Past, &["other-source"], |scene| {
            let forgery = scene.next_of_guest(&forge::users_of("people", &[("mallory", 5002)]))?;
            forgery.tell(&scene.liar, &scene.world.keys.guest)
        })
        .until(guests_again),
        stolen("sealed-to-another", &["wrong-key"], |forgery| {
            let other = dirless_seal::Identity::generate().recipient();
            let Snapshot { plaintext, .. } = users(&[("g-zero", 5002)]);
            let body = forge::sealed(&plaintext, &other)?;
            Ok(forgery.with_body(body))
        }),
        stolen("no-snapshot", &["unreadable"], |forgery| {
            let body = forge::sealed(b"{\"users\":[{]}", &forgery.manifest.recipient)?;
            Ok(forgery.with_body(body))
        }),
    ]
}
