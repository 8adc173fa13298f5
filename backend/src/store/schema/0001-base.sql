-- Times are milliseconds since 1970 (UTC). Digests are 32 raw bytes.

CREATE TABLE realms (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    state      TEXT    NOT NULL CHECK (state IN ('active', 'suspended')),
    created_at INTEGER NOT NULL,
    rotated_at INTEGER
);

-- A realm has one lasting secret, and during a rotation others that end.
CREATE TABLE realm_secrets (
    id         INTEGER PRIMARY KEY,
    realm_id   INTEGER NOT NULL REFERENCES realms (id),
    hash       BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER
);
CREATE INDEX realm_secrets_by_realm ON realm_secrets (realm_id);

CREATE TABLE tokens (
    id           TEXT    NOT NULL PRIMARY KEY,
    realm_id     INTEGER REFERENCES realms (id),
    label        TEXT    NOT NULL,
    scopes       TEXT    NOT NULL,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER
);

CREATE TABLE tenants (
    id             INTEGER PRIMARY KEY,
    tenant         TEXT    NOT NULL UNIQUE,
    realm_id       INTEGER NOT NULL REFERENCES realms (id),
    public_key     TEXT    NOT NULL,
    account        TEXT,
    enrolled_at    INTEGER NOT NULL,
    key_changed_at INTEGER NOT NULL
);
CREATE INDEX tenants_by_realm ON tenants (realm_id);

-- One row for each (tenant, source) ever written; `current` is the pointer, NULL after a deletion.
-- `last` only grows, so a generation number is never used twice.
CREATE TABLE sources (
    id         INTEGER PRIMARY KEY,
    tenant_id  INTEGER NOT NULL REFERENCES tenants (id),
    source     TEXT    NOT NULL,
    last       INTEGER NOT NULL,
    current    INTEGER REFERENCES generations (id),
    deleted_at INTEGER,
    UNIQUE (tenant_id, source),
    CHECK ((current IS NULL) = (deleted_at IS NOT NULL))
);
CREATE INDEX sources_by_current ON sources (current);

-- AUTOINCREMENT: a reader that is late never finds another body under the id it holds.
CREATE TABLE generations (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    source_id     INTEGER NOT NULL REFERENCES sources (id),
    generation    INTEGER NOT NULL,
    sha256        BLOB    NOT NULL CHECK (length(sha256) = 32),
    length        INTEGER NOT NULL,
    chunks        INTEGER NOT NULL,
    recipient     TEXT,
    users         INTEGER,
    groups        INTEGER,
    stored_at     INTEGER NOT NULL,
    superseded_at INTEGER,
    UNIQUE (source_id, generation)
);
CREATE INDEX generations_superseded ON generations (superseded_at) WHERE superseded_at IS NOT NULL;

CREATE TABLE chunks (
    generation_id INTEGER NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    number        INTEGER NOT NULL,
    bytes         BLOB    NOT NULL CHECK (length(bytes) BETWEEN 1 AND 1048576),
    PRIMARY KEY (generation_id, number)
);

CREATE TABLE settings (
    tenant_id  INTEGER NOT NULL REFERENCES tenants (id),
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
);

CREATE TABLE access_rules (
    tenant_id  INTEGER NOT NULL PRIMARY KEY REFERENCES tenants (id),
    body       BLOB    NOT NULL,
    sha256     BLOB    NOT NULL CHECK (length(sha256) = 32),
    changed_at INTEGER NOT NULL
);

-- agent_id is '' for a report that did not say which agent made it.
CREATE TABLE duplicates (
    tenant_id   INTEGER NOT NULL REFERENCES tenants (id),
    agent_id    TEXT    NOT NULL,
    usernames   TEXT    NOT NULL,
    reported_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
);

CREATE TABLE agents (
    id           INTEGER PRIMARY KEY,
    tenant_id    INTEGER NOT NULL REFERENCES tenants (id),
    agent_id     TEXT    NOT NULL,
    hostname     TEXT    NOT NULL,
    last_seen_at INTEGER NOT NULL,
    extras       TEXT,
    UNIQUE (tenant_id, agent_id)
);

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    realm   TEXT,
    tenant  TEXT,
    role    TEXT    NOT NULL,
    token   TEXT,
    action  TEXT    NOT NULL,
    address TEXT,
    details TEXT    NOT NULL
);
CREATE INDEX audit_by_tenant ON audit (tenant, id);

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_never_cut BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
