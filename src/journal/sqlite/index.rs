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
use crate::journal::sqlite::hints::{Hints, Marks};
use crate::journal::terms::{ERA, Term, era};
use crate::journal::{Event, EventKind};

/// So many events are not left out of the index.
const TAIL: usize = 2048;

/// A row of `eras`.
#[derive(Debug)]
pub(super) struct Era {
    pub(super) number: i64,
    pub(super) indexed: i64,
    pub(super) first_at: Timestamp,
    pub(super) last_at: Timestamp,
}

/// A row of `postings`.
#[derive(Debug)]
pub(super) struct Posting {
    pub(super) era: i64,
    pub(super) term: String,
    pub(super) offsets: Vec<u8>,
}

/// What a commit adds to the index.
#[derive(Debug, Default)]
pub(super) struct Addition {
    pub(super) eras: Vec<Era>,
    pub(super) postings: Vec<Posting>,
    pub(super) hints: Vec<Hints>,
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

    /// What goes with the commit of these events, if it is due.
    pub(super) fn addition(&self, events: &[Event]) -> Addition {
        let mut added = Addition::default();
        if !self.is_due(events) {
            return added;
        }
        let entries: Vec<_> = self.0.iter().cloned().chain(events.iter().map(Entry::from)).collect();
        let mut marks = Marks::default();
        for entries in entries.chunk_by(|one, next| era(one.place) == era(next.place)) {
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { continue };
            let (mut first_at, mut last_at) = (first.at, first.at);
            for entry in entries {
                first_at = first_at.min(entry.at);
                last_at = last_at.max(entry.at);
            }
            let number = era(first.place);
            added.eras.push(Era { number, indexed: last.place, first_at, last_at });
            add_postings(&mut added.postings, &mut marks, number, entries);
        }
        added.hints = marks.into_rows();
        added
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
fn add_postings(postings: &mut Vec<Posting>, marks: &mut Marks, era: i64, entries: &[Entry]) {
    let mut numbers = HashMap::with_capacity(entries.len());
    let mut terms = Vec::with_capacity(entries.len());
    let mut hits = Vec::with_capacity(entries.len() * 5);
    for entry in entries {
        for term in entry.terms() {
            let number = *numbers.entry(term).or_insert_with(|| {
                terms.push(term);
                terms.len()
            });
            hits.push((number, entry.place));
        }
    }
    hits.sort_unstable();
    postings.reserve(terms.len());
    for (term, hits) in terms.iter().zip(hits.chunk_by(|(one, _), (next, _)| one == next)) {
        let (letter, value) = term.parts();
        marks.add(era, &[letter, &*value]);
        let offsets = hits.iter().flat_map(|(_, place)| offset(*place).to_be_bytes()).collect();
        postings.push(Posting { era, term: format!("{letter}{value}"), offsets });
    }
}

/// A place within its era.
fn offset(place: i64) -> u16 {
    u16::try_from(place.rem_euclid(ERA)).expect("an era has fewer places than a u16 has values")
}
