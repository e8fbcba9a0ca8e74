//! What is measured.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures the router under load, and checks that it loses nothing
#[derive(Debug, Parser)]
#[command(name = "load", bin_name = "cargo bench --bench load --")]
pub(crate) struct Options {
    /// Where the journal is; with `both`, both are measured
    #[arg(long, default_value = "both")]
    pub(crate) database: Databases,

    /// Routers on one journal, for each number a run; on SQLite always one. Agents and master sockets are spread over them
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) nodes: Vec<u32>,

    /// A Postgres server to measure on, as somebody who may create databases. Otherwise a throw-away one is started
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,

    /// Agents, each on a socket of its own
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) agents: u32,

    /// Sockets of the backend that invoke them; at least one on each router
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

    /// A journal in a file, such as the `history` bench writes: what is measured on SQLite is measured on a copy of it, too
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,

    /// Instead of all that: so many minutes on SQLite, at half of the maximum or at `--rate`; fails if it is not flat
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) soak: Option<u32>,

    /// Invocations a second of `--soak`
    #[arg(long, requires = "soak", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,

    /// The control of `--soak`: so many sockets a minute are opened and left, which it has to find
    #[arg(long, requires = "soak", default_value_t = 0)]
    pub(crate) leak: u32,

    /// Where the journals are, while they are measured: a folder on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub(crate) dir: PathBuf,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Which databases are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Databases {
    Sqlite,
    Postgres,
    Both,
}

/// What a run is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) is_postgres: bool,
    /// Whether the journal is not empty before.
    pub(crate) is_long: bool,
    pub(crate) nodes: u32,
    pub(crate) outstanding: u32,
}

impl Options {
    /// Whether a Postgres is needed.
    pub(crate) fn wants_postgres(&self) -> bool {
        self.database != Databases::Sqlite
    }

    /// Each run, in the order of the columns.
    pub(crate) fn setups(&self) -> Vec<Setup> {
        let databases = [
            (self.database != Databases::Postgres).then_some((false, false, &[1][..])),
            self.journal.is_some().then_some((false, true, &[1])),
            self.wants_postgres().then_some((true, false, &self.nodes)),
        ];
        let mut setups = Vec::new();
        for (is_postgres, is_long, nodes) in databases.into_iter().flatten() {
            for &nodes in nodes {
                let setup = |&outstanding| Setup { is_postgres, is_long, nodes, outstanding };
                setups.extend(self.outstanding.iter().map(setup));
            }
        }
        setups
    }

    /// How long the load runs before it is measured.
    pub(crate) const WARM_UP: Duration = Duration::from_secs(2);

    /// How long it is measured.
    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}
