-- The order to end a job, JSON, while it is STOPPING.
ALTER TABLE jobs ADD COLUMN stop TEXT;
