//! What this router could not be faster than: a WebSocket relay with axum that keeps nothing, and the same with a plain file
//! to which each message is appended, and synced, before it goes on.
//!
//! It runs as a process of its own, and speaks as much of the protocol as the clients of the load do: an agent is announced to
//! masters, an invocation goes to its agent, an answer to whoever asked. The relay checks nothing but that it is JSON.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use axum::extract::{State, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::any;
use futures_util::stream::StreamExt;
use futures_util::{SinkExt, stream::SplitSink};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::Failure;

/// Messages that wait for a socket or the file; whoever has one more waits.
const QUEUE: usize = 4096;

/// Messages of a socket in one write, and of the file in one sync.
const AT_ONCE: usize = 1024;

type Outbox = mpsc::Sender<Utf8Bytes>;

/// Who is connected. What an outbox is found by is a name: an agent's id, or a number of a master.
#[derive(Debug, Default)]
struct Relay {
    agents: RwLock<HashMap<String, Outbox>>,
    masters: RwLock<Vec<Outbox>>,
    /// The way to the file, if there is one.
    file: Option<mpsc::Sender<(Utf8Bytes, Outbox)>>,
}

/// What of a frame matters to a relay.
#[derive(Deserialize)]
struct Frame<'a> {
    message_type: &'a str,
    agent_uuid: Option<&'a str>,
    #[serde(borrow)]
    request_payload: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    invoked_by: Option<&'a str>,
}

/// Serves until it is killed; says on its first line where. With a path, it appends to that file.
pub(crate) async fn serve(path: Option<&Path>) -> Result<(), Failure> {
    let file = path.map(|path| {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let file = File::create(path)?;
        std::thread::spawn(move || append(file, receiver));
        Ok::<_, Failure>(sender)
    });
    let relay = Arc::new(Relay { file: file.transpose()?, ..Relay::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let app = Router::new().route("/ws", any(upgrade)).with_state(relay);
    Ok(axum::serve(listener, app).await?)
}

async fn upgrade(State(relay): State<Arc<Relay>>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let agent = headers.get("x-custom-authorization").and_then(|name| Some(name.to_str().ok()?.to_owned()));
    upgrade.on_upgrade(move |socket| async move {
        let (sink, mut stream) = socket.split();
        let (outbox, messages) = mpsc::channel(QUEUE);
        let number = relay.connected(agent.clone(), outbox);
        let writing = tokio::spawn(write(sink, messages));
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Text(text) if relay.take(&text, agent.as_deref(), number).await.is_none() => break,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
                Message::Binary(_) | Message::Close(_) => break,
            }
        }
        writing.abort();
    })
}

impl Relay {
    /// Adds an agent, or a master, whose number it returns.
    fn connected(&self, agent: Option<String>, outbox: Outbox) -> usize {
        if let Some(agent) = agent {
            self.agents.write().expect("nothing panics with it").insert(agent, outbox);
            return 0;
        }
        let mut masters = self.masters.write().expect("nothing panics with it");
        masters.push(outbox);
        masters.len() - 1
    }

    /// Passes on a frame of an agent, or of a master by its number; `None` if that makes no sense.
    async fn take(&self, text: &str, agent: Option<&str>, master: usize) -> Option<()> {
        let frame: Frame = serde_json::from_str(text).ok()?;
        let (text, to) = match frame.message_type {
            "agent_invoke" => {
                let to = self.agents.read().ok()?.get(frame.agent_uuid?)?.clone();
                let payload = frame.request_payload?;
                (format!(r#"{{"request_payload":{payload},"invoked_by":"{master}"}}"#), to)
            }
            "agent_response" => {
                let Ok(master) = frame.invoked_by?.parse::<usize>() else {
                    // The acknowledgement of an announcement.
                    return Some(());
                };
                let to = self.masters.read().ok()?.get(master)?.clone();
                let response = frame.response?;
                (format!(r#"{{"message_type":"agent_response","response":{response},"execution_time":0.001}}"#), to)
            }
            _ => {
                let newest = self.masters.read().ok()?.last()?.clone();
                let told = format!(r#"{{"message_type":"agent_register","agent_uuid":"{}"}}"#, agent?);
                (format!(r#"{{"request_payload":{told}}}"#), newest)
            }
        };
        match &self.file {
            Some(file) => file.send((text.into(), to)).await.ok(),
            None => to.send(text.into()).await.ok(),
        }
    }
}

/// Writes what waits for a socket, all of it in one.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut messages: mpsc::Receiver<Utf8Bytes>) {
    let mut batch = Vec::with_capacity(AT_ONCE);
    while messages.recv_many(&mut batch, AT_ONCE).await > 0 {
        for text in batch.drain(..) {
            if sink.feed(Message::Text(text)).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}

/// Appends what has come, syncs it, and only then sends it on.
fn append(mut file: File, mut messages: mpsc::Receiver<(Utf8Bytes, Outbox)>) {
    let mut batch = Vec::with_capacity(AT_ONCE);
    let mut bytes = Vec::new();
    while messages.blocking_recv_many(&mut batch, AT_ONCE) > 0 {
        bytes.clear();
        for (text, _) in &batch {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(b'\n');
        }
        file.write_all(&bytes).and_then(|()| file.sync_data()).expect("a ceiling needs a disk");
        for (text, to) in batch.drain(..) {
            // Who is gone gets nothing.
            let _ = to.blocking_send(text);
        }
    }
}

/// The process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts this same program as a relay.
    pub(crate) fn start(file: Option<PathBuf>) -> Result<Self, Failure> {
        let file = file.unwrap_or_else(|| "-".into());
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("--relay").arg(file).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("stdout is a pipe")?;
        let mut process = Self { child, address: ([127, 0, 0, 1], 0).into() };
        let mut said = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said)?;
        process.address = said.trim_end().parse()?;
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, unless nothing killed it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
