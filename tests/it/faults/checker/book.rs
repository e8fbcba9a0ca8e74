//! The journal as a book of lives: what became of each invocation. It must be sound by itself.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::notes::{End, Mark};
use super::super::record::{Fact, Record};
use super::{Rule, Violation};

/// An invocation, from its events.
#[derive(Debug, Default)]
pub(super) struct Life<'a> {
    pub(super) acceptances: Vec<Acceptance<'a>>,
    /// Positions and attempts.
    pub(super) deliveries: Vec<(i64, u64)>,
    started: BTreeSet<u64>,
    /// Positions and ends.
    pub(super) ends: Vec<(i64, End)>,
}

#[derive(Debug)]
pub(super) struct Acceptance<'a> {
    pub(super) position: i64,
    pub(super) agent: &'a str,
    pub(super) call: Option<Mark>,
    max_attempts: u64,
}

impl Life<'_> {
    pub(super) fn end(&self) -> Option<End> {
        self.ends.first().map(|(_, end)| *end)
    }
}

#[derive(Debug, Default)]
pub(super) struct Book<'a> {
    pub(super) lives: BTreeMap<Uuid, Life<'a>>,
    /// The invocations that were accepted of each call.
    pub(super) calls: BTreeMap<Uuid, Vec<Uuid>>,
}

impl<'a> Book<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        let mut book = Self::default();
        for event in &record.events {
            let Some(id) = event.invocation else { continue };
            let position = event.position;
            match &event.fact {
                Fact::Accepted { agent, call, max_attempts } => {
                    let acceptance = Acceptance { position, agent, call: *call, max_attempts: *max_attempts };
                    book.lives.entry(id).or_default().acceptances.push(acceptance);
                    if let Some(call) = call {
                        book.calls.entry(call.name).or_default().push(id);
                    }
                }
                Fact::Delivered { attempt } => book.lives.entry(id).or_default().deliveries.push((position, *attempt)),
                Fact::Started { attempt } => drop(book.lives.entry(id).or_default().started.insert(*attempt)),
                Fact::Ended(end) => book.lives.entry(id).or_default().ends.push((position, *end)),
                Fact::Logged(_) | Fact::Other => {}
            }
        }
        book
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = End> {
        self.lives.values().filter_map(Life::end)
    }

    /// The invocation that was accepted of a call, and its acceptance.
    pub(super) fn of_call(&self, call: Uuid) -> Option<(Uuid, &Life<'a>, &Acceptance<'a>)> {
        let id = self.calls.get(&call)?.first()?;
        let life = self.lives.get(id)?;
        Some((*id, life, life.acceptances.first()?))
    }

    pub(super) fn is_sound(&self, record: &Record, violations: &mut Vec<Violation>) {
        let mut violate = |rule, what| violations.push(Violation { rule, what });
        for (expected, event) in (record.before + 1..).zip(&record.events) {
            if event.position != expected {
                violate(Rule::Contiguous, format!("position {} is where {expected} should be", event.position));
                break;
            }
        }
        for (call, invocations) in &self.calls {
            if invocations.len() > 1 {
                violate(Rule::Once, format!("call {call} was accepted as {invocations:?}"));
            }
        }
        for (id, life) in &self.lives {
            let Some(acceptance) = life.acceptances.first() else {
                violate(Rule::Invented, format!("{id} was never accepted: {life:?}"));
                continue;
            };
            match life.ends.as_slice() {
                [(end, _)] => {
                    if life.deliveries.iter().any(|(delivered, _)| delivered > end) {
                        violate(Rule::OneEnd, format!("{id} is delivered after its end: {life:?}"));
                    }
                }
                ends => violate(Rule::OneEnd, format!("{id} has {} ends: {ends:?}", ends.len())),
            }
            let (started, most) = (life.started.len(), acceptance.max_attempts);
            if u64::try_from(started).is_ok_and(|started| started > most) {
                violate(Rule::Attempts, format!("{id} was started {started} times, and may be {most} times"));
            }
        }
        for what in self.out_of_order() {
            violate(Rule::Order, what);
        }
    }

    /// Each agent's first deliveries, in the order of the journal, that come before one that was accepted earlier.
    fn out_of_order(&self) -> Vec<String> {
        let mut firsts: Vec<_> = self
            .lives
            .iter()
            .filter_map(|(id, life)| Some((life.deliveries.first()?.0, id, life.acceptances.first()?)))
            .collect();
        firsts.sort_by_key(|(delivered, ..)| *delivered);
        let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
        let mut found = Vec::new();
        for (delivered, id, acceptance) in firsts {
            let newest = newest.entry(acceptance.agent).or_default();
            if acceptance.position < *newest {
                found.push(format!("{id} is delivered, at {delivered}, behind a newer one of its agent"));
            }
            *newest = acceptance.position.max(*newest);
        }
        found
    }
}
