//! Lies about which key a publisher has, some with a key that was stolen and replaced.

use std::sync::Arc;

use dirless_e2e::hostile::forge::{label, object, signed, stranger};
use dirless_e2e::hostile::{Answer, Scene};
use dirless_seal::trust::{Head, Succession, print};
use dirless_seal::{Digest, Note, SigningKey};

use crate::lie::Who::{Early, Late};
use crate::lie::{Lie, lie};
use crate::objects::HEAD;

pub(crate) fn lies() -> Vec<Lie> {
    let mut lies = vec![
        // A key of nobody, which nobody but itself or an enroller vouches for.
        lie("forged-succession", Early, &["forged", "forged"], |scene| {
            let own = stranger("syncer-1")?;
            succeed(scene, &own, &own)?;
            scene.next_people()?.tell(&scene.liar, &own)
        })
        .or(|scene| {
            let own = stranger("syncer-1")?;
            succeed(scene, &scene.world.keys.enroller.renamed(label("syncer-1")?), &own)?;
            scene.next_people()?.tell(&scene.liar, &own)
        }),
        lie("withheld-succession", Early, &["forged"], |scene| {
            let own = stranger("syncer-1")?;
            scene.liar.say("succession/", Answer::absent());
            scene.next_people()?.tell(&scene.liar, &own)
        }),
    ];
    // By both true keys, and the first of them is nowhere.
    lies.push(lie("succession-out-of-turn", Late, &["chain", "forged"], |scene| {
        let own = stranger("syncer-1")?;
        let mut second = first_succession(scene, &own)?;
        (second.version, second.previous) = (2, Some(Digest::of(b"the first")));
        put(scene, &second, &scene.world.keys.publisher, &own)?;
        scene.next_people()?.tell(&scene.liar, &own)
    }));
    lies.push(replaced("head-by-a-replaced-key", &["forged"], |scene| {
        scene.next_people()?.tell(&scene.liar, &scene.world.keys.publisher)
    }));
    lies.push(replaced("succession-by-a-replaced-key", &["fork"], |scene| {
        let own = stranger("syncer-1")?;
        succeed(scene, &scene.world.keys.publisher, &own)?;
        scene.next_people()?.tell(&scene.liar, &own)
    }));
    lies
}

/// Told to a host that has followed the true key to its successor, by who has the true key still.
fn replaced(
    name: &'static str,
    codes: &'static [&'static str],
    tell: impl Fn(&Scene<'_>) -> anyhow::Result<()> + Send + Sync + 'static,
) -> Lie {
    let new = Arc::new(stranger("syncer-1").unwrap());
    let truth = Arc::clone(&new);
    lie(name, Late, codes, move |scene| {
        succeed(scene, &scene.world.keys.publisher, &new)?;
        next_head(scene, &new)?;
        let problems = scene.host.refresh()?;
        anyhow::ensure!(problems.is_empty(), "the true successor is not believed: {problems:?}");
        tell(scene)
    })
    .until(move |scene| {
        scene.liar.truth();
        succeed(scene, &scene.world.keys.publisher, &truth)?;
        next_head(scene, &truth)?;
        // Higher than what it was told.
        next_head(scene, &truth)
    })
}

/// Serves that `old` names `new`.
fn succeed(scene: &Scene<'_>, old: &SigningKey, new: &SigningKey) -> anyhow::Result<()> {
    put(scene, &first_succession(scene, new)?, old, new)
}

fn first_succession(scene: &Scene<'_>, new: &SigningKey) -> anyhow::Result<Succession> {
    Ok(Succession {
        tenant: scene.world.tenant.id.parse()?,
        publisher: label("syncer-1")?,
        version: 1,
        previous: None,
        issued: "2026-01-01T00:00:00Z".parse()?,
        anchor: scene.world.keys.publisher.verifying().clone(),
        key: new.verifying().clone(),
    })
}

/// Serves it where the first one is looked for.
fn put(scene: &Scene<'_>, succession: &Succession, old: &SigningKey, new: &SigningKey) -> anyhow::Result<()> {
    let note = Note::sign(print(succession)?, &[old, new])?;
    scene
        .liar
        .put(&Succession::path(&succession.anchor, 1), note.to_string());
    Ok(())
}

/// The head once more, by `key`.
fn next_head(scene: &Scene<'_>, key: &SigningKey) -> anyhow::Result<()> {
    let mut head: Head = object(&scene.liar.file(HEAD)?)?;
    head.version += 1;
    scene.liar.put(HEAD, signed(&head, key)?);
    Ok(())
}
