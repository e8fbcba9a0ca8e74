//! The router as a process of its own, and what it takes of the machine.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::report::Streamed;

pub(crate) const AUDITOR_KEY: &str = "local-auditor";

/// A running router. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Router {
    child: Child,
    address: SocketAddr,
}

impl Router {
    /// Starts one on the journal; returns when it listens.
    pub(crate) fn start(journal: &Path) -> Result<Self, Failure> {
        let mut child = command(journal)
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(File::create(journal.with_extension("log"))?)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("stdout is a pipe")?;
        // Owned from here on, so that it is killed if it does not say where it listens.
        let mut router = Self { child, address: ([127, 0, 0, 1], 0).into() };
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        let address = said.trim_end().rsplit_once("http://").and_then(|(_, address)| address.parse().ok());
        router.address = address.ok_or("the router does not say where it listens")?;
        Ok(router)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has Linux measure the peak of its memory from now on; returns where that begins, in KiB.
    pub(crate) fn forget_peak(&self) -> Result<u64, Failure> {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?;
        self.peak_kib()
    }

    /// The most memory that it had, in KiB.
    pub(crate) fn peak_kib(&self) -> Result<u64, Failure> {
        peak_kib(self.child.id())
    }

    /// The CPU time that its threads took so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration, Failure> {
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // One that has ended meanwhile had nothing to do with what is measured.
            let spent = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += spent.split(' ').next().and_then(|on_cpu| on_cpu.parse().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// SIGTERM, and a good end.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status()?;
        let status = self.child.wait()?;
        if sent.success() && status.success() { Ok(()) } else { Err(format!("the router ended with {status}").into()) }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // It has ended already, unless something else failed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `journal export`, with the memory of the whole process.
pub(crate) fn export(journal: &Path) -> Result<Streamed, Failure> {
    let started = Instant::now();
    let mut child =
        command(journal).args(["journal", "export"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut stdout = child.stdout.take().ok_or("stdout is a pipe")?;
    let mut buffer = vec![0; 1 << 16];
    let (mut bytes, mut memory_kib) = (0, 0);
    loop {
        let count = stdout.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        bytes += count;
        // Until its last bytes are read, it lives.
        memory_kib = peak_kib(child.id()).unwrap_or(memory_kib);
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("`journal export` ended with {status}").into());
    }
    Ok(Streamed { name: "agent-router journal export", bytes, took: started.elapsed(), memory_kib })
}

fn peak_kib(pid: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix(" kB"));
    Ok(peak.ok_or("Linux does not say how much memory it had")?.trim().parse()?)
}

fn command(journal: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-router"));
    command.env_clear().env("DATABASE_URL", format!("sqlite://{}", journal.display())).stdin(Stdio::null());
    command
}
