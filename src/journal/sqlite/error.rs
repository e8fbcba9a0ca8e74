//! What SQLite's errors mean for the journal. No text made here holds a value, a path or a statement.

use crate::journal::JournalError;

/// `SQLITE_IOERR`: reading, writing or syncing a file failed.
const IOERR: u32 = 10;

/// `SQLITE_IOERR_WRITE`: writing did, of a file that is not full, such as one that has become read-only.
const IOERR_WRITE: u32 = IOERR | 3 << 8;

/// Whether the failure of a commit leaves open what is on the disk: a failed sync says nothing about what was written. A write
/// that failed does: the frame that makes the others a commit is written last, and nothing but the sync comes behind it.
pub(super) fn is_uncertain(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => result_code(error) == Some(IOERR) && extended_code(error) != Some(IOERR_WRITE),
        // The thread that talks to SQLite is gone, in whatever it was doing.
        sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) => true,
        _ => false,
    }
}

/// The error in words that are safe to show.
pub(super) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::PoolTimedOut => "too many are reading at once".to_owned(),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => "it is closed".to_owned(),
        sqlx::Error::Io(error) => error.kind().to_string(),
        _ => "it could not be read".to_owned(),
    }
}

/// A read, or anything else outside a commit, that failed.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over so")]
pub(super) fn unavailable(error: sqlx::Error) -> JournalError {
    JournalError::Unavailable(describe(&error))
}

/// SQLite's primary result code: the lowest byte of what sqlx reports.
fn result_code(error: &sqlx::Error) -> Option<u32> {
    Some(extended_code(error)? & 0xff)
}

fn extended_code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}
