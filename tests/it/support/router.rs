//! The real router as a process of its own, in a directory of its own, on a port that it chooses.
//!
//! Its journal is a SQLite file, or with `TEST_DATABASE=postgres` a database of its own. There, with `TEST_NODES=2`, it is
//! two processes on the one journal: agents and callers with a socket of their own connect to the second, everybody else
//! to the first.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;
use uuid::Uuid;

use super::credentials::{self, AUDITOR_KEY, BACKEND_KEY, OPERATOR_KEY, SECRET};
use super::postgres::Database;
use super::process::Process;

/// How long the router may take for what it does at once; only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A router and its journal; the process ends with it.
pub(crate) struct Router {
    // Before the database: the processes go first.
    process: Option<Process>,
    second: Option<Process>,
    dir: TempDir,
    settings: Vec<(String, String)>,
    pub(super) http: reqwest::Client,
    pub(super) database: Option<Arc<Database>>,
    has_second: bool,
}

fn is_set(variable: &str, value: &str) -> bool {
    std::env::var(variable).is_ok_and(|set| set == value)
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

    /// Starts one on this database, whatever the other tests run on.
    pub(crate) async fn on(database: Arc<Database>, node: &str, settings: &[(&str, &str)]) -> Self {
        let mut router = Self::stopped_on(database, node, settings);
        router.start_again().await;
        router
    }

    /// Starts another on the database of this one, with the same settings.
    pub(crate) async fn another_node(&self, node: &str) -> Self {
        let database = self.database.clone().expect("it has a database");
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        Self::on(database, node, &settings).await
    }

    /// One that was never started.
    pub(crate) fn stopped(settings: &[(&str, &str)]) -> Self {
        if is_set("TEST_DATABASE", "postgres") {
            let mut router = Self::stopped_on(Arc::new(Database::create()), "one", settings);
            router.has_second = is_set("TEST_NODES", "2");
            return router;
        }
        Self::stopped_on_a_file(settings)
    }

    /// One that was never started, on a file, whatever the other tests run on.
    pub(crate) fn stopped_on_a_file(settings: &[(&str, &str)]) -> Self {
        let mut router = Self::unset();
        router.set("DATABASE_URL", &format!("sqlite://{}", router.journal().display()));
        router.set_all(settings);
        router
    }

    /// Starts one on a file, whatever the other tests run on.
    pub(crate) async fn on_a_file(settings: &[(&str, &str)]) -> Self {
        let mut router = Self::stopped_on_a_file(settings);
        router.start_again().await;
        router
    }

    /// One on this database that was never started.
    pub(crate) fn stopped_on(database: Arc<Database>, node: &str, settings: &[(&str, &str)]) -> Self {
        let mut router = Self::unset();
        router.set_all(settings);
        router.set("DATABASE_URL", database.url());
        // The port of the next start is another, and so would be the name by default.
        router.set("NODE_ID", node);
        router.database = Some(database);
        router
    }

    fn unset() -> Self {
        let mut router = Self {
            process: None,
            second: None,
            dir: TempDir::new().expect("a temporary directory can be made"),
            settings: Vec::new(),
            http: reqwest::Client::builder().no_proxy().build().expect("a client without TLS can be built"),
            database: None,
            has_second: false,
        };
        router.set("LISTEN_ADDR", "127.0.0.1:0");
        router.set("REFUSALS_PER_SECOND", "10000");
        router.set("AUDITOR_API_KEY", AUDITOR_KEY);
        router.set("OPERATOR_API_KEY", OPERATOR_KEY);
        router
    }

    fn set_all(&mut self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            self.set(name, value);
        }
    }

    /// Changes a setting, from the next start on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it on the journal that it has; the port is a new one.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(self.started(self.command(&[])).await);
        if self.has_second {
            let mut command = self.command(&[]);
            command.env("NODE_ID", "two");
            self.second = Some(self.started(command).await);
        }
    }

    /// Starts it by these arguments.
    pub(crate) async fn start_with(&mut self, arguments: &[&str]) {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(self.started(self.command(arguments)).await);
    }

    async fn started(&self, command: Command) -> Process {
        Process::start(command).await.unwrap_or_else(|printed| {
            panic!("the router does not say where it serves: {printed:?}\n{}", self.log());
        })
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
        let mut all = Vec::new();
        for process in [self.second.take(), self.process.take()].into_iter().flatten() {
            let Some((status, printed)) = process.ended().await else {
                panic!("the router does not end\n{}", self.log());
            };
            assert!(status.success(), "after SIGTERM the router exits with {status}\n{}", self.log());
            all = printed;
        }
        all
    }

    /// Waits for its end with a failure; returns what it printed.
    pub(crate) async fn failed(&mut self) -> Vec<String> {
        let process = self.process.take().expect("it runs");
        let Some((status, printed)) = process.ended().await else { panic!("the router does not end\n{}", self.log()) };
        assert!(!status.success(), "the router ends as if nothing was wrong\n{}", self.log());
        printed
    }

    /// SIGTERM, without waiting.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGSTOP: it does nothing any more, and its connections stay.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT: it goes on as if no time had passed.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(self.process.is_some(), "it runs");
        for process in [&self.second, &self.process].into_iter().flatten() {
            process.signal(signal);
        }
    }

    /// SIGKILL: the process is gone when this returns.
    pub(crate) fn kill(&mut self) {
        assert!(self.process.is_some(), "it runs");
        self.second = None;
        self.process = None;
    }

    /// SIGKILL and a start on the same journal.
    pub(crate) async fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again().await;
    }

    /// Runs the binary with these arguments and the router's own settings, to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_within(arguments, PATIENCE)
    }

    /// The same, which may take so long.
    pub(crate) fn run_within(&self, arguments: &[&str], patience: Duration) -> Output {
        let (stdout, stderr) = (self.dir.path().join("stdout"), self.dir.path().join("stderr"));
        let file = |path| File::create(path).expect("a file can be made");
        let mut command = self.command(arguments);
        let mut child = command.stdout(file(&stdout)).stderr(file(&stderr)).spawn().expect("the binary starts");
        let deadline = Instant::now() + patience;
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
        self.running().pid()
    }

    /// The resident memory of its process.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// The most that this ever was.
    pub(crate) fn most_resident_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, which: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("Linux says how much");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running().address
    }

    /// Where agents and callers with a socket of their own connect.
    pub(crate) fn address_for_agents(&self) -> SocketAddr {
        self.second.as_ref().unwrap_or(self.running()).address
    }

    /// The address of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The address of its WebSocket.
    pub(crate) fn ws_url(&self) -> String {
        format!("ws://{}/ws", self.address())
    }

    /// The same, for agents.
    pub(crate) fn ws_url_for_agents(&self) -> String {
        format!("ws://{}/ws", self.address_for_agents())
    }

    /// Whether agents connect to another process than masters.
    pub(crate) fn is_two(&self) -> bool {
        self.has_second
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
