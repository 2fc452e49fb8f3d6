CREATE TABLE jobs (
    seq             INTEGER PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    tenant          TEXT NOT NULL,
    idempotency_key TEXT,
    -- SHA-256 of the request, where there is a key.
    request_hash    BLOB,
    -- The request, postcard, until the launcher has it.
    request         BLOB,
    policy          TEXT NOT NULL,
    policy_hash     TEXT NOT NULL,
    labels          TEXT NOT NULL,
    limits          TEXT,
    -- 0 PENDING, 1 RUNNING, 2 STOPPING, 3 FINISHED.
    state           INTEGER NOT NULL,
    -- Microseconds since 1970-01-01 UTC.
    created_at      INTEGER NOT NULL,
    started_at      INTEGER,
    finished_at     INTEGER,
    receipt         TEXT,
    exit            TEXT,
    -- Output on disk once the job is FINISHED.
    kept_bytes      INTEGER NOT NULL DEFAULT 0,
    -- Of the job's last change.
    position        INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX jobs_by_key ON jobs (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX jobs_by_position ON jobs (position);
CREATE INDEX jobs_unfinished ON jobs (seq) WHERE state < 3;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE state = 3;

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The highest position of any job that was deleted: positions are never given twice.
INSERT INTO meta VALUES ('deleted_position', 0);
