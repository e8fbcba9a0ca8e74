//! Random batches, good and bad, with restarts between them, against a model that keeps everything in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_router::id::{Identity, InvocationId, NodeId, Position, SessionId};
use agent_router::invocation::{Invocation, Labels, Outcome, Reply};
use agent_router::journal::audit::Audit;
use agent_router::journal::{
    AgentRow, Batch, Detail, EventKind, Journal, JournalError, Report, SessionRow, SessionStanding, Verification,
};
use agent_router::record::file::{self, FileError};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};

use super::script::{Script, identity, second};
use super::store::{BackEnd, Store, exported, on_each_back_end};

on_each_back_end! {
    random_batches_amount_to_what_a_model_says,
}

/// What should be in the journal.
#[derive(Clone, Default)]
pub(super) struct Model {
    agents: BTreeMap<Identity, AgentRow>,
    sessions: BTreeMap<SessionId, SessionRow>,
    invocations: BTreeMap<Position, Invocation>,
    acknowledged: Position,
    payloads: BTreeMap<Position, Vec<u8>>,
    /// The invocation of each event that has one, and of those, what had a payload that is erased.
    about: BTreeMap<Position, InvocationId>,
    erased: BTreeSet<Position>,
    /// The agent and the request of each log line.
    lines: BTreeMap<Position, (Identity, String)>,
    pruned: Position,
    pub(super) head: Position,
}

impl Model {
    pub(super) fn apply(&mut self, batch: &Batch) {
        for event in &batch.events {
            self.head = event.position;
            self.payloads.extend(event.payload.as_ref().map(|payload| (event.position, payload.to_vec())));
        }
        let accepted = batch.accepted.iter();
        for invocation in accepted.chain(&batch.changed) {
            self.invocations.insert(invocation.accepted, invocation.clone());
        }
        self.agents.extend(batch.agents.iter().map(|row| (row.agent.clone(), row.clone())));
        self.sessions.extend(batch.sessions.iter().map(|row| (row.session, row.clone())));
        self.sessions.retain(|session, _| !batch.ended.contains(session));
        self.acknowledged = batch.feed_acknowledged.unwrap_or(self.acknowledged);
        let about = batch.events.iter().filter_map(|event| Some((event.position, event.invocation?)));
        self.about.extend(about);
        self.lines.extend(batch.events.iter().filter_map(|event| match &event.detail {
            Detail::AgentLogged { request_id: Some(request_id), .. } => {
                Some((event.position, (event.agent.clone()?, request_id.clone())))
            }
            _ => None,
        }));
        for erasure in batch.events.iter().filter(|event| event.detail.kind() == EventKind::PayloadErased) {
            self.erase(erasure.invocation.unwrap(), erasure.position);
        }
        if let Some(pruned) = batch.pruned {
            self.pruned = pruned.position;
            let stays = self.pruned.next();
            self.payloads = self.payloads.split_off(&stays);
            self.about = self.about.split_off(&stays);
            self.erased = self.erased.split_off(&stays);
            self.lines = self.lines.split_off(&stays);
            self.invocations = self.invocations.split_off(&stays);
        }
    }

    fn erase(&mut self, id: InvocationId, by: Position) {
        let invocation = self.invocations.values().find(|one| one.id == id).expect("it is kept");
        let request_id = invocation.labels.request_id.as_deref().unwrap_or_default();
        let about = self.about.iter().filter(|(_, about)| **about == id).map(|(position, _)| *position);
        let is_of_it = |(agent, request): &(Identity, String)| *agent == invocation.agent && request == request_id;
        let lines =
            self.lines.range(invocation.accepted..by).filter(|(_, line)| !request_id.is_empty() && is_of_it(line));
        let gone: Vec<_> = about.chain(lines.map(|(position, _)| *position)).collect();
        self.erased.extend(gone.into_iter().filter(|position| self.payloads.remove(position).is_some()));
    }

    /// How far it can be pruned: all is as old as its place.
    fn prunable(&self, before: Position, limit: i64) -> Position {
        let is_kept = |invocation: &Invocation| {
            !invocation.is_settled() || invocation.finished().is_some_and(|finished| finished.at >= second(before.0))
        };
        let kept = self.invocations.values().find(|invocation| is_kept(invocation));
        let first_kept = kept.map_or(Position::MAX, |invocation| invocation.accepted).min(before);
        Position(first_kept.0 - 1).min(self.head).min(Position(self.pruned.0 + limit)).max(self.pruned)
    }
}

/// A batch that fits what is there.
pub(super) fn batch(random: &mut StdRng, model: &Model) -> Batch {
    let mut script = Script::after(model.head);
    let mut changing: BTreeMap<InvocationId, Invocation> = BTreeMap::new();
    let mut ended = Vec::new();
    for _ in 0..random.random_range(0..40) {
        let agent = format!("agent-{}", random.random_range(0..5));
        match random.random_range(0..9) {
            0 | 1 => {
                let mut invocation = script.accepted(&agent, &random_bytes(random));
                let request_id = request_id(random);
                invocation.order_mut().labels = Labels { request_id: request_id.map(Arc::from), session_id: None };
                script.label(invocation.labels.clone());
                script.keep(&invocation);
            }
            8 => match request_id(random) {
                Some(request_id) => drop(script.logged_about(&agent, request_id, &random_bytes(random))),
                None => drop(script.logged(&agent, &random_bytes(random))),
            },
            2 | 3 => {
                let Some(invocation) = model.invocations.values().filter(|one| one.is_open()).choose(random) else {
                    continue;
                };
                let invocation = changing.entry(invocation.id).or_insert_with(|| invocation.clone());
                step(random, &mut script, invocation);
            }
            4 => {
                let position = script.logged(&agent, &random_bytes(random));
                let last_seen = random.random_bool(0.5).then(|| second(position.0));
                let row = AgentRow { agent: identity(&agent), registered: Some(position), last_seen };
                script.batch.agents.retain(|other| other.agent != row.agent);
                script.batch.agents.push(row);
            }
            5 => {
                let settled = model.invocations.values().filter(|one| one.is_settled());
                if let Some(invocation) = settled.choose(random) {
                    script.erased(invocation);
                }
            }
            6 => {
                let session = SessionId::generate();
                let connected_at = second(script.event(Detail::AgentConnected { session }, None, Some(&agent), None).0);
                let identity = identity(&agent);
                let row = SessionRow {
                    session,
                    identity,
                    registered: None,
                    version: 1,
                    connected_at,
                    node: NodeId(1),
                    standing: SessionStanding::Live,
                    max_in_flight: 0,
                    sealed_credential: None,
                };
                script.batch.sessions.push(row);
            }
            _ => {
                ended.extend(model.sessions.keys().choose(random));
                script.batch.feed_acknowledged = Some(script.position);
                script.disconnected(&agent, true);
            }
        }
    }
    script.batch.changed = changing.into_values().collect();
    script.batch.ended = ended;
    script.take()
}

/// One step in the life of an open invocation.
fn step(random: &mut StdRng, script: &mut Script, invocation: &mut Invocation) {
    if !invocation.is_open() {
        invocation.reply = Reply::None;
        return;
    }
    let now = second(script.position.0);
    let id = Some(invocation.id);
    let agent = invocation.agent.to_string();
    match random.random_range(0..4) {
        0 if invocation.in_flight_on().is_none() => {
            let session = SessionId::generate();
            invocation.requeue(now);
            invocation.deliver(session, now, random.random());
            let detail = Detail::InvocationDelivered { attempt: invocation.attempt, session, plain: true };
            script.event(detail, id, Some(&agent), None);
        }
        1 => {
            let (attempt, until) = (invocation.attempt, now);
            invocation.interrupt(until);
            script.event(Detail::InvocationInterrupted { attempt, until }, id, Some(&agent), None);
        }
        2 => {
            script.event(Detail::InvocationTimedOut {}, id, Some(&agent), None);
            invocation.finish(Outcome::TimedOut, now, None);
            invocation.reply = Reply::Owed;
        }
        _ => drop(script.completed(invocation, &random_bytes(random))),
    }
}

fn request_id(random: &mut StdRng) -> Option<&'static str> {
    *[None, Some(""), Some("one"), Some("another é"), Some("a \"third\"")].choose(random).unwrap()
}

fn random_bytes(random: &mut StdRng) -> Vec<u8> {
    let length = random.random_range(0..300);
    (0..length).map(|_| random.random()).collect()
}

async fn assert_same(journal: &dyn Journal, model: &Model) {
    let restored = journal.restore().await.unwrap();
    assert_eq!(restored.head.position, model.head);
    assert_eq!(restored.agents, model.agents.values().cloned().collect::<Vec<_>>());
    assert_eq!(restored.sessions, model.sessions.values().cloned().collect::<Vec<_>>());
    assert_eq!(restored.feed_acknowledged, model.acknowledged);
    let unsettled = model.invocations.values().filter(|invocation| !invocation.is_settled());
    assert_eq!(restored.unsettled, unsettled.cloned().collect::<Vec<_>>());
    let positions: Vec<_> = model.payloads.keys().copied().collect();
    let payloads = journal.payloads(&positions).await.unwrap();
    assert!(payloads.iter().map(|(position, bytes)| (*position, bytes.to_vec())).eq(model.payloads.clone()));
}

async fn assert_verifies(journal: &dyn Journal, model: &Model) {
    let verification = journal.verify(None, None).await.unwrap();
    let Verification::Intact(report) = &verification else { panic!("{verification:?}") };
    let events = u64::try_from(model.head.0 - model.pruned.0).unwrap();
    let erased = u64::try_from(model.erased.len()).unwrap();
    assert_eq!((report.events, report.erased, report.pruned.position), (events, erased, model.pruned));
    let export = file::verify(&exported(journal).await[..], Audit::of_export());
    if events == 0 {
        assert!(matches!(export, Err(FileError::Empty)), "{export:?}");
        return;
    }
    let export = export.unwrap();
    let Verification::Intact(exported) = export else { panic!("the export: {export:?}") };
    // Random bytes are no JSON, so an export cannot show them.
    assert_eq!(Report { unchecked: 0, ..exported }, *report);
    // What explains it may come later.
    let middle = Position(i64::midpoint(model.pruned.0, model.head.0));
    if middle > model.pruned {
        let verification = journal.verify(None, Some(middle)).await.unwrap();
        let Verification::Intact(report) = &verification else { panic!("up to {middle}: {verification:?}") };
        assert_eq!(report.erased, u64::try_from(model.erased.range(..=middle).count()).unwrap());
    }
}

async fn random_batches_amount_to_what_a_model_says(back_end: BackEnd) {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let random = &mut StdRng::seed_from_u64(seed);
    let store = Store::on(back_end);
    let mut journal = store.open().await;
    let mut model = Model::default();
    for round in 0..150 {
        let mut batch = batch(random, &model);
        let spoilt = random.random_bool(0.1) && !batch.events.is_empty();
        if spoilt {
            let stranger = Script::after(model.head).accepted("stranger", b"{}");
            batch.changed.push(stranger);
            assert!(matches!(journal.commit(batch.clone().into()).await, Err(JournalError::Unavailable(_))));
        } else {
            assert_eq!(journal.commit(batch.clone().into()).await.unwrap(), journal.head().await.unwrap());
            model.apply(&batch);
        }
        if random.random_bool(0.1) {
            let (before, limit) = (Position(random.random_range(1..=model.head.0 + 2)), random.random_range(1..200));
            let through = journal.prunable(second(before.0), usize::try_from(limit).unwrap()).await.unwrap();
            let expected = model.prunable(before, limit);
            assert_eq!(through.map_or(model.pruned, |through| through.position), expected, "before {before}");
            if let Some(through) = through {
                let mut script = Script::after(model.head);
                script.pruned(through);
                let batch = script.take();
                journal.commit(batch.clone().into()).await.unwrap();
                model.apply(&batch);
            }
        }
        if random.random_bool(0.1) {
            journal.close().await;
            journal = store.open().await;
        }
        if spoilt || round % 10 == 0 {
            assert_same(journal.as_ref(), &model).await;
        }
        if round % 25 == 0 {
            assert_verifies(journal.as_ref(), &model).await;
        }
    }
    assert_same(journal.as_ref(), &model).await;
    assert_verifies(journal.as_ref(), &model).await;
}
