//! How fast the disk takes what is written to it one after the other.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::Failure;

const PIECE: u32 = 1 << 20;
const PIECES: u32 = 512;

/// Bytes a second of a new file, until all of it is synced.
pub(crate) fn bytes_a_second(folder: &Path) -> Result<f64, Failure> {
    let path = folder.join("sequential");
    let mut file = File::create(&path)?;
    let piece = vec![1; PIECE as usize];
    let started = Instant::now();
    for _ in 0..PIECES {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    let took = started.elapsed();
    std::fs::remove_file(path)?;
    Ok(f64::from(PIECES) * f64::from(PIECE) / took.as_secs_f64())
}
