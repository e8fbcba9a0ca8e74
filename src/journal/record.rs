//! What readers of the journal get: events and invocations as they are stored, for people and programs to look at.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, Position};
use crate::invocation::StateName;
use crate::journal::audit::Erasable;
use crate::journal::{EventKind, Head, NodeRow};

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
    /// A peer's own bytes; gone if they were erased.
    pub payload: Option<Bytes>,
    /// SHA-256 of `salt` and the payload, if there ever was one.
    pub payload_hash: Option<[u8; 32]>,
    /// What keeps a short payload from being guessed by its hash; it is erased with the payload.
    pub salt: Option<[u8; 16]>,
    /// The hash of the chain up to and with this event.
    pub hash: [u8; 32],
}

impl EventRecord {
    /// What an erasure has to name for its payload to be gone; `None` if it is there, never was, or can never be erased.
    #[must_use]
    pub fn gone(&self) -> Option<Erasable> {
        let is_gone = self.payload.is_none() && self.payload_hash.is_some();
        is_gone
            .then(|| Erasable::holding(self.kind, self.invocation_bytes(), self.agent_name(), &self.detail))
            .flatten()
    }

    /// What it says was erased.
    pub fn erased(&self) -> impl Iterator<Item = Erasable> {
        let is_erasure = self.kind == EventKind::PayloadErased;
        let erased = is_erasure.then(|| Erasable::named(self.invocation_bytes(), self.agent_name(), &self.detail));
        erased.into_iter().flatten()
    }

    fn invocation_bytes(&self) -> Option<&[u8]> {
        self.invocation.as_ref().map(|id| &id.0.as_bytes()[..])
    }

    fn agent_name(&self) -> Option<&str> {
        self.agent.as_ref().map(Identity::as_str)
    }
}

/// An invocation, read back.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the field of the same name of `Invocation` and of the HTTP interface")]
pub struct InvocationRecord {
    pub id: InvocationId,
    /// The event that accepted it: its place among all.
    pub accepted: Position,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// About this invocation.
    pub invocation: Option<InvocationId>,
    /// About this agent.
    pub agent: Option<Identity>,
    /// About this caller.
    pub caller: Option<Identity>,
    /// Of one of these kinds; empty: of any.
    pub kinds: Vec<EventKind>,
    /// Of an invocation, or a log line, with this `request_id`.
    pub request_id: Option<String>,
    /// Of an invocation, or a log line, with this `session_id`.
    pub session_id: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// Which invocations a reader wants; those that match all that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvocationFilter {
    /// For this agent.
    pub agent: Option<Identity>,
    /// Of this caller.
    pub caller: Option<Identity>,
    /// In this state now.
    pub state: Option<StateName>,
    /// With this `request_id`.
    pub request_id: Option<String>,
    /// With this `session_id`.
    pub session_id: Option<String>,
    /// Accepted not before.
    pub from: Option<Timestamp>,
    /// Accepted before.
    pub until: Option<Timestamp>,
}

/// Which agents a reader wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentFilter {
    /// Those that have a registered socket, or those that have none.
    pub connected: Option<bool>,
}

/// In which order a reader goes through the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// From the oldest on.
    #[default]
    Ascending,
    /// From the newest back.
    Descending,
}

/// Some events.
#[derive(Clone, Debug, Default)]
pub struct HistoryPage {
    /// Those that match, in the order that was asked for.
    pub events: Vec<EventRecord>,
    /// Whether there may be more beyond the last of them.
    pub more: bool,
}

/// Some invocations.
#[derive(Clone, Debug)]
pub struct InvocationPage {
    /// Those that match, in the order that was asked for.
    pub invocations: Vec<InvocationRecord>,
    /// Beyond which to go on; `None` at the end.
    pub next: Option<Position>,
}

/// Some agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPage {
    /// Those that match, in the order of their ids.
    pub agents: Vec<AgentRecord>,
    /// After which to go on; `None` at the end.
    pub next: Option<Identity>,
}

/// An agent, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRecord {
    /// Who.
    pub agent: Identity,
    /// When it last registered. (Unknown once that event is pruned.)
    pub registered_at: Option<Timestamp>,
    /// The `request_payload` with which it did.
    pub registration: Option<Bytes>,
    /// When its registered socket was accepted; `None`: it has none now.
    pub connected_at: Option<Timestamp>,
    /// The protocol version of that socket.
    pub version: Option<u8>,
    /// When its last connection ended, while it has none.
    pub last_seen: Option<Timestamp>,
    /// The router that holds its registered socket: its `NODE_ID`.
    pub node: Option<String>,
}

/// A router, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// What its row says.
    pub row: NodeRow,
    /// When it last renewed its lease, by the time of [`crate::journal::Journal::time`]; `None` on a journal that is not
    /// shared.
    pub renewed_at: Option<Timestamp>,
    /// Own sockets that it holds; invoke sockets are not among them.
    pub sessions: u64,
}

/// What a check of the chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Every event is as it was written, or was erased or pruned as another event says.
    Intact(Report),
    /// The first thing that is not as it was written.
    Broken {
        /// Where.
        position: Position,
        /// What is wrong there.
        what: String,
    },
}

/// A check that found nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first event that was checked.
    pub from: Position,
    /// How many were checked.
    pub events: u64,
    /// How many of them have had their payload erased.
    pub erased: u64,
    /// How many have a payload that could not be checked, because what was read is redacted.
    pub unchecked: u64,
    /// The last event that was pruned; [`Head::EMPTY`] if none was.
    pub pruned: Head,
    /// The last event that was checked.
    pub head: Head,
}
