//! What is measured.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Measures the router under load, and checks that it loses nothing
#[derive(Debug, Parser)]
#[command(name = "load", bin_name = "cargo bench --bench load --")]
pub(crate) struct Options {
    /// Agents, each on a socket of its own
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) agents: u32,

    /// Sockets of the backend that invoke them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) masters: u32,

    /// Invocations of all masters together that wait for their answers; for each number a run
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512], value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) outstanding: Vec<u32>,

    /// Bytes of each payload, in both directions
    #[arg(long, default_value_t = 200)]
    pub(crate) payload: usize,

    /// Measured time of each run, after the warm-up
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,

    /// The part of the protocol that the agents speak
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) version: u8,

    /// Where the journals are, while they are measured: a folder on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub(crate) dir: PathBuf,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// How long the load runs before it is measured.
    pub(crate) const WARM_UP: Duration = Duration::from_secs(2);

    /// How long it is measured.
    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}
