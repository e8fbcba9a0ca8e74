//! The check of the journal, as it is read here.

use async_trait::async_trait;
use futures_util::TryStreamExt;

use crate::id::Position;
use crate::journal::audit::{Audit, Damage};
use crate::journal::row::Columns;
use crate::journal::sqlite::{SqliteReader, check, error, milestone, pages};
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
)";

/// Invocations, and whether their events are not there or not their own: `$1` after this id, `$2` limit.
pub(super) const FOUNDATIONS: &str = "
SELECT invocations.id, invocations.accepted,
    body.kind IS NOT 20 OR body.invocation_id IS NOT invocations.id
    OR (invocations.answer IS NOT NULL
        AND (answer.kind IS NULL OR answer.kind NOT IN (26, 27) OR answer.invocation_id IS NOT invocations.id))
    AS unfounded
FROM invocations
LEFT JOIN journal AS body ON body.position = invocations.accepted
LEFT JOIN journal AS answer ON answer.position = invocations.answer
WHERE invocations.id > $1 ORDER BY invocations.id LIMIT $2";

impl SqliteReader {
    /// Recomputes the chain from one place (or the first event that is there) to another (or the newest now), and if that
    /// is all of it, checks the rows against it too. Takes constant memory and holds up nobody, a router that writes
    /// meanwhile least of all.
    pub async fn verify(&self, from: Option<Position>, to: Option<Position>) -> Result<Verification, JournalError> {
        verify::verify(self, from, to, Vec::new()).await
    }

    /// Checks all of it, and that it has these heads, which were noted earlier, and the one that is noted beside it; then
    /// everything else in the file, row by row. That takes longer, and the write-ahead log grows meanwhile with what a router
    /// writes.
    pub async fn verify_noted(&self, noted: Vec<Head>) -> Result<Verification, JournalError> {
        // Before the rest: what is committed meanwhile is noted meanwhile.
        let milestone = milestone::noted(self.pool.connect_options().get_filename());
        let verification = verify::verify(self, None, None, noted).await?;
        if let (Verification::Intact(_), Some(noted)) = (&verification, milestone)
            && let Some(what) = milestone::missed(self, noted).await?
        {
            return Ok(Damage { position: noted.position, what }.into());
        }
        if let Verification::Broken { .. } = verification {
            return Ok(verification);
        }
        check::structure(&self.pool).await?;
        Ok(check::rows(&self.pool).await?.map_or(verification, Verification::from))
    }

    /// The last event that was pruned; [`Head::EMPTY`] if none was.
    pub async fn pruned(&self) -> Result<Head, JournalError> {
        Ok(self.bounds().await?.pruned)
    }

    /// The hash of the event at a place, if it is there; also of the last one that was pruned.
    pub async fn hash_at(&self, position: Position) -> Result<Option<[u8; 32]>, JournalError> {
        let row = sqlx::query(HASH_AT).bind(position.0).fetch_optional(&self.pool).await.map_err(error::unavailable)?;
        row.map(|row| Columns::of("journal", &row).digest("hash")).transpose()
    }
}

#[async_trait]
impl Source for SqliteReader {
    async fn bounds(&self) -> Result<Bounds, JournalError> {
        let row = sqlx::query(BOUNDS).fetch_one(&self.pool).await.map_err(error::unavailable)?;
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
        let mut rows = pages::page(audit.last().position, last).fetch(&self.pool);
        while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
            if let Err(stop) = verify::check(audit, &row, whole) {
                return Ok(Err(stop));
            }
        }
        Ok(Ok(()))
    }

    async fn is_erased_after(&self, invocation: &[u8], place: Position) -> Result<bool, JournalError> {
        let erased = sqlx::query(ERASED_LATER).bind(invocation).bind(place.0);
        Ok(erased.fetch_optional(&self.pool).await.map_err(error::unavailable)?.is_some())
    }

    async fn events(&self, filter: &HistoryFilter, after: Position, limit: usize) -> Result<HistoryPage, JournalError> {
        self.history(filter, Order::Ascending, Some(after), limit).await
    }

    async fn beyond(&self) -> Result<Option<Position>, JournalError> {
        let beyond: Option<i64> = sqlx::query_scalar(BEYOND).fetch_one(&self.pool).await.map_err(error::unavailable)?;
        Ok(beyond.map(Position))
    }

    async fn unfounded(&self) -> Result<Option<Position>, JournalError> {
        let mut after = Vec::new();
        loop {
            let page = sqlx::query(FOUNDATIONS).bind(&after).bind(ROWS).fetch_all(&self.pool).await;
            let page = page.map_err(error::unavailable)?;
            for row in &page {
                let columns = Columns::of("invocations", row);
                if columns.flag("unfounded")? {
                    return Ok(Some(columns.position("accepted")?));
                }
            }
            let Some(last) = page.last() else { return Ok(None) };
            let columns = Columns::of("invocations", last);
            after = columns.required("id", columns.cell("id")?)?.into_owned();
        }
    }
}
