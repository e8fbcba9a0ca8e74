//! The same random history on both back ends: the same events, hashes, rows and pages.

use std::fmt::Debug;
use std::sync::Arc;

use agent_router::id::Position;
use agent_router::invocation::StateName;
use agent_router::journal::{
    AgentFilter, Batch, EventKind, HistoryFilter, InvocationFilter, Journal, JournalError, Order, Restored, Salts,
};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::random::{self, Model};
use super::script::{Script, identity, second};
use super::store::{BackEnd, Store, exported};
use super::tale::{Tale, seeded};

/// The same on both back ends.
struct Both {
    stores: [Store; 2],
    journals: [Arc<dyn Journal>; 2],
}

impl Both {
    async fn open() -> Self {
        let stores = [BackEnd::Sqlite, BackEnd::Postgres].map(Store::on);
        let journals = Self::journals(&stores).await;
        Self { stores, journals }
    }

    async fn journals(stores: &[Store; 2]) -> [Arc<dyn Journal>; 2] {
        [stores[0].open_as("node-1", Salts::OfPosition).await, stores[1].open_as("node-1", Salts::OfPosition).await]
    }

    async fn open_again(&mut self) {
        for journal in &self.journals {
            journal.close().await;
        }
        self.journals = Self::journals(&self.stores).await;
    }

    async fn commit(&self, batch: &Batch) {
        self.same("the head", async |journal| journal.commit(Arc::new(batch.clone())).await.unwrap()).await;
    }

    /// What is asked of both has the same answer, which it gives back.
    async fn same<T: Debug>(&self, what: impl Debug, ask: impl AsyncFn(&dyn Journal) -> T) -> T {
        let [one, other] = [ask(&*self.journals[0]).await, ask(&*self.journals[1]).await];
        let texts = [format!("{one:?}"), format!("{other:?}")];
        if texts[0] != texts[1] {
            let at = texts[0].bytes().zip(texts[1].bytes()).take_while(|(one, other)| one == other).count();
            let part = |text: &String| {
                String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(300)..text.len().min(at + 300)]).into_owned()
            };
            panic!("{what:?}: SQLite says\n{}\nand Postgres\n{}", part(&texts[0]), part(&texts[1]));
        }
        one
    }

    async fn same_rows(&self) {
        self.same("the rows", async |journal| {
            let Restored { head, agents, sessions, unsettled, feed_acknowledged, pruned, .. } =
                journal.restore().await.unwrap();
            journal.pass().await;
            (head, agents, sessions, unsettled, feed_acknowledged, pruned)
        })
        .await;
        self.same("an export", async |journal| String::from_utf8_lossy(&exported(journal).await).into_owned()).await;
        self.same("a check", async |journal| journal.verify(None, None).await.unwrap()).await;
    }

    /// A page of everything that can be paged through, of some size and from somewhere.
    async fn same_pages(&self, random: &mut StdRng, head: Position) {
        let order = *[Order::Ascending, Order::Descending].choose(random).unwrap();
        let limit = *[1, 2, 7, 100, 1000].choose(random).unwrap();
        let beyond = random.random_bool(0.7).then(|| Position(random.random_range(0..=head.0 + 1)));
        let events = history_filter(random);
        let page = self.same((&events, order, beyond, limit), async |journal| {
            journal.history(&events, order, beyond, limit).await.unwrap()
        });
        let positions: Vec<_> = page.await.events.iter().map(|event| event.position).collect();
        self.same("payloads", async |journal| journal.payloads(&positions).await.unwrap()).await;
        let wanted = invocation_filter(random);
        let page = self.same((&wanted, order, beyond, limit), async |journal| {
            journal.invocations(&wanted, order, beyond, limit).await.unwrap()
        });
        for record in page.await.invocations.iter().take(3) {
            self.same("an invocation", async |journal| journal.invocation(record.id).await.unwrap()).await;
        }
        let connected = *[None, Some(true), Some(false)].choose(random).unwrap();
        let after = random.random_bool(0.5).then(|| identity(&format!("agent-{}", random.random_range(0..5))));
        self.same((connected, &after, limit), async |journal| {
            journal.agents(AgentFilter { connected }, after.as_ref(), limit).await.unwrap()
        })
        .await;
        let (place, before) = (beyond.unwrap_or_default(), second(random.random_range(0..=head.0 + 1)));
        self.same("what the backend is told", async |journal| journal.feed(place, before, limit).await.unwrap()).await;
        self.same("how far to prune", async |journal| journal.prunable(before, limit).await.unwrap()).await;
        self.same("a hash", async |journal| journal.hash_at(place).await.unwrap()).await;
        self.same("a range", async |journal| journal.verify(Some(place), None).await.unwrap()).await;
    }
}

fn label(random: &mut StdRng) -> Option<String> {
    let labels = ["", "one", "another é", "a \"third\"", "request", "nobody's", "é request 7", "session 5"];
    random.random_bool(0.25).then(|| (*labels.choose(random).unwrap()).to_owned())
}

fn history_filter(random: &mut StdRng) -> HistoryFilter {
    let kinds =
        [EventKind::AgentLogged, EventKind::InvocationAccepted, EventKind::InvocationCompleted, EventKind::NodeStarted];
    let moment = |random: &mut StdRng| random.random_bool(0.2).then(|| second(random.random_range(-5_000..9_000)));
    HistoryFilter {
        invocation: None,
        agent: random.random_bool(0.3).then(|| identity(&format!("agent-{}", random.random_range(0..6)))),
        caller: random.random_bool(0.2).then(|| identity("caller")),
        kinds: if random.random_bool(0.3) { kinds[random.random_range(0..3)..].to_vec() } else { Vec::new() },
        request_id: label(random),
        session_id: label(random),
        from: moment(random),
        until: moment(random),
    }
}

fn invocation_filter(random: &mut StdRng) -> InvocationFilter {
    let HistoryFilter { agent, caller, request_id, session_id, from, until, .. } = history_filter(random);
    let state = random.random_bool(0.4).then(|| *StateName::ALL.choose(random).unwrap());
    InvocationFilter { agent, caller, state, request_id, session_id, from, until }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_batches_amount_to_the_same() {
    let random = &mut seeded();
    let mut both = Both::open().await;
    let mut model = Model::default();
    for round in 0..120 {
        let mut batch = random::batch(random, &model);
        if random.random_bool(0.1) && !batch.events.is_empty() {
            batch.changed.push(Script::after(model.head).accepted("stranger", b"{}"));
            for journal in &both.journals {
                assert!(matches!(journal.commit(batch.clone().into()).await, Err(JournalError::Unavailable(_))));
            }
        } else {
            both.commit(&batch).await;
            model.apply(&batch);
        }
        if random.random_bool(0.1) {
            let (before, limit) = (second(random.random_range(1..=model.head.0 + 2)), random.random_range(1..200));
            let prunable = both.same("how far", async |journal| journal.prunable(before, limit).await.unwrap()).await;
            if let Some(through) = prunable {
                let mut script = Script::after(model.head);
                script.pruned(through);
                let batch = script.take();
                both.commit(&batch).await;
                model.apply(&batch);
            }
        }
        if random.random_bool(0.05) {
            both.open_again().await;
        }
        if round % 20 == 19 {
            both.same_rows().await;
        }
        both.same_pages(random, model.head).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_tale_is_read_the_same_with_and_without_an_index() {
    let random = &mut seeded();
    let both = Both::open().await;
    let mut tale = Tale::default();
    while tale.events.len() < 9_000 {
        let size = random.random_range(1..900);
        both.commit(&tale.batch(random, size)).await;
        if random.random_bool(0.2) {
            both.stores[1].indexed().await;
        }
        for _ in 0..3 {
            both.same_pages(random, tale.head()).await;
        }
    }
    both.same_rows().await;
}
