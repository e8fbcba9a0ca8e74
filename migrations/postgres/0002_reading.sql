-- Reading the journal by anything, erasing payloads, and letting go of the oldest events.

INSERT INTO event_kinds (code, name) VALUES
    ( 3, 'node.draining'),
    ( 4, 'node.resumed'),
    (80, 'payload.erased'),
    (81, 'journal.pruned');

-- Eras: runs of 4,096 positions (position / 4096). For: the events of a span of time; clocks differ between routers, so each
-- era has its own span. The newest events are in neither of these two tables: one router adds them behind the commits.
CREATE TABLE eras (
    era      BIGINT PRIMARY KEY,
    indexed  BIGINT NOT NULL,           -- the last position of it that is in the index
    first_at BIGINT NOT NULL,           -- microseconds: the earliest `at` of its events
    last_at  BIGINT NOT NULL            -- microseconds: the latest
);

-- The index of events: which events of an era a term belongs to. A term is a letter and a value: `a` an agent, `c` a
-- caller, `k` the number of a kind, `r` a request id, `s` a session id. (The history of one invocation has an index of its
-- own, journal_by_invocation.)
CREATE TABLE postings (
    era     BIGINT NOT NULL,
    term    TEXT COLLATE "C" NOT NULL,
    offsets BYTEA NOT NULL,             -- position % 4096 of each event, 2 bytes big-endian each, ascending
    PRIMARY KEY (era, term)
);

-- What an event's detail says of a label, for those that have no invocation; NULL if it says nothing, or is damaged. (A text
-- cannot hold U+0000 here, where JSON can; U+FFFD stands for it, as in the labels of invocations. chr(92) is the backslash.)
CREATE FUNCTION json_label(detail TEXT, name TEXT) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF strpos(detail, '"' || name || '"') = 0 THEN
        RETURN NULL;
    END IF;
    BEGIN
        RETURN detail::JSON ->> name;
    EXCEPTION WHEN OTHERS THEN
        RETURN replace(detail, chr(92) || 'u0000', chr(92) || 'ufffd')::JSON ->> name;
    END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;

-- For: the invocations that went wrong, newest first.
CREATE INDEX invocations_by_failure ON invocations (state, accepted) WHERE state > 5;

-- For: the registered socket of an agent, if it is connected.
CREATE INDEX sessions_by_identity ON sessions (identity, registered) WHERE registered IS NOT NULL;

-- What an agent registered with, for when its agent.registered is pruned; it counts while `registered` is such a place.
ALTER TABLE agents ADD COLUMN registration BYTEA;

-- For: the agents whose agent.registered is about to be pruned.
CREATE INDEX agents_by_registered ON agents (registered) WHERE registered IS NOT NULL;

-- How far the journal is pruned. One row.
CREATE TABLE pruned (
    one      BIGINT PRIMARY KEY CHECK (one = 1),
    position BIGINT NOT NULL,           -- the last event that is gone; 0: none is
    hash     BYTEA NOT NULL             -- its hash, which the next event's covers; zeroes: none is gone
);

INSERT INTO pruned (one, position, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'));
