//! How the file is opened, and the lock that keeps a second router away from it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
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

/// Where SQLite's notes on the log have how many pages of it are in the file (`nBackfill` in the description of its format).
const FOLDED_IN: u64 = 96;
const NOTHING: [u8; 4] = [0; 4];

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

/// The connection that brings the schema up, and creates the file if it is missing.
pub(super) async fn migrator(path: &Path) -> Result<SqliteConnection, JournalError> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(BUSY)
        // A sync that fails behind a commit of its own would not be noticed.
        .pragma("wal_autocheckpoint", "0")
        .pragma("cache_size", "-16384")
        .pragma("secure_delete", "on")
        // What is sorted on the way may be what is to be erased one day.
        .pragma("temp_store", "memory")
        .disable_statement_logging()
        .connect()
        .await
        .map_err(error::unavailable)
}

/// How the one connection that writes works. What it has committed survives a power cut. The log is folded in by a connection of
/// its own. What is erased or pruned is overwritten, always: a page that is split leaves a copy of what was moved.
const WRITING: &str = "
PRAGMA journal_mode = wal;
PRAGMA synchronous = full;
PRAGMA foreign_keys = off;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -16384;
PRAGMA secure_delete = on;
PRAGMA temp_store = memory";

/// Statements that are kept prepared: all that write.
const STATEMENTS: usize = 32;

/// The one connection that writes. It blocks; no two threads use it at once. Its statements number their parameters `?1`: `$1`
/// would be a name.
pub(super) fn writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connection(path, BUSY)?;
    connection.execute_batch(WRITING)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// A connection that folds the write-ahead log into the file, and hardly waits for anyone. It blocks.
pub(super) fn checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connection(path, CHECKPOINT_BUSY)?;
    connection.execute_batch("PRAGMA synchronous = full; PRAGMA foreign_keys = off")?;
    Ok(connection)
}

/// One that leaves the log where it is when it is closed, unless it is [told](let_go_of_the_log) that nobody needs it: SQLite
/// would fold it in, and remove it, also behind a sync that has failed.
fn connection(path: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(busy)?;
    Ok(connection)
}

/// All of the log is in the file: the last connection removes it.
pub(super) fn let_go_of_the_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
}

/// Opens something where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    open: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, JournalError> {
    let opened = tokio::task::spawn_blocking(open).await;
    let opened = opened.map_err(|_| JournalError::Unavailable("it could not be opened".to_owned()))?;
    opened.map_err(|error| JournalError::Unavailable(error::commit::describe(&error)))
}

/// Takes back what SQLite's notes on the log say of how much of it is in the file.
///
/// The first connection of all makes the notes anew. If somebody else has had them open since the last life of this journal,
/// they have outlived it; and if a sync of the file failed then, what they say is not true. To be called under the lock, before
/// this process has any connection: it closes the file, and with it would go SQLite's locks ([`Notes`]). That nobody else is
/// folding in the log at this moment is taken for granted.
pub(super) fn fold_anew(path: &Path) -> Result<(), JournalError> {
    let written = notes(path).and_then(|notes| {
        let mut folded_in = NOTHING;
        notes.read_exact_at(&mut folded_in, FOLDED_IN)?;
        if folded_in == NOTHING { Ok(()) } else { notes.write_all_at(&NOTHING, FOLDED_IN) }
    });
    match written {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
            Err(JournalError::Unavailable(format!("its shared memory: {}", error.kind())))
        }
        _ => Ok(()),
    }
}

/// SQLite's notes on the log, which this process holds open. A process that closes a file gives up all the locks that it has on
/// it (POSIX), those of its connections too: this one is closed when the last of them is, or stays open as long as the process.
#[derive(Debug)]
pub(super) struct Notes(ManuallyDrop<File>);

impl Notes {
    /// To be called while a connection has them open, for the first one to open them empties them.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let unavailable = |error: io::Error| JournalError::Unavailable(format!("its shared memory: {}", error.kind()));
        Ok(Self(ManuallyDrop::new(notes(path).map_err(unavailable)?)))
    }

    /// Takes the room that they need until the log has about 65,000 pages.
    ///
    /// SQLite takes it itself as the log grows, once the pages of a commit are on the disk; where there is none left, the commit
    /// has failed, and a start would find it all the same.
    pub(super) fn reserve(&self) {
        if let Err(error) = reserve(&self.0) {
            let error = error.kind();
            tracing::warn!(%error, "no room could be reserved beside the journal: where its disk is full, the router may end");
        }
    }

    /// [As a start does](fold_anew), for whoever opens the journal before the next one, or has it open and is the last.
    pub(super) fn fold_anew(&self) {
        // What cannot be written now is by the next start.
        let _ = self.0.write_all_at(&NOTHING, FOLDED_IN);
    }

    /// The last connection is closed.
    pub(super) fn let_go(self) {
        drop(ManuallyDrop::into_inner(self.0));
    }
}

#[cfg(target_os = "linux")]
fn reserve(notes: &File) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};

    /// In bytes: 32 KiB for every 4,096 pages.
    const ROOM: u64 = 512 << 10;
    Ok(fallocate(notes, FallocateFlags::KEEP_SIZE, 0, ROOM)?)
}

#[cfg(not(target_os = "linux"))]
fn reserve(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// SQLite puts its own files beside what a link leads to.
fn notes(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(beside(&fs::canonicalize(path)?, "-shm"))
}

/// Closes a connection. What it has committed is safe however that goes.
pub(super) async fn close(connection: SqliteConnection) {
    if let Err(error) = sqlx::Connection::close(connection).await {
        tracing::warn!(error = error::describe(&error), "the journal was not closed in good order; it is complete");
    }
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
