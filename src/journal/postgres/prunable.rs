//! How far the journal can be pruned.

use crate::clock::Timestamp;
use crate::journal::paging::bounded;
use crate::journal::postgres::{PostgresReader, error};
use crate::journal::row::Columns;
use crate::journal::{Head, JournalError};

/// The oldest events, before the first invocation that is not settled: `$1` limit.
pub(super) const OLDEST: &str = "
SELECT journal.position, journal.hash, journal.at, invocations.finished_at
FROM journal LEFT JOIN LATERAL (
    SELECT finished_at FROM invocations WHERE journal.kind = 20 AND id = journal.invocation_id OFFSET 0
) AS invocations ON true
WHERE journal.position > (SELECT position FROM pruned) AND journal.position < coalesce(
    (SELECT min(accepted) FROM invocations WHERE state < 5 OR plain_unanswered = 1 OR reply <> 0),
    9223372036854775807
)
ORDER BY journal.position LIMIT $1";

impl PostgresReader {
    /// How far the journal can be pruned next: at most `limit` events, none of them younger than `before`, and none of
    /// them accepting an invocation that is unsettled or was finished since `before`.
    pub async fn prunable(&self, before: Timestamp, limit: usize) -> Result<Option<Head>, JournalError> {
        let mut one = self.statement().await?;
        let query = one.query(OLDEST).bind(bounded(limit));
        let rows = query.fetch_all(one.connection()).await.map_err(error::unavailable)?;
        let mut last = None;
        for row in &rows {
            let (event, invocation) = (Columns::of("journal", row), Columns::of("invocations", row));
            let finished_at = invocation.optional_time("finished_at")?;
            if event.time("at")? >= before || finished_at.is_some_and(|at| at >= before) {
                break;
            }
            last = Some(Head { position: event.position("position")?, hash: event.digest("hash")? });
        }
        Ok(last)
    }
}
