//! What the events of an invocation amount to, from their stored text alone: the row that they should have left.
//!
//! The events are covered by the chain and a row is not. So a row is worth what its events say, and a check plays them again,
//! by the rules by which they came about.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, NodeId, Position, SessionId};
use crate::invocation::{Finished, Invocation, Labels, Order, Origin, Outcome, Reply, State, Terms};
use crate::journal::EventKind;
use crate::journal::row::{Cells, Columns};

/// An event of an invocation, as far as a row follows from it.
pub(super) struct Deed<'a> {
    position: Position,
    at: Timestamp,
    kind: EventKind,
    node: NodeId,
    agent: Identity,
    caller: Identity,
    detail: &'a str,
    /// How long its payload is, if it is there.
    bytes: Option<u32>,
    /// The payload of an acceptance with a key, if it is there.
    body: Option<&'a [u8]>,
}

impl<'a> Deed<'a> {
    /// Of a row of `journal`, with the length of its payload as `bytes`; `body` is its payload, if that matters. `None`: nothing
    /// of a row follows from it.
    pub(super) fn of(row: &'a dyn Cells, body: Option<&'a [u8]>) -> Option<Self> {
        let columns = Columns::of("journal", row);
        Some(Self {
            position: columns.position("position").ok()?,
            at: columns.time("at").ok()?,
            kind: EventKind::from_code(columns.integer("kind").ok()?)?,
            node: NodeId(columns.integer("node").ok()?),
            agent: columns.identity("agent_id").ok()?,
            caller: columns.identity("caller").ok()?,
            detail: columns.text("detail").ok()?,
            bytes: columns.optional_number("bytes").ok()?,
            body,
        })
    }
}

/// What is told of an acceptance.
#[derive(Deserialize)]
struct Facts {
    origin: String,
    session: Option<SessionId>,
    ttl_ms: u64,
    deadline_ms: u64,
    max_attempts: u32,
    idempotency_key: Option<String>,
    request_id: Option<String>,
    session_id: Option<String>,
}

/// What is told of anything later.
#[derive(Deserialize)]
struct Later {
    attempt: Option<u32>,
    session: Option<SessionId>,
    #[serde(default)]
    plain: bool,
    #[serde(default)]
    adopted: bool,
    until: Option<String>,
    code: Option<String>,
}

/// See the module.
pub(super) struct Fold {
    row: Invocation,
    facts: Facts,
    /// The body and the digest of what was asked, if they are still there.
    bytes: Option<u32>,
    asked: Option<[u8; 32]>,
    /// The caller has the answer, or is no longer to have it.
    told: bool,
}

impl Fold {
    /// Begins with the acceptance. What no event tells is taken from the `row`.
    pub(super) fn begin(accepted: &Deed<'_>, row: &Invocation) -> Option<Self> {
        if accepted.kind != EventKind::InvocationAccepted {
            return None;
        }
        let facts: Facts = serde_json::from_str(accepted.detail).ok()?;
        let order = Order {
            agent: accepted.agent.clone(),
            caller: accepted.caller.clone(),
            home: accepted.node,
            accepted: accepted.position,
            accepted_at: accepted.at,
            labels: Labels {
                request_id: facts.request_id.as_deref().map(Into::into),
                session_id: facts.session_id.as_deref().map(Into::into),
            },
            terms: Terms { max_attempts: facts.max_attempts, ..row.terms },
            ..(*row.order).clone()
        };
        let asked = accepted.body.and_then(digest_of_request);
        Some(Self { row: Invocation::new(order), facts, bytes: accepted.bytes, asked, told: false })
    }

    /// Takes the next event.
    pub(super) fn take(&mut self, deed: &Deed<'_>) -> Option<()> {
        let later: Later = serde_json::from_str(deed.detail).ok()?;
        let (at, row) = (deed.at, &mut self.row);
        match deed.kind {
            EventKind::InvocationDelivered => {
                if !matches!(row.state, State::Queued { .. }) {
                    row.requeue(at);
                }
                row.deliver(later.session?, at, later.plain);
            }
            EventKind::InvocationStarted if later.adopted => {
                let may_be = row.unreceipted > 0 || row.receipted || !matches!(row.state, State::Queued { .. });
                (may_be && row.adopt(later.session?)).then_some(())?;
            }
            EventKind::InvocationStarted => drop(row.receipt(later.attempt?)),
            EventKind::InvocationInterrupted => row.interrupt(moment(&later.until?)?),
            EventKind::InvocationRequeued => row.requeue(at),
            EventKind::InvocationCompleted => self.finish(Outcome::Completed, deed, true),
            EventKind::InvocationFailed => {
                let code: Option<ErrorCode> = later.code.map(|code| code.parse()).transpose().ok()?;
                self.finish(Outcome::Failed(code), deed, code.is_none());
            }
            EventKind::InvocationExpired => self.finish(Outcome::Expired, deed, false),
            EventKind::InvocationTimedOut => self.finish(Outcome::TimedOut, deed, false),
            EventKind::InvocationCancelled => self.finish(Outcome::Cancelled, deed, false),
            EventKind::AnswerDelivered | EventKind::AnswerExpired | EventKind::PayloadErased => self.told = true,
            _ => {}
        }
        Some(())
    }

    fn finish(&mut self, outcome: Outcome, deed: &Deed<'_>, by_answer: bool) {
        let answer = by_answer.then_some(deed.position);
        self.row.state = State::Finished(Finished { outcome, at: deed.at, answer });
    }

    /// Whether somebody may still have to be told its end.
    fn may_be_owed(&self, row: &Invocation) -> bool {
        !self.told && !row.is_open() && matches!(row.origin, Origin::Socket { .. })
    }

    /// The column in which a row is not what the events amount to.
    pub(super) fn disagreement(&self, row: &Invocation) -> Option<&'static str> {
        let (told, facts) = (&self.row, &self.facts);
        let key = row.key.as_ref();
        let columns = [
            ("agent_id", row.agent == told.agent),
            ("caller", row.caller == told.caller),
            ("origin", origin(row.origin) == (facts.origin.as_str(), facts.session)),
            ("home", row.home == told.home),
            ("accepted", row.accepted == told.accepted),
            ("accepted_at", row.accepted_at == told.accepted_at),
            ("body_bytes", self.bytes.is_none_or(|bytes| bytes == row.body_bytes)),
            ("ttl", row.terms.ttl == Duration::from_millis(facts.ttl_ms)),
            ("deadline", row.terms.deadline == row.accepted_at + Duration::from_millis(facts.deadline_ms)),
            ("max_attempts", row.terms.max_attempts == told.terms.max_attempts),
            ("idempotency_key", key.map(|key| &*key.key) == facts.idempotency_key.as_deref()),
            ("key_digest", self.asked.is_none_or(|asked| key.is_none_or(|key| key.digest == asked))),
            ("request_id", row.labels.request_id == told.labels.request_id),
            ("session_id", row.labels.session_id == told.labels.session_id),
            ("state", row.state == told.state),
            ("attempt", row.attempt == told.attempt),
            ("unreceipted", row.unreceipted == told.unreceipted),
            ("starts", row.starts == told.starts),
            ("receipted", row.receipted == told.receipted),
            ("delivered_at", row.delivered_at == told.delivered_at),
            ("plain_unanswered", told.plain_unanswered || !row.plain_unanswered),
            ("reply", row.reply == Reply::None || self.may_be_owed(row)),
        ];
        columns.into_iter().find_map(|(column, agrees)| (!agrees).then_some(column))
    }
}

/// The name of an origin, and its connection.
const fn origin(origin: Origin) -> (&'static str, Option<SessionId>) {
    match origin {
        Origin::Socket { session, .. } => ("socket", Some(session)),
        Origin::InvokeSocket { session } => ("invoke_socket", Some(session)),
        Origin::ClientMessage => ("client_message", None),
        Origin::Http => ("http", None),
    }
}

/// A time as `detail` has it.
fn moment(text: &str) -> Option<Timestamp> {
    let moment = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    Some(Timestamp::from_micros(moment.timestamp_micros()))
}

/// SHA-256 of the `request_payload` as it came, if the body is JSON as others write it too.
fn digest_of_request(body: &[u8]) -> Option<[u8; 32]> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        request_payload: Option<&'a RawValue>,
    }
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    Some(Sha256::digest(body.request_payload.map(RawValue::get).unwrap_or_default()).into())
}

#[cfg(test)]
mod tests;
