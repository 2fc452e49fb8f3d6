-- For the sums of kept output, of all and of one tenant, without a look at the rows.
CREATE INDEX jobs_kept ON jobs (tenant, kept_bytes) WHERE state = 3;

-- Deleted jobs whose folder is still to be removed.
CREATE TABLE buried (
    id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
