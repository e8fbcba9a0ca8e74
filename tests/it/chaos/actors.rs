//! Who plays in the chaos: each notes what it received.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::support::{Incoming, ML_KEY, Socket, agent_id, answer, registration};

/// Where the routers are at present, and whether the play goes on.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) addresses: watch::Receiver<Vec<SocketAddr>>,
    pub(crate) playing: watch::Receiver<bool>,
}

impl Stage {
    fn is_open(&self) -> bool {
        *self.playing.borrow()
    }

    /// Connects to any of them, as often as it takes; `None` once the play is over.
    async fn connect(&self, headers: &[(&str, &str)], random: &mut StdRng) -> Option<Socket> {
        while self.is_open() {
            let address = {
                let addresses = self.addresses.borrow();
                addresses[random.random_range(0..addresses.len())]
            };
            // A router that is stopped takes connections and says nothing.
            if let Ok(Ok(socket)) = timeout(Duration::from_secs(2), Socket::open(address, headers)).await {
                return Some(socket);
            }
            sleep(Duration::from_millis(20)).await;
        }
        None
    }
}

/// What one of them received.
#[derive(Default)]
pub(crate) struct Notes {
    /// Invocations that were receipted to the caller.
    pub(crate) receipts: BTreeSet<String>,
    /// How invocations ended for the caller: the error's message, or nothing; and the response.
    pub(crate) ends: Vec<(String, String, Value)>,
    /// How often a call was delivered to the agent, by its name.
    pub(crate) deliveries: BTreeMap<String, usize>,
    /// What came as a first delivery although it was not.
    pub(crate) falsely_first: Vec<String>,
    /// First deliveries in their order, by name, on each connection that tells them from others.
    pub(crate) orders: Vec<Vec<String>>,
}

async fn frame(socket: &mut Socket, until: Instant) -> Option<Value> {
    loop {
        match timeout_at(until, socket.next()).await {
            Ok(Some(Incoming::Text(text))) => {
                return Some(serde_json::from_str(&text).expect("the router writes JSON"));
            }
            Ok(Some(Incoming::Ping(_))) => {}
            _ => return None,
        }
    }
}

/// An agent that answers, fails, dawdles, forgets and breaks off.
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) is_version_2: bool,
    pub(crate) random: StdRng,
}

impl Agent {
    pub(crate) async fn play(mut self, stage: Stage) -> Notes {
        let mut notes = Notes::default();
        let mut unfinished: Vec<Value> = Vec::new();
        while let Some(mut socket) = stage.connect(&[("x-custom-authorization", &self.id)], &mut self.random).await {
            let mut frame = json!({"message_type": "agent_register", "request_payload": registration(&self.id)});
            if self.is_version_2 {
                let running: Vec<_> = unfinished.iter().map(|delivery| delivery["invocation_id"].clone()).collect();
                frame["protocol_version"] = json!(2);
                frame["running"] = json!(running);
            } else {
                unfinished.clear();
            }
            if !socket.send_text(&frame.to_string()).await {
                continue;
            }
            socket.answer_pings(self.random.random_bool(0.8));
            notes.orders.push(Vec::new());
            self.serve(&stage, &mut socket, &mut notes, &mut unfinished).await;
        }
        notes
    }

    /// Works until the connection ends or is broken off.
    async fn serve(&mut self, stage: &Stage, socket: &mut Socket, notes: &mut Notes, unfinished: &mut Vec<Value>) {
        let lifetime = Duration::from_millis(self.random.random_range(100..2000));
        let until = Instant::now() + lifetime;
        while stage.is_open() {
            let Some(delivery) = frame(socket, until).await else {
                return;
            };
            if delivery.get("request_payload").is_none() {
                continue;
            }
            Self::note(notes, &delivery);
            if self.random.random_bool(0.1) {
                unfinished.push(delivery);
                continue;
            }
            if self.random.random_bool(0.3) {
                sleep(Duration::from_millis(self.random.random_range(0..50))).await;
            }
            let mut reply = answer(&delivery, json!(agent_id()));
            if self.random.random_bool(0.1) {
                reply["message_type"] = json!("agent_error");
                reply["error"] = json!({"error_message": "on purpose"});
            }
            if !socket.send_text(&reply.to_string()).await {
                unfinished.push(delivery);
                return;
            }
            if self.random.random_bool(0.05) {
                socket.send_text(&reply.to_string()).await;
            }
            if let Some(kept) = unfinished.pop() {
                socket.send_text(&answer(&kept, json!(agent_id())).to_string()).await;
            }
        }
    }

    fn note(notes: &mut Notes, delivery: &Value) {
        let call = delivery["request_payload"]["call"].as_str().expect("every call has a name").to_owned();
        let count = notes.deliveries.entry(call.clone()).or_default();
        *count += 1;
        let says_first = delivery.get("invocation_id").is_some() && delivery.get("redelivered").is_none();
        if *count > 1 && says_first {
            notes.falsely_first.push(call.clone());
        }
        if says_first && let Some(order) = notes.orders.last_mut() {
            order.push(call);
        }
    }
}

/// A caller that asks without end and reads what it is told, on a connection that it sometimes breaks off.
pub(crate) struct Caller {
    pub(crate) index: usize,
    pub(crate) agents: Vec<String>,
    pub(crate) random: StdRng,
}

impl Caller {
    pub(crate) async fn play(mut self, stage: Stage) -> Notes {
        let mut notes = Notes::default();
        let own = agent_id();
        while let Some(mut socket) = match self.index {
            0 => stage.connect(&[("api-key", ML_KEY)], &mut self.random).await,
            1 => stage.connect(&[("x-custom-authorization", &own)], &mut self.random).await,
            _ => {
                let key = format!("{ML_KEY}:{}", self.agents[0]);
                stage.connect(&[("x-custom-invoke-key", &key)], &mut self.random).await
            }
        } {
            let until = Instant::now() + Duration::from_millis(self.random.random_range(200..3000));
            while stage.is_open() && Instant::now() < until && self.ask(&socket).await {
                self.listen(&mut socket, &mut notes).await;
            }
            let _ = timeout(Duration::from_millis(100), self.listen(&mut socket, &mut notes)).await;
        }
        notes
    }

    async fn ask(&mut self, socket: &Socket) -> bool {
        let agent = &self.agents[self.random.random_range(0..self.agents.len())];
        let frame = json!({
            "message_type": "agent_invoke",
            "agent_uuid": agent,
            "request_payload": {"call": agent_id(), "text": "x".repeat(self.random.random_range(0..500))},
            "max_attempts": self.random.random_range(1..4),
            "receipt": true,
        });
        socket.send_text(&frame.to_string()).await
    }

    async fn listen(&mut self, socket: &mut Socket, notes: &mut Notes) {
        let until = Instant::now() + Duration::from_millis(self.random.random_range(1..20));
        while let Some(told) = frame(socket, until).await {
            let Some(id) = told["invocation_id"].as_str().map(str::to_owned) else {
                continue;
            };
            match told["message_type"].as_str() {
                Some("agent_receipt") => {
                    notes.receipts.insert(id);
                }
                Some("agent_response") => notes.ends.push((id, String::new(), told["response"].clone())),
                _ => {
                    let message = told["error"]["error_message"].as_str().unwrap_or_default();
                    notes.ends.push((id, message.to_owned(), Value::Null));
                }
            }
        }
    }
}
