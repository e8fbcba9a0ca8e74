//! Peers that come and go all the time: agents whose connections last a moment, and masters that leave before every answer.

use super::checker::check_all;
use super::load::{Callers, Load, Pace, SETTINGS, Scale};
use super::record::Record;
use super::{Length, seeded};
use crate::support::Router;

/// How many connections, or answers, one cycle stands for.
const EACH: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_flap() {
    let mut random = seeded();
    let length = Length::chosen(15);
    let router = Router::with(&SETTINGS).await;
    let pace = Pace { there: 20..500, away: 0..50 };
    let mut load = Load::start(vec![router.address()], length.scale, &pace, &mut random);
    load.reconnects(length.cycles * EACH).await;
    let progress = load.progress();
    let notes = load.stop().await;
    let mut record = Record::default();
    let findings = check_all(&router, &mut record, &notes).await;
    eprintln!("{progress:?}; {}", findings.seen);
    findings.expect_none();
    assert!(findings.seen.deliveries > 50 && findings.seen.repeated > 0, "too little happened");
    assert!(record.count("agent.registered") > length.cycles * EACH / 2, "they did not get so far as to register");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_leave_before_every_answer() {
    let mut random = seeded();
    let length = Length::chosen(15);
    let router = Router::with(&SETTINGS).await;
    let scale = Scale { callers: Callers::Leaving, ..length.scale };
    let mut load = Load::start(vec![router.address()], scale, &Pace::default(), &mut random);
    load.goes_on(length.cycles * EACH).await;
    let notes = load.stop().await;
    let mut record = Record::default();
    let findings = check_all(&router, &mut record, &notes).await;
    eprintln!("{} calls left alone and read over HTTP; {}", record.count("invocation.accepted"), findings.seen);
    findings.expect_none();
    assert!(findings.seen.ends >= length.cycles * EACH && findings.seen.answered > 50, "too little happened");
}
