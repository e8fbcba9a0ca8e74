//! What readers of the journal get: events and invocations as they are stored, for people and programs to look at.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, Position};
use crate::invocation::StateName;
use crate::journal::{EventKind, Head};

/// An event, read back.
#[derive(Clone, Debug)]
pub struct EventRecord {
    /// Its place.
    pub position: Position,
    /// When it was decided.
    pub at: Timestamp,
    /// What kind of thing happened.
    pub kind: EventKind,
    /// The router that wrote it.
    pub node: String,
    /// The invocation that it is about.
    pub invocation: Option<InvocationId>,
    /// The agent that it is about.
    pub agent: Option<Identity>,
    /// The caller that it is about.
    pub caller: Option<Identity>,
    /// The facts that belong to it: a JSON object, exactly as it was hashed.
    pub detail: String,
    /// A peer's own bytes.
    pub payload: Option<Bytes>,
    /// The hash of the chain up to and with this event.
    pub hash: [u8; 32],
}

/// An invocation, read back.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the field of the same name of `Invocation` and of the HTTP interface")]
pub struct InvocationRecord {
    pub id: InvocationId,
    pub agent: Identity,
    pub caller: Identity,
    pub state: StateName,
    pub attempt: u32,
    pub max_attempts: u32,
    pub request_id: Option<String>,
    pub session_id: Option<String>,
    pub accepted_at: Timestamp,
    pub delivered_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub ttl_ms: u64,
    pub deadline: Timestamp,
    pub idempotency_key: Option<String>,
    /// The body that was passed on: an object with `request_payload`, `request_metadata` and what else the caller sent.
    pub body: Option<Bytes>,
    /// The agent's answer as it was passed on.
    pub answer: Option<Bytes>,
    /// Why the router ended it, if the router did.
    pub code: Option<ErrorCode>,
}

/// Which events a reader wants; those that match all that is set.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each is the field of the same name of `EventRecord`")]
pub struct HistoryFilter {
    pub invocation: Option<InvocationId>,
    pub agent: Option<Identity>,
    pub kind: Option<EventKind>,
}

/// What a check of the whole chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Every event is as it was written.
    Intact {
        /// How many there are.
        events: u64,
        /// The newest.
        head: Head,
    },
    /// The first thing that is not as it was written.
    Broken {
        /// Where.
        position: Position,
        /// What is wrong there.
        what: String,
    },
}
