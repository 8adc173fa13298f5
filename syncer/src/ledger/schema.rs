use rusqlite_migration::{M, Migrations};

/// Every change of the schema, oldest first. Entries are never edited once released.
pub(super) fn migrations() -> Migrations<'static> {
    Migrations::new(vec![M::up(INITIAL)])
}

const INITIAL: &str = "
CREATE TABLE assignments (
    number      INTEGER PRIMARY KEY CHECK (number BETWEEN 1 AND 2147483647),
    source      TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('user', 'group')),
    object_id   TEXT NOT NULL,
    first_name  TEXT NOT NULL,
    assigned_at INTEGER NOT NULL,               -- milliseconds since 1970
    origin      TEXT NOT NULL CHECK (origin IN ('assigned', 'imported', 'rebuilt')),
    subid_first INTEGER,
    subid_count INTEGER,
    UNIQUE (source, kind, object_id),
    CHECK ((subid_first IS NULL) = (subid_count IS NULL))
) STRICT;

CREATE TABLE events (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER NOT NULL REFERENCES assignments (number),
    at     INTEGER NOT NULL,
    what   TEXT NOT NULL CHECK (what IN ('retired', 'returned', 'named')),
    name   TEXT                                  -- the new name, with 'named'
) STRICT;

CREATE TRIGGER assignments_stay BEFORE DELETE ON assignments
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER assignments_keep BEFORE UPDATE ON assignments
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
-- INSERT OR REPLACE deletes without asking the triggers above.
CREATE TRIGGER assignments_last BEFORE INSERT ON assignments
WHEN EXISTS (SELECT 1 FROM assignments WHERE number = NEW.number)
  OR EXISTS (SELECT 1 FROM assignments
             WHERE source = NEW.source AND kind = NEW.kind AND object_id = NEW.object_id)
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER events_last BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER events_stay BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER events_keep BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
";

#[cfg(test)]
mod tests {
    #[test]
    fn the_migrations_fit_together() {
        super::migrations().validate().unwrap();
    }
}
