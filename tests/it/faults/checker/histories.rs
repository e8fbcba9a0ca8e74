//! The checker on histories made by hand: it has nothing to say about a clean one, and names the one thing that is wrong with
//! each of the others.

use uuid::Uuid;

use super::super::notes::{End, Mark, Note, Notes, Told, Way};
use super::super::record::{Event, Fact, Record};
use super::{Rule, Violation, check, verify};
use crate::support::{Peer, Router, agent_id};

/// Something with a mark; `n` tells it from others.
fn mark(n: u128) -> Mark {
    Mark { name: Uuid::from_u128(n), digest: 7 }
}

/// The ids of what there is in a history: two agents, of version 1 and 2, and invocations of each.
const PLAIN: Uuid = Uuid::from_u128(0xa1);
const SECOND: Uuid = Uuid::from_u128(0xa2);

fn invocation(n: u128) -> Uuid {
    Uuid::from_u128(0x1_0000 + n)
}

fn call(n: u128) -> Mark {
    mark(0x2_0000 + n)
}

fn answer(n: u128) -> Mark {
    mark(0x3_0000 + n)
}

fn completed(n: u128) -> End {
    End { way: Way::Completed, answer: Some(answer(n)) }
}

fn told(n: u128, attempt: u64) -> Told {
    Told { invocation: invocation(n), attempt, redelivered: attempt > 1 }
}

const EXPIRED: End = End { way: Way::Expired, answer: None };
const LOST: End = End { way: Way::Failed, answer: None };

/// A journal, and what a caller, the backend, and the two agents wrote down.
#[derive(Clone)]
struct History {
    facts: Vec<(Option<Uuid>, Fact)>,
    caller: Vec<Note>,
    backend: Vec<Note>,
    plain: Vec<Note>,
    second: Vec<Note>,
}

impl History {
    /// 1 and 2 are answered by the agent of version 1, 3 by the one of version 2. 4 is delivered to that twice, and then is
    /// lost with it; 5 has expired in the queue. The backend hears one of two log lines twice.
    fn clean() -> Self {
        let accepted = |n: u128, agent: Uuid| {
            let fact = Fact::Accepted { agent: agent.to_string(), call: Some(call(n)), max_attempts: 1 };
            (Some(invocation(n)), fact)
        };
        let delivered = |n, attempt| (Some(invocation(n)), Fact::Delivered { attempt });
        let started = |n, attempt| (Some(invocation(n)), Fact::Started { attempt });
        let ended = |n, end| (Some(invocation(n)), Fact::Ended(end));
        let logged = |n| (None, Fact::Logged(Some(mark(n))));
        let asked = |n, agent| Note::Asked { call: call(n), agent };
        let receipt = |n| Note::Accepted { invocation: invocation(n) };
        let end = |n, end| Note::Ended { invocation: invocation(n), end };
        let answered = |n| Note::Answered { call: call(n).name, answer: answer(n) };
        Self {
            facts: vec![
                (None, Fact::Other),
                accepted(1, PLAIN),
                delivered(1, 1),
                accepted(2, PLAIN),
                delivered(2, 1),
                accepted(3, SECOND),
                delivered(3, 1),
                accepted(4, SECOND),
                started(1, 1),
                logged(8),
                ended(1, completed(1)),
                delivered(4, 1),
                ended(3, completed(3)),
                ended(2, completed(2)),
                delivered(4, 2),
                started(4, 2),
                logged(9),
                accepted(5, SECOND),
                ended(4, LOST),
                ended(5, EXPIRED),
            ],
            caller: vec![
                asked(1, PLAIN),
                asked(2, PLAIN),
                receipt(1),
                asked(3, SECOND),
                end(1, completed(1)),
                end(3, completed(3)),
                end(2, completed(2)),
                // On its next connection, or over HTTP.
                end(3, completed(3)),
                asked(4, SECOND),
                receipt(4),
                asked(5, SECOND),
                end(4, LOST),
                end(5, EXPIRED),
            ],
            backend: [8, 9, 8, 9].map(|n| Note::Heard { line: mark(n) }).to_vec(),
            plain: vec![
                Note::Delivered { call: call(1), told: None },
                Note::Delivered { call: call(2), told: None },
                answered(1),
                answered(2),
            ],
            second: vec![
                Note::Delivered { call: call(3), told: Some(told(3, 1)) },
                answered(3),
                Note::Delivered { call: call(4), told: Some(told(4, 1)) },
                Note::Counted { invocation: invocation(3) },
                Note::Delivered { call: call(4), told: Some(told(4, 2)) },
            ],
        }
    }

    fn violations(self) -> Vec<Violation> {
        let mut record = Record::default();
        for (position, (invocation, fact)) in (1..).zip(self.facts) {
            record.put(Event { position, invocation, fact });
        }
        violations(&record, self.caller, self.backend, self.plain, self.second)
    }

    /// The place of the fact about the `n`th invocation that is so.
    fn place(&self, n: u128, is_so: impl Fn(&Fact) -> bool) -> usize {
        let is_it = |(id, fact): &(Option<Uuid>, Fact)| *id == Some(invocation(n)) && is_so(fact);
        self.facts.iter().position(is_it).expect("it is in the history")
    }

    fn remove(&mut self, n: u128, is_so: impl Fn(&Fact) -> bool) -> (Option<Uuid>, Fact) {
        let place = self.place(n, is_so);
        self.facts.remove(place)
    }
}

fn violations(
    record: &Record,
    caller: Vec<Note>,
    backend: Vec<Note>,
    plain: Vec<Note>,
    second: Vec<Note>,
) -> Vec<Violation> {
    let notes = [(None, caller), (None, backend), (Some(PLAIN), plain), (Some(SECOND), second)]
        .map(|(agent, notes)| Notes { agent, notes });
    check(record, &notes).violations
}

#[track_caller]
fn finds(rule: Rule, plant: impl FnOnce(&mut History)) {
    let mut history = History::clean();
    plant(&mut history);
    let found = history.violations();
    assert_eq!(found.iter().map(|violation| violation.rule).collect::<Vec<_>>(), [rule], "{found:?}");
}

fn is_acceptance(fact: &Fact) -> bool {
    matches!(fact, Fact::Accepted { .. })
}

fn is_end(fact: &Fact) -> bool {
    matches!(fact, Fact::Ended(_))
}

fn is_delivery(fact: &Fact) -> bool {
    matches!(fact, Fact::Delivered { .. })
}

#[test]
fn a_clean_history_has_no_violation() {
    assert!(History::clean().violations().is_empty());
}

#[test]
fn what_was_received_and_is_not_in_the_journal_is_lost() {
    // A receipt.
    finds(Rule::Lost, |history| history.caller.push(Note::Accepted { invocation: invocation(6) }));
    // An end.
    finds(Rule::Lost, |history| history.caller.push(Note::Ended { invocation: invocation(6), end: EXPIRED }));
    // A delivery of what was never accepted.
    finds(Rule::Lost, |history| history.plain.push(Note::Delivered { call: call(6), told: None }));
    // One delivery more than the journal has.
    finds(Rule::Lost, |history| history.plain.push(Note::Delivered { call: call(2), told: None }));
    // An attempt that the journal does not have.
    finds(Rule::Lost, |history| {
        history.second.push(Note::Delivered { call: call(3), told: Some(told(3, 2)) });
    });
    // An answer that was counted.
    finds(Rule::Lost, |history| history.second.push(Note::Counted { invocation: invocation(4) }));
    // A log line.
    finds(Rule::Lost, |history| history.backend.push(Note::Heard { line: mark(99) }));
    // What was accepted, over HTTP.
    finds(Rule::Lost, |history| history.caller.push(Note::Missing { invocation: invocation(1) }));
}

#[test]
fn what_was_accepted_has_exactly_one_end() {
    // None; nobody has seen one.
    finds(Rule::OneEnd, |history| {
        history.remove(5, is_end);
        history.caller.pop();
    });
    // Two, even if they are the same.
    finds(Rule::OneEnd, |history| {
        let again = (Some(invocation(1)), Fact::Ended(completed(1)));
        history.facts.push(again);
    });
    // It goes on behind it.
    finds(Rule::OneEnd, |history| history.facts.push((Some(invocation(4)), Fact::Delivered { attempt: 3 })));
}

#[test]
fn an_answer_that_was_given_does_not_change() {
    // For who sees it again.
    finds(Rule::Changed, |history| history.caller.push(Note::Ended { invocation: invocation(3), end: LOST }));
    // In the journal; nobody saw the first but the caller.
    finds(Rule::Changed, |history| {
        let place = history.place(4, is_end);
        history.facts[place].1 = Fact::Ended(EXPIRED);
    });
    // The agent was told that its answer counts, and another's does.
    finds(Rule::Changed, |history| {
        history.second.retain(|note| !matches!(note, Note::Answered { .. }));
        history.plain.push(Note::Answered { call: call(3).name, answer: answer(3) });
    });
}

#[test]
fn nothing_arrives_other_than_it_was_sent() {
    let cut = |whole: Mark| Mark { digest: 8, ..whole };
    // A call, at its agent.
    finds(Rule::Altered, |history| history.plain[1] = Note::Delivered { call: cut(call(2)), told: None });
    // A call, at another agent.
    finds(Rule::Altered, |history| history.second.push(Note::Delivered { call: call(2), told: None }));
    // A call, in the journal: an agent that was away cannot have noticed.
    finds(Rule::Altered, |history| {
        let place = history.place(5, is_acceptance);
        let altered = Fact::Accepted { agent: SECOND.to_string(), call: Some(cut(call(5))), max_attempts: 1 };
        history.facts[place].1 = altered;
    });
    // An answer that nobody has seen.
    finds(Rule::Altered, |history| {
        let end = Fact::Ended(End { way: Way::Completed, answer: Some(cut(answer(2))) });
        let place = history.place(2, is_end);
        history.facts[place].1 = end;
        history.caller.retain(|note| !matches!(note, Note::Ended { invocation: id, .. } if *id == invocation(2)));
    });
}

#[test]
fn first_deliveries_are_in_the_order_of_acceptance() {
    // In the journal; the agent was gone before it could notice.
    finds(Rule::Order, |history| {
        let first = history.place(1, is_delivery);
        let second = history.place(2, is_delivery);
        let late = history.facts.remove(first);
        history.facts.insert(second, late);
        history.plain.retain(|note| !matches!(note, Note::Delivered { .. }));
    });
    // At an agent of version 1.
    finds(Rule::Order, |history| history.plain.swap(0, 1));
    // At one of version 2: the second delivery of 4 may come at any time, its first may not.
    finds(Rule::Order, |history| history.second.swap(0, 2));
    // Log lines, when they are heard for the first time.
    finds(Rule::Order, |history| history.backend.swap(0, 1));
}

#[test]
fn each_delivery_but_the_first_is_flagged() {
    let as_told = |attempt, redelivered| {
        let told = Told { invocation: invocation(4), attempt, redelivered };
        Note::Delivered { call: call(4), told: Some(told) }
    };
    finds(Rule::Flagged, |history| history.second[4] = as_told(2, false));
    // Although it missed the first.
    finds(Rule::Flagged, |history| {
        history.second[4] = as_told(2, false);
        history.second.remove(2);
    });
    // The first one.
    finds(Rule::Flagged, |history| history.second[2] = as_told(1, true));
    // The same attempt twice.
    finds(Rule::Flagged, |history| history.second[4] = as_told(1, false));
}

#[test]
fn nothing_is_in_the_journal_that_nobody_sent() {
    // A call.
    finds(Rule::Invented, |history| {
        history.caller.retain(|note| !matches!(note, Note::Asked { call: asked, .. } if *asked == call(5)));
    });
    // An answer.
    finds(Rule::Invented, |history| {
        history.plain.retain(|note| !matches!(note, Note::Answered { answer: given, .. } if *given == answer(2)));
    });
    // What happened to what was never accepted.
    finds(Rule::Invented, |history| history.facts.push((Some(invocation(6)), Fact::Started { attempt: 1 })));
}

#[test]
fn an_answer_belongs_to_the_call_that_it_was_given_to() {
    // 1 is answered by the same agent before 2 has its end.
    let swap = |history: &mut History| {
        let place = history.place(2, is_end);
        history.facts[place].1 = Fact::Ended(completed(1));
        history.caller.retain(|note| !matches!(note, Note::Ended { invocation: id, .. } if *id == invocation(2)));
    };
    finds(Rule::Invented, swap);
    // Nor may one be taken for the answer to the next because it came behind the deadline.
    finds(Rule::Invented, |history| {
        swap(history);
        let place = history.place(1, is_end);
        history.facts[place].1 = Fact::Ended(End { way: Way::TimedOut, answer: None });
        history.caller.retain(|note| !matches!(note, Note::Ended { invocation: id, .. } if *id == invocation(1)));
    });
}

#[test]
fn a_call_with_a_key_is_accepted_once() {
    finds(Rule::Once, |history| {
        let call = Some(call(5));
        let again = Fact::Accepted { agent: SECOND.to_string(), call, max_attempts: 1 };
        history.facts.push((Some(invocation(6)), again));
        history.facts.push((Some(invocation(6)), Fact::Ended(EXPIRED)));
    });
}

#[test]
fn work_is_started_no_more_often_than_it_may_be() {
    finds(Rule::Attempts, |history| {
        let place = history.place(4, is_end);
        history.facts.insert(place, (Some(invocation(4)), Fact::Started { attempt: 1 }));
    });
}

#[test]
fn positions_have_no_gap() {
    let History { facts, caller, backend, plain, second } = History::clean();
    let mut record = Record::default();
    for (position, (invocation, fact)) in (1..).zip(facts) {
        record.put(Event { position: if position > 9 { position + 1 } else { position }, invocation, fact });
    }
    let found = violations(&record, caller, backend, plain, second);
    assert_eq!(found.iter().map(|violation| violation.rule).collect::<Vec<_>>(), [Rule::Contiguous], "{found:?}");
}

#[test]
fn what_was_seen_of_an_earlier_act_is_compared_with_it() {
    let History { facts, caller, backend, plain, second } = History::clean();
    let mut record = Record::default();
    for (position, (invocation, fact)) in (1..).zip(facts) {
        record.put(Event { position, invocation, fact });
    }
    assert!(violations(&record, caller, backend, plain, second).is_empty());
    record.begin_anew();
    record.put(Event { position: record.before + 1, invocation: None, fact: Fact::Other });
    let late = |end| vec![Note::Ended { invocation: invocation(2), end }];
    let backend = vec![Note::Heard { line: mark(9) }];
    assert!(violations(&record, late(completed(2)), backend, Vec::new(), Vec::new()).is_empty());
    let found = violations(&record, late(LOST), Vec::new(), Vec::new(), Vec::new());
    assert_eq!(found.iter().map(|violation| violation.rule).collect::<Vec<_>>(), [Rule::Changed], "{found:?}");
}

#[tokio::test]
async fn a_journal_that_was_changed_by_hand_or_set_back_is_not_verified() {
    let mut router = Router::on_a_file(&[]).await;
    Peer::registered(&router, &agent_id()).await.leave(&router).await;
    let mut record = Record::default();
    record.read_on(&router).await;
    assert!(verify(&router, &record).is_none());

    let head = record.heads.pop().expect("there are events");
    let (position, _) = head.split_once(':').expect("a position and a hash");
    record.heads.push(format!("{position}:{}", "0".repeat(64)));
    assert_eq!(verify(&router, &record).map(|violation| violation.rule), Some(Rule::Verified), "another head");
    record.heads = vec![head];
    assert!(verify(&router, &record).is_none());

    router.stop().await;
    router.execute("UPDATE journal SET at = at + 1 WHERE position = 2").await;
    assert_eq!(verify(&router, &record).map(|violation| violation.rule), Some(Rule::Verified), "another time");
}
