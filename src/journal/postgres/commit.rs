//! The text of a commit: one statement for all of a batch, whatever its size. There are two: most batches are of events and
//! invocations alone, and each part of a statement costs time even if it has nothing to do.
//!
//! Its first part moves the head on, if it is still where this router's turn left it; all others hang on that. A router
//! that waits here for another's commit sees the head as that left it, and changes nothing.

use std::fmt::Write;
use std::sync::LazyLock;

use sqlx::postgres::PgArguments;

use crate::id::NodeId;
use crate::journal::postgres::encode::{
    ACCEPTED, AGENTS, Bound, CHANGED, Encoded, JOURNAL, Layout, NODES, Node, SESSIONS,
};
use crate::journal::{Head, JournalError};

/// So many of the newest commits say what they changed.
pub(super) const RING: i64 = 4096;

/// One row: whether the head was moved on (`won`, 0 or 1).
///
/// The last part holds what must not be: it divides by zero if not every changed invocation was there. A head with the right
/// revision and another position or hash would be a NULL where none may be.
pub(super) static COMMIT: LazyLock<&'static str> = LazyLock::new(|| text(true).leak());

/// The same for a batch that [is plain](crate::journal::Batch::is_plain).
pub(super) static PLAIN: LazyLock<&'static str> = LazyLock::new(|| text(false).leak());

/// The channel on which a router is told that others have something for it.
pub(super) fn channel(node: NodeId) -> String {
    format!("agent_router_{}", node.0)
}

/// Numbers the parameters of the text, in the order in which they are bound.
struct Parameters(u16);

impl Parameters {
    fn one(&mut self, kind: &str) -> String {
        self.0 += 1;
        format!("${}::{kind}", self.0)
    }

    /// The rows whose columns are bound as arrays.
    fn rows(&mut self, layouts: &[Layout]) -> String {
        let columns = || layouts.iter().copied().flatten();
        let arrays: Vec<_> = columns().map(|(_, kind)| self.one(&format!("{kind}[]"))).collect();
        let names: Vec<_> = columns().map(|(name, _)| *name).collect();
        format!("head, unnest({}) AS new ({})", arrays.join(", "), names.join(", "))
    }
}

fn text(with_peers: bool) -> String {
    let mut parameters = Parameters(0);
    let mut one = |kind| parameters.one(kind);
    let (revision, position, hash) = (one("BIGINT"), one("BIGINT"), one("BYTEA"));
    let (new_position, new_hash) = (one("BIGINT"), one("BYTEA"));
    let (changed, node) = (one("BIGINT"), one("BIGINT"));
    let mut text = format!(
        "WITH head AS (
             UPDATE journal_head SET revision = revision + 1, hash = {new_hash},
                 position = CASE WHEN position = {position} AND hash = {hash} THEN {new_position} END
             WHERE one = 1 AND revision = {revision} RETURNING revision
         )"
    );
    let mut part = |name: &str, what: String| {
        let _ = write!(text, ",\n{name} AS ({what})");
    };
    part("new_events", insert("journal", &mut parameters, &[JOURNAL], Some(("node", &node)), ""));
    part("new_invocations", insert("invocations", &mut parameters, &[CHANGED, ACCEPTED], None, ""));
    part("changed", update("invocations", &mut parameters, CHANGED));
    let mut named = ["'{}'", "'{}'", "'{}'", "'{}'", "'{}'"].map(str::to_owned);
    if with_peers {
        named = peers(&mut parameters, &mut part);
    }
    let [agents, sessions, codes, dismissed_sessions, dismissed_positions] = named;
    let invocations = parameters.one("UUID[]");
    part(
        "ring",
        format!(
            "INSERT INTO changes (slot, revision, node, invocations, agents, sessions, nodes,
                 dismissed_sessions, dismissed_positions)
             SELECT revision % {RING}, revision, {node}, {invocations}, {agents}, {sessions}, {codes},
                 {dismissed_sessions}, {dismissed_positions} FROM head
             ON CONFLICT (slot) DO UPDATE SET revision = excluded.revision, node = excluded.node,
                 invocations = excluded.invocations, agents = excluded.agents, sessions = excluded.sessions,
                 nodes = excluded.nodes, dismissed_sessions = excluded.dismissed_sessions,
                 dismissed_positions = excluded.dismissed_positions"
        ),
    );
    let wake = parameters.one("BIGINT[]");
    let notify = format!("SELECT pg_notify('agent_router_' || wake, '') FROM head, unnest({wake}) AS woken (wake)");
    part("woken", notify);
    let _ = write!(
        text,
        "\nSELECT (SELECT count(*) FROM head) AS won, (SELECT count(*) FROM woken) AS woken,
             1 / CASE WHEN (SELECT count(*) FROM changed) = (SELECT {changed} * count(*) FROM head) THEN 1 ELSE 0 END AS whole"
    );
    text
}

/// The parts for agents, sockets and routers. Gives back what the ring is to name of them: agents, sockets, routers, and
/// sockets and places of what is to be sent there.
fn peers(parameters: &mut Parameters, part: &mut impl FnMut(&str, String)) -> [String; 5] {
    // Whose rows these are, the ring names too.
    let agents = format!("${}::TEXT[]", parameters.0 + 1);
    let on_conflict =
        "ON CONFLICT (agent_id) DO UPDATE SET registered = excluded.registered, last_seen = excluded.last_seen";
    part("new_agents", insert("agents", parameters, &[AGENTS], None, on_conflict));
    let on_conflict = "ON CONFLICT (id) DO UPDATE SET registered = excluded.registered, version = excluded.version,
        standing = excluded.standing, max_in_flight = excluded.max_in_flight";
    part("new_sessions", insert("sessions", parameters, &[SESSIONS], None, on_conflict));
    let codes = format!("${}::BIGINT[]", parameters.0 + 1);
    let on_conflict = "ON CONFLICT (code) DO UPDATE SET epoch = excluded.epoch, standing = excluded.standing,
        version = excluded.version, started_at = excluded.started_at";
    part("new_nodes", insert("nodes", parameters, &[NODES], None, on_conflict));
    let ended = parameters.one("UUID[]");
    part("gone", format!("DELETE FROM sessions USING head WHERE sessions.id = ANY({ended})"));
    let feed = parameters.one("BIGINT");
    part("fed", format!("UPDATE feed SET acknowledged = {feed} FROM head WHERE one = 1 AND {feed} IS NOT NULL"));
    let sessions = parameters.one("UUID[]");
    [agents, sessions, codes, parameters.one("UUID[]"), parameters.one("BIGINT[]")]
}

/// The part that puts rows in a table; `beside` is a column that is the same in all of them.
fn insert(
    table: &str,
    parameters: &mut Parameters,
    layouts: &[Layout],
    beside: Option<(&str, &str)>,
    on_conflict: &str,
) -> String {
    let rows = parameters.rows(layouts);
    let names = layouts.iter().copied().flatten().map(|(name, _)| *name);
    let columns: Vec<_> = names.clone().chain(beside.map(|(name, _)| name)).collect();
    let values = names.map(|name| format!("new.{name}")).chain(beside.map(|(_, value)| value.to_owned()));
    let values: Vec<_> = values.collect();
    format!("INSERT INTO {table} ({}) SELECT {} FROM {rows} {on_conflict}", columns.join(", "), values.join(", "))
}

/// The part that changes the rows which the first column names. Each is looked up by itself: a plan that is made while the
/// table is empty would go through all of it once it is not.
fn update(table: &str, parameters: &mut Parameters, layout: Layout) -> String {
    let rows = parameters.rows(&[layout]);
    let mut names = layout.iter().map(|(name, _)| name);
    let key = names.next().copied().unwrap_or_default();
    let set: Vec<_> = names.map(|name| format!("{name} = new.{name}")).collect();
    format!(
        "UPDATE {table} SET {} FROM (
             SELECT old.place, new.* FROM {rows}
             CROSS JOIN LATERAL (SELECT ctid AS place FROM {table} WHERE {key} = new.{key} OFFSET 0) AS old
         ) AS new WHERE {table}.ctid = new.place RETURNING 1",
        set.join(", ")
    )
}

/// What is bound to [`COMMIT`], for a batch that follows `revision` and `head`.
pub(super) fn arguments(
    encoded: &Encoded<'_>,
    revision: i64,
    head: &Head,
    node: &Node,
) -> Result<PgArguments, JournalError> {
    let mut bound = Bound::default();
    bound.value(revision);
    bound.value(head.position.0);
    bound.value(&head.hash[..]);
    bound.value(encoded.head.position.0);
    bound.value(&encoded.head.hash[..]);
    bound.value(encoded.changes());
    bound.value(node.code);
    encoded.bind(&mut bound);
    bound.done()
}
