//! What is measured.

use std::path::PathBuf;

use clap::Parser;

/// Measures how a long history is read
#[derive(Debug, Parser)]
#[command(name = "history", bin_name = "cargo bench --bench history --")]
pub(crate) struct Options {
    /// Events in the journal
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..))]
    pub(crate) events: u32,

    /// Requests for each kind of page
    #[arg(long, default_value_t = 300)]
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
