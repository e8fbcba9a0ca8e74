//! `serve`: binds, tells people where, and runs until a signal.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use crate::app::App;
use crate::config::{Config, Database};
use crate::telemetry;

/// Runs the router to its end.
pub(super) async fn serve(config: &Config) -> Result<(), Failure> {
    telemetry::init(config.log_format, &config.log_filter).map_err(Failure::operation)?;
    let listener = bind(config.listen_addr).await?;
    let app = App::start(config, listener).await.map_err(|error| Failure::journal(&journal(config), &error))?;
    let address = app.address().map_err(Failure::operation)?;
    // Only now: until here, a signal may as well kill the process.
    let mut signals = Signals::new().map_err(Failure::operation)?;
    // Somebody who closed the other end of standard output is no reason to stop.
    let _ = introduce(&mut io::stdout(), config, address);

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
fn introduce(out: &mut impl Write, config: &Config, address: SocketAddr) -> io::Result<()> {
    writeln!(out, "agent-router {} listening on http://{address}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "journal: {}", journal(config).display())?;
    let meaning = if config.mode.is_secured() {
        "agents' tokens are verified with SECRET_KEY"
    } else {
        "agents' tokens are not verified; reachable from this machine only"
    };
    writeln!(out, "mode: {} ({meaning})", config.mode)?;
    for warning in config.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    out.flush()
}

/// The journal's file, so that it can be found from anywhere.
fn journal(config: &Config) -> PathBuf {
    let Database::Sqlite { path } = &config.database;
    std::path::absolute(path).unwrap_or_else(|_| path.clone())
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
        introduce(&mut out, &config, "127.0.0.1:8080".parse().unwrap()).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_newcomer_learns_where_how_and_what_is_kept() {
        let lines = introduction(&[]);
        assert!(lines[0].ends_with("listening on http://127.0.0.1:8080"), "{lines:?}");
        assert!(lines[1].starts_with("journal: /") && lines[1].ends_with("/agent-router.db"), "{lines:?}");
        assert!(lines[2].starts_with("mode: development ("), "{lines:?}");
        assert!(lines[3..].iter().all(|line| line.starts_with("warning: ")), "{lines:?}");
    }

    #[test]
    fn no_secret_is_in_it() {
        let secret = "hush-hush-hush-hush-hush-hush-hush-hush";
        let lines =
            introduction(&[("SECRET_KEY", secret), ("MASTER_BE_API_KEY", "hush"), ("DATABASE_URL", "sqlite:///j.db")]);
        assert!(!lines.concat().contains("hush"), "{lines:?}");
        assert!(lines[2].starts_with("mode: secured ("), "{lines:?}");
    }
}
