//! The agent's configuration file, which deployed tools and people write.

#![no_main]

use std::path::Path;

use dirless_agent::config::from_text;
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
        assert!(!config.urls.is_empty());
        assert!(!config.secret.expose().is_empty());
    }
});
