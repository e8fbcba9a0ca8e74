//! What readers see of invocations, a page at a time.

use agent_router::id::Position;
use agent_router::invocation::{Outcome, StateName};
use agent_router::journal::{InvocationFilter, Journal, Order};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::script::{Script, identity, second};
use super::store::{BackEnd, Store, on_each_back_end};
use super::tale::{Tale, assert_same, seeded};

on_each_back_end! {
    every_filter_finds_exactly_its_invocations_in_both_orders,
    an_invocation_in_a_page_is_the_one_that_is_read_alone,
    a_page_ends_where_it_weighs_enough,
    a_page_ends_where_enough_was_looked_at,
}

/// All that match, and how many pages that took.
async fn all(journal: &dyn Journal, filter: &InvocationFilter, order: Order, limit: usize) -> (Vec<i64>, usize) {
    let (mut found, mut pages, mut beyond) = (Vec::new(), 0, None);
    loop {
        let page = journal.invocations(filter, order, beyond, limit).await.unwrap();
        assert!(page.invocations.len() <= limit);
        found.extend(page.invocations.iter().map(|one| one.accepted.0));
        pages += 1;
        let Some(next) = page.next else { return (found, pages) };
        assert!(Some(next) != beyond, "{filter:?} goes on");
        beyond = Some(next);
    }
}

fn filter(random: &mut StdRng, tale: &Tale) -> InvocationFilter {
    let (one, other) = (tale.moment(random), tale.moment(random));
    let some = |random: &mut StdRng, values: &[&str]| {
        random.random_bool(0.3).then(|| values.choose(random).map(|value| (*value).to_owned())).flatten()
    };
    InvocationFilter {
        agent: some(random, &["agent-0", "agent-1", "agent \"rare\"", "agent"]).map(|agent| identity(&agent)),
        caller: some(random, &["caller", "caller é", "nobody"]).map(|caller| identity(&caller)),
        state: random.random_bool(0.5).then(|| *StateName::ALL.choose(random).unwrap()),
        request_id: some(random, &["é request 2", "é request 3", "é request", ""]),
        session_id: some(random, &["session 2", "session 3", "session 11", ""]),
        from: random.random_bool(0.2).then(|| one.min(other)),
        until: random.random_bool(0.2).then(|| one.max(other)),
    }
}

async fn every_filter_finds_exactly_its_invocations_in_both_orders(back_end: BackEnd) {
    let random = &mut seeded();
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut tale = Tale::default();
    while tale.events.len() < 9_500 {
        let size = random.random_range(1..700);
        journal.commit(tale.batch(random, size).into()).await.unwrap();
    }
    // A page takes several round trips there.
    let count = if back_end == BackEnd::Postgres { 40 } else { 150 };
    let mut filters: Vec<_> = (0..count).map(|_| filter(random, &tale)).collect();
    filters.extend(StateName::ALL.map(|state| InvocationFilter { state: Some(state), ..InvocationFilter::default() }));
    filters.push(InvocationFilter::default());
    for filter in filters {
        for order in [Order::Ascending, Order::Descending] {
            let expected = tale.matching_invocations(&filter, order);
            for limit in [1, 7, 1000] {
                // One at a time, only as far as that is not for ever.
                if expected.len() < 60 * limit {
                    let (found, _) = all(journal.as_ref(), &filter, order, limit).await;
                    assert_same(&found, &expected, (&filter, order, limit));
                }
            }
        }
    }
}

async fn an_invocation_in_a_page_is_the_one_that_is_read_alone(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let mut invocation = script.invoked("agent", b"{ \"a\": NaN }");
    journal.commit(script.take().into()).await.unwrap();
    script.completed(&mut invocation, b"[1]");
    journal.commit(script.take().into()).await.unwrap();
    let page = journal.invocations(&InvocationFilter::default(), Order::Ascending, None, 10).await.unwrap();
    let alone = journal.invocation(invocation.id).await.unwrap().unwrap();
    assert_eq!(format!("{:?}", page.invocations), format!("{:?}", [alone]));
    assert_eq!(page.invocations[0].answer.as_deref(), Some(&b"[1]"[..]));
    assert_eq!(page.next, None);
}

async fn a_page_ends_where_it_weighs_enough(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let body = vec![b' '; 3 << 20];
    for _ in 0..7 {
        let mut invocation = script.accepted("agent", &body);
        script.completed(&mut invocation, &body);
        script.batch.changed.clear();
        script.keep(&invocation);
    }
    journal.commit(script.take().into()).await.unwrap();
    for order in [Order::Ascending, Order::Descending] {
        let filter = InvocationFilter::default();
        let page = journal.invocations(&filter, order, None, 10).await.unwrap();
        assert_eq!((page.invocations.len(), page.next), (2, page.invocations.last().map(|last| last.accepted)));
        let (found, pages) = all(journal.as_ref(), &filter, order, 10).await;
        assert_eq!((found.len(), pages), (7, 4));
    }
}

async fn a_page_ends_where_enough_was_looked_at(back_end: BackEnd) {
    const MANY: i64 = 20_100;
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    for number in 0..MANY {
        let agent = if number == MANY - 10 || number == 10 { "rare" } else { "agent" };
        let mut invocation = script.accepted(agent, b"{}");
        let outcome = if agent == "rare" { Outcome::Cancelled } else { Outcome::Completed };
        invocation.finish(outcome, second(number), None);
        if number == MANY - 10 {
            invocation.state = agent_router::invocation::State::Queued { since: second(number) };
        }
        // Nobody has fetched its answer: so it is among those that are not settled.
        invocation.plain_unanswered = true;
        script.keep(&invocation);
        if number % 2_000 == 1_999 || number + 1 == MANY {
            journal.commit(script.take().into()).await.unwrap();
        }
    }
    let queued = InvocationFilter { state: Some(StateName::Queued), ..InvocationFilter::default() };
    let first = journal.invocations(&queued, Order::Ascending, None, 5).await.unwrap();
    assert_eq!((first.invocations.len(), first.next), (0, Some(Position(20_000))));
    let second = journal.invocations(&queued, Order::Ascending, first.next, 5).await.unwrap();
    assert_eq!((second.invocations.len(), second.next), (1, None));

    let agent = Some(identity("agent"));
    let cancelled =
        InvocationFilter { state: Some(StateName::Cancelled), agent: agent.clone(), ..InvocationFilter::default() };
    let failed = InvocationFilter { state: Some(StateName::Failed), ..cancelled.clone() };
    for filter in [cancelled, failed] {
        for order in [Order::Ascending, Order::Descending] {
            let (found, pages) = all(journal.as_ref(), &filter, order, 5).await;
            assert!(found.is_empty() && pages <= 2, "{found:?} in {pages} pages");
        }
    }
    let completed = InvocationFilter { state: Some(StateName::Completed), agent, ..InvocationFilter::default() };
    let (found, _) = all(journal.as_ref(), &completed, Order::Descending, 1000).await;
    assert_eq!(found.len(), usize::try_from(MANY).unwrap() - 2);
}
