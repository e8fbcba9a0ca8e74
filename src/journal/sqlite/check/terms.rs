//! The index of events, against the events.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqlitePool};

use crate::id::Position;
use crate::journal::JournalError;
use crate::journal::audit::Damage;
use crate::journal::row::Columns;
use crate::journal::sqlite::hints::Hint;
use crate::journal::sqlite::{error, matches};
use crate::journal::terms::{ERA, era};

/// The first and the last era, how many there are, how far the journal is pruned, and its newest event.
pub(in crate::journal::sqlite) const SHAPE: &str = "
SELECT min(era) AS first, max(era) AS last, count(*) AS eras, (SELECT position FROM pruned) AS pruned,
    (SELECT position FROM journal_head) AS head
FROM eras";

/// The next era after `$1`.
pub(in crate::journal::sqlite) const NEXT_ERA: &str =
    "SELECT era, indexed, first_at, last_at FROM eras WHERE era > $1 ORDER BY era LIMIT 1";

/// The index of an era: `$1`.
pub(in crate::journal::sqlite) const POSTINGS: &str = "SELECT term, offsets FROM postings WHERE era = $1";

/// Which terms an era may have: `$1`.
pub(in crate::journal::sqlite) const HINTS: &str = "SELECT bucket, marks FROM hints WHERE era = $1";

/// Events as the index sees them: `$1` first, `$2` last.
pub(in crate::journal::sqlite) const EVENTS: &str = "
SELECT journal.position, at, kind, journal.agent_id, journal.caller,
    CASE WHEN invocation_id IS NOT NULL THEN request_id WHEN json_valid(detail) THEN detail ->> 'request_id' END AS request_id,
    CASE WHEN invocation_id IS NOT NULL THEN session_id WHEN json_valid(detail) THEN detail ->> 'session_id' END AS session_id
FROM journal LEFT JOIN invocations ON id = invocation_id
WHERE journal.position BETWEEN $1 AND $2 ORDER BY journal.position";

/// What is in the index of no era that there is.
pub(in crate::journal::sqlite) const STRAY: &str = "
SELECT (SELECT count(*) FROM postings WHERE era NOT IN (SELECT era FROM eras))
    + (SELECT count(*) FROM hints WHERE era NOT IN (SELECT era FROM eras))";

/// Places of each term, in an era.
type Places = BTreeMap<String, BTreeSet<i64>>;

pub(super) async fn check(pool: &SqlitePool) -> Result<Option<Damage>, JournalError> {
    let stray: i64 = sqlx::query_scalar(STRAY).fetch_one(pool).await.map_err(error::unavailable)?;
    if stray > 0 {
        return Ok(Some(damage(0)));
    }
    let mut after = -1;
    loop {
        // An era at a time, each as of one moment: a router may be adding to them, or pruning.
        let mut snapshot = pool.begin().await.map_err(error::unavailable)?;
        let shape = sqlx::query(SHAPE).fetch_one(&mut *snapshot).await.map_err(error::unavailable)?;
        let shape = Shape::of(&shape)?;
        if !shape.is_whole() {
            return Ok(Some(damage(shape.pruned)));
        }
        let next = sqlx::query(NEXT_ERA).bind(after).fetch_optional(&mut *snapshot).await;
        let Some(found) = next.map_err(error::unavailable)? else { return Ok(None) };
        let found = Era::of(&found)?;
        if !shape.may_have(&found) || !found.agrees(&mut snapshot, shape.pruned).await? {
            return Ok(Some(damage(found.number * ERA)));
        }
        after = found.number;
    }
}

/// Which eras there are, and of what.
struct Shape {
    eras: i64,
    ends: Option<(i64, i64)>,
    pruned: i64,
    head: i64,
}

impl Shape {
    fn of(row: &SqliteRow) -> Result<Self, JournalError> {
        let columns = Columns::of("eras", row);
        Ok(Self {
            eras: columns.integer("eras")?,
            ends: columns.optional_integer("first")?.zip(columns.optional_integer("last")?),
            pruned: columns.integer("pruned")?,
            head: columns.integer("head")?,
        })
    }

    /// None is missing between the first that is not pruned and the last.
    fn is_whole(&self) -> bool {
        self.ends.is_none_or(|(first, last)| first == era(self.pruned + 1) && last - first + 1 == self.eras)
    }

    /// All but the last are in the index to their end.
    fn may_have(&self, found: &Era) -> bool {
        let is_last = self.ends.is_some_and(|(_, last)| last == found.number);
        found.indexed <= self.head && (is_last || found.indexed == found.number * ERA + ERA - 1)
    }
}

fn damage(position: i64) -> Damage {
    let what = "the index of the events from here on is not what they say".to_owned();
    Damage { position: Position(position), what }
}

/// A row of `eras`.
struct Era {
    number: i64,
    indexed: i64,
    first_at: i64,
    last_at: i64,
}

impl Era {
    fn of(row: &SqliteRow) -> Result<Self, JournalError> {
        let columns = Columns::of("eras", row);
        Ok(Self {
            number: columns.integer("era")?,
            indexed: columns.integer("indexed")?,
            first_at: columns.integer("first_at")?,
            last_at: columns.integer("last_at")?,
        })
    }

    async fn agrees(&self, snapshot: &mut SqliteConnection, pruned: i64) -> Result<bool, JournalError> {
        let first = (self.number * ERA).max(pruned + 1);
        let (expected, times) = expected(snapshot, first, self.indexed).await?;
        let found = self.postings(snapshot, first).await?;
        let Some(found) = found else { return Ok(false) };
        // The labels of a call that is pruned are still in the index of what came after it.
        let may_be_more = |term: &str| pruned > 0 && (term.starts_with('r') || term.starts_with('s'));
        let places = found.iter().all(|(term, places)| match expected.get(term) {
            Some(expected) => places == expected || may_be_more(term) && places.is_superset(expected),
            None => places.is_empty() || may_be_more(term),
        }) && expected.keys().all(|term| found.contains_key(term));
        let spans = times.is_none_or(|(from, to)| {
            (self.first_at, self.last_at) == (from, to) || pruned > 0 && self.first_at <= from && self.last_at >= to
        });
        Ok(places && spans && self.hints(snapshot, expected.keys()).await?)
    }

    /// The places from `first` on that are in the index; `None` if it cannot be read.
    async fn postings(&self, snapshot: &mut SqliteConnection, first: i64) -> Result<Option<Places>, JournalError> {
        let rows = sqlx::query(POSTINGS).bind(self.number).fetch_all(snapshot).await.map_err(error::unavailable)?;
        let mut found = Places::new();
        for row in &rows {
            let columns = Columns::of("postings", row);
            let offsets = columns.required("offsets", columns.cell("offsets")?)?;
            let (offsets, rest) = offsets.as_chunks();
            let places: Vec<_> =
                offsets.iter().map(|offset| self.number * ERA + i64::from(u16::from_be_bytes(*offset))).collect();
            if !rest.is_empty() || !places.is_sorted() {
                return Ok(None);
            }
            let places = places.into_iter().filter(|place| *place >= first).collect();
            found.insert(columns.text("term")?.to_owned(), places);
        }
        Ok(Some(found))
    }

    /// Whether a search for any of the terms would look here.
    async fn hints(
        &self,
        snapshot: &mut SqliteConnection,
        terms: impl Iterator<Item = &String>,
    ) -> Result<bool, JournalError> {
        let rows = sqlx::query(HINTS).bind(self.number).fetch_all(snapshot).await.map_err(error::unavailable)?;
        let mut known: BTreeMap<i64, Option<BTreeSet<[u8; 4]>>> = BTreeMap::new();
        for row in &rows {
            let columns = Columns::of("hints", row);
            let marks = columns.cell("marks")?;
            let marks = marks.map(|marks| marks.as_chunks().0.iter().copied().collect());
            known.insert(columns.integer("bucket")?, marks);
        }
        let is_hinted = |term: &String| {
            let Hint { bucket, mark } = Hint::of(&[term]);
            known.get(&bucket).is_some_and(|marks| marks.as_ref().is_none_or(|marks| marks.contains(&mark)))
        };
        Ok(terms.into_iter().all(is_hinted))
    }
}

/// The places of the terms of these events, and the span of their times.
async fn expected(
    snapshot: &mut SqliteConnection,
    first: i64,
    last: i64,
) -> Result<(Places, Option<(i64, i64)>), JournalError> {
    let rows = sqlx::query(EVENTS).bind(first).bind(last).fetch_all(snapshot).await.map_err(error::unavailable)?;
    let (mut places, mut times) = (Places::new(), None);
    for entry in rows.iter().filter_map(matches::entry) {
        let at = entry.at.as_micros();
        times = Some(times.map_or((at, at), |(from, to): (i64, i64)| (from.min(at), to.max(at))));
        for term in entry.terms() {
            places.entry(term.text()).or_default().insert(entry.place);
        }
    }
    Ok((places, times))
}
