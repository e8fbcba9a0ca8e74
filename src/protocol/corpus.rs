//! The inputs that fuzzing has kept, for the tests that replay them.

use std::fs;
use std::path::Path;

/// Gives each input of `fuzz/corpus/<target>` to `run`, and returns them. The one that fails is named.
pub(crate) fn replay(target: &str, run: impl Fn(&[u8])) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let input = fs::read(&path).expect("an input");
        let witness = Witness(&path);
        run(&input);
        drop(witness);
        input
    };
    fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).map(read).collect()
}

struct Witness<'a>(&'a Path);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was {}", self.0.display());
        }
    }
}
