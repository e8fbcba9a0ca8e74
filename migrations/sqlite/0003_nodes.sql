-- Several routers on one journal. (On SQLite there is one at a time; its rows are the same.)

INSERT INTO event_kinds (code, name) VALUES
    (5, 'node.lost'),
    (6, 'node.returned');

-- Which of its lives a router is in: each start under the same name is the next, from 1.
ALTER TABLE nodes ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
-- 1 up, 2 draining, 3 stopped, 4 lost.
ALTER TABLE nodes ADD COLUMN standing INTEGER NOT NULL DEFAULT 3;
ALTER TABLE nodes ADD COLUMN version TEXT NOT NULL DEFAULT '';
-- Microseconds: when this life began.
ALTER TABLE nodes ADD COLUMN started_at INTEGER NOT NULL DEFAULT 0;

-- nodes.code: the router that holds it. Those that are there already are of a router that is gone.
ALTER TABLE sessions ADD COLUMN node INTEGER NOT NULL DEFAULT 1;
-- 0 is sent invocations, 1 will be, 2 a newer one registered, 3 asked for no more, 4 an operator wants it gone.
ALTER TABLE sessions ADD COLUMN standing INTEGER NOT NULL DEFAULT 0;
-- How many invocations it takes at once; 0: it has not registered.
ALTER TABLE sessions ADD COLUMN max_in_flight INTEGER NOT NULL DEFAULT 0;

-- nodes.code: the router that accepted it.
ALTER TABLE invocations ADD COLUMN home INTEGER NOT NULL DEFAULT 1;

-- How old a router may be that works on this schema: the newest migration that it knows is this one or a later one.
CREATE TABLE compatibility (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    oldest INTEGER NOT NULL
) STRICT;

INSERT INTO compatibility (one, oldest) VALUES (1, 3);
