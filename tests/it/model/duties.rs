//! What must have been done by a moment, and the comparison with the rows.

use agent_router::clock::Timestamp;
use agent_router::id::{Identity, InvocationId};
use agent_router::invocation::{self, Invocation};
use agent_router::journal::{InvocationRecord, Restored};
use agent_router::protocol::Version;
use agent_router::router::Workload;

use super::state::{Call, Model, Reply, Socket, Standing, State, Way};

/// Answers that a socket is sent in another's place before it has confirmed any.
const MAX_UNCONFIRMED: usize = 256;

impl Model {
    /// Nothing is left that was due.
    pub(super) fn assert_nothing_is_overdue(&self, now: Timestamp) {
        for (id, call) in &self.calls {
            assert!(!call.is_open() || call.deadline > now, "{id} is open beyond its deadline: {call:?}");
            let ttl_over = self.ttl_over_at(call).is_some_and(|at| at <= now);
            assert!(!ttl_over, "{id} waits beyond its ttl: {call:?}");
            let grace_over = matches!(call.state, State::Interrupted { until } if until <= now);
            assert!(!grace_over, "{id} is waited for beyond its grace: {call:?}");
            let owed_over = call.reply != Reply::None
                && call.finished_at.is_some_and(|finished| finished + self.limits.answer_ttl <= now);
            assert!(!owed_over, "{id} is owed for too long: {call:?}");
        }
    }

    /// After a start there is the whole grace to come back with what was begun.
    pub(super) fn assert_all_is_waited_for(&self, now: Timestamp) {
        let whole = now + self.limits.resume_grace;
        for (id, call) in &self.calls {
            let in_time = !matches!(call.state, State::Interrupted { until } if until < whole);
            assert!(in_time, "{id} could not be resumed while the router was away: {call:?}");
        }
    }

    /// Nothing waits that could be done.
    pub(super) fn assert_nothing_is_held_up(&self) {
        for (id, call) in self.calls.iter().filter(|(_, call)| !call.is_settled()) {
            if let Some(session) = call.in_flight_on() {
                assert!(self.is_live(session), "{id} is in flight on a socket that is gone: {call:?}");
            }
            assert!(call.read.len() <= call.max_attempts as usize, "{id} was started too often: {call:?}");
            assert!(call.lost.len() <= self.limits.max_deliveries as usize, "{id} was delivered in vain too often");
            if call.reply == Reply::Owed {
                let has_room = |session| self.unconfirmed(session) < MAX_UNCONFIRMED;
                let mut takers = self.own(&call.caller).filter(|(session, _)| self.may_take(*session, call));
                let taker = takers.find(|(session, _)| has_room(*session));
                assert!(taker.is_none(), "{id} is owed to {taker:?}");
            }
        }
        let waiting: std::collections::BTreeSet<&Identity> = self
            .calls
            .values()
            .filter(|call| matches!(call.state, State::Queued { .. }))
            .map(|call| &call.agent)
            .collect();
        for agent in waiting {
            if let Some((session, socket)) = self.ready(agent) {
                assert!(socket.drain_at.is_some(), "{agent} is sent nothing on {session} although something waits");
            }
        }
        let leaving = |socket: &Socket| socket.live && socket.standing == Standing::Leaving;
        for (session, _) in self.sockets.iter().filter(|(_, socket)| leaving(socket)) {
            assert!(self.is_at_work(*session), "{session} has nothing left to do and is not told so");
        }
    }

    /// The row of an invocation is what the model says.
    pub(super) fn assert_row(&self, row: &Invocation) {
        let call = self.calls.get(&row.id).expect("only what was accepted has a row");
        assert_eq!((&row.agent, &row.caller, row.accepted), (&call.agent, &call.caller, call.accepted));
        assert_eq!((row.terms.ttl, row.terms.deadline), (call.ttl, call.deadline));
        assert_eq!((row.terms.max_attempts, row.additions), (call.max_attempts, call.additions));
        assert_eq!(row.key.as_ref().map(|key| &*key.key), call.key.as_deref());
        assert_eq!(way(row.origin), call.way);
        assert_eq!(row.attempt, call.attempt, "deliveries of {call:?}");
        assert_eq!(row.starts as usize, call.read.len(), "starts of {}: {call:?}", row.id);
        assert_eq!(row.unreceipted as usize, call.lost.len(), "deliveries in vain of {}: {call:?}", row.id);
        assert_eq!(row.plain_unanswered, call.plain_unanswered, "the plain name of {}: {call:?}", row.id);
        let reply = match row.reply {
            invocation::Reply::None => Reply::None,
            invocation::Reply::Owed => Reply::Owed,
            invocation::Reply::Sent { session } => Reply::Sent(session),
        };
        assert_eq!(reply, call.reply, "the reply to {}: {call:?}", row.id);
        let state = match row.state {
            invocation::State::Queued { since } => State::Queued { since },
            invocation::State::Delivered { session } => State::Delivered(session),
            invocation::State::Running { session } => State::Running(session),
            invocation::State::Interrupted { until } => State::Interrupted { until },
            invocation::State::Finished(finished) => {
                assert_eq!(Some(finished.at), call.finished_at);
                assert_eq!(finished.answer, call.answer.as_ref().map(|(position, _)| *position));
                State::Finished(finished.outcome)
            }
        };
        assert_eq!(state, call.state, "the state of {}: {call:?}", row.id);
    }

    /// What operators are told that there is to do.
    pub(super) fn assert_workload(&self, workload: &Workload) {
        let open = self.calls.values().filter(|call| call.is_open());
        let since = |call: &Call| if let State::Queued { since } = call.state { Some(since) } else { None };
        let queued: Vec<Timestamp> = open.clone().filter_map(since).collect();
        assert_eq!(workload.draining, self.draining);
        assert_eq!(workload.connections, self.sockets.values().filter(|socket| socket.live).count());
        assert_eq!(workload.by_role.all(), workload.connections);
        assert_eq!(workload.open, open.clone().count());
        assert_eq!(workload.queued, queued.len());
        assert_eq!(workload.oldest_queued, queued.into_iter().min());
        assert_eq!(workload.in_flight, open.filter(|call| call.in_flight_on().is_some()).count());
    }

    /// What a reader sees of an invocation is what the model says.
    pub(super) fn assert_record(&self, id: InvocationId, record: &InvocationRecord) {
        let call = &self.calls[&id];
        assert_eq!(record.state.as_str(), call.state_name());
        assert_eq!(record.attempt, call.attempt);
        assert_eq!(record.finished_at, call.finished_at);
        let kept = !call.erased;
        assert_eq!(record.body.as_ref(), Some(&call.body).filter(|_| kept));
        assert_eq!(record.answer.as_ref(), call.answer.as_ref().map(|(_, body)| body).filter(|_| kept));
    }

    /// What a start would find is what the model says.
    pub(super) fn assert_restored(&self, restored: &Restored) {
        assert_eq!(restored.head.position, self.head);
        assert_eq!(restored.feed_acknowledged, self.feed_acknowledged);
        let unsettled: Vec<InvocationId> = restored.unsettled.iter().map(|row| row.id).collect();
        let expected = self.calls.iter().filter(|(_, call)| !call.is_settled()).map(|(id, _)| *id);
        assert_eq!(unsettled, expected.collect::<Vec<_>>(), "what is not settled");
        restored.unsettled.iter().for_each(|row| self.assert_row(row));
        let sessions: Vec<_> = restored.sessions.iter().map(|row| (row.session, &row.identity)).collect();
        let live = self.sockets.iter().filter(|(_, socket)| socket.live && socket.target.is_none());
        assert_eq!(sessions, live.map(|(id, socket)| (*id, &socket.identity)).collect::<Vec<_>>(), "who is connected");
        for row in &restored.sessions {
            let Socket { registered, standing, .. } = &self.sockets[&row.session];
            assert_eq!(row.registered, registered.map(|registered| registered.position));
            let version = match standing {
                Standing::Registering(register) => Some(register.version),
                _ => registered.map(|registered| registered.version),
            };
            assert_eq!(row.version == 2, version == Some(Version::Two));
        }
        // While it is connected, it does not matter when it was before.
        let seen = |agent, last_seen| (agent, Some(last_seen).filter(|_| !self.is_connected(agent)));
        // One that never registered is remembered for what waits for it; the row may stay longer.
        let is_waited_for = |agent: &Identity| !self.is_connected(agent) && self.queue(agent).next().is_some();
        let is_remembered = |agent: &Identity| self.is_known(agent) || is_waited_for(agent);
        let rows = restored.agents.iter().filter(|row| is_remembered(&row.agent));
        let rows: Vec<_> = rows.map(|row| seen(&row.agent, row.last_seen)).collect();
        let records = self.identities.iter().filter(|(agent, _)| is_remembered(agent));
        let records: Vec<_> = records.map(|(agent, record)| seen(agent, record.last_seen)).collect();
        assert_eq!(rows, records, "who was seen when");
        for row in &restored.agents {
            assert_eq!(row.registered.is_some(), self.is_known(&row.agent), "who is known: {row:?}");
        }
    }
}

fn way(origin: invocation::Origin) -> Way {
    match origin {
        invocation::Origin::Socket { session, registered } => Way::Own { session, registered },
        invocation::Origin::InvokeSocket { session } => Way::InvokeSocket(session),
        invocation::Origin::ClientMessage => Way::Message,
        invocation::Origin::Http => Way::Http,
    }
}
