//! Which state follows which. Every rule about attempts and lost connections is here, once.

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Position, SessionId};
use crate::invocation::{Finished, Invocation, Outcome, Policy, State};

/// What a receipt changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The invocation runs now.
    Started,
    /// It was for an older delivery, or the invocation is elsewhere by now.
    Stale,
}

/// What becomes of an invocation whose connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterLoss {
    /// It is queued again, at its old place.
    Requeue,
    /// Its agent may come back with it until then.
    Interrupt(Timestamp),
    /// It is over.
    Fail(ErrorCode),
}

/// What is known of an agent whose connection was lost.
#[derive(Clone, Copy, Debug)]
pub struct LostConnection {
    /// The agent has registered at some time.
    pub known: bool,
    /// The lost connection had registered with version 2.
    pub resumable: bool,
    /// The router itself went away, so nobody counted what the agent had read.
    pub router_restarted: bool,
}

impl Invocation {
    /// It is sent on `session`, for the next time.
    pub fn deliver(&mut self, session: SessionId, now: Timestamp, plain: bool) {
        debug_assert!(matches!(self.state, State::Queued { .. }));
        self.attempt += 1;
        self.delivered_at = Some(now);
        self.receipted = false;
        self.plain_unanswered |= plain;
        self.state = State::Delivered { session };
    }

    /// The agent's library has read delivery number `attempt`.
    pub fn receipt(&mut self, attempt: u32) -> Receipt {
        match self.state {
            State::Delivered { session } if self.attempt == attempt => {
                self.count_start();
                self.state = State::Running { session };
                Receipt::Started
            }
            _ => Receipt::Stale,
        }
    }

    /// The agent says on `session` that it is still at work on it. Only what was delivered can be.
    pub fn adopt(&mut self, session: SessionId) -> bool {
        if self.attempt == 0 || !self.is_open() {
            return false;
        }
        if matches!(self.state, State::Queued { .. }) && !self.receipted {
            // It had been read after all: the receipt was lost with its connection.
            self.unreceipted -= 1;
        }
        self.count_start();
        self.state = State::Running { session };
        true
    }

    /// What becomes of it now that the connection it was in flight on is lost.
    #[must_use]
    pub fn after_loss(&self, lost: LostConnection, now: Timestamp, policy: &Policy) -> AfterLoss {
        let possibly_started = match self.state {
            State::Delivered { .. } => lost.router_restarted,
            _ => true,
        };
        if possibly_started {
            if lost.resumable || lost.router_restarted {
                return AfterLoss::Interrupt(now + policy.resume_grace);
            }
            return after_interruption(self.starts, self.terms.max_attempts, lost.known);
        }
        if lost.known && self.unreceipted + 1 < policy.max_deliveries {
            AfterLoss::Requeue
        } else {
            AfterLoss::Fail(ErrorCode::AgentLost)
        }
    }

    /// Takes it off its lost connection, back to its old place in the queue.
    pub fn requeue(&mut self, now: Timestamp) {
        if matches!(self.state, State::Delivered { .. }) {
            self.unreceipted += 1;
        }
        self.state = State::Queued { since: now };
    }

    /// Leaves it to an agent that may come back with it. A delivery whose receipt nobody could count has started.
    pub fn interrupt(&mut self, until: Timestamp) {
        self.count_start();
        self.state = State::Interrupted { until };
    }

    /// Counts the last delivery among those that may have begun the work, once.
    fn count_start(&mut self) {
        self.starts += u32::from(!self.receipted);
        self.receipted = true;
    }

    /// Ends it.
    pub fn finish(&mut self, outcome: Outcome, at: Timestamp, answer: Option<Position>) {
        debug_assert!(self.is_open());
        self.state = State::Finished(Finished { outcome, at, answer });
    }

    /// Whether its ttl is over at `now`, its agent having last been connected at `last_seen` and not being so now.
    #[must_use]
    pub fn ttl_over_at(&self, last_seen: Option<Timestamp>) -> Option<Timestamp> {
        match self.state {
            State::Queued { since } => Some(last_seen.map_or(since, |seen| seen.max(since)) + self.terms.ttl),
            _ => None,
        }
    }
}

/// What becomes of work that may have begun and whose agent did not come back with it.
#[must_use]
pub fn after_interruption(starts: u32, max_attempts: u32, known: bool) -> AfterLoss {
    if known && starts < max_attempts { AfterLoss::Requeue } else { AfterLoss::Fail(ErrorCode::AgentLost) }
}
