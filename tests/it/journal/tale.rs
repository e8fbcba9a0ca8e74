//! A random history of a few agents and callers, and what is true of it: an oracle for readers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use agent_router::clock::Timestamp;
use agent_router::code::ErrorCode;
use agent_router::id::{InvocationId, Position, SessionId};
use agent_router::invocation::{Invocation, Labels, Outcome, Reply};
use agent_router::journal::{Batch, Detail, Event, HistoryFilter, InvocationFilter, Order};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use super::script::{Script, identity, second};

/// The seed of a run: `SEED`, or a new one. It is printed.
pub(super) fn seeded() -> StdRng {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Fails with what is different, and not with all there is.
#[track_caller]
pub(super) fn assert_same(found: &[i64], expected: &[i64], what: impl Debug) {
    let at = found.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let next = |places: &[i64]| places.iter().skip(at).take(5).copied().collect::<Vec<_>>();
    assert!(found == expected, "{what:?}: after {at} it goes on {:?} and not {:?}", next(found), next(expected));
}

/// Everything that has happened so far, the batch that is being written included.
#[derive(Default)]
pub(super) struct Tale {
    pub(super) events: Vec<Event>,
    pub(super) invocations: BTreeMap<Position, Invocation>,
    /// The details of its refusals say as little as those of the first version.
    is_of_the_first_version: bool,
    /// Seconds. Between two runs of a router they may go back.
    clock: i64,
}

impl Tale {
    pub(super) fn of_the_first_version() -> Self {
        Self { is_of_the_first_version: true, ..Self::default() }
    }

    /// A batch of about so many events.
    pub(super) fn batch(&mut self, random: &mut StdRng, events: usize) -> Batch {
        let head = self.head();
        let mut script = Script::after(head);
        let mut changed = BTreeSet::new();
        while script.batch.events.len() < events {
            match random.random_range(0..100) {
                0 => self.clock += random.random_range(-5_000..5_000),
                1..5 => self.clock += random.random_range(0..100),
                5..30 => self.accept(random, &mut script),
                30..80 => drop(self.go_on(random, &mut script).map(|accepted| changed.insert(accepted))),
                80..93 => self.log(random, &mut script),
                93..95 => self.refuse(random, &mut script),
                _ => {
                    script.started();
                    self.tell(&mut script, None, Labels::default());
                }
            }
        }
        script.batch.accepted = self.invocations.range(head.next()..).map(|(_, one)| one.clone()).collect();
        changed.retain(|accepted| *accepted <= head);
        script.batch.changed = changed.iter().map(|accepted| self.invocations[accepted].clone()).collect();
        script.take()
    }

    pub(super) fn head(&self) -> Position {
        self.events.last().map_or(Position(0), |event| event.position)
    }

    fn now(&self) -> Timestamp {
        second(self.clock)
    }

    /// Keeps the script's last event, at the tale's time and with what else belongs to it.
    fn tell(&mut self, script: &mut Script, caller: Option<&str>, labels: Labels) {
        let at = self.now();
        let event = script.batch.events.last_mut().unwrap();
        event.at = at;
        event.caller = caller.map(identity);
        event.labels = labels;
        self.events.push(event.clone());
    }

    fn accept(&mut self, random: &mut StdRng, script: &mut Script) {
        let agent = agent(random);
        let caller = if random.random_bool(0.9) { "caller" } else { "caller é" };
        let mut invocation = script.accepted(agent, b"{}");
        invocation.order_mut().caller = identity(caller);
        invocation.order_mut().labels = labels(random);
        invocation.order_mut().accepted_at = self.now();
        self.tell(script, Some(caller), invocation.labels.clone());
        self.invocations.insert(invocation.accepted, invocation);
    }

    /// The next thing in the life of an unfinished invocation.
    fn go_on(&mut self, random: &mut StdRng, script: &mut Script) -> Option<Position> {
        // Mostly one of the newest: so that old ones are few, and some of them very old.
        let newest = self.invocations.values().rev().take(if random.random_bool(0.98) { 200 } else { usize::MAX });
        let mut invocation = newest.filter(|one| one.is_open()).choose(random)?.clone();
        let now = self.now();
        let (detail, outcome) = match random.random_range(0..20) {
            0..9 => {
                let session = SessionId::generate();
                invocation.requeue(now);
                invocation.deliver(session, now, false);
                (Detail::InvocationDelivered { attempt: invocation.attempt, session, plain: false }, None)
            }
            9..16 => (Detail::InvocationCompleted { attempt: 1 }, Some(Outcome::Completed)),
            16 => (
                Detail::InvocationFailed { attempt: 1, code: Some(ErrorCode::AgentLost) },
                Some(Outcome::Failed(Some(ErrorCode::AgentLost))),
            ),
            17 => (Detail::InvocationExpired {}, Some(Outcome::Expired)),
            18 => (Detail::InvocationTimedOut {}, Some(Outcome::TimedOut)),
            _ => (Detail::InvocationCancelled {}, Some(Outcome::Cancelled)),
        };
        let payload = (outcome == Some(Outcome::Completed)).then_some(&b"[]"[..]);
        let position = script.event(detail, Some(invocation.id), Some(invocation.agent.as_str()), payload);
        self.tell(script, Some(invocation.caller.as_str()), invocation.labels.clone());
        if let Some(outcome) = outcome {
            invocation.finish(outcome, now, payload.map(|_| position));
            invocation.reply = if random.random_bool(0.1) { Reply::Owed } else { Reply::None };
        }
        let accepted = invocation.accepted;
        self.invocations.insert(accepted, invocation);
        Some(accepted)
    }

    fn log(&mut self, random: &mut StdRng, script: &mut Script) {
        let labels = labels(random);
        let text = |label: &Option<Arc<str>>| label.as_deref().map(str::to_owned);
        let detail = Detail::AgentLogged { request_id: text(&labels.request_id), session_id: text(&labels.session_id) };
        script.event(detail, None, Some(agent(random)), Some(b"line"));
        self.tell(script, None, labels);
    }

    fn refuse(&mut self, random: &mut StdRng, script: &mut Script) {
        let labels = if self.is_of_the_first_version { Labels::default() } else { labels(random) };
        let Labels { request_id, session_id } = labels.clone();
        let detail = Detail::InvocationRefused { code: ErrorCode::AgentAway, request_id, session_id, suppressed: 0 };
        script.event(detail, None, Some(agent(random)), None);
        self.tell(script, Some("caller"), labels);
    }

    /// The places of the events that match, in this order.
    pub(super) fn matching(&self, filter: &HistoryFilter, order: Order) -> Vec<i64> {
        let labels = |event: &Event| (event.labels.request_id.clone(), event.labels.session_id.clone());
        let matches = |event: &&Event| {
            let (request_id, session_id) = labels(event);
            (filter.invocation.is_none() || event.invocation == filter.invocation)
                && (filter.agent.is_none() || event.agent == filter.agent)
                && (filter.caller.is_none() || event.caller == filter.caller)
                && (filter.kinds.is_empty() || filter.kinds.contains(&event.detail.kind()))
                && is_wanted(filter.request_id.as_deref(), request_id.as_deref())
                && is_wanted(filter.session_id.as_deref(), session_id.as_deref())
                && filter.from.is_none_or(|from| event.at >= from)
                && filter.until.is_none_or(|until| event.at < until)
        };
        ordered(self.events.iter().filter(matches).map(|event| event.position.0), order)
    }

    /// The places of the acceptances of invocations that match, in this order.
    pub(super) fn matching_invocations(&self, filter: &InvocationFilter, order: Order) -> Vec<i64> {
        let matches = |one: &&Invocation| {
            filter.agent.as_ref().is_none_or(|agent| one.agent == *agent)
                && filter.caller.as_ref().is_none_or(|caller| one.caller == *caller)
                && filter.state.is_none_or(|state| one.state_name() == state)
                && is_wanted(filter.request_id.as_deref(), one.labels.request_id.as_deref())
                && is_wanted(filter.session_id.as_deref(), one.labels.session_id.as_deref())
                && filter.from.is_none_or(|from| one.accepted_at >= from)
                && filter.until.is_none_or(|until| one.accepted_at < until)
        };
        ordered(self.invocations.values().filter(matches).map(|one| one.accepted.0), order)
    }

    /// Some moments between the first and the last, in no order.
    pub(super) fn moment(&self, random: &mut StdRng) -> Timestamp {
        self.events.iter().choose(random).unwrap().at
    }

    pub(super) fn some_invocation(&self, random: &mut StdRng) -> InvocationId {
        self.invocations.values().choose(random).unwrap().id
    }
}

fn ordered(places: impl Iterator<Item = i64>, order: Order) -> Vec<i64> {
    let mut places: Vec<_> = places.collect();
    if order == Order::Descending {
        places.reverse();
    }
    places
}

/// A label that is empty is found by nobody.
fn is_wanted(wanted: Option<&str>, label: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| !wanted.is_empty() && label == Some(wanted))
}

/// One agent has most of the work, and one hardly any.
fn agent(random: &mut StdRng) -> &'static str {
    match random.random_range(0..1000) {
        0 => "agent \"rare\"",
        1..300 => "agent-1",
        _ => "agent-0",
    }
}

fn labels(random: &mut StdRng) -> Labels {
    let mut label = |of: &str, rare: i32| match random.random_range(0..rare) {
        0 => None,
        1 => Some(Arc::from("")),
        number => Some(Arc::from(format!("{of} {number}"))),
    };
    Labels { request_id: label("é request", 1000), session_id: label("session", 12) }
}
