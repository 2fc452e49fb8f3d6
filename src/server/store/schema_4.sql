-- For retention, whose order is that of the ends of jobs and not of a clock that may be set: counts and sums of all and of
-- one tenant without a look at the rows, and the oldest of them without sorting.
DROP INDEX jobs_kept;
CREATE INDEX jobs_kept ON jobs (tenant, position, kept_bytes) WHERE state = 3;
CREATE INDEX jobs_with_output ON jobs (position) WHERE state = 3 AND kept_bytes > 0;
