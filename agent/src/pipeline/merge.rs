//! Merging the sources, with words for what the merge left out.

use dirless_model::merge::{Cause, Entry, Merged, Part, Refusal, merge as merge_parts};
use dirless_model::texts::Texts;

use super::drops::{Drops, Kind};

/// Merges `parts`, which are of `sources` in the same order, and tells `drops` what was left out.
pub(super) fn merge(sources: &[String], texts: &Texts, parts: Vec<Part>, drops: &mut Drops) -> Merged {
    let merged = merge_parts(texts, parts);
    for refusal in &merged.refusals {
        tell(sources, texts, refusal, drops);
    }
    merged
}

fn tell(sources: &[String], texts: &Texts, refusal: &Refusal, drops: &mut Drops) {
    let source_name = |place: u8| sources.get(usize::from(place)).map_or("?", String::as_str);
    let (kind, name) = match refusal.entry {
        Entry::User(name) => (Kind::User, name),
        Entry::Group(name) => (Kind::Group, name),
        Entry::Keys(name) => (Kind::Keys, name),
    };
    let (name, raw) = (texts.name(name), texts.name(refusal.raw));
    let spelled = || {
        if raw == name {
            String::new()
        } else {
            format!(" (spelled {raw:?})")
        }
    };
    let source = source_name(refusal.source);
    match refusal.cause {
        Cause::SameName => drops.add(source, kind, name, "same-name", || {
            (
                format!(
                    "is the name of several records of {source}{}; all of them are refused",
                    spelled()
                ),
                "rename all but one at the source, or map the names in the syncer".to_owned(),
            )
        }),
        Cause::SameId { id, other } => drops.add(source, kind, name, "same-id", || {
            (
                format!(
                    "has the id {id}, and so has {} of {source}; both are refused",
                    texts.name(other)
                ),
                "give one of them another id at the source".to_owned(),
            )
        }),
        Cause::IdTaken {
            id,
            by,
            source: earlier,
        } => drops.add(source, kind, name, "id-taken", || {
            let earlier = source_name(earlier);
            (
                format!("has the id {id}, which {} of {earlier} has", texts.name(by)),
                format!("give one of them another id; {earlier} wins over {source}"),
            )
        }),
        Cause::Shadowed { source: earlier } => drops.add(source, kind, name, "shadowed", || {
            let earlier = source_name(earlier);
            (
                format!("is overridden by {earlier}, whose own entry of that name is refused"),
                format!("correct or remove the entry in {earlier}"),
            )
        }),
    }
}
