//! The definitions that every directory starts from.

use std::sync::{Arc, LazyLock};

use super::Schema;

const TEXT: &str = concat!(
    include_str!("../../schema/core.schema"),
    include_str!("../../schema/posix.schema"),
    include_str!("../../schema/aither.schema"),
);

static STANDARD: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = Schema::default();
    schema
        .extend(TEXT)
        .expect("the files in the schema folder are read by a test");
    let standard = (schema.attributes().count(), schema.classes().count());
    Arc::make_mut(&mut schema.0).standard = standard;
    schema
});

pub(super) fn schema() -> Schema {
    STANDARD.clone()
}
