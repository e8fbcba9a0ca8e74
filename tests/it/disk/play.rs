//! Who plays with a router while its disk fails, and what must hold afterwards.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::chaos::actors::{Agent, Caller, Notes, Stage};
use crate::chaos::checks::{self, Seen, ended};
use crate::support::{BACKEND_KEY, Journal, PATIENCE, Router, agent_id, printed};

const AGENTS: usize = 4;
const CALLERS: usize = 3;

/// A long run makes a long journal.
const VERIFIED: Duration = Duration::from_mins(5);

/// With these, everything ends soon.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("RESUME_GRACE", "500ms"),
    ("AGENT_GRACE", "30s"),
    ("DRAIN_DELAY", "50ms"),
    ("DEFAULT_TTL", "3s"),
    ("DEFAULT_DEADLINE", "6s"),
];

/// Agents and callers, until they are told to end.
pub(super) struct Play {
    addresses: watch::Sender<Vec<std::net::SocketAddr>>,
    playing: watch::Sender<bool>,
    actors: JoinSet<Notes>,
}

impl Play {
    pub(super) fn begin(router: &Router, random: &mut StdRng) -> Self {
        let (addresses, stage_addresses) = watch::channel(vec![router.address()]);
        let (playing, stage_playing) = watch::channel(true);
        let stage = Stage { addresses: stage_addresses, playing: stage_playing };
        let agents: Vec<_> = (0..AGENTS).map(|_| agent_id()).collect();
        let mut actors = JoinSet::new();
        for (index, id) in agents.iter().enumerate() {
            let random = StdRng::from_rng(random);
            actors.spawn(Agent { id: id.clone(), is_version_2: index % 2 == 0, random }.play(stage.clone()));
        }
        for index in 0..CALLERS {
            let random = StdRng::from_rng(random);
            actors.spawn(Caller { index, agents: agents.clone(), random }.play(stage.clone()));
        }
        Self { addresses, playing, actors }
    }

    /// The router has another address now.
    pub(super) fn move_to(&self, router: &Router) {
        self.addresses.send_replace(vec![router.address()]);
    }

    /// What is received from now on, nobody notes.
    pub(super) fn close_the_book(&self) {
        self.playing.send_replace(false);
    }

    /// What they have noted.
    pub(super) async fn end(self) -> Vec<Notes> {
        self.close_the_book();
        self.actors.join_all().await
    }
}

/// Everything that was noted is in the router's journal, which is sound; stops the router.
pub(super) async fn check(router: &mut Router, notes: &[Notes]) -> (Seen, usize) {
    let mut journal = Journal::default();
    ended(router, &mut journal).await;
    router.stop().await;
    let verified = router.run_within(&["journal", "verify"], VERIFIED);
    assert!(verified.status.success(), "{}", printed(&verified));
    (checks::all(&journal.events, notes), journal.events.len())
}

/// Waits until the router says that its journal takes commits, or that it takes none.
pub(super) async fn wait_until_ready(router: &Router, ready: bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = router.get_as("", "/health/ready").await;
        if (answer.status == 200) == ready {
            assert!(ready || answer.text.contains("journal_unavailable"), "{}", answer.text);
            return;
        }
        assert!(Instant::now() < deadline, "{}", answer.text);
        sleep(Duration::from_millis(20)).await;
    }
}

/// While the journal takes no commits, an invocation is refused and the history is read.
pub(super) async fn only_reads_are_served(router: &Router) {
    let invocation = json!({"agent_id": agent_id(), "payload": {}, "ttl_ms": 1000});
    let refused = router.post_as(BACKEND_KEY, "/v1/invocations", invocation).await;
    assert_eq!(refused.problem(503), "journal_unavailable");
    assert_eq!(router.get("/v1/history?limit=1").await.0, 200);
}
