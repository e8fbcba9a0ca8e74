//! What Postgres' errors mean for the journal. No text made here holds a value, a statement, a password or an address.

use std::io::ErrorKind;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::journal::JournalError;

/// `division_by_zero`: how a commit says that not every changed invocation was there.
const DIVISION_BY_ZERO: &str = "22012";

/// `not_null_violation`: how a commit says that something is not as it must be.
const NOT_NULL: &str = "23502";

/// Classes of errors after which it is open whether a statement that was on its own was committed: of the connection
/// (also as poolers report it), of an operator's intervention, of the system, of the server itself.
const OPEN: [&str; 4] = ["08", "57P", "58", "XX"];

/// Without the secure connection that was asked for there is none.
const UNTRUSTED: &str =
    "no secure connection to the database could be made: check its certificate, sslmode and sslrootcert";

/// Whether the server says for sure that the statement changed nothing. Anything else, a connection that is lost above all,
/// leaves open what became of it.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    let Some(error) = of_server(error) else { return false };
    matches!(error.severity(), PgSeverity::Error) && !OPEN.iter().any(|class| error.code().starts_with(class))
}

/// Whether a commit found the head where nobody can have left it: it says so by a NULL where none may be.
pub(super) fn is_impossible(error: &sqlx::Error) -> bool {
    of_server(error).is_some_and(|error| error.code() == NOT_NULL && error.table() == Some("journal_head"))
}

/// The error in words that are safe to show.
pub(super) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(_) => of_server(error).map_or_else(|| "it refused".to_owned(), in_words),
        sqlx::Error::PoolTimedOut => "no connection was to be had in time: it has none to spare or does not answer, or too many are reading at once".to_owned(),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => "it is closed".to_owned(),
        // What TLS has to say against the other side comes like this.
        sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => UNTRUSTED.to_owned(),
        sqlx::Error::Io(error) => format!("the connection to the database: {}", in_short(error)),
        sqlx::Error::Tls(_) => UNTRUSTED.to_owned(),
        sqlx::Error::Configuration(_) => "its address makes no sense".to_owned(),
        _ => "it could not be read".to_owned(),
    }
}

/// The kind of error; where that says nothing, what the system has to say. A host that is not known is told so.
fn in_short(error: &std::io::Error) -> String {
    let kind = error.kind().to_string();
    if kind == "uncategorized error" || kind == "other error" { error.to_string() } else { kind }
}

/// A read, or anything else outside a commit, that failed.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over so")]
pub(super) fn unavailable(error: sqlx::Error) -> JournalError {
    JournalError::Unavailable(describe(&error))
}

fn of_server(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// By its code: the server's own message may name values.
fn in_words(error: &PgDatabaseError) -> String {
    let code = error.code();
    let what = match code {
        DIVISION_BY_ZERO => "an invocation that changed is not there",
        NOT_NULL => "what was to be pruned may not be",
        "25006" => "the database takes no writes: it is a standby, or set to read only",
        "25P03" => "a turn took too long, and the database ended it",
        "28000" | "28P01" => "the database does not let this router in",
        "3D000" => "there is no such database",
        "42501" => "this user may not do that",
        "42P07" | "42710" => "there are tables in it already that are not the journal's: give it a database of its own",
        "42P01" | "42703" => "a table or a column is missing: run `agent-router migrate`",
        "53100" => "its disk is full",
        "53300" => "the database has no connection to spare",
        "55P03" => "a lock was not to be had in time",
        "57014" => "a statement took too long",
        "57P01" | "57P02" | "57P03" => "the database is shutting down or starting",
        _ if code.starts_with("08") => "the connection to the database was lost",
        _ => return format!("the database says {code}"),
    };
    what.to_owned()
}
