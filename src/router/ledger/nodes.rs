//! The routers on a journal: who is there, what becomes of the sockets of one that is not, and who is told of what.

use std::time::Duration;

use super::session::{Session, Standing};
use super::tables::Due;
use super::{Ledger, Step, Subject};
use crate::clock::Timestamp;
use crate::id::{Identity, NodeId, SessionId};
use crate::invocation::Invocation;
use crate::journal::{Detail, Event, NodeRow, NodeStanding, SessionRow};
use crate::router::command::EndReason;

/// How much later than due a router does what another does first, so that they do not all rise for it.
const STAGGER: Duration = Duration::from_millis(50);

/// How many different delays there are.
const STAGGERS: i64 = 5;

/// How many things that are due are looked at to find the next. Beyond, the router may rise too early, and finds nothing.
const MAX_LOOKED_AT: usize = 64;

/// Rows, in no order.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Invocations that are not settled.
    pub invocations: Vec<Invocation>,
    /// Own sockets, of all routers.
    pub sessions: Vec<SessionRow>,
    /// Routers.
    pub nodes: Vec<NodeRow>,
}

impl Ledger {
    /// The rows that this router goes by.
    #[must_use]
    pub fn rows(&self) -> Rows {
        let invocations = self.tables.invocations().map(|entry| entry.invocation.clone()).collect();
        let sessions = self.tables.sessions().filter_map(Session::row).collect();
        Rows { invocations, sessions, nodes: self.tables.nodes().cloned().collect() }
    }

    /// Who is remembered: whoever registered, has a socket, or is named by what is not settled. Nobody else is for longer than
    /// a commit takes.
    pub fn remembered(&self) -> impl Iterator<Item = &Identity> {
        self.tables.identities()
    }

    /// The other routers that are there.
    pub(super) fn others(&self) -> impl Iterator<Item = &NodeRow> {
        self.tables.nodes().filter(|row| !self.alone && row.node != self.node && row.standing.is_present())
    }

    pub(super) fn wake_others(&self, step: &mut Step) {
        step.wake.extend(self.others().map(|row| row.node));
    }

    /// Which routers have something to do because of a batch.
    pub(super) fn to_wake(&self, step: &mut Step, events: &[Event]) -> Vec<NodeId> {
        let mut wake = std::mem::take(&mut step.wake);
        if self.alone {
            return Vec::new();
        }
        if events.iter().any(|event| event.detail.kind().is_for_backend()) {
            wake.extend(self.newest_backend().and_then(|session| self.elsewhere(session)));
        }
        let others: Vec<NodeId> = self.others().map(|row| row.node).collect();
        wake.into_iter().filter(|node| others.contains(node)).collect()
    }

    /// The router that holds a socket, if that is another.
    pub(super) fn elsewhere(&self, session: SessionId) -> Option<NodeId> {
        self.tables.session(session).map(|session| session.node).filter(|node| *node != self.node)
    }

    /// Whether this router holds a socket, and the journal has not ended it.
    pub(super) fn is_held(&self, session: SessionId) -> bool {
        self.tables
            .session(session)
            .is_some_and(|session| session.node == self.node && !matches!(session.standing, Standing::Fenced))
    }

    /// The backend's socket that its notifications go to, whoever holds it.
    pub(super) fn newest_backend(&self) -> Option<SessionId> {
        self.tables.sessions_of(&Identity::backend()).next_back().map(|session| session.id)
    }

    /// This router's row says that it is there.
    pub(super) fn put_own_standing(&mut self) {
        let standing = if self.marks.draining { NodeStanding::Draining } else { NodeStanding::Up };
        if let Some(row) = self.tables.node(self.node) {
            self.tables.put_node(NodeRow { standing, ..row.clone() });
        }
    }

    /// When this router rises for what is due: at once for what is its own, and a little later for what another is
    /// likely to do.
    pub(super) fn next_in_tables(&self) -> Option<Timestamp> {
        let stagger = STAGGER * u32::try_from(1 + self.node.0.rem_euclid(STAGGERS)).unwrap_or(1);
        let mut next: Option<Timestamp> = None;
        for (at, due) in self.tables.dues().take(MAX_LOOKED_AT) {
            if next.is_some_and(|next| next <= at) {
                break;
            }
            let at = if self.is_anothers(due) { at + stagger } else { at };
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        next
    }

    fn is_anothers(&self, due: Due) -> bool {
        let Due::Invocation(id) = due else { return false };
        let is_there = |node: NodeId| self.others().any(|other| other.node == node);
        self.tables.invocation(id).is_some_and(|entry| {
            let mut agents = self.tables.sessions_of(&entry.invocation.agent);
            is_there(entry.invocation.home) && !agents.any(|session| session.node == self.node)
        })
    }

    /// The sockets that the journal has of these, the oldest first.
    pub(super) fn sorted_sessions(&self, wanted: impl Fn(&Session) -> bool) -> Vec<Session> {
        let mut sessions: Vec<Session> =
            self.tables.sessions().filter(|session| session.counts() && wanted(session)).cloned().collect();
        sessions.sort_by_key(|session| session.id);
        sessions
    }

    /// Journals that these sockets have ended with their router; what was in flight on them may have been started.
    pub(super) fn end_all(&mut self, held: &[Session], reason: EndReason, now: Timestamp, step: &mut Step) {
        self.cut_off(held.iter().map(|session| session.id), now);
        for session in held {
            self.end_for(session, reason, now, step);
        }
    }

    fn end_for(&mut self, session: &Session, reason: EndReason, now: Timestamp, step: &mut Step) {
        self.tables.put_session(session.id, None);
        self.disconnected(session, reason, now, step);
        self.lose(session, true, now, step);
        self.replies_lost(session.identity(), session.id, step);
    }

    /// Remembers sockets that ended with their router, to make up for it.
    pub(super) fn cut_off(&mut self, sessions: impl IntoIterator<Item = SessionId>, now: Timestamp) {
        let mut sessions = sessions.into_iter().peekable();
        if sessions.peek().is_some() {
            if self.resume_until <= now {
                self.cut_off.clear();
            }
            self.cut_off.extend(sessions);
            self.resume_until = now + self.policy.resume_grace;
        }
    }

    /// Another router was not heard of for too long.
    pub(super) fn node_lost(&mut self, node: NodeId, epoch: i64, now: Timestamp, step: &mut Step) {
        // A life that is counted and has written nothing yet is lost with the one before it.
        let lost = self.others().find(|row| row.node == node && row.epoch <= epoch).cloned();
        let Some(row) = lost else { return };
        let backend = self.newest_backend();
        self.wake_others(step);
        let detail = Detail::NodeLost { node: row.name.clone() };
        self.record(step, now, Subject::none(), detail, None);
        self.tables.put_node(NodeRow { standing: NodeStanding::Lost, ..row });
        let held = self.sorted_sessions(|session| session.node == node);
        self.end_all(&held, EndReason::NodeLost, now, step);
        for session in &held {
            self.go_on_without(session, now, step);
        }
        if self.newest_backend() != backend {
            self.direct_feed(step);
        }
    }

    /// This router goes: what others can go on with is left to them, as its next start would leave it.
    pub(super) fn leave(&mut self, now: Timestamp, step: &mut Step) {
        if self.alone {
            return;
        }
        let held = self.sorted_sessions(|session| session.node == self.node);
        self.end_all(&held, EndReason::Restarting, now, step);
        if let Some(row) = self.tables.node(self.node) {
            self.tables.put_node(NodeRow { standing: NodeStanding::Stopped, ..row.clone() });
        }
        self.wake_others(step);
    }

    /// A socket that registers has waited long enough for other routers to close those it takes over from.
    pub(super) fn fence_others(&mut self, id: SessionId, now: Timestamp, step: &mut Step) {
        let Some(session) = self.tables.session(id).cloned() else { return };
        let identity = session.identity().clone();
        self.tables.put_session(id, Some(Session { fence_at: None, ..session }));
        let waits_for = |other: &Session| *other.identity() == identity && other.node != self.node;
        for other in self.sorted_sessions(|other| waits_for(other) && other.is_outgoing()) {
            let by_operator = matches!(other.standing, Standing::Disconnected);
            let reason = if by_operator { EndReason::Operator } else { EndReason::TakenOver };
            step.wake_node(other.node);
            self.end_for(&other, reason, now, step);
            self.go_on_without(&other, now, step);
        }
    }

    /// What waited for the end of another router's socket goes on.
    fn go_on_without(&mut self, session: &Session, now: Timestamp, step: &mut Step) {
        self.finish_takeover(session.identity(), now, step);
        self.send_owed_to_all(session.identity(), step);
        step.wake(session.identity());
    }
}
