//! `agent-router`; the command line is in the library.

use std::process::ExitCode;

/// For the batches: it gives a large buffer that was freed out again instead of returning it to the system, and serves
/// SQLite too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    agent_router::cli::run()
}
