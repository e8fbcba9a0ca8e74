//! A new file that is there whole, or not at all.
//!
//! It is written under another name beside its place, synced, and moved there. May be imported from anywhere.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A file that is being made; dropped before it is whole, it goes.
#[derive(Debug)]
pub struct NewFile {
    place: PathBuf,
    part: PathBuf,
    placed: bool,
}

impl NewFile {
    /// Begins one, empty, which nobody can read but those who can read the file `like`.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if something is at its place, which is never overwritten.
    pub fn begin(place: &Path, like: &Path) -> io::Result<Self> {
        vacant(place)?;
        Self::with_mode(place, fs::metadata(like)?.permissions().mode())
    }

    /// Begins one, empty, which nobody else can read.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_private(place: &Path) -> io::Result<Self> {
        vacant(place)?;
        Self::with_mode(place, 0o600)
    }

    fn with_mode(place: &Path, mode: u32) -> io::Result<Self> {
        let name =
            place.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is no file's name"))?;
        let mut part = OsString::from(".");
        part.push(name);
        part.push(format!(".{}.part", Uuid::new_v4().simple()));
        let part = place.with_file_name(part);
        OpenOptions::new().write(true).create_new(true).mode(mode & 0o777).open(&part)?;
        Ok(Self { place: place.to_owned(), part, placed: false })
    }

    /// Where it is to be written.
    #[must_use]
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// It is written: it survives a power cut from now on, and has its name.
    pub fn finish(mut self) -> io::Result<()> {
        File::open(&self.part)?.sync_all()?;
        vacant(&self.place)?;
        fs::rename(&self.part, &self.place)?;
        self.placed = true;
        let folder = self.place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.placed {
            // Whoever failed has said why; one that stays says by its name what it is.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn vacant(place: &Path) -> io::Result<()> {
    if fs::symlink_metadata(place).is_ok() { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    fn begun(place: &Path) -> io::Result<NewFile> {
        NewFile::begin(place, Path::new(file!()))
    }

    #[test]
    fn others_can_read_it_if_they_can_read_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        fs::write(&model, "").unwrap();
        fs::set_permissions(&model, fs::Permissions::from_mode(0o600)).unwrap();
        let file = NewFile::begin(&folder.path().join("whole"), &model).unwrap();
        assert_eq!(fs::metadata(file.part()).unwrap().permissions().mode() & 0o777, 0o600);
        let file = NewFile::begin_private(&folder.path().join("private")).unwrap();
        assert_eq!(fs::metadata(file.part()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = begun(&folder.path().join("whole")).unwrap();
        fs::write(file.part(), "all of it").unwrap();
        assert!(!folder.path().join("whole").exists());
        file.finish().unwrap();
        assert_eq!(names(folder.path()), ["whole"]);
        assert_eq!(fs::read(folder.path().join("whole")).unwrap(), b"all of it");
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = begun(&folder.path().join("whole")).unwrap();
        fs::write(file.part(), "half of").unwrap();
        drop(file);
        assert_eq!(names(folder.path()), [] as [&str; 0]);
    }

    #[test]
    fn what_is_there_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("whole");
        let file = begun(&place).unwrap();
        fs::write(file.part(), "mine").unwrap();
        fs::write(&place, "another's").unwrap();
        assert_eq!(begun(&place).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(file.finish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&place).unwrap(), b"another's");
        assert_eq!(names(folder.path()), ["whole"]);
    }
}
