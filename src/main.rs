//! `agent-router`; the command line is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_router::cli::run()
}
