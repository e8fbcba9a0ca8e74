//! What is measured.

use std::path::{Path, PathBuf};

use clap::Parser;

use crate::system::System;

/// Measures this router, and what somebody could use in its place
#[derive(Debug, Parser)]
#[command(name = "peers", bin_name = "cargo bench --bench peers --")]
pub(crate) struct Options {
    /// How often everything is measured, one system after the other
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Measured time of each load, after half a second of warm-up
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,

    /// What is measured; ratios are of those that are
    #[arg(long, value_delimiter = ',', default_values_t = System::ALL)]
    pub(crate) systems: Vec<System>,

    /// Questions that wait for their answers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512], value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) outstanding: Vec<u32>,

    /// Bytes of each payload, in both directions
    #[arg(long, value_delimiter = ',', default_values_t = [200, 16 << 10])]
    pub(crate) payloads: Vec<usize>,

    /// Agents or workers, each with a connection of its own
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) workers: u32,

    /// Leaves out the drain of a queue, and the memory of agents and of what waits
    #[arg(long)]
    pub(crate) loads_only: bool,

    /// One round of a second each, and docs/performance.md stays as it is: to see that everything works
    #[arg(long)]
    pub(crate) short: bool,

    /// Where everything has its files, while it is measured: a folder on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub(crate) dir: PathBuf,

    /// A page that the result is written into. Without it, a run that measures everything writes docs/performance.md
    #[arg(long)]
    page: Option<PathBuf>,

    /// Is the relay, with this file; `-` is none
    #[arg(long, hide = true)]
    pub(crate) relay: Option<PathBuf>,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// What follows from what was asked.
    pub(crate) fn settled(mut self) -> Self {
        if self.short {
            self.rounds = 1;
            self.seconds = 1.0;
        }
        self
    }

    /// Where the result is written.
    pub(crate) fn page(&self) -> Option<&Path> {
        let is_all = !self.short && !self.loads_only && self.systems == System::ALL;
        let own = is_all.then_some(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md")));
        self.page.as_deref().or(own)
    }
}
