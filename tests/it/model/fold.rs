//! What the events of the journal amount to, read from their stored text alone: for each invocation a row.

use std::collections::{BTreeMap, BTreeSet};

use agent_router::id::{InvocationId, Position};
use agent_router::invocation::{Invocation, Outcome, Reply, State};
use agent_router::journal::{EventKind, EventRecord};
use serde_json::Value;

/// The journal so far, folded.
#[derive(Debug, Default)]
pub(super) struct Fold {
    head: Position,
    folded: BTreeMap<InvocationId, Folded>,
}

/// What the events say of one invocation.
#[derive(Debug, Default)]
struct Folded {
    accepted: Position,
    facts: Value,
    state: &'static str,
    /// The time that belongs to the state: queued since, interrupted until, finished at.
    time: Value,
    session: Value,
    attempts: Vec<Value>,
    read: BTreeSet<u64>,
    in_vain: BTreeSet<u64>,
    answer: Option<Position>,
    code: Value,
    plain: bool,
    /// The caller has the answer, or is no longer to have it.
    told: bool,
}

impl Fold {
    pub(super) fn head(&self) -> Position {
        self.head
    }

    /// Takes the next event.
    pub(super) fn take(&mut self, event: &EventRecord) {
        assert_eq!(event.position, self.head.next(), "the journal has a gap");
        self.head = event.position;
        let Some(id) = event.invocation else { return };
        let detail: Value = serde_json::from_str(&event.detail).expect("a detail is JSON");
        if event.kind == EventKind::InvocationAccepted {
            assert!(!self.folded.contains_key(&id), "accepted twice");
            let at = time(event.at);
            let accepted = event.position;
            let new = Folded { accepted, facts: detail, state: "queued", time: at, ..Folded::default() };
            self.folded.insert(id, new);
        } else {
            self.folded.get_mut(&id).expect("accepted before anything else").take(event, &detail);
        }
    }

    /// Whether this delivery, or any, is in the journal.
    pub(super) fn has_delivery(&self, id: InvocationId, attempt: u32, session: &str) -> bool {
        let deliveries = self.folded.get(&id).map(|folded| folded.attempts.as_slice()).unwrap_or_default();
        deliveries.iter().any(|detail| detail["attempt"] == attempt && detail["session"] == session)
    }

    pub(super) fn is_finished(&self, id: InvocationId) -> bool {
        self.folded.get(&id).is_some_and(|folded| folded.state == "finished")
    }

    /// The row is what the events amount to.
    pub(super) fn assert_row(&self, row: &Invocation) {
        let folded = self.folded.get(&row.id).expect("an invocation without an event");
        assert_eq!(row.accepted, folded.accepted);
        assert_eq!(
            row.terms.deadline.since(row.accepted_at).as_millis(),
            u128::from(folded.facts["deadline_ms"].as_u64().unwrap())
        );
        assert_eq!(u64::from(row.terms.max_attempts), folded.facts["max_attempts"]);
        assert_eq!(row.attempt as usize, folded.attempts.len());
        assert_eq!(row.starts as usize, folded.read.len(), "{folded:?}");
        assert_eq!(row.unreceipted as usize, folded.in_vain.len(), "{folded:?}");
        assert!(folded.plain || !row.plain_unanswered, "no delivery carried the plain name");
        assert!(!folded.told || row.reply == Reply::None, "an answer is owed to who has it");
        let (state, time_of_state, session) = match row.state {
            State::Queued { since } => ("queued", time(since), None),
            State::Delivered { session } => ("delivered", Value::Null, Some(session)),
            State::Running { session } => ("running", Value::Null, Some(session)),
            State::Interrupted { until } => ("interrupted", time(until), None),
            State::Finished(finished) => {
                assert_eq!(finished.answer, folded.answer);
                let (kind, code) = match finished.outcome {
                    Outcome::Completed => ("completed", None),
                    Outcome::Failed(code) => ("failed", code),
                    Outcome::Expired => ("expired", None),
                    Outcome::TimedOut => ("timed_out", None),
                    Outcome::Cancelled => ("cancelled", None),
                };
                assert_eq!(folded.session, kind, "the outcome");
                assert_eq!(folded.code.as_str(), code.map(agent_router::code::ErrorCode::as_str));
                assert_eq!(("finished", time(finished.at)), (folded.state, folded.time.clone()));
                return;
            }
        };
        assert_eq!((state, time_of_state), (folded.state, folded.time.clone()), "{folded:?}");
        assert_eq!(folded.session.as_str().map(str::to_owned), session.map(|session| session.to_string()));
    }
}

impl Folded {
    fn take(&mut self, event: &EventRecord, detail: &Value) {
        let attempt = detail["attempt"].as_u64().unwrap_or_default();
        match event.kind {
            EventKind::InvocationDelivered => {
                self.attempts.push(detail.clone());
                self.plain |= detail["plain"] == true;
                self.enter("delivered", Value::Null, detail["session"].clone());
            }
            EventKind::InvocationStarted => {
                self.read.insert(attempt);
                self.in_vain.remove(&attempt);
                self.enter("running", Value::Null, detail["session"].clone());
            }
            EventKind::InvocationInterrupted => {
                self.read.insert(attempt);
                self.enter("interrupted", detail["until"].clone(), Value::Null);
            }
            EventKind::InvocationRequeued => {
                if self.state == "delivered" {
                    self.in_vain.insert(attempt);
                }
                self.enter("queued", time(event.at), Value::Null);
            }
            EventKind::InvocationCompleted => self.finish("completed", event, true),
            EventKind::InvocationFailed => {
                self.code = detail["code"].clone();
                self.finish("failed", event, self.code.is_null());
            }
            EventKind::InvocationExpired => self.finish("expired", event, false),
            EventKind::InvocationTimedOut => self.finish("timed_out", event, false),
            EventKind::InvocationCancelled => self.finish("cancelled", event, false),
            EventKind::AnswerDelivered | EventKind::AnswerExpired | EventKind::PayloadErased => {
                assert_eq!(self.state, "finished", "an answer before the end");
                self.told = true;
            }
            EventKind::AnswerDuplicate | EventKind::AnswerLate => {
                let answered = self.answer.is_some();
                assert_eq!((self.state, answered), ("finished", event.kind == EventKind::AnswerDuplicate));
            }
            other => panic!("{other:?} is not about an invocation"),
        }
    }

    fn finish(&mut self, how: &'static str, event: &EventRecord, by_answer: bool) {
        assert_ne!(self.state, "finished", "two final states");
        self.answer = by_answer.then_some(event.position);
        self.enter("finished", time(event.at), how.into());
    }

    fn enter(&mut self, state: &'static str, time: Value, session: Value) {
        assert_ne!(self.state, "finished", "something happened after the end");
        self.state = state;
        self.time = time;
        self.session = session;
    }
}

fn time(at: agent_router::clock::Timestamp) -> Value {
    serde_json::to_value(at).expect("a time is a number")
}
