//! What becomes of what is asked of the router over HTTP.

use std::time::Duration;

use crate::code::ErrorCode;
use crate::id::InvocationId;

/// What became of an invocation over HTTP that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its id.
    pub invocation: InvocationId,
    /// It had been taken before, with the same idempotency key.
    pub replayed: bool,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// It was refused, and nothing came of it.
    Refused(ErrorCode),
    /// The caller asks more often than it may, and nothing came of it.
    RateLimited {
        /// When it may again.
        retry_after: Duration,
    },
    /// There is no such invocation, or it is not the asker's.
    NotFound,
    /// The invocation is not finished.
    StillOpen,
    /// The router ended in the middle of a commit: nobody knows before its next start whether the journal has it.
    Unknown,
}
