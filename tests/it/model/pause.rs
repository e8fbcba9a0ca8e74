//! How time passes between two batches.

use std::time::Duration;

use agent_router::clock::Timestamp;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::cast::Cast;

impl Cast {
    /// How long until the next batch: mostly nothing, else to about where something is due.
    pub(super) fn pause(&mut self, now: Timestamp, next_due: Option<Timestamp>, limits: &[Duration]) -> Timestamp {
        let micro = Duration::from_micros(1);
        match (self.draw(|random| random.random_range(0..20)), next_due) {
            (0..10, _) => now + Duration::from_micros(self.draw(|random| random.random_range(0..2000))),
            (10..12, Some(due)) => due.max(now),
            (12, Some(due)) => (due - micro).max(now),
            (13, Some(due)) => (due + micro).max(now),
            (14..17, _) => now + Duration::from_millis(self.draw(|random| random.random_range(1..700))),
            (17, _) => now + Duration::from_millis(self.draw(|random| random.random_range(500..6000))),
            (18, _) => now + self.draw(|random| *limits.choose(random).expect("there are some")),
            _ => now,
        }
    }
}
