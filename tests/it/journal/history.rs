//! What readers see.

use std::sync::Arc;

use agent_router::code::ErrorCode;
use agent_router::id::{InvocationId, Position};
use agent_router::invocation::{IdempotencyKey, Outcome, StateName};
use agent_router::journal::{EventKind, HistoryFilter, Journal, Order};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::script::{Script, identity, second};
use super::store::{BackEnd, Store, on_each_back_end};
use super::tale::{Tale, assert_same, seeded};

on_each_back_end! {
    every_filter_and_every_two_find_exactly_their_events_in_both_orders,
    what_is_committed_between_two_pages_is_neither_doubled_nor_missed,
    a_reader_that_follows_while_others_write_sees_each_event_once,
    a_restart_goes_on_with_the_index_where_it_stood,
    a_page_of_large_events_ends_early_and_leads_on,
    an_event_is_read_as_it_was_written,
    an_invocation_is_read_with_its_body_and_its_answer,
}

/// Sets one thing that a reader may want.
type Facet = (&'static str, Box<dyn Fn(&mut HistoryFilter)>);

fn facet(field: &'static str, set: impl Fn(&mut HistoryFilter) + 'static) -> Facet {
    (field, Box::new(set))
}

/// Values that many, few and no events have, for each field.
fn facets(random: &mut StdRng, tale: &Tale) -> Vec<Facet> {
    let (one, other) = (tale.moment(random), tale.moment(random));
    let (invocation, stranger) = (tale.some_invocation(random), InvocationId::generate());
    let mut facets = vec![
        facet("invocation", move |filter| filter.invocation = Some(invocation)),
        facet("invocation", move |filter| filter.invocation = Some(stranger)),
        facet("time", move |filter| filter.from = Some(one)),
        facet("time", move |filter| filter.until = Some(one)),
        facet("time", move |filter| (filter.from, filter.until) = (Some(one.min(other)), Some(one.max(other)))),
        facet("time", move |filter| (filter.from, filter.until) = (Some(one), Some(one))),
        facet("time", move |filter| filter.from = Some(second(1_000_000_000))),
    ];
    facets.extend(
        ["agent-0", "agent-1", "agent \"rare\"", "agent"]
            .map(|agent| facet("agent", move |filter| filter.agent = Some(identity(agent)))),
    );
    facets.extend(
        ["caller", "caller é", "Caller"]
            .map(|caller| facet("caller", move |filter| filter.caller = Some(identity(caller)))),
    );
    let kinds: [&[EventKind]; 4] = [
        &[EventKind::AgentLogged],
        &[EventKind::InvocationExpired, EventKind::InvocationAccepted, EventKind::NodeStarted],
        &[EventKind::InvocationCancelled],
        &[EventKind::NodeStopped],
    ];
    facets.extend(kinds.map(|kinds| facet("kinds", move |filter| filter.kinds = kinds.to_vec())));
    facets.extend(
        ["é request 2", "é request 77", "é request", ""]
            .map(|label| facet("request_id", move |filter| filter.request_id = Some(label.to_owned()))),
    );
    facets.extend(
        ["session 2", "session 11", "Session 2", ""]
            .map(|label| facet("session_id", move |filter| filter.session_id = Some(label.to_owned()))),
    );
    facets
}

/// No filter, each alone, and all pairs that can be.
fn filters(facets: &[Facet]) -> Vec<HistoryFilter> {
    let mut filters = vec![HistoryFilter::default()];
    for (number, (field, set)) in facets.iter().enumerate() {
        let mut alone = HistoryFilter::default();
        set(&mut alone);
        for (other, set) in &facets[number + 1..] {
            let mut both = alone.clone();
            set(&mut both);
            filters.extend((other != field).then_some(both));
        }
        filters.push(alone);
    }
    filters
}

async fn told(tale: &mut Tale, random: &mut StdRng, journal: &dyn Journal, events: usize) {
    while tale.events.len() < events {
        let size = random.random_range(1..700);
        journal.commit(tale.batch(random, size).into()).await.unwrap();
    }
}

/// Reads a page; it may be short at the end alone.
async fn page(
    journal: &dyn Journal,
    (filter, order): (&HistoryFilter, Order),
    beyond: Option<Position>,
    limit: usize,
) -> Vec<i64> {
    let events = journal.history(filter, order, beyond, limit).await.unwrap().events;
    assert!(events.len() <= limit);
    events.iter().map(|event| event.position.0).collect()
}

async fn every_filter_and_every_two_find_exactly_their_events_in_both_orders(back_end: BackEnd) {
    let random = &mut seeded();
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut tale = Tale::default();
    told(&mut tale, random, journal.as_ref(), 11_000).await;
    let facets = facets(random, &tale);
    let mut filters = filters(&facets);
    filters.shuffle(random);

    for (number, filter) in filters.iter().enumerate() {
        for order in [Order::Ascending, Order::Descending] {
            // A page that begins anywhere is what the whole has there.
            let expected = tale.matching(filter, order);
            for limit in [1, 7, 1000] {
                let skipped = random.random_range(0..=expected.len());
                let beyond = skipped.checked_sub(1).map(|last| Position(expected[last]));
                let wanted: Vec<_> = expected[skipped..].iter().copied().take(limit).collect();
                let found = page(journal.as_ref(), (filter, order), beyond, limit).await;
                assert_same(&found, &wanted, (filter, order, beyond, limit));
            }
            // Now and then, all of it.
            if number % 10 == 0 {
                let mut found: Vec<i64> = Vec::new();
                loop {
                    let beyond = found.last().copied().map(Position);
                    let more = page(journal.as_ref(), (filter, order), beyond, 1000).await;
                    found.extend(&more);
                    if more.len() < 1000 {
                        break;
                    }
                }
                assert_same(&found, &expected, (filter, order));
            }
        }
    }
    assert!(journal.history(&HistoryFilter::default(), Order::Ascending, None, 0).await.unwrap().events.is_empty());
}

async fn what_is_committed_between_two_pages_is_neither_doubled_nor_missed(back_end: BackEnd) {
    let random = &mut seeded();
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut tale = Tale::default();
    told(&mut tale, random, journal.as_ref(), 2_000).await;
    let filters = [
        HistoryFilter::default(),
        HistoryFilter { agent: Some(identity("agent-1")), ..HistoryFilter::default() },
        HistoryFilter { session_id: Some("session 2".to_owned()), ..HistoryFilter::default() },
        HistoryFilter { from: Some(second(-100_000)), ..HistoryFilter::default() },
    ];
    let before: Vec<_> = filters.iter().map(|filter| tale.matching(filter, Order::Descending)).collect();
    let mut forward = vec![Vec::new(); filters.len()];
    let mut back = vec![Vec::new(); filters.len()];
    let next = |found: &Vec<i64>| found.last().copied().map(Position);
    let mut ended = false;
    while !ended {
        ended = tale.events.len() > 10_000;
        for (filter, (forward, back)) in filters.iter().zip(forward.iter_mut().zip(&mut back)) {
            forward.extend(page(journal.as_ref(), (filter, Order::Ascending), next(forward), 97).await);
            if back.is_empty() {
                // From where the newest was, and not from what came since.
                let newest = before[0].first().map(|newest| Position(newest + 1));
                back.extend(page(journal.as_ref(), (filter, Order::Descending), newest, 97).await);
            } else {
                back.extend(page(journal.as_ref(), (filter, Order::Descending), next(back), 97).await);
            }
        }
        let size = random.random_range(1..200);
        journal.commit(tale.batch(random, size).into()).await.unwrap();
    }
    for (filter, (mut forward, (back, before))) in
        filters.iter().zip(forward.into_iter().zip(back.into_iter().zip(before)))
    {
        loop {
            let more = page(journal.as_ref(), (filter, Order::Ascending), next(&forward), 1000).await;
            if more.is_empty() {
                break;
            }
            forward.extend(more);
        }
        assert_same(&forward, &tale.matching(filter, Order::Ascending), filter);
        assert_same(&back, &before[..back.len()], filter);
    }
}

async fn a_reader_that_follows_while_others_write_sees_each_event_once(back_end: BackEnd) {
    let random = &mut seeded();
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut tale = Tale::default();
    let batches: Vec<_> = (0..300).map(|_| tale.batch(random, 20)).collect();
    let filter = HistoryFilter { agent: Some(identity("agent-0")), ..HistoryFilter::default() };
    let expected = tale.matching(&filter, Order::Ascending);
    let writing = journal.clone();
    let writer = tokio::spawn(async move {
        for batch in batches {
            writing.commit(batch.clone().into()).await.unwrap();
        }
    });
    let mut found: Vec<i64> = Vec::new();
    loop {
        let done = writer.is_finished();
        let more = page(journal.as_ref(), (&filter, Order::Ascending), found.last().copied().map(Position), 50).await;
        if done && more.is_empty() {
            break;
        }
        found.extend(more);
    }
    writer.await.unwrap();
    assert_same(&found, &expected, filter);
}

async fn a_restart_goes_on_with_the_index_where_it_stood(back_end: BackEnd) {
    let random = &mut seeded();
    let store = Store::on(back_end);
    let mut tale = Tale::default();
    for _ in 0..20 {
        let journal = store.open().await;
        for _ in 0..random.random_range(1..4) {
            let size = random.random_range(1..500);
            journal.commit(tale.batch(random, size).into()).await.unwrap();
        }
        journal.close().await;
    }
    let journal = store.open().await;
    for label in 2..40 {
        let request_id = Some(format!("é request {label}"));
        let filter = HistoryFilter { request_id, ..HistoryFilter::default() };
        let found = page(journal.as_ref(), (&filter, Order::Ascending), None, 1000).await;
        assert_same(&found, &tale.matching(&filter, Order::Ascending), &filter);
    }
}

async fn a_page_of_large_events_ends_early_and_leads_on(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    for _ in 0..10 {
        script.logged("agent", &vec![b'x'; 1 << 20]);
        journal.commit(script.take().into()).await.unwrap();
    }
    let of_agent = HistoryFilter { agent: Some(identity("agent")), ..HistoryFilter::default() };
    for filter in [HistoryFilter::default(), of_agent] {
        for order in [Order::Ascending, Order::Descending] {
            let (mut beyond, mut pages, mut seen) = (None, 0, 0);
            loop {
                let page = journal.history(&filter, order, beyond, 1000).await.unwrap();
                assert!(page.events.len() <= 3, "a page has {} events of a MiB", page.events.len());
                seen += page.events.len();
                pages += 1;
                beyond = page.events.last().map(|event| event.position);
                if !page.more {
                    break;
                }
            }
            assert_eq!((seen, pages), (10, 6), "{filter:?} {order:?}");
        }
    }
}

async fn an_event_is_read_as_it_was_written(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    let invocation = script.invoked("agent \"é", b"{ }");
    let head = journal.commit(script.take().into()).await.unwrap();

    let events = journal.history(&HistoryFilter::default(), Order::Ascending, None, 10).await.unwrap().events;
    let [started, accepted] = &events[..] else { panic!("{events:?}") };
    assert_eq!((started.position, started.at, started.kind), (Position(1), second(1), EventKind::NodeStarted));
    assert_eq!((started.node.as_str(), started.detail.as_str()), ("node-1", r#"{"version":"1"}"#));
    assert_eq!((&started.invocation, &started.agent, &started.caller, &started.payload), (&None, &None, &None, &None));
    assert_eq!((accepted.position, accepted.kind), (Position(2), EventKind::InvocationAccepted));
    assert_eq!(accepted.invocation, Some(invocation.id));
    assert_eq!(
        (&accepted.agent, &accepted.caller),
        (&Some(invocation.agent.clone()), &Some(invocation.caller.clone()))
    );
    assert_eq!(accepted.payload.as_deref(), Some(&b"{ }"[..]));
    assert_eq!(accepted.hash, head.hash);
    let detail: serde_json::Value = serde_json::from_str(&accepted.detail).unwrap();
    assert_eq!(detail["ttl_ms"], 1500);
}

async fn an_invocation_is_read_with_its_body_and_its_answer(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let mut answered = script.accepted("agent", b"{ }");
    answered.order_mut().key = Some(Box::new(IdempotencyKey { key: Arc::from("k"), digest: [7; 32] }));
    script.keep(&answered);
    let mut lost = script.invoked("agent", b"");
    journal.commit(script.take().into()).await.unwrap();

    let queued = journal.invocation(answered.id).await.unwrap().unwrap();
    assert_eq!((queued.state, queued.answer, queued.finished_at), (StateName::Queued, None, None));

    let at = script.completed(&mut answered, b"[NaN]");
    script.started();
    lost.finish(Outcome::Failed(Some(ErrorCode::AgentLost)), second(9), None);
    script.batch.changed.push(lost.clone());
    journal.commit(script.take().into()).await.unwrap();

    let record = journal.invocation(answered.id).await.unwrap().unwrap();
    assert_eq!((record.id, record.state, record.code), (answered.id, StateName::Completed, None));
    assert_eq!((&record.agent, &record.caller), (&answered.agent, &answered.caller));
    assert_eq!((record.body.as_deref(), record.answer.as_deref()), (Some(&b"{ }"[..]), Some(&b"[NaN]"[..])));
    assert_eq!((record.accepted_at, record.finished_at), (answered.accepted_at, Some(second(at.0))));
    assert_eq!((record.ttl_ms, record.deadline, record.max_attempts), (1500, answered.terms.deadline, 3));
    assert_eq!((record.request_id.as_deref(), record.session_id), (Some("request"), None));
    assert_eq!(record.idempotency_key.as_deref(), Some("k"));

    let record = journal.invocation(lost.id).await.unwrap().unwrap();
    assert_eq!((record.state, record.code, record.answer), (StateName::Failed, Some(ErrorCode::AgentLost), None));
    assert_eq!(record.body.as_deref(), Some(&b""[..]));
    assert!(journal.invocation(InvocationId::generate()).await.unwrap().is_none());
}
