//! The check of a journal: that nothing in it is other than it was written. What is checked is the same on every back end;
//! each says how it is read ([`Source`]).

use async_trait::async_trait;

use crate::id::Position;
use crate::journal::audit::{Audit, Content, Damage, Entry, Erasable};
use crate::journal::chain::Link;
use crate::journal::row::{Cells, Columns};
use crate::journal::{EventKind, Head, HistoryFilter, HistoryPage, JournalError, Report, Verification, row};

/// Erasures read at a time.
const ERASURES: usize = 256;

/// The events at both ends of the chain.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) head: Head,
    pub(super) pruned: Head,
}

impl Bounds {
    /// Of a row with the head, and `pruned` and `pruned_hash`.
    pub(super) fn of(row: &dyn Cells) -> Result<Self, JournalError> {
        let columns = Columns::of("pruned", row);
        let pruned = Head { position: columns.position("pruned")?, hash: columns.digest("pruned_hash")? };
        Ok(Self { head: row::head(row)?, pruned })
    }
}

/// Why the events cannot be followed any further.
pub(super) enum Stop {
    /// This one is not there; it may have been pruned meanwhile.
    Missing(Position),
    Damage(Damage),
}

/// A journal that can be checked.
#[async_trait]
pub(super) trait Source: Sync {
    /// Between which events the chain is, as of one moment.
    async fn bounds(&self) -> Result<Bounds, JournalError>;

    /// The hash of the event at a place, if it is there; also of the last one that was pruned.
    async fn hash_at(&self, position: Position) -> Result<Option<[u8; 32]>, JournalError>;

    /// Checks events after the last one that was checked, up to a place: as many as make a page of bounded size, each by
    /// [`check`].
    async fn check_page(
        &self,
        audit: &mut Audit,
        last: Position,
        whole: bool,
    ) -> Result<Result<(), Stop>, JournalError>;

    /// Whether an invocation is erased after a place. (The id is that of an event, whatever it is.)
    async fn is_erased_after(&self, invocation: &[u8], place: Position) -> Result<bool, JournalError>;

    /// Events of some kinds after a place.
    async fn events(&self, filter: &HistoryFilter, after: Position, limit: usize) -> Result<HistoryPage, JournalError>;

    /// The first event that the head, or how far the journal is pruned, does not know of.
    async fn beyond(&self) -> Result<Option<Position>, JournalError>;

    /// The acceptance of the first invocation whose events are not there or not its own.
    async fn unfounded(&self) -> Result<Option<Position>, JournalError>;
}

/// Checks from one place (or the first event that is there) to another (or the newest now), and if that is all of it, the
/// rows too, and that it has these heads, which were noted earlier.
pub(super) async fn verify(
    source: &impl Source,
    from: Option<Position>,
    to: Option<Position>,
    mut noted: Vec<Head>,
) -> Result<Verification, JournalError> {
    let mut bounds = source.bounds().await?;
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
        let missing = match audit(source, first, pruned, whole).await? {
            Some(audit) => {
                let mut audit = audit.noting(noted);
                match follow(source, &mut audit, last, whole).await? {
                    Ok(()) => return conclude(source, audit, bounds, whole).await,
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
        bounds = source.bounds().await?;
        if bounds.pruned.position < missing {
            return Ok(Damage { position: missing, what: "the event is missing".to_owned() }.into());
        }
    }
}

/// The check that begins at `first`; none if the event before it is not there.
async fn audit(
    source: &impl Source,
    first: Position,
    pruned: Head,
    whole: bool,
) -> Result<Option<Audit>, JournalError> {
    if whole {
        return Ok(Some(Audit::of_journal(pruned)));
    }
    if first == pruned.position.next() {
        return Ok(Some(Audit::after(pruned)));
    }
    let position = Position(first.0 - 1);
    Ok(source.hash_at(position).await?.map(|hash| Audit::after(Head { position, hash })))
}

/// Checks the events up to `last`.
async fn follow(
    source: &impl Source,
    audit: &mut Audit,
    last: Position,
    whole: bool,
) -> Result<Result<(), Stop>, JournalError> {
    while audit.last().position < last {
        let before = audit.last().position;
        if let Err(stop) = source.check_page(audit, last, whole).await? {
            return Ok(Err(stop));
        }
        if audit.last().position == before {
            return Ok(Err(Stop::Missing(before.next())));
        }
    }
    Ok(Ok(()))
}

/// All events were as they should be; what else there is to check.
async fn conclude(
    source: &impl Source,
    mut audit: Audit,
    bounds: Bounds,
    whole: bool,
) -> Result<Verification, JournalError> {
    let Bounds { head, pruned } = bounds;
    let last = audit.last();
    if last.position == head.position && last.hash != head.hash {
        let what = "the newest event is not the one that journal_head names".to_owned();
        return Ok(Damage { position: head.position, what }.into());
    }
    explain_by_later(source, &mut audit).await?;
    match audit.finish() {
        Verification::Intact(report) => {
            let wrong = if whole { wrong_row(source).await? } else { None };
            Ok(wrong.map_or(Verification::Intact(Report { pruned, ..report }), Verification::from))
        }
        broken @ Verification::Broken { .. } => Ok(broken),
    }
}

/// Looks for the erasures that come after what was checked, as far as something is left to be explained.
async fn explain_by_later(source: &impl Source, audit: &mut Audit) -> Result<(), JournalError> {
    let last = audit.last().position;
    let unexplained: Vec<Erasable> = audit.unexplained().cloned().collect();
    for gone in unexplained {
        let Erasable::Invocation(invocation) = &gone else { continue };
        if source.is_erased_after(invocation, last).await? {
            audit.explain([gone]);
        }
    }
    // Log lines have no invocation to look for: all erasures are gone through, once for all of them.
    let filter = HistoryFilter { kinds: vec![EventKind::PayloadErased], ..HistoryFilter::default() };
    let mut after = last;
    while audit.unexplained().any(|gone| matches!(gone, Erasable::Logs { .. })) {
        let erasures = source.events(&filter, after, ERASURES).await?.events;
        let Some(newest) = erasures.last() else { break };
        after = newest.position;
        for erasure in &erasures {
            audit.explain(erasure.erased());
        }
    }
    Ok(())
}

/// The first row that does not agree with the events.
async fn wrong_row(source: &impl Source) -> Result<Option<Damage>, JournalError> {
    if let Some(position) = source.beyond().await? {
        let what = "the event is outside what journal_head and pruned name".to_owned();
        return Ok(Some(Damage { position, what }));
    }
    let unfounded = source.unfounded().await?;
    let what = "the row of the invocation accepted here points to an event that is not its own";
    Ok(unfounded.map(|position| Damage { position, what: what.to_owned() }))
}

/// Checks the event of a row, which should be the next. `whole`: the row also says whether it is `unkept`.
pub(super) fn check(audit: &mut Audit, row: &dyn Cells, whole: bool) -> Result<(), Stop> {
    let position = audit.last().position.next();
    let damage = |what| Stop::Damage(Damage { position, what });
    let columns = Columns::of("journal", row);
    if get("position", columns.integer("position")).map_err(damage)? != position.0 {
        return Err(Stop::Missing(position));
    }
    check_hash(audit, &columns).map_err(damage)?.map_err(Stop::Damage)?;
    if whole && get("unkept", columns.flag("unkept")).map_err(damage)? {
        return Err(damage("the invocation accepted here has no row".to_owned()));
    }
    Ok(())
}

fn check_hash(audit: &mut Audit, columns: &Columns<'_>) -> Result<Result<(), Damage>, String> {
    let integer = |column| get(column, columns.integer(column));
    let text = |column| get(column, columns.text(column));
    let optional_text = |column| get(column, columns.optional_text(column));
    let bytes = |column| get(column, columns.cell(column));
    let invocation = get("invocation_id", columns.uuid("invocation_id"))?;
    let (payload_hash, hash) = (bytes("payload_hash")?, bytes("hash")?);
    let (payload, salt) = (bytes("payload")?, bytes("salt")?);
    let entry = Entry {
        link: Link {
            position: integer("position")?,
            at: integer("at")?,
            kind: integer("kind")?,
            node: text("node")?,
            invocation: invocation.as_ref().map(|id| &id.as_bytes()[..]),
            agent: optional_text("agent_id")?,
            caller: optional_text("caller")?,
            detail: text("detail")?,
            payload_hash: payload_hash.as_deref(),
        },
        hash: hash.as_deref().ok_or("hash is missing")?,
        content: Content::Stored { payload: payload.as_deref(), salt: salt.as_deref() },
    };
    Ok(audit.check(&entry))
}

fn get<T>(column: &str, value: Result<T, JournalError>) -> Result<T, String> {
    value.map_err(|_| format!("{column} is missing or of another type"))
}
