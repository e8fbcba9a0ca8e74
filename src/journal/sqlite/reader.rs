//! What the router and its readers ask of the rows.

use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use crate::id::{InvocationId, NodeId, Position, SessionId};
use crate::invocation::Invocation;
use crate::journal::row::{self, Columns};
use crate::journal::sqlite::{error, migration, open};
use crate::journal::{Head, InvocationRecord, JournalError, Lookup, NodeRecord, NodeRow, Restored, SessionRow};

pub(super) const HEAD: &str = "SELECT position, hash FROM journal_head";
pub(super) const AGENTS: &str = "SELECT agent_id, registered, last_seen FROM agents ORDER BY agent_id";
pub(super) const SESSIONS: &str = "SELECT id, identity, registered, version, connected_at, node, standing, max_in_flight, NULL AS sealed_credential FROM sessions ORDER BY id";
pub(super) const SESSION: &str = "SELECT id, identity, registered, version, connected_at, node, standing, max_in_flight, NULL AS sealed_credential FROM sessions WHERE id = $1";
pub(super) const NODES: &str = "
SELECT code, name, epoch, standing, version, started_at, NULL AS renewed_at,
    (SELECT count(*) FROM sessions WHERE sessions.node = nodes.code) AS sessions
FROM nodes ORDER BY name";
pub(super) const PRUNED: &str = "SELECT position FROM pruned";
pub(super) const UNSETTLED: &str =
    "SELECT * FROM invocations WHERE state < 5 OR plain_unanswered = 1 OR reply <> 0 ORDER BY accepted";
pub(super) const ACKNOWLEDGED: &str = "SELECT acknowledged FROM feed";

/// `$1`: a JSON array of ids.
pub(super) const BY_ID: &str =
    "SELECT * FROM invocations WHERE id IN (SELECT unhex(value, '-') FROM json_each($1)) ORDER BY accepted";

/// `$1`: a JSON array of `[caller, agent, key]`.
pub(super) const BY_KEY: &str = "
SELECT invocations.* FROM json_each($1) AS wanted JOIN invocations ON invocations.id = (
    SELECT id FROM invocations
    WHERE caller = wanted.value ->> 0 AND agent_id = wanted.value ->> 1 AND idempotency_key = wanted.value ->> 2
    ORDER BY accepted DESC LIMIT 1
)";

/// `$1`: a JSON array of positions. What an agent registered with outlives the event.
pub(super) const PAYLOADS: &str = "
SELECT position, payload FROM journal
WHERE position IN (SELECT value FROM json_each($1)) AND payload IS NOT NULL
UNION ALL
SELECT registered, registration FROM agents
WHERE registered IN (SELECT value FROM json_each($1)) AND registered <= (SELECT position FROM pruned)
  AND registration IS NOT NULL
ORDER BY position";

pub(super) const INVOCATION: &str = "
SELECT invocations.*, body.payload AS body_payload, answer.payload AS answer_payload
FROM invocations
LEFT JOIN journal AS body ON body.position = invocations.accepted
LEFT JOIN journal AS answer ON answer.position = invocations.answer
WHERE invocations.id = $1";

/// A journal in a SQLite file, for reading. It needs no lock: a router may be writing meanwhile.
#[derive(Clone, Debug)]
pub struct SqliteReader {
    pub(super) pool: SqlitePool,
}

impl SqliteReader {
    /// Opens the file, which must be there, with the schema that this version works with.
    pub async fn open(path: &Path) -> Result<Self, JournalError> {
        Self::with_connections(path, open::READERS).await
    }

    pub(super) async fn with_connections(path: &Path, connections: u32) -> Result<Self, JournalError> {
        let reader = Self { pool: open::readers(path, connections).await? };
        reader.require_current().await?;
        Ok(reader)
    }

    /// Refuses any schema but this version's.
    pub(super) async fn require_current(&self) -> Result<(), JournalError> {
        let mut connection = self.pool.acquire().await.map_err(error::unavailable)?;
        migration::require_current(&mut connection).await
    }

    /// The newest event.
    pub async fn head(&self) -> Result<Head, JournalError> {
        let row = sqlx::query(HEAD).fetch_one(&self.pool).await.map_err(error::unavailable)?;
        row::head(&row)
    }

    pub(super) async fn restore(&self, node: NodeId) -> Result<Restored, JournalError> {
        // One transaction, so that all of it is of one moment.
        let mut snapshot = self.pool.begin().await.map_err(error::unavailable)?;
        let at = sqlx::query(HEAD).fetch_one(&mut *snapshot).await.map_err(error::unavailable)?;
        let agents = sqlx::query(AGENTS).fetch_all(&mut *snapshot).await.map_err(error::unavailable)?;
        let sessions = sqlx::query(SESSIONS).fetch_all(&mut *snapshot).await.map_err(error::unavailable)?;
        let nodes = sqlx::query(NODES).fetch_all(&mut *snapshot).await.map_err(error::unavailable)?;
        let acknowledged = sqlx::query_scalar(ACKNOWLEDGED).fetch_one(&mut *snapshot).await;
        let pruned = sqlx::query_scalar(PRUNED).fetch_one(&mut *snapshot).await;
        let mut unsettled = Vec::new();
        let mut rows = sqlx::query(UNSETTLED).fetch(&mut *snapshot);
        while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
            unsettled.push(row::invocation(&row)?);
        }
        let nodes: Vec<NodeRow> = nodes.iter().map(|row| row::node(row)).collect::<Result<_, _>>()?;
        Ok(Restored {
            head: row::head(&at)?,
            agents: agents.iter().map(|row| row::agent(row)).collect::<Result<_, _>>()?,
            sessions: sessions.iter().map(|row| row::session(row)).collect::<Result<_, _>>()?,
            unsettled,
            feed_acknowledged: Position(acknowledged.map_err(error::unavailable)?),
            pruned: Position(pruned.map_err(error::unavailable)?),
            node: nodes.iter().find(|row| row.node == node).cloned().ok_or_else(|| JournalError::Damaged {
                table: "nodes",
                column: "code",
                what: "this router has no row".to_owned(),
            })?,
            nodes,
            alone: true,
        })
    }

    pub(super) async fn nodes(&self) -> Result<Vec<NodeRecord>, JournalError> {
        let rows = sqlx::query(NODES).fetch_all(&self.pool).await.map_err(error::unavailable)?;
        let nodes: Vec<NodeRecord> = rows.iter().map(|row| row::node_record(row)).collect::<Result<_, _>>()?;
        Ok(nodes.into_iter().filter(|node| node.row.epoch > 0).collect())
    }

    pub(super) async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, JournalError> {
        let id = id.0.as_bytes().to_vec();
        let row = sqlx::query(SESSION).bind(id).fetch_optional(&self.pool).await.map_err(error::unavailable)?;
        row.as_ref().map(|row| row::session(row)).transpose()
    }

    pub(super) async fn lookup(&self, lookup: &Lookup) -> Result<Vec<Invocation>, JournalError> {
        let mut found: Vec<Invocation> = Vec::new();
        if !lookup.ids.is_empty() {
            let rows = sqlx::query(BY_ID).bind(json(&lookup.ids)?).fetch_all(&self.pool).await;
            for row in rows.map_err(error::unavailable)? {
                found.push(row::invocation(&row)?);
            }
        }
        if !lookup.keys.is_empty() {
            let rows = sqlx::query(BY_KEY).bind(json(&lookup.keys)?).fetch_all(&self.pool).await;
            for row in rows.map_err(error::unavailable)? {
                found.push(row::invocation(&row)?);
            }
        }
        found.sort_by_key(|invocation| invocation.accepted);
        found.dedup_by_key(|invocation| invocation.accepted);
        Ok(found)
    }

    pub(super) async fn payloads(&self, positions: &[Position]) -> Result<Vec<(Position, Bytes)>, JournalError> {
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let rows =
            sqlx::query(PAYLOADS).bind(json(positions)?).fetch_all(&self.pool).await.map_err(error::unavailable)?;
        let payload = |row: &SqliteRow| {
            let columns = Columns::of("journal", row);
            Ok((columns.position("position")?, columns.required("payload", columns.bytes("payload")?)?))
        };
        rows.iter().map(payload).collect()
    }

    /// One invocation, with its body and its answer.
    pub async fn invocation(&self, id: InvocationId) -> Result<Option<InvocationRecord>, JournalError> {
        let id = id.0.as_bytes().to_vec();
        let row = sqlx::query(INVOCATION).bind(id).fetch_optional(&self.pool).await.map_err(error::unavailable)?;
        row.as_ref().map(|row| row::record(row)).transpose()
    }

    /// Waits for those who read, and lets the file go.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

pub(super) fn json(value: &(impl serde::Serialize + ?Sized)) -> Result<String, JournalError> {
    serde_json::to_string(value).map_err(|_| JournalError::Unavailable("a query could not be encoded".to_owned()))
}
