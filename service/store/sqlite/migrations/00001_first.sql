-- Rows refer to each other by small integers (num); the text ids that the rest
-- of the server knows stand once, in the row they name. Moments are microseconds
-- since 1970, UTC. Messages are kept encoded, with the columns that a query
-- needs beside them.

-- +goose Up
CREATE TABLE users (
  num   INTEGER PRIMARY KEY,
  id    TEXT NOT NULL UNIQUE,
  name  TEXT NOT NULL,
  email TEXT NOT NULL
) STRICT;

CREATE TABLE projects (
  num        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  key        TEXT NOT NULL UNIQUE,
  name       TEXT NOT NULL,
  created_at INTEGER
) STRICT;

CREATE TABLE members (
  project INTEGER NOT NULL REFERENCES projects,
  user    INTEGER NOT NULL REFERENCES users,
  role    INTEGER NOT NULL,
  PRIMARY KEY (project, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_user ON members (user);

CREATE TABLE runs (
  num        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  project    INTEGER NOT NULL REFERENCES projects,
  number     INTEGER NOT NULL,
  key        TEXT NOT NULL,
  state      INTEGER NOT NULL,
  end_reason INTEGER NOT NULL,
  source     TEXT NOT NULL,
  name       TEXT NOT NULL,
  total      INTEGER NOT NULL,
  started_at INTEGER,
  ended_at   INTEGER,
  data       BLOB, -- Run without shards and url
  UNIQUE (project, number),
  UNIQUE (project, key)
) STRICT;
-- 2 is RUN_STATE_RUNNING.
CREATE INDEX runs_running ON runs (project) WHERE state = 2;
-- 1 and 2 are END_REASON_PASSED and END_REASON_FAILED.
CREATE INDEX runs_completed ON runs (project, source, name, number) WHERE end_reason IN (1, 2);

CREATE TABLE shards (
  run         INTEGER NOT NULL REFERENCES runs,
  name        TEXT NOT NULL,
  state       INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  committed   INTEGER NOT NULL,
  changed_at  INTEGER NOT NULL,
  exit_code   INTEGER,
  PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

-- The suites of a run with their counts.
CREATE TABLE run_suites (
  run  INTEGER NOT NULL REFERENCES runs,
  name TEXT NOT NULL,
  data BLOB, -- Suite
  PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

-- The names of a project's suites, each once.
CREATE TABLE suite_names (
  num     INTEGER PRIMARY KEY,
  project INTEGER NOT NULL REFERENCES projects,
  name    TEXT NOT NULL,
  UNIQUE (project, name)
) STRICT;

-- The names of a suite's tests, each once. The empty name stands for the suite itself.
CREATE TABLE test_names (
  num   INTEGER PRIMARY KEY,
  suite INTEGER NOT NULL,
  name  TEXT NOT NULL,
  UNIQUE (suite, name)
) STRICT;

-- The tests a project knows, by the source that reported them.
CREATE TABLE tests (
  name   INTEGER NOT NULL, -- test_names.num
  source TEXT NOT NULL,
  PRIMARY KEY (name, source)
) STRICT, WITHOUT ROWID;

-- One attempt of one test of a run. The bulk tables below have no foreign keys:
-- the store looks up what they refer to in the same transaction.
CREATE TABLE results (
  run           INTEGER NOT NULL,
  seq           INTEGER NOT NULL,
  attempt       INTEGER NOT NULL,
  name          INTEGER NOT NULL, -- test_names.num
  source        TEXT NOT NULL,
  shard         TEXT NOT NULL,
  shard_attempt INTEGER NOT NULL,
  status        INTEGER NOT NULL,
  change        INTEGER NOT NULL, -- the offset of the last change in the run's room
  last          INTEGER NOT NULL, -- 1 for the test's highest attempt
  data          BLOB,             -- TestExecutionUpdate
  PRIMARY KEY (run, seq, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX results_status ON results (run, status, seq) WHERE last = 1;
CREATE INDEX results_change ON results (run, status, change) WHERE last = 1;
CREATE INDEX results_retried ON results (run, seq) WHERE attempt > 1;
CREATE INDEX results_retried_name ON results (run, name, attempt) WHERE attempt > 1;

CREATE TABLE output (
  num     INTEGER PRIMARY KEY,
  run     INTEGER NOT NULL,
  name    INTEGER NOT NULL, -- test_names.num
  attempt INTEGER NOT NULL,
  data    BLOB
) STRICT;
CREATE INDEX output_of ON output (run, name, attempt);

CREATE TABLE test_cases (
  num         INTEGER PRIMARY KEY,
  id          TEXT NOT NULL UNIQUE,
  project     INTEGER NOT NULL REFERENCES projects,
  number      INTEGER NOT NULL,
  data        BLOB, -- TestCase without description
  description TEXT NOT NULL,
  UNIQUE (project, number)
) STRICT;

CREATE TABLE comments (
  num       INTEGER PRIMARY KEY,
  id        TEXT NOT NULL UNIQUE,
  test_case INTEGER NOT NULL REFERENCES test_cases,
  data      BLOB -- Comment
) STRICT;
CREATE INDEX comments_of ON comments (test_case);

CREATE TABLE notifications (
  num     INTEGER PRIMARY KEY,
  user    INTEGER NOT NULL REFERENCES users,
  id      TEXT NOT NULL,
  read_at INTEGER, -- NULL while unread
  data    BLOB,    -- Notification without read_at
  UNIQUE (user, id)
) STRICT;
CREATE INDEX notifications_of ON notifications (user);
CREATE INDEX notifications_unread ON notifications (user) WHERE read_at IS NULL;

CREATE TABLE requests (
  user     TEXT NOT NULL,
  id       TEXT NOT NULL,
  method   TEXT NOT NULL,
  hash     BLOB,
  response BLOB,
  at       INTEGER NOT NULL,
  PRIMARY KEY (user, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_at ON requests (at);

CREATE TABLE rooms (
  num           INTEGER PRIMARY KEY,
  name          TEXT NOT NULL UNIQUE,
  newest_offset INTEGER NOT NULL,
  newest_epoch  INTEGER NOT NULL, -- while newest_offset is 0, the epoch the room was made in
  trim_offset   INTEGER NOT NULL DEFAULT 0,
  trim_epoch    INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The log: runs of consecutive events of one room, joined as the wire carries them.
CREATE TABLE event_batches (
  num   INTEGER PRIMARY KEY,
  room  INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last  INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  at    INTEGER NOT NULL,
  data  BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX event_batches_place ON event_batches (room, last);

-- What Ready writes, to know that writing works.
CREATE TABLE probe (
  num INTEGER PRIMARY KEY CHECK (num = 1),
  at  INTEGER NOT NULL
) STRICT;
INSERT INTO probe (num, at) VALUES (1, 0);
