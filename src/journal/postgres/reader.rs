//! What the router and its readers ask of the rows.

use bytes::Bytes;
use futures_util::TryStreamExt;
use sqlx::PgPool;
use sqlx::postgres::PgRow;

use crate::id::{InvocationId, Position, SessionId};
use crate::invocation::Invocation;
use crate::journal::postgres::snapshot::Snapshot;
use crate::journal::postgres::{error, migration, open};
use crate::journal::row::{self, Columns};
use crate::journal::{Head, InvocationRecord, JournalError, Lookup, NodeRecord, SessionRow};

pub(super) const HEAD: &str = "SELECT position, hash FROM journal_head";
pub(super) const SESSION: &str = "SELECT * FROM sessions WHERE id = $1";

pub(super) const NODES: &str = r#"
SELECT nodes.*, leases.renewed_at, coalesce(held.sessions, 0) AS sessions
FROM nodes
LEFT JOIN leases ON leases.node = nodes.code
LEFT JOIN (SELECT node, count(*) AS sessions FROM sessions GROUP BY node) AS held ON held.node = nodes.code
WHERE nodes.epoch > 0 ORDER BY nodes.name COLLATE "C""#;

/// `$1`: ids.
pub(super) const BY_ID: &str = "SELECT * FROM invocations WHERE id = ANY($1::UUID[])";

/// `$1` callers, `$2` agents, `$3` keys.
pub(super) const BY_KEY: &str = "
SELECT found.* FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[]) AS wanted(caller, agent, key)
CROSS JOIN LATERAL (
    SELECT * FROM invocations
    WHERE caller = wanted.caller AND agent_id = wanted.agent AND idempotency_key = wanted.key
    ORDER BY accepted DESC LIMIT 1
) AS found";

/// `$1`: positions. What an agent registered with outlives the event.
pub(super) const PAYLOADS: &str = "
SELECT position, payload FROM journal WHERE position = ANY($1::BIGINT[]) AND payload IS NOT NULL
UNION ALL
SELECT registered, registration FROM agents
WHERE registered = ANY($1::BIGINT[]) AND registered <= (SELECT position FROM pruned) AND registration IS NOT NULL
ORDER BY position";

pub(super) const INVOCATION: &str = "
SELECT invocations.*, body.payload AS body_payload, answer.payload AS answer_payload
FROM invocations
LEFT JOIN LATERAL (SELECT payload FROM journal WHERE position = invocations.accepted OFFSET 0) AS body ON true
LEFT JOIN LATERAL (SELECT payload FROM journal WHERE position = invocations.answer OFFSET 0) AS answer ON true
WHERE invocations.id = $1";

/// A journal in a Postgres database, for reading. Routers may be writing meanwhile.
#[derive(Clone, Debug)]
pub struct PostgresReader {
    pool: PgPool,
    /// Each transaction may run on another connection: see [`open`].
    pooled: bool,
}

impl PostgresReader {
    /// Opens the database at a URL, which must have a schema that this version works with.
    pub async fn open(url: &str) -> Result<Self, JournalError> {
        let target = open::Target::new(url)?;
        let reader = Self::new(open::readers(&target, open::READERS).await?, target.pooled);
        let mut snapshot = reader.snapshot().await?;
        migration::require_usable(snapshot.connection()).await?;
        Ok(reader)
    }

    pub(super) const fn new(pool: PgPool, pooled: bool) -> Self {
        Self { pool, pooled }
    }

    pub(super) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Whether each transaction may run on another connection.
    pub(super) const fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// For one statement.
    pub(super) async fn statement(&self) -> Result<Snapshot, JournalError> {
        Snapshot::for_one(&self.pool, self.pooled).await
    }

    /// For several statements that are to see the same moment.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, JournalError> {
        Snapshot::of_one_moment(&self.pool, self.pooled).await
    }

    /// The newest event.
    pub async fn head(&self) -> Result<Head, JournalError> {
        let mut one = self.statement().await?;
        let row = one.query(HEAD).fetch_one(one.connection()).await.map_err(error::unavailable)?;
        row::head(&row)
    }

    pub(super) async fn nodes(&self) -> Result<Vec<NodeRecord>, JournalError> {
        let mut one = self.statement().await?;
        let rows = one.query(NODES).fetch_all(one.connection()).await.map_err(error::unavailable)?;
        rows.iter().map(|row| row::node_record(row)).collect()
    }

    pub(super) async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, JournalError> {
        let mut one = self.statement().await?;
        let row = one.query(SESSION).bind(id.0).fetch_optional(one.connection()).await.map_err(error::unavailable)?;
        row.as_ref().map(|row| row::session(row)).transpose()
    }

    /// Invocations, settled ones too.
    pub async fn lookup(&self, lookup: &Lookup) -> Result<Vec<Invocation>, JournalError> {
        let mut found: Vec<Invocation> = Vec::new();
        if !lookup.ids.is_empty() {
            let ids: Vec<_> = lookup.ids.iter().map(|id| id.0).collect();
            let mut one = self.statement().await?;
            let rows = one.query(BY_ID).bind(ids).fetch_all(one.connection()).await.map_err(error::unavailable)?;
            for row in rows {
                found.push(row::invocation(&row)?);
            }
        }
        if !lookup.keys.is_empty() {
            let callers: Vec<_> = lookup.keys.iter().map(|(caller, ..)| caller.to_string()).collect();
            let agents: Vec<_> = lookup.keys.iter().map(|(_, agent, _)| agent.to_string()).collect();
            let keys: Vec<_> = lookup.keys.iter().map(|(.., key)| findable(key)).collect();
            let mut one = self.statement().await?;
            let query = one.query(BY_KEY).bind(callers).bind(agents).bind(keys);
            for row in query.fetch_all(one.connection()).await.map_err(error::unavailable)? {
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
        let positions: Vec<_> = positions.iter().map(|position| position.0).collect();
        let mut one = self.statement().await?;
        let mut rows = one.query(PAYLOADS).bind(positions).fetch(one.connection());
        let payload = |row: &PgRow| {
            let columns = Columns::of("journal", row);
            Ok((columns.position("position")?, columns.required("payload", columns.bytes("payload")?)?))
        };
        let mut payloads = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
            payloads.push(payload(&row)?);
        }
        Ok(payloads)
    }

    /// One invocation, with its body and its answer.
    pub async fn invocation(&self, id: InvocationId) -> Result<Option<InvocationRecord>, JournalError> {
        let mut one = self.statement().await?;
        let row = one.query(INVOCATION).bind(id.0).fetch_optional(one.connection()).await;
        row.map_err(error::unavailable)?.as_ref().map(|row| row::record(row)).transpose()
    }

    /// Waits for those who read, and lets the database go.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A label or a key as it is stored: no text in the database has U+0000.
pub(super) fn findable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
