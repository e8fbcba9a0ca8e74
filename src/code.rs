//! The catalogue of error codes: for each, what it means, what to do about it, and how existing
//! clients are told.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why an invocation was refused or ended without an answer: `error.code` on the wire, `code` over
/// HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No agent of that id has ever registered. Check the id, or start the agent once.
    AgentUnknown,
    /// The agent has been away for longer than the grace, or the caller did not want to wait. Try
    /// again later, or say with `ttl_ms` how long to wait.
    AgentAway,
    /// The invocation waited for its agent for its whole ttl. Try again when the agent is back, or
    /// wait longer.
    Expired,
    /// The deadline passed before an answer came. The agent may still be working: give long work a
    /// longer deadline.
    TimedOut,
    /// The agent's connection was lost while it worked, and no attempts were left. The work may
    /// have been done in part: look before trying again, or allow more attempts if the work is
    /// idempotent.
    AgentLost,
    /// The caller cancelled it. Nothing to do.
    Cancelled,
    /// As many invocations wait for the agent as may. Try again after `retry_after_ms`.
    QueueFull,
    /// The idempotency key belongs to an earlier request with another payload. Use a new key.
    IdempotencyKeyReused,
    /// The caller may not invoke this agent. Use a credential that may.
    NotAllowed,
    /// The frame, or the answer, is larger than the largest frame that may be sent. Send a
    /// reference to the contents; an answer can still be read over HTTP.
    FrameTooLarge,
    /// The caller asks more often than it may (`RATE_LIMIT`). Slow down, and try again after `retry_after_ms`.
    RateLimited,
    /// The journal could not be written, so nothing was accepted. Try again; the operator has to
    /// look at the database.
    JournalUnavailable,
    /// The router is about to stop and accepts nothing new. Connect again in a moment.
    ShuttingDown,
    /// The request cannot be understood. Correct it.
    Malformed,
}

/// A text that names no error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such error code")]
pub struct UnknownErrorCode;

impl ErrorCode {
    /// Every code, in the order of the protocol page.
    pub const ALL: [Self; 14] = [
        Self::AgentUnknown,
        Self::AgentAway,
        Self::Expired,
        Self::TimedOut,
        Self::AgentLost,
        Self::Cancelled,
        Self::QueueFull,
        Self::IdempotencyKeyReused,
        Self::NotAllowed,
        Self::FrameTooLarge,
        Self::RateLimited,
        Self::JournalUnavailable,
        Self::ShuttingDown,
        Self::Malformed,
    ];

    /// The code as it is written: `agent_unknown`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AgentUnknown => "agent_unknown",
            Self::AgentAway => "agent_away",
            Self::Expired => "expired",
            Self::TimedOut => "timed_out",
            Self::AgentLost => "agent_lost",
            Self::Cancelled => "cancelled",
            Self::QueueFull => "queue_full",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::NotAllowed => "not_allowed",
            Self::FrameTooLarge => "frame_too_large",
            Self::RateLimited => "rate_limited",
            Self::JournalUnavailable => "journal_unavailable",
            Self::ShuttingDown => "shutting_down",
            Self::Malformed => "malformed",
        }
    }

    /// The fixed `error_message` of the wire. Several codes share one, as existing clients know
    /// only that much.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::AgentUnknown | Self::AgentAway | Self::Expired | Self::NotAllowed => "Agent is NOT active",
            Self::TimedOut => "Request timed out",
            Self::AgentLost => "Agent has been unregistered",
            Self::Cancelled => "Cancelled",
            Self::QueueFull => "Queue is full",
            Self::IdempotencyKeyReused => "Idempotency key was used for another request",
            Self::FrameTooLarge => "Frame is too large",
            Self::RateLimited => "Too many requests",
            Self::JournalUnavailable => "Journal is unavailable",
            Self::ShuttingDown => "Router is shutting down",
            Self::Malformed => "Request is malformed",
        }
    }

    /// The `error_type` of the wire, which clients map to an exception. (The frame of
    /// [`Self::AgentLost`] names the agent in its place.)
    #[must_use]
    pub const fn error_type(self) -> &'static str {
        match self {
            Self::AgentUnknown | Self::AgentAway | Self::Expired | Self::NotAllowed => "AgentNotActive",
            Self::TimedOut
            | Self::AgentLost
            | Self::Cancelled
            | Self::QueueFull
            | Self::IdempotencyKeyReused
            | Self::FrameTooLarge
            | Self::RateLimited
            | Self::JournalUnavailable
            | Self::ShuttingDown
            | Self::Malformed => "AgentGeneralError",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ErrorCode {
    type Err = UnknownErrorCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|code| code.as_str() == text).ok_or(UnknownErrorCode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_the_same_everywhere_and_read_back() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(code.to_string(), code.as_str());
            assert_eq!(code.as_str().parse(), Ok(code));
        }
        assert_eq!("AgentUnknown".parse::<ErrorCode>(), Err(UnknownErrorCode));
    }

    #[test]
    fn existing_clients_are_told_one_of_two_types() {
        let not_active: Vec<_> =
            ErrorCode::ALL.into_iter().filter(|code| code.error_type() == "AgentNotActive").collect();
        assert_eq!(
            not_active,
            [ErrorCode::AgentUnknown, ErrorCode::AgentAway, ErrorCode::Expired, ErrorCode::NotAllowed]
        );
        assert!(not_active.iter().all(|code| code.message() == "Agent is NOT active"));
    }
}
