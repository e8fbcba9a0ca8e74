//! Each rule at its edges. What follows from them together, random histories show (`tests/it/model`).

use std::time::Duration;

use super::*;
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, NodeId, Position, SessionId};

const NOW: Timestamp = Timestamp::from_micros(1_767_322_985_000_000);
const LATER: Timestamp = Timestamp::from_micros(1_767_322_999_000_000);

/// A connection that is lost while the router stays.
const LOST: LostConnection = LostConnection { known: true, resumable: false, router_restarted: false };

fn session(number: u128) -> SessionId {
    SessionId(uuid::Uuid::from_u128(number))
}

fn order(origin: Origin) -> Order {
    Order {
        id: InvocationId(uuid::Uuid::from_u128(7)),
        agent: Identity::new("agent").unwrap(),
        caller: Identity::new("caller").unwrap(),
        origin,
        home: NodeId(1),
        additions: false,
        accepted: Position(1),
        accepted_at: NOW,
        body_bytes: 2,
        terms: policy().terms(NOW, None, None, Some(2)).unwrap(),
        key: None,
        labels: Labels::default(),
    }
}

fn policy() -> Policy {
    Policy { max_max_attempts: 5, ..Policy::default() }
}

fn queued() -> Invocation {
    Invocation::new(order(Origin::Http))
}

fn delivered() -> Invocation {
    let mut invocation = queued();
    invocation.deliver(session(1), NOW, false);
    invocation
}

fn running() -> Invocation {
    let mut invocation = delivered();
    assert_eq!(invocation.receipt(1), Receipt::Started);
    invocation
}

fn finished(outcome: Outcome) -> Invocation {
    let mut invocation = running();
    invocation.finish(outcome, LATER, Some(Position(9)));
    invocation
}

#[test]
fn terms_are_what_was_asked_for_within_the_limits() {
    let policy = policy();
    let plain = policy.terms(NOW, None, None, None).unwrap();
    let deadline = NOW + policy.default_deadline;
    assert_eq!(plain, Terms { ttl: policy.default_ttl, ttl_given: false, deadline, max_attempts: 1 });

    let second = Duration::from_secs(1);
    let asked = policy.terms(NOW, Some(second), Some(2 * second), Some(5)).unwrap();
    assert_eq!(asked, Terms { ttl: second, ttl_given: true, deadline: NOW + 2 * second, max_attempts: 5 });

    let longest = policy.max_deadline;
    let cut = policy.terms(NOW, Some(2 * longest), Some(2 * longest), None).unwrap();
    assert_eq!((cut.ttl, cut.deadline), (longest, NOW + longest));
    assert_eq!(policy.terms(NOW, None, None, Some(6)), Err(TermsError(5)));
}

#[test]
fn each_state_has_its_name_and_may_be_the_last() {
    let names =
        ["queued", "delivered", "running", "interrupted", "completed", "failed", "expired", "timed_out", "cancelled"];
    assert_eq!(StateName::ALL.map(StateName::as_str), names);
    for (name, state) in names.into_iter().zip(StateName::ALL) {
        assert_eq!((name.parse(), state.to_string()), (Ok(state), name.to_owned()));
        assert_eq!(state.is_final(), names[4..].contains(&name), "{name}");
    }
    assert_eq!("Queued".parse::<StateName>(), Err(()));

    let mut interrupted = running();
    interrupted.interrupt(LATER);
    for (invocation, name) in [
        (queued(), StateName::Queued),
        (delivered(), StateName::Delivered),
        (running(), StateName::Running),
        (interrupted, StateName::Interrupted),
    ] {
        assert_eq!((invocation.state_name(), invocation.finished(), invocation.is_open()), (name, None, true));
        assert!(!invocation.is_settled());
        let in_flight = [StateName::Delivered, StateName::Running].contains(&name).then_some(session(1));
        assert_eq!(invocation.in_flight_on(), in_flight, "{name}");
    }
    for (outcome, name, code) in [
        (Outcome::Completed, StateName::Completed, None),
        (Outcome::Failed(None), StateName::Failed, None),
        (Outcome::Failed(Some(ErrorCode::AgentLost)), StateName::Failed, Some(ErrorCode::AgentLost)),
        (Outcome::Expired, StateName::Expired, Some(ErrorCode::Expired)),
        (Outcome::TimedOut, StateName::TimedOut, Some(ErrorCode::TimedOut)),
        (Outcome::Cancelled, StateName::Cancelled, Some(ErrorCode::Cancelled)),
    ] {
        let invocation = finished(outcome);
        let end = Finished { outcome, at: LATER, answer: Some(Position(9)) };
        assert_eq!((invocation.state_name(), invocation.finished(), invocation.is_open()), (name, Some(end), false));
        assert_eq!((invocation.in_flight_on(), outcome.error_code()), (None, code));
    }
}

#[test]
fn it_is_settled_when_it_is_over_and_nothing_is_on_its_way() {
    let over = finished(Outcome::Completed);
    assert!(over.is_settled());
    let mut plain = over.clone();
    plain.plain_unanswered = true;
    assert!(!plain.is_settled());
    for reply in [Reply::Owed, Reply::Sent { session: session(2) }] {
        assert!(!Invocation { reply, ..over.clone() }.is_settled());
        assert!(!Invocation { reply, ..plain.clone() }.is_settled());
    }
}

#[test]
fn the_agent_sends_back_by_whom_it_was_invoked() {
    let session = session(3);
    for (origin, invoked_by) in [
        (Origin::Socket { session, registered: true }, "caller"),
        (Origin::InvokeSocket { session }, "caller:agent"),
        (Origin::Http, "caller"),
        (Origin::ClientMessage, ""),
    ] {
        assert_eq!(order(origin).plain_invoked_by(), invoked_by);
    }
    let mut invocation = queued();
    invocation.order_mut().body_bytes = 9;
    assert_eq!((invocation.body_bytes, invocation.id), (9, order(Origin::Http).id));
}

#[test]
fn deliveries_are_counted() {
    let mut invocation = queued();
    assert_eq!((invocation.attempt, invocation.delivered_at), (0, None));
    invocation.deliver(session(1), NOW, true);
    assert_eq!((invocation.attempt, invocation.delivered_at, invocation.plain_unanswered), (1, Some(NOW), true));
    assert_eq!(invocation.state, State::Delivered { session: session(1) });
    invocation.receipt(1);
    assert!(invocation.receipted);
    invocation.requeue(NOW);
    invocation.deliver(session(2), LATER, false);
    assert_eq!((invocation.attempt, invocation.delivered_at, invocation.receipted), (2, Some(LATER), false));
    assert!(invocation.plain_unanswered, "the first one may still be answered");
    assert!(!delivered().plain_unanswered);
}

#[test]
fn a_receipt_is_for_the_last_delivery() {
    let mut invocation = delivered();
    assert_eq!((invocation.receipt(0), invocation.receipt(2), invocation.starts), (Receipt::Stale, Receipt::Stale, 0));
    assert_eq!((invocation.receipt(1), invocation.starts), (Receipt::Started, 1));
    assert_eq!(invocation.state, State::Running { session: session(1) });
    assert_eq!((invocation.receipt(1), invocation.starts), (Receipt::Stale, 1));
    assert_eq!((queued().receipt(0), queued().starts), (Receipt::Stale, 0));
}

#[test]
fn work_starts_once_for_each_delivery() {
    let mut invocation = running();
    invocation.interrupt(LATER);
    assert_eq!((invocation.starts, invocation.state), (1, State::Interrupted { until: LATER }));
    invocation.requeue(NOW);
    invocation.deliver(session(2), NOW, false);
    invocation.interrupt(LATER);
    assert_eq!(invocation.starts, 2);
}

#[test]
fn only_what_was_delivered_and_is_not_over_is_adopted() {
    assert!(!queued().adopt(session(2)));
    let mut over = finished(Outcome::TimedOut);
    assert!(!over.adopt(session(2)) && !over.is_open());

    for mut invocation in [delivered(), running()] {
        assert!(invocation.adopt(session(2)));
        assert_eq!((invocation.state, invocation.starts), (State::Running { session: session(2) }, 1));
        assert_eq!(invocation.unreceipted, 0);
    }
}

#[test]
fn an_adopted_invocation_had_been_read_after_all() {
    let mut unread = delivered();
    unread.requeue(NOW);
    assert_eq!((unread.unreceipted, unread.state), (1, State::Queued { since: NOW }));
    unread.deliver(session(2), NOW, false);
    unread.requeue(LATER);
    assert_eq!((unread.unreceipted, unread.state), (2, State::Queued { since: LATER }));
    assert!(unread.adopt(session(3)));
    assert_eq!((unread.unreceipted, unread.starts), (1, 1));

    let mut read = running();
    read.unreceipted = 1;
    read.requeue(NOW);
    assert!(read.adopt(session(3)));
    assert_eq!((read.unreceipted, read.starts), (1, 1), "its receipt had counted");
}

#[test]
fn a_lost_delivery_is_sent_again_until_there_were_too_many() {
    let policy = Policy { max_deliveries: 3, ..policy() };
    let failed = AfterLoss::Fail(ErrorCode::AgentLost);
    for (unreceipted, after) in [(0, AfterLoss::Requeue), (1, AfterLoss::Requeue), (2, failed), (3, failed)] {
        let invocation = Invocation { unreceipted, ..delivered() };
        assert_eq!(invocation.after_loss(LOST, NOW, &policy), after, "{unreceipted}");
        let resumable = LostConnection { resumable: true, ..LOST };
        assert_eq!(invocation.after_loss(resumable, NOW, &policy), after, "nothing says that it was read");
        assert_eq!(invocation.after_loss(LostConnection { known: false, ..LOST }, NOW, &policy), failed);
    }
}

#[test]
fn work_that_may_have_begun_waits_for_an_agent_that_may_come_back() {
    let policy = policy();
    let interrupted = AfterLoss::Interrupt(NOW + policy.resume_grace);
    let resumable = LostConnection { resumable: true, ..LOST };
    let restarted = LostConnection { router_restarted: true, ..LOST };
    assert_eq!(running().after_loss(resumable, NOW, &policy), interrupted);
    assert_eq!(running().after_loss(restarted, NOW, &policy), interrupted);
    assert_eq!(delivered().after_loss(restarted, NOW, &policy), interrupted);
    for (starts, after) in [(1, AfterLoss::Requeue), (2, AfterLoss::Fail(ErrorCode::AgentLost))] {
        assert_eq!(Invocation { starts, ..running() }.after_loss(LOST, NOW, &policy), after);
    }
}

#[test]
fn work_starts_as_often_as_was_asked_for() {
    let failed = AfterLoss::Fail(ErrorCode::AgentLost);
    assert_eq!(after_interruption(1, 2, true), AfterLoss::Requeue);
    for (starts, max_attempts, known) in [(2, 2, true), (3, 2, true), (1, 2, false), (2, 2, false)] {
        assert_eq!(after_interruption(starts, max_attempts, known), failed, "{starts} of {max_attempts}");
    }
}

#[test]
fn the_ttl_begins_when_it_is_queued_or_its_agent_leaves() {
    let ttl = policy().default_ttl;
    let invocation = queued();
    assert_eq!(invocation.ttl_over_at(None), Some(NOW + ttl));
    assert_eq!(invocation.ttl_over_at(Some(LATER)), Some(LATER + ttl));
    assert_eq!(invocation.ttl_over_at(Some(Timestamp::from_micros(5))), Some(NOW + ttl));
    assert_eq!((delivered().ttl_over_at(None), running().ttl_over_at(None)), (None, None));
}
