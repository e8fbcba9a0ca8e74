//! How many invocations a second the router takes, and how long each takes, over real sockets.
//!
//! ```text
//! cargo bench --bench load
//! cargo bench --bench load -- --database sqlite --outstanding 64 --seconds 30
//! ```
//!
//! The router runs as a process of its own, with its defaults and a journal on a real disk: in a file, and in a Postgres
//! with one router and with two. With two, agents and masters are spread over both, so that half of the invocations go from
//! one to the other; the round trips within a router and across are told apart. Agents answer what they are
//! asked as soon as they have read it; masters send the next invocation when an answer comes, so that always the same
//! number are on their way. All of them share one thread, which shares the machine with the router: its share of the CPU is
//! printed too. Absolute figures are those of the machine and its disk; what a commit costs is the disk's, so that is
//! measured in the same run, just before. A throw-away Postgres has its files on the same disk, with its own defaults.
//! With `--journal`, it is told what a long history costs: on a copy of that journal beside an empty one.
//!
//! `cargo bench --bench load -- --soak 30` keeps up half of the maximum for 30 minutes instead, prints memory, file handles,
//! the sizes of journal and write-ahead log, and latencies for each minute, and fails if they are not flat.
//!
//! A figure counts only if the work was done: every invocation is answered once, by its agent and with the right payload;
//! the journal has exactly those; and it verifies. Anything else is a failure.
//!
//! - `options`: what is measured. `run`: one measurement. `report`: the table. `soak`: a long
//!   run. `course`: how it went. `pace`: its master.
//! - `router`: the process. `database`: its journal, and what it wrote. `postgres`: the server. `disk`: what a sync takes.
//! - `agent`, `master`: the clients. `wire`: a WebSocket. `payload`: what goes over it.

mod agent;
mod course;
mod database;
mod disk;
mod master;
mod options;
mod pace;
mod payload;
mod postgres;
mod report;
mod router;
mod run;
mod soak;
mod wire;

use clap::Parser;

use options::{Options, Setup};

/// Whatever makes a measurement worthless, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    if let Some(minutes) = options.soak {
        return soak::soak(&options, minutes).await;
    }
    let mut measured = Vec::new();
    let server = options
        .wants_postgres()
        .then(|| postgres::Server::start(options.postgres.as_deref(), &options.dir))
        .transpose()?;
    for setup in options.setups() {
        let on = match setup {
            Setup { is_postgres: true, .. } => "Postgres",
            Setup { is_long: true, .. } => "a long journal",
            Setup { .. } => "SQLite",
        };
        eprintln!("measuring {} on {on} with {} outstanding", setup.nodes, setup.outstanding);
        measured.push(run::measure(&options, setup, server.as_ref()).await?);
    }
    print!("{}", report::table(&options, &measured));
    Ok(())
}
