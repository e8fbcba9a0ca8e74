//! The defaults and bounds of the protocol.

use std::time::Duration;

use super::reader::Reader;
use super::variables as v;

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const MONTH: Duration = Duration::from_hours(30 * 24);
const YEAR: Duration = Duration::from_hours(365 * 24);

/// What an invocation gets when its caller does not say, and the most of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long an invocation may be queued while its agent is away; zero never waits. At most `max_deadline`.
    pub default_ttl: Duration,
    /// Accepted to finished. At most `max_deadline`.
    pub default_deadline: Duration,
    /// The longest ttl and deadline that a caller may ask for.
    pub max_deadline: Duration,
    /// How often receipted work may be started. At most `max_attempts`.
    pub default_max_attempts: u32,
    /// The most attempts that a caller may ask for.
    pub max_attempts: u32,
    /// How often an invocation is delivered without a receipt before it fails.
    pub max_deliveries: u32,
    /// How long after its connection ended an agent still gets its invocations queued.
    pub agent_grace: Duration,
    /// How long interrupted work waits to be adopted.
    pub resume_grace: Duration,
    /// How long after connecting what waits is sent to a socket that has not registered.
    pub drain_delay: Duration,
    /// How long an answer waits for a caller that is away.
    pub answer_ttl: Duration,
    /// How long an idempotency key stays taken after the end of its invocation.
    pub idempotency_ttl: Duration,
    /// How long a notification waits for a backend that is away.
    pub feed_ttl: Duration,
    /// How long a backend may answer no notification before it is taken for one that never does.
    pub feed_ack_timeout: Duration,
    /// The most invocations that one agent was sent and has not answered.
    pub max_in_flight: u32,
    /// The most invocations that wait for one agent.
    pub max_queued: u32,
    /// The most bytes that wait for one agent.
    pub max_queued_bytes: usize,
    /// The most unfinished invocations of all agents.
    pub max_open_invocations: u64,
    /// The most refusals of one source that are journaled one by one in a second.
    pub refusals_per_second: u32,
}

impl Limits {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let max_deadline = reader.duration(&v::MAX_DEADLINE, MILLISECOND..=YEAR);
        let max_attempts = reader.count(&v::MAX_ATTEMPTS_LIMIT, 1..=10_000);
        Self {
            default_ttl: reader.duration_within(&v::DEFAULT_TTL, Duration::ZERO..=max_deadline),
            default_deadline: reader.duration_within(&v::DEFAULT_DEADLINE, MILLISECOND..=max_deadline),
            max_deadline,
            default_max_attempts: reader.count(&v::DEFAULT_MAX_ATTEMPTS, 1..=max_attempts),
            max_attempts,
            max_deliveries: reader.count(&v::MAX_DELIVERIES, 1..=1_000),
            agent_grace: reader.duration(&v::AGENT_GRACE, Duration::ZERO..=MONTH),
            resume_grace: reader.duration(&v::RESUME_GRACE, Duration::ZERO..=DAY),
            drain_delay: reader.duration(&v::DRAIN_DELAY, Duration::ZERO..=MINUTE),
            answer_ttl: reader.duration(&v::ANSWER_TTL, Duration::ZERO..=MONTH),
            idempotency_ttl: reader.duration(&v::IDEMPOTENCY_TTL, Duration::ZERO..=YEAR),
            feed_ttl: reader.duration(&v::FEED_TTL, Duration::ZERO..=MONTH),
            feed_ack_timeout: reader.duration(&v::FEED_ACK_TIMEOUT, MILLISECOND..=60 * MINUTE),
            max_in_flight: reader.count(&v::MAX_IN_FLIGHT, 1..=100_000),
            max_queued: reader.count(&v::MAX_QUEUED, 1..=1_000_000),
            max_queued_bytes: reader.size(&v::MAX_QUEUED_BYTES, 1 << 10..=64 << 30),
            max_open_invocations: reader.count(&v::MAX_OPEN_INVOCATIONS, 1..=1_000_000_000),
            refusals_per_second: reader.count(&v::REFUSALS_PER_SECOND, 1..=10_000),
        }
    }
}

/// How sockets are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketSettings {
    /// The largest frame that is sent, in bytes. Frames up to four times that are read.
    pub max_frame_bytes: usize,
    /// The most WebSockets at the same time.
    pub max_connections: usize,
    /// The most connections that are no WebSockets.
    pub max_http_connections: usize,
    /// The most answers that are streamed at the same time.
    pub max_streams: usize,
    /// How long a live history is streamed.
    pub stream_lifetime: Duration,
    /// How often a socket is pinged; two misses and the peer is dead.
    pub ping_interval: Duration,
    /// How long a peer may leave unread what it is sent.
    pub slow_reader_timeout: Duration,
    /// How long a new connection may take to its first byte, and to the end of a request's headers.
    pub header_timeout: Duration,
}

impl SocketSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            max_frame_bytes: reader.size(&v::MAX_FRAME_BYTES, 16 << 10..=16 << 20),
            max_connections: reader.count(&v::MAX_CONNECTIONS, 1..=1_000_000),
            max_http_connections: reader.count(&v::MAX_HTTP_CONNECTIONS, 16..=1_000_000),
            max_streams: reader.count(&v::MAX_STREAMS, 1..=10_000),
            stream_lifetime: reader.duration(&v::STREAM_LIFETIME, 100 * MILLISECOND..=DAY),
            ping_interval: reader.duration(&v::PING_INTERVAL, 10 * MILLISECOND..=60 * MINUTE),
            slow_reader_timeout: reader.duration(&v::SLOW_READER_TIMEOUT, 10 * MILLISECOND..=60 * MINUTE),
            header_timeout: reader.duration(&v::HEADER_TIMEOUT, 10 * MILLISECOND..=60 * MINUTE),
        }
    }
}
