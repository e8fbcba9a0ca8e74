//! What becomes of the invocations that were in flight on a socket that ended.

use super::session::Session;
use super::{Ledger, Step, Subject};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, SessionId};
use crate::invocation::{AfterLoss, Invocation, LostConnection, Outcome};
use crate::journal::Detail;

impl Ledger {
    /// Decides about everything in flight on a socket that ended, in the order of acceptance.
    pub(super) fn lose(&mut self, session: &Session, router_restarted: bool, now: Timestamp, step: &mut Step) {
        let identity = session.identity().clone();
        let lost = LostConnection { known: self.is_known(&identity), resumable: session.speaks_v2(), router_restarted };
        let in_flight: Vec<InvocationId> = self.in_flight_on(&identity, session.id).collect();
        for id in in_flight {
            if let Some(invocation) = self.tables.invocation(id).map(|entry| entry.invocation.clone()) {
                let next = invocation.after_loss(lost, now, &self.policy);
                self.follow_loss(&invocation, next, now, step);
            }
        }
    }

    pub(super) fn follow_loss(&mut self, invocation: &Invocation, next: AfterLoss, now: Timestamp, step: &mut Step) {
        let attempt = invocation.attempt;
        let subject = Subject::of(invocation);
        match next {
            // What may not wait is not queued for an agent that is gone.
            AfterLoss::Requeue if invocation.terms.ttl.is_zero() && !self.tables.is_connected(&invocation.agent) => {
                self.fail(invocation.id, ErrorCode::AgentLost, now, step);
            }
            AfterLoss::Requeue => {
                self.record(step, now, subject, Detail::InvocationRequeued { attempt }, None);
                self.tables.change(invocation.id, |entry| entry.invocation.requeue(now));
            }
            AfterLoss::Interrupt(until) => {
                self.record(step, now, subject, Detail::InvocationInterrupted { attempt, until }, None);
                self.tables.change(invocation.id, |entry| entry.invocation.interrupt(until));
            }
            AfterLoss::Fail(code) => self.fail(invocation.id, code, now, step),
        }
    }

    /// The router gives an invocation up.
    pub(super) fn fail(&mut self, id: InvocationId, code: ErrorCode, now: Timestamp, step: &mut Step) {
        let Some(entry) = self.tables.invocation(id) else { return };
        let (subject, attempt) = (Subject::of(&entry.invocation), entry.invocation.attempt);
        self.record(step, now, subject, Detail::InvocationFailed { attempt, code: Some(code) }, None);
        self.finish(id, Outcome::Failed(Some(code)), None, now, step);
    }

    pub(super) fn is_known(&self, identity: &Identity) -> bool {
        self.tables.agent(identity).is_some_and(|agent| agent.record.registered.is_some())
    }

    pub(super) fn in_flight_on(&self, identity: &Identity, session: SessionId) -> impl Iterator<Item = InvocationId> {
        self.tables.agent(identity).into_iter().flat_map(|agent| agent.in_flight.values().copied()).filter(move |id| {
            self.tables.invocation(*id).is_some_and(|entry| entry.invocation.in_flight_on() == Some(session))
        })
    }
}
