//! What is committed comes back.

use std::sync::Arc;

use agent_router::code::ErrorCode;
use agent_router::id::{InvocationId, NodeId, Position, SessionId};
use agent_router::invocation::{Finished, IdempotencyKey, Invocation, Origin, Outcome, Reply, State};
use agent_router::journal::{AgentRow, Batch, Head, Lookup, SessionRow, SessionStanding};

use super::script::{Script, identity, second};
use super::store::{BackEnd, Store, on_each_back_end};

on_each_back_end! {
    an_invocation_in_every_state_comes_back_as_it_was,
    an_invocation_may_be_accepted_in_one_batch_and_finished_in_the_same,
    agents_sessions_and_the_feed_come_back_as_they_were,
    payloads_come_back_byte_for_byte,
    an_empty_journal_says_so_and_an_empty_batch_changes_nothing,
    a_key_leads_to_the_newest_invocation_that_has_it,
}

/// Every state with every outcome.
fn states() -> Vec<State> {
    let finished = |outcome, answer| State::Finished(Finished { outcome, at: second(77), answer });
    let mut states = vec![
        State::Queued { since: second(5) },
        State::Delivered { session: SessionId::generate() },
        State::Running { session: SessionId::generate() },
        State::Interrupted { until: second(40) },
        finished(Outcome::Completed, Some(Position(3))),
        finished(Outcome::Failed(None), Some(Position(4))),
        finished(Outcome::Expired, None),
        finished(Outcome::TimedOut, None),
        finished(Outcome::Cancelled, None),
    ];
    states.extend(ErrorCode::ALL.map(|code| finished(Outcome::Failed(Some(code)), None)));
    states
}

/// Every state with every origin and every place of its reply.
fn variants(script: &mut Script) -> Vec<Invocation> {
    let session = SessionId::generate();
    let origins = [
        Origin::Socket { session, registered: false },
        Origin::Socket { session, registered: true },
        Origin::InvokeSocket { session },
        Origin::ClientMessage,
    ];
    let mut invocations = Vec::new();
    for state in states() {
        for origin in origins {
            for reply in [Reply::None, Reply::Owed, Reply::Sent { session: SessionId::generate() }] {
                let number = u32::try_from(invocations.len()).unwrap();
                let mut invocation = script.accepted("agent", b"{}");
                invocation.state = state;
                invocation.order_mut().origin = origin;
                invocation.reply = reply;
                invocation.order_mut().additions = number.is_multiple_of(2);
                invocation.plain_unanswered = number % 4 < 2;
                invocation.attempt = number;
                invocation.unreceipted = number / 2;
                invocation.starts = u32::MAX - number;
                invocation.delivered_at = (number > 9).then(|| second(i64::from(number)));
                invocation.order_mut().key = number.is_multiple_of(5).then(|| {
                    Box::new(IdempotencyKey { key: Arc::from(format!("key \"{number}\" é")), digest: [0xa5; 32] })
                });
                invocations.push(invocation);
            }
        }
    }
    invocations
}

async fn assert_kept(store: &Store, expected: &[Invocation]) {
    let journal = store.open().await;
    let restored = journal.restore().await.unwrap();
    let unsettled: Vec<_> = expected.iter().filter(|invocation| !invocation.is_settled()).cloned().collect();
    assert!(!unsettled.is_empty() && unsettled.len() < expected.len());
    assert_eq!(restored.unsettled, unsettled);
    let ids = expected.iter().map(|invocation| invocation.id).collect();
    assert_eq!(journal.lookup(&Lookup { ids, keys: Vec::new() }).await.unwrap(), expected);
    journal.close().await;
}

async fn an_invocation_in_every_state_comes_back_as_it_was(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let mut invocations = variants(&mut script);
    for invocation in &invocations {
        script.keep(invocation);
    }
    journal.commit(script.take().into()).await.unwrap();
    journal.close().await;
    assert_kept(&store, &invocations).await;

    // Each moves on to the state of its neighbour.
    let shifted: Vec<_> = invocations.iter().cycle().skip(13).take(invocations.len()).cloned().collect();
    for (invocation, other) in invocations.iter_mut().zip(shifted) {
        invocation.state = other.state;
        invocation.reply = other.reply;
        invocation.attempt = other.attempt;
        invocation.unreceipted = other.unreceipted;
        invocation.starts = other.starts;
        invocation.delivered_at = other.delivered_at;
        invocation.plain_unanswered = other.plain_unanswered;
    }
    script.started();
    script.batch.changed.clone_from(&invocations);
    let journal = store.open().await;
    journal.commit(script.take().into()).await.unwrap();
    journal.close().await;
    assert_kept(&store, &invocations).await;
}

async fn an_invocation_may_be_accepted_in_one_batch_and_finished_in_the_same(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let mut invocation = script.accepted("agent", b"{}");
    script.completed(&mut invocation, b"[]");
    script.batch.changed.clear();
    script.keep(&invocation);
    journal.commit(script.take().into()).await.unwrap();
    assert!(journal.restore().await.unwrap().unsettled.is_empty());
    let found = journal.lookup(&Lookup { ids: vec![invocation.id], keys: Vec::new() }).await.unwrap();
    assert_eq!(found, [invocation]);
}

async fn agents_sessions_and_the_feed_come_back_as_they_were(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    let agent = |name, registered, last_seen| AgentRow { agent: identity(name), registered, last_seen };
    let mut sessions: Vec<_> = (0..3)
        .map(|number| SessionRow {
            session: SessionId::generate(),
            identity: identity("a"),
            registered: None,
            version: 1,
            connected_at: second(number),
            node: NodeId(1),
            standing: SessionStanding::Live,
            max_in_flight: 0,
            sealed_credential: None,
        })
        .collect();
    script.batch.agents = vec![agent("a", None, None), agent("b \"é", Some(Position(1)), Some(second(1)))];
    script.batch.sessions.clone_from(&sessions);
    script.batch.feed_acknowledged = Some(Position(1));
    journal.commit(script.take().into()).await.unwrap();

    script.started();
    sessions[1].registered = Some(Position(2));
    sessions[1].version = 2;
    let fleeting = SessionRow { session: SessionId::generate(), ..sessions[0].clone() };
    script.batch.agents = vec![agent("a", Some(Position(2)), Some(second(9)))];
    script.batch.ended = vec![sessions[0].session, fleeting.session];
    script.batch.sessions = vec![sessions[1].clone(), fleeting];
    journal.commit(script.take().into()).await.unwrap();

    let restored = journal.restore().await.unwrap();
    let agents = [agent("a", Some(Position(2)), Some(second(9))), agent("b \"é", Some(Position(1)), Some(second(1)))];
    assert_eq!(restored.agents, agents);
    assert_eq!(restored.sessions, sessions[1..]);
    assert_eq!(restored.feed_acknowledged, Position(1), "a batch that does not say leaves it where it was");
}

async fn payloads_come_back_byte_for_byte(back_end: BackEnd) {
    let large = vec![b'x'; 1 << 20];
    let payloads: [&[u8]; 8] = [
        b"",
        b"{}",
        b" { \"b\" : NaN,\t\"a\": -Infinity, \"a\": 1e400 }\r\n",
        br#"{"lone": "\ud800", "nul": "\u0000"}"#,
        "\u{feff}\"é 🦀\"".as_bytes(),
        b"\0\xff\xfe not text",
        &[0; 40],
        &large,
    ];
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let mut expected: Vec<_> = payloads.iter().map(|payload| (script.logged("agent", payload), *payload)).collect();
    let without = script.started();
    journal.commit(script.take().into()).await.unwrap();

    expected.rotate_left(3);
    let wanted: Vec<_> = expected.iter().map(|(position, _)| *position).chain([without, Position(4711)]).collect();
    let mut found = journal.payloads(&wanted).await.unwrap();
    found.sort_by_key(|(position, _)| *position);
    expected.sort_by_key(|(position, _)| *position);
    assert_eq!(found.len(), expected.len());
    for ((position, bytes), (expected_position, payload)) in found.iter().zip(expected) {
        assert_eq!(*position, expected_position);
        assert!(bytes == payload, "the payload of {position:?}");
    }
    assert!(journal.payloads(&[]).await.unwrap().is_empty());
}

async fn an_empty_journal_says_so_and_an_empty_batch_changes_nothing(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    assert_eq!(journal.head().await.unwrap(), Head { position: Position(0), hash: [0; 32] });
    assert_eq!(journal.commit(Batch::default().into()).await.unwrap(), journal.head().await.unwrap());
    let restored = journal.restore().await.unwrap();
    assert_eq!(restored.feed_acknowledged, Position(0));
    assert!(restored.agents.is_empty() && restored.sessions.is_empty() && restored.unsettled.is_empty());
}

async fn a_key_leads_to_the_newest_invocation_that_has_it(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let keyed = |script: &mut Script, agent: &str, key: &str| {
        let mut invocation = script.accepted(agent, b"{}");
        invocation.order_mut().key = Some(Box::new(IdempotencyKey { key: Arc::from(key), digest: [1; 32] }));
        script.keep(&invocation);
        invocation
    };
    let older = keyed(&mut script, "a", "k");
    let newer = keyed(&mut script, "a", "k");
    let other_agent = keyed(&mut script, "b", "k");
    keyed(&mut script, "a", "other");
    journal.commit(script.take().into()).await.unwrap();

    let key = |agent: &str, key: &str| (identity("caller"), identity(agent), Arc::from(key));
    let keys = vec![key("a", "k"), key("b", "k"), key("a", "K"), key("nobody", "k")];
    let found = journal.lookup(&Lookup { ids: Vec::new(), keys: keys.clone() }).await.unwrap();
    assert_eq!(found, [newer.clone(), other_agent.clone()]);

    let ids = vec![older.id, newer.id, InvocationId::generate()];
    let found = journal.lookup(&Lookup { ids, keys }).await.unwrap();
    assert_eq!(found, [older, newer, other_agent], "each once");
    assert!(journal.lookup(&Lookup::default()).await.unwrap().is_empty());
}
