//! The events, for readers and for the backend's feed.

use futures_util::TryStreamExt;
use serde::Deserialize;
use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};

use crate::clock::Timestamp;
use crate::id::{Identity, Position, SessionId};
use crate::journal::sqlite::row::Columns;
use crate::journal::sqlite::{SqliteReader, error};
use crate::journal::{EventKind, EventRecord, FeedEvent, HistoryFilter, JournalError, Notice};

/// The columns of an event, from `journal` and `nodes`.
macro_rules! events {
    ($($rest:literal),+) => {
        concat!(
            "SELECT journal.position, at, journal.kind, nodes.name AS node, invocation_id, journal.agent_id, caller, ",
            "detail, hash, payload FROM ", $($rest),+
        )
    };
}

/// `$1` after, `$2` limit.
pub(super) const ALL: &str = events!(
    "journal LEFT JOIN nodes ON nodes.code = node
     WHERE position > $1 ORDER BY position LIMIT $2"
);

/// `$1` after, `$2` limit, `$3` the invocation, `$4` an agent or NULL, `$5` a kind or NULL.
pub(super) const OF_INVOCATION: &str = events!(
    "journal LEFT JOIN nodes ON nodes.code = node
     WHERE invocation_id = $3 AND position > $1 AND ($4 IS NULL OR agent_id = $4) AND ($5 IS NULL OR kind = $5)
     ORDER BY position LIMIT $2"
);

/// `$1` after, `$2` limit, `$3` the agent, `$4` a kind or NULL.
pub(super) const OF_AGENT: &str = events!(
    "agent_blocks CROSS JOIN journal ON journal.position BETWEEN block * 1024 AND block * 1024 + 1023
     LEFT JOIN nodes ON nodes.code = node
     WHERE agent_blocks.agent_id = $3 AND block >= $1 / 1024 AND journal.agent_id = $3 AND position > $1
       AND ($4 IS NULL OR kind = $4)
     ORDER BY block, position LIMIT $2"
);

/// `$1` after, `$2` limit, `$3` the kind.
pub(super) const OF_KIND: &str = events!(
    "kind_blocks CROSS JOIN journal ON journal.position BETWEEN block * 1024 AND block * 1024 + 1023
     LEFT JOIN nodes ON nodes.code = node
     WHERE kind_blocks.kind = $3 AND block >= $1 / 1024 AND journal.kind = $3 AND position > $1
     ORDER BY block, position LIMIT $2"
);

/// What there is to tell: `$1` after, `$2` up to, `$3` not older than, `$4` limit, `$5` the backend, `$6` the other master.
/// A registration of a master is announced to nobody; the backend is told nothing of itself.
pub(super) const FEED: &str = "
SELECT position, kind, agent_id, detail, payload FROM journal
WHERE kind IN (11, 13, 14) AND position > $1 AND position <= $2 AND at >= $3 AND agent_id <> $5
  AND CASE kind
      WHEN 11 THEN agent_id <> $6 AND payload IS NOT NULL
      WHEN 13 THEN detail ->> 'announced'
      ELSE payload IS NOT NULL
      END
ORDER BY position LIMIT $4";

impl SqliteReader {
    /// Events that match the filter, oldest first, after a place; at most `limit`.
    pub async fn history(
        &self,
        filter: &HistoryFilter,
        after: Position,
        limit: usize,
    ) -> Result<Vec<EventRecord>, JournalError> {
        let mut rows = select(filter, after.0.max(0), bounded(limit)).fetch(&self.pool);
        let mut events = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
            events.push(event(&row)?);
        }
        Ok(events)
    }

    pub(super) async fn feed(
        &self,
        after: Position,
        since: Timestamp,
        limit: usize,
    ) -> Result<(Vec<FeedEvent>, Position), JournalError> {
        // The head comes first: what is committed from now on is left for the next time.
        let head = self.head().await?.position;
        let rows = sqlx::query(FEED)
            .bind(after.0)
            .bind(head.0)
            .bind(since.as_micros())
            .bind(bounded(limit))
            .bind(Identity::BACKEND)
            .bind(Identity::ML)
            .fetch_all(&self.pool)
            .await
            .map_err(error::unavailable)?;
        let events = rows.iter().map(feed_event).collect::<Result<Vec<_>, _>>()?;
        let looked_at = match events.last() {
            _ if events.len() < limit => head.max(after),
            Some(last) => last.position,
            None => after,
        };
        Ok((events, looked_at))
    }
}

/// The narrowest way to the events that the filter wants.
fn select(filter: &HistoryFilter, after: i64, limit: i64) -> Query<'static, Sqlite, SqliteArguments> {
    let agent = filter.agent.as_ref().map(|agent| agent.as_str().to_owned());
    let kind = filter.kind.map(EventKind::code);
    match (filter.invocation, agent, kind) {
        (Some(invocation), agent, kind) => {
            let invocation = invocation.0.as_bytes().to_vec();
            sqlx::query(OF_INVOCATION).bind(after).bind(limit).bind(invocation).bind(agent).bind(kind)
        }
        (None, Some(agent), kind) => sqlx::query(OF_AGENT).bind(after).bind(limit).bind(agent).bind(kind),
        (None, None, Some(kind)) => sqlx::query(OF_KIND).bind(after).bind(limit).bind(kind),
        (None, None, None) => sqlx::query(ALL).bind(after).bind(limit),
    }
}

fn bounded(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn event(row: &SqliteRow) -> Result<EventRecord, JournalError> {
    let columns = Columns::of("journal", row);
    Ok(EventRecord {
        position: columns.position("position")?,
        at: columns.time("at")?,
        kind: kind(&columns)?,
        node: columns.get("node")?,
        invocation: columns.invocation_id("invocation_id")?,
        agent: columns.optional_identity("agent_id")?,
        caller: columns.optional_identity("caller")?,
        detail: columns.get("detail")?,
        payload: columns.bytes("payload")?,
        hash: columns.digest("hash")?,
    })
}

fn kind(columns: &Columns<'_>) -> Result<EventKind, JournalError> {
    let code = columns.get("kind")?;
    EventKind::from_code(code).ok_or_else(|| columns.damaged("kind", format!("is {code}")))
}

fn feed_event(row: &SqliteRow) -> Result<FeedEvent, JournalError> {
    /// What the feed needs of a registration's detail.
    #[derive(Deserialize)]
    struct Registration {
        session: SessionId,
    }

    let columns = Columns::of("journal", row);
    let payload = || columns.required("payload", columns.bytes("payload")?);
    let notice = match kind(&columns)? {
        EventKind::AgentRegistered => {
            let detail: Registration = serde_json::from_str(columns.get("detail")?)
                .map_err(|_| columns.damaged("detail", "names no session"))?;
            Notice::Registered { session: detail.session, payload: payload()? }
        }
        EventKind::AgentLogged => Notice::Logged { body: payload()? },
        EventKind::AgentDisconnected => Notice::Unregistered,
        other => return Err(columns.damaged("kind", format!("is {}, which is not for the feed", other.as_str()))),
    };
    Ok(FeedEvent { position: columns.position("position")?, agent: columns.identity("agent_id")?, notice })
}
