-- For the list of one tenant's jobs without a look at those of others; newest first, since the row number comes last in each
-- index.
CREATE INDEX jobs_by_tenant ON jobs (tenant);
