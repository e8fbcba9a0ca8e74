//! Rows of invocations.

use std::sync::Arc;
use std::time::Duration;

use crate::code::ErrorCode;
use crate::id::{NodeId, SessionId};
use crate::invocation::{
    Finished, IdempotencyKey, Invocation, Labels, Order, Origin, Outcome, Reply, State, StateName, Terms,
};
use crate::journal::row::{Cells, Columns};
use crate::journal::{InvocationRecord, JournalError};

/// The number of an origin, and its connection.
pub(in crate::journal) const fn origin_code(origin: Origin) -> (i64, Option<SessionId>) {
    match origin {
        Origin::Socket { session, registered: false } => (1, Some(session)),
        Origin::Socket { session, registered: true } => (2, Some(session)),
        Origin::InvokeSocket { session } => (3, Some(session)),
        Origin::ClientMessage => (4, None),
        Origin::Http => (5, None),
    }
}

/// The number of where a reply is, and its connection.
pub(in crate::journal) const fn reply_code(reply: Reply) -> (i64, Option<SessionId>) {
    match reply {
        Reply::None => (0, None),
        Reply::Owed => (1, None),
        Reply::Sent { session } => (2, Some(session)),
    }
}

/// A row of `invocations`.
pub(in crate::journal) fn invocation(row: &dyn Cells) -> Result<Invocation, JournalError> {
    let columns = Columns::of("invocations", row);
    let order = Order {
        id: columns.required("id", columns.invocation_id("id")?)?,
        agent: columns.identity("agent_id")?,
        caller: columns.identity("caller")?,
        origin: origin(&columns)?,
        home: NodeId(columns.integer("home")?),
        additions: columns.flag("additions")?,
        accepted: columns.position("accepted")?,
        accepted_at: columns.time("accepted_at")?,
        body_bytes: columns.number("body_bytes")?,
        terms: Terms {
            ttl: Duration::from_micros(columns.number("ttl")?),
            ttl_given: columns.flag("ttl_given")?,
            deadline: columns.time("deadline")?,
            max_attempts: columns.number("max_attempts")?,
        },
        key: key(&columns)?,
        labels: Labels {
            request_id: columns.shared_text("request_id")?,
            session_id: columns.shared_text("session_id")?,
        },
    };
    Ok(Invocation {
        order: Arc::new(order),
        attempt: columns.number("attempt")?,
        unreceipted: columns.number("unreceipted")?,
        starts: columns.number("starts")?,
        receipted: columns.flag("receipted")?,
        delivered_at: columns.optional_time("delivered_at")?,
        plain_unanswered: columns.flag("plain_unanswered")?,
        state: state(&columns)?,
        reply: reply(&columns)?,
    })
}

fn origin(columns: &Columns<'_>) -> Result<Origin, JournalError> {
    match (columns.integer("origin")?, columns.session("origin_session")?) {
        (1, Some(session)) => Ok(Origin::Socket { session, registered: false }),
        (2, Some(session)) => Ok(Origin::Socket { session, registered: true }),
        (3, Some(session)) => Ok(Origin::InvokeSocket { session }),
        (4, None) => Ok(Origin::ClientMessage),
        (5, None) => Ok(Origin::Http),
        (1..=3, None) => Err(columns.damaged("origin_session", "is missing")),
        (code @ (i64::MIN..=0 | 4..), _) => Err(columns.damaged("origin", format!("is {code}"))),
    }
}

fn reply(columns: &Columns<'_>) -> Result<Reply, JournalError> {
    match (columns.integer("reply")?, columns.session("reply_session")?) {
        (0, None) => Ok(Reply::None),
        (1, None) => Ok(Reply::Owed),
        (2, Some(session)) => Ok(Reply::Sent { session }),
        (code @ i64::MIN..=i64::MAX, session) => {
            let with = if session.is_some() { "with" } else { "without" };
            Err(columns.damaged("reply", format!("is {code} {with} a session")))
        }
    }
}

fn key(columns: &Columns<'_>) -> Result<Option<Box<IdempotencyKey>>, JournalError> {
    let Some(key) = columns.shared_text("idempotency_key")? else { return Ok(None) };
    Ok(Some(Box::new(IdempotencyKey { key, digest: columns.digest("key_digest")? })))
}

/// The state and the columns that belong to it; all others must be empty.
fn state(columns: &Columns<'_>) -> Result<State, JournalError> {
    let code = columns.integer("state")?;
    let name = StateName::ALL.into_iter().find(|name| *name as i64 == code);
    let name = name.ok_or_else(|| columns.damaged("state", format!("is {code}")))?;
    let beside = (
        columns.session("session")?,
        columns.optional_time("queued_since")?,
        columns.optional_time("resume_until")?,
        columns.optional_time("finished_at")?,
        columns.optional_position("answer")?,
        error_code(columns)?,
    );
    let finished = |outcome, at, answer| Ok(State::Finished(Finished { outcome, at, answer }));
    match (name, beside) {
        (StateName::Queued, (None, Some(since), None, None, None, None)) => Ok(State::Queued { since }),
        (StateName::Delivered, (Some(session), None, None, None, None, None)) => Ok(State::Delivered { session }),
        (StateName::Running, (Some(session), None, None, None, None, None)) => Ok(State::Running { session }),
        (StateName::Interrupted, (None, None, Some(until), None, None, None)) => Ok(State::Interrupted { until }),
        (StateName::Completed, (None, None, None, Some(at), answer, None)) => finished(Outcome::Completed, at, answer),
        (StateName::Failed, (None, None, None, Some(at), answer, code)) => finished(Outcome::Failed(code), at, answer),
        (StateName::Expired, (None, None, None, Some(at), answer, None)) => finished(Outcome::Expired, at, answer),
        (StateName::TimedOut, (None, None, None, Some(at), answer, None)) => finished(Outcome::TimedOut, at, answer),
        (StateName::Cancelled, (None, None, None, Some(at), answer, None)) => finished(Outcome::Cancelled, at, answer),
        (
            StateName::Queued
            | StateName::Delivered
            | StateName::Running
            | StateName::Interrupted
            | StateName::Completed
            | StateName::Failed
            | StateName::Expired
            | StateName::TimedOut
            | StateName::Cancelled,
            _,
        ) => Err(columns.damaged("state", format!("is {name}, which does not go with the columns beside it"))),
    }
}

fn error_code(columns: &Columns<'_>) -> Result<Option<ErrorCode>, JournalError> {
    let Some(code) = columns.optional_text("code")? else { return Ok(None) };
    code.parse().map(Some).map_err(|_| columns.damaged("code", "is no error code"))
}

/// A row of `invocations`, with its body and its answer.
pub(in crate::journal) fn record(row: &dyn Cells) -> Result<InvocationRecord, JournalError> {
    let invocation = self::invocation(row)?;
    let columns = Columns::of("invocations", row);
    let finished = invocation.finished();
    Ok(InvocationRecord {
        id: invocation.id,
        accepted: invocation.accepted,
        state: invocation.state_name(),
        agent: invocation.agent.clone(),
        caller: invocation.caller.clone(),
        attempt: invocation.attempt,
        max_attempts: invocation.terms.max_attempts,
        request_id: invocation.labels.request_id.as_deref().map(str::to_owned),
        session_id: invocation.labels.session_id.as_deref().map(str::to_owned),
        accepted_at: invocation.accepted_at,
        delivered_at: invocation.delivered_at,
        finished_at: finished.map(|finished| finished.at),
        ttl_ms: u64::try_from(invocation.terms.ttl.as_millis()).unwrap_or(u64::MAX),
        deadline: invocation.terms.deadline,
        idempotency_key: invocation.key.as_ref().map(|key| key.key.to_string()),
        body: columns.bytes("body_payload")?,
        answer: columns.bytes("answer_payload")?,
        code: finished.and_then(|finished| finished.outcome.error_code()),
    })
}
