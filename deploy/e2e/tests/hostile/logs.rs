//! Lies about logs: what changed since a body, record by record and in tiles.

use dirless_e2e::hostile::forge::{Log, changed, put};
use dirless_e2e::hostile::{Answer, Scene};
use dirless_seal::trust::log::{Change, Changes, LogFile, TILE};
use dirless_seal::{Digest, RecordKind};

use crate::lie::Who::{Followed, Following, Past};
use crate::lie::{Lie, lie};
use crate::objects::{HEAD, head_once_more};

pub(crate) fn lies() -> Vec<Lie> {
    let mut lies = served();
    lies.extend(other_stories());
    lies.extend(unusable());
    lies
}

/// The path of a record of the log beside the newest people.
fn record(scene: &Scene<'_>, number: u64) -> anyhow::Result<String> {
    Ok(scene.log()?.path(LogFile::Record(number)))
}

/// Told to a host that has record 0 of three: what is served in place of the others is not what was signed.
fn served() -> Vec<Lie> {
    let change = |how: fn(&mut Vec<u8>)| move |scene: &Scene<'_>| scene.change(&record(scene, 1)?, how);
    vec![
        lie("withheld-record", Following, &["missing"], |scene| {
            scene.liar.say(&record(scene, 1)?, Answer::absent());
            Ok(())
        })
        .or(|scene| {
            scene.liar.say("log/", Answer::absent());
            Ok(())
        }),
        lie(
            "changed-record",
            Following,
            &["mixed"],
            change(|bytes| {
                if let Some(byte) = bytes.get_mut(40) {
                    *byte ^= 1;
                }
            }),
        )
        .or(change(|bytes| bytes.push(0)))
        .or(change(|bytes| bytes.truncate(9)))
        .or(change(Vec::clear)),
        lie("endless-record", Following, &["too-long"], |scene| {
            scene.liar.say(&record(scene, 1)?, Answer::Endless);
            Ok(())
        }),
        lie("reordered-records", Following, &["mixed"], |scene| {
            let [one, two] = [record(scene, 1)?, record(scene, 2)?];
            let (first, second) = (scene.liar.file(&one)?, scene.liar.file(&two)?);
            scene.liar.put(&one, second);
            scene.liar.put(&two, first);
            Ok(())
        })
        .or(|scene| {
            // The one before once more.
            let before = scene.liar.file(&record(scene, 0)?)?;
            scene.liar.put(&record(scene, 1)?, before);
            Ok(())
        }),
        // Of the log beside the body before.
        lie("another-ones-record", Following, &["mixed"], |scene| {
            let theirs = scene.liar.file("log/syncer-1/people/all/1/0")?;
            scene.liar.put(&record(scene, 1)?, theirs);
            Ok(())
        })
        .or(|scene| {
            // With the very key, under the very number, by a host that was stolen.
            let path = record(scene, 1)?;
            scene.liar.truth();
            let mut log = scene.log()?;
            log.records.truncate(2);
            let same = log.last()?;
            log.records.truncate(1);
            log.add(&same)?;
            scene.liar.put(&path, log.records.remove(1));
            Ok(())
        }),
        lie("changed-tile", Following, &["mixed"], |scene| {
            let log = long(scene)?;
            tell(scene, &log)?;
            scene.change(&log.path(LogFile::Tile(0)), |bytes| {
                if let Some(byte) = bytes.last_mut() {
                    *byte ^= 1;
                }
            })
        })
        .or(|scene| {
            let path = scene.log()?.path(LogFile::Tile(0));
            scene.change(&path, |bytes| bytes.truncate(bytes.len() / 2))
        })
        .until(|scene| {
            scene.liar.truth();
            tell(scene, &long(scene)?)?;
            crate::objects::change_head(scene, |head| head.version += 100)
        }),
    ]
}

/// The head names it, signed by the stolen key.
fn tell(scene: &Scene<'_>, log: &Log) -> anyhow::Result<()> {
    log.tell(&scene.liar, &scene.liar.file(HEAD)?, &scene.world.keys.publisher)
}

/// A log of one whole tile, after which all is as after the third record.
fn long(scene: &Scene<'_>) -> anyhow::Result<Log> {
    let mut log = scene.log()?;
    let last = log.last()?;
    let same = Changes {
        content: last.content,
        changes: last
            .changes
            .into_iter()
            .filter(|((kind, _), change)| *kind == RecordKind::User && matches!(change, Change::Put(_)))
            .collect(),
    };
    while (log.records.len() as u64) < TILE {
        log.add(&same)?;
    }
    Ok(log)
}

/// Told to a host that has all three records, by whoever stole the publisher's key.
fn other_stories() -> Vec<Lie> {
    let shorten = |scene: &Scene<'_>| {
        let mut log = scene.log()?;
        log.records.pop();
        tell(scene, &log)
    };
    vec![
        // Down to none.
        lie("shortened-log", Followed, &["rollback"], shorten)
            .or(shorten)
            .or(shorten)
            .until(head_once_more),
        lie("another-log", Followed, &["fork"], |scene| {
            let mut log = scene.log()?;
            let last = log.last()?;
            log.records.pop();
            log.add(&last)?;
            tell(scene, &log)
        })
        .or(|scene| {
            // The same, and longer.
            let mut log = scene.log()?;
            let last = log.last()?;
            log.add(&changed("mallory", put("mallory", 11_111), last.content))?;
            tell(scene, &log)
        })
        .until(head_once_more),
    ]
}

/// What a thief of the other publisher's key adds to its log: signed, and nothing that a host could use. The publisher's next
/// base ends it.
fn unusable() -> Vec<Lie> {
    let told = |name, codes, add: fn(&mut Log) -> anyhow::Result<()>| {
        lie(name, Past, codes, move |scene| {
            let mut log = scene.log_of_guest()?;
            add(&mut log)?;
            log.tell(&scene.liar, &scene.liar.file("head/guest")?, &scene.world.keys.guest)
        })
        .until(crate::bodies::guests_again)
    };
    vec![
        told("record-that-fits-nothing", &["log-record"], |log| {
            log.add(&changed("nobody", Change::Drop, Digest::of(b"whatever")))
        }),
        told("record-that-does-not-open", &["log-record"], |log| {
            log.records.push(vec![7; 200]);
            Ok(())
        }),
        told("records-that-lead-elsewhere", &["content-root"], |log| {
            log.add(&changed("mallory", put("mallory", 5002), Digest::of(b"elsewhere")))
        }),
    ]
}
