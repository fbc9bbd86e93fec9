-- Rows refer to each other by small integers (num), which the one server that
-- writes gives out. Text from outside is kept as the bytes it is made of: a text
-- column can't hold a NUL character and sorts by the rules of some language, and
-- both stores have to keep and sort alike. `SET bytea_output = escape` shows it.
-- Moments are microseconds since 1970, UTC. Messages are kept encoded, with the
-- columns that a query needs beside them.

-- +goose Up
-- One row, which says whose database this is, who writes, and how often it has.
CREATE TABLE tcmanager (
  one     boolean PRIMARY KEY DEFAULT true CHECK (one),
  epoch   bigint NOT NULL, -- of the server that writes or wrote last
  commits bigint NOT NULL, -- of that server: tells whether a commit arrived whose answer was lost
  pad     bytea            -- see Ready
);
ALTER TABLE tcmanager ALTER pad SET STORAGE EXTERNAL;
INSERT INTO tcmanager (epoch, commits) VALUES (0, 0);

CREATE TABLE users (
  num   bigint PRIMARY KEY,
  id    bytea NOT NULL UNIQUE,
  name  bytea NOT NULL,
  email bytea NOT NULL
);

CREATE TABLE projects (
  num        bigint PRIMARY KEY,
  id         bytea NOT NULL UNIQUE,
  key        bytea NOT NULL UNIQUE,
  name       bytea NOT NULL,
  created_at bigint
);

CREATE TABLE members (
  project  bigint NOT NULL REFERENCES projects,
  user_num bigint NOT NULL REFERENCES users,
  role     integer NOT NULL,
  PRIMARY KEY (project, user_num)
);
CREATE INDEX members_user ON members (user_num);

-- Rows that change often leave room on their page for their next version.
CREATE TABLE runs (
  num        bigint PRIMARY KEY,
  id         bytea NOT NULL UNIQUE,
  project    bigint NOT NULL REFERENCES projects,
  number     bigint NOT NULL,
  key        bytea NOT NULL,
  state      integer NOT NULL,
  end_reason integer NOT NULL,
  source     bytea NOT NULL,
  name       bytea NOT NULL,
  total      bigint NOT NULL,
  started_at bigint,
  ended_at   bigint,
  data       bytea, -- Run without shards and url
  UNIQUE (project, number),
  UNIQUE (project, key)
) WITH (fillfactor = 70);
-- 2 is RUN_STATE_RUNNING.
CREATE INDEX runs_running ON runs (project) WHERE state = 2;
-- 1 and 2 are END_REASON_PASSED and END_REASON_FAILED.
CREATE INDEX runs_completed ON runs (project, source, name, number) WHERE end_reason IN (1, 2);

CREATE TABLE shards (
  run         bigint NOT NULL REFERENCES runs,
  name        bytea NOT NULL,
  state       integer NOT NULL,
  incarnation bigint NOT NULL,
  committed   bigint NOT NULL,
  changed_at  bigint NOT NULL,
  exit_code   integer,
  PRIMARY KEY (run, name)
) WITH (fillfactor = 70);

-- The suites of a run with their counts. An entry of an index can't be longer than
-- 2,700 bytes and a name can: names are found by their digest, and sorted by how
-- they begin.
CREATE TABLE run_suites (
  run  bigint NOT NULL REFERENCES runs,
  name bytea NOT NULL,
  data bytea -- Suite
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX run_suites_name ON run_suites (run, sha256(name));
CREATE INDEX run_suites_order ON run_suites (run, substring(name FROM 1 FOR 512));

-- The names of a project's suites, each once.
CREATE TABLE suite_names (
  num     bigint PRIMARY KEY,
  project bigint NOT NULL REFERENCES projects,
  name    bytea NOT NULL
);
CREATE UNIQUE INDEX suite_names_name ON suite_names (project, sha256(name));

-- The names of a suite's tests, each once. The empty name stands for the suite itself.
CREATE TABLE test_names (
  num   bigint PRIMARY KEY,
  suite bigint NOT NULL,
  name  bytea NOT NULL
);
CREATE UNIQUE INDEX test_names_name ON test_names (suite, sha256(name));

-- The tests a project knows, by the source that reported them.
CREATE TABLE tests (
  name   bigint NOT NULL, -- test_names.num
  source bytea NOT NULL,
  PRIMARY KEY (name, source)
);

-- One attempt of one test of a run. The bulk tables below have no foreign keys:
-- the store looks up what they refer to in the same transaction.
CREATE TABLE results (
  run           bigint NOT NULL,
  seq           bigint NOT NULL,
  attempt       bigint NOT NULL,
  name          bigint NOT NULL, -- test_names.num
  change        bigint NOT NULL, -- the offset of the last change in the run's room
  shard_attempt bigint NOT NULL,
  status        integer NOT NULL,
  last          boolean NOT NULL, -- the test's highest attempt
  source        bytea NOT NULL,
  shard         bytea NOT NULL,
  data          bytea, -- TestExecutionUpdate
  PRIMARY KEY (run, seq, attempt)
);
CREATE INDEX results_status ON results (run, status, seq) WHERE last;
CREATE INDEX results_change ON results (run, status, change) WHERE last;
CREATE INDEX results_retried ON results (run, seq, attempt) WHERE attempt > 1;
CREATE INDEX results_retried_name ON results (run, name, attempt) WHERE attempt > 1;

CREATE TABLE output (
  num     bigint PRIMARY KEY,
  run     bigint NOT NULL,
  name    bigint NOT NULL, -- test_names.num
  attempt bigint NOT NULL,
  data    bytea NOT NULL
);
CREATE INDEX output_of ON output (run, name, attempt, num);

CREATE TABLE test_cases (
  num         bigint PRIMARY KEY,
  id          bytea NOT NULL UNIQUE,
  project     bigint NOT NULL REFERENCES projects,
  number      bigint NOT NULL,
  data        bytea, -- TestCase without description
  description bytea NOT NULL,
  UNIQUE (project, number)
);

CREATE TABLE comments (
  num       bigint PRIMARY KEY,
  id        bytea NOT NULL UNIQUE,
  test_case bigint NOT NULL REFERENCES test_cases,
  data      bytea -- Comment
);
CREATE INDEX comments_of ON comments (test_case, num);

CREATE TABLE notifications (
  num      bigint PRIMARY KEY,
  user_num bigint NOT NULL REFERENCES users,
  id       bytea NOT NULL,
  read_at  bigint, -- NULL while unread
  data     bytea,  -- Notification without read_at
  UNIQUE (user_num, id)
);
CREATE INDEX notifications_of ON notifications (user_num, num);
CREATE INDEX notifications_unread ON notifications (user_num, num) WHERE read_at IS NULL;

CREATE TABLE requests (
  user_id  bytea NOT NULL,
  id       bytea NOT NULL,
  method   bytea NOT NULL,
  hash     bytea,
  response bytea,
  at       bigint NOT NULL,
  PRIMARY KEY (user_id, id)
);
CREATE INDEX requests_at ON requests (at);

-- newest_offset - cut_offset events are left of a log when its oldest batch is
-- dropped. 20 is store.LeastHistory: with fewer, that batch stays. newest_offset
-- changes with every commit, and a new version of a row costs an entry in every
-- index unless no column of any index changed. So the indexes hold columns that
-- seldom do.
CREATE TABLE rooms (
  num           bigint PRIMARY KEY,
  name          bytea NOT NULL UNIQUE,
  newest_offset bigint NOT NULL,
  newest_epoch  bigint NOT NULL, -- while newest_offset is 0, the epoch the room was made in
  trim_offset   bigint NOT NULL DEFAULT 0,
  trim_epoch    bigint NOT NULL DEFAULT 0,
  cut_offset    bigint NOT NULL DEFAULT 0, -- event_batches.last of the oldest batch; 0 while there is none
  cut_at        bigint NOT NULL DEFAULT 0, -- event_batches.at of it
  length        bigint GENERATED ALWAYS AS ((newest_offset - cut_offset) / 64) STORED,
  trimmable     boolean GENERATED ALWAYS AS (newest_offset - cut_offset >= 20) STORED
) WITH (fillfactor = 70);
CREATE INDEX rooms_long ON rooms (length) WHERE trimmable;
CREATE INDEX rooms_old ON rooms (cut_at) WHERE trimmable;

-- The log: runs of consecutive events of one room, joined as the wire carries them.
-- They are not compressed: that took longer than all the rest of a commit.
CREATE TABLE event_batches (
  room  bigint NOT NULL,
  first bigint NOT NULL,
  last  bigint NOT NULL,
  epoch bigint NOT NULL,
  at    bigint NOT NULL,
  data  bytea NOT NULL,
  PRIMARY KEY (room, last)
);
ALTER TABLE event_batches ALTER data SET STORAGE EXTERNAL;
