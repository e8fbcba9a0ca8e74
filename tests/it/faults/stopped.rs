//! SIGSTOP, ten seconds in which nothing answers, and SIGCONT.

use std::time::Duration;

use tokio::time::sleep;

use super::checker::check_all;
use super::load::{Load, Pace, SETTINGS};
use super::record::Record;
use super::{Length, seeded};
use crate::support::Router;

const STILL: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_stood_still_goes_on() {
    let mut random = seeded();
    let length = Length::chosen(1);
    let router = Router::with(&SETTINGS).await;
    let mut record = Record::default();
    for cycle in 0..length.cycles {
        let mut load = Load::start(vec![router.address()], length.scale, &Pace::default(), &mut random);
        load.goes_on(20).await;
        router.pause();
        sleep(STILL).await;
        let before = load.progress();
        router.resume();
        load.goes_on(50).await;
        let after = load.progress();
        let notes = load.stop().await;
        let findings = check_all(&router, &mut record, &notes).await;
        eprintln!("cycle {cycle}: {}; at SIGCONT {before:?}, then {after:?}", findings.seen);
        findings.expect_none();
        record.begin_anew();
    }
    assert_eq!(record.count("node.started"), 1, "it was one process all the time");
}
