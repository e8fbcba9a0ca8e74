//! A disk that takes half a second for each sync: everything takes longer, and nothing goes wrong.

use tokio::time::Instant;

use super::play::{SETTINGS, begin, check};
use crate::faults::{Length, seeded};
use crate::support::Router;
use crate::support::strace::{Injection, SYNCS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_half_a_second_a_sync_only_takes_longer() {
    let mut random = seeded();
    let length = Length::chosen(1);
    let router = Router::on_a_file(&SETTINGS).await;
    let slow = Injection::into(router.pid(), SYNCS, "delay_enter=500000", &[]);
    let began = Instant::now();
    let mut load = begin(&router, length, &mut random);
    load.goes_on(30 * length.cycles).await;
    let (took, syncs, progress) = (began.elapsed(), slow.count(), load.progress());
    assert_eq!(router.get_as("", "/health/ready").await.status, 200, "half a second is not too long");
    drop(slow);
    let seen = check(&router, load).await;
    eprintln!("{syncs} syncs in {took:?}, {} ends meanwhile, {} refused; {seen}", progress.ended, progress.refused);
    assert!(syncs > 5, "it was not slow");
}
