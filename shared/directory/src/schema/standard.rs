//! The definitions that every directory starts from.

use std::sync::LazyLock;

use super::Schema;

const CORE: &str = include_str!("../../schema/core.schema");
const POSIX: &str = include_str!("../../schema/posix.schema");
const AITHER: &str = include_str!("../../schema/aither.schema");

static STANDARD: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = Schema::default();
    for text in [CORE, POSIX, AITHER] {
        schema
            .extend(text)
            .expect("the files in the schema folder are read by a test");
    }
    schema.standard = (schema.attributes.len(), schema.classes.len());
    schema
});

pub(super) fn schema() -> Schema {
    STANDARD.clone()
}
