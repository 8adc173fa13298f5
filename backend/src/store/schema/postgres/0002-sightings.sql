-- What nodes say that they applied: the digest of each policy and head, by its version, and who said so first. `about` is
-- `policy` or `head/PUBLISHER`. `split` is 1 where others said otherwise.
CREATE TABLE sightings (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    about     TEXT   NOT NULL COLLATE "C",
    version   BIGINT NOT NULL,
    sha256    BYTEA  NOT NULL CHECK (length(sha256) = 32),
    key_id    BIGINT NOT NULL REFERENCES keys (id),
    seen_at   BIGINT NOT NULL,
    split     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, about, version, sha256)
);

CREATE INDEX sightings_by_age ON sightings (seen_at);

CREATE INDEX split_sightings ON sightings (tenant_id, about, version) WHERE split = 1;
