//! Random histories of several routers on one journal.
//!
//! No sockets, no clock and no database: the test plays the writers of all routers, all peers, and the journal. Turns come in
//! random order; some are overtaken and begin anew, some commits fail, routers die, stop, start again, or are taken for
//! lost while they go on. `NODES_SEED=<n>` repeats one history; `NODES_RUNS=<n>` plays more of them.

mod checks;
mod peers;
mod scenes;
mod shared;
mod turns;
mod world;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::world::World;

/// Histories that are played unless the test is told otherwise.
const RUNS: u64 = 30;

/// Turns in a history.
const TURNS: usize = 400;

#[test]
fn whatever_routers_do_together_each_invocation_ends_once_and_its_caller_is_told() {
    let number = |name| std::env::var(name).ok().map(|value: String| value.parse::<u64>().expect("a number"));
    let (first, runs) = match number("NODES_SEED") {
        Some(seed) => (seed, number("NODES_RUNS").unwrap_or(1)),
        None => (rand::random_range(0..1_000_000_000), number("NODES_RUNS").unwrap_or(RUNS)),
    };
    println!("histories with NODES_SEED={first} and the {} that follow", runs - 1);
    for seed in first..first + runs {
        let _witness = Witness { seed };
        history(seed);
    }
}

/// Says which history it was that failed.
struct Witness {
    seed: u64,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat this history with NODES_SEED={}", self.seed);
        }
    }
}

fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let nodes = random.random_range(2..=4);
    let mut world = World::new(nodes, random);
    for _ in 0..TURNS {
        let pause = match world.draw(20) {
            0 => Duration::from_secs(u64::from(world.draw(40))),
            1..4 => Duration::from_millis(u64::from(world.draw(3000))),
            _ => Duration::from_micros(u64::from(world.draw(2000))),
        };
        world.now = world.now + pause;
        world.anything();
        if world.draw(100) == 0 {
            world.rest();
        }
    }
    world.finale();
}
