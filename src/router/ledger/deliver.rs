//! Invocations go out: to which socket, when, in which order, and under which name of the caller.

use std::borrow::Cow;

use bytes::Bytes;

use super::session::{Session, Standing};
use super::{Effect, Ledger, Step, Subject};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, MAX_IDENTITY_BYTES, SessionId};
use crate::invocation::{Invocation, Origin, Receipt};
use crate::journal::Detail;
use crate::protocol;
use crate::router::outbox::{Body, Delivery, DeliveryAddition, Outbound};

/// More than a delivery can add to a body: two names and an id, each byte of them escaped, and what stands around them.
const MAX_ADDED: usize = 6 * (2 * MAX_IDENTITY_BYTES + 64) + 512;

impl Ledger {
    /// The socket that an agent is sent things on: the registered one, else the newest. None while one is being taken
    /// over, or has asked for no more.
    pub(super) fn receiver(&self, agent: &Identity) -> Option<SessionId> {
        let registered = self.tables.sessions_of(agent).find(|session| session.is_registered());
        let session = registered.or_else(|| self.tables.sessions_of(agent).next_back())?;
        matches!(session.standing, Standing::Live).then_some(session.id)
    }

    /// The socket of this router that takes the next invocation for an agent now, if one does.
    fn ready(&self, agent: &Identity) -> Option<&Session> {
        if self.marks.shutting_down {
            // Sockets are being closed: what is not sent now is certainly not started.
            return None;
        }
        self.ready_anywhere(agent).filter(|session| session.node == self.node)
    }

    /// The same, of any router. Only the one that holds it sends on it.
    fn ready_anywhere(&self, agent: &Identity) -> Option<&Session> {
        let state = self.tables.agent(agent)?;
        let session = self.tables.session(self.receiver(agent)?)?;
        let credit = session.registration.map_or(self.policy.max_in_flight, |registration| registration.max_in_flight);
        let has_credit = state.in_flight.len() < credit as usize;
        (has_credit && state.interrupted.is_empty()).then_some(session)
    }

    /// Whether a new invocation would be sent at once, here or by the router that holds the agent's socket.
    pub(super) fn can_deliver_now(&self, agent: &Identity) -> bool {
        self.ready_anywhere(agent).is_some() && self.tables.agent(agent).is_some_and(|agent| agent.queue.is_empty())
    }

    /// Sends what waits for the agents that a decision woke, as far as they take it.
    pub(super) fn deliver_woken(&mut self, now: Timestamp, step: &mut Step) {
        while let Some(agent) = step.woken.pop_first() {
            self.deliver_next(&agent, None, now, step);
        }
    }

    /// Sends what waits for an agent, as far as it takes it; `at_hand` are the bytes of one that was just accepted.
    pub(super) fn deliver_next(
        &mut self,
        agent: &Identity,
        at_hand: Option<&(InvocationId, Bytes)>,
        now: Timestamp,
        step: &mut Step,
    ) {
        while let Some(id) = self.next_for(agent, at_hand.map(|(id, _)| *id)) {
            let Some(session) = self.ready(agent) else { break };
            let (session, speaks_v2) = (session.id, session.speaks_v2());
            let body = at_hand.filter(|(accepted, _)| *accepted == id).map(|(_, body)| body.clone());
            self.deliver(id, session, speaks_v2, body, now, step);
        }
        if self.tables.agent(agent).is_some_and(|agent| !agent.queue.is_empty())
            && let Some(ready) = self.ready_anywhere(agent)
        {
            step.wake_node(ready.node);
        }
    }

    /// Whether an effect is still what is to be done, after others have gone on: a delivery may be off its socket by now.
    #[must_use]
    pub fn still_holds(&self, effect: &Effect) -> bool {
        let Effect::Send { to, message: Outbound::Delivery(delivery), .. } = effect else { return true };
        let invocation = self.tables.invocation(delivery.invocation).map(|entry| &entry.invocation);
        invocation.is_some_and(|invocation| invocation.in_flight_on() == Some(*to))
    }

    fn next_for(&self, agent: &Identity, accepted: Option<InvocationId>) -> Option<InvocationId> {
        let session = self.ready(agent)?;
        let queue = &self.tables.agent(agent)?.queue;
        let next = *queue.values().next()?;
        // A socket may be about to register; what waited for the agent is then the registered socket's. What is new
        // and finds nothing waiting goes at once: then the newest is the first.
        let alone = accepted == Some(next);
        (session.drain_at.is_none() || alone).then_some(next)
    }

    fn deliver(
        &mut self,
        id: InvocationId,
        session: SessionId,
        speaks_v2: bool,
        at_hand: Option<Bytes>,
        now: Timestamp,
        step: &mut Step,
    ) {
        let Some(entry) = self.tables.invocation(id) else { return };
        let invocation = &entry.invocation;
        if !self.fits(invocation) {
            // It was small enough when it was accepted; this time it carries more.
            self.fail(id, ErrorCode::FrameTooLarge, now, step);
            return;
        }
        let (invoked_by, plain) = self.token(invocation);
        let invoked_by = invoked_by.into_owned();
        let attempt = invocation.attempt + 1;
        let subject = Subject::of(invocation);
        let addition =
            speaks_v2.then_some(DeliveryAddition { deadline: invocation.terms.deadline, redelivered: attempt > 1 });
        let stored = invocation.accepted;
        let detail = Detail::InvocationDelivered { attempt, session, plain };
        self.record(step, now, subject, detail, None);
        self.tables.change(id, |entry| entry.invocation.deliver(session, now, plain));
        let body = at_hand.map_or(Body::Stored(stored), Body::Inline);
        step.effects.push(Effect::Send {
            to: session,
            message: Outbound::Delivery(Box::new(Delivery { invocation: id, attempt, invoked_by, addition, body })),
            stored: Some(stored),
        });
    }

    /// `invoked_by` as the next delivery carries it, and whether that is the plain one: it is while no other delivery
    /// to the agent that carried the same may still be answered, and not too many that carried others.
    fn token<'a>(&self, invocation: &'a Invocation) -> (Cow<'a, str>, bool) {
        let plain = invocation.plain_invoked_by();
        let free = !matches!(invocation.origin, Origin::ClientMessage)
            && self.tables.plain_holder(&invocation.agent, &plain).is_none()
            && self.tables.plain_unanswered(&invocation.agent) < self.policy.max_plain;
        if free { (plain, true) } else { (format!("{plain}#{}", invocation.id).into(), false) }
    }

    /// Whether the frame by which an invocation is delivered as things stand is none too large.
    pub(super) fn fits(&self, invocation: &Invocation) -> bool {
        let largest = self.policy.max_frame_bytes;
        let body_bytes = invocation.body_bytes as usize;
        // Seldom is it so close that what is added has to be written out to be counted.
        body_bytes + MAX_ADDED < largest || body_bytes + self.added_len(invocation) <= largest
    }

    /// How much a delivery adds to a body, at most.
    fn added_len(&self, invocation: &Invocation) -> usize {
        let (invoked_by, _) = self.token(invocation);
        let version_2 = self
            .receiver(&invocation.agent)
            .and_then(|session| self.tables.session(session))
            .is_some_and(Session::speaks_v2);
        let addition = version_2.then_some(protocol::Addition {
            invocation_id: invocation.id,
            attempt: invocation.attempt + 1,
            deadline_ms: u64::from(u32::MAX),
            redelivered: invocation.attempt > 0,
        });
        // What is added to an empty object, and the comma behind it.
        protocol::Delivery { invoked_by: &invoked_by, addition }.encoded_len(b"{}") - "{}".len() + 1
    }

    pub(super) fn receipts(
        &mut self,
        session: SessionId,
        deliveries: &[(InvocationId, u32)],
        now: Timestamp,
        step: &mut Step,
    ) {
        for (id, attempt) in deliveries {
            let Some(entry) = self.tables.invocation(*id) else { continue };
            if entry.invocation.in_flight_on() != Some(session) {
                continue;
            }
            if entry.invocation.clone().receipt(*attempt) == Receipt::Started {
                let subject = Subject::of(&entry.invocation);
                let detail = Detail::InvocationStarted { attempt: *attempt, session, adopted: false };
                self.record(step, now, subject, detail, None);
                self.tables.change(*id, |entry| _ = entry.invocation.receipt(*attempt));
            }
        }
    }
}
