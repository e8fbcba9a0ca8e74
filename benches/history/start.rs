//! How soon a router is ready that is started on a journal in which much is open.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::process::Router;

/// How often it is started.
const STARTS: usize = 5;

/// How long each took, from its start as a process until it is ready. A router that is killed leaves its successor as much
/// to do as it had itself.
pub(crate) fn measure(journal: &Path) -> Result<Vec<Duration>, Failure> {
    // What is open would not be so for long, once a router runs on it.
    let copy = journal.with_extension("started.db");
    fs::copy(journal, &copy)?;
    let mut took = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let started = Instant::now();
        let router = Router::start(&copy)?;
        took.push(started.elapsed());
        drop(router);
    }
    for extension in ["started.db", "started.db-wal", "started.db-shm", "started.db.lock", "started.log"] {
        // Some of them may not be there.
        let _ = fs::remove_file(journal.with_extension(extension));
    }
    took.sort_unstable();
    Ok(took)
}
