//! What a commit cannot be faster than.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;

const PAGE: usize = 4096;
const PAGES: u64 = 1024;
const MEASURED: Duration = Duration::from_secs(1);

/// How long it takes until 4 KiB are on the disk of this folder, at the median of a second of doing nothing else.
///
/// Written over what is there, one after the other, as SQLite does with its write-ahead log once it has had its first
/// checkpoint: a file that grows takes longer.
pub(crate) fn sync_time(folder: &Path) -> Result<Duration, Failure> {
    let file = File::create(folder.join("sync"))?;
    let page = [1; PAGE];
    for number in 0..PAGES {
        file.write_all_at(&page, number * PAGE as u64)?;
    }
    file.sync_all()?;

    let mut took = Vec::new();
    let started = Instant::now();
    while started.elapsed() < MEASURED {
        let begun = Instant::now();
        file.write_all_at(&page, took.len() as u64 % PAGES * PAGE as u64)?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    Ok(took[took.len() / 2])
}
