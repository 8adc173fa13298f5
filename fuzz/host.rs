//! A host with the one source `local`, and accounts of its own: root, sudo, local.

use dirless_agent::pipeline::{
    AccessInput, Body, Content, HostFiles, HostLimits, Inputs, Opener, Ratchet, SourceInput, SourceNote, SourceState,
};
use dirless_table::{TableBuilder, TableMeta};

/// What a run on it works on: `body` under `limits`.
pub fn inputs(body: Body, opener: Opener, limits: HostLimits) -> Inputs {
    Inputs {
        sources: vec![SourceInput {
            name: "local".into(),
            note: Some(SourceNote {
                state: SourceState::Present,
                encrypted: true,
                etag: None,
                registered_key: None,
                snapshot_recipient: None,
                fetched_at: None,
            }),
            fetched: Some(body),
            last_good: None,
        }],
        opener,
        access: AccessInput {
            fetched: Some(b"{}".to_vec()),
            ..AccessInput::default()
        },
        name_rule: Default::default(),
        hostname: "host".into(),
        limits,
        host: HostFiles {
            passwd: "root:x:0:0::/root:/bin/sh\nlocal:x:1500:1500::/:/bin/sh\n".into(),
            group: "root:x:0:\nsudo:x:27:\nlocal:x:1500:\n".into(),
            shells: None,
        },
        ratchet: Ratchet::default(),
        directory: None,
    }
}

/// The lookup table of it.
pub fn table(content: &Content) -> Vec<u8> {
    let meta = TableMeta {
        generation: 1,
        created: 0,
        enumerate: true,
    };
    let mut builder = TableBuilder::in_memory(meta).expect("memory can be written");
    content
        .write(&mut builder)
        .expect("what passed the limits fits the table");
    let (bytes, _) = builder.finish().expect("memory can be written");
    bytes.into_inner()
}
