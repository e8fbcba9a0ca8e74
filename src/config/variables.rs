//! Every variable that the router reads: the one list behind the parser, `.env.example` and the tests that compare them.

/// A setting, as an operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// The name in the environment.
    pub name: &'static str,
    /// What counts when it is unset or empty, written as an operator would write it; `None` if nothing does, or if it is
    /// computed.
    pub default: Option<&'static str>,
    /// What it is for, in a sentence or two.
    pub help: &'static str,
}

macro_rules! variables {
    ($($name:ident = $default:expr, $help:literal;)*) => {
        $(
            pub(super) const $name: Variable = Variable { name: stringify!($name), default: $default, help: $help };
        )*

        /// All of them, in the order of `.env.example`.
        pub const VARIABLES: &[Variable] = &[$($name),*];
    };
}

variables! {
    LISTEN_ADDR = Some("127.0.0.1:8080"),
        "Where the router listens: an IP address (or localhost) and a port; port 0 takes a free one. Any address but a loopback one asks for SECRET_KEY and for master keys of your own.";
    DATABASE_URL = Some("sqlite://agent-router.db"),
        "The journal: sqlite:// and the path of a file, relative to the working directory unless it begins with a slash; or postgres://user:password@host:port/database, which several routers may share. Of its parameters, sslmode and sslrootcert are for TLS (sslmode=verify-full), and statement-cache-capacity=0 is for a transaction pooler.";
    NOTIFY_DATABASE_URL = None,
        "The same Postgres database past its transaction pooler, for the connection on which routers wake each other and on which `migrate` works. Without it, behind such a pooler, routers look once a second.";
    NODE_ID = None,
        "The name of this router in the journal: the same after every restart, and another one for each router on the same database. By default the host name and LISTEN_ADDR, which is not enough in containers whose host name changes.";

    MASTER_BE_API_KEY = Some("7a3fd399-3e48-46a0-ab7c-0eaf38020283::master_server_be"),
        "The key that makes a peer the backend, master_server_be. The default is published: good for loopback only.";
    MASTER_AGENT_API_KEY = Some("e1adc3d8-fca1-40b2-b90a-7b48290f2d6a::master_server_ml"),
        "The key that makes a peer the master agent, master_server_ml. The default is published: good for loopback only.";
    AUDITOR_API_KEY = None,
        "The key with which auditors read everything over HTTP; several, comma-separated, while keys are rotated. Unset: in development mode the published local-auditor, else nobody.";
    OPERATOR_API_KEY = None,
        "The key with which operators see metrics, disconnect agents, drain the router and erase payloads; several, comma-separated, while keys are rotated. Unset: in development mode the published local-operator, else nobody.";
    SECRET_KEY = None,
        "Verifies agents' tokens (HS256); the same as the backend's. 32 bytes or more, for example from: openssl rand -hex 32. Unset: development mode, in which agents' tokens are not verified, on loopback only.";
    ALLOWED_ORIGINS = None,
        "Web pages that may open a socket, comma-separated, such as https://console.example.com. Unset: none; peers that are no browsers send no origin and need nothing here.";

    DEFAULT_TTL = Some("60s"),
        "How long an invocation may wait for an agent that is away, unless its caller says otherwise. 0 never waits. The default is MAX_DEADLINE if that is shorter.";
    DEFAULT_DEADLINE = Some("15m"),
        "The time from acceptance to the answer, unless the caller says otherwise. The default is MAX_DEADLINE if that is shorter.";
    MAX_DEADLINE = Some("7d"),
        "The longest ttl and the longest deadline that a caller may ask for.";
    DEFAULT_MAX_ATTEMPTS = Some("1"),
        "How often work may be started that an agent lost after receiving it, unless the caller says otherwise. More than 1 repeats side effects.";
    MAX_ATTEMPTS_LIMIT = Some("100"),
        "The most attempts that a caller may ask for.";
    MAX_DELIVERIES = Some("3"),
        "How often an invocation is sent without a sign that the agent has read it, before it fails.";
    AGENT_GRACE = Some("60s"),
        "How long after its connection ended invocations are still queued for an agent without being asked to. 0 never queues.";
    RESUME_GRACE = Some("30s"),
        "How long interrupted work waits for its agent to come back and say that it is still at it.";
    DRAIN_DELAY = Some("500ms"),
        "How long after connecting an agent that has not registered is sent what waits for it.";
    ANSWER_TTL = Some("1h"),
        "How long an answer waits for a caller that is away. Over HTTP it can be read later too.";
    IDEMPOTENCY_TTL = Some("24h"),
        "How long after the end of its invocation an idempotency key stays taken.";

    REDACT_KEYS = Some("api_key,password,secret,token,authorization,credentials"),
        "Fields whose values are hidden in everything that is read back, comma-separated; their case, hyphens and underscores do not count. Agents and callers get the real ones. A single comma hides none.";
    RETENTION_DAYS = None,
        "How many days the journal keeps what happened; older events are removed, with their invocations. Unset: for ever.";

    FEED_TTL = Some("1h"),
        "How long notifications wait for a backend that is away.";
    FEED_ACK_TIMEOUT = Some("5s"),
        "A backend that has answered no notification for so long is taken for one that never does.";

    MAX_IN_FLIGHT = Some("1000"),
        "The most invocations that one agent has been sent and not answered.";
    MAX_QUEUED = Some("1000"),
        "The most invocations that wait for one agent. The next is refused.";
    MAX_QUEUED_BYTES = Some("64MiB"),
        "The most that the invocations waiting for one agent weigh together.";
    MAX_OPEN_INVOCATIONS = Some("1000000"),
        "The most unfinished invocations of all agents together. The next is refused.";
    RATE_LIMIT = None,
        "The most invocations a second of one identity, a master or an agent, on all its sockets and over HTTP together; after a colon, how many may come at once after a pause: 100, or 100:500. The next is refused. off: none. Unset: in secured mode 1000:5000 for agents and none for masters, in development mode none.";
    REFUSALS_PER_SECOND = Some("10"),
        "The most refusals and bad frames of one source that are journaled one by one in a second; the rest as a count.";

    MAX_FRAME_BYTES = Some("1MiB"),
        "The largest frame that is sent to anyone. The stock clients close the connection above 1MiB.";
    MAX_CONNECTIONS = Some("20000"),
        "The most WebSockets that are open at the same time.";
    MAX_HTTP_CONNECTIONS = Some("16384"),
        "The most connections that are no WebSockets; each request that waits has one. More wait to be accepted.";
    MAX_STREAMS = Some("64"),
        "The most answers that are streamed at the same time: exports and live histories. More are refused.";
    STREAM_LIFETIME = Some("1h"),
        "How long a live history is streamed before its reader has to connect again, which loses nothing.";
    PING_INTERVAL = Some("20s"),
        "How often each socket is pinged. A peer that misses two pings is taken for dead.";
    SLOW_READER_TIMEOUT = Some("10s"),
        "How long a peer may leave what it is sent unread before its socket is closed.";
    HEADER_TIMEOUT = Some("10s"),
        "How long a new connection may take to send its first byte and its request's headers.";

    SHUTDOWN_GRACE = Some("10s"),
        "How long a shutdown may take; then what is left is cut off.";
    LOG_FORMAT = Some("text"),
        "How log lines look, on standard error: text or json.";
    RUST_LOG = Some("info"),
        "What is logged: a level, or levels by module such as info,agent_router=debug.";
}
