//! A copy of a journal, of one moment, while a router may be writing to it.

use std::io;
use std::path::Path;

use crate::journal::JournalError;
use crate::journal::sqlite::{error, migration, open};
use crate::new_file::NewFile;

/// `$1`: the new file.
pub(super) const COPY: &str = "VACUUM INTO $1";

/// Copies the journal to a new file, which is there whole or not at all. Writers go on; what they write meanwhile is not in
/// it, and stays in the write-ahead log until the copy is made.
///
/// Fails with [`JournalError::Unavailable`] if something is at `to` already.
pub async fn backup(path: &Path, to: &Path) -> Result<(), JournalError> {
    let readers = open::readers(path, 1).await?;
    let mut connection = readers.acquire().await.map_err(error::unavailable)?;
    migration::require_current(&mut connection).await?;
    let copy = NewFile::begin(to, path).map_err(|error| unwritable(&error))?;
    let name =
        copy.part().to_str().ok_or_else(|| JournalError::Unavailable("the copy's name is no text".to_owned()))?;
    sqlx::query(COPY).bind(name.to_owned()).execute(&mut *connection).await.map_err(error::unavailable)?;
    drop(connection);
    readers.close().await;
    copy.finish().map_err(|error| unwritable(&error))
}

fn unwritable(error: &io::Error) -> JournalError {
    JournalError::Unavailable(match error.kind() {
        io::ErrorKind::AlreadyExists => "there is a file of the copy's name already".to_owned(),
        kind => format!("the copy cannot be written: {kind}"),
    })
}
