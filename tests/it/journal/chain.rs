//! The chain shows that nothing was changed, or where.

use agent_router::id::{Position, SessionId};
use agent_router::journal::{Detail, Verification};

use super::script::Script;
use super::store::{BackEnd, Store, intact, on_each_back_end};

on_each_back_end! {
    an_untouched_journal_is_intact,
    the_chain_goes_on_over_restarts_and_pages,
    every_kind_of_tampering_is_found_where_it_is,
    a_range_is_checked_by_itself,
    two_events_cannot_change_places,
    a_journal_is_verified_while_it_is_written,
}

/// Five events, of which 2 and 4 have payloads; 2 accepts an invocation and 4 completes it.
async fn written(back_end: BackEnd) -> Store {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    let mut invocation = script.invoked("agent", b"{\"a\": 1}");
    let detail = Detail::InvocationDelivered { attempt: 1, session: SessionId::generate(), plain: true };
    script.event(detail, Some(invocation.id), Some("agent"), None);
    journal.commit(script.take().into()).await.unwrap();
    script.completed(&mut invocation, b"{\"response\": 2}");
    journal.commit(script.take().into()).await.unwrap();
    script.event(Detail::NodeStopped {}, None, None, None);
    journal.commit(script.take().into()).await.unwrap();
    journal.close().await;
    store
}

async fn verified(store: &Store) -> Verification {
    let journal = store.open().await;
    let verification = journal.verify(None, None).await.unwrap();
    journal.close().await;
    verification
}

async fn an_untouched_journal_is_intact(back_end: BackEnd) {
    let store = written(back_end).await;
    let journal = store.open().await;
    let head = journal.head().await.unwrap();
    assert_eq!(head.position, Position(5));
    assert_eq!(journal.verify(None, None).await.unwrap(), intact(5, head));
}

async fn the_chain_goes_on_over_restarts_and_pages(back_end: BackEnd) {
    let store = written(back_end).await;
    let journal = store.open().await;
    let mut script = Script::after(Position(5));
    for _ in 0..2500 {
        script.logged("agent", b"x");
    }
    let head = journal.commit(script.take().into()).await.unwrap();
    journal.close().await;
    assert_eq!(verified(&store).await, intact(2505, head));
}

async fn every_kind_of_tampering_is_found_where_it_is(back_end: BackEnd) {
    let cases: [(&str, i64); 27] = [
        ("UPDATE journal SET at = at + 1 WHERE position = 1", 1),
        ("UPDATE journal SET kind = 2 WHERE position = 1", 1),
        ("UPDATE journal SET kind = 9999 WHERE position = 3", 3),
        ("UPDATE journal SET node = 77 WHERE position = 3", 3),
        ("UPDATE nodes SET name = 'node-2'", 1),
        ("UPDATE journal SET invocation_id = randomblob(16) WHERE position = 3", 3),
        ("UPDATE journal SET agent_id = 'agenT' WHERE position = 3", 3),
        ("UPDATE journal SET caller = NULL WHERE position = 4", 4),
        ("UPDATE journal SET detail = replace(detail, '1', '2') WHERE position = 3", 3),
        ("UPDATE journal SET detail = detail || ' ' WHERE position = 5", 5),
        ("UPDATE journal SET payload = CAST('{\"a\": 2}' AS BLOB) WHERE position = 2", 2),
        ("UPDATE journal SET payload = NULL WHERE position = 2", 2),
        ("UPDATE journal SET payload = NULL, salt = NULL WHERE position = 4", 4),
        ("UPDATE journal SET payload = zeroblob(1), salt = zeroblob(1) WHERE position = 3", 3),
        ("UPDATE journal SET salt = NULL WHERE position = 2", 2),
        ("UPDATE journal SET salt = randomblob(16) WHERE position = 4", 4),
        ("UPDATE journal SET payload_hash = randomblob(32) WHERE position = 4", 4),
        ("UPDATE journal SET hash = randomblob(32) WHERE position = 4", 4),
        ("DELETE FROM journal WHERE position = 3", 3),
        ("DELETE FROM journal WHERE position = 5", 5),
        ("UPDATE journal_head SET hash = randomblob(32)", 5),
        ("UPDATE journal_head SET position = 4, hash = (SELECT hash FROM journal WHERE position = 4)", 5),
        ("DELETE FROM journal WHERE position = 1", 1),
        ("UPDATE pruned SET position = 1, hash = (SELECT hash FROM journal WHERE position = 1)", 1),
        ("INSERT INTO journal SELECT 6, at, kind, node, NULL, NULL, NULL, detail, hash, NULL, NULL, NULL FROM journal
          WHERE position = 1", 6),
        ("UPDATE invocations SET answer = 3", 2),
        ("DELETE FROM invocations", 2),
    ];
    for (sql, wrong) in cases {
        let store = written(back_end).await;
        assert_eq!(store.tamper(sql).await, 1, "{sql}");
        match verified(&store).await {
            Verification::Broken { position, what } => assert_eq!(position, Position(wrong), "{sql}: {what}"),
            intact @ Verification::Intact(_) => panic!("{sql}: {intact:?}"),
        }
    }
}

async fn a_range_is_checked_by_itself(back_end: BackEnd) {
    let store = written(back_end).await;
    let journal = store.open().await;
    let ranges = [
        (None, Some(3), 1, 3),
        (Some(2), Some(4), 2, 3),
        (Some(4), None, 4, 2),
        (Some(-7), Some(99), 1, 5),
        (Some(6), None, 6, 0),
        (Some(4), Some(3), 4, 0),
    ];
    for (from, to, first, events) in ranges {
        let Verification::Intact(report) = journal.verify(from.map(Position), to.map(Position)).await.unwrap() else {
            panic!("{from:?} to {to:?}")
        };
        assert_eq!((report.from, report.events), (Position(first), events), "{from:?} to {to:?}");
        let last = Position(if events == 0 { 0 } else { first - 1 + i64::try_from(events).unwrap() });
        assert_eq!(report.head.position, last);
        assert_eq!(journal.hash_at(last).await.unwrap().unwrap_or_default(), report.head.hash);
    }
    journal.close().await;

    store.tamper("UPDATE journal SET at = 0 WHERE position = 3").await;
    let journal = store.open().await;
    for (from, to, is_intact) in [(1, 2, true), (1, 3, false), (3, 3, false), (4, 5, true)] {
        let verification = journal.verify(Some(Position(from)), Some(Position(to))).await.unwrap();
        assert_eq!(matches!(verification, Verification::Intact(_)), is_intact, "{from} to {to}: {verification:?}");
    }
    journal.close().await;
    store.tamper("DELETE FROM journal WHERE position = 3").await;
    let journal = store.open().await;
    let verification = journal.verify(Some(Position(4)), None).await.unwrap();
    assert!(matches!(verification, Verification::Broken { position: Position(3), .. }), "{verification:?}");
}

async fn two_events_cannot_change_places(back_end: BackEnd) {
    let store = written(back_end).await;
    store
        .tamper(
            "UPDATE journal SET position = 99 WHERE position = 1;
             UPDATE journal SET position = 1 WHERE position = 3;
             UPDATE journal SET position = 3 WHERE position = 99",
        )
        .await;
    assert!(matches!(verified(&store).await, Verification::Broken { position: Position(1), .. }));
}

async fn a_journal_is_verified_while_it_is_written(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    journal.commit(script.take().into()).await.unwrap();
    let writing = async {
        for _ in 0..200 {
            let invocation = script.invoked("agent", b"{}");
            script.logged(invocation.agent.as_str(), b"line");
            journal.commit(script.take().into()).await.unwrap();
        }
    };
    let verifying = async {
        for _ in 0..20 {
            let verification = journal.verify(None, None).await.unwrap();
            assert!(matches!(verification, Verification::Intact(_)), "{verification:?}");
        }
    };
    tokio::join!(writing, verifying);
}
