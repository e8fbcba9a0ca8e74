//! The disk answers with errors: a router that cannot know what is on it ends, one that can refuses what it cannot keep.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::play::{Play, SETTINGS, check, only_reads_are_served, wait_until_ready};
use super::rounds;
use crate::chaos::seed;
use crate::support::Router;
use crate::support::strace::{Injection, SYNCS};

/// All ways to write to a file that SQLite has.
const WRITES: &str = "write,pwrite64";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_ends_when_a_sync_fails() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut router = Router::on_a_file(SETTINGS).await;
    let play = Play::begin(&router, &mut random);
    let (rounds, mut injected) = (rounds(2), 0);
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(100..800))).await;
        let how = format!("error=EIO:when={}+", random.random_range(1..4));
        let failing = Injection::into(router.pid(), SYNCS, &how, &[]);
        router.failed().await;
        injected += failing.count();
        drop(failing);
        router.start_again().await;
        play.move_to(&router);
    }
    assert_eq!(
        router.log().matches("the journal failed in the middle of a commit").count(),
        rounds,
        "{}",
        router.log()
    );
    sleep(Duration::from_millis(500)).await;
    let (seen, events) = check(&mut router, &play.end().await).await;
    eprintln!(
        "{rounds} ends, {injected} syncs failed: {} receipts, {} ends, {events} events",
        seen.receipts, seen.ends
    );
    assert!(seen.receipts > 10 * rounds && seen.ends > 10 * rounds, "too little happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_refuses_while_writes_fail_and_goes_on_when_they_do_not() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut router = Router::on_a_file(SETTINGS).await;
    let play = Play::begin(&router, &mut random);
    let (rounds, mut injected, pid) = (rounds(2), 0, router.pid());
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(100..800))).await;
        let folder = router.dir().to_owned();
        let files = ["journal.db", "journal.db-wal", "journal.db-shm"].map(|name| folder.join(name));
        let how = format!("error=EIO:when={}+", random.random_range(1..100));
        let failing = Injection::into(pid, WRITES, &how, &files.each_ref().map(AsRef::as_ref));
        wait_until_ready(&router, false).await;
        only_reads_are_served(&router).await;
        sleep(Duration::from_millis(random.random_range(0..1000))).await;
        injected += failing.count();
        drop(failing);
        wait_until_ready(&router, true).await;
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(router.pid(), pid);
    let (seen, events) = check(&mut router, &play.end().await).await;
    eprintln!(
        "{rounds} outages, {injected} writes failed: {} receipts, {} ends, {events} events",
        seen.receipts, seen.ends
    );
    assert!(seen.receipts > 10 * rounds && seen.ends > 10 * rounds, "too little happened");
}
