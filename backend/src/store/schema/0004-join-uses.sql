-- The requests that each join code was used for, by digest. A request is known here also when it is no longer in the mailbox,
-- so that a host may put it there again at no further use.
CREATE TABLE join_uses (
    code_id INTEGER NOT NULL REFERENCES join_codes (id) ON DELETE CASCADE,
    sha256  BLOB    NOT NULL CHECK (length(sha256) = 32),
    PRIMARY KEY (code_id, sha256)
);

INSERT INTO join_uses (code_id, sha256) SELECT code_id, sha256 FROM join_requests;
