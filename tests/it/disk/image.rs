//! Disks whose power can be cut: ext4 in a file, of which a copy is made in no time while it is in use. The copy has what the
//! disk had: what the file system held in memory, and nobody had synced, is gone.

use std::fs::File;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::mount::{Mount, run, text};

/// The sizes of files that take no more room than is written to them. XFS wants to be at least of 300 MiB.
const SHELF: u64 = 4 << 30;
const DISK: u64 = 256 << 20;
const SMALL_DISK: u64 = 1 << 30;

/// Where disks are kept: a file system that copies a file by sharing its blocks, all of them as of one moment.
pub(super) struct Shelf {
    // Before the directory: it is mounted there.
    mount: Mount,
    dir: TempDir,
    disks: std::cell::Cell<usize>,
}

/// A disk in use.
pub(super) struct Disk {
    mount: Mount,
    image: PathBuf,
}

impl Shelf {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let image = dir.path().join("shelf.xfs");
        blank(&image, SHELF);
        run("mkfs.xfs", &["-q", "-m", "reflink=1", &text(&image)]);
        let mount = Mount::of_image(&image, &dir.path().join("shelf"));
        let empty = mount.place().join("empty");
        blank(&empty, DISK);
        run(
            "mkfs.ext4",
            &["-q", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", &text(&empty)],
        );
        Self { mount, dir, disks: std::cell::Cell::new(0) }
    }

    /// A new, empty one.
    pub(super) fn disk(&self) -> Disk {
        self.copy_of("empty".as_ref())
    }

    /// A disk as it would be if the power had been cut now.
    pub(super) fn cut(&self, disk: &Disk) -> Disk {
        self.copy_of(&disk.image)
    }

    fn copy_of(&self, image: &Path) -> Disk {
        let number = self.disks.get() + 1;
        self.disks.set(number);
        let copy = self.mount.place().join(number.to_string());
        run("cp", &["--reflink=always", &text(&self.mount.place().join(image)), &text(&copy)]);
        let mount = Mount::of_image(&copy, &self.dir.path().join(format!("disk{number}")));
        Disk { mount, image: copy }
    }
}

impl Disk {
    /// Where its files are.
    pub(super) fn place(&self) -> &Path {
        self.mount.place()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Its blocks are free once it is unmounted, which follows.
        let _ = std::fs::remove_file(&self.image);
    }
}

fn blank(image: &Path, bytes: u64) {
    File::create_new(image).and_then(|file| file.set_len(bytes)).expect("a file can be made");
}

/// A disk that is soon full.
pub(super) struct SmallDisk {
    // Before the directory: it is mounted there.
    mount: Option<Mount>,
    dir: TempDir,
}

impl SmallDisk {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let image = dir.path().join("small.ext4");
        blank(&image, SMALL_DISK);
        run("mkfs.ext4", &["-q", "-b", "4096", &text(&image)]);
        let mut disk = Self { mount: None, dir };
        disk.mount_again();
        disk
    }

    pub(super) fn mount_again(&mut self) {
        self.mount = None;
        self.mount = Some(Mount::of_image(&self.dir.path().join("small.ext4"), &self.dir.path().join("small")));
    }

    pub(super) fn mount(&self) -> &Mount {
        self.mount.as_ref().expect("it is mounted")
    }
}
