//! `serve`: binds, tells people where, and runs until a signal.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::migrate;
use crate::app::{self, App};
use crate::config::Config;
use crate::journal::Place;
use crate::telemetry;

/// What to do before.
#[derive(Args, Default)]
pub(super) struct Arguments {
    /// Bring the journal's schema up to this version first, as `migrate` does; on a file, `serve` does so anyway
    #[arg(long)]
    migrate: bool,
}

/// Runs the router to its end.
pub(super) async fn serve(arguments: &Arguments, config: &Config) -> Result<(), Failure> {
    telemetry::init(config.log_format, &config.log_filter).map_err(Failure::operation)?;
    if arguments.migrate {
        migrate::migrate_first(config).await?;
    }
    let listener = bind(config.listen_addr).await?;
    let app = App::start(config, listener).await.map_err(|error| Failure::journal(&place(config), &error))?;
    let address = app.address().map_err(Failure::operation)?;
    // Only now: until here, a signal may as well kill the process.
    let mut signals = Signals::new().map_err(Failure::operation)?;
    // Somebody who closed the other end of standard output is no reason to stop.
    let _ = introduce(&mut io::stdout(), config, app.warnings(), address);

    let shutdown = CancellationToken::new();
    let mut running = pin!(app.run(shutdown.cancelled()));
    tokio::select! {
        ended = running.as_mut() => return ended.map_err(Failure::operation),
        _ = signals.next() => shutdown.cancel(),
    }
    tokio::select! {
        ended = running => ended.map_err(Failure::operation),
        number = signals.next() => Err(Failure::signal(number)),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => ": something else listens there; stop it, or set LISTEN_ADDR",
            _ => ": set LISTEN_ADDR to an address of this machine",
        };
        Failure::operation(format_args!("cannot listen on {address}: {error}{advice}"))
    })
}

/// What people need to know, when the router serves.
fn introduce(out: &mut impl Write, config: &Config, warnings: &[String], address: SocketAddr) -> io::Result<()> {
    writeln!(out, "agent-router {} listening on http://{address}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "journal: {}", place(config))?;
    let meaning = if config.mode.is_secured() {
        "agents' tokens are verified with SECRET_KEY"
    } else {
        "agents' tokens are not verified; reachable from this machine only"
    };
    writeln!(out, "mode: {} ({meaning})", config.mode)?;
    for warning in config.warnings().iter().chain(warnings) {
        writeln!(out, "warning: {warning}")?;
    }
    out.flush()
}

/// Where the journal is; a file so that it can be found from anywhere.
fn place(config: &Config) -> Place {
    match app::place(config) {
        Place::Sqlite { path } => Place::Sqlite { path: std::path::absolute(&path).unwrap_or(path) },
        database @ Place::Postgres { .. } => database,
    }
}

/// The signals that ask for the end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they no longer kill the process.
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction(settings: &[(&str, &str)]) -> Vec<String> {
        let config = Config::from_lookup(|name| {
            settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
        .unwrap();
        let mut out = Vec::new();
        introduce(&mut out, &config, &["the database forgets".to_owned()], "127.0.0.1:8080".parse().unwrap()).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_newcomer_learns_where_how_and_what_is_kept() {
        let lines = introduction(&[]);
        assert!(lines[0].ends_with("listening on http://127.0.0.1:8080"), "{lines:?}");
        assert!(lines[1].starts_with("journal: /") && lines[1].ends_with("/agent-router.db"), "{lines:?}");
        assert!(lines[2].starts_with("mode: development ("), "{lines:?}");
        assert!(lines[3..].iter().all(|line| line.starts_with("warning: ")), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "warning: the database forgets");
    }

    #[test]
    fn no_secret_is_in_it() {
        let secret = "hush-hush-hush-hush-hush-hush-hush-hush";
        let lines =
            introduction(&[("SECRET_KEY", secret), ("MASTER_BE_API_KEY", "hush"), ("DATABASE_URL", "sqlite:///j.db")]);
        assert!(!lines.concat().contains("hush"), "{lines:?}");
        assert!(lines[2].starts_with("mode: secured ("), "{lines:?}");
        let lines = introduction(&[("DATABASE_URL", "postgres://router:hush@db:6432/journal?sslmode=verify-full")]);
        assert_eq!(lines[1], "journal: postgres://router@db:6432/journal");
    }
}
