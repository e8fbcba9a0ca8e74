//! The oldest events go, with the invocations that were accepted there; the chain says how far.

use std::sync::Arc;

use agent_router::id::{Position, SessionId};
use agent_router::journal::{
    AgentRow, Batch, Head, HistoryFilter, Journal, JournalError, Lookup, Order, Report, Verification,
};
use agent_router::record;

use super::script::{Script, identity, second};
use super::store::{BackEnd, Store, exported, on_each_back_end};

on_each_back_end! {
    what_is_young_or_still_waited_for_stays,
    a_time_that_went_back_holds_up_what_is_behind_it,
    events_and_their_invocations_go_and_the_chain_says_how_far,
    what_an_agent_registered_with_is_kept,
    the_index_of_eras_that_are_gone_goes_with_them,
    pruning_that_makes_no_sense_is_refused_whole,
    events_that_somebody_else_removed_are_not_taken_for_pruned,
    a_journal_is_verified_and_probed_while_it_is_pruned,
}

async fn head_at(journal: &dyn Journal, position: i64) -> Head {
    let hash = journal.hash_at(Position(position)).await.unwrap().expect("it is there");
    Head { position: Position(position), hash }
}

async fn prunable(journal: &dyn Journal, before: i64, limit: usize) -> i64 {
    let through = journal.prunable(second(before), limit).await.unwrap();
    if let Some(through) = through {
        assert_eq!(journal.hash_at(through.position).await.unwrap(), Some(through.hash));
    }
    through.map_or(0, |through| through.position.0)
}

async fn positions(journal: &dyn Journal) -> Vec<i64> {
    let events = journal.history(&HistoryFilter::default(), Order::Ascending, None, 10_000).await.unwrap().events;
    events.iter().map(|event| event.position.0).collect()
}

/// Ten events, one a second; 2 accepts an invocation that 4 completes, 6 one that is open.
async fn written(store: &Store) -> (std::sync::Arc<dyn Journal>, Script) {
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    let mut invocation = script.invoked("agent", b"[\"FIRST\"]");
    script.logged("agent", b"\"log\"");
    journal.commit(script.take().into()).await.unwrap();
    script.completed(&mut invocation, b"[\"ANSWER\"]");
    script.logged("agent", b"\"log\"");
    script.invoked("agent", b"[\"SECOND\"]");
    for _ in 7..=10 {
        script.logged("agent", b"\"log\"");
    }
    journal.commit(script.take().into()).await.unwrap();
    (journal, script)
}

async fn what_is_young_or_still_waited_for_stays(back_end: BackEnd) {
    let store = Store::on(back_end);
    let (journal, mut script) = written(&store).await;
    // (before, limit) → how far
    for (before, limit, through) in [
        (1, 100, 0),
        (2, 100, 1),
        // 4 finishes what 2 accepts.
        (3, 100, 1),
        (4, 100, 1),
        (5, 100, 4),
        (6, 100, 5),
        // 6 accepts what is open.
        (100, 100, 5),
        (100, 3, 3),
        (100, 1, 1),
        (100, 0, 0),
    ] {
        assert_eq!(prunable(&*journal, before, limit).await, through, "before {before}, at most {limit}");
    }

    let through = head_at(&*journal, 3).await;
    script.pruned(through);
    journal.commit(script.take().into()).await.unwrap();
    assert_eq!(prunable(&*journal, 100, 1).await, 4, "it goes on where it was");
    assert_eq!(prunable(&*journal, 4, 100).await, 0);
}

async fn a_time_that_went_back_holds_up_what_is_behind_it(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    for _ in 0..4 {
        script.started();
    }
    script.batch.events[1].at = second(1_000);
    journal.commit(script.take().into()).await.unwrap();
    assert_eq!(prunable(&*journal, 100, 100).await, 1);
    assert_eq!(prunable(&*journal, 1_001, 100).await, 4);
}

async fn events_and_their_invocations_go_and_the_chain_says_how_far(back_end: BackEnd) {
    let store = Store::on(back_end);
    let (journal, mut script) = written(&store).await;
    let first = journal.history(&HistoryFilter::default(), Order::Ascending, None, 2).await.unwrap().events;
    let invocation = first[1].invocation.unwrap();
    let through = head_at(&*journal, 3).await;
    script.pruned(through);
    let head = journal.commit(script.take().into()).await.unwrap();

    assert_eq!(positions(&*journal).await, (4..=11).collect::<Vec<_>>());
    assert!(journal.invocation(invocation).await.unwrap().is_none());
    let lookup = Lookup { ids: vec![invocation], keys: Vec::new() };
    assert!(journal.lookup(&lookup).await.unwrap().is_empty());
    assert_eq!(journal.hash_at(Position(3)).await.unwrap(), Some(through.hash));
    for gone in [0, 1, 2, 12] {
        assert_eq!(journal.hash_at(Position(gone)).await.unwrap(), None);
    }

    let report = Report { from: Position(4), events: 8, erased: 0, unchecked: 0, pruned: through, head };
    assert_eq!(journal.verify(None, None).await.unwrap(), Verification::Intact(report.clone()));
    let lines = exported(&*journal).await;
    let audit = || agent_router::journal::audit::Audit::of_export();
    assert_eq!(record::file::verify(&lines[..], audit()).unwrap(), Verification::Intact(report));
    for from in [1, 3, 4] {
        let part = journal.verify(Some(Position(from)), Some(Position(6))).await.unwrap();
        assert!(matches!(part, Verification::Intact(Report { from: Position(4), events: 3, .. })), "{part:?}");
    }

    // Further, in two steps, and over a restart.
    for position in [4, 5] {
        let through = head_at(&*journal, position).await;
        script.pruned(through);
        journal.commit(script.take().into()).await.unwrap();
    }
    journal.close().await;
    let journal = store.open().await;
    let verification = journal.verify(None, None).await.unwrap();
    assert!(
        matches!(verification, Verification::Intact(Report { from: Position(6), events: 8, .. })),
        "{verification:?}"
    );
    assert!(store.places_of(b"FIRST").await.is_empty() && store.places_of(b"ANSWER").await.is_empty());
    assert!(!store.places_of(b"SECOND").await.is_empty());
}

async fn what_an_agent_registered_with_is_kept(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let register = |script: &mut Script, payload: &[u8]| {
        let registered = Some(script.registered("agent", SessionId::generate(), payload));
        script.batch.agents = vec![AgentRow { agent: identity("agent"), registered, last_seen: None }];
    };
    let kept = || async { store.bytes("SELECT registration FROM agents").await };
    register(&mut script, b"first");
    script.started();
    journal.commit(script.take().into()).await.unwrap();
    assert_eq!(kept().await, None);
    let through = head_at(&*journal, 2).await;
    script.pruned(through);
    journal.commit(script.take().into()).await.unwrap();
    assert_eq!(kept().await.as_deref(), Some(&b"first"[..]));

    register(&mut script, b"second");
    journal.commit(script.take().into()).await.unwrap();
    for position in [3, 4] {
        let through = head_at(&*journal, position).await;
        script.pruned(through);
        journal.commit(script.take().into()).await.unwrap();
    }
    assert_eq!(kept().await.as_deref(), Some(&b"second"[..]), "the last one counts");
    let agents = journal.restore().await.unwrap().agents;
    assert_eq!(agents[0].registered, Some(Position(4)), "it is known as before");
}

async fn the_index_of_eras_that_are_gone_goes_with_them(back_end: BackEnd) {
    const ERA: i64 = 4096;
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    for _ in 0..ERA + 10 {
        script.started();
    }
    journal.commit(script.take().into()).await.unwrap();
    store.indexed().await;
    let eras = || async {
        (store.integer("SELECT min(era) FROM eras").await, store.integer("SELECT min(era) FROM postings").await)
    };
    for (position, era) in [(ERA - 2, 0), (ERA - 1, 1)] {
        let through = head_at(&*journal, position).await;
        script.pruned(through);
        journal.commit(script.take().into()).await.unwrap();
        assert_eq!(eras().await, (era, era), "pruned up to {position}");
        if let BackEnd::Sqlite = back_end {
            assert_eq!(store.integer("SELECT min(era) FROM hints").await, era, "pruned up to {position}");
        }
    }
}

async fn pruning_that_makes_no_sense_is_refused_whole(back_end: BackEnd) {
    let store = Store::on(back_end);
    let (journal, mut script) = written(&store).await;
    let through = head_at(&*journal, 4).await;
    script.pruned(through);
    journal.commit(script.take().into()).await.unwrap();
    let position = script.position;
    let fifth = head_at(&*journal, 5).await;
    for (wrong, because) in [
        (through, "it is pruned"),
        (Head { position: Position(5), ..through }, "that is another event's hash"),
        (Head { position: Position(99), ..through }, "there is no such event"),
        (head_at(&*journal, 6).await, "6 accepts what is open"),
    ] {
        let mut script = Script::after(position);
        script.pruned(wrong);
        let refused = journal.commit(script.take().into()).await;
        assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{because}: {refused:?}");
        assert_eq!(positions(&*journal).await, (5..=11).collect::<Vec<_>>(), "{because}");
    }
    journal.commit(Arc::new(Batch { pruned: Some(fifth), ..Batch::default() })).await.unwrap();
    let verification = journal.verify(None, None).await.unwrap();
    assert!(
        matches!(verification, Verification::Broken { position: Position(5), .. }),
        "no event says so: {verification:?}"
    );
}

async fn events_that_somebody_else_removed_are_not_taken_for_pruned(back_end: BackEnd) {
    for (sql, wrong, because) in [
        ("DELETE FROM journal WHERE position = 5", 5, "one more than the event says"),
        ("DELETE FROM journal WHERE position <= 6; UPDATE pruned SET position = 6, hash = zeroblob(1)", 6, ""),
        ("UPDATE pruned SET position = 3", 4, "one less than the event says"),
        ("UPDATE pruned SET hash = randomblob(32)", 5, "another hash"),
        ("UPDATE pruned SET position = 0, hash = zeroblob(32)", 1, "as if it never had been"),
        ("DELETE FROM journal WHERE position = 11", 11, "the event that says so"),
    ] {
        let store = Store::on(back_end);
        let (journal, mut script) = written(&store).await;
        let through = head_at(&*journal, 4).await;
        script.pruned(through);
        journal.commit(script.take().into()).await.unwrap();
        journal.close().await;
        store.tamper(sql).await;
        let journal = store.open().await;
        match journal.verify(None, None).await {
            Ok(Verification::Broken { position, what }) => assert_eq!(position, Position(wrong), "{because}: {what}"),
            Err(JournalError::Damaged { table: "pruned", .. }) => {}
            other => panic!("{because}: {other:?}"),
        }
    }
}

async fn a_journal_is_verified_and_probed_while_it_is_pruned(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    for _ in 0..5_000 {
        script.logged("agent", b"line");
    }
    journal.commit(script.take().into()).await.unwrap();
    let pruning = async {
        while let Some(through) = journal.prunable(second(4_000), 97).await.unwrap() {
            script.pruned(through);
            journal.commit(script.take().into()).await.unwrap();
            journal.probe().await.unwrap();
        }
    };
    let verifying = async {
        loop {
            let verification = journal.verify(None, None).await.unwrap();
            let Verification::Intact(report) = verification else { panic!("{verification:?}") };
            if report.pruned.position == Position(3_999) {
                return report;
            }
        }
    };
    let ((), report) = tokio::join!(pruning, verifying);
    assert_eq!(report.from, Position(4_000));
}
