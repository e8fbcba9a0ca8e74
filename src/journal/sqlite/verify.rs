//! The check of the journal: that nothing in it is other than it was written.

use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use crate::id::Position;
use crate::journal::audit::{Audit, Content, Damage, Entry, Erasable};
use crate::journal::chain::Link;
use crate::journal::sqlite::row::Columns;
use crate::journal::sqlite::{SqliteReader, error, pages};
use crate::journal::{EventKind, Head, HistoryFilter, JournalError, Order, Report, Verification};

/// Rows of invocations checked at a time.
const ROWS: i64 = 1000;

/// Erasures read at a time.
const ERASURES: usize = 256;

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

/// The events at both ends of the chain.
#[derive(Clone, Copy)]
struct Bounds {
    head: Head,
    pruned: Head,
}

/// Why the events cannot be followed any further.
enum Stop {
    /// This one is not there; it may have been pruned meanwhile.
    Missing(Position),
    Damage(Damage),
}

impl SqliteReader {
    /// Recomputes the chain from one place (or the first event that is there) to another (or the newest now), and if that
    /// is all of it, checks the rows against it too. Takes constant memory and holds up nobody, a router that writes
    /// meanwhile least of all.
    pub async fn verify(&self, from: Option<Position>, to: Option<Position>) -> Result<Verification, JournalError> {
        self.verify_between(from, to, Vec::new()).await
    }

    /// Checks all of it, and that it has these heads, which were noted earlier.
    pub async fn verify_noted(&self, noted: Vec<Head>) -> Result<Verification, JournalError> {
        self.verify_between(None, None, noted).await
    }

    async fn verify_between(
        &self,
        from: Option<Position>,
        to: Option<Position>,
        mut noted: Vec<Head>,
    ) -> Result<Verification, JournalError> {
        let mut bounds = self.bounds().await?;
        loop {
            let Bounds { head, pruned } = bounds;
            let first = from.unwrap_or(Position(1)).max(pruned.position.next());
            let last = to.map_or(head.position, |to| to.min(head.position));
            let whole = first == pruned.position.next() && last == head.position;
            if first > last && !whole {
                let (from, events, erased, unchecked) = (first, 0, 0, 0);
                let nothing = Report { from, events, erased, unchecked, pruned, head: Head::EMPTY };
                return Ok(Verification::Intact(nothing));
            }
            let missing = match self.audit(first, pruned, whole).await? {
                Some(audit) => {
                    let mut audit = audit.noting(noted);
                    match self.follow(&mut audit, last, whole).await? {
                        Ok(()) => return self.conclude(audit, bounds, whole).await,
                        Err(Stop::Damage(damage)) => return Ok(damage.into()),
                        Err(Stop::Missing(position)) => {
                            noted = audit.into_noted();
                            position
                        }
                    }
                }
                None => Position(first.0 - 1),
            };
            // Whoever prunes may have been faster. Then it begins anew, with what is left.
            bounds = self.bounds().await?;
            if bounds.pruned.position < missing {
                return Ok(Damage { position: missing, what: "the event is missing".to_owned() }.into());
            }
        }
    }

    /// The last event that was pruned; [`Head::EMPTY`] if none was.
    pub async fn pruned(&self) -> Result<Head, JournalError> {
        Ok(self.bounds().await?.pruned)
    }

    async fn bounds(&self) -> Result<Bounds, JournalError> {
        let row = sqlx::query(BOUNDS).fetch_one(&self.pool).await.map_err(error::unavailable)?;
        let (head, pruned) = (Columns::of("journal_head", &row), Columns::of("pruned", &row));
        Ok(Bounds {
            head: Head { position: head.position("position")?, hash: head.digest("hash")? },
            pruned: Head { position: pruned.position("pruned")?, hash: pruned.digest("pruned_hash")? },
        })
    }

    /// The check that begins at `first`; none if the event before it is not there.
    async fn audit(&self, first: Position, pruned: Head, whole: bool) -> Result<Option<Audit>, JournalError> {
        if whole {
            return Ok(Some(Audit::of_journal(pruned)));
        }
        if first == pruned.position.next() {
            return Ok(Some(Audit::after(pruned)));
        }
        let position = Position(first.0 - 1);
        Ok(self.hash_at(position).await?.map(|hash| Audit::after(Head { position, hash })))
    }

    /// Checks the events up to `last`.
    async fn follow(&self, audit: &mut Audit, last: Position, whole: bool) -> Result<Result<(), Stop>, JournalError> {
        while audit.last().position < last {
            let before = audit.last().position;
            let mut rows = pages::page(before, last).fetch(&self.pool);
            while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
                let position = audit.last().position.next();
                if let Err(stop) = follow_one(audit, &row, position, whole) {
                    return Ok(Err(stop));
                }
            }
            if audit.last().position == before {
                return Ok(Err(Stop::Missing(before.next())));
            }
        }
        Ok(Ok(()))
    }

    /// All events were as they should be; what else there is to check.
    async fn conclude(&self, mut audit: Audit, bounds: Bounds, whole: bool) -> Result<Verification, JournalError> {
        let Bounds { head, pruned } = bounds;
        let last = audit.last();
        if last.position == head.position && last.hash != head.hash {
            let what = "the newest event is not the one that journal_head names".to_owned();
            return Ok(Damage { position: head.position, what }.into());
        }
        self.explain_by_later(&mut audit).await?;
        match audit.finish() {
            Verification::Intact(report) => {
                let wrong = if whole { self.wrong_row().await? } else { None };
                Ok(wrong.map_or(Verification::Intact(Report { pruned, ..report }), Verification::from))
            }
            broken @ Verification::Broken { .. } => Ok(broken),
        }
    }

    /// Looks for the erasures that come after what was checked, as far as something is left to be explained.
    async fn explain_by_later(&self, audit: &mut Audit) -> Result<(), JournalError> {
        let last = audit.last().position;
        let unexplained: Vec<Erasable> = audit.unexplained().cloned().collect();
        for gone in unexplained {
            let Erasable::Invocation(invocation) = &gone else { continue };
            let erased = sqlx::query(ERASED_LATER).bind(&**invocation).bind(last.0);
            if erased.fetch_optional(&self.pool).await.map_err(error::unavailable)?.is_some() {
                audit.explain([gone]);
            }
        }
        // Log lines have no invocation to look for: all erasures are gone through, once for all of them.
        let filter = HistoryFilter { kinds: vec![EventKind::PayloadErased], ..HistoryFilter::default() };
        let mut after = last;
        while audit.unexplained().any(|gone| matches!(gone, Erasable::Logs { .. })) {
            let erasures = self.history(&filter, Order::Ascending, Some(after), ERASURES).await?.events;
            let Some(newest) = erasures.last() else { break };
            after = newest.position;
            for erasure in &erasures {
                audit.explain(erasure.erased());
            }
        }
        Ok(())
    }

    /// The first row that does not agree with the events.
    async fn wrong_row(&self) -> Result<Option<Damage>, JournalError> {
        let beyond: Option<i64> = sqlx::query_scalar(BEYOND).fetch_one(&self.pool).await.map_err(error::unavailable)?;
        if let Some(position) = beyond {
            let what = "the event is outside what journal_head and pruned name".to_owned();
            return Ok(Some(Damage { position: Position(position), what }));
        }
        let mut after = Vec::new();
        loop {
            let page = sqlx::query(FOUNDATIONS).bind(&after).bind(ROWS).fetch_all(&self.pool).await;
            let page = page.map_err(error::unavailable)?;
            for row in &page {
                let columns = Columns::of("invocations", row);
                if columns.get("unfounded")? {
                    let what =
                        "the row of the invocation accepted here points to an event that is not its own".to_owned();
                    return Ok(Some(Damage { position: columns.position("accepted")?, what }));
                }
            }
            let Some(last) = page.last() else { return Ok(None) };
            after = Columns::of("invocations", last).get("id")?;
        }
    }

    /// The hash of the event at a place, if it is there; also of the last one that was pruned.
    pub async fn hash_at(&self, position: Position) -> Result<Option<[u8; 32]>, JournalError> {
        let row = sqlx::query(HASH_AT).bind(position.0).fetch_optional(&self.pool).await.map_err(error::unavailable)?;
        row.map(|row| Columns::of("journal", &row).digest("hash")).transpose()
    }
}

/// Checks the event of a row, which should be at `position`.
fn follow_one(audit: &mut Audit, row: &SqliteRow, position: Position, whole: bool) -> Result<(), Stop> {
    let damage = |what| Stop::Damage(Damage { position, what });
    if get::<i64>(row, "position").map_err(damage)? != position.0 {
        return Err(Stop::Missing(position));
    }
    let entry = entry(row).map_err(damage)?;
    audit.check(&entry).map_err(Stop::Damage)?;
    if whole && get(row, "unkept").map_err(damage)? {
        return Err(damage("the invocation accepted here has no row".to_owned()));
    }
    Ok(())
}

fn entry(row: &SqliteRow) -> Result<Entry<'_>, String> {
    Ok(Entry {
        link: Link {
            position: get(row, "position")?,
            at: get(row, "at")?,
            kind: get(row, "kind")?,
            node: get(row, "node")?,
            invocation: get(row, "invocation_id")?,
            agent: get(row, "agent_id")?,
            caller: get(row, "caller")?,
            detail: get(row, "detail")?,
            payload_hash: get(row, "payload_hash")?,
        },
        hash: get(row, "hash")?,
        content: Content::Stored { payload: get(row, "payload")?, salt: get(row, "salt")? },
    })
}

fn get<'a, T: Decode<'a, Sqlite> + Type<Sqlite>>(row: &'a SqliteRow, column: &str) -> Result<T, String> {
    row.try_get(column).map_err(|_| format!("{column} is missing or of another type"))
}
