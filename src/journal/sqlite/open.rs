//! How the file is opened, and the lock that keeps a second router away from it.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

use crate::journal::JournalError;
use crate::journal::sqlite::error;
use crate::journal::sqlite::files::beside;

/// Readers at once; more than these wait for each other.
pub(super) const READERS: u32 = 4;

/// How long to wait for a lock of SQLite's own. Nobody but a person with `sqlite3` could be holding one.
const BUSY: Duration = Duration::from_secs(5);

/// How long a checkpoint that truncates the write-ahead log waits for readers. No commit is taken meanwhile.
const CHECKPOINT_BUSY: Duration = Duration::from_millis(100);

/// Takes the advisory lock beside the file. It is held until the returned file is dropped, or the process ends.
pub(super) fn lock(path: &Path) -> Result<File, JournalError> {
    let unavailable = |error: std::io::Error| JournalError::Unavailable(format!("its lock file: {}", error.kind()));
    let file =
        File::options().create(true).truncate(false).write(true).open(beside(path, ".lock")).map_err(unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(path.display().to_string())),
        Err(TryLockError::Error(error)) => Err(unavailable(error)),
    }
}

/// The one connection that writes. What it has committed survives a power cut.
pub(super) async fn writer(path: &Path) -> Result<SqliteConnection, JournalError> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(BUSY)
        // Rarer checkpoints are no faster and take longer each: they tripled the slowest commits.
        .pragma("wal_autocheckpoint", "1000")
        .pragma("journal_size_limit", "67108864")
        .pragma("cache_size", "-16384")
        // What is erased or pruned is overwritten. Always on: a page that is split leaves a copy of what was moved.
        .pragma("secure_delete", "on")
        // What takes back a single statement is not worth a file for each commit.
        .pragma("temp_store", "memory")
        .disable_statement_logging()
        .connect()
        .await
        .map_err(error::unavailable)
}

/// A connection that folds the write-ahead log into the file, and hardly waits for anyone.
pub(super) async fn checkpointer(path: &Path) -> Result<SqliteConnection, JournalError> {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(CHECKPOINT_BUSY)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(error::unavailable)
}

/// Connections that only read; they never hold up the writer, nor it them.
pub(super) async fn readers(path: &Path, connections: u32) -> Result<SqlitePool, JournalError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .foreign_keys(false)
        .busy_timeout(BUSY)
        // What a search for something rare goes through again and again, in a journal of millions of events.
        .pragma("cache_size", "-8192")
        // Rows that are read ahead of whoever takes them; each may be as large as a frame.
        .row_buffer_size(16)
        .disable_statement_logging();
    SqlitePoolOptions::new()
        .max_connections(connections)
        // All from the beginning, and for good: one that is opened later could find another file at the place.
        .min_connections(connections)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await
        .map_err(error::unavailable)
}
