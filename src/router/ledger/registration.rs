//! An agent announces itself, takes over from its older socket, or asks for no more.

use std::time::Duration;

use super::session::{Registration, Session, Standing};
use super::{Effect, Ledger, Step, Subject, Verdict};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, SessionId};
use crate::invocation::after_interruption;
use crate::journal::Detail;
use crate::protocol::outbound::{agent_registered, frame_too_large_error, registered_notice};
use crate::protocol::{Register, Version};
use crate::router::outbox::{Ending, Outbound};

/// How long a registration waits for another router to close the socket that it takes over from.
const FENCE_AFTER: Duration = Duration::from_secs(2);

impl Ledger {
    pub(super) fn register(&mut self, id: SessionId, register: &Register, now: Timestamp, step: &mut Step) -> Verdict {
        let Some(session) = self.tables.session(id).cloned() else { return Verdict::Taken };
        if session.is_outgoing() || matches!(session.standing, Standing::Leaving | Standing::Fenced) {
            // It is on its way out, and a newer one may be on its way in.
            return Verdict::Taken;
        }
        let identity = session.identity().clone();
        let told = registered_notice(&register.payload, identity.as_str(), session.credential());
        if told.len() > self.policy.max_frame_bytes {
            step.send_at_once(id, frame_too_large_error());
            self.frame_refused(id, "a registration that is too large to be told to the backend", now, step);
            return Verdict::Refused(ErrorCode::FrameTooLarge);
        }
        // Several backends may be there at once: they are told things, not sent invocations.
        let takes_over = !identity.is_backend()
            && self
                .tables
                .sessions_of(&identity)
                .any(|other| other.id != id && (other.is_registered() || other.is_outgoing()));
        if takes_over {
            self.evict_others(id, &identity, step);
            let standing =
                Standing::Registering { version: register.version, register: Some(Box::new(register.clone())) };
            // One that did not get in touch with the journal for so long may be gone.
            let waits_for_others = self.tables.sessions_of(&identity).any(|other| other.node != self.node);
            let fence_at = waits_for_others.then(|| now + FENCE_AFTER);
            self.tables.put_session(id, Some(Session { standing, fence_at, ..session }));
        } else {
            self.complete_registration(id, register, now, step);
        }
        Verdict::Taken
    }

    fn evict_others(&mut self, id: SessionId, identity: &Identity, step: &mut Step) {
        let others: Vec<Session> = self
            .tables
            .sessions_of(identity)
            .filter(|other| other.id != id && other.is_registered())
            .cloned()
            .collect();
        for other in others {
            self.close(other, Standing::Evicted, Ending::TakenOver, step);
        }
    }

    /// Has a socket closed, by this router or by the one that holds it.
    pub(super) fn close(&mut self, session: Session, standing: Standing, why: Ending, step: &mut Step) {
        if session.node == self.node {
            step.effects.push(Effect::End { session: session.id, why });
        } else {
            step.wake_node(session.node);
        }
        let closed = Session { standing, drain_at: None, fence_at: None, ..session };
        self.tables.put_session(closed.id, Some(closed));
    }

    /// Registers the socket that waited for the end of those it takes over from.
    pub(super) fn finish_takeover(&mut self, identity: &Identity, now: Timestamp, step: &mut Step) {
        if self.tables.sessions_of(identity).any(Session::is_outgoing) {
            return;
        }
        let waiting = self.tables.sessions_of(identity).find_map(|session| match &session.standing {
            Standing::Registering { register, .. } => Some((session.id, session.node, register.clone())),
            _ => None,
        });
        match waiting {
            Some((id, _, Some(register))) => self.complete_registration(id, &register, now, step),
            Some((_, elsewhere, None)) => step.wake_node(elsewhere),
            None => {}
        }
    }

    fn complete_registration(&mut self, id: SessionId, register: &Register, now: Timestamp, step: &mut Step) {
        let Some(mut session) = self.tables.session(id).cloned() else { return };
        let identity = session.identity().clone();
        let most = self.policy.max_in_flight;
        let max_in_flight = match register.version {
            Version::One => most,
            Version::Two => register.max_in_flight.map_or(most, |asked| asked.min(most)),
        };
        let adopted = self.adoptable(id, &identity, &register.running);
        let version = register.version.number();
        let detail = Detail::AgentRegistered { session: id, version, max_in_flight, adopted: adopted.clone() };
        let position = self.record(step, now, Subject::agent(&identity), detail, Some(register.payload.clone()));
        session.registration = Some(Registration { position, version: register.version, max_in_flight });
        session.standing = Standing::Live;
        session.drain_at = None;
        session.fence_at = None;
        self.tables.put_session(id, Some(session));
        let mut record = self.tables.agent(&identity).map(|agent| agent.record).unwrap_or_default();
        record.registered = Some(position);
        self.tables.put_agent(&identity, record);

        for invocation in &adopted {
            self.adopt(*invocation, id, now, step);
        }
        if register.version == Version::Two {
            let interval = u64::try_from(self.ping_interval.as_millis()).unwrap_or(u64::MAX);
            step.send(id, Outbound::Frame(agent_registered(id, &adopted, interval)));
        }
        self.give_up_interrupted(&identity, now, step);
        if !identity.is_backend() {
            self.send_owed_answers(id, step);
        }
        step.wake(&identity);
    }

    /// What an agent says it is still at work on, as far as it can be so.
    fn adoptable(&self, session: SessionId, identity: &Identity, running: &[InvocationId]) -> Vec<InvocationId> {
        let mut adoptable = Vec::new();
        for id in running {
            if let Some(entry) = self.tables.invocation(*id)
                && entry.invocation.agent == *identity
                && entry.invocation.attempt > 0
                && entry.invocation.is_open()
                && entry.invocation.in_flight_on().is_none_or(|on| on == session)
                && !adoptable.contains(id)
            {
                adoptable.push(*id);
            }
        }
        adoptable
    }

    fn adopt(&mut self, id: InvocationId, session: SessionId, now: Timestamp, step: &mut Step) {
        let Some(entry) = self.tables.invocation(id) else { return };
        let (subject, attempt) = (Subject::of(&entry.invocation), entry.invocation.attempt);
        let detail = Detail::InvocationStarted { attempt, session, adopted: true };
        self.record(step, now, subject, detail, None);
        self.tables.change(id, |entry| {
            entry.invocation.adopt(session);
        });
    }

    /// The agent is back and did not come back with these.
    fn give_up_interrupted(&mut self, identity: &Identity, now: Timestamp, step: &mut Step) {
        let interrupted: Vec<InvocationId> =
            self.tables.agent(identity).map(|agent| agent.interrupted.values().copied().collect()).unwrap_or_default();
        for id in interrupted {
            if let Some(invocation) = self.tables.invocation(id).map(|entry| entry.invocation.clone()) {
                let known = self.is_known(identity);
                let next = after_interruption(invocation.starts, invocation.terms.max_attempts, known);
                self.follow_loss(&invocation, next, now, step);
            }
        }
    }

    pub(super) fn unregister(&mut self, id: SessionId, now: Timestamp, step: &mut Step) {
        let Some(mut session) = self.tables.session(id).cloned() else { return };
        if !matches!(session.standing, Standing::Live | Standing::Registering { .. }) {
            return;
        }
        let subject = Subject::agent(session.identity());
        step.wake(session.identity());
        session.standing = Standing::Leaving;
        session.fence_at = None;
        self.tables.put_session(id, Some(session));
        self.record(step, now, subject, Detail::AgentUnregistered { session: id }, None);
        // One that waited to register is now as good as it will be.
        self.send_owed_answers(id, step);
        self.finish_leaving(id, step);
    }

    /// Closes a socket that asked for no more, once it has answered all that it had.
    pub(super) fn finish_leaving(&self, id: SessionId, step: &mut Step) {
        let Some(session) = self.tables.session(id).filter(|session| session.node == self.node) else { return };
        if matches!(session.standing, Standing::Leaving) && self.in_flight_on(session.identity(), id).next().is_none() {
            step.send(id, Outbound::Finish);
        }
    }
}
