//! Servers that `scripts/postgres` runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::Database;
use super::server::Server;

/// A server that a test has to itself, and may stop and start.
pub(crate) struct Cluster {
    process: Arc<Mutex<Process>>,
    server: Server,
    ca: Option<PathBuf>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::with(&[], &[])
    }

    /// One that keeps everything in this directory.
    pub(crate) fn start_in(directory: &Path) -> Self {
        Self::start_as(&[("TMPDIR", directory)])
    }

    /// One with these variables in its environment.
    pub(crate) fn start_as(environment: &[(&str, &Path)]) -> Self {
        Self::with(&[], environment)
    }

    /// One with a certificate.
    pub(crate) fn start_with_tls() -> Self {
        Self::with(&["--tls"], &[])
    }

    fn with(arguments: &[&str], environment: &[(&str, &Path)]) -> Self {
        let (process, url, ca) = Process::start(arguments, environment);
        Self { process: Arc::new(Mutex::new(process)), server: Server::at(&url), ca }
    }

    pub(crate) fn database(&self) -> Database {
        self.server.database()
    }

    /// The certificate of the authority that vouches for the server.
    pub(crate) fn ca(&self) -> &Path {
        self.ca.as_deref().expect("it was started with TLS")
    }

    /// Ends it at once, as a crash would: no transaction ends in good order.
    pub(crate) async fn crash(&self) {
        self.command("stop").await;
    }

    /// Ends it in good order: whoever is connected is cut off.
    pub(crate) async fn shut_down(&self) {
        self.command("shutdown").await;
    }

    /// Starts it again, if it does not run; it recovers first.
    pub(crate) async fn start_again(&self) {
        self.command("start").await;
    }

    /// Keeps a copy of all that is in it; that takes a restart.
    pub(crate) async fn save(&self) {
        self.command("save").await;
    }

    /// Puts that copy in the place of what it has.
    pub(crate) async fn set_back(&self) {
        self.command("set-back").await;
    }

    /// Stops all of it, as if the machine stood still: connections stay, and nothing answers.
    pub(crate) async fn pause(&self) {
        self.command("pause").await;
    }

    /// Lets it go on.
    pub(crate) async fn resume(&self) {
        self.command("continue").await;
    }

    async fn command(&self, command: &'static str) {
        let process = Arc::clone(&self.process);
        let done = tokio::task::spawn_blocking(move || process.lock().expect("nobody failed with it").command(command));
        done.await.expect("scripts/postgres does as it is told");
    }
}

/// `scripts/postgres`, which ends with its standard input, and so with this process.
pub(super) struct Process {
    #[expect(dead_code, reason = "it ends by itself")]
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    pub(super) fn start(arguments: &[&str], environment: &[(&str, &Path)]) -> (Self, String, Option<PathBuf>) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres");
        let mut child = Command::new(script)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // An interrupt at the terminal is for the tests; this one sees that they are gone.
            .process_group(0)
            .spawn()
            .expect("scripts/postgres can be run");
        let commands = child.stdin.take().expect("stdin is a pipe");
        let answers = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut process = Self { child, commands, answers };
        let said = process.said();
        let said = |what: &str| said.iter().find_map(|line| line.strip_prefix(what)).map(str::to_owned);
        (process, said("url ").expect("it says where it serves"), said("ca ").map(PathBuf::from))
    }

    fn command(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("scripts/postgres takes commands");
        self.said();
    }

    /// What it says, until it is done.
    fn said(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).expect("scripts/postgres speaks");
            assert!(read > 0, "there is no Postgres to test with: run scripts/prerequisites, or set TEST_POSTGRES_URL");
            if line.trim() == "done" {
                return said;
            }
            said.push(line.trim().to_owned());
        }
    }
}
