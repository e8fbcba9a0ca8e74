//! Answers go out: to the sockets that wait, or to the caller's next own socket.

use bytes::Bytes;

use super::session::{Session, Standing};
use super::tables::Waiter;
use super::{Effect, Ledger, Step, Subject};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, NodeId, SessionId};
use crate::invocation::{Invocation, Origin, Outcome, Reply};
use crate::journal::Detail;
use crate::protocol::outbound::{ErrorAddition, invocation_error};
use crate::router::command::AnswerRead;
use crate::router::outbox::{Answer, AnswerContent, Body, Outbound};

/// Answers that a socket is sent because another missed them, before it has confirmed any.
const MAX_UNCONFIRMED: usize = 256;

impl Ledger {
    /// Sends an answer whose socket is gone to the caller's next own socket, if it is there already. The router that holds
    /// the socket sends it; if the one that asked is there, that is the one.
    pub(super) fn next_socket(&self, invocation: &Invocation, now: Timestamp, step: &mut Step) -> Option<SessionId> {
        if let Some(node) = self.asked_elsewhere(invocation) {
            step.wake_node(node);
            return None;
        }
        // Another router's socket may be about to register, and takes nothing before.
        let is_settled = |session: &Session| {
            let had_its_time = session.connected_at + self.policy.drain_delay <= now;
            had_its_time || session.registration.is_some() || session.identity().is_master()
        };
        let next = self
            .tables
            .sessions_of(&invocation.caller)
            .rfind(|session| takes_answer(session, invocation) && (session.node == self.node || is_settled(session)))?;
        if next.node != self.node {
            // Its router may be gone, and then another's socket gets it.
            self.tables.sessions_of(&invocation.caller).for_each(|session| step.wake_node(session.node));
            return None;
        }
        let waiter = Waiter { session: next.id, additions: invocation.additions };
        send_answer(invocation, waiter, None, step);
        Some(next.id)
    }

    /// Sends a socket what its identity missed, a page at a time: the next follows when this is confirmed.
    pub(super) fn send_owed_answers(&mut self, id: SessionId, step: &mut Step) {
        let Some(session) = self.tables.session(id).filter(|session| session.node == self.node) else { return };
        let Some(caller) = self.tables.agent(session.identity()) else { return };
        if caller.owed.is_empty() {
            return;
        }
        let unconfirmed = self.unconfirmed_on(session.identity(), id).count();
        let page: Vec<Invocation> = caller
            .owed
            .values()
            .filter_map(|id| self.tables.invocation(*id))
            .map(|entry| &entry.invocation)
            .filter(|invocation| takes_answer(session, invocation) && self.asked_elsewhere(invocation).is_none())
            .take(MAX_UNCONFIRMED.saturating_sub(unconfirmed))
            .cloned()
            .collect();
        for invocation in page {
            let waiter = Waiter { session: id, additions: invocation.additions };
            send_answer(&invocation, waiter, None, step);
            self.tables.change(invocation.id, |entry| entry.invocation.reply = Reply::Sent { session: id });
        }
    }

    /// Answers that were sent on a socket that ended, and not confirmed, go to the next.
    pub(super) fn replies_lost(&mut self, caller: &Identity, session: SessionId, step: &mut Step) {
        let lost: Vec<InvocationId> = self.unconfirmed_on(caller, session).collect();
        if lost.is_empty() && self.alone {
            return;
        }
        for id in lost {
            self.tables.change(id, |entry| entry.invocation.reply = Reply::Owed);
        }
        self.send_owed_to_all(caller, step);
    }

    /// Sends what is owed to the caller to its sockets, or has the routers that hold them do so.
    pub(super) fn send_owed_to_all(&mut self, caller: &Identity, step: &mut Step) {
        if self.tables.agent(caller).is_none_or(|caller| caller.owed.is_empty()) {
            return;
        }
        let sockets: Vec<_> = self.tables.sessions_of(caller).rev().map(|session| (session.id, session.node)).collect();
        for (socket, node) in sockets {
            step.wake_node(node);
            self.send_owed_answers(socket, step);
        }
    }

    /// The router that holds the socket which asked, if another does: that sends the answer.
    fn asked_elsewhere(&self, invocation: &Invocation) -> Option<NodeId> {
        match invocation.origin {
            Origin::Socket { session, .. } => self.elsewhere(session),
            _ => None,
        }
    }

    /// Answers that were sent on a socket and are not confirmed.
    fn unconfirmed_on(&self, caller: &Identity, session: SessionId) -> impl Iterator<Item = InvocationId> {
        let sent = self.tables.agent(caller).into_iter().flat_map(|caller| caller.unconfirmed.values().copied());
        sent.filter(move |id| {
            let entry = self.tables.invocation(*id);
            entry.is_some_and(|entry| entry.invocation.reply == Reply::Sent { session })
        })
    }

    pub(super) fn answers_delivered(
        &mut self,
        session: SessionId,
        answers: &[AnswerRead],
        now: Timestamp,
        step: &mut Step,
    ) {
        let Some(caller) = self.tables.session(session).map(|session| session.identity().clone()) else { return };
        for AnswerRead { invocation: id, agent, labels } in answers {
            let subject = Subject {
                invocation: Some(*id),
                agent: Some(agent.clone()),
                caller: Some(caller.clone()),
                labels: labels.clone(),
            };
            self.record(step, now, subject, Detail::AnswerDelivered { session }, None);
            if self.tables.invocation(*id).is_some_and(|entry| !matches!(entry.invocation.reply, Reply::None)) {
                self.tables.change(*id, |entry| entry.invocation.reply = Reply::None);
            }
        }
        self.send_owed_answers(session, step);
    }
}

/// Sends the answer to a finished invocation; `bytes` if it is at hand.
pub(super) fn send_answer(invocation: &Invocation, to: Waiter, bytes: Option<Bytes>, step: &mut Step) {
    step.effects.push(answer(invocation, to, bytes));
}

/// The answer to a finished invocation, on its way.
pub(super) fn answer(invocation: &Invocation, to: Waiter, bytes: Option<Bytes>) -> Effect {
    let stored = invocation.finished().and_then(|finished| finished.answer);
    let content = if let Some(position) = stored {
        AnswerContent::Agent(bytes.map_or(Body::Stored(position), Body::Inline))
    } else {
        let addition =
            to.additions.then_some(ErrorAddition { invocation_id: Some(invocation.id), ..ErrorAddition::default() });
        let outcome = invocation.finished().map(|finished| finished.outcome);
        let code = outcome.and_then(Outcome::error_code).unwrap_or(ErrorCode::AgentLost);
        AnswerContent::Router(invocation_error(code, invocation.agent.as_str(), addition))
    };
    let message = Outbound::Answer(Box::new(Answer {
        invocation: invocation.id,
        agent: invocation.agent.clone(),
        labels: invocation.labels.clone(),
        additions: to.additions,
        content,
    }));
    Effect::Send { to: to.session, message, stored }
}

/// Whether a socket is the next that an answer may go to. A stock agent takes every frame for an invocation, so that a
/// socket which registered gets answers only to what a registered socket asked; one that has not may be about to.
fn takes_answer(session: &Session, invocation: &Invocation) -> bool {
    if !session.is_own()
        || session.is_outgoing()
        || matches!(session.standing, Standing::Registering { .. } | Standing::Fenced)
    {
        return false;
    }
    if session.identity().is_master() {
        return true;
    }
    let asked_registered = matches!(invocation.origin, Origin::Socket { registered: true, .. });
    match session.registration {
        Some(_) => asked_registered,
        None => session.drain_at.is_none(),
    }
}
