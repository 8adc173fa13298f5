//! The agent's configuration file, which deployed tools and people write.

#![no_main]

use std::path::Path;

use dirless_agent::config::{From, Upstream, from_text};
use dirless_agent::paths::Paths;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(config) = from_text(
        text,
        Path::new("fuzz.toml"),
        &Paths::under(Path::new("/nonexistent")),
        "host",
    ) {
        match &config.upstream {
            Upstream::Classic(classic) => {
                assert!(!classic.urls.is_empty() && !classic.secret.expose().is_empty());
            }
            Upstream::Signed(signed) => {
                assert!(!signed.joined.compartments.is_empty());
                match &signed.from {
                    From::Backends(urls) => assert!(!urls.is_empty()),
                    From::Folder(folder) => assert!(folder.starts_with("/nonexistent")),
                    From::Url(url) => assert!(!url.starts_with('/')),
                }
            }
        }
    }
});
