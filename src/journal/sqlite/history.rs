//! The events, for readers and for the backend's feed.

use bytes::Bytes;
use futures_util::TryStreamExt;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Executor, Sqlite, SqliteConnection};

use crate::clock::Timestamp;
use crate::id::{Identity, Position};
use crate::journal::paging::{InOrder, Span, bounded, in_order};
use crate::journal::sqlite::reader::json;
use crate::journal::sqlite::{SqliteReader, error, matches};
use crate::journal::terms::{self, Search};
use crate::journal::{EventRecord, FeedEvent, HistoryFilter, HistoryPage, JournalError, Order, row};

/// The columns of an event, from `journal` and `nodes`.
macro_rules! events {
    ($($rest:literal),+) => {
        concat!(
            "SELECT journal.position, at, journal.kind, nodes.name AS node, invocation_id, journal.agent_id, caller, ",
            "detail, hash, payload_hash, salt, payload FROM ", $($rest),+
        )
    };
}

/// What the row itself has to say, after whatever led to it. `$1` first, `$2` last, `$3` limit, `$4` from, `$5` to, `$6` an
/// agent, `$7` a caller, `$8` a JSON array of kinds; the last three may be NULL.
macro_rules! matching {
    ($($before:literal),+) => {
        events!(
            $($before),+,
            " AND at BETWEEN $4 AND $5 AND ($6 IS NULL OR journal.agent_id = $6) AND ($7 IS NULL OR caller = $7)",
            " AND ($8 IS NULL OR journal.kind IN (SELECT value FROM json_each($8)))"
        )
    };
}

/// `$1` first, `$2` last, `$3` limit.
pub(super) const ALL: InOrder = in_order!(
    events!("journal LEFT JOIN nodes ON nodes.code = node WHERE position BETWEEN $1 AND $2"),
    by "position"; "LIMIT $3"
);

/// As [`matching`] says, and `$9` nothing, `$10` a `request_id`, `$11` a `session_id`, or NULL: for events that are not in
/// the index.
pub(super) const TAIL: InOrder = in_order!(
    matching!(
        "journal LEFT JOIN nodes ON nodes.code = node
         WHERE position BETWEEN $1 AND $2
           AND ($10 IS NULL OR $10 <> '' AND $10 = CASE
               WHEN invocation_id IS NOT NULL THEN (SELECT request_id FROM invocations WHERE id = invocation_id)
               WHEN json_valid(detail) THEN detail ->> 'request_id' END)
           AND ($11 IS NULL OR $11 <> '' AND $11 = CASE
               WHEN invocation_id IS NOT NULL THEN (SELECT session_id FROM invocations WHERE id = invocation_id)
               WHEN json_valid(detail) THEN detail ->> 'session_id' END)"
    ),
    by "position"; "LIMIT $3"
);

/// As [`matching`] says. Eras of other times are passed over.
pub(super) const OF_TIME: InOrder = in_order!(
    matching!(
        "eras CROSS JOIN journal ON position BETWEEN max(era * 4096, $1) AND min(era * 4096 + 4095, $2)
         LEFT JOIN nodes ON nodes.code = node
         WHERE era BETWEEN $1 / 4096 AND $2 / 4096 AND last_at >= $4 AND first_at <= $5"
    ),
    by "era", "position"; "LIMIT $3"
);

/// As [`matching`] says, and `$9` the invocation, `$10` its `request_id` and `$11` its `session_id`, or NULL.
pub(super) const OF_INVOCATION: InOrder = in_order!(
    matching!(
        "journal LEFT JOIN nodes ON nodes.code = node
         WHERE invocation_id = $9 AND position BETWEEN $1 AND $2
           AND ($10 IS NULL OR $10 <> '' AND $10 = (SELECT request_id FROM invocations WHERE id = $9))
           AND ($11 IS NULL OR $11 <> '' AND $11 = (SELECT session_id FROM invocations WHERE id = $9))"
    ),
    by "position"; "LIMIT $3"
);

/// As [`matching`] says, and `$9` a JSON array of places.
pub(super) const AT: InOrder = in_order!(
    matching!(
        "journal LEFT JOIN nodes ON nodes.code = node
         WHERE position IN (SELECT value FROM json_each($9))"
    ),
    by "position"; "LIMIT $3"
);

/// What the details and payloads of a page may weigh, in bytes; the event that goes beyond is still on it.
const WEIGHT: usize = 2 << 20;

/// Places whose events are read at once, where more than are wanted may not match after all.
const LOT: usize = 256;

/// What there is to tell: `$1` after, `$2` up to, `$3` not older than, `$4` limit, `$5` the backend, `$6` the other master.
/// A registration of a master is announced to nobody; the backend is told nothing of itself.
pub(super) const FEED: &str = "
SELECT position, kind, agent_id, detail, payload FROM journal
WHERE (kind = 11 OR kind = 13 OR kind = 14) AND position > $1 AND position <= $2 AND at >= $3 AND agent_id <> $5
  AND CASE kind
      WHEN 11 THEN agent_id <> $6 AND payload IS NOT NULL
      WHEN 13 THEN detail ->> 'announced'
      ELSE payload IS NOT NULL
      END
ORDER BY position LIMIT $4";

impl SqliteReader {
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
        if let Some(invocation) = filter.invocation {
            let query = matching(OF_INVOCATION.sql(order), filter, places, limit)?
                .bind(invocation.0.as_bytes().to_vec())
                .bind(filter.request_id.clone())
                .bind(filter.session_id.clone());
            fetch(query, &self.pool, &mut found).await?;
            return Ok(found.into_page());
        }
        if *filter == HistoryFilter::default() {
            fetch(matching(ALL.sql(order), filter, places, limit)?, &self.pool, &mut found).await?;
            return Ok(found.into_page());
        }
        // One transaction: what is committed meanwhile must not be found in a later part and missed in an earlier one.
        let mut snapshot = self.pool.begin().await.map_err(error::unavailable)?;
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
        Ok(found.into_page())
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
    snapshot: &mut SqliteConnection,
    filter: &HistoryFilter,
    order: Order,
    places: Span,
    found: &mut Found,
) -> Result<(), JournalError> {
    let terms = terms::of_events(filter);
    if terms.is_empty() && filter.kinds.is_empty() {
        return fetch(matching(OF_TIME.sql(order), filter, places, found.wanted())?, snapshot, found).await;
    }
    let times = Span::of_time(filter.from, filter.until);
    let mut search = Search::new(terms, &filter.kinds, order, places, times);
    while !found.is_full()
        && let Some(indexed) = matches::next(&mut search, snapshot).await?
    {
        for lot in indexed.chunks(LOT.max(found.limit)) {
            let query = matching(AT.sql(order), filter, places, found.wanted())?.bind(json(lot)?);
            fetch(query, &mut *snapshot, found).await?;
            if found.is_full() {
                break;
            }
        }
    }
    Ok(())
}

/// Events among those that are not.
async fn of_tail(
    snapshot: &mut SqliteConnection,
    filter: &HistoryFilter,
    order: Order,
    places: Span,
    found: &mut Found,
) -> Result<(), JournalError> {
    if found.is_full() {
        return Ok(());
    }
    let query = matching(TAIL.sql(order), filter, places, found.wanted())?
        .bind(None::<String>)
        .bind(filter.request_id.clone())
        .bind(filter.session_id.clone());
    fetch(query, snapshot, found).await
}

/// A query with what [`matching`] needs.
fn matching(
    sql: &'static str,
    filter: &HistoryFilter,
    places: Span,
    limit: usize,
) -> Result<Query<'static, Sqlite, SqliteArguments>, JournalError> {
    let times = Span::of_time(filter.from, filter.until);
    let kinds: Vec<_> = filter.kinds.iter().map(|kind| kind.code()).collect();
    Ok(sqlx::query(sql)
        .bind(places.first)
        .bind(places.last)
        .bind(bounded(limit))
        .bind(times.first)
        .bind(times.last)
        .bind(filter.agent.as_ref().map(ToString::to_string))
        .bind(filter.caller.as_ref().map(ToString::to_string))
        .bind(if kinds.is_empty() { None } else { Some(json(&kinds)?) }))
}

/// Adds what the query finds, until that is enough.
async fn fetch(
    query: Query<'static, Sqlite, SqliteArguments>,
    reader: impl Executor<'_, Database = Sqlite>,
    found: &mut Found,
) -> Result<(), JournalError> {
    let mut rows = query.fetch(reader);
    while !found.is_full()
        && let Some(row) = rows.try_next().await.map_err(error::unavailable)?
    {
        found.push(row::event(&row)?);
    }
    Ok(())
}

/// A page that is being filled.
struct Found {
    events: Vec<EventRecord>,
    limit: usize,
    bytes: usize,
}

impl Found {
    fn up_to(limit: usize) -> Self {
        Self { events: Vec::new(), limit, bytes: 0 }
    }

    /// How many events there is room for, were they small.
    fn wanted(&self) -> usize {
        self.limit - self.events.len()
    }

    fn is_full(&self) -> bool {
        self.wanted() == 0 || self.bytes >= WEIGHT
    }

    fn push(&mut self, event: EventRecord) {
        self.bytes += event.detail.len() + event.payload.as_ref().map_or(0, Bytes::len);
        self.events.push(event);
    }

    fn into_page(self) -> HistoryPage {
        HistoryPage { more: self.is_full(), events: self.events }
    }
}
