//! The agent's configuration file, which deployed tools and people write.

#![no_main]

use std::path::Path;

use dirless_agent::config::{Upstream, from_text};
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
        assert!(!config.agent_id.is_empty());
        // A signed one needs files of a host that joined.
        if let Upstream::Classic(classic) = config.upstream {
            assert!(!classic.urls.is_empty());
            assert!(!classic.secret.expose().is_empty());
        }
    }
});
