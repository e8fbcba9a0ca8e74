//! The index of events, as it is read: the places where all that a reader wants occurs together, and the events that are
//! not in it.

use std::sync::{Arc, LazyLock};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::invocation::Labels;
use crate::journal::sqlite::index::{ERA, Entry, Tail, Term, era};
use crate::journal::sqlite::paging::{InOrder, Span};
use crate::journal::sqlite::row::Columns;
use crate::journal::sqlite::{SqliteReader, error};
use crate::journal::{EventKind, JournalError, Order};

/// More terms than this no reader can ask for: an agent, a caller and two labels. Kinds are counted apart, for an event has
/// one of them and not all.
const MAX_TERMS: usize = 4;

/// Eras that are read at once, at most. Their offsets take up to 8 KiB a term and era.
const MAX_ERAS: i64 = 64;

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
/// terms. An era costs a probe for each term, up to the first that it has not; offsets are read where all of them occur.
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
        "SELECT eras.era{columns}{offsets} FROM eras{tables} \
         WHERE eras.era BETWEEN $1 AND $2 AND last_at >= $3 AND first_at <= $4{occur} \
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

fn entry(row: &SqliteRow) -> Option<Entry> {
    let columns = Columns::of("journal", row);
    let identity = |column| columns.optional_identity(column).ok().flatten();
    let label = |column| columns.get::<Option<&str>>(column).ok().flatten().map(Arc::from);
    Some(Entry {
        place: columns.get("position").ok()?,
        at: columns.time("at").ok()?,
        kind: EventKind::from_code(columns.get("kind").ok()?)?,
        agent: identity("agent_id"),
        caller: identity("caller"),
        labels: Labels { request_id: label("request_id"), session_id: label("session_id") },
    })
}

/// [`INDEXED`].
pub(super) async fn indexed(snapshot: &mut SqliteConnection) -> Result<i64, JournalError> {
    sqlx::query_scalar(INDEXED).fetch_one(snapshot).await.map_err(error::unavailable)
}

/// Goes through the places where all terms, and one of the kinds, occur.
pub(super) struct Search {
    terms: Vec<String>,
    /// The terms of the kinds: a JSON array.
    kinds: Option<String>,
    order: Order,
    places: Span,
    times: Span,
    /// How many eras the next step reads: few, as long as few might do.
    eras: i64,
}

impl Search {
    /// The rarer a term is likely to be, the earlier it should come; at most [`MAX_TERMS`] of them. Without kinds, of any
    /// kind. The times are those of eras: an event of theirs may still be outside them.
    pub(super) fn new<'a>(
        terms: impl IntoIterator<Item = Term<'a>>,
        kinds: &[EventKind],
        order: Order,
        places: Span,
        times: Span,
    ) -> Self {
        let kind = |kind: &EventKind| format!("\"{}\"", Term::Kind(*kind).text());
        let kinds = (!kinds.is_empty()).then(|| format!("[{}]", kinds.iter().map(kind).collect::<Vec<_>>().join(",")));
        Self { terms: terms.into_iter().map(Term::text).collect(), kinds, order, places, times, eras: 1 }
    }

    /// The matching places of the next few eras that have all terms, in order; there may be none. `None`: there are no
    /// more eras.
    pub(super) async fn next(&mut self, connection: &mut SqliteConnection) -> Result<Option<Vec<i64>>, JournalError> {
        if self.places.is_empty() {
            return Ok(None);
        }
        let sql = ERAS[self.terms.len()][usize::from(self.kinds.is_some())].sql(self.order);
        let mut query = sqlx::query(sql)
            .bind(era(self.places.first))
            .bind(era(self.places.last))
            .bind(self.times.first)
            .bind(self.times.last)
            .bind(self.eras)
            .bind(self.kinds.clone());
        for term in &self.terms {
            query = query.bind(term.clone());
        }
        let rows = query.fetch_all(connection).await.map_err(error::unavailable)?;
        let mut found = Vec::new();
        for row in &rows {
            let era = row.try_get(0).map_err(|_| damaged("era"))?;
            self.places_of(era, row, &mut found)?;
            self.places = match self.order {
                Order::Ascending => self.places.after(self.order, era * ERA + ERA - 1),
                Order::Descending => self.places.after(self.order, era * ERA),
            };
        }
        if rows.len() < usize::try_from(self.eras).unwrap_or(usize::MAX) {
            self.places = Span::EMPTY;
        }
        self.eras = (self.eras * 2).min(MAX_ERAS);
        Ok(Some(found))
    }

    /// Adds the places of one era, in order.
    fn places_of(&self, era: i64, row: &SqliteRow, found: &mut Vec<i64>) -> Result<(), JournalError> {
        let mut all = Offsets::ALL;
        for column in 1..row.len() {
            all.keep(&Offsets::parse(row.try_get(column).map_err(|_| damaged("offsets"))?)?);
        }
        let before = found.len();
        found.extend(all.iter().map(|offset| era * ERA + offset).filter(|place| self.places.contains(*place)));
        if self.order == Order::Descending {
            found[before..].reverse();
        }
        Ok(())
    }
}

fn damaged(column: &'static str) -> JournalError {
    JournalError::Damaged { table: "postings", column, what: "is not what the index keeps there".to_owned() }
}

/// Places in an era: a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offsets([u64; WORDS]);

/// As many as [`ERA`] places take, at 64 each.
const WORDS: usize = 64;

impl Offsets {
    const ALL: Self = Self([u64::MAX; WORDS]);

    fn parse(bytes: &[u8]) -> Result<Self, JournalError> {
        let (offsets, rest) = bytes.as_chunks();
        let mut words = [0; WORDS];
        for offset in offsets {
            let offset = usize::from(u16::from_be_bytes(*offset));
            *words.get_mut(offset / 64).ok_or_else(|| damaged("offsets"))? |= 1 << (offset % 64);
        }
        if rest.is_empty() { Ok(Self(words)) } else { Err(damaged("offsets")) }
    }

    /// Keeps what the other has too.
    fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
    }

    fn iter(&self) -> impl Iterator<Item = i64> {
        let in_word = |(base, word): (i64, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| base + bit)
        };
        (0..).step_by(64).zip(&self.0).flat_map(in_word)
    }
}
