//! Entries of the directory tree, from the sealed bodies of its sources to an overlay for the copy.
//!
//! They bring no accounts, so that nobody's login waits for them: what cannot be used leaves the copy in
//! place, and one bad entry costs that entry.

use dirless_copy::{Overlay, Unfit};
use dirless_directory::{DnKey, Schema};
use dirless_model::snapshot::{Caps, Meta, RawEntry, RawGroup, RawUser, Sink};
use dirless_seal::trust::Right;

use super::drops::{Drops, Kind, shown};
use super::input::{Body, DirectoryInput, Inputs, SourceInput, SourceState};
use super::open::{self, BodyError};
use super::ratchet::Ratchet;
use super::report::{Report, SourceReport, Taken};

/// Most bytes of entries of all sources together: the worker's memory is limited, and holds accounts too.
const MOST: usize = 384 << 20;

/// Reads all sources of the tree; none when one of them cannot be used and had been before, or was never
/// fetched.
pub(super) fn gather(
    directory: &DirectoryInput,
    inputs: &Inputs,
    ratchet: &mut Ratchet,
    report: &mut Report,
) -> Option<Overlay> {
    let schema = Schema::standard();
    let base = schema.dn_key(&directory.base)?;
    let mut all = Some(Overlay::default());
    for source in &directory.sources {
        let (overlay, told) = take(source, &schema, &base, inputs, ratchet, &mut report.dropped);
        report.sources.push(told);
        all = all.zip(overlay).map(|(mut all, overlay)| {
            all.append(overlay);
            all
        });
    }
    let mut all = all?;
    let twice = all.sort();
    report.caution("entry-twice", twice, |count| {
        format!("{count} entries of the tree have the name of one in an earlier source, which stands")
    });
    Some(all)
}

/// Takes a source from the fetched body, or else from the last good one.
fn take(
    source: &SourceInput,
    schema: &Schema,
    base: &DnKey,
    inputs: &Inputs,
    ratchet: &mut Ratchet,
    drops: &mut Drops,
) -> (Option<Overlay>, SourceReport) {
    let note = source.note.as_ref();
    let mut told = SourceReport::before(source);
    match note.map(|note| note.state) {
        None => return (None, told),
        Some(SourceState::Absent | SourceState::Deleted) => {
            told.taken = Taken::Empty;
            return (Some(Overlay::default()), told);
        }
        Some(SourceState::Present) => {}
    }
    let bodies = [
        (Taken::Fetched, source.fetched.as_ref()),
        (Taken::LastGood, source.last_good.as_ref()),
    ];
    for (taken, body) in bodies {
        if taken == Taken::LastGood && body.is_none() {
            break;
        }
        match read(source, body, schema, base, inputs) {
            Ok(mut read) => {
                told.taken = taken;
                told.sequence = read.meta.sequence;
                told.generated_at = read.meta.generated_at.as_deref().map(shown);
                if taken == Taken::LastGood {
                    told.etag = None;
                }
                ratchet.accept(&source.name, read.meta.sequence);
                if !read.meta.is_for(&inputs.hostname) {
                    // The backend serves every source of the tenant; this one is for other hosts.
                    read.overlay = Overlay::default();
                    read.drops = Drops::default();
                }
                drops.append(read.drops);
                return (Some(read.overlay), told);
            }
            // The fetched body's problem is the one to solve.
            Err(error) => {
                told.problem.get_or_insert_with(|| error.into());
            }
        }
    }
    (None, told)
}

struct Read {
    overlay: Overlay,
    meta: Meta,
    drops: Drops,
}

fn read(
    source: &SourceInput,
    body: Option<&Body>,
    schema: &Schema,
    base: &DnKey,
    inputs: &Inputs,
) -> Result<Read, BodyError> {
    let Some(body) = body else {
        return Err(BodyError::new(
            "unreadable",
            "the fetched body is gone",
            "`dirless refresh` fetches it again",
        ));
    };
    let opening = open::open(body, source, inputs)?;
    let scope = opening.scope();
    if scope.is_some_and(|scope| !scope.may(Right::Entries)) {
        return Err(open::beyond("entries of the tree"));
    }
    let mut reader = Reader {
        source: &source.name,
        schema,
        base,
        overlay: Overlay::default(),
        drops: Drops::default(),
        full: false,
    };
    let mut meta = opening.read(Caps::default(), &mut reader)?;
    if reader.full {
        let reason = format!("its entries take more than {} MiB", MOST >> 20);
        return Err(BodyError::new("too-large", reason, "split the tree among audiences"));
    }
    if let Some(named) = meta.source.as_deref().filter(|named| *named != source.name) {
        return Err(BodyError::new(
            "other-source",
            format!("it is a snapshot of the source {:?}", shown(named)),
            "the backend serves one source's snapshot as another's; find out who runs it",
        ));
    }
    let checked = match scope {
        // The version of the manifest was checked before the body was fetched.
        Some(_) => {
            meta.sequence = None;
            Ok(())
        }
        None => inputs.ratchet.check(&source.name, meta.sequence),
    };
    checked.map_err(|rollback| {
        BodyError::new(
            "replayed",
            rollback.to_string(),
            format!(
                "find out who serves old or forged snapshots; if the syncer lost its numbers, run: dirless refresh \
                 --forget-sequence {}",
                source.name
            ),
        )
    })?;
    Ok(Read {
        overlay: reader.overlay,
        meta,
        drops: reader.drops,
    })
}

struct Reader<'a> {
    source: &'a str,
    schema: &'a Schema,
    base: &'a DnKey,
    overlay: Overlay,
    drops: Drops,
    full: bool,
}

impl Sink for Reader<'_> {
    // Accounts come from sources of accounts, where they are merged and checked.
    fn user(&mut self, _user: RawUser<'_>) {}

    fn group(&mut self, _group: RawGroup<'_>) {}

    fn keys(&mut self, _username: &str, _lines: &str) {}

    fn entry(&mut self, entry: RawEntry) {
        self.full |= self.overlay.size() > MOST;
        if self.full {
            return;
        }
        let label = entry.label().to_owned();
        let entry = match entry.check() {
            Ok(entry) => entry,
            Err(error) => {
                return self.drops.add(self.source, Kind::Entry, &label, "entry", || {
                    (
                        error.to_string(),
                        "the program that wrote the snapshot left something out: update it".to_owned(),
                    )
                });
            }
        };
        let attributes = entry.attributes.iter();
        let attributes = attributes.map(|(name, values)| (name.as_str(), values.as_slice()));
        if let Err(unfit) = self.overlay.add(self.schema, self.base, &entry.dn, attributes) {
            self.drops.add(self.source, Kind::Entry, &label, "entry", || {
                (unfit.to_string(), hint(unfit).to_owned())
            });
        }
    }
}

fn hint(unfit: Unfit) -> &'static str {
    match unfit {
        Unfit::Elsewhere => "let [directory] base in dirless-agent.toml be the base of the syncer's tree",
        Unfit::Name | Unfit::Deep => "rename it in the tree",
        Unfit::Large => "keep what is that large elsewhere, and refer to it",
        Unfit::Empty => "give it attributes, or remove it from the tree",
    }
}
