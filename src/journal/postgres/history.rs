//! The events, for readers and for the backend's feed.
//!
//! A page is found first, by the places and the weights of its events, and loaded then: so it can end where its payloads
//! weigh enough, and no payload is sent that is not on it.

use futures_util::TryStreamExt;
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

use crate::clock::Timestamp;
use crate::id::{Identity, Position};
use crate::journal::paging::{InOrder, Span, bounded, in_order};
use crate::journal::postgres::reader::findable;
use crate::journal::postgres::snapshot::Snapshot;
use crate::journal::postgres::{PostgresReader, error, matches};
use crate::journal::row::{self, Columns};
use crate::journal::terms::{self, Search};
use crate::journal::{EventRecord, FeedEvent, HistoryFilter, HistoryPage, JournalError, Order};

/// The place of an event, and what its detail and payload weigh. (`octet_length` does not read the payload.)
macro_rules! weighed {
    ($($rest:literal),+) => {
        concat!(
            "SELECT position, (octet_length(detail) + coalesce(octet_length(payload), 0))::BIGINT AS bytes FROM ", $($rest),+
        )
    };
}

/// What the row itself has to say, after whatever led to it. `$1` first, `$2` last, `$3` limit, `$4` from, `$5` to, `$6` an
/// agent, `$7` a caller, `$8` kinds; the last three may be NULL.
macro_rules! matching {
    ($($before:literal),+) => {
        weighed!(
            $($before),+,
            " AND at BETWEEN $4 AND $5 AND ($6::TEXT IS NULL OR journal.agent_id = $6)",
            " AND ($7::TEXT IS NULL OR caller = $7) AND ($8::BIGINT[] IS NULL OR journal.kind = ANY($8))"
        )
    };
}

/// `$1` first, `$2` last, `$3` limit.
pub(super) const ALL: InOrder =
    in_order!(weighed!("journal WHERE position BETWEEN $1 AND $2"), by "position"; "LIMIT $3");

/// As [`matching`] says, and `$9` a `request_id`, `$10` a `session_id`, or NULL: whatever is there, as for
/// events that are not in the index.
pub(super) const TAIL: InOrder = in_order!(
    matching!(
        "journal WHERE position BETWEEN $1 AND $2
           AND CASE WHEN $9::TEXT IS NULL THEN true WHEN $9 = '' THEN false ELSE $9 = CASE
               WHEN invocation_id IS NOT NULL THEN (SELECT request_id FROM invocations WHERE id = invocation_id)
               ELSE json_label(detail, 'request_id') END END
           AND CASE WHEN $10::TEXT IS NULL THEN true WHEN $10 = '' THEN false ELSE $10 = CASE
               WHEN invocation_id IS NOT NULL THEN (SELECT session_id FROM invocations WHERE id = invocation_id)
               ELSE json_label(detail, 'session_id') END END"
    ),
    by "position"; "LIMIT $3"
);

/// As [`matching`] says, and `$9` the invocation, `$10` its `request_id` and `$11` its `session_id`, or NULL.
pub(super) const OF_INVOCATION: InOrder = in_order!(
    matching!(
        "journal WHERE invocation_id = $9 AND position BETWEEN $1 AND $2
           AND ($10::TEXT IS NULL OR $10 <> '' AND $10 = (SELECT request_id FROM invocations WHERE id = $9))
           AND ($11::TEXT IS NULL OR $11 <> '' AND $11 = (SELECT session_id FROM invocations WHERE id = $9))"
    ),
    by "position"; "LIMIT $3"
);

/// As [`matching`] says, and `$9` places.
pub(super) const AT: InOrder = in_order!(
    matching!("journal WHERE position = ANY($9::BIGINT[]) AND position BETWEEN $1 AND $2"),
    by "position"; "LIMIT $3"
);

/// `$1`: places.
pub(super) const EVENTS: InOrder = in_order!(
    "SELECT position, at, kind, nodes.name AS node, invocation_id, agent_id, caller, detail, hash, payload_hash, salt, payload
     FROM journal LEFT JOIN nodes ON nodes.code = node WHERE position = ANY($1::BIGINT[])",
    by "position"; ""
);

/// What the details and payloads of a page may weigh, in bytes; the event that goes beyond is still on it.
const WEIGHT: i64 = 2 << 20;

/// Places whose events are read at once, where more than are wanted may not match after all.
const LOT: usize = 256;

/// What there is to tell: `$1` after, `$2` up to, `$3` not older than, `$4` limit, `$5` the backend, `$6` the other master.
/// A registration of a master is announced to nobody; the backend is told nothing of itself. (The detail is as it was hashed,
/// so what it says can be found in the text of it.)
pub(super) const FEED: &str = r#"
SELECT position, kind, agent_id, detail, payload FROM journal
WHERE kind IN (11, 13, 14) AND position > $1 AND position <= $2 AND at >= $3 AND agent_id <> $5
  AND CASE kind
      WHEN 11 THEN agent_id <> $6 AND payload IS NOT NULL
      WHEN 13 THEN strpos(detail, '"announced":true') > 0
      ELSE payload IS NOT NULL
      END
ORDER BY position LIMIT $4"#;

impl PostgresReader {
    /// Events that match the filter, in this order, beyond a place or from an end; at most `limit`, and about 2 MiB of them.
    pub async fn history(
        &self,
        filter: &HistoryFilter,
        order: Order,
        beyond: Option<Position>,
        limit: usize,
    ) -> Result<HistoryPage, JournalError> {
        let places = Span::beyond(order, beyond);
        let mut found = Found::up_to(limit);
        // What is committed meanwhile must not be found in a later part and missed in an earlier one.
        let mut snapshot = self.snapshot().await?;
        if let Some(invocation) = filter.invocation {
            let query = matching(&snapshot, OF_INVOCATION.sql(order), filter, places, limit)
                .bind(invocation.0)
                .bind(filter.request_id.as_deref().map(findable))
                .bind(filter.session_id.as_deref().map(findable));
            find(query, &mut snapshot, &mut found).await?;
        } else if *filter == HistoryFilter::default() {
            let query = snapshot.query(ALL.sql(order)).bind(places.first).bind(places.last).bind(bounded(limit));
            find(query, &mut snapshot, &mut found).await?;
        } else {
            let (indexed, tail) = places.split(matches::indexed(&mut snapshot).await?);
            match order {
                Order::Ascending => {
                    of_index(&mut snapshot, filter, order, indexed, &mut found).await?;
                    of_tail(&mut snapshot, filter, order, tail, &mut found).await?;
                }
                Order::Descending => {
                    of_tail(&mut snapshot, filter, order, tail, &mut found).await?;
                    of_index(&mut snapshot, filter, order, indexed, &mut found).await?;
                }
            }
        }
        let more = found.is_full();
        Ok(HistoryPage { events: load(&mut snapshot, found.places, order).await?, more })
    }

    pub(super) async fn feed(
        &self,
        after: Position,
        since: Timestamp,
        limit: usize,
    ) -> Result<(Vec<FeedEvent>, Position), JournalError> {
        let mut snapshot = self.snapshot().await?;
        let head = snapshot.query(super::reader::HEAD).fetch_one(snapshot.connection()).await;
        let head = row::head(&head.map_err(error::unavailable)?)?.position;
        let query = snapshot
            .query(FEED)
            .bind(after.0)
            .bind(head.0)
            .bind(since.as_micros())
            .bind(bounded(limit))
            .bind(Identity::BACKEND)
            .bind(Identity::ML);
        let rows = query.fetch_all(snapshot.connection()).await.map_err(error::unavailable)?;
        let events = rows.iter().map(|row| row::feed_event(row)).collect::<Result<Vec<_>, _>>()?;
        let looked_at = match events.last() {
            _ if events.len() < limit => head.max(after),
            Some(last) => last.position,
            None => after,
        };
        Ok((events, looked_at))
    }
}

/// Events among those that are in the index.
async fn of_index(
    snapshot: &mut Snapshot,
    filter: &HistoryFilter,
    order: Order,
    places: Span,
    found: &mut Found,
) -> Result<(), JournalError> {
    let terms = terms::of_events(filter);
    if terms.is_empty() && filter.kinds.is_empty() {
        return of_time(snapshot, filter, order, places, found).await;
    }
    let times = Span::of_time(filter.from, filter.until);
    let mut search = Search::new(terms, &filter.kinds, order, places, times);
    while !found.is_full()
        && let Some(indexed) = matches::next(&mut search, snapshot).await?
    {
        for lot in indexed.chunks(LOT.max(found.limit)) {
            let query = matching(snapshot, AT.sql(order), filter, places, found.wanted()).bind(lot.to_vec());
            find(query, snapshot, found).await?;
            if found.is_full() {
                break;
            }
        }
    }
    Ok(())
}

/// Events among those of eras with such times.
async fn of_time(
    snapshot: &mut Snapshot,
    filter: &HistoryFilter,
    order: Order,
    mut places: Span,
    found: &mut Found,
) -> Result<(), JournalError> {
    let times = Span::of_time(filter.from, filter.until);
    while !places.is_empty() {
        let (runs, left) = matches::runs_of_time(snapshot, order, places, times).await?;
        for run in runs {
            of_tail(snapshot, filter, order, run.within(places), found).await?;
        }
        places = if found.is_full() { Span::EMPTY } else { left };
    }
    Ok(())
}

/// Events among those that are not, or that may be anywhere between these places.
async fn of_tail(
    snapshot: &mut Snapshot,
    filter: &HistoryFilter,
    order: Order,
    places: Span,
    found: &mut Found,
) -> Result<(), JournalError> {
    if found.is_full() {
        return Ok(());
    }
    let query = matching(snapshot, TAIL.sql(order), filter, places, found.wanted())
        .bind(filter.request_id.as_deref().map(findable))
        .bind(filter.session_id.as_deref().map(findable));
    find(query, snapshot, found).await
}

/// A query with what [`matching`] needs.
fn matching(
    snapshot: &Snapshot,
    sql: &'static str,
    filter: &HistoryFilter,
    places: Span,
    limit: usize,
) -> Query<'static, Postgres, PgArguments> {
    let times = Span::of_time(filter.from, filter.until);
    let kinds: Vec<_> = filter.kinds.iter().map(|kind| kind.code()).collect();
    snapshot
        .query(sql)
        .bind(places.first)
        .bind(places.last)
        .bind(bounded(limit))
        .bind(times.first)
        .bind(times.last)
        .bind(filter.agent.as_ref().map(ToString::to_string))
        .bind(filter.caller.as_ref().map(ToString::to_string))
        .bind((!kinds.is_empty()).then_some(kinds))
}

/// Adds what the query finds, until that is enough.
async fn find(
    query: Query<'static, Postgres, PgArguments>,
    snapshot: &mut Snapshot,
    found: &mut Found,
) -> Result<(), JournalError> {
    let mut rows = query.fetch(snapshot.connection());
    while !found.is_full()
        && let Some(row) = rows.try_next().await.map_err(error::unavailable)?
    {
        found.push(&row)?;
    }
    Ok(())
}

async fn load(snapshot: &mut Snapshot, places: Vec<i64>, order: Order) -> Result<Vec<EventRecord>, JournalError> {
    let mut events = Vec::with_capacity(places.len());
    if places.is_empty() {
        return Ok(events);
    }
    let query = snapshot.query(EVENTS.sql(order)).bind(places);
    let mut rows = query.fetch(snapshot.connection());
    while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
        events.push(row::event(&row)?);
    }
    Ok(events)
}

/// A page that is being filled.
struct Found {
    places: Vec<i64>,
    limit: usize,
    bytes: i64,
}

impl Found {
    const fn up_to(limit: usize) -> Self {
        Self { places: Vec::new(), limit, bytes: 0 }
    }

    /// How many events there is room for, were they small.
    const fn wanted(&self) -> usize {
        self.limit - self.places.len()
    }

    const fn is_full(&self) -> bool {
        self.wanted() == 0 || self.bytes >= WEIGHT
    }

    fn push(&mut self, row: &PgRow) -> Result<(), JournalError> {
        let columns = Columns::of("journal", row);
        self.places.push(columns.integer("position")?);
        self.bytes += columns.integer("bytes")?;
        Ok(())
    }
}
