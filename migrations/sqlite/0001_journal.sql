-- The journal, and the rows that it amounts to. To read it:
--
--     sqlite3 -readonly agent-router.db "SELECT * FROM history ORDER BY position DESC LIMIT 20"
--
-- Times are microseconds since 1970-01-01T00:00:00Z. Ids of invocations and sessions are UUIDs of 16 bytes, version 7, so
-- that new ones are always at the end of a table. Columns named *_id with text are identities: an agent's id or a master's
-- name.

-- The kinds of events. The numbers are in the hash chain: they never change.
CREATE TABLE event_kinds (
    code INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE           -- dotted, past tense
) STRICT;

INSERT INTO event_kinds (code, name) VALUES
    ( 1, 'node.started'),
    ( 2, 'node.stopped'),
    (10, 'agent.connected'),
    (11, 'agent.registered'),
    (12, 'agent.unregistered'),
    (13, 'agent.disconnected'),
    (14, 'agent.logged'),
    (15, 'agent.dismissed'),
    (20, 'invocation.accepted'),
    (21, 'invocation.refused'),
    (22, 'invocation.delivered'),
    (23, 'invocation.started'),
    (24, 'invocation.interrupted'),
    (25, 'invocation.requeued'),
    (26, 'invocation.completed'),
    (27, 'invocation.failed'),
    (28, 'invocation.expired'),
    (29, 'invocation.timed_out'),
    (30, 'invocation.cancelled'),
    (40, 'answer.delivered'),
    (41, 'answer.duplicate'),
    (42, 'answer.late'),
    (43, 'answer.unmatched'),
    (44, 'answer.expired'),
    (50, 'connection.refused'),
    (51, 'frame.refused'),
    (60, 'feed.acknowledged'),
    (70, 'journal.recovered');

-- The states of invocations.
CREATE TABLE states (
    code INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE           -- as over HTTP
) STRICT;

INSERT INTO states (code, name) VALUES
    (1, 'queued'),
    (2, 'delivered'),
    (3, 'running'),
    (4, 'interrupted'),
    (5, 'completed'),
    (6, 'failed'),
    (7, 'expired'),
    (8, 'timed_out'),
    (9, 'cancelled');

-- The routers that ever wrote here.
CREATE TABLE nodes (
    code INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE           -- NODE_ID
) STRICT;

-- What happened, in order. A row is never changed, except that its payload and salt may be erased.
CREATE TABLE journal (
    position      INTEGER PRIMARY KEY,  -- contiguous, from 1
    at            INTEGER NOT NULL,     -- microseconds: when it was decided
    kind          INTEGER NOT NULL,     -- event_kinds.code
    node          INTEGER NOT NULL,     -- nodes.code: the router that wrote it
    invocation_id BLOB,                 -- the invocation that it is about
    agent_id      TEXT,                 -- the agent that it is about
    caller        TEXT,                 -- the caller that it is about
    detail        TEXT NOT NULL,        -- the facts of this kind: a JSON object, exactly as it was hashed
    hash          BLOB NOT NULL,        -- SHA-256 (32 bytes) of the previous hash and this event: see docs in chain.rs
    payload_hash  BLOB,                 -- SHA-256 (32 bytes) of salt and payload; NULL: there never was a payload
    salt          BLOB,                 -- 16 random bytes, so that nobody can guess a short payload from its hash
    payload       BLOB                  -- a peer's own bytes, as they came; mostly JSON in UTF-8
) STRICT;

-- For: the history of one invocation, in order.
CREATE INDEX journal_by_invocation ON journal (invocation_id) WHERE invocation_id IS NOT NULL;

-- For: what the backend has still to be told (registered, disconnected, logged), in order.
CREATE INDEX journal_for_feed ON journal (position) WHERE kind IN (11, 13, 14);

-- For: the history of one agent. Says in which blocks of 1,024 positions (position / 1024) it occurs, so that a reader looks
-- through those alone; an index with every event of every agent would cost a quarter of the throughput.
CREATE TABLE agent_blocks (
    agent_id TEXT NOT NULL,
    block    INTEGER NOT NULL,
    PRIMARY KEY (agent_id, block)
) STRICT, WITHOUT ROWID;

-- For: the history of one kind of event, in the same way.
CREATE TABLE kind_blocks (
    kind  INTEGER NOT NULL,
    block INTEGER NOT NULL,
    PRIMARY KEY (kind, block)
) STRICT, WITHOUT ROWID;

-- The newest event. One row; each commit moves it on from where the last one left it.
CREATE TABLE journal_head (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL,          -- 0: the journal is empty
    hash     BLOB NOT NULL              -- its hash; zeroes: the journal is empty
) STRICT;

INSERT INTO journal_head (one, position, hash) VALUES (1, 0, zeroblob(32));

-- How far the backend has its notifications. One row.
CREATE TABLE feed (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    acknowledged INTEGER NOT NULL       -- the position of the last notification that the backend has
) STRICT;

INSERT INTO feed (one, acknowledged) VALUES (1, 0);

-- Every invocation that was ever accepted, and where it stands. Its body and answer are in the journal.
CREATE TABLE invocations (
    id               BLOB PRIMARY KEY,
    -- Written once:
    agent_id         TEXT NOT NULL,     -- whom it is for
    caller           TEXT NOT NULL,     -- who asked
    origin           INTEGER NOT NULL,  -- 1 a bare caller's socket, 2 a registered peer's, 3 an invoke socket, 4 a client message
    origin_session   BLOB,              -- the connection by which it came in; NULL for 4
    additions        INTEGER NOT NULL,  -- 1: the caller sees what this router adds to answers
    accepted         INTEGER NOT NULL,  -- the position of its invocation.accepted, which has its body as payload
    accepted_at      INTEGER NOT NULL,  -- microseconds
    body_bytes       INTEGER NOT NULL,  -- the size of its body
    ttl              INTEGER NOT NULL,  -- microseconds that it may be queued for an absent agent
    ttl_given        INTEGER NOT NULL,  -- 1: the caller asked for that ttl
    deadline         INTEGER NOT NULL,  -- microseconds: when it must be finished
    max_attempts     INTEGER NOT NULL,  -- how often receipted work may start
    idempotency_key  TEXT,              -- the caller's key against doing it twice
    key_digest       BLOB,              -- SHA-256 (32 bytes) of request_payload, if there is a key
    request_id       TEXT,              -- request_metadata.request_id
    session_id       TEXT,              -- request_metadata.session_id
    -- Where it stands:
    state            INTEGER NOT NULL,  -- states.code
    attempt          INTEGER NOT NULL,  -- deliveries so far
    unreceipted      INTEGER NOT NULL,  -- deliveries whose connection was lost before a receipt
    starts           INTEGER NOT NULL,  -- deliveries that were receipted
    receipted        INTEGER NOT NULL,  -- 1: the last delivery is one of them
    delivered_at     INTEGER,           -- microseconds: the last delivery
    plain_unanswered INTEGER NOT NULL,  -- 1: a delivery with the plain invoked_by has not been answered
    session          BLOB,              -- delivered, running: the connection it is at work on
    queued_since     INTEGER,           -- queued: microseconds, this time
    resume_until     INTEGER,           -- interrupted: microseconds: when its agent is no longer waited for
    finished_at      INTEGER,           -- finished: microseconds
    answer           INTEGER,           -- finished by an answer: the position of the event with it as payload
    code             TEXT,              -- failed by the router: its error.code
    reply            INTEGER NOT NULL,  -- 0 nothing to tell (yet), 1 owed to the caller's next socket, 2 sent and not confirmed
    reply_session    BLOB               -- for 2: the connection it was sent on
) STRICT, WITHOUT ROWID;

-- For: what a router has to go on with after a restart: finished ones whose answer is still on its way, and open ones.
CREATE INDEX invocations_unsettled ON invocations (accepted)
    WHERE state < 5 OR plain_unanswered = 1 OR reply <> 0;

-- For: the newest invocation with an idempotency key.
CREATE INDEX invocations_by_key ON invocations (caller, agent_id, idempotency_key, accepted)
    WHERE idempotency_key IS NOT NULL;

-- Agents and masters that ever registered.
CREATE TABLE agents (
    agent_id   TEXT PRIMARY KEY,
    registered INTEGER,                 -- the position of its last agent.registered; NULL: it never did
    last_seen  INTEGER                  -- microseconds: when its last connection ended; NULL: none did
) STRICT, WITHOUT ROWID;

-- Sockets of peers that nobody saw end.
CREATE TABLE sessions (
    id           BLOB PRIMARY KEY,
    identity     TEXT NOT NULL,         -- whose
    registered   INTEGER,               -- the position of the agent.registered on this socket; NULL: not yet
    version      INTEGER NOT NULL,      -- the protocol version that it registered with; 1 before
    connected_at INTEGER NOT NULL       -- microseconds
) STRICT, WITHOUT ROWID;

-- The journal for people: names, dates and text in place of numbers and bytes.
CREATE VIEW history AS
    SELECT
        position,
        strftime('%Y-%m-%dT%H:%M:%S', at / 1000000, 'unixepoch') || printf('.%06dZ', at % 1000000) AS at,
        event_kinds.name AS kind,
        nodes.name AS node,
        CASE WHEN invocation_id IS NOT NULL THEN lower(
            substr(hex(invocation_id), 1, 8) || '-' || substr(hex(invocation_id), 9, 4) || '-' ||
            substr(hex(invocation_id), 13, 4) || '-' || substr(hex(invocation_id), 17, 4) || '-' ||
            substr(hex(invocation_id), 21)
        ) END AS invocation_id,
        agent_id,
        caller,
        detail,
        CAST(payload AS TEXT) AS payload,
        lower(hex(hash)) AS hash
    FROM journal
    LEFT JOIN event_kinds ON event_kinds.code = journal.kind
    LEFT JOIN nodes ON nodes.code = journal.node;
