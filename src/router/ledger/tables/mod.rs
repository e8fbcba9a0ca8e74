//! What is true now: agents, sockets and the invocations that are not settled, with the indexes that follow from them.
//!
//! Every change goes through `put_*` and is remembered until the batch is sealed, so that a batch whose commit failed
//! can be taken back as if it had never been. An index is never changed by itself: it follows from the record, so taking
//! back the record takes back the index.

mod indexes;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, Position, SessionId};
use crate::invocation::{Invocation, State};
use crate::router::ledger::session::Session;
use crate::router::survey::Connections;

/// An unsettled invocation, and the sockets that wait for its answer.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) invocation: Invocation,
    pub(super) waiters: SmallVec<[Waiter; 1]>,
    due: Option<Timestamp>,
}

/// A live socket that sent an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) session: SessionId,
    /// It sees what this router adds to answers.
    pub(super) additions: bool,
}

/// What the journal's row has of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AgentRecord {
    pub(super) registered: Option<Position>,
    pub(super) last_seen: Option<Timestamp>,
}

/// An identity: its record, and what follows from the sockets and invocations that name it.
#[derive(Debug, Default)]
pub(super) struct Agent {
    pub(super) record: AgentRecord,
    /// Its own sockets, the oldest first.
    pub(super) sessions: Vec<SessionId>,
    /// What waits for it, in the order of acceptance.
    pub(super) queue: BTreeMap<Position, InvocationId>,
    pub(super) queued_bytes: u64,
    /// What was delivered and is not answered.
    pub(super) in_flight: BTreeMap<Position, InvocationId>,
    /// What it may still come back with.
    pub(super) interrupted: BTreeMap<Position, InvocationId>,
    /// Plain `invoked_by`s of deliveries to it that are unanswered.
    plain: HashMap<Box<str>, InvocationId>,
    /// Its own invocations whose answers wait for its next socket.
    pub(super) owed: BTreeMap<Position, InvocationId>,
    /// Its own invocations whose answers were sent, and are not confirmed.
    pub(super) unconfirmed: BTreeMap<Position, InvocationId>,
}

/// Something that happens at a time and not by a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Look at this invocation.
    Invocation(InvocationId),
    /// Send what waits to this socket, which has not registered.
    Drain(SessionId),
}

/// By what an idempotency key is unique.
pub(super) type KeyScope = (Identity, Identity, Arc<str>);

#[derive(Debug)]
enum Undo {
    Invocation(InvocationId, Option<Entry>),
    Agent(Identity, AgentRecord),
    Session(SessionId, Option<Session>),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tables {
    invocations: HashMap<InvocationId, Entry>,
    agents: HashMap<Identity, Agent>,
    sessions: HashMap<SessionId, Session>,
    due: BTreeSet<(Timestamp, Due)>,
    /// The newest of a scope counts: an older one may still be unsettled when its key is forgotten.
    keys: BTreeMap<(KeyScope, Position), InvocationId>,
    /// When each was accepted, in order: what the journal may not let go of.
    unsettled: BTreeSet<Position>,
    /// What is queued, by how long it is.
    waiting: BTreeSet<(Timestamp, InvocationId)>,
    open: usize,
    in_flight: usize,
    connections: Connections,
    answer_ttl: Duration,
    undo: Vec<Undo>,
}

/// The rows that a batch changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) accepted: Vec<InvocationId>,
    pub(super) changed: Vec<InvocationId>,
    pub(super) agents: Vec<Identity>,
    pub(super) sessions: Vec<SessionId>,
    pub(super) ended: Vec<SessionId>,
}

impl Tables {
    pub(super) fn new(answer_ttl: Duration) -> Self {
        Self { answer_ttl, ..Self::default() }
    }

    pub(super) fn invocation(&self, id: InvocationId) -> Option<&Entry> {
        self.invocations.get(&id)
    }

    pub(super) fn by_key(&self, scope: &KeyScope) -> Option<&Entry> {
        let of_scope = (scope.clone(), Position::MIN)..=(scope.clone(), Position::MAX);
        self.keys.range(of_scope).next_back().and_then(|(_, id)| self.invocations.get(id))
    }

    pub(super) fn agent(&self, identity: &Identity) -> Option<&Agent> {
        self.agents.get(identity)
    }

    pub(super) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// The own sockets of an identity, the oldest first.
    pub(super) fn sessions_of(&self, identity: &Identity) -> impl DoubleEndedIterator<Item = &Session> {
        self.agents
            .get(identity)
            .into_iter()
            .flat_map(|agent| agent.sessions.iter())
            .filter_map(|id| self.sessions.get(id))
    }

    pub(super) fn is_connected(&self, identity: &Identity) -> bool {
        self.agents.get(identity).is_some_and(|agent| !agent.sessions.is_empty())
    }

    /// The delivery to this agent that carried this plain `invoked_by` and is unanswered.
    pub(super) fn plain_holder(&self, agent: &Identity, plain: &str) -> Option<InvocationId> {
        self.agents.get(agent)?.plain.get(plain).copied()
    }

    /// Interrupted invocations that are waited for less long than until `until`, in the order of acceptance.
    pub(super) fn interrupted_until(&self, until: Timestamp) -> Vec<InvocationId> {
        let mut found: Vec<_> = self
            .invocations
            .values()
            .map(|entry| &entry.invocation)
            .filter(|invocation| matches!(invocation.state, State::Interrupted { until: waits } if waits < until))
            .map(|invocation| (invocation.accepted, invocation.id))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// How many invocations are open.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// How many are queued.
    pub(super) fn queued(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the longest queued one is.
    pub(super) fn oldest_queued(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(since, _)| *since)
    }

    /// How many were sent and are not answered.
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whose sockets there are.
    pub(super) const fn connections(&self) -> Connections {
        self.connections
    }

    /// When the oldest one that is not settled was accepted.
    pub(super) fn oldest_unsettled(&self) -> Option<Position> {
        self.unsettled.first().copied()
    }

    /// When the next thing is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The first thing that is due by now. It stays until a change of its record moves it.
    pub(super) fn due(&self, now: Timestamp) -> Option<Due> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, due)| *due)
    }

    /// Writes an invocation back, or a new one.
    pub(super) fn put_invocation(&mut self, invocation: Invocation, waiters: SmallVec<[Waiter; 1]>) {
        let id = invocation.id;
        let old = self.replace_invocation(id, Some(Entry { invocation, waiters, due: None }));
        self.undo.push(Undo::Invocation(id, old));
    }

    /// Changes an invocation, if it is there.
    pub(super) fn change(&mut self, id: InvocationId, change: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.invocations.get(&id).cloned() {
            change(&mut entry);
            self.put_invocation(entry.invocation, entry.waiters);
        }
    }

    /// Writes an agent's record.
    pub(super) fn put_agent(&mut self, identity: &Identity, record: AgentRecord) {
        let agent = self.agents.entry(identity.clone()).or_default();
        let old = std::mem::replace(&mut agent.record, record);
        self.undo.push(Undo::Agent(identity.clone(), old));
        self.follow_connection(identity);
    }

    /// Writes a socket back, or a new one, or ends it.
    pub(super) fn put_session(&mut self, id: SessionId, session: Option<Session>) {
        let old = self.replace_session(id, session);
        self.undo.push(Undo::Session(id, old));
    }

    /// What was touched since the last seal: exactly the rows that a commit has to write.
    pub(super) fn touched(&self) -> Touched {
        let mut touched = Touched::default();
        let mut seen_invocations = HashSet::new();
        let mut seen_agents = HashSet::new();
        let mut seen_sessions = HashSet::new();
        for undo in &self.undo {
            match undo {
                Undo::Invocation(id, old) => {
                    if seen_invocations.insert(*id) {
                        let rows = if old.is_some() { &mut touched.changed } else { &mut touched.accepted };
                        rows.push(*id);
                    }
                }
                Undo::Agent(identity, _) => {
                    if seen_agents.insert(identity) {
                        touched.agents.push(identity.clone());
                    }
                }
                Undo::Session(id, old) => {
                    // Invoke sockets have no rows: their calls are journaled, not they.
                    if seen_sessions.insert(*id) {
                        match (old, self.sessions.get(id)) {
                            (_, Some(new)) if new.is_own() => touched.sessions.push(*id),
                            (Some(old), None) if old.is_own() => touched.ended.push(*id),
                            _ => {}
                        }
                    }
                }
            }
        }
        touched
    }

    /// The batch is on the disk: what it settled is forgotten.
    pub(super) fn seal(&mut self) {
        for undo in std::mem::take(&mut self.undo) {
            match undo {
                Undo::Invocation(id, _) => {
                    let Some(entry) = self.invocations.get(&id) else { continue };
                    let (agent, caller) = (entry.invocation.agent.clone(), entry.invocation.caller.clone());
                    if entry.invocation.is_settled() {
                        self.replace_invocation(id, None);
                    }
                    self.forget_idle(&agent);
                    self.forget_idle(&caller);
                }
                Undo::Agent(identity, _) => self.forget_idle(&identity),
                Undo::Session(_, old) => {
                    if let Some(session) = old {
                        self.forget_idle(session.identity());
                    }
                }
            }
        }
    }

    /// The batch is not on the disk: everything is as it was before it.
    pub(super) fn take_back(&mut self) {
        let mut named = Vec::new();
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Invocation(id, old) => {
                    let taken_back = self.replace_invocation(id, old).map(|entry| entry.invocation);
                    named.extend(taken_back.into_iter().flat_map(|invocation| [invocation.agent, invocation.caller]));
                }
                Undo::Session(id, old) => {
                    named.extend(self.replace_session(id, old).map(|session| session.identity().clone()));
                }
                Undo::Agent(identity, old) => {
                    self.agents.entry(identity.clone()).or_default().record = old;
                    self.follow_connection(&identity);
                    named.push(identity);
                }
            }
        }
        for identity in named {
            self.forget_idle(&identity);
        }
    }

    fn replace_invocation(&mut self, id: InvocationId, new: Option<Entry>) -> Option<Entry> {
        let old = self.invocations.remove(&id);
        if let Some(entry) = &old {
            self.unindex(entry);
        }
        match (&old, &new) {
            (None, Some(entry)) => _ = self.unsettled.insert(entry.invocation.accepted),
            (Some(entry), None) => _ = self.unsettled.remove(&entry.invocation.accepted),
            _ => {}
        }
        if let Some(mut entry) = new {
            self.index(&mut entry);
            self.invocations.insert(id, entry);
        }
        old
    }

    fn replace_session(&mut self, id: SessionId, new: Option<Session>) -> Option<Session> {
        let old = self.sessions.remove(&id);
        if let Some(session) = &old {
            *self.connections.of(&session.principal) -= 1;
        }
        if let Some(session) = &new {
            *self.connections.of(&session.principal) += 1;
        }
        let was = old.as_ref().filter(|session| session.is_own()).map(|session| session.identity().clone());
        let is = new.as_ref().filter(|session| session.is_own()).map(|session| session.identity().clone());
        if let Some(at) = old.as_ref().and_then(|session| session.drain_at) {
            self.due.remove(&(at, Due::Drain(id)));
        }
        if let Some(session) = new {
            if let Some(at) = session.drain_at {
                self.due.insert((at, Due::Drain(id)));
            }
            self.sessions.insert(id, session);
        }
        match (was, is) {
            (None, Some(identity)) => {
                // Ids are in the order of connection, also when a session comes back by a take-back.
                let sessions = &mut self.agents.entry(identity.clone()).or_default().sessions;
                let place = sessions.partition_point(|other| *other < id);
                sessions.insert(place, id);
                if sessions.len() == 1 {
                    self.follow_connection(&identity);
                }
            }
            (Some(identity), None) => {
                if let Some(agent) = self.agents.get_mut(&identity) {
                    agent.sessions.retain(|other| *other != id);
                    if agent.sessions.is_empty() {
                        self.follow_connection(&identity);
                    }
                }
            }
            _ => {}
        }
        old
    }

    /// An identity that never registered, has no socket, and that nothing names is forgotten.
    fn forget_idle(&mut self, identity: &Identity) {
        if self.agents.get(identity).is_some_and(Agent::is_idle) {
            self.agents.remove(identity);
        }
    }
}

impl Agent {
    fn is_idle(&self) -> bool {
        self.record.registered.is_none()
            && self.sessions.is_empty()
            && self.queue.is_empty()
            && self.in_flight.is_empty()
            && self.interrupted.is_empty()
            && self.plain.is_empty()
            && self.owed.is_empty()
            && self.unconfirmed.is_empty()
    }
}
