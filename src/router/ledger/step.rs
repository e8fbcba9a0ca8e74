//! What a batch amounts to: what happened, what leaves the router, and what whoever asked is told.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, NodeId, Position, SessionId};
use crate::invocation::{Invocation, Labels};
use crate::journal::{Dismissed, Erased, Event, Head};
use crate::router::Taken;
use crate::router::outbox::{Ending, Outbound};

/// What a batch amounts to so far.
#[derive(Debug, Default)]
pub struct Step {
    /// What happened, to be committed.
    pub events: Vec<Event>,
    /// What is to be done once that is durable, in order.
    pub effects: Vec<Effect>,
    /// What needs no event to be durable: refusals and errors about bad input.
    pub at_once: Vec<Effect>,
    /// What tells of an event that another router has made durable, so that it need not wait for this batch, as long as what
    /// this router knows of its sockets is fresh.
    pub known: Vec<Effect>,
    /// Finished invocations whose payloads go.
    pub(super) erased: Vec<Erased>,
    /// The last of the oldest events, which go.
    pub(super) pruned: Option<Head>,
    /// What other routers are to send to sockets of theirs.
    pub(super) dismissed: Vec<Dismissed>,
    /// Routers that have something to do because of it.
    pub(super) wake: BTreeSet<NodeId>,
    /// Agents to whom what waits may go now.
    pub(super) woken: BTreeSet<Identity>,
}

/// Something that leaves the router.
#[derive(Debug)]
pub enum Effect {
    /// Send this to a socket.
    Send {
        /// The connection.
        to: SessionId,
        /// What.
        message: Outbound,
        /// Where its body is in the journal, should the socket have no room for it.
        stored: Option<Position>,
    },
    /// End a socket.
    End {
        /// The connection.
        session: SessionId,
        /// Why.
        why: Ending,
    },
    /// The backend's notifications go to this socket from now on, or to none.
    Feed(Option<FeedStart>),
    /// Tell whoever waits for it over HTTP that an invocation has ended.
    Ended {
        /// Which.
        invocation: InvocationId,
        /// How long after it was accepted its agent answered, if its agent did.
        answered_after: Option<Duration>,
    },
}

/// What a backend's socket starts from.
#[derive(Debug)]
pub struct FeedStart {
    /// The connection.
    pub session: SessionId,
    /// What the backend has already.
    pub acknowledged: Position,
    /// What it missed ends here; what is still connected is told next.
    pub head: Position,
    /// The sockets that have registered: whose, and by which event.
    pub registered: Vec<(SessionId, Identity, Position)>,
}

/// What became of a command, for whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken; it is so once the batch is durable.
    Taken,
    /// The same, of an invocation over HTTP.
    Invoked(Taken),
    /// The same, of an agent's sockets: so many are to end.
    Disconnected(usize),
    /// It was refused, and whoever sent a frame has been told.
    Refused(ErrorCode),
    /// What it is about is not there, or not the asker's.
    NotFound,
    /// It wants something finished that is not.
    StillOpen,
}

/// What an event is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    pub(super) invocation: Option<InvocationId>,
    pub(super) agent: Option<Identity>,
    pub(super) caller: Option<Identity>,
    pub(super) labels: Labels,
}

impl Subject {
    pub(super) fn none() -> Self {
        Self::default()
    }

    pub(super) fn agent(agent: &Identity) -> Self {
        Self { agent: Some(agent.clone()), ..Self::default() }
    }

    pub(super) fn of(invocation: &Invocation) -> Self {
        Self {
            invocation: Some(invocation.id),
            agent: Some(invocation.agent.clone()),
            caller: Some(invocation.caller.clone()),
            labels: invocation.labels.clone(),
        }
    }
}

impl Step {
    /// Has what waits for an agent looked at once the decision is complete, so that nothing overtakes what a decision
    /// is still to queue.
    pub(super) fn wake(&mut self, agent: &Identity) {
        self.woken.insert(agent.clone());
    }

    /// Has a router told that it has something to do.
    pub(super) fn wake_node(&mut self, node: NodeId) {
        self.wake.insert(node);
    }

    pub(super) fn send(&mut self, to: SessionId, message: Outbound) {
        self.effects.push(Effect::Send { to, message, stored: None });
    }

    pub(super) fn send_at_once(&mut self, to: SessionId, frame: Bytes) {
        self.at_once.push(Effect::Send { to, message: Outbound::Frame(frame), stored: None });
    }
}
