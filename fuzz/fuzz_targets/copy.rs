//! The flat file beside the directory copy, as the LDAP server of a host reads it. Where bytes changed an entry is as it was
//! or told to be damaged; also when the checksums were made to hold again nothing is read that is not there.
//!
//! The input is a byte that chooses, and pairs of place and byte; or bytes in place of the whole file behind its beginning.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use dirless_copy::{CopyError, Draft, Hot, Query, Reader, Record, Row, Scope};
use dirless_directory::encoded::encode;
use dirless_directory::{AttributeName, Dn, DnKey, Entry, Filter, Schema, Value};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

#[path = "../folder.rs"]
mod folder;
#[expect(dead_code, reason = "the rest of the file serves the copy")]
#[path = "../../agent/copy/src/record.rs"]
mod record;

use folder::Folder;
use record::{Parts, sum};

/// Where the first record begins.
const START: usize = 48;
/// Names, and how long the description of each is: some lie apart from the others, one is sent from the file.
const ENTRIES: [(&str, usize); 5] = [
    ("cn=a", 1),
    ("cn=b", 30),
    ("cn=c", 2000),
    ("cn=d", 40_000),
    ("cn=e", 100_000),
];
const FLAT: &str = "copy.db.entries-1";

/// What an entry shows, by its name.
type Shown = BTreeMap<String, Vec<u8>>;

struct Whole {
    schema: Schema,
    database: Vec<u8>,
    flat: Vec<u8>,
    /// Where the first part of each record is.
    records: Vec<(usize, usize)>,
    shown: Shown,
}

static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let schema = Schema::standard();
    let folder = Folder::new();
    let path = folder.path().join("copy.db");
    let mut draft = Draft::begin(&path, schema.clone(), "series", Timestamp::UNIX_EPOCH, true).expect("a copy");
    for (uuid, (dn, length)) in (1..).zip(ENTRIES) {
        let mut entry = Entry::new(Dn::parse(dn).expect("a name"));
        let mut add = |name: &str, value: String| {
            entry.add(AttributeName::parse(name).expect("a name"), Value::from(value));
        };
        add("objectClass", "device".to_owned());
        add("cn", dn.to_owned());
        add("description", dn.repeat(length));
        add("userPassword", format!("secret of {dn}"));
        let record = Record {
            key: &schema.dn_key_of(dn).expect("a key"),
            dn,
            uuid: [uuid; 16],
            attributes: &encode(&schema, &entry),
            canonical: true,
        };
        draft.put(&record).expect("an entry");
    }
    draft.finish("").expect("a copy");
    let flat = fs::read(folder.path().join(FLAT)).expect("the flat file");
    let (mut records, mut at, schema) = (Vec::new(), START, schema);
    while at < flat.len() {
        let number =
            |place: usize| u32::from_le_bytes(flat[at + place..at + place + 4].try_into().expect("four bytes"));
        let first = 40 + [20, 24, 28, 32, 36].map(number).iter().sum::<u32>() as usize;
        records.push((at, first));
        let parts = Parts::read_again(&flat[at..at + first]).expect("a record");
        at += usize::try_from(parts.size()).expect("a small record");
    }
    assert_eq!(records.len(), ENTRIES.len());
    let mut shown = Shown::new();
    ask(&path, &schema, &mut |dn, bytes| {
        shown.entry(dn.to_owned()).or_insert_with(|| bytes.to_vec());
    });
    assert_eq!(shown.len(), ENTRIES.len());
    Whole {
        database: fs::read(&path).expect("the database"),
        schema,
        flat,
        records,
        shown,
    }
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let whole = &*WHOLE;
    let mut flat = whole.flat.clone();
    if choice & 1 == 0 {
        for change in data.chunks_exact(4) {
            let [high, middle, low, byte] = change else { continue };
            let at = u32::from_be_bytes([0, *high, *middle, *low]) as usize % flat.len();
            flat[at] = *byte;
        }
    } else {
        // Each record is overwritten with the same bytes, from its lengths on.
        for (at, first) in &whole.records {
            let target = &mut flat[at + 16..at + first];
            let length = data.len().min(target.len());
            target[..length].copy_from_slice(&data[..length]);
        }
    }
    let holds = choice & 2 != 0;
    if holds {
        for (at, first) in &whole.records {
            let told = sum(&flat[at + 8..at + first]).to_le_bytes();
            flat[*at..at + 8].copy_from_slice(&told);
        }
    }
    if choice & 4 != 0 {
        flat.truncate(START + data.len());
    }
    let folder = Folder::new();
    let path = folder.path().join("copy.db");
    fs::write(&path, &whole.database).expect("memory can be written");
    fs::write(folder.path().join(FLAT), &flat).expect("memory can be written");
    ask(&path, &whole.schema, &mut |dn, bytes| {
        assert!(bytes.len() <= whole.flat.len() * 2, "more than there is");
        assert!(
            holds || whole.shown.get(dn).is_some_and(|shown| shown == bytes),
            "{dn} is another one"
        );
    });
});

/// Asks for everything in every way; what is shown of an entry goes to `see`.
fn ask(path: &Path, schema: &Schema, see: &mut dyn FnMut(&str, &[u8])) {
    let mut reader = match Reader::open(path, schema.clone()) {
        Ok(reader) => reader,
        Err(error) => return told(&error),
    };
    for hot in [false, true] {
        if hot {
            match Hot::read(&reader) {
                Ok(hot) => reader.go_by(hot.map(Arc::new)),
                Err(error) => told(&error),
            }
        }
        for (dn, _) in ENTRIES {
            let key = reader.schema().dn_key_of(dn).expect("a key");
            let looked = reader.lookup(key.as_bytes(), &mut |row| see(row.dn, &bytes_of(&row)));
            looked.map(drop).unwrap_or_else(|error| told(&error));
            let secrets = reader.secrets(key.as_bytes(), &mut |attributes| {
                attributes
                    .iter()
                    .flat_map(|one| one.values)
                    .for_each(|value| assert!(value.len() < 1 << 20));
            });
            secrets.map(drop).unwrap_or_else(|error| told(&error));
            let has = reader.has_value(key.as_bytes(), "description", b"x");
            has.map(drop).unwrap_or_else(|error| told(&error));
            for filter in [
                format!("(cn={dn})"),
                format!("(description={dn}*)"),
                "(objectClass=*)".to_owned(),
            ] {
                search(&reader, &filter, see);
            }
        }
    }
}

fn search(reader: &Reader, filter: &str, see: &mut dyn FnMut(&str, &[u8])) {
    let filter = Filter::parse(filter).expect("a filter");
    for apart in [false, true] {
        let query = Query {
            base: &DnKey::from(Vec::new()),
            scope: Scope::Subtree,
            filter: &filter,
            after: None,
            wants: None,
            apart,
        };
        let searched = reader.search(&query, &mut |row| {
            see(row.dn, &bytes_of(&row));
            ControlFlow::Continue(())
        });
        searched.unwrap_or_else(|error| told(&error));
    }
}

/// All that a row shows, whether it was read or stays in the file, in the order of the bytes.
fn bytes_of(row: &Row<'_>) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut all: Vec<Vec<u8>> = row.attributes.iter().map(|one| one.encoded.to_vec()).collect();
    for one in row.apart {
        let mut bytes = vec![0; one.length];
        one.file
            .read_exact_at(&mut bytes, one.offset)
            .expect("it is in the file");
        all.push(bytes);
    }
    all.sort();
    all.concat()
}

/// What is wrong is said of the file or of what is in it.
fn told(error: &CopyError) {
    assert!(
        matches!(error, CopyError::Damaged { .. } | CopyError::Encoded(_)),
        "{error}"
    );
}
