//! Events one page after another, for whoever goes through all of them: as many as a page may have, and as heavy.

use futures_util::TryStreamExt;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use crate::id::Position;
use crate::journal::postgres::snapshot::Snapshot;
use crate::journal::postgres::{PostgresReader, error};
use crate::journal::{EventRecord, JournalError, row};

/// Events read at a time: a long statement keeps the server from clearing away what is dead.
const EVENTS: i64 = 1000;

/// Bytes of payloads read at a time; the last payload may go beyond.
const BYTES: i64 = 4 << 20;

/// `$1` after, `$2` up to, `$3` how many at most, `$4` not the next once payloads have so many bytes.
/// `unkept`: an invocation was accepted and has no row. (`octet_length` does not read the payload.)
pub(super) const PAGE: &str = "
SELECT position, at, kind, nodes.name AS node, invocation_id, agent_id, caller, detail, hash, payload_hash, salt, payload,
    (kind = 20 AND (SELECT id FROM invocations WHERE id = invocation_id) IS NULL)::INT::BIGINT AS unkept
FROM journal LEFT JOIN nodes ON nodes.code = node
WHERE position > $1 AND position <= (
    SELECT max(position) FROM (
        SELECT position, sum(octet_length(payload)) OVER (
            ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS before
        FROM journal WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3
    ) AS page WHERE coalesce(before, 0) < $4
)
ORDER BY position";

/// The next page after a place.
pub(super) fn page(by: &Snapshot, after: Position, up_to: Position) -> Query<'static, Postgres, PgArguments> {
    by.query(PAGE).bind(after.0).bind(up_to.0).bind(EVENTS).bind(BYTES)
}

impl PostgresReader {
    /// Events after a place, in order, not beyond another: as many as make a page of bounded size. Empty: there are none.
    pub async fn page(&self, after: Position, up_to: Position) -> Result<Vec<EventRecord>, JournalError> {
        let mut one = self.statement().await?;
        let mut rows = page(&one, after, up_to).fetch(one.connection());
        let mut events = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
            events.push(row::event(&row)?);
        }
        Ok(events)
    }
}
