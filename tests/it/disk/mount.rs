//! File systems of a test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system that is mounted, until this is dropped.
pub(super) struct Mount {
    place: PathBuf,
}

impl Mount {
    /// The file system in a file.
    pub(super) fn of_image(image: &Path, place: &Path) -> Self {
        std::fs::create_dir_all(place).expect("a folder can be made");
        run("mount", &["-o", "loop", &text(image), &text(place)]);
        Self { place: place.to_owned() }
    }

    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// What Linux does with a file system whose disk fails: from now on it is read-only.
    pub(super) fn abort(&self) {
        run("mount", &["-o", "remount,abort", &text(&self.place)]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: in a test that fails, a router may still have files open in it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).status();
    }
}

/// Runs a program that must succeed.
pub(super) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).env("PATH", path()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: run scripts/prerequisites"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} (as root?): {said}");
}

/// Debian keeps what makes file systems out of some paths.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

pub(super) fn text(path: &Path) -> String {
    path.to_str().expect("a path of this test's own is text").to_owned()
}
