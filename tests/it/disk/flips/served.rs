//! Everything that a reader can be told, and what a router goes on with.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use agent_router::clock::Timestamp;
use agent_router::id::{Identity, InvocationId, Position};
use agent_router::invocation::StateName;
use agent_router::journal::{
    AgentFilter, EventKind, HistoryFilter, InvocationFilter, Journal, JournalError, Lookup, Order,
};

/// What there is to ask for.
#[derive(Debug, Default)]
pub(super) struct Questions {
    identities: BTreeSet<String>,
    invocations: Vec<InvocationId>,
    keys: Vec<(Identity, Identity, Arc<str>)>,
    positions: Vec<Position>,
    requests: BTreeSet<String>,
    sessions: BTreeSet<String>,
    moment: Option<Timestamp>,
}

const ALL: usize = 1_000_000;

impl Questions {
    pub(super) async fn about(journal: &dyn Journal) -> Self {
        let mut questions = Self::default();
        let mut beyond = None;
        loop {
            let page = journal.history(&HistoryFilter::default(), Order::Ascending, beyond, ALL).await.unwrap();
            for event in &page.events {
                questions
                    .identities
                    .extend([&event.agent, &event.caller].into_iter().flatten().map(ToString::to_string));
                questions.positions.push(event.position);
            }
            questions.moment = page.events.get(page.events.len() / 2).map(|event| event.at).or(questions.moment);
            beyond = page.events.last().map(|event| event.position);
            if !page.more {
                break;
            }
        }
        let page = journal.invocations(&InvocationFilter::default(), Order::Ascending, None, 1000).await.unwrap();
        for invocation in page.invocations {
            questions.requests.extend(invocation.request_id);
            questions.sessions.extend(invocation.session_id);
            questions.invocations.push(invocation.id);
            if let Some(key) = invocation.idempotency_key {
                questions.keys.push((invocation.caller, invocation.agent, key.into()));
            }
        }
        questions
    }

    fn filters(&self) -> Vec<HistoryFilter> {
        let none = HistoryFilter::default;
        let identity = |name: &String| Identity::new(name).ok();
        let mut filters = vec![none()];
        filters.extend(EventKind::ALL.iter().map(|kind| HistoryFilter { kinds: vec![*kind], ..none() }));
        for name in &self.identities {
            filters.push(HistoryFilter { agent: identity(name), ..none() });
            filters.push(HistoryFilter { caller: identity(name), ..none() });
        }
        filters.extend(self.invocations.iter().map(|id| HistoryFilter { invocation: Some(*id), ..none() }));
        filters.extend(self.requests.iter().map(|id| HistoryFilter { request_id: Some(id.clone()), ..none() }));
        filters.extend(self.sessions.iter().map(|id| HistoryFilter { session_id: Some(id.clone()), ..none() }));
        filters.push(HistoryFilter { from: self.moment, ..none() });
        filters.push(HistoryFilter { until: self.moment, ..none() });
        filters
    }

    fn invocation_filters(&self) -> Vec<InvocationFilter> {
        let none = InvocationFilter::default;
        let identity = |name: &String| Identity::new(name).ok();
        let mut filters = vec![none()];
        filters.extend(StateName::ALL.into_iter().map(|state| InvocationFilter { state: Some(state), ..none() }));
        for name in &self.identities {
            filters.push(InvocationFilter { agent: identity(name), ..none() });
            filters.push(InvocationFilter { caller: identity(name), ..none() });
        }
        filters.extend(self.requests.iter().map(|id| InvocationFilter { request_id: Some(id.clone()), ..none() }));
        filters.extend(self.sessions.iter().map(|id| InvocationFilter { session_id: Some(id.clone()), ..none() }));
        filters
    }
}

/// All answers, without those that fail: whoever asked is told so.
pub(super) async fn served(journal: &dyn Journal, questions: &Questions) -> Vec<Option<String>> {
    let mut served = Vec::new();
    let all = HistoryFilter::default();
    served.push(shown(journal.history(&all, Order::Ascending, None, ALL).await));
    for filter in questions.filters() {
        let page = journal.history(&filter, Order::Ascending, None, ALL).await;
        // Of the rest, which events they are is enough.
        served.push(shown(page.map(|page| page.events.iter().map(|event| event.position).collect::<Vec<_>>())));
    }
    for filter in questions.invocation_filters() {
        served.push(shown(journal.invocations(&filter, Order::Ascending, None, 1000).await));
    }
    for id in &questions.invocations {
        served.push(shown(journal.invocation(*id).await));
    }
    served.push(shown(journal.agents(AgentFilter::default(), None, 1000).await));
    served.push(shown(journal.nodes().await));
    served.push(shown(journal.head().await));
    served.push(shown(journal.feed(Position(0), Timestamp::from_micros(0), ALL).await));
    served.push(shown(journal.payloads(&questions.positions).await));
    let lookup = Lookup { ids: questions.invocations.clone(), keys: Vec::new() };
    served.push(shown(journal.lookup(&lookup).await));
    let lookup = Lookup { ids: Vec::new(), keys: questions.keys.clone() };
    served.push(shown(journal.lookup(&lookup).await));
    served
}

/// An answer, unless it is an error.
fn shown<T: Debug>(answer: Result<T, JournalError>) -> Option<String> {
    answer.ok().map(|answer| format!("{answer:?}"))
}
