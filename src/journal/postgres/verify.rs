//! The check of the journal, as it is read here.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use uuid::Uuid;

use crate::id::Position;
use crate::journal::audit::Audit;
use crate::journal::postgres::{PostgresReader, error, pages};
use crate::journal::row::Columns;
use crate::journal::verify::{self, Bounds, Source, Stop};
use crate::journal::{Head, HistoryFilter, HistoryPage, JournalError, Order, Verification};

/// Rows of invocations checked at a time.
const ROWS: i64 = 1000;

/// Between which events the chain is, as of one moment.
pub(super) const BOUNDS: &str = "
SELECT journal_head.position, journal_head.hash, pruned.position AS pruned, pruned.hash AS pruned_hash
FROM journal_head, pruned";

/// `$1`: a place that has an event, or had the last one that was pruned.
pub(super) const HASH_AT: &str = "
SELECT hash FROM journal WHERE position = $1
UNION ALL SELECT hash FROM pruned WHERE position = $1 AND position > 0";

/// `$1`: an invocation, `$2` after.
pub(super) const ERASED_LATER: &str =
    "SELECT 1 FROM journal WHERE invocation_id = $1 AND position > $2 AND kind = 80 LIMIT 1";

/// The first event that the head, or how far the journal is pruned, does not know of.
pub(super) const BEYOND: &str = "
SELECT coalesce(
    (SELECT min(position) FROM journal WHERE position <= (SELECT position FROM pruned)),
    (SELECT min(position) FROM journal WHERE position > (SELECT position FROM journal_head))
) AS position";

/// Invocations, and whether their events are not there or not their own: `$1` after this id, `$2` limit.
pub(super) const FOUNDATIONS: &str = "
SELECT invocations.id, invocations.accepted,
    (body.kind IS DISTINCT FROM 20 OR body.invocation_id IS DISTINCT FROM invocations.id
    OR (invocations.answer IS NOT NULL
        AND (answer.kind IS NULL OR answer.kind NOT IN (26, 27) OR answer.invocation_id IS DISTINCT FROM invocations.id))
    )::INT::BIGINT AS unfounded
FROM invocations
LEFT JOIN LATERAL (
    SELECT kind, invocation_id FROM journal WHERE position = invocations.accepted OFFSET 0
) AS body ON true
LEFT JOIN LATERAL (
    SELECT kind, invocation_id FROM journal WHERE position = invocations.answer OFFSET 0
) AS answer ON true
WHERE invocations.id > $1 ORDER BY invocations.id LIMIT $2";

impl PostgresReader {
    /// Recomputes the chain from one place (or the first event that is there) to another (or the newest now), and if that
    /// is all of it, checks the rows against it too. Takes constant memory and holds up nobody, a router that writes
    /// meanwhile least of all.
    pub async fn verify(&self, from: Option<Position>, to: Option<Position>) -> Result<Verification, JournalError> {
        verify::verify(self, from, to, Vec::new()).await
    }

    /// Checks all of it, and that it has these heads, which were noted earlier.
    pub async fn verify_noted(&self, noted: Vec<Head>) -> Result<Verification, JournalError> {
        verify::verify(self, None, None, noted).await
    }

    /// The last event that was pruned; [`Head::EMPTY`] if none was.
    pub async fn pruned(&self) -> Result<Head, JournalError> {
        Ok(self.bounds().await?.pruned)
    }

    /// The hash of the event at a place, if it is there; also of the last one that was pruned.
    pub async fn hash_at(&self, position: Position) -> Result<Option<[u8; 32]>, JournalError> {
        let mut one = self.statement().await?;
        let query = one.query(HASH_AT).bind(position.0);
        let row = query.fetch_optional(one.connection()).await.map_err(error::unavailable)?;
        row.map(|row| Columns::of("journal", &row).digest("hash")).transpose()
    }
}

#[async_trait]
impl Source for PostgresReader {
    async fn bounds(&self) -> Result<Bounds, JournalError> {
        let mut one = self.statement().await?;
        let row = one.query(BOUNDS).fetch_one(one.connection()).await.map_err(error::unavailable)?;
        Bounds::of(&row)
    }

    async fn hash_at(&self, position: Position) -> Result<Option<[u8; 32]>, JournalError> {
        Self::hash_at(self, position).await
    }

    async fn check_page(
        &self,
        audit: &mut Audit,
        last: Position,
        whole: bool,
    ) -> Result<Result<(), Stop>, JournalError> {
        let mut one = self.statement().await?;
        let mut rows = pages::page(&one, audit.last().position, last).fetch(one.connection());
        while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
            if let Err(stop) = verify::check(audit, &row, whole) {
                return Ok(Err(stop));
            }
        }
        Ok(Ok(()))
    }

    async fn is_erased_after(&self, invocation: &[u8], place: Position) -> Result<bool, JournalError> {
        let Ok(invocation) = Uuid::from_slice(invocation) else { return Ok(false) };
        let mut one = self.statement().await?;
        let erased = one.query(ERASED_LATER).bind(invocation).bind(place.0);
        Ok(erased.fetch_optional(one.connection()).await.map_err(error::unavailable)?.is_some())
    }

    async fn events(&self, filter: &HistoryFilter, after: Position, limit: usize) -> Result<HistoryPage, JournalError> {
        self.history(filter, Order::Ascending, Some(after), limit).await
    }

    async fn beyond(&self) -> Result<Option<Position>, JournalError> {
        let mut one = self.statement().await?;
        let row = one.query(BEYOND).fetch_one(one.connection()).await.map_err(error::unavailable)?;
        Columns::of("journal", &row).optional_position("position")
    }

    async fn unfounded(&self) -> Result<Option<Position>, JournalError> {
        let mut after = Uuid::nil();
        loop {
            let mut one = self.statement().await?;
            let query = one.query(FOUNDATIONS).bind(after).bind(ROWS);
            let page = query.fetch_all(one.connection()).await.map_err(error::unavailable)?;
            for row in &page {
                let columns = Columns::of("invocations", row);
                if columns.flag("unfounded")? {
                    return Ok(Some(columns.position("accepted")?));
                }
            }
            let Some(last) = page.last() else { return Ok(None) };
            let columns = Columns::of("invocations", last);
            after = columns.required("id", columns.uuid("id")?)?;
        }
    }
}
