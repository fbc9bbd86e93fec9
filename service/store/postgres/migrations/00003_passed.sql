-- Most results passed, and nobody asks for those that changed last: they are in no
-- index but the table's own, which is in the order of pages. 4 is STATUS_PASSED.

-- +goose Up
DROP INDEX results_status;
DROP INDEX results_change;
CREATE INDEX results_status ON results (run, status, seq) WHERE last AND status <> 4;
CREATE INDEX results_change ON results (run, status, change) WHERE last AND status <> 4;
