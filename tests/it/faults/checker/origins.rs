//! What is in the book somebody sent, and so.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::notes::{Mark, Note, Notes};
use super::book::Book;
use super::{Rule, Violation};

/// What callers and agents sent, by the names of calls and of answers.
#[derive(Default)]
struct Sent {
    /// And the agent that was asked.
    asked: BTreeMap<Uuid, (Mark, Uuid)>,
    /// And the call.
    answers: BTreeMap<Uuid, (Mark, Uuid)>,
}

impl Sent {
    fn by(notes: &[Notes]) -> Self {
        let mut sent = Self::default();
        for note in notes.iter().flat_map(|notes| &notes.notes) {
            match note {
                Note::Asked { call, agent } => drop(sent.asked.insert(call.name, (*call, *agent))),
                Note::Answered { call, answer } => drop(sent.answers.insert(answer.name, (*answer, *call))),
                _ => {}
            }
        }
        sent
    }
}

/// Whatever is in the journal somebody sent, and so.
pub(super) fn explain_it(book: &Book<'_>, notes: &[Notes], violations: &mut Vec<Violation>) {
    let sent = Sent::by(notes);
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
            Some(&(_, to)) => {
                let other = book.of_call(to);
                violate(Rule::Invented, format!("{id} has the answer to call {to}: {life:?}, {other:?}"));
            }
        }
    }
}
