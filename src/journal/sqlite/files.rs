//! The files that a journal is in, and whether they are still the ones that were opened.
//!
//! A file that is removed, or replaced by another, goes on to exist for whoever has it open, and what is written to it then is
//! gone when that process ends. SQLite does not notice. Who writes looks before each turn.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::journal::JournalError;

/// The name of a file beside the journal's own.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Files {
    database: Opened,
    /// What makes sense only together with the database, and is made anew by a start.
    others: [(Opened, &'static str); 3],
}

/// A file, as it was when it was opened.
#[derive(Clone, Debug)]
struct Opened {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Files {
    /// Of a journal that is open, so that all of them are there.
    pub(super) fn of(path: &Path) -> Result<Self, JournalError> {
        let unavailable = |error: io::Error| JournalError::Unavailable(format!("its files: {}", error.kind()));
        let opened = |path: PathBuf| Opened::now(path).map_err(unavailable);
        // SQLite puts its own beside what a link leads to.
        let real = fs::canonicalize(path).map_err(unavailable)?;
        Ok(Self {
            database: opened(path.to_owned())?,
            others: [
                (opened(beside(&real, "-wal"))?, "write-ahead log"),
                (opened(beside(&real, "-shm"))?, "shared memory"),
                (opened(beside(path, ".lock"))?, "lock file"),
            ],
        })
    }

    /// Fails if the database is not where it was: it is [`JournalError::Unavailable`]. It can be put back, and a process that
    /// ended would take with it what nobody else has.
    pub(super) fn check_database(&self) -> Result<(), JournalError> {
        self.database.fate().map_or(Ok(()), |fate| {
            Err(JournalError::Unavailable(format!(
                "its file {fate}; put it back, for only this process still has it, and it ends with it"
            )))
        })
    }

    /// Fails if one of the others is not where it was: it is [`JournalError::Misplaced`]. Closing the journal puts everything into
    /// the database, as far as readers and the disk let it.
    pub(super) fn check_others(&self) -> Result<(), JournalError> {
        match self.others.iter().find_map(|(file, name)| Some((name, file.fate()?))) {
            Some((name, fate)) => Err(JournalError::Misplaced(format!("{name} {fate}"))),
            None => Ok(()),
        }
    }
}

impl Opened {
    fn now(path: PathBuf) -> io::Result<Self> {
        let found = fs::metadata(&path)?;
        Ok(Self { path, device: found.dev(), inode: found.ino() })
    }

    /// What has become of it, if it is not where it was.
    fn fate(&self) -> Option<String> {
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => None,
            Ok(_) => Some("was replaced by another".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some("was moved or removed".to_owned()),
            Err(error) => Some(format!("cannot be found: {}", error.kind())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (tempfile::TempDir, PathBuf, Files) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        for ending in ["", "-wal", "-shm", ".lock"] {
            fs::write(beside(&path, ending), "").unwrap();
        }
        let files = Files::of(&path).unwrap();
        (folder, path, files)
    }

    #[test]
    fn a_database_that_is_away_can_come_back() {
        let (folder, path, files) = opened();
        files.check_database().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        assert!(
            matches!(files.check_database(), Err(JournalError::Unavailable(what)) if what.contains("moved or removed"))
        );
        fs::write(&path, "").unwrap();
        assert!(
            matches!(files.check_database(), Err(JournalError::Unavailable(what)) if what.contains("replaced by another"))
        );
        fs::rename(&elsewhere, &path).unwrap();
        files.check_database().unwrap();
    }

    #[test]
    fn what_is_beside_it_does_not() {
        for ending in ["-wal", "-shm", ".lock"] {
            let (_folder, path, files) = opened();
            fs::remove_file(beside(&path, ending)).unwrap();
            assert!(matches!(files.check_others(), Err(JournalError::Misplaced(_))), "{ending}");
        }
    }
}
