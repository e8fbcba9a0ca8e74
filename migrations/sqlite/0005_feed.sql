-- The index of what the backend has to be told, with its condition written so that SQLite tests it at little cost: for `IN` it
-- made a table of the three kinds for each event that was written. Queries that use the index say the same.
DROP INDEX journal_for_feed;
CREATE INDEX journal_for_feed ON journal (position) WHERE kind = 11 OR kind = 13 OR kind = 14;
