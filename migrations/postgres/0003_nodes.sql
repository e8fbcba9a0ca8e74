-- Several routers on one journal.

INSERT INTO event_kinds (code, name) VALUES
    (5, 'node.lost'),
    (6, 'node.returned');

-- Which of its lives a router is in: each start under the same name is the next, from 1.
ALTER TABLE nodes ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
-- 1 up, 2 draining, 3 stopped, 4 lost.
ALTER TABLE nodes ADD COLUMN standing BIGINT NOT NULL DEFAULT 3;
ALTER TABLE nodes ADD COLUMN version TEXT NOT NULL DEFAULT '';
-- Microseconds: when this life began.
ALTER TABLE nodes ADD COLUMN started_at BIGINT NOT NULL DEFAULT 0;

-- That routers were heard of. Apart from `nodes`, and no part of any turn: a router counts on as long as it lives.
CREATE TABLE leases (
    node       BIGINT PRIMARY KEY,      -- nodes.code
    epoch      BIGINT NOT NULL,         -- in this life
    count      BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL          -- microseconds, by the clock of the database; for people
);

-- nodes.code: the router that holds it.
ALTER TABLE sessions ADD COLUMN node BIGINT NOT NULL DEFAULT 1;
-- 0 is sent invocations, 1 will be, 2 a newer one registered, 3 asked for no more, 4 an operator wants it gone.
ALTER TABLE sessions ADD COLUMN standing BIGINT NOT NULL DEFAULT 0;
-- How many invocations it takes at once; 0: it has not registered.
ALTER TABLE sessions ADD COLUMN max_in_flight BIGINT NOT NULL DEFAULT 0;
-- The credential that it came with, sealed with a key that is derived from SECRET_KEY; goes with the row.
ALTER TABLE sessions ADD COLUMN sealed_credential BYTEA;

-- nodes.code: the router that accepted it.
ALTER TABLE invocations ADD COLUMN home BIGINT NOT NULL DEFAULT 1;

-- What each of the newest commits changed, for the other routers to read again: a ring. A router that is further behind reads
-- everything.
CREATE TABLE changes (
    slot        BIGINT PRIMARY KEY,     -- revision % 4096
    revision    BIGINT NOT NULL,        -- of the commit
    node        BIGINT NOT NULL,        -- nodes.code: who committed; 0: nobody, an attempt was called off
    invocations UUID[] NOT NULL,        -- new or changed, as far as no event of the commit names them
    agents      TEXT[] NOT NULL,        -- new or changed
    sessions    UUID[] NOT NULL,        -- new, changed or ended: those without a row have ended
    nodes       BIGINT[] NOT NULL,      -- new or changed
    dismissed_sessions  UUID[] NOT NULL,   -- sockets that are to be sent a dismissal
    dismissed_positions BIGINT[] NOT NULL  -- and, for each, where its words are in the journal
) WITH (fillfactor = 50);

-- How old a router may be that works on this schema: the newest migration that it knows is this one or a later one.
CREATE TABLE compatibility (
    one    BIGINT PRIMARY KEY CHECK (one = 1),
    oldest BIGINT NOT NULL
);

INSERT INTO compatibility (one, oldest) VALUES (1, 3);
