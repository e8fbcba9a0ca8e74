-- Reading the journal by anything, erasing payloads, and letting go of the oldest events.

INSERT INTO event_kinds (code, name) VALUES
    ( 3, 'node.draining'),
    ( 4, 'node.resumed'),
    (80, 'payload.erased'),
    (81, 'journal.pruned');

-- Eras: runs of 4,096 positions (position / 4096). For: the events of a span of time; clocks may jump between two runs of a
-- router, so each era has its own span. The newest events, fewer than 2,048, are in neither of these two tables.
CREATE TABLE eras (
    era      INTEGER PRIMARY KEY,
    indexed  INTEGER NOT NULL,          -- the last position of it that is in the index
    first_at INTEGER NOT NULL,          -- microseconds: the earliest `at` of its events
    last_at  INTEGER NOT NULL           -- microseconds: the latest
) STRICT;

-- The index of events: which events of an era a term belongs to. A term is a letter and a value: `a` an agent, `c` a
-- caller, `k` the number of a kind, `r` a request id, `s` a session id. (The history of one invocation has an index of its
-- own, journal_by_invocation.) All that is written at one time lies close together, however many different values there are:
-- an ordinary index of request ids would touch a page for each.
CREATE TABLE postings (
    era     INTEGER NOT NULL,
    term    TEXT NOT NULL,
    offsets BLOB NOT NULL               -- position % 4096 of each event, 2 bytes big-endian each, ascending
) STRICT;

-- For: in which eras a term occurs, and where. Apart from the offsets: whoever looks for a term would read those of its
-- neighbours too, which may be thousands.
CREATE UNIQUE INDEX postings_by_term ON postings (era, term);

-- What was written before, an era at a time: all of it at once would have to fit into memory.
CREATE TRIGGER index_era AFTER INSERT ON eras BEGIN
    INSERT INTO postings (era, term, offsets)
        SELECT new.era, term, unhex(group_concat(printf('%04x', position % 4096), '' ORDER BY position)) FROM (
            SELECT position, 'a' || agent_id AS term FROM journal
                WHERE position BETWEEN new.era * 4096 AND new.era * 4096 + 4095 AND agent_id IS NOT NULL
            UNION ALL SELECT position, 'c' || caller FROM journal
                WHERE position BETWEEN new.era * 4096 AND new.era * 4096 + 4095 AND caller IS NOT NULL
            UNION ALL SELECT position, 'k' || kind FROM journal
                WHERE position BETWEEN new.era * 4096 AND new.era * 4096 + 4095
            UNION ALL SELECT position, 'r' || coalesce(request_id, detail ->> 'request_id')
                FROM journal LEFT JOIN invocations ON id = invocation_id
                WHERE position BETWEEN new.era * 4096 AND new.era * 4096 + 4095 AND (kind = 14 OR request_id <> '')
            UNION ALL SELECT position, 's' || coalesce(session_id, detail ->> 'session_id')
                FROM journal LEFT JOIN invocations ON id = invocation_id
                WHERE position BETWEEN new.era * 4096 AND new.era * 4096 + 4095 AND (kind = 14 OR session_id <> '')
        )
        WHERE term NOT IN ('r', 's')    -- NULL, where a log line has no such label, is not among the others either
        GROUP BY term;
END;

INSERT INTO eras (era, indexed, first_at, last_at)
    WITH RECURSIVE numbers(era) AS (
        SELECT 0 WHERE EXISTS (SELECT 1 FROM journal)
        UNION ALL SELECT era + 1 FROM numbers WHERE era < (SELECT max(position) / 4096 FROM journal)
    )
    SELECT
        era,
        (SELECT max(position) FROM journal WHERE position BETWEEN era * 4096 AND era * 4096 + 4095),
        (SELECT min(at) FROM journal WHERE position BETWEEN era * 4096 AND era * 4096 + 4095),
        (SELECT max(at) FROM journal WHERE position BETWEEN era * 4096 AND era * 4096 + 4095)
    FROM numbers;

DROP TRIGGER index_era;

DROP TABLE agent_blocks;
DROP TABLE kind_blocks;

-- For: the invocations that went wrong, newest first.
CREATE INDEX invocations_by_failure ON invocations (state, accepted) WHERE state > 5;

-- For: the registered socket of an agent, if it is connected.
CREATE INDEX sessions_by_identity ON sessions (identity, registered) WHERE registered IS NOT NULL;

-- What an agent registered with, for when its agent.registered is pruned; it counts while `registered` is such a place.
ALTER TABLE agents ADD COLUMN registration BLOB;

-- For: the agents whose agent.registered is about to be pruned.
CREATE INDEX agents_by_registered ON agents (registered) WHERE registered IS NOT NULL;

-- How far the journal is pruned. One row.
CREATE TABLE pruned (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL,          -- the last event that is gone; 0: none is
    hash     BLOB NOT NULL              -- its hash, which the next event's covers; zeroes: none is gone
) STRICT;

INSERT INTO pruned (one, position, hash) VALUES (1, 0, zeroblob(32));
