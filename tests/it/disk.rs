//! The journal on a disk that fails: what was acknowledged is in it afterwards, and nothing else is served as true.
//!
//! `DISK_ROUNDS` says how often (a few times without it), `CHAOS_SEED` repeats a run. The machine must be Linux, and the tests
//! run as root: they mount file systems of their own.

mod errors;
mod files;
mod flips;
mod full;
mod image;
mod mount;
mod play;
mod power_cut;
mod slow;

/// How often to do what is done `few` times by default.
fn rounds(few: usize) -> usize {
    std::env::var("DISK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(few)
}
