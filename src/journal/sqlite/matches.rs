//! The index of events, as it is read: the places where all that a reader wants occurs together, and the events that are
//! not in it.

use std::sync::LazyLock;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::invocation::Labels;
use crate::journal::paging::InOrder;
use crate::journal::row::Columns;
use crate::journal::sqlite::hints::Hint;
use crate::journal::sqlite::index::{Entry, Tail};
use crate::journal::sqlite::reader::json;
use crate::journal::sqlite::{SqliteReader, error};
use crate::journal::terms::{MAX_TERMS, Offsets, Search, damaged};
use crate::journal::{EventKind, JournalError};

/// The last place that is in the index; none of what comes after is.
pub(super) const INDEXED: &str = "SELECT coalesce((SELECT indexed FROM eras ORDER BY era DESC LIMIT 1), 0)";

/// The events after it, as the index sees them.
pub(super) const TAIL: &str = "
SELECT journal.position, at, kind, journal.agent_id, journal.caller,
    CASE WHEN invocation_id IS NOT NULL THEN request_id WHEN json_valid(detail) THEN detail ->> 'request_id' END AS request_id,
    CASE WHEN invocation_id IS NOT NULL THEN session_id WHEN json_valid(detail) THEN detail ->> 'session_id' END AS session_id
FROM journal LEFT JOIN invocations ON id = invocation_id
WHERE journal.position > coalesce((SELECT indexed FROM eras ORDER BY era DESC LIMIT 1), 0)
  AND journal.position <= (SELECT position FROM journal_head)
ORDER BY journal.position";

/// The queries for eras in which each of so many terms occurs, without and with kinds.
///
/// `$1` first era, `$2` last era, `$3` from, `$4` to, `$5` limit, `$6` a JSON array of the terms of kinds, then the other
/// terms, and the bucket and the mark of the first of those. An era that may have that costs a probe for each term, up to the
/// first that it has not; offsets are read where all of them occur.
pub(super) static ERAS: LazyLock<Vec<[InOrder; 2]>> = LazyLock::new(|| {
    let query = |terms, kinds, direction| &*eras(terms, kinds, direction).leak();
    let both = |terms, kinds| InOrder { ascending: query(terms, kinds, ""), descending: query(terms, kinds, " DESC") };
    (0..=MAX_TERMS).map(|terms| [both(terms, false), both(terms, true)]).collect()
});

fn eras(terms: usize, kinds: bool, direction: &str) -> String {
    const OF_KINDS: &str = "FROM postings WHERE era = eras.era AND term IN (SELECT value FROM json_each($6))";
    let column = |term| format!(", term_{term}.offsets");
    let table = |term| {
        let parameter = term + 7;
        format!(" CROSS JOIN postings AS term_{term} ON term_{term}.era = eras.era AND term_{term}.term = ${parameter}")
    };
    // Without a term, an era is as good as another.
    let (eras, hinted) = if terms == 0 {
        ("eras", String::new())
    } else {
        let (bucket, mark) = (terms + 7, terms + 8);
        let hinted = format!(" AND bucket = ${bucket} AND (marks IS NULL OR instr(marks, ${mark}) > 0)");
        ("hints AS eras CROSS JOIN eras AS times ON times.era = eras.era", hinted)
    };
    let columns: String = (0..terms).map(column).collect();
    let tables: String = (0..terms).map(table).collect();
    let (offsets, occur) = if kinds {
        // Texts of the same bytes, and none between them.
        let offsets = format!(", (SELECT CAST(group_concat(offsets, '') AS BLOB) {OF_KINDS})");
        (offsets, format!(" AND EXISTS (SELECT 1 {OF_KINDS})"))
    } else {
        Default::default()
    };
    format!(
        "SELECT eras.era{columns}{offsets} FROM {eras}{tables} \
         WHERE eras.era BETWEEN $1 AND $2 AND last_at >= $3 AND first_at <= $4{hinted}{occur} \
         ORDER BY eras.era{direction} LIMIT $5"
    )
}

impl SqliteReader {
    /// The events that are not in the index. What somebody damaged is left out: it is for a verification to tell of.
    pub(super) async fn tail(&self) -> Result<Tail, JournalError> {
        let rows = sqlx::query(TAIL).fetch_all(&self.pool).await.map_err(error::unavailable)?;
        Ok(Tail::new(rows.iter().filter_map(entry).collect()))
    }
}

pub(super) fn entry(row: &SqliteRow) -> Option<Entry> {
    let columns = Columns::of("journal", row);
    let identity = |column| columns.optional_identity(column).ok().flatten();
    let label = |column| columns.shared_text(column).ok().flatten();
    Some(Entry {
        place: columns.integer("position").ok()?,
        at: columns.time("at").ok()?,
        kind: EventKind::from_code(columns.integer("kind").ok()?)?,
        agent: identity("agent_id"),
        caller: identity("caller"),
        labels: Labels { request_id: label("request_id"), session_id: label("session_id") },
    })
}

/// [`INDEXED`].
pub(super) async fn indexed(snapshot: &mut SqliteConnection) -> Result<i64, JournalError> {
    sqlx::query_scalar(INDEXED).fetch_one(snapshot).await.map_err(error::unavailable)
}

/// The next places where all that a search is for occurs, in order; there may be none. `None`: there are no more eras.
pub(super) async fn next(
    search: &mut Search,
    connection: &mut SqliteConnection,
) -> Result<Option<Vec<i64>>, JournalError> {
    let Some(step) = search.step() else { return Ok(None) };
    let kinds = (!search.kinds.is_empty()).then(|| json(&search.kinds)).transpose()?;
    let sql = ERAS[search.terms.len()][usize::from(kinds.is_some())].sql(search.order());
    let mut query = sqlx::query(sql)
        .bind(step.eras.first)
        .bind(step.eras.last)
        .bind(step.times.first)
        .bind(step.times.last)
        .bind(step.limit)
        .bind(kinds);
    for term in &search.terms {
        query = query.bind(term.clone());
    }
    if let Some(first) = search.terms.first() {
        let Hint { bucket, mark } = Hint::of(&[first]);
        query = query.bind(bucket).bind(mark.to_vec());
    }
    let rows = query.fetch_all(connection).await.map_err(error::unavailable)?;
    let eras: Vec<_> = rows.iter().map(offsets).collect::<Result<_, _>>()?;
    Ok(Some(search.found(&eras)))
}

/// An era, and where in it all terms occur.
fn offsets(row: &SqliteRow) -> Result<(i64, Offsets), JournalError> {
    let mut all = Offsets::ALL;
    for column in 1..row.len() {
        all.keep(&Offsets::parse(row.try_get(column).map_err(|_| damaged("offsets"))?)?);
    }
    Ok((row.try_get(0).map_err(|_| damaged("era"))?, all))
}
