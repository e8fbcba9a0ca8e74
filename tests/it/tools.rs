//! The HTTP interface as tools from outside take it: schemathesis tries every route by its description, a Prometheus
//! client reads the metrics, a browser shows the page.

mod docs_page;
mod metrics;
mod schemathesis;

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{BACKEND_KEY, Incoming, Peer, Router, Socket, answer, registration};

/// The agent of the examples in the description.
const AGENT: &str = "5f0c1bd2-6f1c-4b8e-9d7e-0c8a3f1e2d4b";

/// A router in secured mode with some history, and an agent that answers whatever it is asked.
async fn populated(settings: &[(&str, &str)]) -> (Router, Vec<String>) {
    let router = Router::secured(settings).await;
    let registered = router.history("kind=agent.registered").await.len() + 1;
    tokio::spawn(answer_everything(router.address(), router.agent_credential(AGENT)));
    router.wait_for_events("kind=agent.registered", registered).await;

    let mut caller = Peer::invoke_socket(&router, BACKEND_KEY, AGENT).await;
    let mut invocations = Vec::new();
    for n in 0..3 {
        let metadata = json!({"request_metadata": {"request_id": format!("r{n}"), "session_id": "s"}});
        invocations.push(caller.accepted(AGENT, json!({"n": n, "api_key": "sk-hidden"}), metadata).await);
        assert_eq!(caller.recv().await["response"], "done");
    }
    (router, invocations)
}

/// Is the agent for as long as the router is there, and comes back when it is disconnected.
async fn answer_everything(router: SocketAddr, token: String) {
    while let Ok(mut socket) = Socket::open(router, &[("x-custom-authorization", &token)]).await {
        let frame = json!({"message_type": "agent_register", "request_payload": registration(AGENT)});
        let mut open = socket.send_text(&frame.to_string()).await;
        while open && let Some(incoming) = socket.next().await {
            let Incoming::Text(text) = incoming else { continue };
            let delivery: Value = serde_json::from_str(&text).expect("a delivery is JSON");
            open = socket.send_text(&answer(&delivery, json!("done")).to_string()).await;
        }
    }
}

/// What the variable says where a tool is.
fn tool(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test"))
}

/// Runs a tool to its end, or fails the test.
async fn output(mut command: Command, stdin: Stdio, patience: Duration) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    let folder = tempfile::tempdir().expect("a directory can be made");
    let paths = ["stdout", "stderr"].map(|name| folder.path().join(name));
    let [stdout, stderr] = paths.each_ref().map(|path| File::create(path).expect("a file can be made"));
    let mut child = (command.stdin(stdin).stdout(stdout).stderr(stderr).spawn())
        .unwrap_or_else(|error| panic!("{name} does not start ({error}): run scripts/test"));
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the process is ours") {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().expect("the process is ours");
            child.wait().expect("the process is ours");
            break None;
        }
        sleep(Duration::from_millis(50)).await;
    };
    let [stdout, stderr] = paths.map(|path| std::fs::read(path).expect("the file is there"));
    let Some(status) = status else {
        let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        panic!("{name} has not ended after {patience:?}:\n{said}");
    };
    Output { status, stdout, stderr }
}
