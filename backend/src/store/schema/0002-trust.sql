-- The verified protocol. A tenant that came with it has '' for its public_key until it is enrolled the classic way.

-- Opaque bytes under a name. All but heads are written once; a head is replaced by a row of its own.
-- AUTOINCREMENT: a reader that is late never finds another body under the id it holds.
CREATE TABLE objects (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id INTEGER NOT NULL REFERENCES tenants (id),
    path      TEXT    NOT NULL,
    sha256    BLOB    NOT NULL CHECK (length(sha256) = 32),
    length    INTEGER NOT NULL,
    chunks    INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    UNIQUE (tenant_id, path)
);

CREATE TABLE object_chunks (
    object_id INTEGER NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    number    INTEGER NOT NULL,
    bytes     BLOB    NOT NULL CHECK (length(bytes) BETWEEN 1 AND 1048576),
    PRIMARY KEY (object_id, number)
);

-- `key` is NAME+HASH. A revoked one stays, so that it never comes back.
CREATE TABLE keys (
    id           INTEGER PRIMARY KEY,
    tenant_id    INTEGER NOT NULL REFERENCES tenants (id),
    key          TEXT    NOT NULL,
    public_key   BLOB    NOT NULL CHECK (length(public_key) = 32),
    role         TEXT    NOT NULL CHECK (role IN ('publisher', 'node')),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER,
    UNIQUE (tenant_id, key)
);

-- `bearer` is the SHA-256 of what hosts present.
CREATE TABLE join_codes (
    id         INTEGER PRIMARY KEY,
    tenant_id  INTEGER NOT NULL REFERENCES tenants (id),
    code       TEXT    NOT NULL,
    bearer     BLOB    NOT NULL CHECK (length(bearer) = 32),
    expires_at INTEGER NOT NULL,
    uses_left  INTEGER NOT NULL CHECK (uses_left >= 0),
    created_at INTEGER NOT NULL,
    UNIQUE (tenant_id, code)
);

CREATE TABLE join_requests (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    code_id     INTEGER NOT NULL REFERENCES join_codes (id) ON DELETE CASCADE,
    sha256      BLOB    NOT NULL CHECK (length(sha256) = 32),
    bytes       BLOB    NOT NULL CHECK (length(bytes) BETWEEN 1 AND 16384),
    received_at INTEGER NOT NULL,
    UNIQUE (code_id, sha256)
);

-- The last one of each node.
CREATE TABLE receipts (
    key_id      INTEGER NOT NULL PRIMARY KEY REFERENCES keys (id),
    receipt     BLOB    NOT NULL CHECK (length(receipt) BETWEEN 1 AND 16384),
    received_at INTEGER NOT NULL
);
