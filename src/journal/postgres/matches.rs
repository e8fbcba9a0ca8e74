//! The index of events, as it is read: the places where all that a reader wants occurs together, and how far it reaches.

use std::sync::LazyLock;

use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::journal::paging::{InOrder, Span, in_order};
use crate::journal::postgres::error;
use crate::journal::postgres::reader::findable;
use crate::journal::postgres::snapshot::Snapshot;
use crate::journal::terms::{ERA, MAX_TERMS, Offsets, Search, damaged, era};
use crate::journal::{JournalError, Order};

/// The last place that is in the index; none of what comes after is.
pub(super) const INDEXED: &str = "SELECT coalesce((SELECT indexed FROM eras ORDER BY era DESC LIMIT 1), 0)";

/// The queries for eras in which each of so many terms occurs, without and with kinds.
///
/// `$1` first era, `$2` last era, `$3` from, `$4` to, `$5` limit, `$6` the terms of kinds, then the other terms. An era costs a
/// probe for each term, up to the first that it has not. (`OFFSET 0` keeps the order of the probes: without it they may
/// become a walk through all terms of all eras.)
pub(super) static ERAS: LazyLock<Vec<[InOrder; 2]>> = LazyLock::new(|| {
    let query = |terms, kinds, direction| &*eras(terms, kinds, direction).leak();
    let both = |terms, kinds| InOrder { ascending: query(terms, kinds, ""), descending: query(terms, kinds, " DESC") };
    (0..=MAX_TERMS).map(|terms| [both(terms, false), both(terms, true)]).collect()
});

fn eras(terms: usize, kinds: bool, direction: &str) -> String {
    let column = |term| format!(", term_{term}.offsets");
    let table = |term| {
        let parameter = term + 7;
        format!(
            " CROSS JOIN LATERAL (\
                 SELECT offsets FROM postings WHERE era = eras.era AND term = ${parameter}::TEXT OFFSET 0\
             ) AS term_{term}"
        )
    };
    let columns: String = (0..terms).map(column).collect();
    let tables: String = (0..terms).map(table).collect();
    let (column, table, occur) = if kinds {
        let table = " CROSS JOIN LATERAL (\
                SELECT string_agg(offsets, ''::BYTEA) AS offsets FROM postings \
                WHERE era = eras.era AND term = ANY($6::TEXT[])\
            ) AS of_kinds";
        (", of_kinds.offsets", table, " AND of_kinds.offsets IS NOT NULL")
    } else {
        // All of them have the same parameters.
        ("", "", " AND $6::TEXT[] IS NULL")
    };
    format!(
        "SELECT eras.era{columns}{column} FROM eras{tables}{table} \
         WHERE eras.era BETWEEN $1 AND $2 AND last_at >= $3 AND first_at <= $4{occur} \
         ORDER BY eras.era{direction} LIMIT $5"
    )
}

/// Eras with some times: `$1` first era, `$2` last era, `$3` from, `$4` to, `$5` limit.
pub(super) const OF_TIME: InOrder = in_order!(
    "SELECT era FROM eras WHERE era BETWEEN $1 AND $2 AND last_at >= $3 AND first_at <= $4",
    by "era"; "LIMIT $5"
);

/// Eras that are looked for at once.
const ERAS_OF_TIME: i64 = 64;

/// The next runs of places, in order, that are eras with such times, and what is left beyond them.
pub(super) async fn runs_of_time(
    snapshot: &mut Snapshot,
    order: Order,
    places: Span,
    times: Span,
) -> Result<(Vec<Span>, Span), JournalError> {
    let query = snapshot
        .query(OF_TIME.sql(order))
        .bind(era(places.first))
        .bind(era(places.last))
        .bind(times.first)
        .bind(times.last)
        .bind(ERAS_OF_TIME);
    let rows = query.fetch_all(snapshot.connection()).await.map_err(error::unavailable)?;
    let eras: Vec<i64> = rows.iter().map(|row| row.try_get(0).map_err(|_| damaged("era"))).collect::<Result<_, _>>()?;
    let runs = eras.chunk_by(|one, next| (next - one).abs() == 1);
    let run = |run: &[i64]| {
        let (first, last) = (run.iter().min()?, run.iter().max()?);
        Some(Span { first: first * ERA, last: last * ERA + ERA - 1 })
    };
    let runs: Vec<_> = runs.filter_map(run).collect();
    let left = match (order, runs.last()) {
        (Order::Ascending, Some(run)) => places.after(order, run.last),
        (Order::Descending, Some(run)) => places.after(order, run.first),
        (_, None) => Span::EMPTY,
    };
    Ok((runs, left))
}

/// [`INDEXED`].
pub(super) async fn indexed(snapshot: &mut Snapshot) -> Result<i64, JournalError> {
    let row = snapshot.query(INDEXED).fetch_one(snapshot.connection()).await.map_err(error::unavailable)?;
    row.try_get(0).map_err(|_| damaged("indexed"))
}

/// The next places where all that a search is for occurs, in order; there may be none. `None`: there are no more eras.
pub(super) async fn next(search: &mut Search, snapshot: &mut Snapshot) -> Result<Option<Vec<i64>>, JournalError> {
    let Some(step) = search.step() else { return Ok(None) };
    let kinds = (!search.kinds.is_empty()).then(|| search.kinds.clone());
    let sql = ERAS[search.terms.len()][usize::from(kinds.is_some())].sql(search.order());
    let mut query = snapshot
        .query(sql)
        .bind(step.eras.first)
        .bind(step.eras.last)
        .bind(step.times.first)
        .bind(step.times.last)
        .bind(step.limit)
        .bind(kinds);
    for term in &search.terms {
        query = query.bind(findable(term));
    }
    let rows = query.fetch_all(snapshot.connection()).await.map_err(error::unavailable)?;
    let eras: Vec<_> = rows.iter().map(offsets).collect::<Result<_, _>>()?;
    Ok(Some(search.found(&eras)))
}

/// An era, and where in it all terms occur.
fn offsets(row: &PgRow) -> Result<(i64, Offsets), JournalError> {
    let mut all = Offsets::ALL;
    for column in 1..row.len() {
        all.keep(&Offsets::parse(row.try_get(column).map_err(|_| damaged("offsets"))?)?);
    }
    Ok((row.try_get(0).map_err(|_| damaged("era"))?, all))
}
