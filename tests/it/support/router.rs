//! The real router as a process of its own, in a directory of its own, on a port that it chooses.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::credentials::{self, AUDITOR_KEY, BACKEND_KEY, OPERATOR_KEY, SECRET};

/// How long the router may take for what it does at once; only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A router and its journal; the process ends with it.
pub(crate) struct Router {
    dir: TempDir,
    settings: Vec<(String, String)>,
    pub(super) http: reqwest::Client,
    process: Option<Process>,
}

struct Process {
    child: Child,
    address: SocketAddr,
    stdout: Stdout,
}

/// What a process has printed, and what it is going to print.
struct Stdout {
    printed: Vec<String>,
    coming: mpsc::UnboundedReceiver<String>,
}

impl Router {
    /// Starts one in development mode, with nothing set but where it listens, where its journal is, the keys of auditor
    /// and operator, and that it journals every refusal by itself.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts one in development mode with these settings.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let mut router = Self::stopped(settings);
        router.start_again().await;
        router
    }

    /// Starts one in secured mode with these settings.
    pub(crate) async fn secured(settings: &[(&str, &str)]) -> Self {
        let mut settings = settings.to_vec();
        settings.push(("SECRET_KEY", SECRET));
        Self::with(&settings).await
    }

    /// One that was never started.
    pub(crate) fn stopped(settings: &[(&str, &str)]) -> Self {
        let mut router = Self {
            dir: TempDir::new().expect("a temporary directory can be made"),
            settings: Vec::new(),
            http: reqwest::Client::builder().no_proxy().build().expect("a client without TLS can be built"),
            process: None,
        };
        router.set("LISTEN_ADDR", "127.0.0.1:0");
        router.set("DATABASE_URL", &format!("sqlite://{}", router.journal().display()));
        router.set("REFUSALS_PER_SECOND", "10000");
        router.set("AUDITOR_API_KEY", AUDITOR_KEY);
        router.set("OPERATOR_API_KEY", OPERATOR_KEY);
        for (name, value) in settings {
            router.set(name, value);
        }
        router
    }

    /// Changes a setting, from the next start on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it on the journal that it has; the port is a new one.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut child = self.command(&[]).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdout = Stdout { printed: Vec::new(), coming: lines_of(&mut child) };
        let address = loop {
            let Ok(Some(line)) = timeout(PATIENCE, stdout.coming.recv()).await else {
                let _ = child.kill();
                panic!("the router does not say where it serves: {:?}\n{}", stdout.printed, self.log());
            };
            let address = address_in(&line);
            stdout.printed.push(line);
            if let Some(address) = address {
                break address;
            }
        };
        self.process = Some(Process { child, address, stdout });
    }

    /// SIGTERM, an orderly end, and a start on the same journal.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// SIGTERM; returns what the process printed, when it has ended with success.
    pub(crate) async fn stop(&mut self) -> Vec<String> {
        self.terminate();
        self.ended().await
    }

    /// After SIGTERM: returns what the process printed, when it has ended with success.
    pub(crate) async fn ended(&mut self) -> Vec<String> {
        let mut process = self.process.take().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = process.child.try_wait().expect("the process is ours") {
                break status;
            }
            if Instant::now() > deadline {
                let _ = process.child.kill();
                panic!("the router does not end\n{}", self.log());
            }
            sleep(Duration::from_millis(5)).await;
        };
        assert!(status.success(), "after SIGTERM the router exits with {status}\n{}", self.log());
        let Stdout { mut printed, mut coming } = process.stdout;
        while let Some(line) = coming.recv().await {
            printed.push(line);
        }
        printed
    }

    /// SIGTERM, without waiting.
    pub(crate) fn terminate(&self) {
        let pid = self.pid().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().expect("there is a shell");
        assert!(sent.success(), "the router can be signalled");
    }

    /// SIGKILL: the process is gone when this returns.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.child.kill().expect("the process is ours");
        process.child.wait().expect("the process is ours");
    }

    /// SIGKILL and a start on the same journal.
    pub(crate) async fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again().await;
    }

    /// Runs the binary with these arguments and the router's own settings, to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let (stdout, stderr) = (self.dir.path().join("stdout"), self.dir.path().join("stderr"));
        let file = |path| File::create(path).expect("a file can be made");
        let mut command = self.command(arguments);
        let mut child = command.stdout(file(&stdout)).stderr(file(&stderr)).spawn().expect("the binary starts");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("the process is ours") {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().expect("the process is ours");
                child.wait().expect("the process is ours");
                panic!("{arguments:?} does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |path| std::fs::read(path).expect("it was written");
        Output { status, stdout: read(stdout), stderr: read(stderr) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("the log can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent-router"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stderr(log);
        command
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").child.id()
    }

    /// The resident memory of its process.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says how much");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.process.as_ref().expect("it runs").address
    }

    /// The address of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The address of its WebSocket.
    pub(crate) fn ws_url(&self) -> String {
        format!("ws://{}/ws", self.address())
    }

    /// The directory that it runs in.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The journal's file.
    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.path().join("journal.db")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("router.log")
    }

    /// What it has logged, over all its starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What an agent of this id shows: a JWT in secured mode, its bare id otherwise.
    pub(crate) fn agent_credential(&self, agent: &str) -> String {
        self.setting("SECRET_KEY").map_or_else(|| agent.to_owned(), |secret| credentials::agent_token(agent, secret))
    }

    /// The backend's key.
    pub(crate) fn backend_key(&self) -> &str {
        self.setting("MASTER_BE_API_KEY").unwrap_or(BACKEND_KEY)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the router's last lines:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// What a command printed, to stdout and then to stderr.
pub(crate) fn printed(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// An id for an agent that nobody else has.
pub(crate) fn agent_id() -> String {
    Uuid::new_v4().to_string()
}

/// Reads the child's stdout for as long as it lives, so that it never blocks on a full pipe.
fn lines_of(child: &mut Child) -> mpsc::UnboundedReceiver<String> {
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let rest = line.split("http://").nth(1)?;
    let end = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.' && sign != ':').unwrap_or(rest.len());
    rest[..end].trim_end_matches(['.', ':']).parse().ok()
}
