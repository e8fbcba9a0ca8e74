//! The invocations, for readers: a page of those that match, in the order of their acceptance.
//!
//! A page is found first, by rows that are small, and loaded then: so it can end where its bodies and answers weigh enough.

use futures_util::TryStreamExt;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Sqlite, SqliteConnection};

use crate::id::{InvocationId, Position};
use crate::invocation::StateName;
use crate::journal::paging::{InOrder, Span, bounded, in_order};
use crate::journal::row::{self, Columns};
use crate::journal::sqlite::reader::json;
use crate::journal::sqlite::{SqliteReader, error, matches};
use crate::journal::terms::{self, Search};
use crate::journal::{EventKind, InvocationFilter, InvocationPage, InvocationRecord, JournalError, Order};

/// Invocations that are looked at for one page, at most: a filter that hardly any of them matches takes many short pages,
/// and not one that is long in coming.
const LOOK: i64 = 20_000;

/// Acceptances whose invocations are looked at together, where not all of them may match.
const LOT: usize = 256;

/// A page ends once its bodies and answers weigh this much.
const MAX_BYTES: i64 = 8 << 20;

/// What finds the rows of a page: in small, and only those that match. `$1` first acceptance, `$2` last, `$3` limit, `$4`
/// accepted from, `$5` to, `$6` a state, `$7` an agent, `$8` a caller, `$9` a `request_id`, `$10` a `session_id`; the last
/// five may be NULL.
macro_rules! matching {
    ($from:literal) => {
        concat!(
            "SELECT id, accepted, body_bytes + coalesce(length(answers.payload), 0) AS bytes FROM ",
            $from,
            " AND accepted_at BETWEEN $4 AND $5 AND ($6 IS NULL OR state = $6)
              AND ($7 IS NULL OR invocations.agent_id = $7) AND ($8 IS NULL OR invocations.caller = $8)
              AND ($9 IS NULL OR $9 <> '' AND request_id = $9) AND ($10 IS NULL OR $10 <> '' AND session_id = $10)"
        )
    };
}

/// As [`matching`] says: among those that are unfinished, or not settled.
pub(super) const UNSETTLED: InOrder = in_order!(
    matching!(
        "invocations LEFT JOIN journal AS answers ON answers.position = answer
         WHERE (state < 5 OR plain_unanswered = 1 OR reply <> 0) AND accepted BETWEEN $1 AND $2"
    ),
    by "accepted"; "LIMIT $3"
);

/// As [`matching`] says: among those that went wrong in one way.
pub(super) const FAILED: InOrder = in_order!(
    matching!(
        "invocations LEFT JOIN journal AS answers ON answers.position = answer
         WHERE state > 5 AND state = $6 AND accepted BETWEEN $1 AND $2"
    ),
    by "accepted"; "LIMIT $3"
);

/// As [`matching`] says, and `$11` a JSON array of the places of acceptances: among those.
pub(super) const AT: InOrder = in_order!(
    matching!(
        "journal CROSS JOIN invocations ON invocations.id = journal.invocation_id
         LEFT JOIN journal AS answers ON answers.position = answer
         WHERE journal.position IN (SELECT value FROM json_each($11))"
    ),
    by "journal.position"; "LIMIT $3"
);

/// As [`matching`] says: among those accepted by events that are not in the index.
pub(super) const TAIL: InOrder = in_order!(
    matching!(
        "journal CROSS JOIN invocations ON invocations.id = journal.invocation_id
         LEFT JOIN journal AS answers ON answers.position = answer
         WHERE journal.position BETWEEN $1 AND $2 AND journal.kind = 20"
    ),
    by "journal.position"; "LIMIT $3"
);

/// The last of so many rows that [`UNSETTLED`] looks at: `$1` first acceptance, `$2` last, `$3` how many come before it.
pub(super) const UNSETTLED_HORIZON: InOrder = in_order!(
    "SELECT accepted FROM invocations
     WHERE (state < 5 OR plain_unanswered = 1 OR reply <> 0) AND accepted BETWEEN $1 AND $2",
    by "accepted"; "LIMIT 1 OFFSET $3"
);

/// The same for [`FAILED`]: besides, `$4` the state.
pub(super) const FAILED_HORIZON: InOrder = in_order!(
    "SELECT accepted FROM invocations WHERE state > 5 AND state = $4 AND accepted BETWEEN $1 AND $2",
    by "accepted"; "LIMIT 1 OFFSET $3"
);

/// The first and the last place of eras with times from `$1` to `$2`; NULL if there are none.
pub(super) const ERAS_OF_TIME: &str =
    "SELECT min(era) * 4096, max(era) * 4096 + 4095 FROM eras WHERE last_at >= $1 AND first_at <= $2";

/// The same for the events after `$3`, which are not in the index.
pub(super) const TAIL_OF_TIME: &str =
    "SELECT min(position), max(position) FROM journal WHERE position > $3 AND at BETWEEN $1 AND $2";

/// `$1`: a JSON array of ids.
pub(super) const RECORDS: &str = "
SELECT invocations.*, body.payload AS body_payload, answer.payload AS answer_payload
FROM invocations
LEFT JOIN journal AS body ON body.position = invocations.accepted
LEFT JOIN journal AS answer ON answer.position = invocations.answer
WHERE invocations.id IN (SELECT unhex(value, '-') FROM json_each($1))";

/// A row that matches, before it is loaded.
struct Found {
    id: InvocationId,
    accepted: i64,
    bytes: i64,
}

/// A page before it is loaded: what matches, and beyond which acceptance to go on.
type Finding = (Vec<Found>, Option<i64>);

impl SqliteReader {
    /// Invocations that match the filter, in the order of acceptance or against it, beyond one or from an end; at most
    /// `limit`.
    pub async fn invocations(
        &self,
        filter: &InvocationFilter,
        order: Order,
        beyond: Option<Position>,
        limit: usize,
    ) -> Result<InvocationPage, JournalError> {
        // One transaction: all of the page is of one moment.
        let mut snapshot = self.pool.begin().await.map_err(error::unavailable)?;
        let times = Span::of_time(filter.from, filter.until);
        let mut places = Span::beyond(order, beyond);
        if !times.is_all_time() {
            places = places.within(places_of(&mut snapshot, times).await?);
        }
        let has_label = filter.request_id.is_some() || filter.session_id.is_some();
        let (mut found, mut next) = match filter.state {
            // There are not many of them, whatever else the filter says.
            Some(state) if !state.is_final() => {
                let sql = [UNSETTLED_HORIZON.sql(order), UNSETTLED.sql(order)];
                by_state(&mut snapshot, filter, sql, order, places, limit).await?
            }
            // A label leads to fewer, and anything else to more of them.
            Some(state) if state != StateName::Completed && !has_label => {
                let sql = [FAILED_HORIZON.sql(order), FAILED.sql(order)];
                by_state(&mut snapshot, filter, sql, order, places, limit).await?
            }
            _ => by_terms(&mut snapshot, filter, order, places, limit).await?,
        };
        let mut bytes = 0;
        let heavy = found.iter().position(|found| {
            bytes += found.bytes;
            bytes >= MAX_BYTES
        });
        if let Some(last) = heavy
            && last + 1 < found.len()
        {
            found.truncate(last + 1);
            next = found.last().map(|found| found.accepted);
        }
        let invocations = load(&mut snapshot, &found, order).await?;
        Ok(InvocationPage { invocations, next: next.map(Position) })
    }
}

/// The places between which everything with such times is.
async fn places_of(snapshot: &mut SqliteConnection, times: Span) -> Result<Span, JournalError> {
    let indexed = matches::indexed(snapshot).await?;
    let mut places = Span::EMPTY;
    for sql in [ERAS_OF_TIME, TAIL_OF_TIME] {
        let query = sqlx::query_as(sql).bind(times.first).bind(times.last).bind(indexed);
        let found: (Option<i64>, Option<i64>) = query.fetch_one(&mut *snapshot).await.map_err(error::unavailable)?;
        if let (Some(first), Some(last)) = found {
            places = if places.is_empty() { Span { first, last } } else { Span { last, ..places } };
        }
    }
    Ok(places)
}

/// What matches among those that an index of states leads to.
async fn by_state(
    snapshot: &mut SqliteConnection,
    filter: &InvocationFilter,
    [horizon, sql]: [&'static str; 2],
    order: Order,
    places: Span,
    limit: usize,
) -> Result<Finding, JournalError> {
    let state = filter.state.map(|state| state as i64);
    let horizon = sqlx::query_scalar(horizon).bind(places.first).bind(places.last).bind(LOOK - 1).bind(state);
    let horizon: Option<i64> = horizon.fetch_optional(&mut *snapshot).await.map_err(error::unavailable)?;
    let looked_at = match (order, horizon) {
        (_, None) => places,
        (Order::Ascending, Some(last)) => Span { last, ..places },
        (Order::Descending, Some(first)) => Span { first, ..places },
    };
    let found = find(matching(sql, filter, looked_at, limit), snapshot).await?;
    let next = if found.len() < limit { horizon } else { found.last().map(|found| found.accepted) };
    Ok((found, next))
}

/// What matches among those that the index of events leads to, and those that are not in it.
async fn by_terms(
    snapshot: &mut SqliteConnection,
    filter: &InvocationFilter,
    order: Order,
    places: Span,
    limit: usize,
) -> Result<Finding, JournalError> {
    let (indexed, tail) = places.split(matches::indexed(snapshot).await?);
    let (mut found, mut next) = (Vec::new(), None);
    if order == Order::Descending {
        found = find(matching(TAIL.sql(order), filter, tail, limit), snapshot).await?;
    }
    if found.len() < limit {
        let (mut more, horizon) = of_index(snapshot, filter, order, indexed, limit - found.len()).await?;
        found.append(&mut more);
        next = horizon;
    }
    if order == Order::Ascending && next.is_none() && found.len() < limit {
        let query = matching(TAIL.sql(order), filter, tail, limit - found.len());
        found.append(&mut find(query, snapshot).await?);
    }
    if found.len() >= limit {
        next = found.last().map(|found| found.accepted);
    }
    Ok((found, next))
}

/// What matches among those that the index leads to, and the last that was looked at, if there are more.
async fn of_index(
    snapshot: &mut SqliteConnection,
    filter: &InvocationFilter,
    order: Order,
    places: Span,
    limit: usize,
) -> Result<Finding, JournalError> {
    let times = Span::of_time(filter.from, filter.until);
    let mut search = Search::new(terms::of_invocations(filter), &[EventKind::InvocationAccepted], order, places, times);
    let mut found = Vec::new();
    let mut looked_at = 0;
    while let Some(acceptances) = matches::next(&mut search, snapshot).await? {
        for lot in acceptances.chunks(LOT.max(limit)) {
            let query = matching(AT.sql(order), filter, places, limit - found.len()).bind(json(lot)?);
            found.append(&mut find(query, snapshot).await?);
            looked_at += bounded(lot.len());
            if found.len() >= limit || looked_at >= LOOK {
                return Ok((found, lot.last().copied()));
            }
        }
    }
    Ok((found, None))
}

/// A query with what [`matching`] needs.
fn matching(
    sql: &'static str,
    filter: &InvocationFilter,
    places: Span,
    limit: usize,
) -> Query<'static, Sqlite, SqliteArguments> {
    let times = Span::of_time(filter.from, filter.until);
    sqlx::query(sql)
        .bind(places.first)
        .bind(places.last)
        .bind(bounded(limit))
        .bind(times.first)
        .bind(times.last)
        .bind(filter.state.map(|state| state as i64))
        .bind(filter.agent.as_ref().map(ToString::to_string))
        .bind(filter.caller.as_ref().map(ToString::to_string))
        .bind(filter.request_id.clone())
        .bind(filter.session_id.clone())
}

async fn find(
    query: Query<'static, Sqlite, SqliteArguments>,
    snapshot: &mut SqliteConnection,
) -> Result<Vec<Found>, JournalError> {
    let found = |row: &SqliteRow| {
        let columns = Columns::of("invocations", row);
        Ok(Found {
            id: columns.required("id", columns.invocation_id("id")?)?,
            accepted: columns.integer("accepted")?,
            bytes: columns.integer("bytes")?,
        })
    };
    query.fetch_all(snapshot).await.map_err(error::unavailable)?.iter().map(found).collect()
}

async fn load(
    snapshot: &mut SqliteConnection,
    found: &[Found],
    order: Order,
) -> Result<Vec<InvocationRecord>, JournalError> {
    let ids: Vec<_> = found.iter().map(|found| found.id).collect();
    let mut rows = sqlx::query(RECORDS).bind(json(&ids)?).fetch(snapshot);
    let mut records = Vec::with_capacity(ids.len());
    while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
        records.push(row::record(&row)?);
    }
    match order {
        Order::Ascending => records.sort_by_key(|record| record.accepted),
        Order::Descending => records.sort_by_key(|record| std::cmp::Reverse(record.accepted)),
    }
    Ok(records)
}
