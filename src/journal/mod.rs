//! The journal: what happened, in order, for good; and what it amounts to now.
//!
//! [`Journal`] is the contract that every back end keeps, and the only way to the database: nothing outside this folder
//! names sqlx. May import `invocation`, `new_file`, `code`, `clock` and `id`.
//!
//! The contract, which `tests/it/journal.rs` holds each back end to:
//! - A [`Batch`] is committed whole or not at all, and is on the disk when `commit` returns. It costs a constant number
//!   of statements, whatever its size.
//! - Events and the rows that they amount to are written in the same transaction, so neither is ever ahead.
//! - Positions are contiguous from 1, and each event's hash covers the one before it ([`chain`]).
//! - An event row is never updated, but that its payload may be erased, and removed only from the oldest on. A payload is
//!   kept once, as the bytes that came in.
//! - `commit` that fails with [`JournalError::Unavailable`] has changed nothing. After [`JournalError::Uncertain`] nobody
//!   knows: the process must end and look again at its next start.

pub mod audit;
pub mod chain;
mod event;
mod record;
pub mod sqlite;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use event::{Accepted, Detail, Event, EventKind};
pub use record::{
    AgentFilter, AgentPage, AgentRecord, EventRecord, HistoryFilter, HistoryPage, InvocationFilter, InvocationPage,
    InvocationRecord, Order, Report, Verification,
};

use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, Position, SessionId};
use crate::invocation::Invocation;

/// The newest event: its place and its hash. An auditor who notes it elsewhere can later tell that nothing before it was
/// changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The place of the newest event; 0 in an empty journal.
    pub position: Position,
    /// Its hash; zeroes in an empty journal.
    pub hash: [u8; 32],
}

/// An agent, as the journal's rows have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    /// Who.
    pub agent: Identity,
    /// Its last registration, which makes it *known*.
    pub registered: Option<Position>,
    /// When its last connection ended; `None` while it never had one that ended.
    pub last_seen: Option<Timestamp>,
}

/// A peer's own socket, as the journal's rows have it: there from its acceptance to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The connection.
    pub session: SessionId,
    /// Whose.
    pub identity: Identity,
    /// The event by which it registered, if it did.
    pub registered: Option<Position>,
    /// The protocol version that it registered with; 1 before.
    pub version: u8,
    /// When it was accepted.
    pub connected_at: Timestamp,
}

/// A finished invocation whose payloads are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Which.
    pub invocation: InvocationId,
    /// What goes with it of its agent's log; nothing if it belongs to no request, for then the lines cannot be told apart.
    pub logs: Option<LogLines>,
}

/// The log lines of an agent about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLines {
    /// Who logged.
    pub agent: Identity,
    /// What they name; never empty.
    pub request_id: Arc<str>,
    /// They come after this.
    pub after: Position,
}

impl Erased {
    /// All there is of an invocation.
    #[must_use]
    pub fn all_of(invocation: &Invocation) -> Self {
        let Invocation { id, agent, labels, accepted, .. } = invocation;
        let request_id = labels.request_id.clone().filter(|request_id| !request_id.is_empty());
        let logs = request_id.map(|request_id| LogLines { agent: agent.clone(), request_id, after: *accepted });
        Self { invocation: *id, logs }
    }

    /// What its event says.
    #[must_use]
    pub fn detail(&self, reason: String) -> Detail {
        let request_id = self.logs.as_ref().map(|logs| Arc::clone(&logs.request_id));
        Detail::PayloadErased { reason, request_id }
    }
}

/// Everything that is committed together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// What happened, contiguous, right after the head.
    pub events: Vec<Event>,
    /// Invocations that are new, as they stand at the end of the batch.
    pub accepted: Vec<Invocation>,
    /// Invocations that were there and changed.
    pub changed: Vec<Invocation>,
    /// Agents that are new or changed.
    pub agents: Vec<AgentRow>,
    /// Sockets that are new or changed.
    pub sessions: Vec<SessionRow>,
    /// Sockets that ended.
    pub ended: Vec<SessionId>,
    /// How far the backend has its notifications now.
    pub feed_acknowledged: Option<Position>,
    /// Finished invocations whose payloads are removed: those of every event up to its `payload.erased`, with their salts,
    /// and the digest that goes with an idempotency key. Each is in the batch with such an event.
    pub erased: Vec<Erased>,
    /// Every event up to this place is removed, with the invocations that were accepted there. What agents registered with
    /// is kept.
    pub pruned: Option<Head>,
}

impl Batch {
    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { events, accepted, changed, agents, sessions, ended, feed_acknowledged, erased, pruned } = self;
        events.is_empty()
            && accepted.is_empty()
            && changed.is_empty()
            && agents.is_empty()
            && sessions.is_empty()
            && ended.is_empty()
            && feed_acknowledged.is_none()
            && erased.is_empty()
            && pruned.is_none()
    }
}

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
}

/// Invocations to look for that may be settled, and so be no longer in memory.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// By id.
    pub ids: Vec<InvocationId>,
    /// By caller, agent and idempotency key: the newest of each.
    pub keys: Vec<(Identity, Identity, Arc<str>)>,
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

/// Why the journal did not do as it was asked. The public message names no path, statement or value.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It could not be written or read now; nothing was changed.
    #[error("the journal is unavailable: {0}")]
    Unavailable(String),
    /// A commit failed in a way that leaves open whether it is on the disk. The process must end.
    #[error("the journal failed in the middle of a commit: {0}")]
    Uncertain(String),
    /// What is stored makes no sense.
    #[error("the journal is damaged: {table}.{column}: {what}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What is wrong with the value.
        what: String,
    },
    /// Another router has this journal open.
    #[error("another router is using this journal ({0}): stop it, or set DATABASE_URL to another file")]
    InUse(String),
    /// The schema is not the one that this version works with.
    #[error("the journal's schema is at {found}, this version works with {wanted}: {advice}")]
    Schema {
        /// The newest migration in the database.
        found: i64,
        /// The newest migration of this version.
        wanted: i64,
        /// What to do.
        advice: &'static str,
    },
}

/// The contract of a back end.
#[async_trait]
pub trait Journal: Send + Sync + fmt::Debug + 'static {
    /// What the rows say now. Called once, at start.
    async fn restore(&self) -> Result<Restored, JournalError>;

    /// Makes a batch durable. Called by one task alone, never twice at once.
    async fn commit(&self, batch: &Batch) -> Result<Head, JournalError>;

    /// Finds invocations, settled ones too.
    async fn lookup(&self, lookup: &Lookup) -> Result<Vec<Invocation>, JournalError>;

    /// The payloads of these events; those that are gone are left out.
    async fn payloads(&self, positions: &[Position]) -> Result<Vec<(Position, Bytes)>, JournalError>;

    /// What the backend is to be told, after a place and not older than `since`, in order; at most `limit`. Also the
    /// last place that was looked at, from which to go on.
    async fn feed(
        &self,
        after: Position,
        since: Timestamp,
        limit: usize,
    ) -> Result<(Vec<FeedEvent>, Position), JournalError>;

    /// One invocation, for a reader.
    async fn invocation(&self, id: InvocationId) -> Result<Option<InvocationRecord>, JournalError>;

    /// Events for a reader, in this order, beyond a place (ascending: after it; descending: before it) or, without one,
    /// from the beginning or the end; at most `limit`. A page of large events ends earlier, so that it fits into little
    /// memory, whatever it holds; `more` says whether there may be more.
    async fn history(
        &self,
        filter: &HistoryFilter,
        order: Order,
        beyond: Option<Position>,
        limit: usize,
    ) -> Result<HistoryPage, JournalError>;

    /// Invocations for a reader, in the order of acceptance or against it, beyond the acceptance at a place; at most
    /// `limit`. A page may be short because enough was looked at; `next` says whether there may be more.
    async fn invocations(
        &self,
        filter: &InvocationFilter,
        order: Order,
        beyond: Option<Position>,
        limit: usize,
    ) -> Result<InvocationPage, JournalError>;

    /// Agents that ever registered or that something waits for, in the order of their ids, after one; at most `limit`. A page
    /// may be short because what they registered weighs enough; `next` says whether there may be more.
    async fn agents(
        &self,
        filter: AgentFilter,
        after: Option<&Identity>,
        limit: usize,
    ) -> Result<AgentPage, JournalError>;

    /// One of them.
    async fn agent(&self, agent: &Identity) -> Result<Option<AgentRecord>, JournalError>;

    /// Recomputes the chain from one place (or the first event that is there) to another (or the last), and if that is all
    /// of it, checks the rows against it too. Takes constant memory and holds up nobody.
    async fn verify(&self, from: Option<Position>, to: Option<Position>) -> Result<Verification, JournalError>;

    /// The newest event that readers can see.
    async fn head(&self) -> Result<Head, JournalError>;

    /// The hash of the event at a place, if it is there; also of the last one that was pruned.
    async fn hash_at(&self, position: Position) -> Result<Option<[u8; 32]>, JournalError>;

    /// How far the journal can be pruned next: at most `limit` events beyond what is pruned, none of them younger than
    /// `before`, and none of them accepting an invocation that is unsettled or was finished since `before`. `None`:
    /// nowhere.
    async fn prunable(&self, before: Timestamp, limit: usize) -> Result<Option<Head>, JournalError>;

    /// Makes sure that nothing of what was erased is left in any file of the journal. Fails with
    /// [`JournalError::Unavailable`] while a reader keeps it from doing so; try again then.
    async fn scrub(&self) -> Result<(), JournalError>;

    /// Whether a commit would succeed now and the schema is this version's: writes, and changes nothing.
    async fn probe(&self) -> Result<(), JournalError>;

    /// Closes it in good order.
    async fn close(&self);
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.position)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
