//! What SQLite's errors mean for the journal. No text made here holds a value, a path or a statement.

use crate::journal::JournalError;

/// `SQLITE_IOERR`: reading, writing or syncing a file failed.
const IOERR: u32 = 10;

/// `SQLITE_IOERR_WRITE`: writing did, of a file that is not full, such as one that has become read-only.
const IOERR_WRITE: u32 = IOERR | 3 << 8;

/// `SQLITE_NOMEM`: SQLite notes where the pages of a commit are once they are synced, and may find no memory for that.
const NOMEM: u32 = 7;

/// Whether a failure with this extended result code leaves open what is on the disk: a failed sync says nothing about what was
/// written. A write that failed does: the frame that makes the others a commit is written last, and what comes behind it, the sync
/// and room for SQLite's notes, has codes of its own.
const fn leaves_open(code: u32) -> bool {
    matches!(code & 0xff, IOERR | NOMEM) && code != IOERR_WRITE
}

/// What the connections that write were told.
pub(super) mod commit {
    use rusqlite::ErrorCode;

    use super::{leaves_open, with_code};

    /// Whether it is open what is on the disk.
    pub(in super::super) fn is_uncertain(error: &rusqlite::Error) -> bool {
        error.sqlite_error().is_some_and(|error| leaves_open(error.extended_code.cast_unsigned()))
    }

    /// The error in words that are safe to show.
    pub(in super::super) fn describe(error: &rusqlite::Error) -> String {
        match error {
            // Its message names the file.
            rusqlite::Error::SqliteFailure(error, _) if error.code == ErrorCode::CannotOpen => error.to_string(),
            rusqlite::Error::SqliteFailure(error, Some(message)) => {
                with_code(message, error.extended_code.cast_unsigned())
            }
            rusqlite::Error::SqliteFailure(error, None) => error.to_string(),
            _ => "it could not be written".to_owned(),
        }
    }
}

/// The error in words that are safe to show.
pub(super) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => with_code(database.message(), extended_code(error).unwrap_or_default()),
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

/// The message of an error; where SQLite has one for many things, with the code that tells them apart.
fn with_code(message: &str, extended: u32) -> String {
    if extended & 0xff == IOERR { format!("{message} (SQLite code {extended})") } else { message.to_owned() }
}

fn extended_code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

#[test]
fn what_may_fail_behind_the_sync_of_a_commit_leaves_it_open() {
    let [fsync, growing_the_notes, full] = [IOERR | 4 << 8, IOERR | 19 << 8, 13];
    let open = [fsync, growing_the_notes, NOMEM, IOERR_WRITE, full].map(leaves_open);
    assert_eq!(open, [true, true, true, false, false]);
}
