//! Answers come in, and invocations end.

use bytes::Bytes;
use uuid::Uuid;

use super::replies::send_answer;
use super::session::Session;
use super::tables::Waiter;
use super::{Effect, Found, Ledger, Step, Subject};
use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, Position, SessionId};
use crate::invocation::{Invocation, Origin, Outcome, Reply};
use crate::journal::Detail;
use crate::protocol::outbound::{agent_cancel, agent_receipt};
use crate::protocol::{Answer, AnswerKind};
use crate::router::outbox::Outbound;

/// How much of an `invoked_by` that belongs to nothing is journaled, in bytes.
const MAX_STRAY_TOKEN: usize = 512;

/// What became of an answer, as a version-2 agent is told.
#[derive(Clone, Copy)]
enum Fate {
    Accepted,
    Duplicate,
    Late,
    Unknown,
}

/// Splits `<plain>#<invocation id>`.
pub(super) fn id_in_token(token: &str) -> Option<(&str, InvocationId)> {
    let (plain, id) = token.rsplit_once('#')?;
    Some((plain, InvocationId(Uuid::try_parse(id).ok()?)))
}

impl Ledger {
    pub(super) fn answer(
        &mut self,
        session: SessionId,
        answer: &Answer,
        found: &Found,
        now: Timestamp,
        step: &mut Step,
    ) {
        let Some(from) = self.tables.session(session) else { return };
        let (agent, speaks_v2) = (from.identity().clone(), from.speaks_v2());
        let answered = self.answered(&agent, answer, found);
        let invocation = answered.as_ref().map(|(invocation, _)| invocation);
        let fate = invocation.map_or(Fate::Unknown, Fate::of_answer_to);
        if speaks_v2 && let Some(id) = invocation.map(|invocation| invocation.id).or(answer.invocation_id) {
            step.send(session, Outbound::Frame(agent_receipt(&id.to_string(), fate.as_str())));
        }
        let body = answer.body.clone();
        if let Some((invocation, settles_plain)) = answered {
            self.take_answer(&invocation, settles_plain, fate, answer.kind, body, now, step);
        } else {
            let invoked_by = cut(&answer.invoked_by, MAX_STRAY_TOKEN).to_owned();
            self.record(step, now, Subject::agent(&agent), Detail::AnswerUnmatched { invoked_by }, Some(body));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one answer, and where and when it is taken")]
    fn take_answer(
        &mut self,
        invocation: &Invocation,
        settles_plain: bool,
        fate: Fate,
        kind: AnswerKind,
        body: Bytes,
        now: Timestamp,
        step: &mut Step,
    ) {
        // Before the end, so that what is delivered next may carry the plain name again.
        self.release_plain(invocation, settles_plain);
        let subject = Subject::of(invocation);
        let attempt = invocation.attempt;
        let (detail, outcome) = match (fate, kind) {
            (Fate::Duplicate, _) => (Detail::AnswerDuplicate {}, None),
            (Fate::Late | Fate::Unknown, _) => (Detail::AnswerLate {}, None),
            (Fate::Accepted, AnswerKind::Response) => {
                (Detail::InvocationCompleted { attempt }, Some(Outcome::Completed))
            }
            (Fate::Accepted, AnswerKind::Error) => {
                (Detail::InvocationFailed { attempt, code: None }, Some(Outcome::Failed(None)))
            }
        };
        let position = self.record(step, now, subject, detail, Some(body.clone()));
        if let Some(outcome) = outcome {
            self.finish(invocation.id, outcome, Some((position, body)), now, step);
        }
    }

    /// The delivery that carried the plain name is answered: either the answer tells, or there was no other.
    fn release_plain(&mut self, invocation: &Invocation, settles_plain: bool) {
        if invocation.plain_unanswered && (settles_plain || invocation.attempt == 1) {
            self.tables.change(invocation.id, |entry| entry.invocation.plain_unanswered = false);
        }
    }

    /// The invocation that an answer is to, if it was ever delivered to this agent, and whether it is the answer to the delivery
    /// that carried the plain name. One that names the invocation need not be: the agent may have been sent it a second time
    /// before it had registered, without an id and under the plain name, and answer that as well.
    fn answered(&self, agent: &Identity, answer: &Answer, found: &Found) -> Option<(Invocation, bool)> {
        let get = |id: InvocationId| {
            self.stored(id, found).filter(|invocation| invocation.agent == *agent && invocation.attempt > 0).cloned()
        };
        let token = answer.invoked_by.as_str();
        if let Some(id) = answer.invocation_id {
            return get(id).map(|invocation| {
                let is_plain = invocation.plain_invoked_by() == token;
                (invocation, is_plain)
            });
        }
        if let Some((plain, id)) = id_in_token(token)
            && let Some(invocation) = get(id)
            && invocation.plain_invoked_by() == plain
        {
            return Some((invocation, false));
        }
        let id = self.tables.plain_holder(agent, token)?;
        get(id).map(|invocation| (invocation, true))
    }

    /// Ends an invocation, tells whoever waits, and lets its agent go on. Its event is recorded already.
    pub(super) fn finish(
        &mut self,
        id: InvocationId,
        outcome: Outcome,
        answer: Option<(Position, Bytes)>,
        now: Timestamp,
        step: &mut Step,
    ) {
        let Some(entry) = self.tables.invocation(id) else { return };
        let was_on = entry.invocation.in_flight_on();
        let mut invocation = entry.invocation.clone();
        let waiters = entry.waiters.clone();
        invocation.finish(outcome, now, answer.as_ref().map(|(position, _)| *position));
        let answered_after = answer.is_some().then(|| now.since(invocation.accepted_at));
        step.effects.push(Effect::Ended { invocation: id, answered_after });
        let bytes = answer.map(|(_, body)| body);
        let mut sent_to = None;
        for waiter in &waiters {
            if self.is_held(waiter.session) {
                send_answer(&invocation, *waiter, bytes.clone(), step);
                let own = self.tables.session(waiter.session).filter(|session| session.is_own());
                sent_to = sent_to.or(own.map(|session| session.id));
            }
        }
        invocation.reply = self.reply_after(&invocation, sent_to, bytes, now, step);
        let agent = invocation.agent.clone();
        self.tables.put_invocation(invocation, smallvec::SmallVec::new());
        if let Some(session) = was_on {
            self.no_longer_in_flight(id, outcome, session, step);
        }
        step.wake(&agent);
    }

    /// An invocation has ended that was in flight on a socket.
    pub(super) fn no_longer_in_flight(&self, id: InvocationId, outcome: Outcome, session: SessionId, step: &mut Step) {
        if let Some(elsewhere) = self.elsewhere(session) {
            step.wake_node(elsewhere);
            return;
        }
        if matches!(outcome, Outcome::Cancelled | Outcome::TimedOut)
            && self.tables.session(session).is_some_and(Session::speaks_v2)
        {
            step.send(session, Outbound::Frame(agent_cancel(id)));
        }
        self.finish_leaving(session, step);
    }

    /// Whether answers wait for this caller's next socket.
    pub(super) fn waits_for_good(&self, caller: &Identity) -> bool {
        caller.is_master() || self.is_known(caller)
    }

    /// A caller that never registered is made up for the end of a router, and for nothing else. The router that holds its newest
    /// socket decides: another may have started since, or have found out earlier, and makes up for it no more.
    pub(super) fn make_up_for(
        &self,
        asked_on: SessionId,
        invocation: &Invocation,
        bytes: Option<Bytes>,
        now: Timestamp,
        step: &mut Step,
    ) {
        let Some(newest) = self.tables.sessions_of(&invocation.caller).next_back() else { return };
        if newest.node != self.node {
            step.wake_node(newest.node);
        } else if self.cut_off.contains(&asked_on) && now < self.resume_until {
            let waiter = Waiter { session: newest.id, additions: invocation.additions };
            send_answer(invocation, waiter, bytes, step);
        }
    }

    /// Whether the answer has still to reach its caller, and from where.
    fn reply_after(
        &mut self,
        invocation: &Invocation,
        sent_to: Option<SessionId>,
        bytes: Option<Bytes>,
        now: Timestamp,
        step: &mut Step,
    ) -> Reply {
        // Whoever waits there, over HTTP too, hears of it there.
        step.wake_node(invocation.home);
        let Origin::Socket { session, .. } = invocation.origin else { return Reply::None };
        if let Some(elsewhere) = self.elsewhere(session) {
            step.wake_node(elsewhere);
        }
        let waits = self.waits_for_good(&invocation.caller);
        match sent_to {
            Some(session) if waits => Reply::Sent { session },
            Some(_) => Reply::None,
            None if waits => match self.next_socket(invocation, now, step) {
                Some(session) => Reply::Sent { session },
                None => Reply::Owed,
            },
            None => {
                self.make_up_for(session, invocation, bytes, now, step);
                Reply::None
            }
        }
    }
}

impl Fate {
    /// What becomes of an answer to an invocation as it stands.
    fn of_answer_to(invocation: &Invocation) -> Self {
        match invocation.finished() {
            None => Self::Accepted,
            Some(finished) if finished.answer.is_some() => Self::Duplicate,
            Some(_) => Self::Late,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Unknown => "unknown",
        }
    }
}

/// The beginning of a text, at most `max` bytes.
pub(super) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
