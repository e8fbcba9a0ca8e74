//! What is measured.

use std::path::PathBuf;

use clap::Parser;

/// Measures how a long history is read
#[derive(Debug, Parser)]
#[command(name = "history", bin_name = "cargo bench --bench history --")]
pub(crate) struct Options {
    /// Events in the journal that is read; 0 to leave that out
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) events: u32,

    /// Finished invocations in the journal on which routers are started
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) finished: u32,

    /// Open invocations in that journal; 0 to leave that out
    #[arg(long, default_value_t = 10_000)]
    pub(crate) open: u32,

    /// Only writes the journals
    #[arg(long)]
    pub(crate) only_write: bool,

    /// Exports everything, too
    #[arg(long)]
    pub(crate) export: bool,

    /// Requests for each kind of page, from each place
    #[arg(long, default_value_t = 200)]
    pub(crate) requests: usize,

    /// Decides which values are asked for
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Where the journal is, and stays for the next time: a folder on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub(crate) dir: PathBuf,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}
