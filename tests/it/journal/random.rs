//! Random batches, good and bad, with restarts between them, against a model that keeps everything in memory.

use std::collections::BTreeMap;

use agent_router::id::{Identity, InvocationId, Position, SessionId};
use agent_router::invocation::{Invocation, Outcome, Reply};
use agent_router::journal::{AgentRow, Batch, Detail, JournalError, SessionRow, Verification};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use super::script::{Script, identity, second};
use super::store::Store;

/// What should be in the journal.
#[derive(Clone, Default)]
struct Model {
    agents: BTreeMap<Identity, AgentRow>,
    sessions: BTreeMap<SessionId, SessionRow>,
    invocations: BTreeMap<Position, Invocation>,
    acknowledged: Position,
    payloads: BTreeMap<Position, Vec<u8>>,
    head: Position,
}

impl Model {
    fn apply(&mut self, batch: &Batch) {
        for event in &batch.events {
            self.head = event.position;
            self.payloads.extend(event.payload.as_ref().map(|payload| (event.position, payload.to_vec())));
        }
        let accepted = batch.accepted.iter().map(|new| &new.invocation);
        for invocation in accepted.chain(&batch.changed) {
            self.invocations.insert(invocation.accepted, invocation.clone());
        }
        self.agents.extend(batch.agents.iter().map(|row| (row.agent.clone(), row.clone())));
        self.sessions.extend(batch.sessions.iter().map(|row| (row.session, row.clone())));
        self.sessions.retain(|session, _| !batch.ended.contains(session));
        self.acknowledged = batch.feed_acknowledged.unwrap_or(self.acknowledged);
    }
}

/// A batch that fits what is there.
fn batch(random: &mut StdRng, model: &Model) -> Batch {
    let mut script = Script::after(model.head);
    let mut changing: BTreeMap<InvocationId, Invocation> = BTreeMap::new();
    let mut ended = Vec::new();
    for _ in 0..random.random_range(0..40) {
        let agent = format!("agent-{}", random.random_range(0..5));
        match random.random_range(0..7) {
            0 | 1 => drop(script.invoked(&agent, &random_bytes(random))),
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
                let session = SessionId::generate();
                let connected_at = second(script.event(Detail::AgentConnected { session }, None, Some(&agent), None).0);
                let identity = identity(&agent);
                let row = SessionRow { session, identity, registered: None, version: 1, connected_at };
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

fn random_bytes(random: &mut StdRng) -> Vec<u8> {
    let length = random.random_range(0..300);
    (0..length).map(|_| random.random()).collect()
}

async fn assert_same(journal: &dyn agent_router::journal::Journal, model: &Model) {
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

#[tokio::test]
async fn random_batches_amount_to_what_a_model_says() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let random = &mut StdRng::seed_from_u64(seed);
    let store = Store::new();
    let mut journal = store.open().await;
    let mut model = Model::default();
    for round in 0..150 {
        let mut batch = batch(random, &model);
        let spoilt = random.random_bool(0.1) && !batch.events.is_empty();
        if spoilt {
            let stranger = Script::after(model.head).accepted("stranger", b"{}");
            batch.changed.push(stranger);
            assert!(matches!(journal.commit(&batch).await, Err(JournalError::Unavailable(_))));
        } else {
            assert_eq!(journal.commit(&batch).await.unwrap(), journal.head().await.unwrap());
            model.apply(&batch);
        }
        if random.random_bool(0.1) {
            journal.close().await;
            journal = store.open().await;
        }
        if spoilt || round % 10 == 0 {
            assert_same(journal.as_ref(), &model).await;
        }
    }
    assert_same(journal.as_ref(), &model).await;
    let events = u64::try_from(model.head.0).unwrap();
    assert!(matches!(journal.verify().await.unwrap(), Verification::Intact { events: found, .. } if found == events));
}
