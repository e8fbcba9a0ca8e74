//! The command line: what an operator can have the router do, and the exit code that says how it went.
//!
//! Top of the crate: may import everything. Standard output is for the outcome, standard error for everything else.

mod erase;
mod export;
mod failure;
mod healthcheck;
mod migrate;
mod request;
mod serve;
mod token;
mod verify;

use std::fmt::{self, Write as _};
use std::future::Future;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime;

use crate::config::{Config, VARIABLES, load_dotenv};
use failure::Failure;

const EXAMPLES: &str = "\
Examples:
  agent-router                        Run it on 127.0.0.1:8080, with the journal in agent-router.db
  LISTEN_ADDR=[::1]:9000 agent-router Settings are environment variables, or lines in ./.env
  agent-router token --agent UUID     Print a token with which that agent can connect
  agent-router journal verify         Check that nobody has changed the journal
  agent-router backup --to copy.db    Copy the journal, while a router may be running
  agent-router serve --migrate        On Postgres: bring the schema up to date, and run

Settings: `agent-router serve --help` lists them all.

Exit codes:
  0 done   1 failed   2 wrong usage or configuration   130, 143 cut short by a second SIGINT or SIGTERM";

/// A durable, drop-in replacement for the router of GenAI AgentOS.
///
/// Agents and masters connect to it by WebSocket, as to the original, and it passes invocations, answers and logs between
/// them. Each is in a journal before it goes anywhere, so that a restart, a crash or an agent that is away for a while
/// loses none.
#[derive(Parser)]
#[command(name = "agent-router", version, after_help = EXAMPLES)]
struct CommandLine {
    /// What to do; `serve`, if nothing is said.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the router until SIGINT or SIGTERM (the default)
    ///
    /// Prints where it listens once it does. Log lines go to standard error. A first SIGINT or SIGTERM ends it in good
    /// order within `SHUTDOWN_GRACE`, a second one at once; the journal survives both, and a crash.
    #[command(after_long_help = settings())]
    Serve(serve::Arguments),
    /// Bring the journal's schema up to this version
    ///
    /// On a file, `serve` does so by itself, and this is for doing it at a time of your own choice. On Postgres, `serve`
    /// refuses a schema that is not its own: run this once, before the routers of the new version; several at a time wait
    /// for each other.
    #[command(args_conflicts_with_subcommands = true)]
    Migrate {
        #[command(subcommand)]
        command: Option<MigrateCommand>,
    },
    /// Look after the journal
    Journal {
        #[command(subcommand)]
        command: JournalCommand,
    },
    /// Copy the journal to a new file (SQLite; for Postgres there is `pg_dump`)
    ///
    /// The copy is of one moment, and complete; a router may be running meanwhile. It is a journal like any other:
    /// `journal verify` checks it, and a router can run on it. Prints the newest event in it and its hash.
    Backup(export::BackupArguments),
    /// Print a token (JWT) with which an agent can connect
    ///
    /// Signed with `SECRET_KEY`, as the backend's are. An agent of the Python library takes it from
    /// `AGENT_JWT_TOKEN`.
    Token(token::Arguments),
    /// Ask the router that runs with these settings whether it is ready
    ///
    /// For containers: exits with 0 if it is, with 1 if it is not or cannot be reached.
    Healthcheck,
}

#[derive(Subcommand)]
enum MigrateCommand {
    /// List the migrations, applied and pending, and change nothing
    Status,
}

#[derive(Subcommand)]
enum JournalCommand {
    /// Recompute the hash chain over the whole journal, or over an export
    ///
    /// Prints how many events there are, what of them was erased or pruned, and the newest with its hash, to be noted
    /// elsewhere; or the first position at which something is not as it was written, and then exits with 1. A router may be
    /// running meanwhile.
    Verify(verify::Arguments),
    /// Write the events as JSON, one a line
    ///
    /// Values of the fields that `REDACT_KEYS` names are hidden. Whoever has the file can check it with `journal verify
    /// --file`, and needs no router and no database for it. Prints the newest event and its hash on standard error. A
    /// router may be running meanwhile.
    Export(export::ExportArguments),
    /// Remove the payloads of an invocation for good
    ///
    /// Also those of the lines that its agent logged about the same request since the invocation was accepted. Log lines
    /// that name no request id cannot be told apart and stay; all stay if the invocation has none.
    ///
    /// That this was done, and why, becomes an event, and the journal still verifies. If a router is running on the file, it
    /// is asked to do it, with a key of `OPERATOR_API_KEY`; on Postgres this takes its turn among the routers.
    Erase(erase::Arguments),
    /// Copy the journal to a new file
    ///
    /// The same as `backup`.
    Backup(export::BackupArguments),
}

/// Does what the process's arguments ask for.
#[must_use]
pub fn run() -> ExitCode {
    let command = CommandLine::parse().command.unwrap_or(Command::Serve(serve::Arguments::default()));
    match configuration().and_then(|config| execute(command, &config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("agent-router: {failure}");
            failure.exit_code()
        }
    }
}

/// Called before there is any other thread: `.env` changes the environment of the process.
fn configuration() -> Result<Config, Failure> {
    load_dotenv(Path::new(".env")).map_err(Failure::usage)?;
    Config::from_env().map_err(Failure::usage)
}

fn execute(command: Command, config: &Config) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => {
            block_on(&mut runtime::Builder::new_multi_thread(), serve::serve(&arguments, config))
        }
        Command::Migrate { command: None } => briefly(migrate::migrate(config)),
        Command::Migrate { command: Some(MigrateCommand::Status) } => briefly(migrate::migration_status(config)),
        Command::Journal { command } => match command {
            JournalCommand::Verify(arguments) => briefly(verify::verify(arguments, config)),
            JournalCommand::Export(arguments) => briefly(export::export(&arguments, config)),
            JournalCommand::Erase(arguments) => briefly(erase::erase(arguments, config)),
            JournalCommand::Backup(arguments) => briefly(export::backup(&arguments, config)),
        },
        Command::Backup(arguments) => briefly(export::backup(&arguments, config)),
        Command::Token(arguments) => token::print(&arguments, config),
        Command::Healthcheck => healthcheck::check(config),
    }
}

fn briefly(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    block_on(&mut runtime::Builder::new_current_thread(), command)
}

fn block_on(runtime: &mut runtime::Builder, command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = runtime.enable_all().build().map_err(Failure::operation)?;
    let outcome = runtime.block_on(command);
    // Whoever forces the end does not want to wait for a write that hangs.
    runtime.shutdown_background();
    outcome
}

/// The outcome of a command, on standard output.
fn say(outcome: impl fmt::Display) -> Result<(), Failure> {
    writeln!(io::stdout(), "{outcome}").map_err(Failure::operation)
}

/// Every setting, from the list that the configuration is read by.
fn settings() -> String {
    let mut text = "Settings, from the environment or from ./.env (the environment wins):\n".to_owned();
    for variable in VARIABLES {
        let default = variable.default.map_or_else(String::new, |default| format!(" [default: {default}]"));
        write!(text, "\n  {}{default}\n      {}\n", variable.name, variable.help)
            .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn nothing_said_means_serve() {
        assert!(CommandLine::try_parse_from(["agent-router"]).unwrap().command.is_none());
        assert!(matches!(
            CommandLine::try_parse_from(["agent-router", "serve"]).unwrap().command,
            Some(Command::Serve(_))
        ));
    }

    #[test]
    fn help_lists_every_setting() {
        let settings = settings();
        assert!(VARIABLES.iter().all(|variable| settings.contains(&format!("  {}", variable.name))));
    }
}
