//! The next batch, decided while the one before it is being committed: so the journal need not wait for the rules, nor they for
//! it.
//!
//! What is decided so rests on what is not durable yet, and leaves with its own commit. If the batch before does not come into
//! the journal, or others have committed something first, it is taken back and decided anew. A command for which the journal
//! has to be asked waits, and so does all that came after it.

use std::time::Duration;

use super::outage::Decided;
use super::{Submission, Writer};
use crate::clock::Timestamp;
use crate::journal::Lookup;
use crate::router::ledger::{Found, Ledger, Step};

/// For so long after others were seen to commit, nothing is decided ahead: it would be taken back again and again.
const ALONE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) step: Step,
    pub(super) decided: Vec<Decided>,
    /// Somebody waits for it.
    is_urgent: bool,
}

impl Draft {
    pub(super) const fn is_empty(&self) -> bool {
        self.decided.is_empty()
    }

    pub(super) const fn len(&self) -> usize {
        self.decided.len()
    }

    pub(super) const fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Decides one more command.
    pub(super) fn decide(&mut self, submission: Submission, ledger: &mut Ledger, found: &Found, now: Timestamp) {
        self.is_urgent |= !submission.rides_along();
        let (events, effects) = (self.step.events.len(), self.step.effects.len());
        let verdict = ledger.decide(&submission.command, found, now, &mut self.step);
        let (events, effects) = (events..self.step.events.len(), effects..self.step.effects.len());
        self.decided.push(Decided { submission, verdict, events, effects, told: false });
    }
}

impl Writer {
    /// Whether the next batch may be decided while one is being committed.
    pub(super) fn may_decide_ahead(&self) -> bool {
        let is_alone = self.backlog.followed.is_none_or(|at| at.elapsed() > ALONE);
        self.backlog.outage.is_none() && is_alone && self.room() > 0
    }

    /// Decides what has come while a batch is being committed.
    pub(super) fn decide_ahead(&mut self, arrived: Vec<Submission>) {
        let now = self.clock.now();
        let mut arrived = arrived.into_iter();
        while self.backlog.held.is_empty()
            && let Some(submission) = arrived.next()
        {
            let mut lookup = Lookup::default();
            self.ledger.wants(&submission.command, &mut lookup);
            if !lookup.ids.is_empty() || !lookup.keys.is_empty() {
                self.backlog.held.push_back(submission);
                break;
            }
            let draft = &mut self.backlog.draft;
            if draft.is_empty() {
                // Once: what is due by then is bounded for a batch.
                self.ledger.pass_time(now, &mut draft.step);
            }
            draft.decide(submission, &mut self.ledger, &Found::default(), now);
        }
        self.backlog.held.extend(arrived);
    }

    /// Takes the draft back: what is in it is to be decided anew, before all else.
    pub(super) fn retract(&mut self) {
        self.ledger.retract();
        let draft = std::mem::take(&mut self.backlog.draft);
        self.put_back(draft.decided);
        for question in std::mem::take(&mut self.backlog.questions) {
            self.answer(question);
        }
    }
}
