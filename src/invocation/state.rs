//! What an invocation is, at one moment.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, NodeId, Position, SessionId};
use crate::invocation::Terms;

/// One request of a caller to an agent, from its acceptance to its one final state.
///
/// What was asked for reads like fields of its own; it is shared, so that a copy of an invocation costs little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What was asked for.
    pub order: Arc<Order>,
    /// Deliveries so far.
    pub attempt: u32,
    /// Deliveries whose connection was lost before a receipt.
    pub unreceipted: u32,
    /// Deliveries that were receipted, so that work may have begun.
    pub starts: u32,
    /// Whether the last delivery is one of them.
    pub receipted: bool,
    /// The last delivery.
    pub delivered_at: Option<Timestamp>,
    /// Whether a delivery that carried the plain `invoked_by` has not been answered. Meanwhile no other delivery to the
    /// agent carries the same: not even past the deadline, since an answer may be late.
    pub plain_unanswered: bool,
    /// Where it is in its life.
    pub state: State,
    /// Whether its answer has still to reach its caller.
    pub reply: Reply,
}

/// What was asked for with an invocation. Once that is accepted it never changes, but for the digest of an erased payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id, unique for ever.
    pub id: InvocationId,
    /// Whom it is for.
    pub agent: Identity,
    /// Who asked: an agent, a master, or whoever an invoke socket acts for.
    pub caller: Identity,
    /// The way by which it came in.
    pub origin: Origin,
    /// The router that accepted it: whoever waits for its answer is most likely there.
    pub home: NodeId,
    /// Whether the caller used an optional field and so sees what this router adds to answers.
    pub additions: bool,
    /// The event that accepted it: its place in its agent's queue, and where its body is kept.
    pub accepted: Position,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The size of its body, in bytes.
    pub body_bytes: u32,
    /// How long it may wait, how long it may take, how often it may start.
    pub terms: Terms,
    /// The caller's key against doing it twice.
    pub key: Option<Box<IdempotencyKey>>,
    /// The request and the user session that the caller says it belongs to.
    pub labels: Labels,
}

/// The way by which an invocation came in, which decides where its answer may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A peer's own socket.
    Socket {
        /// The connection.
        session: SessionId,
        /// Whether that connection had registered.
        registered: bool,
    },
    /// An invoke socket: its answer goes there or is read over HTTP.
    InvokeSocket {
        /// The connection.
        session: SessionId,
    },
    /// `POST /invoke-agent`: its answer is read over HTTP.
    ClientMessage,
    /// `POST /v1/invocations`: its answer is read over HTTP.
    Http,
}

/// Ids of the caller's world that an invocation or a log line carries along, for finding it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// `request_metadata.request_id`.
    pub request_id: Option<Arc<str>>,
    /// `request_metadata.session_id`.
    pub session_id: Option<Arc<str>>,
}

/// A caller's key against doing the same thing twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// 1 to 255 characters, unique per caller and agent.
    pub key: Arc<str>,
    /// SHA-256 of the bytes of `request_payload`.
    pub digest: [u8; 32],
}

/// Where an invocation is in its life. Each state owns what is true in it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for its agent, its agent's credit, or its turn.
    Queued {
        /// Since when, this time.
        since: Timestamp,
    },
    /// Sent; nobody knows whether it arrived.
    Delivered {
        /// The connection it was sent on.
        session: SessionId,
    },
    /// The agent's library has read it.
    Running {
        /// The connection it was sent on, or adopted by.
        session: SessionId,
    },
    /// Its connection was lost at work, and the agent may still come back with it.
    Interrupted {
        /// When that is no longer waited for.
        until: Timestamp,
    },
    /// It is over.
    Finished(Finished),
}

/// How and when an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// The event that keeps the agent's answer, if an answer ended it.
    pub answer: Option<Position>,
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent answered.
    Completed,
    /// The agent answered with an error (no code), or the router gave up (with its code).
    Failed(Option<ErrorCode>),
    /// It waited for an absent agent longer than its ttl.
    Expired,
    /// It was not finished by its deadline.
    TimedOut,
    /// Its caller cancelled it.
    Cancelled,
}

/// Whether the answer has still to reach the socket, or the next own socket, of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Not finished yet, delivered, or nobody to be told.
    None,
    /// Waits for the caller's next own socket.
    Owed,
    /// Sent, not yet confirmed by a Pong.
    Sent {
        /// The connection it was sent on.
        session: SessionId,
    },
}

/// The name of a state, as people and the journal see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i64)]
#[expect(missing_docs, reason = "each is the state of the same name")]
pub enum StateName {
    Queued = 1,
    Delivered = 2,
    Running = 3,
    Interrupted = 4,
    Completed = 5,
    Failed = 6,
    Expired = 7,
    TimedOut = 8,
    Cancelled = 9,
}

impl StateName {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Delivered,
        Self::Running,
        Self::Interrupted,
        Self::Completed,
        Self::Failed,
        Self::Expired,
        Self::TimedOut,
        Self::Cancelled,
    ];

    /// The name on the wire and over HTTP.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired | Self::TimedOut | Self::Cancelled)
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StateName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == name).ok_or(())
    }
}

impl Deref for Invocation {
    type Target = Order;

    fn deref(&self) -> &Order {
        &self.order
    }
}

impl Invocation {
    /// A new one, which waits for its first delivery.
    #[must_use]
    pub fn new(order: Order) -> Self {
        let state = State::Queued { since: order.accepted_at };
        Self {
            order: Arc::new(order),
            attempt: 0,
            unreceipted: 0,
            starts: 0,
            receipted: false,
            delivered_at: None,
            plain_unanswered: false,
            state,
            reply: Reply::None,
        }
    }

    /// What was asked for, to be changed.
    pub fn order_mut(&mut self) -> &mut Order {
        Arc::make_mut(&mut self.order)
    }

    /// The name of its state.
    #[must_use]
    pub const fn state_name(&self) -> StateName {
        match self.state {
            State::Queued { .. } => StateName::Queued,
            State::Delivered { .. } => StateName::Delivered,
            State::Running { .. } => StateName::Running,
            State::Interrupted { .. } => StateName::Interrupted,
            State::Finished(Finished { outcome, .. }) => match outcome {
                Outcome::Completed => StateName::Completed,
                Outcome::Failed(_) => StateName::Failed,
                Outcome::Expired => StateName::Expired,
                Outcome::TimedOut => StateName::TimedOut,
                Outcome::Cancelled => StateName::Cancelled,
            },
        }
    }

    /// How it ended, if it did.
    #[must_use]
    pub const fn finished(&self) -> Option<Finished> {
        match self.state {
            State::Finished(finished) => Some(finished),
            _ => None,
        }
    }

    /// Whether it is still to be finished.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.finished().is_none()
    }

    /// The connection it is in flight on: sent there and not answered.
    #[must_use]
    pub const fn in_flight_on(&self) -> Option<SessionId> {
        match self.state {
            State::Delivered { session } | State::Running { session } => Some(session),
            _ => None,
        }
    }

    /// Whether nothing can happen to it, or depend on it, any more: the router may forget it, the journal does not.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        !self.is_open() && !self.plain_unanswered && matches!(self.reply, Reply::None)
    }
}

impl Order {
    /// The `invoked_by` that a part-1 agent expects: the caller, or `<caller>:<target>` for an invoke socket.
    #[must_use]
    pub fn plain_invoked_by(&self) -> Cow<'_, str> {
        match self.origin {
            Origin::Socket { .. } | Origin::Http => self.caller.as_str().into(),
            Origin::InvokeSocket { .. } => format!("{}:{}", self.caller, self.agent).into(),
            Origin::ClientMessage => "".into(),
        }
    }
}

impl Outcome {
    /// The error that the caller is told, if the router and not the agent ended it.
    #[must_use]
    pub const fn error_code(self) -> Option<ErrorCode> {
        match self {
            Self::Completed => None,
            Self::Failed(code) => code,
            Self::Expired => Some(ErrorCode::Expired),
            Self::TimedOut => Some(ErrorCode::TimedOut),
            Self::Cancelled => Some(ErrorCode::Cancelled),
        }
    }
}
