-- The queue's file, version 2: what is learned from labels.

-- Answers that may be labelled, in the order of time, so that what expires lies in front.
CREATE TABLE answered (
  seq INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  id TEXT NOT NULL,
  at INTEGER NOT NULL,
  record TEXT NOT NULL
) STRICT;
CREATE INDEX answered_by_id ON answered (task, id);

-- Answers that were labelled.
CREATE TABLE labelled (
  id INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  answer TEXT NOT NULL,
  expires INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX labelled_by_answer ON labelled (task, answer);
CREATE INDEX labelled_expires ON labelled (expires);

CREATE TABLE belief (
  task INTEGER NOT NULL,
  version TEXT NOT NULL,
  head TEXT NOT NULL,
  tail TEXT NOT NULL,
  PRIMARY KEY (task, version)
) STRICT, WITHOUT ROWID;
