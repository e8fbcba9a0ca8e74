//! The router as a process of its own, and what it takes of the machine.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::Failure;

/// The operators' key as it is published, which is good for a router on loopback.
const OPERATOR_KEY: &str = "local-operator";

/// The unit of CPU times in `/proc`: the same on every Linux that this runs on.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// A running router. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Router {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Router {
    /// Starts one with its defaults on the journal at `url`, with its log in a folder; returns when it listens.
    pub(crate) fn start(url: &str, name: &str, folder: &Path) -> Result<Self, Failure> {
        Self::start_with(url, name, folder, &[])
    }

    /// Starts one with some settings beside its defaults.
    pub(crate) fn start_with(url: &str, name: &str, folder: &Path, settings: &[(&str, &str)]) -> Result<Self, Failure> {
        let log = folder.join(format!("{name}.log"));
        let mut child = command(url)
            .envs(settings.iter().copied())
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("NODE_ID", name)
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("stdout is a pipe")?;
        // Owned from here on, so that it is killed if it does not say where it listens.
        let mut router = Self { child, address: ([127, 0, 0, 1], 0).into(), log };
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        let address = said.trim_end().rsplit_once("http://").and_then(|(_, address)| address.parse().ok());
        router.address = address.ok_or_else(|| router.failure("it does not say where it listens"))?;
        Ok(router)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it ever had, in KiB.
    pub(crate) fn peak_kib(&self) -> Result<u32, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix(" kB"));
        Ok(peak.ok_or("Linux does not say how much memory it had")?.trim().parse()?)
    }

    /// SIGTERM. Returns at once: it ends when its sockets are closed.
    pub(crate) fn terminate(&self) -> Result<(), Failure> {
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.pid())]).status()?;
        if sent.success() { Ok(()) } else { Err("the router cannot be signalled".into()) }
    }

    /// Waits until it has ended, which has to be with success.
    pub(crate) fn ended(&mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(self.failure(&format!("it ended with {status}"))) }
    }

    /// How many commits it has made, and how long they took together.
    pub(crate) async fn commits(&self) -> Result<(f64, Duration), Failure> {
        let took = self.metric("agent_router_commit_duration_seconds_sum").await?;
        let count = self.metric("agent_router_commit_duration_seconds_count").await?;
        Ok((count, Duration::from_secs_f64(took)))
    }

    /// What it counts under this name now.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64, Failure> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let asked = client.get(format!("http://{}/metrics", self.address)).header("api-key", OPERATOR_KEY);
        let said = asked.send().await?.error_for_status()?.text().await?;
        let found = said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        found.ok_or_else(|| format!("there is no metric {name}").into())
    }

    fn failure(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!("the router failed: {what}\n{log}").into()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // It has ended already, unless something else failed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has the binary check the chain of the journal at `url`.
pub(crate) fn verify(url: &str) -> Result<(), Failure> {
    let Output { status, stdout, stderr } = command(url).args(["journal", "verify"]).output()?;
    if status.success() {
        return Ok(());
    }
    let said = [stdout, stderr].concat();
    Err(format!("`journal verify` fails: {}", String::from_utf8_lossy(&said)).into())
}

/// The binary, with nothing set but where the journal is.
pub(crate) fn command(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-router"));
    command.env_clear().env("DATABASE_URL", url).current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
    command
}

/// The CPU time of a process so far, its threads' and the kernel's for it.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field, the name, may hold anything but ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')').ok_or("Linux does not say how much time it took")?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let mut next = || times.next().ok_or("Linux does not say how much time it took");
    Ok(TICK * (next()?? + next()??))
}
