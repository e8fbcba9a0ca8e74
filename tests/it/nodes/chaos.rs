//! Three routers under load, of which one is killed or stopped, or whose connections break, or whose database crashes.
//! `NODES_ROUNDS` says how often (4 without it, each kind once), `CHAOS_SEED` repeats a run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::chaos::actors::{Agent, Caller, Notes, Stage};
use crate::chaos::checks::{self, ended};
use crate::chaos::seed;
use crate::support::postgres::Cluster;
use crate::support::{Journal, PATIENCE, Router, agent_id, printed};

const AGENTS: usize = 4;
const CALLERS: usize = 6;
/// The whole journal is verified each time, and grows.
const VERIFIED: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP until past its lease; then it wakes.
    Sleep,
    /// Each of its connections to the database is broken.
    Terminate,
    /// The database crashes and recovers.
    Restart,
}

const FAULTS: [Fault; 4] = [Fault::Kill, Fault::Sleep, Fault::Terminate, Fault::Restart];

struct Theatre {
    // Before the cluster: the routers go first.
    routers: Vec<Router>,
    cluster: Cluster,
    agents: Vec<String>,
    random: StdRng,
}

impl Theatre {
    async fn open(mut random: StdRng) -> Self {
        let cluster = Cluster::start();
        let database = Arc::new(cluster.database());
        let settings = [
            ("RESUME_GRACE", "500ms"),
            ("AGENT_GRACE", "60s"),
            ("DRAIN_DELAY", "50ms"),
            ("DEFAULT_TTL", "3s"),
            ("DEFAULT_DEADLINE", "6s"),
        ];
        let mut routers = Vec::new();
        for node in ["one", "two", "three"] {
            routers.push(Router::on(Arc::clone(&database), node, &settings).await);
        }
        let agents = (0..AGENTS).map(|_| agent_id()).collect();
        // What follows does not depend on how the routers started.
        let random = StdRng::from_rng(&mut random);
        Self { routers, cluster, agents, random }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.routers.iter().map(Router::address).collect()
    }

    /// A play with a fault in the middle; returns what those who played received.
    async fn play(&mut self, fault: Fault) -> Vec<Notes> {
        let (addresses, stage_addresses) = watch::channel(self.addresses());
        let (playing, stage_playing) = watch::channel(true);
        let stage = Stage { addresses: stage_addresses, playing: stage_playing };
        let mut actors = JoinSet::new();
        for (index, id) in self.agents.iter().enumerate() {
            let random = StdRng::from_rng(&mut self.random);
            let agent = Agent { id: id.clone(), is_version_2: index % 2 == 0, random };
            actors.spawn(agent.play(stage.clone()));
        }
        for index in 0..CALLERS {
            let random = StdRng::from_rng(&mut self.random);
            let caller = Caller { index: index % 3, agents: self.agents.clone(), random };
            actors.spawn(caller.play(stage.clone()));
        }

        sleep(Duration::from_millis(self.random.random_range(500..1500))).await;
        let victim = self.random.random_range(0..self.routers.len());
        eprintln!("{fault:?} of {victim}");
        match fault {
            Fault::Kill => {
                self.routers[victim].kill();
                addresses.send_replace(self.others(victim));
                sleep(Duration::from_millis(self.random.random_range(0..2000))).await;
                self.routers[victim].start_again().await;
                addresses.send_replace(self.addresses());
            }
            Fault::Sleep => {
                self.routers[victim].pause();
                sleep(Duration::from_secs(20)).await;
                self.routers[victim].resume();
            }
            Fault::Terminate => {
                for _ in 0..3 {
                    self.routers[victim].database().terminate_all().await;
                    sleep(Duration::from_millis(self.random.random_range(0..500))).await;
                }
            }
            Fault::Restart => {
                self.cluster.crash().await;
                sleep(Duration::from_millis(self.random.random_range(0..3000))).await;
                self.cluster.start_again().await;
            }
        }
        sleep(Duration::from_secs(2)).await;
        playing.send_replace(false);
        actors.join_all().await
    }

    fn others(&self, victim: usize) -> Vec<SocketAddr> {
        let others = self.routers.iter().enumerate().filter(|(index, _)| *index != victim);
        others.map(|(_, router)| router.address()).collect()
    }

    /// Waits until each is as it should be.
    async fn recovered(&self) {
        let deadline = Instant::now() + PATIENCE;
        for router in &self.routers {
            loop {
                let ready = router.get_as("", "/health/ready").await;
                if ready.status == 200 {
                    break;
                }
                assert!(Instant::now() < deadline, "{}", ready.text);
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// So many faults, each kind once before any comes again.
fn faults(random: &mut StdRng) -> Vec<Fault> {
    let rounds = std::env::var("NODES_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(FAULTS.len());
    let mut faults = Vec::new();
    while faults.len() < rounds {
        let mut all = FAULTS;
        all.shuffle(random);
        faults.extend(all);
    }
    faults.truncate(rounds);
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_happens_to_one_of_three_routers() {
    let mut random = StdRng::seed_from_u64(seed());
    let faults = faults(&mut random);
    let mut theatre = Theatre::open(random).await;
    let (mut journal, mut notes) = (Journal::default(), Vec::new());
    for (round, fault) in faults.into_iter().enumerate() {
        let before = Instant::now();
        notes.extend(theatre.play(fault).await);
        theatre.recovered().await;
        ended(&theatre.routers[0], &mut journal).await;
        let seen = checks::all(&journal.events, &notes);
        let verified = theatre.routers[0].run_within(&["journal", "verify"], VERIFIED);
        assert!(verified.status.success(), "{}", printed(&verified));
        eprintln!(
            "round {round}, {fault:?}: {} receipts, {} ends, {} invocations delivered so far, {} events; {:?}",
            seen.receipts,
            seen.ends,
            seen.deliveries,
            journal.events.len(),
            before.elapsed()
        );
        assert!(seen.receipts > 20 * (round + 1) && seen.ends > 20 * (round + 1), "too little happened");
        if matches!(fault, Fault::Sleep) {
            let count = |kind: &str| journal.events.iter().filter(|event| event["kind"] == kind).count();
            assert!(count("node.lost") > 0 && count("node.returned") > 0, "nobody missed the one that slept");
        }
    }
}
