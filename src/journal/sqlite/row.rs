//! Rows as the types of the contract. A row that cannot be is an error with its table and column.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, Position, SessionId};
use crate::invocation::{
    Finished, IdempotencyKey, Invocation, Labels, Origin, Outcome, Reply, State, StateName, Terms,
};
use crate::journal::JournalError;

/// The number of an origin, and its connection.
pub(super) const fn origin_code(origin: Origin) -> (i64, Option<SessionId>) {
    match origin {
        Origin::Socket { session, registered: false } => (1, Some(session)),
        Origin::Socket { session, registered: true } => (2, Some(session)),
        Origin::InvokeSocket { session } => (3, Some(session)),
        Origin::ClientMessage => (4, None),
        Origin::Http => (5, None),
    }
}

/// The number of where a reply is, and its connection.
pub(super) const fn reply_code(reply: Reply) -> (i64, Option<SessionId>) {
    match reply {
        Reply::None => (0, None),
        Reply::Owed => (1, None),
        Reply::Sent { session } => (2, Some(session)),
    }
}

/// A row, and the table that it is of.
pub(super) struct Columns<'a> {
    table: &'static str,
    row: &'a SqliteRow,
}

impl<'a> Columns<'a> {
    pub(super) const fn of(table: &'static str, row: &'a SqliteRow) -> Self {
        Self { table, row }
    }

    pub(super) fn damaged(&self, column: &'static str, what: impl Into<String>) -> JournalError {
        JournalError::Damaged { table: self.table, column, what: what.into() }
    }

    pub(super) fn get<T: Decode<'a, Sqlite> + Type<Sqlite>>(&self, column: &'static str) -> Result<T, JournalError> {
        self.row.try_get(column).map_err(|_| self.damaged(column, "is of another type"))
    }

    pub(super) fn position(&self, column: &'static str) -> Result<Position, JournalError> {
        self.get(column).map(Position)
    }

    pub(super) fn optional_position(&self, column: &'static str) -> Result<Option<Position>, JournalError> {
        Ok(self.get::<Option<i64>>(column)?.map(Position))
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, JournalError> {
        self.get(column).map(Timestamp::from_micros)
    }

    pub(super) fn optional_time(&self, column: &'static str) -> Result<Option<Timestamp>, JournalError> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_micros))
    }

    /// A number of a smaller type than the 64 bits of the column.
    pub(super) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, JournalError> {
        let number: i64 = self.get(column)?;
        T::try_from(number).map_err(|_| self.damaged(column, format!("is {number}")))
    }

    pub(super) fn optional_number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, JournalError> {
        let Some(number) = self.get::<Option<i64>>(column)? else { return Ok(None) };
        T::try_from(number).map(Some).map_err(|_| self.damaged(column, format!("is {number}")))
    }

    fn flag(&self, column: &'static str) -> Result<bool, JournalError> {
        match self.get::<i64>(column)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.damaged(column, format!("is {other}, not 0 or 1"))),
        }
    }

    pub(super) fn bytes(&self, column: &'static str) -> Result<Option<Bytes>, JournalError> {
        Ok(self.get::<Option<Vec<u8>>>(column)?.map(Bytes::from))
    }

    pub(super) fn digest(&self, column: &'static str) -> Result<[u8; 32], JournalError> {
        self.get::<&[u8]>(column)?.try_into().map_err(|_| self.damaged(column, "is not 32 bytes"))
    }

    pub(super) fn optional_digest(&self, column: &'static str) -> Result<Option<[u8; 32]>, JournalError> {
        let Some(bytes) = self.get::<Option<&[u8]>>(column)? else { return Ok(None) };
        bytes.try_into().map(Some).map_err(|_| self.damaged(column, "is not 32 bytes"))
    }

    pub(super) fn salt(&self, column: &'static str) -> Result<Option<[u8; 16]>, JournalError> {
        let Some(bytes) = self.get::<Option<&[u8]>>(column)? else { return Ok(None) };
        bytes.try_into().map(Some).map_err(|_| self.damaged(column, "is not 16 bytes"))
    }

    fn uuid(&self, column: &'static str) -> Result<Option<Uuid>, JournalError> {
        let Some(bytes) = self.get::<Option<&[u8]>>(column)? else { return Ok(None) };
        Uuid::from_slice(bytes).map(Some).map_err(|_| self.damaged(column, "is not 16 bytes"))
    }

    pub(super) fn session(&self, column: &'static str) -> Result<Option<SessionId>, JournalError> {
        Ok(self.uuid(column)?.map(SessionId))
    }

    pub(super) fn invocation_id(&self, column: &'static str) -> Result<Option<InvocationId>, JournalError> {
        Ok(self.uuid(column)?.map(InvocationId))
    }

    /// A value that must be there.
    pub(super) fn required<T>(&self, column: &'static str, value: Option<T>) -> Result<T, JournalError> {
        value.ok_or_else(|| self.damaged(column, "is missing"))
    }

    pub(super) fn identity(&self, column: &'static str) -> Result<Identity, JournalError> {
        let identity = self.optional_identity(column)?;
        self.required(column, identity)
    }

    pub(super) fn optional_identity(&self, column: &'static str) -> Result<Option<Identity>, JournalError> {
        let Some(name) = self.get::<Option<&str>>(column)? else { return Ok(None) };
        Identity::new(name).map(Some).map_err(|error| self.damaged(column, error.to_string()))
    }
}

/// A row of `invocations`.
pub(super) fn invocation(row: &SqliteRow) -> Result<Invocation, JournalError> {
    let columns = Columns::of("invocations", row);
    Ok(Invocation {
        id: columns.required("id", columns.invocation_id("id")?)?,
        agent: columns.identity("agent_id")?,
        caller: columns.identity("caller")?,
        origin: origin(&columns)?,
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
        labels: Labels { request_id: label(&columns, "request_id")?, session_id: label(&columns, "session_id")? },
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
    match (columns.get::<i64>("origin")?, columns.session("origin_session")?) {
        (1, Some(session)) => Ok(Origin::Socket { session, registered: false }),
        (2, Some(session)) => Ok(Origin::Socket { session, registered: true }),
        (3, Some(session)) => Ok(Origin::InvokeSocket { session }),
        (4, None) => Ok(Origin::ClientMessage),
        (5, None) => Ok(Origin::Http),
        (1..=3, None) => Err(columns.damaged("origin_session", "is missing")),
        (code @ (i64::MIN..=0 | 4..), _) => Err(columns.damaged("origin", format!("is {code}"))),
    }
}

fn label(columns: &Columns<'_>, column: &'static str) -> Result<Option<Arc<str>>, JournalError> {
    Ok(columns.get::<Option<&str>>(column)?.map(Arc::from))
}

fn reply(columns: &Columns<'_>) -> Result<Reply, JournalError> {
    match (columns.get::<i64>("reply")?, columns.session("reply_session")?) {
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
    let Some(key) = columns.get::<Option<&str>>("idempotency_key")? else { return Ok(None) };
    Ok(Some(Box::new(IdempotencyKey { key: Arc::from(key), digest: columns.digest("key_digest")? })))
}

/// The state and the columns that belong to it; all others must be empty.
fn state(columns: &Columns<'_>) -> Result<State, JournalError> {
    let code: i64 = columns.get("state")?;
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
    let Some(code) = columns.get::<Option<&str>>("code")? else { return Ok(None) };
    code.parse().map(Some).map_err(|_| columns.damaged("code", "is no error code"))
}
