//! Agents and callers that come and go, and a router that is killed under them: whatever any of them received is in the
//! journal afterwards, and every accepted invocation has exactly one end.

pub(crate) mod actors;
pub(crate) mod checks;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{Journal, Router, agent_id, printed};
use actors::{Agent, Caller, Notes, Stage};
use checks::{Seen, ended};

const AGENTS: usize = 4;
const CALLERS: usize = 3;
const KILLS: usize = 5;

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
    let (addresses, stage_addresses) = watch::channel(vec![router.address()]);
    let (playing, stage_playing) = watch::channel(true);
    let ids: Vec<_> = (0..AGENTS).map(|_| agent_id()).collect();
    let stage = Stage { addresses: stage_addresses, playing: stage_playing };
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
        addresses.send_replace(vec![router.address()]);
    }
    sleep(Duration::from_millis(500)).await;
    playing.send_replace(false);
    let notes: Vec<Notes> = actors.join_all().await;

    let mut journal = Journal::default();
    ended(&router, &mut journal).await;
    let journal = journal.events;
    let Seen { receipts, ends, deliveries } = checks::all(&journal, &notes);
    eprintln!("{receipts} receipts, {ends} ends, {deliveries} invocations delivered, {} events", journal.len());
    assert!(receipts > 20 && ends > 20 && deliveries > 20, "too little happened");
    router.stop().await;
    let verified = router.run(&["journal", "verify"]);
    assert!(verified.status.success(), "{}", printed(&verified));
}
