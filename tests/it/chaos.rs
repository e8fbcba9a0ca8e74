//! Agents and callers that come and go, and a router that is killed under them: whatever any of them received is in the
//! journal afterwards, and every accepted invocation has exactly one end.

pub(crate) mod actors;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::{PATIENCE, Router, agent_id, printed};
use actors::{Agent, Caller, Notes, Stage};

const AGENTS: usize = 4;
const CALLERS: usize = 3;
const KILLS: usize = 5;
const ENDS: [&str; 5] =
    ["invocation.completed", "invocation.failed", "invocation.expired", "invocation.timed_out", "invocation.cancelled"];

/// The seed from `CHAOS_SEED`, or a new one; printed, so that a failure can be had again.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("CHAOS_SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whoever_is_killed() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut router = Router::with(&[
        ("RESUME_GRACE", "500ms"),
        ("AGENT_GRACE", "30s"),
        ("DRAIN_DELAY", "50ms"),
        ("DEFAULT_TTL", "3s"),
        ("DEFAULT_DEADLINE", "6s"),
    ])
    .await;
    let (address, stage_address) = watch::channel(router.address());
    let (playing, stage_playing) = watch::channel(true);
    let ids: Vec<_> = (0..AGENTS).map(|_| agent_id()).collect();
    let stage = Stage { address: stage_address, playing: stage_playing };
    let mut actors = JoinSet::new();
    for (index, id) in ids.iter().enumerate() {
        let agent = Agent { id: id.clone(), is_version_2: index % 2 == 0, random: StdRng::from_rng(&mut random) };
        actors.spawn(agent.play(stage.clone()));
    }
    for index in 0..CALLERS {
        let caller = Caller { index, agents: ids.clone(), random: StdRng::from_rng(&mut random) };
        actors.spawn(caller.play(stage.clone()));
    }

    for _ in 0..KILLS {
        sleep(Duration::from_millis(random.random_range(200..900))).await;
        if random.random_bool(0.75) {
            router.kill();
        } else {
            router.stop().await;
        }
        sleep(Duration::from_millis(random.random_range(0..300))).await;
        router.start_again().await;
        address.send_replace(router.address());
    }
    sleep(Duration::from_millis(500)).await;
    playing.send_replace(false);
    let notes: Vec<Notes> = actors.join_all().await;

    let journal = when_all_have_ended(&router).await;
    holds_what_was_received(&journal, &notes);
    router.stop().await;
    let verified = router.run(&["journal", "verify"]);
    assert!(verified.status.success(), "{}", printed(&verified));
}

fn kind(event: &Value) -> &str {
    event["kind"].as_str().expect("a kind")
}

fn invocation(event: &Value) -> &str {
    event["invocation_id"].as_str().unwrap_or_default()
}

/// The name that the caller gave the call, from wherever it stands in the payload.
fn call(event: &Value) -> String {
    let payload = event["payload"].to_string();
    let (_, name) = payload.split_once(r#""call":""#).expect("every call has a name");
    name.chars().take_while(|&sign| sign != '"').collect()
}

/// The whole journal, once each invocation has an end.
async fn when_all_have_ended(router: &Router) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let journal = router.history("").await;
        let accepted: BTreeSet<_> =
            journal.iter().filter(|event| kind(event) == "invocation.accepted").map(invocation).collect();
        let ended: BTreeSet<_> = journal.iter().filter(|event| ENDS.contains(&kind(event))).map(invocation).collect();
        if accepted.is_subset(&ended) {
            return journal;
        }
        let open = accepted.difference(&ended).collect::<Vec<_>>();
        assert!(Instant::now() < deadline, "{} have no end: {open:?}", open.len());
        sleep(Duration::from_millis(200)).await;
    }
}

fn holds_what_was_received(journal: &[Value], notes: &[Notes]) {
    for (index, event) in journal.iter().enumerate() {
        assert_eq!(event["position"], index + 1);
    }
    let mut lives: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for event in journal.iter().filter(|event| !invocation(event).is_empty()) {
        lives.entry(invocation(event)).or_default().push(event);
    }
    let events = |id: &str, wanted: &str| {
        lives.get(id).map_or(0, |events| events.iter().filter(|event| kind(event) == wanted).count())
    };
    for (id, events) in &lives {
        let accepted = events.iter().filter(|event| kind(event) == "invocation.accepted").count();
        let ends: Vec<_> = events.iter().map(|event| kind(event)).filter(|kind| ENDS.contains(kind)).collect();
        assert!(accepted == 0 || ends.len() == 1, "{id} has the ends {ends:?}");
    }

    let accepted = journal.iter().filter(|event| kind(event) == "invocation.accepted");
    let calls: BTreeMap<_, _> = accepted.map(|event| (call(event), invocation(event))).collect();
    let mut received = (0, 0, 0);
    for note in notes {
        for id in &note.receipts {
            assert_eq!(events(id, "invocation.accepted"), 1, "the receipt of {id} is in the journal");
            received.0 += 1;
        }
        for (id, end) in &note.ends {
            let of_its_kind = match end.as_str() {
                "" => events(id, "invocation.completed"),
                "Agent has been unregistered" | "on purpose" => events(id, "invocation.failed"),
                "Agent is NOT active" => events(id, "invocation.expired") + events(id, "invocation.refused"),
                "Request timed out" => events(id, "invocation.timed_out"),
                other => panic!("{id} ended with {other:?}"),
            };
            assert_eq!(of_its_kind, 1, "{id} ended with {end:?}, its events are {:?}", lives.get(id.as_str()));
            received.1 += 1;
        }
        for (call, deliveries) in &note.deliveries {
            let id = calls.get(call).unwrap_or_else(|| panic!("{call} was delivered and never accepted"));
            let journaled = events(id, "invocation.delivered");
            assert!(*deliveries <= journaled, "{id} was delivered {deliveries} times, the journal has {journaled}");
            received.2 += 1;
        }
        assert!(note.falsely_first.is_empty(), "delivered as first more than once: {:?}", note.falsely_first);
    }
    let (receipts, ends, deliveries) = received;
    eprintln!("{receipts} receipts, {ends} ends, {deliveries} invocations delivered, {} events", journal.len());
    assert!(receipts > 20 && ends > 20 && deliveries > 20, "too little happened");
}
