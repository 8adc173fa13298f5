//! Entries of the directory tree, from the sealed bodies of its sources to an overlay for the copy, with the
//! schema that they follow.
//!
//! They bring no accounts, so that nobody's login waits for them: what cannot be used leaves the copy in
//! place, and one bad entry or definition costs that one.

use std::borrow::Cow;

use dirless_copy::{Overlay, Unfit};
use dirless_directory::schema::Definition;
use dirless_directory::{Dn, DnKey, Schema};
use dirless_model::snapshot::{Caps, Field, Meta, RawEntry, RawGroup, RawSchema, RawUser, RecordError, Sink};
use dirless_seal::trust::Right;

use super::drops::{Drops, Kind, shown};
use super::input::{Body, DirectoryInput, Inputs, SourceInput, SourceState};
use super::open::{self, BodyError, Opening};
use super::ratchet::Ratchet;
use super::report::{Report, SourceReport, Taken};
use super::schema;

/// Most bytes of entries of all sources together: the worker's memory is limited, and holds accounts too.
pub(super) const MOST: usize = 384 << 20;

/// Code of the caution that entries have the name of one in an earlier source.
pub(super) const TWICE: &str = "entry-twice";

/// What the sources of the tree say together.
#[derive(Debug)]
pub struct Tree {
    /// Its entries.
    pub overlay: Overlay,
    /// The standard schema and what the tree's site has beyond it.
    pub schema: Schema,
}

impl Tree {
    /// SHA-256 over what the schema has beyond the standard one, in hex.
    #[must_use]
    pub fn schema_digest(&self) -> String {
        dirless_seal::sha256_hex(self.schema.extension_text().as_bytes())
    }
}

/// Reads all sources of the tree; none when one of them cannot be used and had been before, or was never
/// fetched.
pub(super) fn gather(
    directory: &DirectoryInput,
    inputs: &Inputs,
    ratchet: &mut Ratchet,
    report: &mut Report,
) -> Option<Tree> {
    let mut told = Vec::new();
    let mut reads = Vec::new();
    // Sources of one site have one schema; what the first one says is what the next is read by.
    let mut known = Schema::standard();
    for source in &directory.sources {
        let (read, report) = take(source, &known, &directory.base, inputs, ratchet);
        if let Some(read) = &read {
            known.unite(read.definitions.iter());
        }
        reads.push((source, read));
        told.push(report);
    }
    let lists = reads.iter().map(|(source, read)| {
        let definitions = read.as_ref().map_or(&[][..], |read| &read.definitions);
        (source.name.as_str(), definitions)
    });
    let schema = schema::unite(lists, &mut report.dropped);
    let mut all = Some(Overlay::default());
    for ((source, read), mut told) in reads.into_iter().zip(told) {
        let read = read.and_then(
            |read| match again(source, read, &told, &schema, &directory.base, inputs) {
                Ok(read) => Some(read),
                Err(error) => {
                    told.problem.get_or_insert_with(|| error.into());
                    told.taken = Taken::Nothing;
                    None
                }
            },
        );
        report.sources.push(told);
        all = all.zip(read).map(|(mut all, read)| {
            report.dropped.append(read.drops);
            all.append(read.overlay);
            all
        });
    }
    let mut overlay = all?;
    let twice = overlay.sort();
    report.caution(TWICE, twice, said_twice);
    Some(Tree { overlay, schema })
}

/// In words how many entries are not those that stand under their names.
pub(super) fn said_twice(count: usize) -> String {
    format!("{count} entries of the tree have the name of one in an earlier source, which stands")
}

/// Entries alone, as one document of a source that was taken before; the schema is known.
///
/// # Errors
/// When it is no snapshot.
pub(super) fn part(source: &str, document: &[u8], schema: &Schema, base: &Dn) -> Result<(Overlay, Drops), BodyError> {
    let mut reader = Reader::new(source, schema, base);
    Opening::of_part(document, None).read(Caps::default(), &mut reader)?;
    Ok((reader.overlay, reader.drops))
}

/// A source as it is under the schema of all of them: read once more when it was read by another one.
fn again(
    source: &SourceInput,
    read: Read,
    told: &SourceReport,
    schema: &Schema,
    base: &Dn,
    inputs: &Inputs,
) -> Result<Read, BodyError> {
    if read.is_by(schema) {
        return Ok(read);
    }
    let body = match told.taken {
        Taken::LastGood => source.last_good.as_ref(),
        _ => source.fetched.as_ref(),
    };
    self::read(source, body, schema, base, inputs)
}

/// Takes a source from the fetched body, or else from the last good one.
fn take(
    source: &SourceInput,
    schema: &Schema,
    base: &Dn,
    inputs: &Inputs,
    ratchet: &mut Ratchet,
) -> (Option<Read>, SourceReport) {
    let note = source.note.as_ref();
    let mut told = SourceReport::before(source);
    match note.map(|note| note.state) {
        None => return (None, told),
        Some(SourceState::Absent | SourceState::Deleted) => {
            told.taken = Taken::Empty;
            return (Some(Read::default()), told);
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
            Ok(read) => {
                told.taken = taken;
                told.sequence = read.meta.sequence;
                told.generated_at = read.meta.generated_at.as_deref().map(shown);
                if taken == Taken::LastGood {
                    told.etag = None;
                }
                ratchet.accept(&source.name, read.meta.sequence);
                return (Some(read), told);
            }
            // The fetched body's problem is the one to solve.
            Err(error) => {
                told.problem.get_or_insert_with(|| error.into());
            }
        }
    }
    (None, told)
}

/// A source that was read to its end. One that is for other hosts is empty.
#[derive(Default)]
struct Read {
    overlay: Overlay,
    meta: Meta,
    drops: Drops,
    /// What its site has beyond the standard schema.
    definitions: Vec<Definition>,
    /// The extension of the schema that all its entries were read by; none when some were read by another,
    /// and when there are none.
    read_by: Option<String>,
}

impl Read {
    fn is_by(&self, schema: &Schema) -> bool {
        let has_none = self.overlay.is_empty() && self.drops.total == 0;
        has_none
            || self
                .read_by
                .as_ref()
                .is_some_and(|text| *text == schema.extension_text())
    }
}

fn read(
    source: &SourceInput,
    body: Option<&Body>,
    schema: &Schema,
    base: &Dn,
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
    let mut reader = Reader::new(&source.name, schema, base);
    let mut meta = opening.read(Caps::default(), &mut reader)?;
    if reader.full {
        let reason = format!("its entries take more than {} MiB", MOST >> 20);
        return Err(BodyError::new("too-large", reason, "split the tree among audiences"));
    }
    if let Some(reason) = reader.bad_schema.take() {
        let hint =
            "correct the file in the syncer's [tree] schema_folder, or update the program that wrote the snapshot";
        return Err(BodyError::new("bad-schema", reason, hint));
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
    if !meta.is_for(&inputs.hostname) {
        // The backend serves every source of the tenant; this one is for other hosts.
        return Ok(Read {
            meta,
            ..Read::default()
        });
    }
    Ok(Read {
        read_by: (!reader.is_late).then(|| reader.schema.extension_text()),
        overlay: reader.overlay,
        meta,
        drops: reader.drops,
        definitions: reader.definitions,
    })
}

struct Reader<'a> {
    source: &'a str,
    schema: Cow<'a, Schema>,
    base: &'a Dn,
    /// None when the base is no name under the schema.
    base_key: Option<DnKey>,
    overlay: Overlay,
    drops: Drops,
    definitions: Vec<Definition>,
    bad_schema: Option<String>,
    /// Did the schema come after entries?
    is_late: bool,
    full: bool,
}

impl<'a> Reader<'a> {
    fn new(source: &'a str, schema: &'a Schema, base: &'a Dn) -> Self {
        Self {
            source,
            base_key: schema.dn_key(base),
            schema: Cow::Borrowed(schema),
            base,
            overlay: Overlay::default(),
            drops: Drops::default(),
            definitions: Vec::new(),
            bad_schema: None,
            is_late: false,
            full: false,
        }
    }
}

impl Sink for Reader<'_> {
    // Accounts come from sources of accounts, where they are merged and checked.
    fn user(&mut self, _user: RawUser<'_>) {}

    fn group(&mut self, _group: RawGroup<'_>) {}

    fn keys(&mut self, _username: &str, _lines: &str) {}

    fn schema(&mut self, schema: Field<RawSchema>) {
        match schema::parse(schema) {
            Ok(definitions) => self.definitions = definitions,
            Err(reason) => self.bad_schema = Some(reason),
        }
        // What is refused is told when all sources are read.
        if !self.definitions.is_empty() {
            self.schema.to_mut().unite(self.definitions.iter());
        }
        self.base_key = self.schema.dn_key(self.base);
        self.is_late = !self.overlay.is_empty();
    }

    fn entry(&mut self, entry: RawEntry) {
        self.full |= self.overlay.size() > MOST;
        if self.full {
            return;
        }
        let label = entry.label().to_owned();
        let added = match &self.base_key {
            Some(base) => lay(&mut self.overlay, &self.schema, base, entry),
            None => Err(Unfit::Elsewhere.into()),
        };
        if let Err(error) = added {
            self.drops.add(self.source, Kind::Entry, &label, "entry", || {
                (error.to_string(), error.hint().to_owned())
            });
        }
    }
}

/// Why an entry is left out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It is no entry.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It is none for this host's copy.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

impl Refused {
    fn hint(&self) -> &'static str {
        match self {
            Self::Record(_) => "the program that wrote the snapshot left something out: update it",
            Self::Unfit(unfit) => hint(*unfit),
        }
    }
}

/// Lays an entry into `overlay`, for a copy that begins at `base`.
pub(super) fn lay(overlay: &mut Overlay, schema: &Schema, base: &DnKey, entry: RawEntry) -> Result<(), Refused> {
    let entry = entry.check()?;
    let attributes = entry.attributes.iter();
    let attributes = attributes.map(|(name, values)| (name.as_str(), values.as_slice()));
    Ok(overlay.add(schema, base, &entry.dn, attributes)?)
}

fn hint(unfit: Unfit) -> &'static str {
    match unfit {
        Unfit::Elsewhere => "let [directory] base in dirless-agent.toml be the base of the syncer's tree",
        Unfit::Name | Unfit::Deep => "rename it in the tree",
        Unfit::Large => "keep what is that large elsewhere, and refer to it",
        Unfit::Empty => "give it attributes, or remove it from the tree",
    }
}
