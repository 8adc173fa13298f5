//! Secrets of a run, in every spelling that one might slip out in, and the places where one would be seen.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Where programs find the journal.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// What must be seen nowhere.
#[derive(Debug, Default)]
pub struct Secrets {
    needles: Vec<(String, String)>,
}

impl Secrets {
    /// A text, as it is and encoded; and what it encodes, if it looks like base64.
    pub fn text(&mut self, name: &str, text: &str) {
        let text = text.trim();
        self.bytes(name, text.as_bytes());
        if let Ok(decoded) = URL_SAFE_NO_PAD.decode(text) {
            self.bytes(name, &decoded);
        }
    }

    /// Bytes, as they are and encoded.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        for spelling in [
            latin(bytes),
            hex.to_uppercase(),
            hex,
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
        ] {
            // What is shorter could be met by chance.
            if spelling.len() >= 8 {
                self.needles.push((name.to_owned(), spelling));
            }
        }
    }

    /// The text form of a signing key, and the seed in it.
    ///
    /// # Errors
    /// When it is none.
    pub fn signing_key(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let line = text.lines().find(|line| line.starts_with("PRIVATE+KEY+"));
        let text = line.with_context(|| format!("{name} is no signing key"))?.trim();
        // Base64 has its own plus signs.
        let end = text.splitn(5, '+').nth(4).unwrap_or_default();
        let typed = STANDARD
            .decode(end)
            .with_context(|| format!("{name} is no signing key"))?;
        self.text(name, text);
        self.text(name, end);
        self.bytes(name, typed.get(1..).unwrap_or_default());
        Ok(())
    }

    /// The text form of an age identity, and the key in it.
    ///
    /// # Errors
    /// When it is none.
    pub fn identity(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let line = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1"));
        let line = line.with_context(|| format!("{name} is no age identity"))?.trim();
        self.text(name, line);
        self.text(name, &line.to_lowercase());
        self.bytes(name, &bech32(line).with_context(|| format!("{name} is no bech32"))?);
        Ok(())
    }

    /// The first secret that shows in `bytes`.
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        let text = latin(bytes);
        let found = self.needles.iter().find(|(_, needle)| text.contains(needle.as_str()));
        found.map(|(name, _)| name.as_str())
    }

    /// Names of all secrets that show in any of the files below these folders, whoever may read them.
    #[must_use]
    pub fn kept_in(&self, folders: &[&str]) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for path in files(folders, 0) {
            let text = latin(&std::fs::read(path).unwrap_or_default());
            let here = self.needles.iter().filter(|(_, needle)| text.contains(needle.as_str()));
            found.extend(here.map(|(name, _)| name.as_str()));
        }
        found
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.needles.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Each byte as the character of its number: so that bytes can be searched as text.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The data of a bech32 text (BIP 173), its checksum not looked at.
fn bech32(text: &str) -> Option<Vec<u8>> {
    const LETTERS: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let text = text.to_lowercase();
    let (_, data) = text.rsplit_once('1')?;
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in data.get(..data.len().checked_sub(6)?)?.chars() {
        bits = bits << 5 | u32::try_from(LETTERS.find(letter)?).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// Regular files below these folders that have all of these permission bits.
#[must_use]
pub fn files(folders: &[&str], mode: u32) -> Vec<PathBuf> {
    let mut waiting: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        let Ok(about) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        // A folder that others may not enter hides what is in it.
        let open = about.permissions().mode();
        if about.is_dir() && (mode == 0 || open & 0o001 != 0) {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        } else if about.is_file() && open & mode == mode {
            found.push(path);
        }
    }
    found
}

/// Looks at arguments and environment of all processes, over and over, and listens in place of the journal.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Begins.
    ///
    /// # Errors
    /// When the journal's place cannot be had.
    pub fn start() -> anyhow::Result<Self> {
        let journal = Path::new(JOURNAL);
        journal.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let socket = UnixDatagram::bind(journal).context("standing in for the journal")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (stop, seen) = (Arc::default(), Arc::<Mutex<BTreeSet<Vec<u8>>>>::default());
        let keep = |seen: &Mutex<BTreeSet<Vec<u8>>>, bytes: Vec<u8>| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(bytes);
        };
        let (ended, to): (Arc<AtomicBool>, _) = (Arc::clone(&stop), Arc::clone(&seen));
        let processes = std::thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
                    for about in ["cmdline", "environ"] {
                        // What is no process, or ended meanwhile, has nothing to say.
                        let bytes = std::fs::read(entry.path().join(about)).unwrap_or_default();
                        if !bytes.is_empty() {
                            keep(&to, bytes);
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let (ended, to): (Arc<AtomicBool>, _) = (Arc::clone(&stop), Arc::clone(&seen));
        let journal = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 18];
            while !ended.load(Ordering::SeqCst) {
                if let Ok(length) = socket.recv(&mut buffer) {
                    keep(&to, buffer.get(..length).unwrap_or_default().to_vec());
                }
            }
        });
        Ok(Self {
            stop,
            seen,
            threads: vec![processes, journal],
        })
    }

    /// Whether `text` was seen so far.
    #[must_use]
    pub fn has_seen(&self, text: &str) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().any(|bytes| latin(bytes).contains(text))
    }

    /// Ends, and gives back all that was seen, each once.
    #[must_use]
    pub fn end(mut self) -> BTreeSet<Vec<u8>> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use dirless_seal::{Identity, SigningKey};

    use super::*;

    #[test]
    fn every_spelling_is_found_and_nothing_else() {
        let mut secrets = Secrets::default();
        let identity = Identity::generate();
        let key = SigningKey::generate("k".parse().unwrap()).unwrap();
        secrets
            .identity("identity", &format!("# comment\n{}\n", identity.expose().as_str()))
            .unwrap();
        secrets.signing_key("key", &key.expose()).unwrap();
        secrets.bytes("raw", &[1, 2, 250, 251, 252, 253, 254, 255]);
        let raw = bech32(&identity.expose()).unwrap();
        assert_eq!(raw.len(), 32);
        for (shown, name) in [
            (identity.expose().as_bytes().to_vec(), "identity"),
            ([&b"x"[..], &raw, b"y"].concat(), "identity"),
            (format!("k={}", STANDARD.encode(&raw)).into_bytes(), "identity"),
            (key.expose().as_bytes().to_vec(), "key"),
            (b"..0102fafbfcfdfeff..".to_vec(), "raw"),
            (b"AQL6-_z9_v8".to_vec(), "raw"),
        ] {
            assert_eq!(secrets.found_in(&shown), Some(name));
        }
        let public = format!("{} {}", identity.recipient(), key.verifying());
        assert_eq!(secrets.found_in(public.as_bytes()), None);
    }
}
