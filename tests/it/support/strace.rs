//! System calls of a running router that end otherwise than they would: `strace` gets in between.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::{sleep, timeout};

/// What every sync of a file is, by whichever call.
pub(crate) const SYNCS: &str = "fsync,fdatasync";

/// System calls that are interfered with, until this is dropped.
pub(crate) struct Injection {
    strace: Child,
    calls: NamedTempFile,
}

impl Injection {
    /// From now on, these calls of the process end so; in the words of strace, such as `error=EIO:when=3+`. With `paths`, only
    /// those on these files.
    pub(crate) fn into(pid: u32, calls: &str, how: &str, paths: &[&std::path::Path]) -> Self {
        let log = NamedTempFile::new().expect("a temporary file can be made");
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:{how}")]).arg("-o").arg(log.path());
        for path in paths {
            command.arg("-P").arg(path);
        }
        let spawned = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut strace = spawned.unwrap_or_else(|error| panic!("strace: {error}: run scripts/prerequisites"));
        let mut said = BufReader::new(strace.stderr.take().expect("stderr is a pipe"));
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            let read = said.read_line(&mut line).expect("strace speaks text");
            assert!(read > 0, "strace cannot attach (as root?)");
        }
        // What else it says is nobody's business, but must not block it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { strace, calls: log }
    }

    /// How many calls have been interfered with.
    pub(crate) fn count(&self) -> usize {
        let calls = std::fs::read_to_string(self.calls.path()).unwrap_or_default();
        calls.lines().filter(|line| line.contains("INJECTED") || line.contains("DELAYED")).count()
    }

    /// Waits until the first call has been interfered with.
    pub(crate) async fn strikes(&self, within: Duration) {
        let strikes = async {
            while self.count() == 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(within, strikes).await.expect("such a call is made by then");
    }
}

impl Drop for Injection {
    /// The process goes on by itself.
    fn drop(&mut self) {
        let command = format!("kill -TERM {}", self.strace.id());
        let _ = Command::new("sh").args(["-c", &command]).status();
        let _ = self.strace.wait();
    }
}
