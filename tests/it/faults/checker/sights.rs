//! What clients saw is in the book, and so.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::notes::{End, Mark, Note, Notes, Told};
use super::super::record::Record;
use super::book::Book;
use super::{Rule, Violation};

/// An agent, as far as its notes have been read.
struct Agent<'a> {
    id: Uuid,
    book: &'a Book<'a>,
    /// How often each call was delivered to it.
    delivered: BTreeMap<Uuid, usize>,
    /// The newest acceptance of which it was sent a first delivery.
    newest: i64,
    answers: BTreeMap<Uuid, BTreeSet<Mark>>,
}

/// Whatever any client received is in the journal, as the client received it.
pub(super) fn are_in_it(record: &Record, book: &Book<'_>, notes: &[Notes], violations: &mut Vec<Violation>) {
    for notes in notes {
        let mut agent = notes.agent.map(|id| Agent::new(id, book));
        let mut heard = BTreeSet::new();
        for note in &notes.notes {
            let violation = match (note, &mut agent) {
                (Note::Accepted { invocation }, _) => was_accepted(book, *invocation),
                (Note::Missing { invocation }, _) => Some((Rule::Lost, format!("there is no {invocation} over HTTP"))),
                (Note::Ended { invocation, end }, _) => ended_so(record, book, *invocation, *end),
                (Note::Heard { line }, _) => is_next_line(record, *line, &mut heard),
                (Note::Delivered { call, told }, Some(agent)) => agent.was_sent(*call, *told),
                (Note::Counted { invocation }, Some(agent)) => agent.was_counted(*invocation),
                (Note::Answered { call, answer }, Some(agent)) => {
                    agent.answers.entry(*call).or_default().insert(*answer);
                    None
                }
                (Note::Asked { .. } | Note::Delivered { .. } | Note::Counted { .. } | Note::Answered { .. }, _) => None,
            };
            violations.extend(violation.map(|(rule, what)| Violation { rule, what }));
        }
    }
}

fn was_accepted(book: &Book<'_>, id: Uuid) -> Option<(Rule, String)> {
    let is_in_it = book.lives.get(&id).is_some_and(|life| !life.acceptances.is_empty());
    (!is_in_it).then(|| (Rule::Lost, format!("{id} was receipted and is not in the journal")))
}

fn ended_so(record: &Record, book: &Book<'_>, id: Uuid, seen: End) -> Option<(Rule, String)> {
    let journaled = book.lives.get(&id).and_then(super::book::Life::end).or_else(|| record.past.get(&id).copied());
    match journaled {
        None => Some((Rule::Lost, format!("{id} was seen to end as {seen:?}, and has no end in the journal"))),
        Some(end) if end != seen => Some((Rule::Changed, format!("{id} was seen to end as {seen:?}, and is {end:?}"))),
        Some(_) => None,
    }
}

fn is_next_line(record: &Record, line: Mark, heard: &mut BTreeSet<i64>) -> Option<(Rule, String)> {
    let Some(&position) = record.lines.get(&line) else {
        return Some((Rule::Lost, format!("the log line {} is not in the journal", line.name)));
    };
    // What was not acknowledged comes again.
    let is_late = heard.last().is_some_and(|newest| position < *newest) && !heard.contains(&position);
    heard.insert(position);
    is_late.then(|| (Rule::Order, format!("the log line {} came behind a newer one", line.name)))
}

impl<'a> Agent<'a> {
    fn new(id: Uuid, book: &'a Book<'a>) -> Self {
        Self { id, book, delivered: BTreeMap::new(), newest: 0, answers: BTreeMap::new() }
    }

    fn was_sent(&mut self, call: Mark, told: Option<Told>) -> Option<(Rule, String)> {
        let times = self.delivered.entry(call.name).or_default();
        *times += 1;
        let times = *times;
        let name = call.name;
        let Some((id, life, acceptance)) = self.book.of_call(name) else {
            return Some((Rule::Lost, format!("call {name} was delivered and is not in the journal")));
        };
        if acceptance.agent.parse() != Ok(self.id) || acceptance.call != Some(call) {
            return Some((Rule::Altered, format!("{id}, call {name}, was delivered to {} as {call:?}", self.id)));
        }
        let journaled = life.deliveries.len();
        let is_told_of = |told: Told| told.invocation == id && life.deliveries.iter().any(|(_, n)| *n == told.attempt);
        if times > journaled || !told.is_none_or(is_told_of) {
            return Some((Rule::Lost, format!("{id} was delivered {times} times, as {told:?}: {:?}", life.deliveries)));
        }
        if let Some(told) = told
            && (told.redelivered != (told.attempt > 1) || (times > 1 && !told.redelivered))
        {
            return Some((Rule::Flagged, format!("{id} was delivered {times} times, now as {told:?}")));
        }
        let is_first = told.map_or(journaled == 1, |told| !told.redelivered);
        if is_first {
            let position = acceptance.position;
            if position < self.newest {
                return Some((Rule::Order, format!("{id}, accepted at {position}, came to {} too late", self.id)));
            }
            self.newest = position;
        }
        None
    }

    fn was_counted(&self, id: Uuid) -> Option<(Rule, String)> {
        let life = self.book.lives.get(&id);
        let Some(End { answer: Some(answer), .. }) = life.and_then(super::book::Life::end) else {
            return Some((Rule::Lost, format!("the answer to {id} was counted and is not in the journal")));
        };
        let call = life.and_then(|life| life.acceptances.first()?.call);
        let is_ours = call.and_then(|call| self.answers.get(&call.name)).is_some_and(|ours| ours.contains(&answer));
        (!is_ours).then(|| (Rule::Changed, format!("{} was told that it has answered {id}, with {answer:?}", self.id)))
    }
}
