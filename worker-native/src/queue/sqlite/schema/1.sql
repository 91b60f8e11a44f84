-- The queue's file, version 1. Times are milliseconds of the queue's clock (`clock.rs`), classes and states are
-- numbers of `sql.rs`.

-- One row: what must not begin anew with a process.
CREATE TABLE ledger (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  next_job INTEGER NOT NULL,
  clock INTEGER NOT NULL
) STRICT;
INSERT INTO ledger (one, next_job, clock) VALUES (1, 1, 0);

-- Counters change in the transaction that changes what they count.
CREATE TABLE task (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  bytes INTEGER NOT NULL DEFAULT 0,
  delayed INTEGER NOT NULL DEFAULT 0,
  settled INTEGER NOT NULL DEFAULT 0,
  unrun INTEGER NOT NULL DEFAULT 0,
  lost INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE lane (
  task INTEGER NOT NULL,
  name TEXT NOT NULL,
  depth INTEGER NOT NULL,
  running INTEGER NOT NULL,
  PRIMARY KEY (task, name)
) STRICT, WITHOUT ROWID;

-- Unsettled jobs of those tenants that have some.
CREATE TABLE tenant (
  task INTEGER NOT NULL,
  name TEXT NOT NULL,
  jobs INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (task, name)
) STRICT, WITHOUT ROWID;

-- A job from its hand-in until its result expires. Ids are given in the order of hand-in and never twice.
CREATE TABLE job (
  id INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  job_id TEXT NOT NULL,
  class INTEGER NOT NULL,
  tenant TEXT NOT NULL,      -- '' is none
  lane TEXT NOT NULL,
  state INTEGER NOT NULL,
  starts INTEGER NOT NULL,   -- that count
  accepted INTEGER NOT NULL,
  deadline INTEGER,
  due INTEGER,               -- end of the lease, or of the pause
  consumer TEXT,
  failures TEXT,             -- JSON
  bytes INTEGER NOT NULL,
  callback TEXT,
  note TEXT,                 -- of its callback
  result INTEGER             -- result.seq
) STRICT;
CREATE UNIQUE INDEX job_by_name ON job (task, job_id);
CREATE INDEX job_waiting ON job (task, class, tenant) WHERE state = 0;
CREATE INDEX job_returned ON job (task) WHERE state = 3;
CREATE INDEX job_due ON job (task, state, due) WHERE due IS NOT NULL;

-- What was handed in, apart from `job`, whose rows are written at every step.
CREATE TABLE body (
  id INTEGER PRIMARY KEY,    -- job.id
  body BLOB NOT NULL         -- Entry::to_body
) STRICT;

-- In the order of settlement, so that what expires lies in front.
CREATE TABLE result (
  seq INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  job INTEGER NOT NULL,      -- job.id
  ended INTEGER NOT NULL,
  finished INTEGER NOT NULL, -- as the result tells, on its consumer's clock
  sensor TEXT,
  awaited INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  json TEXT NOT NULL
) STRICT;
-- All that a listing looks at.
CREATE INDEX result_listed ON result (task, seq, finished, sensor, outcome) WHERE awaited = 0;
CREATE INDEX result_awaited ON result (ended) WHERE awaited = 1;

CREATE TABLE dead (
  seq INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  job_id TEXT NOT NULL,
  class INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  lane TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  callback TEXT,
  body BLOB NOT NULL,
  result TEXT NOT NULL,
  failures TEXT NOT NULL,
  died INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX dead_by_name ON dead (task, job_id);
CREATE INDEX dead_by_task ON dead (task);

CREATE TABLE outbox (
  id INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  job_id TEXT NOT NULL,
  url TEXT NOT NULL,
  attempt INTEGER NOT NULL,  -- tries so far
  due INTEGER NOT NULL,
  ended INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX outbox_by_name ON outbox (task, job_id);
CREATE INDEX outbox_due ON outbox (task, due);

-- Idempotency keys; without a status the call is being made.
CREATE TABLE once (
  id INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  status INTEGER,
  body TEXT,
  expires INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX once_by_key ON once (task, key);
CREATE INDEX once_expires ON once (expires);

CREATE TABLE fact (
  task INTEGER NOT NULL,
  name TEXT NOT NULL,
  field TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (task, name, field)
) STRICT, WITHOUT ROWID;

-- Room that is asked for to see whether there is some.
CREATE TABLE probe (
  id INTEGER PRIMARY KEY,
  filler BLOB NOT NULL
) STRICT;
