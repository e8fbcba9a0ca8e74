//! What the journal says: one event for each thing that happened.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, Position, SessionId};
use crate::invocation::Labels;

/// One thing that happened, at its place in the journal.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its place: contiguous, from 1.
    pub position: Position,
    /// When it was decided.
    pub at: Timestamp,
    /// The invocation that it is about.
    pub invocation: Option<InvocationId>,
    /// The agent that it is about.
    pub agent: Option<Identity>,
    /// The caller that it is about.
    pub caller: Option<Identity>,
    /// What happened, and the facts that belong to it.
    pub detail: Detail,
    /// A peer's own bytes, kept as they came.
    pub payload: Option<Bytes>,
    /// The request and the user session that it belongs to, by which it can be found.
    pub labels: Labels,
}

macro_rules! event_kinds {
    ($($variant:ident = $code:literal $name:literal),* $(,)?) => {
        /// The kind of an event. Names and numbers are for ever: they are in the hash chain.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i64)]
        #[expect(missing_docs, reason = "each is documented at the variant of `Detail` with the same name")]
        pub enum EventKind { $($variant = $code),* }

        impl EventKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name: dotted, past tense.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Its number in the journal's table.
            #[must_use]
            pub const fn code(self) -> i64 {
                self as i64
            }

            /// The kind with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// The kind with this number.
            #[must_use]
            pub const fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

event_kinds! {
    NodeStarted = 1 "node.started",
    NodeStopped = 2 "node.stopped",
    NodeDraining = 3 "node.draining",
    NodeResumed = 4 "node.resumed",
    NodeLost = 5 "node.lost",
    NodeReturned = 6 "node.returned",
    AgentConnected = 10 "agent.connected",
    AgentRegistered = 11 "agent.registered",
    AgentUnregistered = 12 "agent.unregistered",
    AgentDisconnected = 13 "agent.disconnected",
    AgentLogged = 14 "agent.logged",
    AgentDismissed = 15 "agent.dismissed",
    InvocationAccepted = 20 "invocation.accepted",
    InvocationRefused = 21 "invocation.refused",
    InvocationDelivered = 22 "invocation.delivered",
    InvocationStarted = 23 "invocation.started",
    InvocationInterrupted = 24 "invocation.interrupted",
    InvocationRequeued = 25 "invocation.requeued",
    InvocationCompleted = 26 "invocation.completed",
    InvocationFailed = 27 "invocation.failed",
    InvocationExpired = 28 "invocation.expired",
    InvocationTimedOut = 29 "invocation.timed_out",
    InvocationCancelled = 30 "invocation.cancelled",
    AnswerDelivered = 40 "answer.delivered",
    AnswerDuplicate = 41 "answer.duplicate",
    AnswerLate = 42 "answer.late",
    AnswerUnmatched = 43 "answer.unmatched",
    AnswerExpired = 44 "answer.expired",
    ConnectionRefused = 50 "connection.refused",
    FrameRefused = 51 "frame.refused",
    FeedAcknowledged = 60 "feed.acknowledged",
    JournalRecovered = 70 "journal.recovered",
    PayloadErased = 80 "payload.erased",
    JournalPruned = 81 "journal.pruned",
}

impl EventKind {
    /// Whether the backend may have to be told of it.
    #[must_use]
    pub const fn is_for_backend(self) -> bool {
        matches!(self, Self::AgentRegistered | Self::AgentDisconnected | Self::AgentLogged)
    }
}

/// What happened, with the facts that belong to it; the JSON of a variant is the event's `detail`.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Detail {
    /// A router started on this journal.
    NodeStarted {
        /// Its version.
        version: &'static str,
    },
    /// A router stopped in good order.
    NodeStopped {},
    /// An operator had a router take nothing new.
    NodeDraining {},
    /// An operator had it take new things again.
    NodeResumed {},
    /// Another router was not heard of for too long: its sockets are taken for ended.
    NodeLost {
        /// Its name.
        node: Arc<str>,
    },
    /// A router that was taken for lost goes on, without the sockets that it had.
    NodeReturned {},
    /// A peer's own socket was accepted.
    AgentConnected {
        /// The connection.
        session: SessionId,
    },
    /// An agent, or the master agent, registered. Payload: its `request_payload`.
    AgentRegistered {
        /// The connection.
        session: SessionId,
        /// The protocol version it asked for.
        version: u8,
        /// How many invocations it takes at once.
        max_in_flight: u32,
        /// What it says it is still working on, as far as that was so.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        adopted: Vec<InvocationId>,
    },
    /// An agent asked for no more invocations.
    AgentUnregistered {
        /// The connection.
        session: SessionId,
    },
    /// A peer's own socket ended.
    AgentDisconnected {
        /// The connection.
        session: SessionId,
        /// Why.
        reason: &'static str,
        /// Whether the backend is told `agent_unregister`.
        announced: bool,
    },
    /// An agent's log line. Payload: its frame without `message_type`, `agent_uuid` and `invoked_by`.
    AgentLogged {
        /// The request it says it belongs to.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
        /// The user session it says it belongs to.
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
    },
    /// The backend told an agent to go. Payload: what it said.
    AgentDismissed {
        /// The connection it was sent on, if the agent was there.
        session: Option<SessionId>,
        /// `request_metadata.request_id`.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<Arc<str>>,
        /// `request_metadata.session_id`.
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<Arc<str>>,
    },
    /// An invocation was accepted. Payload: what is passed on of the caller's frame.
    InvocationAccepted(Accepted),
    /// An invocation was refused.
    InvocationRefused {
        /// Why.
        code: ErrorCode,
        /// `request_metadata.request_id`.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<Arc<str>>,
        /// `request_metadata.session_id`.
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<Arc<str>>,
        /// How many more of the same source were refused and not journaled one by one.
        #[serde(skip_serializing_if = "is_zero")]
        suppressed: u64,
    },
    /// An invocation was sent to its agent.
    InvocationDelivered {
        /// Which delivery this is, from 1.
        attempt: u32,
        /// The connection.
        session: SessionId,
        /// Whether it carried the plain `invoked_by`.
        plain: bool,
    },
    /// The agent has read it, or came back with it.
    InvocationStarted {
        /// Which delivery.
        attempt: u32,
        /// The connection.
        session: SessionId,
        /// Whether the agent said that it was still at work on it.
        #[serde(skip_serializing_if = "is_false")]
        adopted: bool,
    },
    /// Its connection was lost, and the agent may still come back with it.
    InvocationInterrupted {
        /// Which delivery.
        attempt: u32,
        /// Until when that is waited for.
        until: Timestamp,
    },
    /// It is queued again.
    InvocationRequeued {
        /// Which delivery was in vain.
        attempt: u32,
    },
    /// The agent answered. Payload: the answer, as it is passed on.
    InvocationCompleted {
        /// The delivery that was the last.
        attempt: u32,
    },
    /// The agent answered with an error (payload: the answer), or the router gave up (`code`).
    InvocationFailed {
        /// The delivery that was the last.
        attempt: u32,
        /// Why the router gave up.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<ErrorCode>,
    },
    /// It waited longer than its ttl for an absent agent.
    InvocationExpired {},
    /// It was not finished by its deadline.
    InvocationTimedOut {},
    /// Its caller cancelled it.
    InvocationCancelled {},
    /// A socket of its caller has the answer.
    AnswerDelivered {
        /// The connection.
        session: SessionId,
    },
    /// An answer to an invocation that an answer had ended. Payload: the answer.
    AnswerDuplicate {},
    /// An answer to an invocation that something else had ended. Payload: the answer.
    AnswerLate {},
    /// An answer that nobody asked for. Payload: the answer.
    AnswerUnmatched {
        /// The `invoked_by` that it echoed, cut at 512 bytes.
        invoked_by: String,
    },
    /// No socket of the caller fetched the answer in time; it stays readable over HTTP.
    AnswerExpired {},
    /// A connection or request was turned away.
    ConnectionRefused {
        /// Why.
        reason: String,
        /// Where it came from.
        peer: String,
        /// How many more of the same source were not journaled one by one.
        #[serde(skip_serializing_if = "is_zero")]
        suppressed: u64,
    },
    /// A frame made no sense, and its sender was told so.
    FrameRefused {
        /// The connection.
        session: SessionId,
        /// What was wrong.
        reason: String,
        /// How many more of the same source were not journaled one by one.
        #[serde(skip_serializing_if = "is_zero")]
        suppressed: u64,
    },
    /// The backend has everything up to a place.
    FeedAcknowledged {
        /// The last notification that it has.
        position: Position,
    },
    /// The journal takes commits again.
    JournalRecovered {
        /// Since when it had not.
        since: Timestamp,
    },
    /// An operator had the payloads of the invocation's events up to here removed for good.
    PayloadErased {
        /// Why, in the operator's words.
        reason: String,
        /// The request that the invocation belongs to, if it names one: the payloads of what its agent logged about it from
        /// its acceptance up to here are gone too.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<std::sync::Arc<str>>,
    },
    /// The oldest events are gone, up to and with `through`.
    JournalPruned {
        /// The last one that is gone.
        through: Position,
        /// Its hash, which the next event's covers: 64 hexadecimal digits.
        hash: String,
        /// How many went now.
        events: u64,
    },
}

/// The facts of an accepted invocation.
#[derive(Clone, Debug, Serialize)]
pub struct Accepted {
    /// The way by which it came in: `socket`, `invoke_socket`, `client_message` or `http`.
    pub origin: &'static str,
    /// The connection by which it came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Milliseconds that it may be queued for an absent agent.
    pub ttl_ms: u64,
    /// Milliseconds from its acceptance, within which it must be finished.
    pub deadline_ms: u64,
    /// How often receipted work may start.
    pub max_attempts: u32,
    /// The caller's key against doing it twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Arc<str>>,
    /// `request_metadata.request_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Arc<str>>,
    /// `request_metadata.session_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Arc<str>>,
    /// The W3C trace context that the caller sent with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Detail {
    /// The kind of the event.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::NodeStarted { .. } => EventKind::NodeStarted,
            Self::NodeStopped {} => EventKind::NodeStopped,
            Self::NodeDraining {} => EventKind::NodeDraining,
            Self::NodeResumed {} => EventKind::NodeResumed,
            Self::NodeLost { .. } => EventKind::NodeLost,
            Self::NodeReturned {} => EventKind::NodeReturned,
            Self::AgentConnected { .. } => EventKind::AgentConnected,
            Self::AgentRegistered { .. } => EventKind::AgentRegistered,
            Self::AgentUnregistered { .. } => EventKind::AgentUnregistered,
            Self::AgentDisconnected { .. } => EventKind::AgentDisconnected,
            Self::AgentLogged { .. } => EventKind::AgentLogged,
            Self::AgentDismissed { .. } => EventKind::AgentDismissed,
            Self::InvocationAccepted(_) => EventKind::InvocationAccepted,
            Self::InvocationRefused { .. } => EventKind::InvocationRefused,
            Self::InvocationDelivered { .. } => EventKind::InvocationDelivered,
            Self::InvocationStarted { .. } => EventKind::InvocationStarted,
            Self::InvocationInterrupted { .. } => EventKind::InvocationInterrupted,
            Self::InvocationRequeued { .. } => EventKind::InvocationRequeued,
            Self::InvocationCompleted { .. } => EventKind::InvocationCompleted,
            Self::InvocationFailed { .. } => EventKind::InvocationFailed,
            Self::InvocationExpired {} => EventKind::InvocationExpired,
            Self::InvocationTimedOut {} => EventKind::InvocationTimedOut,
            Self::InvocationCancelled {} => EventKind::InvocationCancelled,
            Self::AnswerDelivered { .. } => EventKind::AnswerDelivered,
            Self::AnswerDuplicate {} => EventKind::AnswerDuplicate,
            Self::AnswerLate {} => EventKind::AnswerLate,
            Self::AnswerUnmatched { .. } => EventKind::AnswerUnmatched,
            Self::AnswerExpired {} => EventKind::AnswerExpired,
            Self::ConnectionRefused { .. } => EventKind::ConnectionRefused,
            Self::FrameRefused { .. } => EventKind::FrameRefused,
            Self::FeedAcknowledged { .. } => EventKind::FeedAcknowledged,
            Self::JournalRecovered { .. } => EventKind::JournalRecovered,
            Self::PayloadErased { .. } => EventKind::PayloadErased,
            Self::JournalPruned { .. } => EventKind::JournalPruned,
        }
    }
}
