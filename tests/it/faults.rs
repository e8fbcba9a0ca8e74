//! Faults under load: whatever happens to a router, to its peers, to time or to its database, whatever anybody received is
//! in the journal afterwards, and every accepted invocation has exactly one end.
//!
//! Each program here is short. `FAULT_CYCLES=100` makes it long: so many cycles, and the whole load. `FAULT_SEED` repeats a
//! run. `docs/reliability.md` has what they found.

pub(crate) mod checker;
mod flapping;
mod half_open;
mod killed;
pub(crate) mod load;
pub(crate) mod notes;
mod postgres;
pub(crate) mod record;
mod set_back;
mod stopped;
mod time;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use load::Scale;

/// Randomness from `FAULT_SEED`, or new; the seed is printed, so that a run can be had again.
pub(crate) fn seeded() -> StdRng {
    let seed = std::env::var("FAULT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("FAULT_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How long a program is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    pub(crate) cycles: usize,
    pub(crate) scale: Scale,
}

impl Length {
    /// So many cycles under the short load; or what `FAULT_CYCLES` says, under all of it.
    pub(crate) fn chosen(short: usize) -> Self {
        match std::env::var("FAULT_CYCLES").ok().and_then(|cycles| cycles.parse().ok()) {
            Some(cycles) => Self { cycles, scale: Scale::FULL },
            None => Self { cycles: short, scale: Scale::SHORT },
        }
    }
}
