//! What a router reads of its journal: where it stands at the start, what others have committed since, what it has let go of
//! itself, and what the backend is to be told.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::{Identity, InvocationId, NodeId, Position, SessionId};
use crate::invocation::Invocation;
use crate::journal::{AgentRow, Dismissed, Head, NodeRow, SessionRow};

/// What a router needs to go on where the journal stands.
#[derive(Debug)]
pub struct Restored {
    /// The newest event.
    pub head: Head,
    /// Every agent that ever registered, or that something waited for.
    pub agents: Vec<AgentRow>,
    /// Every own socket that nobody saw end.
    pub sessions: Vec<SessionRow>,
    /// Every invocation that is not settled ([`Invocation::is_settled`]), in the order of acceptance.
    pub unsettled: Vec<Invocation>,
    /// How far the backend has its notifications.
    pub feed_acknowledged: Position,
    /// The last event that was pruned; 0 if none was.
    pub pruned: Position,
    /// Every router that ever wrote here.
    pub nodes: Vec<NodeRow>,
    /// This router's own row, as its predecessor left it: its epoch is 0 at the very first start.
    pub node: NodeRow,
    /// Nobody but this router can be using the journal now: every socket in it has ended.
    pub alone: bool,
}

/// What other routers have committed, as it stands now: rows, and what became of them in between does not matter.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// The newest event.
    pub head: Position,
    /// It is not what changed but all there is: too much has happened since. What is not in it is gone, or settled.
    pub whole: bool,
    /// Invocations that are new or changed, settled ones too (if `whole`: those that are not settled), in the order of
    /// acceptance.
    pub invocations: Vec<Invocation>,
    /// Small bodies and answers that this router may have to send now, by the positions of their events: so they need not be
    /// asked for. None that it cannot do without.
    pub bodies: Vec<(Position, Bytes)>,
    /// Agents that are new or changed.
    pub agents: Vec<AgentRow>,
    /// Sockets that are new or changed.
    pub sessions: Vec<SessionRow>,
    /// Sockets that ended.
    pub ended: Vec<SessionId>,
    /// Routers that are new or changed; this one may be among them.
    pub nodes: Vec<NodeRow>,
    /// What this or other routers are to send to sockets of theirs.
    pub dismissed: Vec<Dismissed>,
    /// How far the backend has its notifications.
    pub feed_acknowledged: Position,
    /// The last event that was pruned; 0 if none was.
    pub pruned: Position,
}

/// That a router was heard of: it renews its lease by counting on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Which.
    pub node: NodeId,
    /// Which of its lives.
    pub epoch: i64,
    /// Grows as long as it lives. Only whether it has changed between two looks says something, for clocks differ.
    pub count: i64,
}

/// Invocations to look for that may be settled, and so be no longer in memory.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// By id.
    pub ids: Vec<InvocationId>,
    /// By caller, agent and idempotency key: the newest of each.
    pub keys: Vec<(Identity, Identity, Arc<str>)>,
}

impl Lookup {
    /// Whether all of it is looked for by another, too.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.ids.iter().all(|id| other.ids.contains(id)) && self.keys.iter().all(|key| other.keys.contains(key))
    }
}

/// What an event tells the backend, read back in order.
#[derive(Clone, Debug)]
pub struct FeedEvent {
    /// Its place.
    pub position: Position,
    /// Whom it is about.
    pub agent: Identity,
    /// What there is to tell.
    pub notice: Notice,
}

/// What the backend is told of an agent.
#[derive(Clone, Debug)]
pub enum Notice {
    /// It registered.
    Registered {
        /// On this connection.
        session: SessionId,
        /// Its `request_payload`.
        payload: Bytes,
    },
    /// It logged.
    Logged {
        /// The frame's body.
        body: Bytes,
    },
    /// Its socket ended.
    Unregistered,
}
