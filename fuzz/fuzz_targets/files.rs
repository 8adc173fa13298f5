//! A folder of files as a source: whatever stands in them is one directory or an error that names one
//! of the files, and in what order they come makes no difference.
//!
//! The input is files with a NUL between them; the first byte of each chooses its format.

#![no_main]

use std::collections::BTreeSet;

use dirless_syncer::sources::files::{File, gather};
use libfuzzer_sys::fuzz_target;

const ENDINGS: [&str; 4] = ["yaml", "json", "toml", "ldif"];

fuzz_target!(|data: &[u8]| {
    let parts = data.split(|byte| *byte == 0).take(4).enumerate();
    let file = |(at, part): (usize, &[u8])| {
        let (choice, text) = part.split_first()?;
        let ending = ENDINGS.get(usize::from(*choice) % ENDINGS.len())?;
        Some(File {
            path: format!("f{at}.{ending}").into(),
            text: std::str::from_utf8(text).ok()?.to_owned(),
        })
    };
    let mut files: Vec<File> = parts.filter_map(file).collect();
    let gathered = gather(&files);
    match &gathered {
        Ok(all) => {
            let ids: BTreeSet<&String> = all.users.iter().map(|user| &user.id).collect();
            assert_eq!(ids.len(), all.users.len());
            assert!(all.members.values().flatten().all(|member| ids.contains(member)));
        }
        Err(error) => assert!(files.iter().any(|file| file.path == error.path)),
    }
    files.reverse();
    assert_eq!(gather(&files).ok(), gathered.ok());
});
