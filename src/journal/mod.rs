//! The journal: what happened, in order, for good; and what it amounts to now.
//!
//! [`Journal`] is the contract that every back end keeps, and the only way to the database: nothing outside this folder
//! names sqlx or rusqlite. May import `invocation`, `new_file`, `code`, `clock` and `id`.
//!
//! The contract, which `tests/it/journal.rs` holds each back end to:
//! - A [`Batch`] is committed whole or not at all, and is on the disk when `commit` returns. It is made by a fixed
//!   set of prepared statements, whatever is in it.
//! - Events and the rows that they amount to are written in the same transaction, so neither is ever ahead.
//! - Positions are contiguous from 1, and each event's hash covers the one before it ([`chain`]).
//! - An event row is never updated, but that its payload may be erased, and removed only from the oldest on. A payload is
//!   kept once, as the bytes that came in.
//! - `commit` that fails with [`JournalError::Unavailable`] has changed nothing. After [`JournalError::Uncertain`] nobody
//!   knows: the process must end and look again at its next start.

pub mod audit;
mod batch;
pub mod chain;
mod error;
mod event;
mod fold;
mod migration;
mod news;
mod paging;
mod place;
pub mod postgres;
mod record;
mod row;
mod rows;
mod seal;
pub mod sqlite;
mod terms;
mod verify;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use batch::{Batch, Dismissed, Erased, LogLines};
pub use error::JournalError;
pub use event::{Accepted, Detail, Event, EventKind};
pub use migration::Migration;
pub use news::{Beat, FeedEvent, Lookup, News, Notice, Restored};
pub use place::{Opened, Place, Reader};
pub use record::{
    AgentFilter, AgentPage, AgentRecord, EventRecord, HistoryFilter, HistoryPage, InvocationFilter, InvocationPage,
    InvocationRecord, NodeRecord, Order, Report, Verification,
};
pub use rows::{AgentRow, NodeRow, NodeStanding, SessionRow, SessionStanding};
pub use seal::Salts;

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

/// The contract of a back end.
///
/// Several routers may share a journal ([`Journal::is_shared`]). They take turns: a turn [begins](Journal::begin) with what
/// the others have committed, and ends with a [commit](Journal::commit), or a [pass](Journal::pass) if there is nothing to
/// commit. What is decided in between rests on rows that nobody has changed since: otherwise the commit fails with
/// [`JournalError::Moved`].
#[async_trait]
pub trait Journal: Send + Sync + fmt::Debug + 'static {
    /// What the rows say now. Called once, at start; begins the first turn, in which nobody else commits.
    async fn restore(&self) -> Result<Restored, JournalError>;

    /// Begins a turn, with what others have committed since the last one; `None`: nobody has. May wait for another's turn
    /// to end. After [`JournalError::Moved`] the next turn's commit does not fail so again. Called by one task alone.
    async fn begin(&self) -> Result<Option<News>, JournalError> {
        Ok(None)
    }

    /// Makes a batch durable, and ends the turn. Called by one task alone, never twice at once. It returns when it is known
    /// what became of the batch; that may take as long as a database is away.
    async fn commit(&self, batch: Arc<Batch>) -> Result<Head, JournalError>;

    /// Whether this turn still knows all there is: fails with [`JournalError::Moved`] if others have committed since it began.
    /// For a turn in which nothing is to be committed, and somebody is told how things stand.
    async fn confirm(&self) -> Result<(), JournalError> {
        Ok(())
    }

    /// Ends a turn in which nothing is to be committed.
    async fn pass(&self) {}

    /// Whether other routers may be using the same journal.
    fn is_shared(&self) -> bool {
        false
    }

    /// Returns when others may have committed something that this router has to act on (if nothing tells, after a second), or
    /// when the journal is not there any more: the next turn finds out. Cancel safe.
    async fn stirred(&self) {
        std::future::pending::<()>().await;
    }

    /// Renews this router's lease in this life, and says how far every router has counted. Never waits for a turn. Empty if
    /// the journal is not shared.
    async fn renew(&self, epoch: i64) -> Result<Vec<Beat>, JournalError> {
        let _ = epoch;
        Ok(Vec::new())
    }

    /// How far every router has counted. Cancel safe, as [`Self::renew`] is. Never waits for a turn. Empty if the journal is
    /// not shared.
    async fn beats(&self) -> Result<Vec<Beat>, JournalError> {
        Ok(Vec::new())
    }

    /// The time by which routers on this journal agree, if it is shared.
    async fn time(&self) -> Result<Option<Timestamp>, JournalError> {
        Ok(None)
    }

    /// The routers that ever wrote here, for a reader, by name.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, JournalError>;

    /// A socket that nobody saw end.
    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, JournalError>;

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

    /// Fails with [`JournalError::Uncertain`] if the disk has failed behind a commit, also while the journal was closed.
    fn soundness(&self) -> Result<(), JournalError> {
        Ok(())
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.position)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
