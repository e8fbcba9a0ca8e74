//! The limits an operator sets, and what a caller may ask for within them.

use std::time::Duration;

use crate::clock::Timestamp;

/// Every limit and default that decides the life of an invocation.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long an invocation may be queued while its agent is not connected, unless its caller said.
    pub default_ttl: Duration,
    /// From accepted to finished, unless the caller said.
    pub default_deadline: Duration,
    /// The longest ttl and deadline that is given.
    pub max_deadline: Duration,
    /// How often receipted work may start, unless the caller said.
    pub default_max_attempts: u32,
    /// The most that a caller may ask for.
    pub max_max_attempts: u32,
    /// Deliveries without a receipt after which an invocation fails.
    pub max_deliveries: u32,
    /// How long after its last connection a known agent's invocations are queued without being asked to.
    pub agent_grace: Duration,
    /// How long interrupted work waits for its agent.
    pub resume_grace: Duration,
    /// How long a finished answer waits for its caller's next own socket.
    pub answer_ttl: Duration,
    /// How long past its deadline an unanswered delivery keeps the plain `invoked_by` that it carried for itself.
    pub late_answer_ttl: Duration,
    /// Deliveries to one agent that carry a plain `invoked_by` and are unanswered.
    pub max_plain: usize,
    /// How long after the end an idempotency key is remembered.
    pub idempotency_ttl: Duration,
    /// How long a socket that has not registered waits before it gets what is queued.
    pub drain_delay: Duration,
    /// Invocations delivered to one agent and not answered.
    pub max_in_flight: u32,
    /// Invocations waiting for one agent.
    pub max_queued: usize,
    /// Bytes waiting for one agent.
    pub max_queued_bytes: u64,
    /// Open invocations of all agents.
    pub max_open: usize,
    /// The largest frame that is sent.
    pub max_frame_bytes: usize,
    /// Refusals journaled a second, per source.
    pub refusals_per_second: u32,
    /// Whether identities must be UUIDs (a `SECRET_KEY` is set).
    pub secured: bool,
}

/// What was agreed for one invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long it may be queued while its agent is not connected. Zero: never queued.
    pub ttl: Duration,
    /// Whether the caller asked for that ttl, so that it waits for any known agent.
    pub ttl_given: bool,
    /// When it must be finished.
    pub deadline: Timestamp,
    /// How often receipted work may start.
    pub max_attempts: u32,
}

/// A caller asked for something that is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("max_attempts is more than {0}, the most that is given")]
pub struct TermsError(pub u32);

impl Policy {
    /// The terms for an invocation accepted at `now`; times are cut to the longest that is given.
    pub fn terms(
        &self,
        now: Timestamp,
        ttl: Option<Duration>,
        deadline: Option<Duration>,
        max_attempts: Option<u32>,
    ) -> Result<Terms, TermsError> {
        let max_attempts = max_attempts.unwrap_or(self.default_max_attempts);
        if max_attempts > self.max_max_attempts {
            return Err(TermsError(self.max_max_attempts));
        }
        Ok(Terms {
            ttl: ttl.unwrap_or(self.default_ttl).min(self.max_deadline),
            ttl_given: ttl.is_some(),
            deadline: now + deadline.unwrap_or(self.default_deadline).min(self.max_deadline),
            max_attempts,
        })
    }
}

impl Default for Policy {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_mins(1);
        Self {
            default_ttl: MINUTE,
            default_deadline: 15 * MINUTE,
            max_deadline: 7 * 24 * 60 * MINUTE,
            default_max_attempts: 1,
            max_max_attempts: 100,
            max_deliveries: 3,
            agent_grace: MINUTE,
            resume_grace: MINUTE / 2,
            answer_ttl: 60 * MINUTE,
            late_answer_ttl: 24 * 60 * MINUTE,
            max_plain: 1024,
            idempotency_ttl: 24 * 60 * MINUTE,
            drain_delay: Duration::from_millis(500),
            max_in_flight: 1000,
            max_queued: 1000,
            max_queued_bytes: 64 << 20,
            max_open: 1_000_000,
            max_frame_bytes: 1 << 20,
            refusals_per_second: 10,
            secured: false,
        }
    }
}
