//! The index of events, as it is written: in which places of an era something occurs.
//!
//! An *era* is a run of [`ERA`] positions, and has a row in `eras` with the span of its times. A *term* is what an event can
//! be found by: a letter and a value. `postings` has, for each era and each term in it, the places in that era. So what is
//! written at one time lies close together, however many different values there are. `hints` says which eras may have a term.
//!
//! The newest events, the *tail*, are not in it yet: a commit that makes them [`TAIL`] or more adds all of them. By that an
//! invocation's few events become one posting, most often, and the commit of a single event touches no page of the index.
//! Readers look at each event of the tail.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::id::Identity;
use crate::invocation::Labels;
use crate::journal::sqlite::cells::Cell::{Bytes, Integer, Text};
use crate::journal::sqlite::cells::{Layout, Rows};
use crate::journal::sqlite::hints::Marks;
use crate::journal::terms::{ERA, Term, era};
use crate::journal::{Event, EventKind};

/// So many events are not left out of the index.
const TAIL: usize = 2048;

pub(super) const ERAS: Layout =
    Layout(&[("era", Integer), ("indexed", Integer), ("first_at", Integer), ("last_at", Integer)]);

pub(super) const POSTINGS: Layout = Layout(&[("era", Integer), ("term", Text), ("offsets", Bytes)]);

/// What a commit adds to the index, row by row.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) eras: Vec<u8>,
    pub(super) postings: Vec<u8>,
    pub(super) hints: Vec<u8>,
}

/// An event as the index sees it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) place: i64,
    pub(super) at: Timestamp,
    pub(super) kind: EventKind,
    pub(super) agent: Option<Identity>,
    pub(super) caller: Option<Identity>,
    pub(super) labels: Labels,
}

impl Entry {
    /// Its terms. A label that is empty is none.
    pub(super) fn terms(&self) -> impl Iterator<Item = Term<'_>> {
        [
            self.agent.as_ref().map(Identity::as_str).map(Term::Agent),
            self.caller.as_ref().map(Identity::as_str).map(Term::Caller),
            Some(Term::Kind(self.kind)),
            label(self.labels.request_id.as_ref()).map(Term::RequestId),
            label(self.labels.session_id.as_ref()).map(Term::SessionId),
        ]
        .into_iter()
        .flatten()
    }
}

fn label(label: Option<&Arc<str>>) -> Option<&str> {
    label.map(|label| &**label).filter(|label| !label.is_empty())
}

impl From<&Event> for Entry {
    fn from(event: &Event) -> Self {
        Self {
            place: event.position.0,
            at: event.at,
            kind: event.detail.kind(),
            agent: event.agent.clone(),
            caller: event.caller.clone(),
            labels: event.labels.clone(),
        }
    }
}

/// The events that are not in the index, in order, as the writer remembers them.
#[derive(Debug)]
pub(super) struct Tail(Vec<Entry>);

impl Tail {
    pub(super) const fn new(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    /// Whether the commit of these events adds the tail and them to the index.
    fn is_due(&self, events: &[Event]) -> bool {
        self.0.len() + events.len() >= TAIL
    }

    /// The rows that go with the commit of these events, if it is due.
    pub(super) fn pack(&self, events: &[Event], heap: &mut Vec<u8>) -> Packed {
        if !self.is_due(events) {
            return Packed::default();
        }
        let entries: Vec<_> = self.0.iter().cloned().chain(events.iter().map(Entry::from)).collect();
        let (mut eras, mut marks) = (Vec::new(), Marks::default());
        let mut postings = Rows::new(POSTINGS, entries.len(), heap);
        for entries in entries.chunk_by(|one, next| era(one.place) == era(next.place)) {
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { continue };
            let mut span = (first.at, first.at);
            for entry in entries {
                span = (span.0.min(entry.at), span.1.max(entry.at));
            }
            eras.push((era(first.place), last.place, span));
            pack_postings(&mut postings, &mut marks, era(first.place), entries);
        }
        let postings = postings.into_cells();
        let mut rows = Rows::new(ERAS, eras.len(), heap);
        for (era, indexed, (first_at, last_at)) in eras {
            rows.integer(era).integer(indexed).integer(first_at.as_micros()).integer(last_at.as_micros());
        }
        let eras = rows.into_cells();
        Packed { eras, postings, hints: marks.pack(heap) }
    }

    /// Follows the commit of these events.
    pub(super) fn committed(&mut self, events: &[Event]) {
        if self.is_due(events) {
            self.0.clear();
        } else {
            self.0.extend(events.iter().map(Entry::from));
        }
    }
}

/// The postings of entries that are all of one era: each term once, with its offsets in order.
fn pack_postings(rows: &mut Rows<'_>, marks: &mut Marks, era: i64, entries: &[Entry]) {
    let mut numbers = HashMap::with_capacity(entries.len());
    let mut terms = Vec::with_capacity(entries.len());
    let mut hits = Vec::with_capacity(entries.len() * 5);
    for entry in entries {
        for term in entry.terms() {
            let number = *numbers.entry(term).or_insert_with(|| {
                terms.push(term);
                terms.len() - 1
            });
            hits.push((number, entry.place));
        }
    }
    hits.sort_unstable();
    let mut offsets = Vec::new();
    for (term, hits) in terms.iter().zip(hits.chunk_by(|(one, _), (next, _)| one == next)) {
        offsets.clear();
        for (_, place) in hits {
            offsets.extend_from_slice(&offset(*place).to_be_bytes());
        }
        let (letter, value) = term.parts();
        rows.integer(era).joined(&[letter.as_bytes(), value.as_bytes()]).heaped(&offsets);
        marks.add(era, &[letter, &*value]);
    }
}

/// A place within its era.
fn offset(place: i64) -> u16 {
    u16::try_from(place.rem_euclid(ERA)).expect("an era has fewer places than a u16 has values")
}
