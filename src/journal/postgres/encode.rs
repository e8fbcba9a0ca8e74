//! A batch as the arrays that are bound to the text of a commit: one for each column, laid out as the constants here say.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use sqlx::encode::Encode;
use sqlx::postgres::{PgArguments, PgHasArrayType, Postgres};
use sqlx::{Arguments, Type};

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, Position};
use crate::invocation::{Finished, Invocation, Outcome, State};
use crate::journal::row;
use crate::journal::seal::{Salts, Sealed};
use crate::journal::{AgentRow, Batch, Head, JournalError, NodeRow, SessionRow};

/// The columns of a table in the order in which their arrays are bound, each with its type.
pub(super) type Layout = &'static [(&'static str, &'static str)];

pub(super) const JOURNAL: Layout = &[
    ("position", "BIGINT"),
    ("at", "BIGINT"),
    ("kind", "BIGINT"),
    ("invocation_id", "UUID"),
    ("agent_id", "TEXT"),
    ("caller", "TEXT"),
    ("detail", "TEXT"),
    ("hash", "BYTEA"),
    ("payload_hash", "BYTEA"),
    ("salt", "BYTEA"),
    ("payload", "BYTEA"),
];

pub(super) const AGENTS: Layout = &[("agent_id", "TEXT"), ("registered", "BIGINT"), ("last_seen", "BIGINT")];

pub(super) const SESSIONS: Layout = &[
    ("id", "UUID"),
    ("identity", "TEXT"),
    ("registered", "BIGINT"),
    ("version", "BIGINT"),
    ("connected_at", "BIGINT"),
    ("node", "BIGINT"),
    ("standing", "BIGINT"),
    ("max_in_flight", "BIGINT"),
    ("sealed_credential", "BYTEA"),
];

pub(super) const NODES: Layout = &[
    ("code", "BIGINT"),
    ("name", "TEXT"),
    ("epoch", "BIGINT"),
    ("standing", "BIGINT"),
    ("version", "TEXT"),
    ("started_at", "BIGINT"),
];

/// Which it is, and where it stands.
pub(super) const CHANGED: Layout = &[
    ("id", "UUID"),
    ("state", "BIGINT"),
    ("attempt", "BIGINT"),
    ("unreceipted", "BIGINT"),
    ("starts", "BIGINT"),
    ("receipted", "BIGINT"),
    ("delivered_at", "BIGINT"),
    ("plain_unanswered", "BIGINT"),
    ("session", "UUID"),
    ("queued_since", "BIGINT"),
    ("resume_until", "BIGINT"),
    ("finished_at", "BIGINT"),
    ("answer", "BIGINT"),
    ("code", "TEXT"),
    ("reply", "BIGINT"),
    ("reply_session", "UUID"),
];

/// What never changes; behind the columns of [`CHANGED`].
pub(super) const ACCEPTED: Layout = &[
    ("agent_id", "TEXT"),
    ("caller", "TEXT"),
    ("origin", "BIGINT"),
    ("origin_session", "UUID"),
    ("home", "BIGINT"),
    ("additions", "BIGINT"),
    ("accepted", "BIGINT"),
    ("accepted_at", "BIGINT"),
    ("body_bytes", "BIGINT"),
    ("ttl", "BIGINT"),
    ("ttl_given", "BIGINT"),
    ("deadline", "BIGINT"),
    ("max_attempts", "BIGINT"),
    ("idempotency_key", "TEXT"),
    ("key_digest", "BYTEA"),
    ("request_id", "TEXT"),
    ("session_id", "TEXT"),
];

/// Who writes: the name, which is hashed, and its number in `nodes`.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) code: i64,
    pub(super) salts: Salts,
}

/// A batch in its place in the chain, from which it can be bound again and again.
pub(super) struct Encoded<'a> {
    batch: &'a Batch,
    events: Vec<Sealed<'a>>,
    /// As they stand at the end of the batch: one that is new is nothing besides.
    accepted: Vec<&'a Invocation>,
    changed: Vec<&'a Invocation>,
    /// The head after it.
    pub(super) head: Head,
}

impl<'a> Encoded<'a> {
    /// Extends the chain from `newest` by the batch's events, which must follow it.
    pub(super) fn new(batch: &'a Batch, newest: Head, node: &Node) -> Result<Self, JournalError> {
        let mut head = newest;
        let mut events = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            let sealed = Sealed::new(event, &head, &node.name, node.salts)?;
            head = sealed.head();
            events.push(sealed);
        }
        let mut changed: Vec<_> = batch.changed.iter().collect();
        let mut accepted: Vec<_> = batch.accepted.iter().collect();
        if !accepted.is_empty() && !changed.is_empty() {
            let later: HashMap<_, _> = changed.iter().map(|&invocation| (invocation.id, invocation)).collect();
            let new: HashSet<_> = accepted.iter().map(|invocation| invocation.id).collect();
            for invocation in &mut accepted {
                *invocation = later.get(&invocation.id).copied().unwrap_or(invocation);
            }
            changed.retain(|invocation| !new.contains(&invocation.id));
        }
        Ok(Self { batch, events, accepted, changed, head })
    }

    /// The arrays, in the order of the commit's text.
    pub(super) fn bind(&self, bound: &mut Bound) {
        let batch = self.batch;
        self.bind_events(bound);
        bind_changed(bound, &self.accepted);
        bind_accepted(bound, &self.accepted);
        bind_changed(bound, &self.changed);
        if !batch.is_plain() {
            bind_peers(bound, batch);
        }
        bound.array(self.unnamed().map(|invocation| invocation.id.0));
        bound.array(batch.wake.iter().map(|node| node.0));
    }

    /// How many rows must be there already.
    pub(super) fn changes(&self) -> i64 {
        i64::try_from(self.changed.len()).unwrap_or(i64::MAX)
    }

    fn bind_events(&self, bound: &mut Bound) {
        let events = || self.events.iter().map(|sealed| (sealed, sealed.event));
        bound.array(events().map(|(_, event)| event.position.0));
        bound.array(events().map(|(_, event)| event.at.as_micros()));
        bound.array(events().map(|(_, event)| event.detail.kind().code()));
        bound.array(events().map(|(_, event)| event.invocation.map(|id| id.0)));
        bound.array(events().map(|(_, event)| event.agent.as_ref().map(Identity::as_str)));
        bound.array(events().map(|(_, event)| event.caller.as_ref().map(Identity::as_str)));
        bound.array(events().map(|(sealed, _)| sealed.detail.as_str()));
        bound.array(events().map(|(sealed, _)| &sealed.hash[..]));
        bound.array(events().map(|(sealed, _)| sealed.payload_hash.as_ref().map(|hash| &hash[..])));
        bound.array(events().map(|(sealed, _)| sealed.salt.as_ref().map(|salt| &salt[..])));
        bound.array(events().map(|(_, event)| event.payload.as_deref()));
    }

    /// The invocations that are new or changed and that no event of the batch names.
    fn unnamed(&self) -> impl Iterator<Item = &'a Invocation> {
        let named: HashSet<_> = self.batch.events.iter().filter_map(|event| event.invocation).collect();
        let all = self.batch.accepted.iter().chain(&self.batch.changed);
        all.filter(move |invocation| !named.contains(&invocation.id))
    }
}

/// Values on their way to a statement.
#[derive(Default)]
pub(super) struct Bound {
    arguments: PgArguments,
    failed: bool,
}

impl Bound {
    pub(super) fn value<'v, T: Encode<'v, Postgres> + Type<Postgres>>(&mut self, value: T) {
        self.failed |= self.arguments.add(value).is_err();
    }

    pub(super) fn array<'v, T>(&mut self, values: impl Iterator<Item = T>)
    where
        T: Encode<'v, Postgres> + Type<Postgres> + PgHasArrayType,
        Vec<T>: Encode<'v, Postgres> + Type<Postgres>,
    {
        self.value(values.collect::<Vec<T>>());
    }

    pub(super) fn done(self) -> Result<PgArguments, JournalError> {
        if self.failed {
            return Err(JournalError::Unavailable("a batch could not be encoded".to_owned()));
        }
        Ok(self.arguments)
    }
}

/// Postgres takes no U+0000 in a text.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

fn bind_peers(bound: &mut Bound, batch: &Batch) {
    bind_agents(bound, &batch.agents);
    // A socket that ended has no row, whatever else became of it in this batch.
    let sessions: Vec<_> = batch.sessions.iter().filter(|row| !batch.ended.contains(&row.session)).collect();
    bind_sessions(bound, &sessions);
    bind_nodes(bound, &batch.nodes);
    bound.array(batch.ended.iter().map(|session| session.0));
    bound.value(batch.feed_acknowledged.map(|position| position.0));
    bound.array(batch.sessions.iter().map(|row| row.session.0).chain(batch.ended.iter().map(|session| session.0)));
    bound.array(batch.dismissed.iter().map(|dismissed| dismissed.session.0));
    bound.array(batch.dismissed.iter().map(|dismissed| dismissed.position.0));
}

fn bind_agents(bound: &mut Bound, rows: &[AgentRow]) {
    bound.array(rows.iter().map(|row| row.agent.as_str()));
    bound.array(rows.iter().map(|row| row.registered.map(|position| position.0)));
    bound.array(rows.iter().map(|row| row.last_seen.map(Timestamp::as_micros)));
}

fn bind_sessions(bound: &mut Bound, rows: &[&SessionRow]) {
    let rows = || rows.iter();
    bound.array(rows().map(|row| row.session.0));
    bound.array(rows().map(|row| row.identity.as_str()));
    bound.array(rows().map(|row| row.registered.map(|position| position.0)));
    bound.array(rows().map(|row| i64::from(row.version)));
    bound.array(rows().map(|row| row.connected_at.as_micros()));
    bound.array(rows().map(|row| row.node.0));
    bound.array(rows().map(|row| row.standing as i64));
    bound.array(rows().map(|row| i64::from(row.max_in_flight)));
    bound.array(rows().map(|row| row.sealed_credential.as_deref()));
}

fn bind_nodes(bound: &mut Bound, rows: &[NodeRow]) {
    bound.array(rows.iter().map(|row| row.node.0));
    bound.array(rows.iter().map(|row| &*row.name));
    bound.array(rows.iter().map(|row| row.epoch));
    bound.array(rows.iter().map(|row| row.standing as i64));
    bound.array(rows.iter().map(|row| &*row.version));
    bound.array(rows.iter().map(|row| row.started_at.as_micros()));
}

fn bind_changed(bound: &mut Bound, invocations: &[&Invocation]) {
    let each = || invocations.iter();
    bound.array(each().map(|one| one.id.0));
    bound.array(each().map(|one| one.state_name() as i64));
    bound.array(each().map(|one| i64::from(one.attempt)));
    bound.array(each().map(|one| i64::from(one.unreceipted)));
    bound.array(each().map(|one| i64::from(one.starts)));
    bound.array(each().map(|one| i64::from(one.receipted)));
    bound.array(each().map(|one| one.delivered_at.map(Timestamp::as_micros)));
    bound.array(each().map(|one| i64::from(one.plain_unanswered)));
    bound.array(each().map(|one| one.in_flight_on().map(|session| session.0)));
    bound.array(each().map(|one| match one.state {
        State::Queued { since } => Some(since.as_micros()),
        State::Interrupted { .. } | State::Delivered { .. } | State::Running { .. } | State::Finished(_) => None,
    }));
    bound.array(each().map(|one| match one.state {
        State::Interrupted { until } => Some(until.as_micros()),
        State::Queued { .. } | State::Delivered { .. } | State::Running { .. } | State::Finished(_) => None,
    }));
    bound.array(each().map(|one| one.finished().map(|finished| finished.at.as_micros())));
    bound.array(each().map(|one| one.finished().and_then(|finished| finished.answer).map(|Position(answer)| answer)));
    bound.array(each().map(|one| one.finished().and_then(router_code)));
    bound.array(each().map(|one| row::reply_code(one.reply).0));
    bound.array(each().map(|one| row::reply_code(one.reply).1.map(|session| session.0)));
}

fn bind_accepted(bound: &mut Bound, invocations: &[&Invocation]) {
    let each = || invocations.iter();
    bound.array(each().map(|one| one.agent.as_str()));
    bound.array(each().map(|one| one.caller.as_str()));
    bound.array(each().map(|one| row::origin_code(one.origin).0));
    bound.array(each().map(|one| row::origin_code(one.origin).1.map(|session| session.0)));
    bound.array(each().map(|one| one.home.0));
    bound.array(each().map(|one| i64::from(one.additions)));
    bound.array(each().map(|one| one.accepted.0));
    bound.array(each().map(|one| one.accepted_at.as_micros()));
    bound.array(each().map(|one| i64::from(one.body_bytes)));
    bound.array(each().map(|one| i64::try_from(one.terms.ttl.as_micros()).unwrap_or(i64::MAX)));
    bound.array(each().map(|one| i64::from(one.terms.ttl_given)));
    bound.array(each().map(|one| one.terms.deadline.as_micros()));
    bound.array(each().map(|one| i64::from(one.terms.max_attempts)));
    bound.array(each().map(|one| one.key.as_deref().map(|key| storable(&key.key))));
    bound.array(each().map(|one| one.key.as_deref().map(|key| &key.digest[..])));
    bound.array(each().map(|one| one.labels.request_id.as_deref().map(storable)));
    bound.array(each().map(|one| one.labels.session_id.as_deref().map(storable)));
}

/// The code that is stored: the other outcomes have one of their own each, which their state says already.
fn router_code(finished: Finished) -> Option<&'static str> {
    match finished.outcome {
        Outcome::Failed(code) => code.map(ErrorCode::as_str),
        Outcome::Completed | Outcome::Expired | Outcome::TimedOut | Outcome::Cancelled => None,
    }
}
