//! What other routers have committed and nothing was decided about here yet. It outlives a batch that is taken back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use smallvec::SmallVec;

use super::tables::Waiter;
use crate::id::{Identity, InvocationId, SessionId};
use crate::invocation::Invocation;
use crate::journal::Dismissed;
use crate::router::outbox::Ending;

/// See the module. Nothing is in it twice, and all of it is about what the ledger holds, which is bounded.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Invocations that have ended.
    pub(super) ended: Vec<Ended>,
    /// Of so many of them, the first, those who wait have been told.
    pub(super) told: usize,
    /// Those of which it is not known yet how.
    pub(super) missing: HashMap<InvocationId, Concern>,
    /// Sockets of this router that are to be closed.
    pub(super) closing: BTreeMap<SessionId, Ending>,
    /// Sockets that may have nothing in flight any more.
    pub(super) relieved: BTreeSet<SessionId>,
    /// Whose registration may wait no longer.
    pub(super) takeovers: BTreeSet<Identity>,
    /// Whose sockets here may be sent what is owed.
    pub(super) owed: BTreeSet<Identity>,
    /// Whose sockets here may be sent what waits.
    pub(super) agents: BTreeSet<Identity>,
    /// What the backend said to agents here.
    pub(super) dismissed: Vec<Dismissed>,
    /// The newest of the backend's sockets is another.
    pub(super) feed: bool,
    /// This router was taken for lost.
    pub(super) lost: bool,
    /// Sockets that ended with their routers.
    pub(super) cut_off: Vec<SessionId>,
}

/// An invocation that has ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) id: InvocationId,
    /// As it stands; `None` if nobody here has to know, or the journal has let go of it.
    pub(super) invocation: Option<Invocation>,
    pub(super) concern: Concern,
}

/// Whom here it concerns that an invocation has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Concern {
    pub(super) waiters: SmallVec<[Waiter; 1]>,
    /// What it was in flight on.
    pub(super) was_on: Option<SessionId>,
}

impl Pending {
    /// The batch that has dealt with all of it is durable.
    pub(super) fn seal(&mut self) {
        debug_assert!(self.missing.is_empty(), "the journal is asked before anything is decided");
        *self = Self::default();
    }
}
