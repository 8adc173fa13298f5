//! The tables of the schema, in both engines' words the same.

/// A table.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static str,
    /// The key that rows are read by, which begins the columns.
    pub(super) key: &'static [&'static str],
    /// Whether the target gives out further ids.
    pub(super) counts: bool,
    /// Whether the third column holds a part of a body.
    pub(super) bodies: bool,
}

const fn counted(name: &'static str, columns: &'static str) -> Table {
    Table {
        name,
        columns,
        key: &["id"],
        counts: true,
        bodies: false,
    }
}

const fn keyed(name: &'static str, columns: &'static str, key: &'static [&'static str]) -> Table {
    Table {
        name,
        columns,
        key,
        counts: false,
        bodies: false,
    }
}

/// All tables, those that are pointed at first.
pub(super) const TABLES: [Table; 20] = [
    counted("realms", "id, name, state, created_at, rotated_at"),
    counted("realm_secrets", "id, realm_id, hash, created_at, expires_at"),
    keyed(
        "tokens",
        "id, realm_id, label, scopes, hash, created_at, expires_at, revoked_at, last_used_at",
        &["id"],
    ),
    counted(
        "tenants",
        "id, tenant, realm_id, public_key, account, enrolled_at, key_changed_at",
    ),
    counted("sources", "id, tenant_id, source, last, current, deleted_at"),
    counted(
        "generations",
        "id, source_id, generation, sha256, length, chunks, recipient, users, groups, stored_at, superseded_at",
    ),
    Table {
        bodies: true,
        ..keyed("chunks", "generation_id, number, bytes", &["generation_id", "number"])
    },
    keyed("settings", "tenant_id, key, value, changed_at", &["tenant_id", "key"]),
    keyed("access_rules", "tenant_id, body, sha256, changed_at", &["tenant_id"]),
    keyed(
        "duplicates",
        "tenant_id, agent_id, usernames, reported_at",
        &["tenant_id", "agent_id"],
    ),
    counted("agents", "id, tenant_id, agent_id, hostname, last_seen_at, extras"),
    counted("audit", "id, at, realm, tenant, role, token, action, address, details"),
    counted("objects", "id, tenant_id, path, sha256, length, chunks, stored_at"),
    Table {
        bodies: true,
        ..keyed("object_chunks", "object_id, number, bytes", &["object_id", "number"])
    },
    counted(
        "keys",
        "id, tenant_id, key, public_key, role, created_at, expires_at, revoked_at, last_used_at",
    ),
    counted(
        "join_codes",
        "id, tenant_id, code, bearer, expires_at, uses_left, created_at",
    ),
    counted("join_requests", "id, code_id, sha256, bytes, received_at"),
    keyed("join_uses", "code_id, sha256", &["code_id", "sha256"]),
    keyed("receipts", "key_id, receipt, received_at", &["key_id"]),
    keyed(
        "sightings",
        "tenant_id, about, version, sha256, key_id, seen_at, split",
        &["tenant_id", "about", "version", "sha256"],
    ),
];

#[cfg(test)]
mod tests {
    use super::super::super::schema;
    use super::super::super::sql::{Connection, params};
    use super::*;

    #[test]
    fn every_table_of_the_schema_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let connection = schema::open_writer(&folder.path().join(schema::DATABASE)).unwrap();
        let connection = Connection::Sqlite(connection);
        let tables: Vec<String> = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
            .unwrap()
            .query_all(params![], |row| row.get(0))
            .unwrap();
        let mut known: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        known.sort_unstable();
        assert_eq!(tables, known);
        for table in &TABLES {
            let columns: Vec<String> = connection
                .prepare(&format!(
                    "SELECT name FROM pragma_table_info('{}') ORDER BY cid",
                    table.name
                ))
                .unwrap()
                .query_all(params![], |row| row.get(0))
                .unwrap();
            assert_eq!(columns.join(", "), table.columns, "{}", table.name);
            assert!(table.columns.starts_with(&table.key.join(", ")), "{}", table.name);
        }
    }
}
