//! How far the journal had come, noted beside it, so that one that has lost commits is told from one that never had them.
//!
//! For SQLite, the write-ahead log ends at the first frame that is not whole. That is how a commit which a crash cut short is
//! left out, and also how a single damaged bit would take away all that was acknowledged behind it, without a word. The same
//! goes for a log that is missing, and for an older copy of the file. The note is written behind each commit, before anybody
//! is told of it, and not synced: it survives the end of the process, and after a power cut it may be older than the journal,
//! but never newer.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::journal::chain::to_hex;
use crate::journal::sqlite::SqliteReader;
use crate::journal::sqlite::files::beside;
use crate::journal::{Head, JournalError};

/// The name of the file is the journal's with this behind it.
const ENDING: &str = ".head";

/// The note is padded to this, so that a shorter one leaves nothing of a longer one.
const LENGTH: usize = 128;

/// The file beside the journal.
#[derive(Debug)]
pub(super) struct Milestone(File);

impl Milestone {
    /// Opens it, and creates it if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let file = File::options().create(true).truncate(false).write(true).open(beside(path, ENDING));
        file.map(Self).map_err(|error| JournalError::Unavailable(format!("its milestone: {}", error.kind())))
    }

    /// Notes what is on the disk.
    pub(super) fn note(&self, head: Head) {
        let head = head.to_string();
        let note = format!("{:<1$}\n", format!("{head} {}", check(&head)), LENGTH - 1);
        if let Err(error) = self.0.write_all_at(note.as_bytes(), 0) {
            // An older one tells less, and nothing that is wrong.
            tracing::debug!(%error, "how far the journal has come cannot be noted");
        }
    }
}

/// What was noted last; `None` if nothing was, or if it is not whole.
pub(super) fn noted(path: &Path) -> Option<Head> {
    let text = std::fs::read_to_string(beside(path, ENDING)).ok()?;
    let (head, rest) = text.split_once(' ')?;
    (rest.trim_end() == check(head)).then(|| head.parse().ok()).flatten()
}

/// What tells a whole note from another.
fn check(head: &str) -> String {
    to_hex(&Sha256::digest(head))[..16].to_owned()
}

/// What is wrong with a journal of which this was noted, if anything.
pub(super) async fn missed(reader: &SqliteReader, noted: Head) -> Result<Option<String>, JournalError> {
    let head = reader.head().await?;
    if head.position < noted.position {
        return Ok(Some(format!("it ends at {}, and {} was committed", head.position, noted.position)));
    }
    // Pruned ones have none.
    let hash = reader.hash_at(noted.position).await?;
    Ok(hash.filter(|hash| *hash != noted.hash).map(|_| format!("{} is not what was committed there", noted.position)))
}

/// Refuses to begin anew where a journal was.
pub(super) fn require_file(path: &Path) -> Result<(), JournalError> {
    match noted(path) {
        Some(noted) if !path.exists() => Err(lost(path, format!("its file is missing, and had {}", noted.position))),
        _ => Ok(()),
    }
}

/// Refuses a journal that is not what was noted of it.
pub(super) async fn require(path: &Path, reader: &SqliteReader) -> Result<(), JournalError> {
    let Some(noted) = noted(path) else { return Ok(()) };
    missed(reader, noted).await?.map_or(Ok(()), |what| Err(lost(path, what)))
}

fn lost(path: &Path, what: String) -> JournalError {
    JournalError::Lost { what, note: beside(path, ENDING).display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Position;

    #[test]
    fn the_newest_note_counts_and_a_damaged_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        assert_eq!(noted(&path), None);
        let milestone = Milestone::open(&path).unwrap();
        assert_eq!(noted(&path), None);
        for position in [1_000_000, 7] {
            let head = Head { position: Position(position), hash: [0xab; 32] };
            milestone.note(head);
            assert_eq!(noted(&path), Some(head));
        }
        let file = beside(&path, ENDING);
        let mut text = std::fs::read(&file).unwrap();
        text[0] ^= 1;
        std::fs::write(&file, text).unwrap();
        assert_eq!(noted(&path), None);
    }
}
