-- What isn't kept of a run any more. A run that was deleted keeps its row, nearly
-- empty, so that its id, its number and its key are never used again.

-- +goose Up
ALTER TABLE runs ADD COLUMN kept integer NOT NULL DEFAULT 2; -- store.Kept; 0: it was deleted
CREATE INDEX runs_kept ON runs (project, number) WHERE kept > 0;
CREATE INDEX runs_ended ON runs (kept, ended_at) WHERE ended_at IS NOT NULL;

-- The runs of which something is to be dropped still, and how far that is: what
-- comes next, and behind which row of it.
CREATE TABLE purges (
  run   bigint PRIMARY KEY REFERENCES runs,
  stage integer NOT NULL DEFAULT 0,
  a     bigint NOT NULL DEFAULT 0,
  b     bigint NOT NULL DEFAULT 0,
  c     bigint NOT NULL DEFAULT 0
);
