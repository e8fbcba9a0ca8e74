//! A socket of the backend that keeps a number of invocations on their way, and checks the answers.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use agent_router::clock::Clock;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use crate::Failure;
use crate::payload::{self, Payloads};
use crate::wire::{Incoming, Socket};

/// The backend's key as it is published, which is good for a router on loopback.
const KEY: &str = "7a3fd399-3e48-46a0-ab7c-0eaf38020283::master_server_be";

/// How long what must come may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the backend's library answers to a notification.
const ACKNOWLEDGEMENT: &str =
    r#"{"message_type":"agent_response","response":"ok","execution_time":0.001,"invoked_by":""}"#;

/// What is asked of whom, and when.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) agents: Arc<[Uuid]>,
    /// Agents are on so many routers in turn, the first on the first.
    pub(crate) nodes: u64,
    pub(crate) payloads: Payloads,
    /// Invocations are sent until its end, and answers in it are what is measured.
    pub(crate) measured: Range<Instant>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// All answers.
    pub(crate) answers: u64,
    /// How long each took that came in the measured time from an agent on the master's own router.
    pub(crate) within: Vec<Duration>,
    /// How long each took that came from an agent on another one.
    pub(crate) across: Vec<Duration>,
}

/// A connected backend.
#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) socket: Socket,
    /// Which router it is connected to.
    node: u64,
    /// When the invocations were sent that are not answered, by their number.
    pub(crate) waiting: HashMap<u64, Instant>,
    /// Invocations are numbered from here on: the time in microseconds, so that no earlier connection has used one of them.
    first_number: u64,
    next_number: u64,
    /// Agents that it was told of. It is told of those of an earlier load, too, and that they left.
    announced: HashSet<Uuid>,
}

/// What of a frame to a backend matters here.
#[derive(Deserialize)]
struct Frame<'a> {
    message_type: Option<&'a str>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    request_payload: Option<Notification>,
}

/// What of a notification matters here.
#[derive(Deserialize)]
struct Notification {
    message_type: String,
    agent_uuid: Option<Uuid>,
}

impl Master {
    pub(crate) async fn connect(address: SocketAddr, node: u64) -> Result<Self, Failure> {
        let socket = Socket::open(address, ("API-KEY", KEY)).await?;
        let first_number = u64::try_from(Clock::start().now().as_micros())?;
        Ok(Self {
            socket,
            node,
            waiting: HashMap::new(),
            first_number,
            next_number: first_number,
            announced: HashSet::new(),
        })
    }

    /// Waits until these agents were announced to this socket.
    pub(crate) async fn expect_agents(&mut self, agents: &[Uuid]) -> Result<(), Failure> {
        let is_missing = |announced: &HashSet<Uuid>| agents.iter().any(|agent| !announced.contains(agent));
        while is_missing(&self.announced) {
            if !matches!(timeout(PATIENCE, self.socket.receive()).await, Ok(Ok(true))) {
                return Err(format!("{} agents were announced, not all {}", self.announced.len(), agents.len()).into());
            }
            while let Some(frame) = self.next_text()? {
                // An answer is one that an earlier connection may not have read.
                self.take(std::str::from_utf8(&frame)?)?;
            }
            self.socket.flush().await?;
        }
        Ok(())
    }

    /// Invokes agents in turn, so that `outstanding` invocations wait for an answer at any time, until the time is over and
    /// all are answered.
    pub(crate) async fn invoke(mut self, work: &Work, outstanding: u32) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        for _ in 0..outstanding {
            self.ask(work, Instant::now());
        }
        self.socket.flush().await?;
        while !self.waiting.is_empty() {
            let received = timeout_at(work.measured.end + PATIENCE, self.socket.receive()).await;
            if !matches!(received, Ok(Ok(true))) {
                return Err(format!("{} invocations were not answered", self.waiting.len()).into());
            }
            let now = Instant::now();
            while let Some(frame) = self.next_text()? {
                let Some(answer) = self.take(std::str::from_utf8(&frame)?)? else { continue };
                let Some((sent, node)) = self.settle(work, answer)? else { continue };
                tally.answers += 1;
                if work.measured.contains(&now) {
                    let latencies = if node == self.node { &mut tally.within } else { &mut tally.across };
                    latencies.push(now - sent);
                }
                if now < work.measured.end {
                    self.ask(work, now);
                }
            }
            self.socket.flush().await?;
        }
        timeout(PATIENCE, self.socket.confirm()).await??;
        self.socket.close().await?;
        Ok(tally)
    }

    pub(crate) fn ask(&mut self, work: &Work, now: Instant) {
        let number = self.next_number;
        self.next_number += 1;
        let turn = number % work.agents.len() as u64;
        let agent = work.agents[usize::try_from(turn).expect("it is less than a length")];
        let payload = work.payloads.render(number);
        self.socket
            .text(&format!(r#"{{"message_type":"agent_invoke","agent_uuid":"{agent}","request_payload":{payload}}}"#));
        self.waiting.insert(number, now);
    }

    /// Takes an answer for its invocation; returns when that was sent, and which router its agent is on. None, if an earlier
    /// connection has asked for it.
    pub(crate) fn settle(&mut self, work: &Work, answer: &str) -> Result<Option<(Instant, u64)>, Failure> {
        if payload::number(answer).is_some_and(|number| number < self.first_number) {
            return Ok(None);
        }
        let found = work.payloads.recognise(answer).and_then(|number| {
            let node = number % work.agents.len() as u64 % work.nodes;
            Some((self.waiting.remove(&number)?, node))
        });
        found.map(Some).ok_or_else(|| format!("an answer that nothing waits for: {answer}").into())
    }

    pub(crate) fn next_text(&mut self) -> Result<Option<bytes::Bytes>, Failure> {
        match self.socket.next()? {
            Some(Incoming::Text(frame)) => Ok(Some(frame)),
            Some(Incoming::Close) => Err("the router closed a master's connection".into()),
            None => Ok(None),
        }
    }

    /// The response, if the frame is an answer. If it is a notification, that is answered.
    pub(crate) fn take<'a>(&mut self, frame: &'a str) -> Result<Option<&'a str>, Failure> {
        match serde_json::from_str(frame) {
            Ok(Frame { message_type: Some("agent_response"), response: Some(response), .. }) => {
                Ok(Some(response.get()))
            }
            Ok(Frame { message_type: None, request_payload: Some(told), .. }) => {
                if told.message_type == "agent_register" {
                    self.announced.extend(told.agent_uuid);
                }
                self.socket.text(ACKNOWLEDGEMENT);
                Ok(None)
            }
            _ => Err(format!("a master was sent {frame}").into()),
        }
    }
}
