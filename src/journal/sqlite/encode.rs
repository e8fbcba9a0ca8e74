//! A batch as the few values that are bound to the text of a commit: the rows of each table packed in one blob, laid out as
//! the constants here say.

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Position, SessionId};
use crate::invocation::{Finished, Invocation, Outcome, State};
use crate::journal::chain::SALT_BYTES;
use crate::journal::row;
use crate::journal::seal::{Salts, Sealed};
use crate::journal::sqlite::cells::Cell::{
    Digest, Id, Integer, OptionalBytes, OptionalDigest, OptionalId, OptionalInteger, OptionalText, Text,
};
use crate::journal::sqlite::cells::{Layout, Rows};
use crate::journal::sqlite::index::{self, Tail};
use crate::journal::{AgentRow, Batch, Erased, Head, JournalError, NodeRow, SessionRow};

pub(super) const JOURNAL: Layout = Layout(&[
    ("position", Integer),
    ("at", Integer),
    ("kind", Integer),
    ("node", Integer),
    ("invocation_id", OptionalId),
    ("agent_id", OptionalText),
    ("caller", OptionalText),
    ("detail", Text),
    ("hash", Digest),
    ("payload_hash", OptionalDigest),
    ("salt", OptionalId),
    ("payload", OptionalBytes),
]);

pub(super) const AGENTS: Layout =
    Layout(&[("agent_id", Text), ("registered", OptionalInteger), ("last_seen", OptionalInteger)]);

pub(super) const SESSIONS: Layout = Layout(&[
    ("id", Id),
    ("identity", Text),
    ("registered", OptionalInteger),
    ("version", Integer),
    ("connected_at", Integer),
    ("node", Integer),
    ("standing", Integer),
    ("max_in_flight", Integer),
]);

pub(super) const NODES: Layout = Layout(&[
    ("code", Integer),
    ("name", Text),
    ("epoch", Integer),
    ("standing", Integer),
    ("version", Text),
    ("started_at", Integer),
]);

pub(super) const ENDED: Layout = Layout(&[("id", Id)]);

/// An invocation, and of its agent's log what goes with it, if anything.
pub(super) const ERASED: Layout = Layout(&[
    ("invocation_id", Id),
    ("agent_id", OptionalText),
    ("request_id", OptionalText),
    ("after", OptionalInteger),
]);

/// How many of the columns of an invocation say which it is and where it stands; the others never change.
const CHANGING: usize = 16;

pub(super) const INVOCATIONS: Layout = Layout(&[
    ("id", Id),
    ("state", Integer),
    ("attempt", Integer),
    ("unreceipted", Integer),
    ("starts", Integer),
    ("receipted", Integer),
    ("delivered_at", OptionalInteger),
    ("plain_unanswered", Integer),
    ("session", OptionalId),
    ("queued_since", OptionalInteger),
    ("resume_until", OptionalInteger),
    ("finished_at", OptionalInteger),
    ("answer", OptionalInteger),
    ("code", OptionalText),
    ("reply", Integer),
    ("reply_session", OptionalId),
    ("agent_id", Text),
    ("caller", Text),
    ("origin", Integer),
    ("origin_session", OptionalId),
    ("home", Integer),
    ("additions", Integer),
    ("accepted", Integer),
    ("accepted_at", Integer),
    ("body_bytes", Integer),
    ("ttl", Integer),
    ("ttl_given", Integer),
    ("deadline", Integer),
    ("max_attempts", Integer),
    ("idempotency_key", OptionalText),
    ("key_digest", OptionalDigest),
    ("request_id", OptionalText),
    ("session_id", OptionalText),
]);

pub(super) const CHANGED: Layout = Layout(INVOCATIONS.0.split_at(CHANGING).0);

/// A batch, ready to be bound.
pub(super) struct Encoded {
    /// The head after it.
    pub(super) head: Head,
    /// The texts and payloads of all rows.
    pub(super) heap: Vec<u8>,
    pub(super) events: Vec<u8>,
    pub(super) index: index::Packed,
    pub(super) agents: Vec<u8>,
    pub(super) sessions: Vec<u8>,
    pub(super) ended: Vec<u8>,
    pub(super) accepted: Vec<u8>,
    pub(super) changed: Vec<u8>,
    pub(super) erased: Vec<u8>,
    pub(super) nodes: Vec<u8>,
}

/// Who writes: the name, which is hashed, and its number in `nodes`.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) code: i64,
    pub(super) salts: Salts,
}

impl Encoded {
    /// Extends the chain from `newest` by the batch's events, which must follow it; `tail` is what is not indexed.
    pub(super) fn new(batch: &Batch, mut newest: Head, node: &Node, tail: &Tail) -> Result<Self, JournalError> {
        let mut heap = Vec::with_capacity(heap_size(batch));
        let mut events = Rows::new(JOURNAL, batch.events.len(), &mut heap);
        for event in &batch.events {
            let sealed = Sealed::new(event, &newest, &node.name, node.salts)?;
            newest = sealed.head();
            pack_event(&mut events, &sealed, node);
        }
        let events = events.into_cells();
        let index = tail.pack(&batch.events, &mut heap);
        Ok(Self {
            head: newest,
            events,
            index,
            agents: pack(AGENTS, &mut heap, &batch.agents, pack_agent),
            sessions: pack(SESSIONS, &mut heap, &batch.sessions, pack_session),
            ended: pack(ENDED, &mut heap, &batch.ended, |rows, session| {
                rows.bytes(session.0.as_bytes());
            }),
            accepted: pack(INVOCATIONS, &mut heap, &batch.accepted, pack_accepted),
            changed: pack(CHANGED, &mut heap, &batch.changed, pack_changed),
            erased: pack(ERASED, &mut heap, &batch.erased, pack_erased),
            nodes: pack(NODES, &mut heap, &batch.nodes, pack_node),
            heap,
        })
    }
}

impl Encoded {
    /// How much is bound, but for what is rare.
    pub(super) const fn bytes(&self) -> usize {
        self.heap.len() + self.events.len() + self.accepted.len() + self.changed.len()
    }
}

fn pack<T>(
    layout: Layout,
    heap: &mut Vec<u8>,
    items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    pack_one: impl Fn(&mut Rows<'_>, T),
) -> Vec<u8> {
    let items = items.into_iter();
    let mut rows = Rows::new(layout, items.len(), heap);
    items.for_each(|item| pack_one(&mut rows, item));
    rows.into_cells()
}

fn pack_event(rows: &mut Rows<'_>, sealed: &Sealed<'_>, node: &Node) {
    let event = sealed.event;
    rows.integer(event.position.0)
        .integer(event.at.as_micros())
        .integer(event.detail.kind().code())
        .integer(node.code)
        .bytes(event.invocation.as_ref().map_or(&[0; 16], |id| id.0.as_bytes()))
        .optional_heaped(event.agent.as_ref().map(|agent| agent.as_str().as_bytes()))
        .optional_heaped(event.caller.as_ref().map(|caller| caller.as_str().as_bytes()))
        .heaped(sealed.detail.as_bytes())
        .bytes(&sealed.hash)
        .bytes(&sealed.payload_hash.unwrap_or_default())
        .bytes(&sealed.salt.unwrap_or([0; SALT_BYTES]))
        .optional_heaped(event.payload.as_deref());
}

fn pack_agent(rows: &mut Rows<'_>, row: &AgentRow) {
    rows.heaped(row.agent.as_str().as_bytes())
        .optional_integer(row.registered.map(|position| position.0))
        .optional_integer(row.last_seen.map(Timestamp::as_micros));
}

fn pack_session(rows: &mut Rows<'_>, row: &SessionRow) {
    rows.bytes(row.session.0.as_bytes())
        .heaped(row.identity.as_str().as_bytes())
        .optional_integer(row.registered.map(|position| position.0))
        .integer(row.version)
        .integer(row.connected_at.as_micros())
        .integer(row.node.0)
        .integer(row.standing as i64)
        .integer(row.max_in_flight);
}

fn pack_node(rows: &mut Rows<'_>, row: &NodeRow) {
    rows.integer(row.node.0)
        .heaped(row.name.as_bytes())
        .integer(row.epoch)
        .integer(row.standing as i64)
        .heaped(row.version.as_bytes())
        .integer(row.started_at.as_micros());
}

fn pack_erased(rows: &mut Rows<'_>, erased: &Erased) {
    let logs = erased.logs.as_ref();
    rows.bytes(erased.invocation.0.as_bytes())
        .optional_heaped(logs.map(|logs| logs.agent.as_str().as_bytes()))
        .optional_heaped(logs.map(|logs| logs.request_id.as_bytes()))
        .optional_integer(logs.map(|logs| logs.after.0));
}

fn pack_changed(rows: &mut Rows<'_>, invocation: &Invocation) {
    let (queued_since, resume_until) = match invocation.state {
        State::Queued { since } => (Some(since), None),
        State::Interrupted { until } => (None, Some(until)),
        State::Delivered { .. } | State::Running { .. } | State::Finished(_) => (None, None),
    };
    let finished = invocation.finished();
    let (reply, reply_session) = row::reply_code(invocation.reply);
    rows.bytes(invocation.id.0.as_bytes())
        .integer(invocation.state_name() as i64)
        .integer(invocation.attempt)
        .integer(invocation.unreceipted)
        .integer(invocation.starts)
        .integer(invocation.receipted)
        .optional_integer(invocation.delivered_at.map(Timestamp::as_micros))
        .integer(invocation.plain_unanswered)
        .bytes(&session_bytes(invocation.in_flight_on()))
        .optional_integer(queued_since.map(Timestamp::as_micros))
        .optional_integer(resume_until.map(Timestamp::as_micros))
        .optional_integer(finished.map(|finished| finished.at.as_micros()))
        .optional_integer(finished.and_then(|finished| finished.answer).map(|Position(answer)| answer))
        .optional_heaped(finished.and_then(router_code).map(str::as_bytes))
        .integer(reply)
        .bytes(&session_bytes(reply_session));
}

fn pack_accepted(rows: &mut Rows<'_>, invocation: &Invocation) {
    let (origin, origin_session) = row::origin_code(invocation.origin);
    let key = invocation.key.as_deref();
    pack_changed(rows, invocation);
    rows.heaped(invocation.agent.as_str().as_bytes())
        .heaped(invocation.caller.as_str().as_bytes())
        .integer(origin)
        .bytes(&session_bytes(origin_session))
        .integer(invocation.home.0)
        .integer(invocation.additions)
        .integer(invocation.accepted.0)
        .integer(invocation.accepted_at.as_micros())
        .integer(invocation.body_bytes)
        .integer(i64::try_from(invocation.terms.ttl.as_micros()).unwrap_or(i64::MAX))
        .integer(invocation.terms.ttl_given)
        .integer(invocation.terms.deadline.as_micros())
        .integer(invocation.terms.max_attempts)
        .optional_heaped(key.map(|key| key.key.as_bytes()))
        .bytes(&key.map_or([0; 32], |key| key.digest))
        .optional_heaped(invocation.labels.request_id.as_deref().map(str::as_bytes))
        .optional_heaped(invocation.labels.session_id.as_deref().map(str::as_bytes));
}

/// The code that is stored: the other outcomes have one of their own each, which their state says already.
fn router_code(finished: Finished) -> Option<&'static str> {
    match finished.outcome {
        Outcome::Failed(code) => code.map(ErrorCode::as_str),
        Outcome::Completed | Outcome::Expired | Outcome::TimedOut | Outcome::Cancelled => None,
    }
}

fn session_bytes(session: Option<SessionId>) -> [u8; 16] {
    session.map_or(Uuid::nil(), |session| session.0).into_bytes()
}

/// About how many bytes the batch's texts and payloads take, so that they are moved but once.
fn heap_size(batch: &Batch) -> usize {
    batch.events.iter().map(|event| 256 + event.payload.as_ref().map_or(0, Bytes::len)).sum()
}
