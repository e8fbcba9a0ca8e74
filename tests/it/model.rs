//! Random histories of the router against a small model of the protocol page.
//!
//! No sockets and no clock: the test plays the writer and all peers, time is a number, and only the journal is real. What
//! the router decides is checked event by event and effect by effect against the model, and after each batch four accounts
//! of what is true are compared: the model's, the router's rows, the rows read back from the journal, and an independent
//! fold of the journal's events.
//!
//! `MODEL_SEED=<n>` repeats one history; `MODEL_RUNS=<n>` plays more of them.

mod admission;
mod canonical;
mod cast;
mod commands;
mod driver;
mod duties;
mod effects;
mod events;
mod fold;
mod pause;
mod requests;
mod scene;
mod sockets;
mod state;

use std::time::Duration;

use agent_router::invocation::Policy;
use agent_router::router::Command;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::cast::Cast;
use self::driver::Driver;
use crate::journal::store::{BackEnd, on_each_back_end};

/// Histories that each test plays unless it is told otherwise.
const RUNS: u64 = 20;

/// The same on Postgres, where each commit takes longer; what is decided does not depend on it.
const RUNS_ON_POSTGRES: u64 = 4;

/// Batches in a history.
const BATCHES: usize = 150;

/// What kind of history it is to be.
#[derive(Clone, Copy)]
struct Mood {
    /// How many batches in a hundred cannot be committed.
    failing: u32,
    /// Starts in a thousand batches.
    restarts: u32,
    most_commands: usize,
}

on_each_back_end! {
    whatever_happens_the_router_keeps_to_the_protocol,
    a_batch_that_fails_leaves_no_trace_and_a_restart_loses_nothing,
}

async fn whatever_happens_the_router_keeps_to_the_protocol(back_end: BackEnd) {
    play(Mood { failing: 2, restarts: 15, most_commands: 8 }, back_end).await;
}

async fn a_batch_that_fails_leaves_no_trace_and_a_restart_loses_nothing(back_end: BackEnd) {
    play(Mood { failing: 30, restarts: 60, most_commands: 4 }, back_end).await;
}

async fn play(mood: Mood, back_end: BackEnd) {
    let number = |name| std::env::var(name).ok().map(|value: String| value.parse::<u64>().expect("a number"));
    let runs = if back_end == BackEnd::Postgres { RUNS_ON_POSTGRES } else { RUNS };
    let (first, runs) = match number("MODEL_SEED") {
        Some(seed) => (seed, number("MODEL_RUNS").unwrap_or(1)),
        None => (rand::random_range(0..1_000_000_000), number("MODEL_RUNS").unwrap_or(runs)),
    };
    println!("histories with MODEL_SEED={first} and the {} that follow", runs - 1);
    for seed in first..first + runs {
        let _witness = Witness { seed };
        history(seed, mood, back_end).await;
    }
}

/// Says which history it was that failed.
struct Witness {
    seed: u64,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat this history with MODEL_SEED={}", self.seed);
        }
    }
}

async fn history(seed: u64, mood: Mood, back_end: BackEnd) {
    let mut random = StdRng::seed_from_u64(seed);
    let policy = policy(&mut random);
    let limits = [
        policy.default_ttl,
        policy.default_deadline,
        policy.agent_grace,
        policy.resume_grace,
        policy.answer_ttl,
        policy.late_answer_ttl,
        policy.idempotency_ttl,
        policy.drain_delay,
    ];
    let mut driver = Driver::start(policy, back_end).await;
    let mut cast = Cast::new(random);
    for batch in 0..BATCHES {
        driver.now = cast.pause(driver.now, driver.next_due(), &limits);
        if cast.draw(|random| random.random_ratio(mood.restarts, 1000)) {
            if cast.draw(|random| random.random_ratio(1, 3)) {
                let fails = cast.draw(|random| random.random_ratio(mood.failing, 100));
                driver.process(vec![Command::Shutdown], Vec::new(), fails).await;
                for _ in 0..cast.draw(|random| random.random_range(0..4)) {
                    driver.now = cast.pause(driver.now, driver.next_due(), &limits);
                    play_batch(&mut driver, &mut cast, mood).await;
                }
            }
            cast.lose_all();
            driver.restart().await;
            continue;
        }
        play_batch(&mut driver, &mut cast, mood).await;
        if batch % 25 == 24 {
            let outcome = driver.process(Vec::new(), Vec::new(), false).await;
            cast.take(&outcome.taken, outcome.effects);
            driver.compare_all().await;
        }
    }
    finale(&mut driver).await;
}

async fn play_batch(driver: &mut Driver, cast: &mut Cast, mood: Mood) {
    let count = cast.draw(|random| random.random_range(0..=mood.most_commands));
    let mut commands: Vec<Command> = (0..count).filter_map(|_| cast.next(&driver.model)).collect();
    let ahead = commands.split_off(cast.draw(|random| random.random_range(0..=commands.len())));
    let fails = cast.draw(|random| random.random_ratio(mood.failing, 100));
    let outcome = driver.process(commands, ahead, fails).await;
    cast.take(&outcome.taken, outcome.effects);
}

/// In the end everything that was accepted has come to one end.
async fn finale(driver: &mut Driver) {
    driver.process(Vec::new(), Vec::new(), false).await;
    for _ in 0..3 {
        driver.now = driver.now + 2 * driver.model.limits.max_deadline;
        driver.process(Vec::new(), Vec::new(), false).await;
    }
    assert!(driver.model.calls.values().all(state::Call::is_settled), "something never ends");
    driver.compare_all().await;
    driver.restart().await;
    driver.compare_all().await;
}

/// Limits that are met often.
fn policy(random: &mut StdRng) -> Policy {
    let millis = Duration::from_millis;
    Policy {
        default_ttl: millis(2000),
        default_deadline: millis(random.random_range(1000..9000)),
        max_deadline: millis(30_000),
        default_max_attempts: random.random_range(1..3),
        max_max_attempts: 3,
        max_deliveries: random.random_range(1..4),
        agent_grace: millis(3000),
        resume_grace: millis(1500),
        answer_ttl: millis(random.random_range(500..10_000)),
        late_answer_ttl: millis(random.random_range(0..20_000)),
        max_plain: random.random_range(1..5),
        idempotency_ttl: millis(random.random_range(500..8000)),
        drain_delay: millis(500),
        max_in_flight: random.random_range(1..6),
        max_queued: random.random_range(1..7),
        max_queued_bytes: random.random_range(200..1000),
        max_open: random.random_range(5..40),
        max_frame_bytes: 1 << 20,
        refusals_per_second: 3,
        secured: random.random_ratio(1, 3),
    }
}
