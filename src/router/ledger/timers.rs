//! What happens because time passes.

use super::tables::Due;
use super::{Ledger, Step, Subject};
use crate::clock::Timestamp;
use crate::id::{InvocationId, SessionId};
use crate::invocation::{Outcome, Reply, State, after_interruption};
use crate::journal::Detail;

/// How much is done in one batch; what is left is due in the next.
const MAX_IN_BATCH: usize = 4096;

impl Ledger {
    /// Does what is due by `now`.
    pub fn pass_time(&mut self, now: Timestamp, step: &mut Step) {
        self.report_suppressed(now, step);
        for _ in 0..MAX_IN_BATCH {
            match self.tables.due(now) {
                Some(Due::Invocation(id)) => self.look_at(id, now, step),
                Some(Due::Drain(session)) => self.drain(session, step),
                Some(Due::Fence(session)) => self.fence_others(session, now, step),
                None => break,
            }
            self.deliver_woken(now, step);
        }
    }

    fn look_at(&mut self, id: InvocationId, now: Timestamp, step: &mut Step) {
        let Some(invocation) = self.tables.invocation(id).map(|entry| entry.invocation.clone()) else { return };
        let subject = Subject::of(&invocation);
        let overdue = invocation.terms.deadline <= now;
        match invocation.state {
            State::Finished(finished) => {
                let owed_too_long =
                    !matches!(invocation.reply, Reply::None) && finished.at + self.policy.answer_ttl <= now;
                if owed_too_long {
                    self.record(step, now, subject, Detail::AnswerExpired {}, None);
                }
                let too_late = invocation.terms.deadline + self.policy.late_answer_ttl <= now;
                self.tables.change(id, |entry| {
                    if owed_too_long {
                        entry.invocation.reply = Reply::None;
                    }
                    if too_late {
                        entry.invocation.plain_unanswered = false;
                    }
                });
            }
            _ if overdue => {
                self.record(step, now, subject, Detail::InvocationTimedOut {}, None);
                self.finish(id, Outcome::TimedOut, None, now, step);
            }
            State::Queued { .. } => {
                self.record(step, now, subject, Detail::InvocationExpired {}, None);
                self.finish(id, Outcome::Expired, None, now, step);
            }
            State::Interrupted { .. } => {
                let known = self.is_known(&invocation.agent);
                let next = after_interruption(invocation.starts, invocation.terms.max_attempts, known);
                self.follow_loss(&invocation, next, now, step);
                step.wake(&invocation.agent);
            }
            State::Delivered { .. } | State::Running { .. } => {}
        }
    }

    /// A socket has had its time to register: it gets what waits.
    fn drain(&mut self, id: SessionId, step: &mut Step) {
        let Some(mut session) = self.tables.session(id).cloned() else { return };
        let identity = session.identity().clone();
        session.drain_at = None;
        self.tables.put_session(id, Some(session));
        self.send_owed_answers(id, step);
        step.wake(&identity);
    }
}
