//! What is in the book somebody sent, and so.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::notes::{Mark, Note, Notes, Way};
use super::book::{Book, Life};
use super::{Rule, Violation};

/// What callers and agents sent, by the names of calls and of answers.
#[derive(Default)]
struct Sent {
    /// And the agent that was asked.
    asked: BTreeMap<Uuid, (Mark, Uuid)>,
    /// And the call.
    answers: BTreeMap<Uuid, (Mark, Uuid)>,
    /// The calls that agents of version 1 were sent.
    plain: BTreeSet<Uuid>,
}

impl Sent {
    fn by(notes: &[Notes]) -> Self {
        let mut sent = Self::default();
        for note in notes.iter().flat_map(|notes| &notes.notes) {
            match note {
                Note::Asked { call, agent } => drop(sent.asked.insert(call.name, (*call, *agent))),
                Note::Answered { call, answer } => drop(sent.answers.insert(answer.name, (*answer, *call))),
                Note::Delivered { call, told: None } => drop(sent.plain.insert(call.name)),
                _ => {}
            }
        }
        sent
    }

    /// Whether an answer of an agent of version 1 to one call may end another: it came behind the deadline of the first,
    /// and so the second could be delivered with the same `invoked_by`.
    fn is_late(&self, to: Uuid, life: &Life<'_>, book: &Book<'_>) -> bool {
        let Some((_, first, acceptance)) = book.of_call(to) else { return false };
        let same_agent = life.acceptances.first().is_some_and(|other| other.agent == acceptance.agent);
        let behind = first.ends.iter().any(|(timed_out, end)| {
            end.way == Way::TimedOut && life.ends.first().is_some_and(|(ended, _)| timed_out < ended)
        });
        same_agent && behind && self.plain.contains(&to)
    }
}

/// Whatever is in the journal somebody sent, and so. Returns how many late answers of agents of version 1 were taken for
/// answers to other calls, which their protocol does not let anybody notice.
pub(super) fn explain_it(book: &Book<'_>, notes: &[Notes], violations: &mut Vec<Violation>) -> usize {
    let sent = Sent::by(notes);
    let mut late = 0;
    let mut violate = |rule, what| violations.push(Violation { rule, what });
    for (id, life) in &book.lives {
        let Some(acceptance) = life.acceptances.first() else { continue };
        let Some(call) = acceptance.call else {
            violate(Rule::Invented, format!("{id} is no call of the load"));
            continue;
        };
        match sent.asked.get(&call.name) {
            None => violate(Rule::Invented, format!("nobody asked {id}, call {}", call.name)),
            Some(&(as_asked, agent)) if as_asked != call || acceptance.agent.parse() != Ok(agent) => {
                violate(Rule::Altered, format!("{id} was asked of {agent} as {as_asked:?}: {acceptance:?}"));
            }
            Some(_) => {}
        }
        let Some(answer) = life.end().and_then(|end| end.answer) else { continue };
        match sent.answers.get(&answer.name) {
            None => violate(Rule::Invented, format!("nobody answered {id} with {answer:?}")),
            Some(&(given, _)) if given != answer => {
                violate(Rule::Altered, format!("{id} was answered with {given:?}, and has {answer:?}"));
            }
            Some(&(_, to)) if to == call.name => {}
            Some(&(_, to)) if sent.is_late(to, life, book) => late += 1,
            Some(&(_, to)) => {
                let other = book.of_call(to);
                violate(Rule::Invented, format!("{id} has the answer to call {to}: {life:?}, {other:?}"));
            }
        }
    }
    late
}
