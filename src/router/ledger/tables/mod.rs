//! What is true now: agents, sockets and the invocations that are not settled, with the indexes that follow from them.
//!
//! Every change goes through `put_*` or `change` and is remembered until the batch is sealed, so that a batch whose
//! commit failed can be taken back as if it had never been. An index is never changed by itself: it follows from the
//! record, so taking back the record takes back the index. While one batch is being committed, [launched](Tables::launch),
//! the next one is decided on top of it.

mod indexes;
mod touched;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::id::{IdMap, Identity, InvocationId, NodeId, Position, SessionId};
use crate::invocation::{Invocation, State};
use crate::journal::NodeRow;
use crate::router::ledger::session::Session;
use crate::router::survey::Connections;

/// An unsettled invocation, and the sockets that wait for its answer.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) invocation: Invocation,
    pub(super) waiters: SmallVec<[Waiter; 1]>,
    due: Option<Timestamp>,
    /// The batch that changed it last.
    batch: u64,
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
    /// The batch that changed anything here last.
    batch: u64,
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

/// How long what has ended is kept for what may still come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    /// After its end, for its caller's next socket.
    pub(super) answer: Duration,
    /// After its deadline, for its agent's answer.
    pub(super) late_answer: Duration,
}

/// Something that happens at a time and not by a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Look at this invocation.
    Invocation(InvocationId),
    /// Send what waits to this socket, which has not registered.
    Drain(SessionId),
    /// This socket no longer waits for those of other routers that it takes over from.
    Fence(SessionId),
}

/// By what an idempotency key is unique.
pub(super) type KeyScope = (Identity, Identity, Arc<str>);

#[derive(Debug)]
enum Undo {
    Invocation(InvocationId, Option<Entry>),
    Agent(Identity, AgentRecord),
    Session(SessionId, Option<Session>),
    Node(NodeId, Option<NodeRow>),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tables {
    invocations: IdMap<InvocationId, Entry>,
    agents: IdMap<Identity, Agent>,
    sessions: IdMap<SessionId, Session>,
    nodes: BTreeMap<NodeId, NodeRow>,
    /// This router.
    node: NodeId,
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
    patience: Patience,
    /// The number of the running batch.
    batch: u64,
    /// What the running batch has changed, as it was.
    undo: Vec<Undo>,
    /// The same of the batch that is being committed.
    launched: Option<Vec<Undo>>,
}

impl Tables {
    pub(super) fn new(node: NodeId, patience: Patience) -> Self {
        Self { node, patience, ..Self::default() }
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

    /// The same name, in the memory that its record has it in already.
    pub(super) fn known_as(&self, name: Identity) -> Identity {
        self.agents.get_key_value(&name).map_or(name, |(known, _)| known.clone())
    }

    pub(super) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// The unsettled invocations.
    pub(super) fn invocations(&self) -> impl Iterator<Item = &Entry> {
        self.invocations.values()
    }

    /// Who is remembered.
    pub(super) fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.agents.keys()
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&NodeRow> {
        self.nodes.get(&id)
    }

    /// The routers that ever wrote here.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values()
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

    /// How many deliveries to this agent carried a plain `invoked_by` and are unanswered.
    pub(super) fn plain_unanswered(&self, agent: &Identity) -> usize {
        self.agents.get(agent).map_or(0, |agent| agent.plain.len())
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

    /// What is due when, in order.
    pub(super) fn dues(&self) -> impl Iterator<Item = (Timestamp, Due)> {
        self.due.iter().copied()
    }

    /// The first thing that is due by now. It stays until a change of its record moves it.
    pub(super) fn due(&self, now: Timestamp) -> Option<Due> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, due)| *due)
    }

    /// Writes an invocation back, or a new one.
    pub(super) fn put_invocation(&mut self, invocation: Invocation, waiters: SmallVec<[Waiter; 1]>) {
        let id = invocation.id;
        let old = self.replace_invocation(id, Some(Entry { invocation, waiters, due: None, batch: self.batch }));
        self.undo.push(Undo::Invocation(id, old));
    }

    /// Lets go of an invocation that others have settled.
    pub(super) fn forget(&mut self, id: InvocationId) -> Option<Entry> {
        let old = self.replace_invocation(id, None)?;
        for identity in [&old.invocation.agent, &old.invocation.caller] {
            if self.agents.get(identity).is_some_and(Agent::is_idle) {
                self.agents.remove(identity);
            }
        }
        Some(old)
    }

    /// Changes an invocation, if it is there.
    pub(super) fn change(&mut self, id: InvocationId, change: impl FnOnce(&mut Entry)) {
        if let Some(old) = self.invocations.get(&id).cloned() {
            let mut new = Entry { batch: self.batch, ..old.clone() };
            change(&mut new);
            self.reindex(&old, &mut new);
            self.invocations.insert(id, new);
            self.undo.push(Undo::Invocation(id, Some(old)));
        }
    }

    /// Writes an agent's record.
    pub(super) fn put_agent(&mut self, identity: &Identity, record: AgentRecord) {
        let batch = self.batch;
        let agent = self.agents.entry(identity.clone()).or_default();
        agent.batch = batch;
        let old = std::mem::replace(&mut agent.record, record);
        self.undo.push(Undo::Agent(identity.clone(), old));
        self.follow_connection(identity);
    }

    /// Writes a socket back, or a new one, or ends it.
    pub(super) fn put_session(&mut self, id: SessionId, session: Option<Session>) {
        let old = self.replace_session(id, session);
        self.undo.push(Undo::Session(id, old));
    }

    /// Writes a router's row.
    pub(super) fn put_node(&mut self, row: NodeRow) {
        let id = row.node;
        let old = self.nodes.insert(id, row);
        self.undo.push(Undo::Node(id, old));
    }

    /// Whether nothing has changed since the last seal.
    pub(super) const fn is_sealed(&self) -> bool {
        self.undo.is_empty() && self.launched.is_none()
    }

    /// The running batch is being committed: what changes from now on belongs to the next.
    pub(super) fn launch(&mut self) {
        debug_assert!(self.launched.is_none(), "one batch is committed at a time");
        self.launched = Some(std::mem::take(&mut self.undo));
        self.batch += 1;
    }

    /// The launched batch is on the disk, or the running one if none is launched: what it settled is forgotten.
    pub(super) fn seal(&mut self) {
        if self.launched.is_none() {
            self.launch();
        }
        for undo in self.launched.take().unwrap_or_default() {
            match undo {
                Undo::Invocation(id, _) => {
                    let Some(Entry { invocation, batch, .. }) = self.invocations.get(&id) else { continue };
                    // An open one is its agent's business still, and none of its caller's yet. What the running batch has
                    // changed again is that one's to forget.
                    if invocation.is_open() || *batch == self.batch {
                        continue;
                    }
                    let order = Arc::clone(&invocation.order);
                    if invocation.is_settled() {
                        self.replace_invocation(id, None);
                    }
                    self.forget_idle(&order.agent);
                    self.forget_idle(&order.caller);
                }
                Undo::Agent(identity, _) => self.forget_idle(&identity),
                Undo::Session(_, old) => {
                    if let Some(session) = old {
                        self.forget_idle(session.identity());
                    }
                }
                Undo::Node(..) => {}
            }
        }
    }

    /// Neither the launched batch nor the running one is on the disk: everything is as it was before them.
    pub(super) fn take_back(&mut self) {
        self.retract();
        if let Some(launched) = self.launched.take() {
            self.undo = launched;
            self.retract();
            self.batch -= 1;
        }
    }

    /// Everything is as it was before the running batch.
    pub(super) fn retract(&mut self) {
        let mut named = Vec::new();
        let is_sealed = self.launched.is_none();
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Invocation(id, old) => {
                    // What the batch before had settled when it was sealed is forgotten now, as it would have been then.
                    let old = old.filter(|old| !(is_sealed && old.invocation.is_settled()));
                    let taken_back = self.replace_invocation(id, old).map(|entry| entry.invocation);
                    named.extend(taken_back.iter().flat_map(|it| [it.agent.clone(), it.caller.clone()]));
                }
                Undo::Session(id, old) => {
                    named.extend(self.replace_session(id, old).map(|session| session.identity().clone()));
                }
                Undo::Agent(identity, old) => {
                    self.agents.entry(identity.clone()).or_default().record = old;
                    self.follow_connection(&identity);
                    named.push(identity);
                }
                Undo::Node(id, Some(old)) => _ = self.nodes.insert(id, old),
                Undo::Node(id, None) => _ = self.nodes.remove(&id),
            }
        }
        for identity in named {
            self.forget_idle(&identity);
        }
    }

    fn replace_invocation(&mut self, id: InvocationId, new: Option<Entry>) -> Option<Entry> {
        let Some(mut new) = new else {
            let old = self.invocations.remove(&id)?;
            self.unindex(&old);
            return Some(old);
        };
        let old = self.invocations.remove(&id);
        match &old {
            Some(old) => self.reindex(old, &mut new),
            None => self.index(&mut new),
        }
        self.invocations.insert(id, new);
        old
    }

    fn replace_session(&mut self, id: SessionId, new: Option<Session>) -> Option<Session> {
        let old = self.sessions.remove(&id);
        if let Some(session) = old.as_ref().filter(|session| session.node == self.node) {
            *self.connections.of(&session.principal) -= 1;
        }
        if let Some(session) = new.as_ref().filter(|session| session.node == self.node) {
            *self.connections.of(&session.principal) += 1;
        }
        let was = old.as_ref().filter(|session| session.counts()).map(|session| session.identity().clone());
        let is = new.as_ref().filter(|session| session.counts()).map(|session| session.identity().clone());
        for due in old.iter().flat_map(dues_of) {
            self.due.remove(&due);
        }
        if let Some(session) = new {
            self.due.extend(dues_of(&session));
            self.sessions.insert(id, session);
        }
        match (was, is) {
            (None, Some(identity)) => {
                // Ids are in the order of connection, also when a session comes back by a take-back.
                let agent = self.agents.entry(identity.clone()).or_default();
                agent.batch = self.batch;
                let sessions = &mut agent.sessions;
                let place = sessions.partition_point(|other| *other < id);
                sessions.insert(place, id);
                if sessions.len() == 1 {
                    self.follow_connection(&identity);
                }
            }
            (Some(identity), None) => {
                if let Some(agent) = self.agents.get_mut(&identity) {
                    agent.batch = self.batch;
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
        // What is not durable yet may be taken back, and then its record is needed: its batch forgets it.
        let is_settled = |agent: &Agent| {
            agent.record.last_seen.is_none()
                || self.launched.is_none() && (self.undo.is_empty() || agent.batch != self.batch)
        };
        if self.agents.get(identity).is_some_and(|agent| agent.is_idle() && is_settled(agent)) {
            self.agents.remove(identity);
        }
    }
}

/// What a socket is due for.
fn dues_of(session: &Session) -> impl Iterator<Item = (Timestamp, Due)> + use<> {
    let id = session.id;
    let drain = session.drain_at.map(|at| (at, Due::Drain(id)));
    let fence = session.fence_at.map(|at| (at, Due::Fence(id)));
    drain.into_iter().chain(fence)
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
