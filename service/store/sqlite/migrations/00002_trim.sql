-- What to drop of the logs is found in the rows of rooms, so that event_batches,
-- which has most of the rows, needs no index for it. A batch is dropped whole, the
-- oldest of a room first.

-- +goose Up
ALTER TABLE rooms ADD COLUMN cut_offset INTEGER NOT NULL DEFAULT 0; -- event_batches.last of the oldest batch; 0 while there is none
ALTER TABLE rooms ADD COLUMN cut_at INTEGER NOT NULL DEFAULT 0;     -- event_batches.at of it
UPDATE rooms SET cut_offset = oldest.last, cut_at = oldest.at
  FROM (SELECT room, min(last) AS last, at FROM event_batches GROUP BY room) AS oldest
  WHERE oldest.room = rooms.num;

-- newest_offset - cut_offset events are left when the oldest batch is dropped. 20
-- is store.LeastHistory: with fewer, it stays, and the room is in neither index.
CREATE INDEX rooms_long ON rooms (newest_offset - cut_offset) WHERE newest_offset - cut_offset >= 20;
CREATE INDEX rooms_old ON rooms (cut_at) WHERE newest_offset - cut_offset >= 20;
