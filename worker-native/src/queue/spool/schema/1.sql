-- The spool's file, version 1. Times are milliseconds of the file's clock.

-- One row: the clock goes on where it was.
CREATE TABLE ledger (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  clock INTEGER NOT NULL
) STRICT;
INSERT INTO ledger (one, clock) VALUES (1, 0);

-- AUTOINCREMENT: a place is given once, also when all before it are gone.
CREATE TABLE spooled (
  place INTEGER PRIMARY KEY AUTOINCREMENT,
  task TEXT NOT NULL,
  job_id TEXT NOT NULL UNIQUE,
  lane TEXT NOT NULL,
  body BLOB NOT NULL,        -- Entry::to_body
  deadline INTEGER,
  key TEXT,
  fingerprint TEXT,
  status INTEGER,
  answer TEXT,
  size INTEGER NOT NULL,
  aside INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX spooled_by_key ON spooled (task, key) WHERE key IS NOT NULL;
