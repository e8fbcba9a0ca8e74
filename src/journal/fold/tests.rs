//! Histories and the rows that they leave; and rows that are other than that in one thing.

use std::borrow::Cow;
use std::slice;

use uuid::Uuid;

use super::*;
use crate::id::InvocationId;
use crate::invocation::IdempotencyKey;
use crate::journal::row::WrongType;
use crate::journal::{Accepted, Detail};

const BODY: &[u8] = br#"{"request_payload": {"a": [1,  2]}, "other": 1}"#;
const ASKED: &[u8] = br#"{"a": [1,  2]}"#;

/// A row of `journal`.
struct Stored {
    position: i64,
    kind: i64,
    detail: String,
    bytes: Option<i64>,
    /// A column of another type than it should be.
    wrong: &'static str,
}

impl Stored {
    /// With that much of a payload, in the second after `NOW` that its place says.
    fn new(position: i64, detail: &Detail, bytes: Option<i64>) -> Self {
        let (kind, detail) = (detail.kind().code(), serde_json::to_string(detail).unwrap());
        Self { position, kind, detail, bytes, wrong: "" }
    }
}

impl Cells for Stored {
    fn integer(&self, column: &str) -> Result<Option<i64>, WrongType> {
        match column {
            _ if column == self.wrong => Err(WrongType),
            "position" => Ok(Some(self.position)),
            "at" => Ok(Some(at(self.position).as_micros())),
            "kind" => Ok(Some(self.kind)),
            "node" => Ok(Some(1)),
            "bytes" => Ok(self.bytes),
            _ => Err(WrongType),
        }
    }

    fn text(&self, column: &str) -> Result<Option<&str>, WrongType> {
        match column {
            _ if column == self.wrong => Err(WrongType),
            "agent_id" => Ok(Some("agent")),
            "caller" => Ok(Some("caller")),
            "detail" => Ok(Some(&self.detail)),
            _ => Err(WrongType),
        }
    }

    fn bytes(&self, _: &str) -> Result<Option<Cow<'_, [u8]>>, WrongType> {
        Err(WrongType)
    }

    fn uuid(&self, _: &str) -> Result<Option<Uuid>, WrongType> {
        Err(WrongType)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(1_767_322_985_000_006 + 1_000_000 * second)
}

fn session(number: u128) -> SessionId {
    SessionId(Uuid::from_u128(number))
}

/// What is told of the acceptance at 1, by a socket.
fn told() -> Accepted {
    Accepted {
        origin: "socket",
        session: Some(session(1)),
        ttl_ms: 60_000,
        deadline_ms: 900_000,
        max_attempts: 2,
        idempotency_key: Some("key".into()),
        request_id: Some("request".into()),
        session_id: Some("session".into()),
        traceparent: None,
    }
}

/// The row that it leaves.
fn accepted() -> Invocation {
    Invocation::new(Order {
        id: InvocationId(Uuid::from_u128(7)),
        agent: Identity::new("agent").unwrap(),
        caller: Identity::new("caller").unwrap(),
        origin: Origin::Socket { session: session(1), registered: false },
        home: NodeId(1),
        additions: false,
        accepted: Position(1),
        accepted_at: at(1),
        body_bytes: 47,
        terms: Terms {
            ttl: Duration::from_mins(1),
            ttl_given: false,
            deadline: at(1) + Duration::from_mins(15),
            max_attempts: 2,
        },
        key: Some(Box::new(IdempotencyKey { key: "key".into(), digest: Sha256::digest(ASKED).into() })),
        labels: Labels { request_id: Some("request".into()), session_id: Some("session".into()) },
    })
}

fn asked_by(origin: Origin) -> Invocation {
    let mut row = accepted();
    row.order_mut().origin = origin;
    row
}

fn delivered(attempt: u32, on: u128) -> Detail {
    Detail::InvocationDelivered { attempt, session: session(on), plain: false }
}

fn started(attempt: u32, on: u128) -> Detail {
    Detail::InvocationStarted { attempt, session: session(on), adopted: false }
}

fn adopted(on: u128) -> Detail {
    Detail::InvocationStarted { attempt: 1, session: session(on), adopted: true }
}

fn interrupted() -> Detail {
    Detail::InvocationInterrupted { attempt: 1, until: at(60) }
}

fn requeued() -> Detail {
    Detail::InvocationRequeued { attempt: 1 }
}

fn completed() -> Detail {
    Detail::InvocationCompleted { attempt: 1 }
}

fn failed(code: Option<ErrorCode>) -> Detail {
    Detail::InvocationFailed { attempt: 1, code }
}

fn answered() -> Detail {
    Detail::AnswerDelivered { session: session(1) }
}

fn erased() -> Detail {
    Detail::PayloadErased { reason: String::new(), request_id: None }
}

/// What an acceptance and the events at the places after it amount to, if they can be.
fn fold_from(accepted: &Accepted, body: Option<&[u8]>, later: &[Detail], row: &Invocation) -> Option<Fold> {
    let bytes = body.map(|body| i64::try_from(body.len()).unwrap());
    let acceptance = Stored::new(1, &Detail::InvocationAccepted(accepted.clone()), bytes);
    let mut fold = Fold::begin(&Deed::of(&acceptance, body).unwrap(), row)?;
    for (position, detail) in (2..).zip(later) {
        fold.take(&Deed::of(&Stored::new(position, detail, None), None).unwrap())?;
    }
    Some(fold)
}

fn fold(later: &[Detail], row: &Invocation) -> Option<Fold> {
    fold_from(&told(), Some(BODY), later, row)
}

#[track_caller]
fn assert_agrees(later: &[Detail], row: &Invocation) {
    let fold = fold(later, row).unwrap_or_else(|| panic!("{later:?} cannot be"));
    assert_eq!(fold.disagreement(row), None, "{later:?}: {:?} and {row:?}", fold.row);
}

#[test]
fn a_history_leaves_the_row_that_the_rules_make_of_it() {
    let new = accepted;
    let sent = |on| Invocation {
        attempt: 1,
        delivered_at: Some(at(2)),
        state: State::Delivered { session: session(on) },
        ..accepted()
    };
    let begun = |state| Invocation { starts: 1, receipted: true, state, ..sent(2) };
    let running = |on| begun(State::Running { session: session(on) });
    let queued = |second| State::Queued { since: at(second) };
    let lives = [
        (vec![], new()),
        (vec![delivered(1, 2)], sent(2)),
        (vec![delivered(1, 2), started(1, 2)], running(2)),
        (vec![delivered(1, 2), started(1, 2), interrupted()], begun(State::Interrupted { until: at(60) })),
        (vec![delivered(1, 2), started(1, 2), interrupted(), adopted(3)], running(3)),
        // Nobody counted what its agent had read.
        (vec![delivered(1, 2), interrupted()], begun(State::Interrupted { until: at(60) })),
        (vec![delivered(1, 2), requeued()], Invocation { unreceipted: 1, state: queued(3), ..sent(2) }),
        (vec![delivered(1, 2), started(1, 2), requeued()], begun(queued(4))),
        // Its agent had it after all: sent, lost without a receipt, lost at work.
        (vec![delivered(1, 2), adopted(3)], running(3)),
        (vec![delivered(1, 2), requeued(), adopted(3)], running(3)),
        (vec![delivered(1, 2), started(1, 2), requeued(), adopted(3)], running(3)),
        // Sent again, and not queued in between; a receipt of the first time is none of the second.
        (
            vec![delivered(1, 2), delivered(2, 3), started(1, 2)],
            Invocation { attempt: 2, unreceipted: 1, delivered_at: Some(at(3)), ..sent(3) },
        ),
        (
            vec![delivered(1, 2), started(1, 2), requeued(), delivered(2, 3), started(2, 3)],
            Invocation { attempt: 2, starts: 2, delivered_at: Some(at(5)), ..running(3) },
        ),
    ];
    for (later, row) in &lives {
        assert_agrees(later, row);
    }
    // Whoever reads a row knows each from the others, but for those that are the same.
    for (later, _) in &lives {
        let agreeing = lives.iter().filter(|(_, row)| fold(later, row).unwrap().disagreement(row).is_none());
        let same =
            lives.iter().filter(|(other, _)| fold(other, &new()).unwrap().row == fold(later, &new()).unwrap().row);
        assert_eq!(agreeing.count(), same.count(), "{later:?}");
    }
}

#[test]
fn an_end_is_kept_with_its_moment_and_the_answer_that_made_it() {
    let lost = Some(ErrorCode::AgentLost);
    let ends = [
        (completed(), Outcome::Completed, Some(Position(2))),
        (failed(None), Outcome::Failed(None), Some(Position(2))),
        (failed(lost), Outcome::Failed(lost), None),
        (Detail::InvocationExpired {}, Outcome::Expired, None),
        (Detail::InvocationTimedOut {}, Outcome::TimedOut, None),
        (Detail::InvocationCancelled {}, Outcome::Cancelled, None),
    ];
    for (end, outcome, answer) in ends {
        let state = State::Finished(Finished { outcome, at: at(2), answer });
        let mut row = Invocation { state, ..accepted() };
        assert_agrees(slice::from_ref(&end), &row);
        // What comes after it changes nothing of it.
        let later = [answered(), Detail::AnswerDuplicate {}, Detail::AnswerLate {}, Detail::AnswerExpired {}, erased()];
        assert_agrees(&[slice::from_ref(&end), &later].concat(), &row);

        row.state = State::Finished(Finished { outcome, at: at(3), answer });
        assert_eq!(fold(&[end], &row).unwrap().disagreement(&row), Some("state"));
    }
}

#[test]
fn a_row_that_is_other_in_one_column_is_told_by_that_column() {
    type Change = fn(&mut Invocation);
    let history = [delivered(1, 2), requeued(), delivered(2, 3), started(2, 3)];
    let row = Invocation {
        attempt: 2,
        unreceipted: 1,
        starts: 1,
        receipted: true,
        delivered_at: Some(at(4)),
        state: State::Running { session: session(3) },
        ..accepted()
    };
    assert_agrees(&history, &row);
    let changes: [(&str, Change); 25] = [
        ("agent_id", |row| row.order_mut().agent = Identity::ml()),
        ("caller", |row| row.order_mut().caller = Identity::ml()),
        ("origin", |row| row.order_mut().origin = Origin::Socket { session: session(2), registered: false }),
        ("origin", |row| row.order_mut().origin = Origin::InvokeSocket { session: session(1) }),
        ("home", |row| row.order_mut().home = NodeId(2)),
        ("accepted", |row| row.order_mut().accepted = Position(2)),
        ("accepted_at", |row| row.order_mut().accepted_at = at(2)),
        ("body_bytes", |row| row.order_mut().body_bytes += 1),
        ("ttl", |row| row.order_mut().terms.ttl += Duration::from_millis(1)),
        ("deadline", |row| row.order_mut().terms.deadline = at(1)),
        ("max_attempts", |row| row.order_mut().terms.max_attempts += 1),
        ("idempotency_key", |row| row.order_mut().key = None),
        ("idempotency_key", |row| row.order_mut().key.as_mut().unwrap().key = "other".into()),
        ("key_digest", |row| row.order_mut().key.as_mut().unwrap().digest[31] ^= 1),
        ("request_id", |row| row.order_mut().labels.request_id = None),
        ("session_id", |row| row.order_mut().labels.session_id = None),
        ("state", |row| row.state = State::Running { session: session(2) }),
        ("attempt", |row| row.attempt -= 1),
        ("unreceipted", |row| row.unreceipted -= 1),
        ("starts", |row| row.starts += 1),
        ("receipted", |row| row.receipted = false),
        ("delivered_at", |row| row.delivered_at = Some(at(2))),
        ("plain_unanswered", |row| row.plain_unanswered = true),
        ("reply", |row| row.reply = Reply::Owed),
        ("reply", |row| row.reply = Reply::Sent { session: session(1) }),
    ];
    for (column, change) in changes {
        let mut other = row.clone();
        change(&mut other);
        assert_eq!(fold(&history, &other).unwrap().disagreement(&other), Some(column));
    }
}

#[test]
fn what_no_event_tells_is_taken_from_the_row() {
    let changes: [fn(&mut Order); 4] = [
        |order| order.id = InvocationId(Uuid::from_u128(8)),
        |order| order.additions = true,
        |order| order.terms.ttl_given = true,
        |order| order.origin = Origin::Socket { session: session(1), registered: true },
    ];
    for change in changes {
        let mut row = accepted();
        change(row.order_mut());
        assert_agrees(&[], &row);
    }
    // Nor when a plain delivery is answered.
    let delivery = Detail::InvocationDelivered { attempt: 1, session: session(2), plain: true };
    for plain_unanswered in [false, true] {
        let mut row = Invocation { attempt: 1, delivered_at: Some(at(2)), plain_unanswered, ..accepted() };
        row.state = State::Delivered { session: session(2) };
        assert_agrees(slice::from_ref(&delivery), &row);
    }
}

#[test]
fn each_origin_has_its_name_and_its_connection() {
    let origins = [
        ("socket", Some(session(1)), Origin::Socket { session: session(1), registered: true }),
        ("invoke_socket", Some(session(1)), Origin::InvokeSocket { session: session(1) }),
        ("client_message", None, Origin::ClientMessage),
        ("http", None, Origin::Http),
    ];
    for (name, session, of) in origins {
        for (_, _, other) in origins {
            let accepted = Accepted { origin: name, session, ..told() };
            let row = asked_by(other);
            let disagreement = fold_from(&accepted, Some(BODY), &[], &row).unwrap().disagreement(&row);
            assert_eq!(disagreement, (of != other).then_some("origin"), "{of:?}, {other:?}");
        }
    }
}

#[test]
fn a_key_keeps_the_digest_of_what_was_asked_as_long_as_that_is_there() {
    let digest = |text: &[u8]| <[u8; 32]>::from(Sha256::digest(text));
    let bodies = [
        (Some(BODY), Some(digest(ASKED))),
        (Some(&b"{}"[..]), Some(digest(b""))),
        // Not as others write it, or no longer there.
        (Some(b"no JSON"), None),
        (None, None),
    ];
    for (body, expected) in bodies {
        for given in [digest(ASKED), digest(b""), [0; 32], [1; 32]] {
            let mut row = accepted();
            row.order_mut().body_bytes = body.map_or(47, |body| u32::try_from(body.len()).unwrap());
            row.order_mut().key.as_mut().unwrap().digest = given;
            let disagreement = fold_from(&told(), body, &[], &row).unwrap().disagreement(&row);
            let agrees = expected.is_none_or(|expected| expected == given);
            assert_eq!(disagreement, (!agrees).then_some("key_digest"), "{body:?}");
        }
    }
    let mut row = accepted();
    row.order_mut().key = None;
    let without = Accepted { idempotency_key: None, ..told() };
    assert_eq!(fold_from(&without, Some(BODY), &[], &row).unwrap().disagreement(&row), None);
}

#[test]
fn an_answer_is_owed_to_a_socket_that_has_not_got_it() {
    let socket = Origin::Socket { session: session(1), registered: false };
    let cases = [
        (socket, vec![completed()], true),
        (socket, vec![completed(), Detail::AnswerDuplicate {}], true),
        (socket, vec![Detail::InvocationCancelled {}, Detail::AnswerLate {}], true),
        (socket, vec![], false),
        (socket, vec![completed(), answered()], false),
        (socket, vec![completed(), Detail::AnswerExpired {}], false),
        (socket, vec![completed(), erased()], false),
        (Origin::InvokeSocket { session: session(1) }, vec![completed()], false),
        (Origin::Http, vec![completed()], false),
    ];
    for (origin, later, owed) in cases {
        let (name, session) = super::origin(origin);
        let fold =
            fold_from(&Accepted { origin: name, session, ..told() }, Some(BODY), &later, &asked_by(origin)).unwrap();
        for reply in [Reply::Owed, Reply::Sent { session: self::session(9) }] {
            let row = Invocation { reply, ..fold.row.clone() };
            assert_eq!(fold.disagreement(&row), (!owed).then_some("reply"), "{origin:?} {later:?}");
        }
        assert_eq!(fold.disagreement(&fold.row), None);
    }
}

#[test]
fn events_that_the_rules_do_not_allow_amount_to_nothing() {
    let cancelled = || Detail::InvocationCancelled {};
    let histories = [
        // Only what was delivered and is not over can be adopted, and nothing that was lost before is lost twice.
        vec![adopted(2)],
        vec![delivered(1, 2), cancelled(), adopted(3)],
        vec![delivered(1, 2), cancelled(), requeued(), adopted(3)],
    ];
    for history in &histories {
        assert!(fold(history, &accepted()).is_none(), "{history:?}");
    }
    // A life begins with an acceptance, and with nothing else.
    let delivery = Stored::new(1, &delivered(1, 2), None);
    assert!(Fold::begin(&Deed::of(&delivery, None).unwrap(), &accepted()).is_none());
    let acceptance = Detail::InvocationAccepted(told());
    let otherwise = Stored { kind: EventKind::InvocationRefused.code(), ..Stored::new(1, &acceptance, None) };
    assert!(Fold::begin(&Deed::of(&otherwise, None).unwrap(), &accepted()).is_none());
}

#[test]
fn an_event_that_does_not_say_what_it_should_amounts_to_nothing() {
    let taken = |kind: EventKind, detail: &str| {
        let mut fold = fold(&[delivered(1, 2)], &accepted()).unwrap();
        let stored = Stored { position: 3, kind: kind.code(), detail: detail.to_owned(), bytes: None, wrong: "" };
        fold.take(&Deed::of(&stored, None).unwrap())
    };
    for (kind, detail) in [
        (EventKind::AnswerDelivered, "no JSON"),
        (EventKind::InvocationDelivered, "{}"),
        (EventKind::InvocationStarted, "{}"),
        (EventKind::InvocationStarted, r#"{"adopted": true}"#),
        (EventKind::InvocationInterrupted, "{}"),
        (EventKind::InvocationInterrupted, r#"{"until": "soon"}"#),
        (EventKind::InvocationFailed, r#"{"code": "no_such_code"}"#),
    ] {
        assert_eq!(taken(kind, detail), None, "{kind:?} {detail}");
        assert_eq!(taken(EventKind::AnswerDuplicate, "{}"), Some(()));
    }
    let stored = |wrong| Stored { wrong, ..Stored::new(1, &Detail::InvocationAccepted(told()), Some(47)) };
    assert!(Deed::of(&stored(""), None).is_some());
    for column in ["position", "at", "kind", "node", "agent_id", "caller", "detail", "bytes"] {
        assert!(Deed::of(&stored(column), None).is_none(), "{column}");
    }
    assert!(Deed::of(&Stored { kind: -1, ..stored("") }, None).is_none());
}
