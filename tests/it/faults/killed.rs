//! kill -9 of the router at random moments, and a start on the same journal.

use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep};

use super::checker::{Seen, check_all};
use super::load::{Load, Pace, SETTINGS};
use super::record::Record;
use super::{Length, seeded};
use crate::support::Router;

/// How many cycles go by between two checks.
const ACT: usize = 10;
/// How soon a router is ready after it was started.
const READY: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_however_often_the_router_is_killed() {
    let mut random = seeded();
    let length = Length::chosen(4);
    let mut router = Router::with(&SETTINGS).await;
    let (mut record, mut total) = (Record::default(), Seen::default());
    let (mut left, mut orderly, mut slowest) = (length.cycles, 0, Duration::ZERO);
    while left > 0 {
        let cycles = left.min(ACT);
        left -= cycles;
        let mut load = Load::start(vec![router.address()], length.scale, &Pace::default(), &mut random);
        for _ in 0..cycles {
            load.goes_on(20).await;
            sleep(Duration::from_millis(random.random_range(0..1_000))).await;
            if random.random_bool(0.2) {
                // The next start is killed soon.
                router.restart().await;
                load.moves_to(vec![router.address()]);
                orderly += 1;
            }
            router.kill();
            sleep(Duration::from_millis(random.random_range(0..300))).await;
            let started = Instant::now();
            router.start_again().await;
            while router.get_as("", "/health/ready").await.status != 200 {
                sleep(Duration::from_millis(5)).await;
            }
            slowest = slowest.max(started.elapsed());
            load.moves_to(vec![router.address()]);
        }
        load.goes_on(20).await;
        let progress = load.progress();
        let notes = load.stop().await;
        let findings = check_all(&router, &mut record, &notes).await;
        eprintln!("{} cycles left; {}; {progress:?}", left, findings.seen);
        findings.expect_none();
        total.add(findings.seen);
        record.begin_anew();
    }
    eprintln!(
        "{} kills, {orderly} orderly restarts; {total}; ready {slowest:?} after a start at the most",
        length.cycles
    );
    assert!(total.receipts > 20 * length.cycles && total.ends > 20 * length.cycles, "too little happened");
    assert_eq!(record.count("node.started"), length.cycles + orderly + 1);
    assert!(slowest < READY, "ready after {slowest:?}");
}
