//! The rows of a batch, and how each is bound to the statement that writes it.
//!
//! A statement is stepped once for each row. None of them may need a table of its own while it runs, which would cost more
//! than the row: a test looks at what SQLite makes of them.

use rusqlite::{CachedStatement, Connection, Result, ToSql, params};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, Position, SessionId};
use crate::invocation::{Finished, Invocation, Outcome, State};
use crate::journal::row;
use crate::journal::seal::Sealed;
use crate::journal::sqlite::hints::Hints;
use crate::journal::sqlite::index::{Era, Posting};
use crate::journal::{AgentRow, NodeRow, SessionRow};

const EVENT: &str = "
INSERT INTO journal (
    position, at, kind, node, invocation_id, agent_id, caller, detail, hash, payload_hash, salt, payload
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

const ERA: &str = "
INSERT INTO eras (era, indexed, first_at, last_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT DO UPDATE SET indexed = excluded.indexed, first_at = min(first_at, excluded.first_at),
    last_at = max(last_at, excluded.last_at)";

// `||` makes a text of the same bytes.
const POSTING: &str = "
INSERT INTO postings (era, term, offsets) VALUES (?1, ?2, ?3)
ON CONFLICT DO UPDATE SET offsets = CAST(offsets || excluded.offsets AS BLOB)";

const HINT: &str = "
INSERT INTO hints (bucket, era, marks) VALUES (?1, ?2, ?3)
ON CONFLICT DO UPDATE SET marks = CAST(marks || excluded.marks AS BLOB)";

const AGENT: &str = "
INSERT INTO agents (agent_id, registered, last_seen) VALUES (?1, ?2, ?3)
ON CONFLICT DO UPDATE SET registered = excluded.registered, last_seen = excluded.last_seen";

const SESSION: &str = "
INSERT INTO sessions (id, identity, registered, version, connected_at, node, standing, max_in_flight)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT DO UPDATE SET registered = excluded.registered, version = excluded.version, standing = excluded.standing,
    max_in_flight = excluded.max_in_flight";

const ENDED: &str = "DELETE FROM sessions WHERE id = ?1";

const NODE: &str = "
INSERT INTO nodes (code, name, epoch, standing, version, started_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT DO UPDATE SET epoch = excluded.epoch, standing = excluded.standing, version = excluded.version,
    started_at = excluded.started_at";

const ACCEPTED: &str = "
INSERT INTO invocations (
    id, state, attempt, unreceipted, starts, receipted, delivered_at, plain_unanswered, session, queued_since, resume_until,
    finished_at, answer, code, reply, reply_session, agent_id, caller, origin, origin_session, home, additions, accepted,
    accepted_at, body_bytes, ttl, ttl_given, deadline, max_attempts, idempotency_key, key_digest, request_id, session_id
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26,
    ?27, ?28, ?29, ?30, ?31, ?32, ?33
)";

const CHANGED: &str = "
UPDATE invocations SET
    state = ?2, attempt = ?3, unreceipted = ?4, starts = ?5, receipted = ?6, delivered_at = ?7, plain_unanswered = ?8,
    session = ?9, queued_since = ?10, resume_until = ?11, finished_at = ?12, answer = ?13, code = ?14, reply = ?15,
    reply_session = ?16
WHERE id = ?1";

/// The statements here, for whoever looks at what SQLite makes of them.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 10] = [EVENT, ERA, POSTING, HINT, AGENT, SESSION, ENDED, NODE, ACCEPTED, CHANGED];

/// What writes events, one by one.
pub(super) struct Events<'c> {
    statement: CachedStatement<'c>,
    /// The number of the router that writes.
    node: i64,
}

impl<'c> Events<'c> {
    pub(super) fn new(connection: &'c Connection, node: i64) -> Result<Self> {
        Ok(Self { statement: connection.prepare_cached(EVENT)?, node })
    }

    pub(super) fn write(&mut self, sealed: &Sealed<'_>) -> Result<()> {
        let event = sealed.event;
        let written = self.statement.execute(params![
            event.position.0,
            event.at.as_micros(),
            event.detail.kind().code(),
            self.node,
            event.invocation.as_ref().map(|id| &id.0.as_bytes()[..]),
            event.agent.as_ref().map(Identity::as_str),
            event.caller.as_ref().map(Identity::as_str),
            sealed.detail,
            sealed.hash,
            sealed.payload_hash,
            sealed.salt,
            event.payload.as_deref(),
        ]);
        written.map(drop)
    }
}

/// Writes rows by one statement, and says how many there were that it applied to.
fn each<T>(
    connection: &Connection,
    statement: &str,
    rows: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut CachedStatement<'_>, T) -> Result<usize>,
) -> Result<usize> {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return Ok(0);
    }
    let mut statement = connection.prepare_cached(statement)?;
    let mut written = 0;
    for row in rows {
        written += write(&mut statement, row)?;
    }
    Ok(written)
}

pub(super) fn eras(connection: &Connection, eras: &[Era]) -> Result<usize> {
    each(connection, ERA, eras, |statement, row| {
        statement.execute(params![row.number, row.indexed, row.first_at.as_micros(), row.last_at.as_micros()])
    })
}

pub(super) fn postings(connection: &Connection, postings: &[Posting]) -> Result<usize> {
    each(connection, POSTING, postings, |statement, row| statement.execute(params![row.era, row.term, row.offsets]))
}

pub(super) fn hints(connection: &Connection, hints: &[Hints]) -> Result<usize> {
    each(connection, HINT, hints, |statement, row| statement.execute(params![row.bucket, row.era, row.marks]))
}

pub(super) fn agents(connection: &Connection, agents: &[AgentRow]) -> Result<usize> {
    each(connection, AGENT, agents, |statement, row| {
        statement.execute(params![
            row.agent.as_str(),
            row.registered.map(|position| position.0),
            row.last_seen.map(Timestamp::as_micros),
        ])
    })
}

pub(super) fn sessions(connection: &Connection, sessions: &[SessionRow]) -> Result<usize> {
    each(connection, SESSION, sessions, |statement, row| {
        statement.execute(params![
            bytes(&row.session),
            row.identity.as_str(),
            row.registered.map(|position| position.0),
            row.version,
            row.connected_at.as_micros(),
            row.node.0,
            row.standing as i64,
            row.max_in_flight,
        ])
    })
}

pub(super) fn ended(connection: &Connection, sessions: &[SessionId]) -> Result<usize> {
    each(connection, ENDED, sessions, |statement, session| statement.execute([bytes(session)]))
}

pub(super) fn nodes(connection: &Connection, nodes: &[NodeRow]) -> Result<usize> {
    each(connection, NODE, nodes, |statement, row| {
        statement.execute(params![
            row.node.0,
            row.name,
            row.epoch,
            row.standing as i64,
            row.version,
            row.started_at.as_micros(),
        ])
    })
}

/// New invocations.
pub(super) fn accepted(connection: &Connection, invocations: &[Invocation]) -> Result<usize> {
    each(connection, ACCEPTED, invocations, |statement, invocation| {
        let (origin, origin_session) = row::origin_code(invocation.origin);
        let key = invocation.key.as_deref();
        bind_standing(statement, invocation)?;
        bind(
            statement,
            STANDING + 1,
            params![
                invocation.agent.as_str(),
                invocation.caller.as_str(),
                origin,
                origin_session.as_ref().map(bytes),
                invocation.home.0,
                invocation.additions,
                invocation.accepted.0,
                invocation.accepted_at.as_micros(),
                invocation.body_bytes,
                i64::try_from(invocation.terms.ttl.as_micros()).unwrap_or(i64::MAX),
                invocation.terms.ttl_given,
                invocation.terms.deadline.as_micros(),
                invocation.terms.max_attempts,
                key.map(|key| &*key.key),
                key.map(|key| key.digest),
                invocation.labels.request_id.as_deref(),
                invocation.labels.session_id.as_deref(),
            ],
        )?;
        statement.raw_execute()
    })
}

/// Invocations that were there and stand elsewhere now. Fewer are written than there are if one was not there.
pub(super) fn changed(connection: &Connection, invocations: &[Invocation]) -> Result<usize> {
    each(connection, CHANGED, invocations, |statement, invocation| {
        bind_standing(statement, invocation)?;
        statement.raw_execute()
    })
}

/// How many columns say which invocation it is and where it stands. They come first; the others never change.
const STANDING: usize = 16;

fn bind_standing(statement: &mut CachedStatement<'_>, invocation: &Invocation) -> Result<()> {
    let (queued_since, resume_until) = match invocation.state {
        State::Queued { since } => (Some(since), None),
        State::Interrupted { until } => (None, Some(until)),
        State::Delivered { .. } | State::Running { .. } | State::Finished(_) => (None, None),
    };
    let (session, finished) = (invocation.in_flight_on(), invocation.finished());
    let (reply, reply_session) = row::reply_code(invocation.reply);
    let values: [&dyn ToSql; STANDING] = [
        &&invocation.id.0.as_bytes()[..],
        &(invocation.state_name() as i64),
        &invocation.attempt,
        &invocation.unreceipted,
        &invocation.starts,
        &invocation.receipted,
        &invocation.delivered_at.map(Timestamp::as_micros),
        &invocation.plain_unanswered,
        &session.as_ref().map(bytes),
        &queued_since.map(Timestamp::as_micros),
        &resume_until.map(Timestamp::as_micros),
        &finished.map(|finished| finished.at.as_micros()),
        &finished.and_then(|finished| finished.answer).map(|Position(answer)| answer),
        &finished.and_then(router_code),
        &reply,
        &reply_session.as_ref().map(bytes),
    ];
    bind(statement, 1, &values)
}

/// Binds the values to the parameters from this one on.
fn bind(statement: &mut CachedStatement<'_>, first: usize, values: &[&dyn ToSql]) -> Result<()> {
    values.iter().zip(first..).try_for_each(|(value, number)| statement.raw_bind_parameter(number, value))
}

/// The code that is stored: the other outcomes have one of their own each, which their state says already.
fn router_code(finished: Finished) -> Option<&'static str> {
    match finished.outcome {
        Outcome::Failed(code) => code.map(ErrorCode::as_str),
        Outcome::Completed | Outcome::Expired | Outcome::TimedOut | Outcome::Cancelled => None,
    }
}

fn bytes(SessionId(session): &SessionId) -> &[u8] {
    Uuid::as_bytes(session)
}
