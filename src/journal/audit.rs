//! The check of the chain, event after event: of a journal, of a part of one, or of an export.
//!
//! Pure: whoever reads the events, from wherever, feeds an [`Audit`] with them in order. It stops at the first thing that
//! is not as it was written, and tells that from what was taken away by the book:
//!
//! - A payload may be gone, salt and all, if a later `payload.erased` is about the same invocation; that of a log line, if one
//!   names the same agent and request ([`Erasable`]).
//! - The oldest events may be gone if a later `journal.pruned` names the last of them and its hash.
//!
//! Takes constant memory, apart from the invocations and requests whose payloads are gone and not yet explained.

mod erasable;

use std::collections::HashMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use erasable::Erasable;

use crate::id::Position;
use crate::journal::chain::{self, Link, from_hex};
use crate::journal::{EventKind, Head, Report, Verification};

/// An event, as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What of it is hashed.
    pub link: Link<'a>,
    /// The hash that stands beside it.
    pub hash: &'a [u8],
    /// What can be seen of its payload.
    pub content: Content<'a>,
}

/// What can be seen of a payload.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// What is stored, if anything is.
    Stored {
        /// The peer's bytes.
        payload: Option<&'a [u8]>,
        /// The salt that was hashed with them.
        salt: Option<&'a [u8]>,
    },
    /// There is one, and it is shown otherwise than it is stored, so that it cannot be checked.
    Hidden,
}

/// The first thing that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub position: Position,
    /// What is wrong there.
    pub what: String,
}

impl From<Damage> for Verification {
    fn from(damage: Damage) -> Self {
        Self::Broken { position: damage.position, what: damage.what }
    }
}

/// What the first event has to follow.
#[derive(Debug)]
enum Start {
    /// The last event that was pruned, which a later one must say.
    Pruned { head: Head, confirmed: bool },
    /// An event that is not looked at.
    After(Head),
    /// Whatever precedes it: its own hash is believed until a `journal.pruned` tells the one before.
    Anywhere { first: Option<First>, pruned: Option<Head> },
}

/// The first event of an export: what its hash is computed from, and the hash itself.
#[derive(Debug)]
struct First {
    canonical: Vec<u8>,
    hash: [u8; 32],
}

/// The facts of a `journal.pruned` that count here.
#[derive(Deserialize)]
struct Pruned {
    through: Position,
    hash: String,
}

/// A check under way.
#[derive(Debug)]
pub struct Audit {
    start: Start,
    /// The last event that was checked, or what the first has to follow; `None` while that may be anything.
    last: Option<Head>,
    from: Position,
    events: u64,
    erased: u64,
    unchecked: u64,
    /// What has a payload that is gone, each with the first such place, until an event says that it was erased.
    unexplained: HashMap<Erasable, Position>,
    is_excerpt: bool,
    noted: Vec<Head>,
}

impl Audit {
    /// Of all that a journal has; `pruned` is the last event that it says is gone, [`Head::EMPTY`] if none is.
    #[must_use]
    pub fn of_journal(pruned: Head) -> Self {
        Self::new(Start::Pruned { head: pruned, confirmed: pruned == Head::EMPTY }, Some(pruned))
    }

    /// Of the events after this one, which is believed.
    #[must_use]
    pub fn after(head: Head) -> Self {
        Self::new(Start::After(head), Some(head))
    }

    /// Of an export, which begins with any event. That the payloads which it lacks were erased must be said in it too.
    #[must_use]
    pub fn of_export() -> Self {
        Self::new(Start::Anywhere { first: None, pruned: None }, None)
    }

    /// Of an export that ends before the newest event: that its payloads were erased may be said after its end.
    #[must_use]
    pub fn of_excerpt() -> Self {
        Self { is_excerpt: true, ..Self::of_export() }
    }

    fn new(start: Start, last: Option<Head>) -> Self {
        let from = following(last.unwrap_or(Head::EMPTY).position);
        let (events, erased, unchecked) = (0, 0, 0);
        let unexplained = HashMap::new();
        Self { start, last, from, events, erased, unchecked, unexplained, is_excerpt: false, noted: Vec::new() }
    }

    /// Compares with heads that were noted earlier: each must be there, with its hash.
    #[must_use]
    pub fn noting(self, noted: Vec<Head>) -> Self {
        Self { noted, ..self }
    }

    /// The noted heads that were not come to.
    #[must_use]
    pub fn into_noted(self) -> Vec<Head> {
        self.noted
    }

    /// The last event that was checked, or what the next one has to follow; [`Head::EMPTY`] if that may be any.
    #[must_use]
    pub fn last(&self) -> Head {
        self.last.unwrap_or(Head::EMPTY)
    }

    /// Checks the next event.
    pub fn check(&mut self, entry: &Entry<'_>) -> Result<(), Damage> {
        let position = Position(entry.link.position);
        let damaged = |position, what: &str| Err(Damage { position, what: what.to_owned() });
        let expected = self.last.map_or(position.max(Position(1)), |last| following(last.position));
        if position > expected {
            return damaged(expected, "the event is missing");
        }
        if position < expected {
            return damaged(expected, &format!("event {position} is in its place"));
        }
        let Some(kind) = EventKind::from_code(entry.link.kind) else {
            return damaged(position, &format!("there is no kind {}", entry.link.kind));
        };
        let Some(hash) = self.hash(entry) else {
            return damaged(position, "the event is not what was hashed");
        };
        if let Err(what) = self.check_payload(kind, entry) {
            return damaged(position, what);
        }
        if self.noted.iter().any(|noted| noted.position == position && noted.hash != hash) {
            return damaged(position, "the event is not the one whose hash was noted");
        }
        self.noted.retain(|noted| noted.position != position);
        if self.events == 0 {
            self.from = position;
        }
        self.events += 1;
        self.last = Some(Head { position, hash });
        let Link { invocation, agent, detail, .. } = entry.link;
        match kind {
            EventKind::PayloadErased => self.explain(Erasable::named(invocation, agent, detail)),
            EventKind::JournalPruned => self.confirm(position, detail)?,
            _ => {}
        }
        Ok(())
    }

    /// The event's hash, if it is the one that stands beside it.
    fn hash(&mut self, entry: &Entry<'_>) -> Option<[u8; 32]> {
        let stored: [u8; 32] = entry.hash.try_into().ok()?;
        let first = Position(1);
        let previous = self.last.or_else(|| (entry.link.position == first.0).then_some(Head::EMPTY));
        match (previous, &mut self.start) {
            (Some(previous), _) => (entry.link.hash(&previous.hash) == stored).then_some(stored),
            (None, Start::Anywhere { first, .. }) => {
                let mut canonical = Vec::new();
                entry.link.canonical(|bytes| canonical.extend_from_slice(bytes));
                *first = Some(First { canonical, hash: stored });
                Some(stored)
            }
            (None, Start::Pruned { .. } | Start::After(_)) => None,
        }
    }

    fn check_payload(&mut self, kind: EventKind, entry: &Entry<'_>) -> Result<(), &'static str> {
        let Link { position, invocation, agent, detail, payload_hash, .. } = entry.link;
        match (payload_hash, entry.content) {
            (None, Content::Stored { payload: None, salt: None }) => Ok(()),
            (None, _) => Err("there is a payload, and there was none when the event was hashed"),
            (Some(_), Content::Hidden) => {
                self.unchecked += 1;
                Ok(())
            }
            (Some(digest), Content::Stored { payload: Some(payload), salt: Some(salt) }) => {
                let same = chain::payload_hash(salt, payload) == digest;
                if same { Ok(()) } else { Err("the payload is not what was hashed") }
            }
            (Some(_), Content::Stored { payload: None, salt: None }) => {
                let gone = Erasable::holding(kind, invocation, agent, detail)
                    .ok_or("the payload is gone, and it is of no invocation or request that could be erased")?;
                self.erased += 1;
                self.unexplained.entry(gone).or_insert(Position(position));
                Ok(())
            }
            (Some(_), Content::Stored { .. }) => Err("of the payload and its salt, one is gone and one is there"),
        }
    }

    /// An event tells how far the journal was pruned.
    fn confirm(&mut self, position: Position, detail: &str) -> Result<(), Damage> {
        let Ok(told) = serde_json::from_str::<Pruned>(detail) else { return Ok(()) };
        match &mut self.start {
            Start::Pruned { head, .. } if told.through > head.position => {
                let what =
                    format!("it says that events up to {} were pruned, and some of them are there", told.through);
                return Err(Damage { position, what });
            }
            Start::Pruned { head, confirmed } => {
                *confirmed |= told.through == head.position && from_hex(&told.hash) == Some(head.hash);
            }
            Start::Anywhere { first: Some(first), pruned } if following(told.through) == self.from => {
                let previous = from_hex(&told.hash);
                let follows = |previous: &[u8; 32]| {
                    Sha256::new_with_prefix(previous).chain_update(&first.canonical).finalize()[..] == first.hash
                };
                let Some(hash) = previous.filter(follows) else {
                    let what = "the event does not follow the one that was pruned before it".to_owned();
                    return Err(Damage { position: self.from, what });
                };
                *pruned = Some(Head { position: told.through, hash });
            }
            Start::Anywhere { .. } | Start::After(_) => {}
        }
        Ok(())
    }

    /// What has payloads that are gone, which no event has explained so far.
    pub fn unexplained(&self) -> impl Iterator<Item = &Erasable> {
        self.unexplained.keys()
    }

    /// A later event says that the payloads of these were erased.
    pub fn explain(&mut self, erased: impl IntoIterator<Item = Erasable>) {
        for erased in erased {
            self.unexplained.remove(&erased);
        }
    }

    /// There are no more events: what was found, or the first thing that is missing.
    #[must_use]
    pub fn finish(self) -> Verification {
        let last = self.last();
        let (pruned, confirmed) = match &self.start {
            Start::Pruned { head, confirmed } => (*head, *confirmed),
            Start::After(_) => (Head::EMPTY, true),
            Start::Anywhere { pruned, .. } => (pruned.unwrap_or(Head::EMPTY), true),
        };
        let unpruned = (!confirmed).then(|| Damage {
            position: pruned.position,
            what: format!("events up to {} are gone and no event says that they were pruned", pruned.position),
        });
        let unexplained = self.unexplained.values().filter(|_| !self.is_excerpt).min().map(|position| Damage {
            position: *position,
            what: format!("the payload is gone and no event up to {} says that it was erased", last.position),
        });
        let unmet = self.noted.iter().filter_map(|noted| self.unmet(*noted, pruned)).min_by_key(|unmet| unmet.position);
        let damage = [unpruned, unexplained, unmet].into_iter().flatten().min_by_key(|damage| damage.position);
        if let Some(damage) = damage {
            return damage.into();
        }
        let Self { from, events, erased, unchecked, .. } = self;
        Verification::Intact(Report { from, events, erased, unchecked, pruned, head: last })
    }

    /// What is wrong with a head that was noted and is of no event that was checked.
    fn unmet(&self, noted: Head, pruned: Head) -> Option<Damage> {
        let before = match &self.start {
            Start::Pruned { head, .. } | Start::After(head) => Some(*head),
            Start::Anywhere { pruned, first } => pruned.or_else(|| first.is_none().then_some(Head::EMPTY)),
        };
        let what = if before.is_some_and(|before| noted == before) {
            return None;
        } else if before.is_some_and(|before| noted.position == before.position) {
            "the event is not the one whose hash was noted".to_owned()
        } else if noted.position <= pruned.position {
            format!("the head that was noted cannot be compared: events up to {} were pruned", pruned.position)
        } else {
            "the journal does not have the head that was noted".to_owned()
        };
        Some(Damage { position: noted.position, what })
    }
}

/// The next place. What was read may name the last there can be.
fn following(position: Position) -> Position {
    Position(position.0.saturating_add(1))
}

#[cfg(test)]
mod tests;
