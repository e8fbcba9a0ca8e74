//! One process of the real binary.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::router::PATIENCE;

/// A router that serves; it is killed with this.
pub(super) struct Process {
    child: Child,
    pub(super) address: SocketAddr,
    stdout: Stdout,
}

/// What a process has printed, and what it is going to print.
struct Stdout {
    printed: Vec<String>,
    coming: mpsc::UnboundedReceiver<String>,
}

impl Process {
    /// Starts one, and waits until it says where it serves; otherwise returns what it printed.
    pub(super) async fn start(mut command: Command) -> Result<Self, Vec<String>> {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdout = Stdout { printed: Vec::new(), coming: lines_of(&mut child) };
        loop {
            let Ok(Some(line)) = timeout(PATIENCE, stdout.coming.recv()).await else {
                let _ = child.kill();
                let _ = child.wait();
                return Err(stdout.printed);
            };
            let address = address_in(&line);
            stdout.printed.push(line);
            if let Some(address) = address {
                return Ok(Self { child, address, stdout });
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name.
    pub(super) fn signal(&self, signal: &str) {
        let command = format!("kill -{signal} {}", self.pid());
        let sent = Command::new("sh").args(["-c", &command]).status().expect("there is a shell");
        assert!(sent.success(), "the router can be signalled");
    }

    /// Its end, and what it printed; `None` if it does not end.
    pub(super) async fn ended(mut self) -> Option<(ExitStatus, Vec<String>)> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                break status;
            }
            if Instant::now() > deadline {
                return None;
            }
            sleep(Duration::from_millis(5)).await;
        };
        let mut printed = std::mem::take(&mut self.stdout.printed);
        while let Some(line) = self.stdout.coming.recv().await {
            printed.push(line);
        }
        Some((status, printed))
    }
}

impl Drop for Process {
    /// SIGKILL: the process is gone when this returns.
    fn drop(&mut self) {
        // Nothing to do about it if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
