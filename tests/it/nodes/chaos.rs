//! Three routers under load, of which one is killed or stopped, or whose connections break, or whose database crashes.
//! `FAULT_CYCLES` says how often, under the whole load (4 without it, each kind once, under the short one), `FAULT_SEED`
//! repeats a run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::faults::checker::{Seen, check_all};
use crate::faults::load::{Load, Pace, SETTINGS, Scale};
use crate::faults::notes::Notes;
use crate::faults::record::Record;
use crate::faults::{Length, seeded};
use crate::support::postgres::Cluster;
use crate::support::{PATIENCE, Router};

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
    scale: Scale,
    random: StdRng,
}

impl Theatre {
    async fn open(scale: Scale, mut random: StdRng) -> Self {
        let cluster = Cluster::start();
        let database = Arc::new(cluster.database());
        let mut routers = Vec::new();
        for node in ["one", "two", "three"] {
            routers.push(Router::on(Arc::clone(&database), node, &SETTINGS).await);
        }
        // What follows does not depend on how the routers started.
        let random = StdRng::from_rng(&mut random);
        Self { routers, cluster, scale, random }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.routers.iter().map(Router::address).collect()
    }

    /// An act with a fault in the middle; returns what those who played wrote down.
    async fn play(&mut self, fault: Fault) -> Vec<Notes> {
        let mut load = Load::start(self.addresses(), self.scale, &Pace::default(), &mut self.random);
        load.goes_on(20).await;
        sleep(Duration::from_millis(self.random.random_range(0..1000))).await;
        let victim = self.random.random_range(0..self.routers.len());
        eprintln!("{fault:?} of {victim}");
        match fault {
            Fault::Kill => {
                self.routers[victim].kill();
                load.moves_to(self.others(victim));
                sleep(Duration::from_millis(self.random.random_range(0..2000))).await;
                self.routers[victim].start_again().await;
                load.moves_to(self.addresses());
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
        load.goes_on(20).await;
        load.stop().await
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
fn faults(count: usize, random: &mut StdRng) -> Vec<Fault> {
    let mut faults = Vec::new();
    while faults.len() < count {
        let mut all = FAULTS;
        all.shuffle(random);
        faults.extend(all);
    }
    faults.truncate(count);
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_happens_to_one_of_three_routers() {
    let mut random = seeded();
    let length = Length::chosen(FAULTS.len());
    let faults = faults(length.cycles, &mut random);
    let mut theatre = Theatre::open(length.scale, random).await;
    let (mut record, mut total) = (Record::default(), Seen::default());
    for (round, fault) in faults.into_iter().enumerate() {
        let before = Instant::now();
        let notes = theatre.play(fault).await;
        theatre.recovered().await;
        let findings = check_all(&theatre.routers[0], &mut record, &notes).await;
        eprintln!("round {round}, {fault:?}: {}; {:?}", findings.seen, before.elapsed());
        findings.expect_none();
        total.add(findings.seen);
        record.begin_anew();
        if matches!(fault, Fault::Sleep) {
            let count = |kind| record.count(kind);
            assert!(count("node.lost") > 0 && count("node.returned") > 0, "nobody missed the one that slept");
        }
    }
    eprintln!("{} rounds; {total}", length.cycles);
    assert!(total.receipts > 20 * length.cycles && total.ends > 20 * length.cycles, "too little happened");
}
