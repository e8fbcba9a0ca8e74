//! A caller takes back what it asked for.

use smallvec::SmallVec;

use super::asker::Asker;
use super::{Effect, Found, Ledger, Step, Subject, Verdict};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, SessionId};
use crate::invocation::{Invocation, Labels, Outcome};
use crate::journal::Detail;
use crate::protocol::Cancel;
use crate::protocol::outbound::{ErrorAddition, invocation_error};
use crate::router::outbox::Outbound;

impl Ledger {
    pub(super) fn cancel(
        &mut self,
        id: SessionId,
        cancel: &Cancel,
        found: &Found,
        now: Timestamp,
        step: &mut Step,
    ) -> Verdict {
        let Some(session) = self.tables.session(id).cloned() else { return Verdict::Taken };
        let Some(invocation) = self.own(Asker::Socket(&session), cancel.invocation_id, found, now, step) else {
            let addition =
                ErrorAddition { invocation_id: Some(cancel.invocation_id), queued: None, retry_after_ms: None };
            step.send_at_once(id, invocation_error(ErrorCode::NotAllowed, "", Some(addition)));
            return Verdict::Refused(ErrorCode::NotAllowed);
        };
        let state = if invocation.is_open() { "cancelled" } else { invocation.state_name().as_str() };
        let receipt = self.receipt_frame(invocation.id, state, cancel.metadata.as_deref());
        step.send(id, Outbound::Frame(receipt));
        self.end_by_cancel(&invocation, now, step);
        Verdict::Taken
    }

    pub(super) fn http_cancel(
        &mut self,
        caller: &Identity,
        id: InvocationId,
        found: &Found,
        now: Timestamp,
        step: &mut Step,
    ) -> Verdict {
        let Some(invocation) = self.own(Asker::Http(caller), id, found, now, step) else { return Verdict::NotFound };
        self.end_by_cancel(&invocation, now, step);
        Verdict::Taken
    }

    /// The invocation, if it is the asker's; that it is not is journaled as a refusal.
    fn own(
        &mut self,
        asker: Asker<'_>,
        id: InvocationId,
        found: &Found,
        now: Timestamp,
        step: &mut Step,
    ) -> Option<Invocation> {
        let invocation = self.stored(id, found).filter(|invocation| invocation.caller == *asker.identity()).cloned();
        if invocation.is_none() {
            self.invocation_refused(asker.identity(), "", Labels::default(), ErrorCode::NotAllowed, now, step);
        }
        invocation
    }

    /// Ends an invocation whose asker was told that it was not taken: that is all the asker is told.
    pub(super) fn withdraw(&mut self, id: InvocationId, now: Timestamp, step: &mut Step) {
        let Some(entry) = self.tables.invocation(id).filter(|entry| entry.invocation.is_open()) else { return };
        let mut invocation = entry.invocation.clone();
        let code = ErrorCode::JournalUnavailable;
        let (subject, attempt, was_on) = (Subject::of(&invocation), invocation.attempt, invocation.in_flight_on());
        self.record(step, now, subject, Detail::InvocationFailed { attempt, code: Some(code) }, None);
        invocation.finish(Outcome::Failed(Some(code)), now, None);
        // What this router was to deliver was not sent, and nothing comes back.
        invocation.plain_unanswered &= was_on.is_none_or(|session| self.elsewhere(session).is_some());
        step.effects.push(Effect::Ended { invocation: id, answered_after: None });
        step.wake(&invocation.agent);
        self.tables.put_invocation(invocation, SmallVec::new());
        if let Some(session) = was_on {
            // An agent of this router never saw it, so that there is nothing to call off.
            self.no_longer_in_flight(id, Outcome::Failed(Some(code)), session, step);
        }
    }

    /// What has ended stays as it ended.
    fn end_by_cancel(&mut self, invocation: &Invocation, now: Timestamp, step: &mut Step) {
        if invocation.is_open() {
            self.record(step, now, Subject::of(invocation), Detail::InvocationCancelled {}, None);
            self.finish(invocation.id, Outcome::Cancelled, None, now, step);
        }
    }
}
