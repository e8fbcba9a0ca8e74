//! A batch that cannot be is refused whole, and the next one is as if it had never been.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use agent_router::id::Position;
use agent_router::journal::{Batch, Journal, JournalError, Report, Verification};

use super::script::{Script, identity, second};
use super::store::{BackEnd, Store, on_each_back_end};

on_each_back_end! {
    a_gap_in_the_positions,
    a_position_that_is_taken,
    an_invocation_that_is_there_already,
    a_change_of_an_invocation_that_is_not_there,
    a_commit_whose_caller_went_away_leaves_no_open_transaction,
    a_closed_journal_refuses_everything,
}

/// Commits one good batch, has `spoil` make a bad one, and checks that it left no trace.
async fn assert_refused(back_end: BackEnd, spoil: impl FnOnce(&mut Script)) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let mut invocation = script.invoked("agent", b"{}");
    let before = journal.commit(script.take().into()).await.unwrap();

    spoil(&mut script);
    script.batch.agents.push(agent_router::journal::AgentRow {
        agent: identity("trace"),
        registered: None,
        last_seen: Some(second(1)),
    });
    let refused = journal.commit(script.take().into()).await;
    assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{refused:?}");
    let restored = journal.restore().await.unwrap();
    assert_eq!(restored.head, before);
    assert!(restored.agents.is_empty());
    assert_eq!(restored.unsettled, [invocation.clone()]);

    let mut script = Script::after(before.position);
    script.completed(&mut invocation, b"[]");
    journal.commit(script.take().into()).await.unwrap();
    assert!(matches!(journal.verify(None, None).await.unwrap(), Verification::Intact(Report { events: 2, .. })));
}

async fn a_gap_in_the_positions(back_end: BackEnd) {
    assert_refused(back_end, |script| {
        script.position = script.position.next();
        script.started();
    })
    .await;
}

async fn a_position_that_is_taken(back_end: BackEnd) {
    assert_refused(back_end, |script| {
        script.position = Position(0);
        script.started();
    })
    .await;
}

async fn an_invocation_that_is_there_already(back_end: BackEnd) {
    assert_refused(back_end, |script| {
        let invocation = script.invoked("agent", b"{}");
        script.keep(&invocation);
    })
    .await;
}

async fn a_change_of_an_invocation_that_is_not_there(back_end: BackEnd) {
    assert_refused(back_end, |script| {
        let invocation = script.accepted("agent", b"{}");
        script.batch.changed.push(invocation);
    })
    .await;
}

async fn a_commit_whose_caller_went_away_leaves_no_open_transaction(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    for _ in 0..20 {
        let head = journal.head().await.unwrap();
        let batch = large_batch(head.position);
        begin_and_leave(journal.as_ref(), &batch);
        // It was committed or it was not, as it happened. If not, the next commit is as good as any; if so, that is the one
        // reason why it may be refused, or come too late.
        let mut script = Script::after(head.position);
        script.started();
        match journal.commit(script.take().into()).await {
            Ok(committed) => assert_eq!(committed, journal.head().await.unwrap()),
            Err(error @ (JournalError::Unavailable(_) | JournalError::Moved)) => {
                journal.begin().await.unwrap();
                journal.pass().await;
                let left = batch.events.last().unwrap().position;
                assert_eq!(journal.head().await.unwrap().position, left, "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(matches!(journal.verify(None, None).await.unwrap(), Verification::Intact(_)));
}

fn large_batch(after: Position) -> Batch {
    let mut script = Script::after(after);
    for _ in 0..2000 {
        script.started();
    }
    script.take()
}

/// Polls the commit once, so that it is under way, and drops it. It may be that quick that it is done by then; what it
/// must not do is fail.
pub(super) fn begin_and_leave(journal: &dyn Journal, batch: &Batch) {
    let commit = pin!(journal.commit(Arc::new(batch.clone())));
    let polled = commit.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending | Poll::Ready(Ok(_))), "{polled:?}");
}

async fn a_closed_journal_refuses_everything(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    journal.close().await;
    let mut script = Script::new();
    script.started();
    assert!(matches!(journal.commit(script.take().into()).await, Err(JournalError::Unavailable(_))));
    assert!(matches!(journal.restore().await, Err(JournalError::Unavailable(_))));
    journal.close().await;
}
