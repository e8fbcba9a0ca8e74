//! The rows of invocations, against their events.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use sqlx::{Row, SqliteConnection, SqlitePool};

use crate::id::InvocationId;
use crate::invocation::Invocation;
use crate::journal::JournalError;
use crate::journal::audit::Damage;
use crate::journal::fold::{Deed, Fold};
use crate::journal::row::{self, Columns};
use crate::journal::sqlite::error;

/// Rows at a time.
const ROWS: usize = 256;

/// `$1` after this id, `$2` limit.
pub(in crate::journal::sqlite) const ROWS_AFTER: &str = "SELECT * FROM invocations WHERE id > $1 ORDER BY id LIMIT $2";

/// The events of some invocations, each in order: `$1` after this id, `$2` up to. The body of one with a key besides.
pub(in crate::journal::sqlite) const EVENTS: &str = "
SELECT journal.invocation_id, position, at, kind, node, journal.agent_id, journal.caller, detail, length(payload) AS bytes,
    CASE WHEN kind = 20 AND idempotency_key IS NOT NULL THEN payload END AS body
FROM journal INDEXED BY journal_by_invocation JOIN invocations ON invocations.id = journal.invocation_id
WHERE journal.invocation_id > $1 AND journal.invocation_id <= $2
ORDER BY journal.invocation_id, position";

pub(super) async fn check(pool: &SqlitePool) -> Result<Option<Damage>, JournalError> {
    let mut after = Vec::new();
    loop {
        // One transaction: a router may be changing them.
        let mut snapshot = pool.begin().await.map_err(error::unavailable)?;
        let rows = sqlx::query(ROWS_AFTER).bind(&after).bind(i64::try_from(ROWS).unwrap_or(i64::MAX));
        let rows = rows.fetch_all(&mut *snapshot).await.map_err(error::unavailable)?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            page.push(row::invocation(row)?);
        }
        let Some(last) = page.last() else { return Ok(None) };
        let last = last.id.0.as_bytes().to_vec();
        if let Some(damage) = disagreement(&mut snapshot, &page, &after, &last).await? {
            return Ok(Some(damage));
        }
        after = last;
    }
}

async fn disagreement(
    snapshot: &mut SqliteConnection,
    page: &[Invocation],
    after: &[u8],
    last: &[u8],
) -> Result<Option<Damage>, JournalError> {
    let rows: HashMap<InvocationId, &Invocation> = page.iter().map(|row| (row.id, row)).collect();
    let mut folds: HashMap<InvocationId, Option<Fold>> = HashMap::with_capacity(page.len());
    let mut events = sqlx::query(EVENTS).bind(after.to_vec()).bind(last.to_vec()).fetch(snapshot);
    while let Some(event) = events.try_next().await.map_err(error::unavailable)? {
        let columns = Columns::of("journal", &event);
        let id = columns.required("invocation_id", columns.invocation_id("invocation_id")?)?;
        let Some(row) = rows.get(&id) else { continue };
        let body: Option<&[u8]> = event.try_get("body").map_err(error::unavailable)?;
        let Some(deed) = Deed::of(&event, body) else { continue };
        match folds.entry(id) {
            std::collections::hash_map::Entry::Vacant(vacant) => drop(vacant.insert(Fold::begin(&deed, row))),
            std::collections::hash_map::Entry::Occupied(mut fold) => {
                let goes_on = fold.get_mut().as_mut().and_then(|fold| fold.take(&deed));
                if goes_on.is_none() {
                    fold.insert(None);
                }
            }
        }
    }
    Ok(page.iter().find_map(|row| {
        let what = match folds.get(&row.id).and_then(Option::as_ref) {
            Some(fold) => format!("{} of its row is not what the events say", fold.disagreement(row)?),
            None => "the events do not say what became of it".to_owned(),
        };
        Some(Damage { position: row.accepted, what: format!("the invocation accepted here: {what}") })
    }))
}
