//! What must be so, at each commit, with each message, and in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_router::id::{Identity, InvocationId, NodeId, SessionId};
use agent_router::invocation::{Invocation, Origin, Reply, State};
use agent_router::journal::{Batch, Detail, EventKind, SessionStanding};
use agent_router::router::{Command, Outbound};

use super::peers::{AGENTS, own};
use super::world::{World, policy};
use crate::support::{BACKEND, ML};

const FINAL: [EventKind; 5] = [
    EventKind::InvocationCompleted,
    EventKind::InvocationFailed,
    EventKind::InvocationExpired,
    EventKind::InvocationTimedOut,
    EventKind::InvocationCancelled,
];

impl World {
    /// What a router is about to commit.
    pub(super) fn check_batch(&self, node: NodeId, batch: &Batch) {
        for woken in &batch.wake {
            assert!(*woken != node && self.is_present(*woken), "{node:?} wakes {woken:?}");
        }
        for row in batch.accepted.iter().chain(&batch.changed) {
            assert!(row.starts <= row.terms.max_attempts, "work is started too often: {row:?}");
        }
        for row in &batch.changed {
            assert!(self.shared.invocations[&row.id] != *row, "it is not changed: {row:?}");
        }
        for row in &batch.sessions {
            assert!(self.shared.sessions.get(&row.session) != Some(row), "it is not changed: {row:?}");
        }
        for event in &batch.events {
            if let Detail::InvocationDelivered { session, attempt, .. } = &event.detail {
                let on = batch.sessions.iter().find(|row| row.session == *session);
                let on = on.or_else(|| self.shared.sessions.get(session)).expect("it is delivered to a live socket");
                assert_eq!(on.node, node, "who holds a socket sends on it");
                let id = event.invocation.expect("it is about one");
                let before = self.shared.invocations.get(&id).map_or(0, |row| row.attempt);
                assert!(*attempt > before, "delivery {attempt} after {before}");
            }
        }
    }

    /// What a router sends.
    pub(super) fn check_sent(&mut self, node: NodeId, to: SessionId, message: &Outbound) {
        if let Some(peer) = self.peers.get(&to) {
            assert_eq!(peer.node, node, "a router sends on its own sockets: {message:?}");
        }
        match message {
            Outbound::Delivery(delivery) => {
                assert!(self.sent.insert((delivery.invocation, delivery.attempt)), "sent twice: {delivery:?}");
                let in_journal = self.shared.events.iter().any(|event| {
                    event.invocation == Some(delivery.invocation)
                        && matches!(event.detail, Detail::InvocationDelivered { attempt, session, .. }
                            if attempt == delivery.attempt && session == to)
                });
                assert!(in_journal, "not in the journal: {delivery:?}");
                let row = &self.shared.invocations[&delivery.invocation];
                if delivery.attempt == 1 {
                    let last = self.first.insert(row.agent.to_string(), row.accepted);
                    assert!(last < Some(row.accepted), "out of order: {row:?} after {last:?}");
                }
            }
            Outbound::Answer(answer) => {
                assert!(!self.shared.invocations[&answer.invocation].is_open(), "not in the journal: {answer:?}");
            }
            _ => {}
        }
    }

    /// All comes to rest, and for a second nothing new happens.
    pub(super) fn rest(&mut self) {
        let rough = std::mem::replace(&mut self.rough, false);
        for number in 1..=self.numbers {
            if !self.routers.contains_key(&number) {
                self.start(number);
            }
        }
        self.settle();
        self.compare();
        self.check_waiters();
        self.check_feed();
        self.now = self.now + Duration::from_secs(1);
        self.settle();
        self.check_queues();
        self.rough = rough;
    }

    /// What an agent can take does not wait.
    fn check_queues(&self) {
        for agent in AGENTS {
            let own: Vec<_> = self.shared.sessions.values().filter(|row| row.identity.as_str() == agent).collect();
            let receiver = own.iter().find(|row| row.registered.is_some()).or(own.last());
            let Some(receiver) = receiver.filter(|row| row.standing == SessionStanding::Live) else { continue };
            let of_agent: Vec<_> =
                self.shared.invocations.values().filter(|row| row.agent.as_str() == agent && row.is_open()).collect();
            let credit = if receiver.max_in_flight == 0 { policy().max_in_flight } else { receiver.max_in_flight };
            let in_flight = of_agent.iter().filter(|row| row.in_flight_on().is_some()).count();
            let interrupted = of_agent.iter().any(|row| matches!(row.state, State::Interrupted { .. }));
            let waits = of_agent.iter().find(|row| matches!(row.state, State::Queued { .. }));
            let can_take = in_flight < credit as usize && !interrupted;
            assert!(!can_take || waits.is_none(), "it could go to {receiver:?}: {waits:?}");
        }
    }

    /// All comes to rest, all callers come back, and then nothing is open or owed, and all know the same.
    pub(super) fn finale(&mut self) {
        self.rough = false;
        for number in 1..=self.numbers {
            if !self.routers.contains_key(&number) {
                self.start(number);
            }
            self.turn(number, vec![Command::Drain { on: false }]);
        }
        self.settle();
        self.compare();
        self.check_waiters();
        // Beyond every deadline, and the time in which sockets may register.
        self.now = self.now + Duration::from_mins(5);
        self.settle();
        self.compare();
        self.check_waiters();
        self.check_ends();
        self.come_back();
        self.check_feed();
        let ids: Vec<InvocationId> = self.shared.invocations.keys().copied().collect();
        for id in ids {
            self.check_answered(id);
        }
    }

    /// Each caller comes back somewhere, at first without registering.
    fn come_back(&mut self) {
        let callers: BTreeSet<Identity> = self.shared.invocations.values().map(|row| row.caller.clone()).collect();
        for caller in callers {
            let number = i64::from(self.draw(u32::try_from(self.numbers).expect("few"))) + 1;
            let session = SessionId::generate();
            let principal = own(caller.as_str());
            self.turn(number, vec![Command::Open { session, principal, sealed_credential: None }]);
            self.settle();
            self.now = self.now + Duration::from_secs(1);
            self.settle();
            if !self.peers.contains_key(&session) || caller.as_str() == BACKEND {
                continue;
            }
            if AGENTS.contains(&caller.as_str()) || [ML, "other"].contains(&caller.as_str()) {
                let register = self.registration(session);
                self.turn(number, vec![register]);
                self.settle();
            }
        }
        self.compare();
    }

    /// Every router goes by the rows that the journal has.
    pub(super) fn compare(&self) {
        let mut journal: Vec<Invocation> = self.shared.unsettled();
        journal.sort_by_key(|row| row.id);
        for (number, router) in &self.routers {
            let rows = router.ledger.rows();
            let mut invocations = rows.invocations;
            invocations.sort_by_key(|row| row.id);
            for (left, right) in invocations.iter().zip(&journal) {
                assert_eq!(left, right, "router {number} is of another opinion than the journal");
            }
            assert_eq!(invocations.len(), journal.len(), "router {number}: what is not settled");
            let sessions: BTreeMap<_, _> = rows.sessions.into_iter().map(|row| (row.session, row)).collect();
            assert_eq!(sessions, self.shared.sessions, "router {number}: who is connected");
            let nodes: BTreeMap<_, _> = rows.nodes.into_iter().map(|row| (row.node, row)).collect();
            assert_eq!(nodes, self.shared.nodes, "router {number}: who is there");
            assert!(router.http.iter().all(|id| self.shared.invocations[id].is_open()), "who waits is told");
        }
        let mut registered: BTreeMap<&Identity, u32> = BTreeMap::new();
        for row in self.shared.sessions.values() {
            let peer = self.peers.get(&row.session).expect("a row without a socket");
            assert_eq!(peer.node, row.node);
            let is_registered = row.registered.is_some() && row.standing == SessionStanding::Live;
            *registered.entry(&row.identity).or_default() += u32::from(is_registered);
            let same: Vec<_> = self.shared.sessions.values().filter(|other| other.identity == row.identity).collect();
            assert!(row.standing != SessionStanding::Registering, "it waits for nobody: {same:#?}");
        }
        assert!(registered.iter().all(|(who, count)| who.is_backend() || *count <= 1), "{registered:?}");
    }

    /// Each socket that waited for an answer was told, once.
    fn check_waiters(&self) {
        for (session, peer) in &self.peers {
            for (id, told) in &peer.waits {
                let row = &self.shared.invocations[id];
                let expected = u32::from(!row.is_open());
                let joined = row.key.is_some();
                assert!(*told == expected || joined, "{session} of {} was told {told} times: {row:?}", peer.name());
            }
        }
    }

    fn check_ends(&self) {
        let mut ends: BTreeMap<InvocationId, u32> = BTreeMap::new();
        for event in self.shared.events.iter().filter(|event| FINAL.contains(&event.detail.kind())) {
            *ends.entry(event.invocation.expect("it is about one")).or_default() += 1;
        }
        for (id, row) in &self.shared.invocations {
            assert!(!row.is_open(), "it has not ended: {row:?}");
            assert_eq!(ends.get(id), Some(&1), "it ends once: {row:?}");
        }
    }

    /// An answer that its caller had to be told was read.
    fn check_answered(&self, id: InvocationId) {
        let row = &self.shared.invocations[&id];
        assert_eq!(row.reply, Reply::None, "its caller came back: {row:?}");
        let Origin::Socket { .. } = row.origin else { return };
        let at = row.finished().expect("it has ended").at;
        let known_then = row.caller.is_master()
            || self.shared.events.iter().any(|event| {
                event.at < at
                    && event.agent.as_ref() == Some(&row.caller)
                    && event.detail.kind() == EventKind::AgentRegistered
            });
        let read = self
            .shared
            .events
            .iter()
            .any(|event| event.invocation == Some(id) && event.detail.kind() == EventKind::AnswerDelivered);
        assert!(read || !known_then, "nobody was told: {row:?}");
    }

    /// The notifications go to the newest of the backend's sockets, from the router that holds it.
    fn check_feed(&self) {
        let backend = self.shared.sessions.values().rfind(|row| row.identity.is_backend());
        for (number, router) in &self.routers {
            let expected = backend.filter(|row| row.node.0 == *number).map(|row| row.session);
            assert_eq!(router.feed, expected, "router {number} tells the backend");
        }
    }
}
