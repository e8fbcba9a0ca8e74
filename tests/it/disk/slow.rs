//! A disk that takes half a second for each sync: everything takes longer, and nothing goes wrong.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};

use super::play::{Play, SETTINGS, check};
use super::rounds;
use crate::chaos::seed;
use crate::support::Router;
use crate::support::strace::{Injection, SYNCS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_half_a_second_a_sync_only_takes_longer() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut router = Router::on_a_file(SETTINGS).await;
    let slow = Injection::into(router.pid(), SYNCS, "delay_enter=500000", &[]);
    let began = Instant::now();
    let play = Play::begin(&router, &mut random);
    sleep(Duration::from_secs(1) * u32::try_from(rounds(6)).unwrap()).await;
    let notes = play.end().await;
    let (took, syncs) = (began.elapsed(), slow.count());
    assert_eq!(router.get_as("", "/health/ready").await.status, 200, "half a second is not too long");
    drop(slow);
    let (seen, events) = check(&mut router, &notes).await;
    eprintln!(
        "{syncs} syncs in {took:?}: {} receipts, {} ends, {} deliveries, {events} events",
        seen.receipts, seen.ends, seen.deliveries
    );
    assert!(syncs > 5 && seen.receipts > 10 && seen.ends > 10, "too little happened");
}
