//! Why the journal did not do as it was asked.

/// See the module. The public message names no path, statement or value.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It could not be written or read now; nothing was changed.
    #[error("the journal is unavailable: {0}")]
    Unavailable(String),
    /// It failed in a way that leaves open what is in it. The process must end.
    #[error("the journal failed, and only a new start finds out what is in it: {0}")]
    Uncertain(String),
    /// A file of it was removed or replaced while it was in use. The process must end; closing the journal puts all that was
    /// committed into its file, unless somebody reads that for longer than the process has for its end.
    #[error(
        "the journal's {0} while this router was using it: it ends, and puts what was committed into its file first"
    )]
    Misplaced(String),
    /// What was committed is not there any more.
    #[error(
        "the journal has lost events: {what}. Bring it back, with the files beside it; or, if it is this one on purpose, \
         such as an older copy, remove {note}, and the -wal and -shm that the other left"
    )]
    Lost {
        /// What is missing.
        what: String,
        /// The file by which it is known.
        note: String,
    },
    /// What is stored makes no sense.
    #[error("the journal is damaged: {table}.{column}: {what}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What is wrong with the value.
        what: String,
    },
    /// Another router has committed since this one's turn began: nothing was changed. Begin again, with what is new.
    #[error("another router was faster")]
    Moved,
    /// Another process runs under this router's `NODE_ID` and has taken its place. This process must end.
    #[error("another router has started as NODE_ID={0}: give each router a NODE_ID of its own")]
    Superseded(String),
    /// Another router has this journal open.
    #[error("another router is using this journal ({0}): stop it, or set DATABASE_URL to another file")]
    InUse(String),
    /// The schema is not the one that this version works with.
    #[error("the journal's schema is at {found}, this version works with {wanted}: {advice}")]
    Schema {
        /// The newest migration in the database.
        found: i64,
        /// The newest migration of this version.
        wanted: i64,
        /// What to do.
        advice: &'static str,
    },
}
