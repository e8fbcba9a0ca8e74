//! One Python program of `tests/clients`: events come out of it, commands go in.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Long enough for a slow machine to start Python several times over; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_mins(1);

/// The two releases of `genai-protocol` that are in the field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Client {
    V1,
    V2,
}

impl Client {
    fn python(self) -> String {
        let variable = match self {
            Self::V1 => "GENAI_PYTHON_1",
            Self::V2 => "GENAI_PYTHON_2",
        };
        std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test"))
    }
}

pub(super) struct Program {
    process: Child,
    commands: ChildStdin,
    events: mpsc::UnboundedReceiver<Value>,
    /// Events that came while another one was waited for.
    unread: Vec<Value>,
    /// What it wrote to stderr.
    complaints: NamedTempFile,
}

impl Program {
    pub(super) fn start(client: Client, script: &str, environment: &[(&str, &str)]) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let complaints = NamedTempFile::new().expect("a temporary file can be made");
        let mut process = Command::new(client.python())
            .arg(scripts.join(script))
            .env_clear()
            .envs(environment.iter().copied())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints.reopen().expect("a temporary file can be opened"))
            .spawn()
            .expect("the Python of the virtual environment starts: run scripts/test");
        let commands = process.stdin.take().expect("stdin is a pipe");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let (sender, events) = mpsc::unbounded_channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event =
                    serde_json::from_str(&line).unwrap_or_else(|_| json!({"event": "unreadable", "line": line}));
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Self { process, commands, events, unread: Vec::new(), complaints }
    }

    /// The first event of this name that fits and was not taken yet, now or when it comes.
    pub(super) async fn expect(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let wanted = |event: &Value| event["event"] == name && fits(event);
        if let Some(index) = self.unread.iter().position(&wanted) {
            return self.unread.remove(index);
        }
        let arriving = async {
            while let Some(event) = self.events.recv().await {
                if wanted(&event) {
                    return Some(event);
                }
                self.unread.push(event);
            }
            None
        };
        let arrived = timeout(PATIENCE, arriving).await;
        arrived
            .ok()
            .flatten()
            .unwrap_or_else(|| panic!("the program ended, or {PATIENCE:?} passed, without `{name}`{}", self.account()))
    }

    /// Starts a `session.send()`; [`Self::answer`] with the same label takes its outcome.
    pub(super) fn call(&mut self, label: &str, to: &str, payload: &Value) {
        self.call_with(label, to, payload, &json!({}));
    }

    /// A call with some of `request_id`, `session_id` and `close_timeout` (s).
    pub(super) fn call_with(&mut self, label: &str, to: &str, payload: &Value, options: &Value) {
        let mut call = options.clone();
        call["label"] = label.into();
        call["to"] = to.into();
        call["payload"] = payload.clone();
        self.tell(&json!({ "call": call }));
    }

    /// What `session.send()` made of the answer: the response, or the error's message.
    pub(super) async fn answer(&mut self, label: &str) -> Result<Value, String> {
        let mut answered = self.expect("answered", |event| event["label"] == label).await;
        if let Some(exception) = answered.get("exception") {
            panic!("send() raised {exception}{}", self.account());
        }
        let response = answered["response"].take();
        if answered["is_success"] == true {
            Ok(response)
        } else {
            Err(response.as_str().unwrap_or_default().to_owned())
        }
    }

    /// A call and its answer.
    pub(super) async fn ask(&mut self, to: &str, payload: Value) -> Result<Value, String> {
        self.call("only", to, &payload);
        self.answer("only").await
    }

    /// Lets the agent's `wait` task with this value go on.
    pub(super) fn release(&mut self, value: &str) {
        self.tell(&json!({ "release": value }));
    }

    fn tell(&mut self, command: &Value) {
        writeln!(self.commands, "{command}").expect("the program reads its commands");
    }

    /// Ends it as a crash would (SIGKILL).
    pub(super) fn kill(&mut self) {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ended(&mut self) -> ExitStatus {
        let ending = async {
            loop {
                if let Some(status) = self.process.try_wait().expect("the process is ours") {
                    return status;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let ended = timeout(PATIENCE, ending).await;
        ended.unwrap_or_else(|_| panic!("still running after {PATIENCE:?}{}", self.account()))
    }

    /// What is known of it, for a failing test.
    fn account(&self) -> String {
        let said: Vec<String> = self.unread.iter().map(Value::to_string).collect();
        let complaints = fs::read_to_string(self.complaints.path()).unwrap_or_default();
        format!("; it said:\n{}\nand on stderr:\n{complaints}", said.join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing to do about it if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
