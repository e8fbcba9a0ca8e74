//! The journal on a disk that fails: what was acknowledged is in it afterwards, and nothing else is served as true.
//!
//! Under the load of [`crate::faults`], and as long as those: `FAULT_CYCLES` and `FAULT_SEED` count here too. The machine must
//! be Linux, and the tests run as root: they mount file systems of their own.

mod errors;
mod files;
mod flips;
mod full;
mod image;
mod mount;
mod play;
mod power_cut;
mod slow;
