//! Simulated peers: agents of both versions, callers, masters and invoke sockets, which read what they are sent or lose it,
//! answer as they should or not, and come and go.

use std::collections::{BTreeMap, VecDeque};

use agent_router::auth::Principal;
use agent_router::id::{Identity, InvocationId, SessionId};
use agent_router::protocol::{Dialect, Inbound, Version, parse};
use agent_router::router::{AnswerRead, Command, Effect, EndReason, Ending, Outbound};
use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::state::Model;

/// How many deliveries an agent remembers, to answer them late, or twice.
const MEMORY: usize = 12;

/// The peers.
#[derive(Debug)]
pub(super) struct Cast {
    random: StdRng,
    sockets: BTreeMap<SessionId, Peer>,
    /// What agents have read, answered or not.
    work: BTreeMap<Identity, VecDeque<Work>>,
    spoken: u64,
}

#[derive(Debug)]
struct Peer {
    identity: Identity,
    target: Option<Identity>,
    version: Version,
    inbox: VecDeque<Outbound>,
    receipts: Vec<(InvocationId, u32)>,
    confirmations: Vec<AnswerRead>,
    /// The router ends it, or lets it go.
    must_end: Option<EndReason>,
}

#[derive(Clone, Debug)]
struct Work {
    invocation: InvocationId,
    invoked_by: String,
}

/// Agents; the last has a name that looks like a token.
const AGENTS: [&str; 4] = ["agent-a", "agent-b", "agent-c", "odd#name"];

impl Cast {
    pub(super) fn new(random: StdRng) -> Self {
        Self { random, sockets: BTreeMap::new(), work: BTreeMap::new(), spoken: 0 }
    }

    /// All sockets are gone, with everything on its way.
    pub(super) fn lose_all(&mut self) {
        self.sockets.clear();
    }

    /// What a batch let out, and the sockets that it opened.
    pub(super) fn take(&mut self, taken: &[Command], effects: Vec<Effect>) {
        for command in taken {
            if let Command::Open { session, principal, .. } = command {
                let target = match principal {
                    Principal::Own { .. } => None,
                    Principal::Invoke { target, .. } => Some(target.clone()),
                };
                let peer = Peer {
                    identity: principal.identity().clone(),
                    target,
                    version: Version::One,
                    inbox: VecDeque::new(),
                    receipts: Vec::new(),
                    confirmations: Vec::new(),
                    must_end: None,
                };
                self.sockets.insert(*session, peer);
            }
        }
        for effect in effects {
            match effect {
                Effect::Send { to, message, .. } => {
                    if let Some(peer) = self.sockets.get_mut(&to) {
                        peer.inbox.push_back(message);
                    }
                }
                Effect::End { session, why } => {
                    if let Some(peer) = self.sockets.get_mut(&session) {
                        peer.must_end = match why {
                            Ending::TakenOver => Some(EndReason::TakenOver),
                            Ending::Disconnected => Some(EndReason::Operator),
                            Ending::TooSlow | Ending::Restarting => peer.must_end,
                        };
                    }
                }
                Effect::Feed(_) | Effect::Ended { .. } => {}
            }
        }
    }

    /// What happens next, if anything does.
    pub(super) fn next(&mut self, model: &Model) -> Option<Command> {
        if model.draining && self.chance(10) {
            return Some(Command::Drain { on: false });
        }
        if self.chance(10) {
            return self.over_http(model);
        }
        match self.random.random_range(0..100) {
            0..8 => Some(self.open()),
            8..13 => self.end(),
            13..20 => self.register(model),
            20..21 => self.unregister(),
            21..50 => self.invoke(),
            50..62 => self.read(),
            62..70 => self.receipts(),
            70..84 => self.answer(model),
            84..89 => self.confirm(),
            89..93 => self.cancel(model),
            93 => Some(self.client_message()),
            94 => self.log(),
            95 => self.refused_frame(),
            96 => Some(Command::FeedAcknowledged { position: model.head }),
            _ => self.dismiss(),
        }
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    pub(super) fn anybody(&mut self) -> Identity {
        let name = *AGENTS.choose(&mut self.random).expect("there are some");
        match self.random.random_range(0..10) {
            0 => Identity::backend(),
            1 => Identity::ml(),
            2 => Identity::new("bare caller").expect("a name"),
            _ => Identity::new(name).expect("a name"),
        }
    }

    fn session(&mut self, wanted: impl Fn(&Peer) -> bool) -> Option<SessionId> {
        let sessions: Vec<SessionId> =
            self.sockets.iter().filter(|(_, peer)| wanted(peer)).map(|(id, _)| *id).collect();
        sessions.choose(&mut self.random).copied()
    }

    fn open(&mut self) -> Command {
        let identity = self.anybody();
        let principal = if self.chance(35) {
            let target = self.anybody();
            Principal::Invoke { caller: identity, target }
        } else {
            Principal::Own { identity, credential: None }
        };
        Command::Open { session: SessionId::generate(), principal, sealed_credential: None }
    }

    fn end(&mut self) -> Option<Command> {
        let dying = self.session(|peer| peer.must_end.is_some());
        let session = dying.or_else(|| self.session(|_| true))?;
        let mut peer = self.sockets.remove(&session)?;
        // What was read and counted may still be told of before the end.
        let reason = peer.must_end.take().filter(|_| self.random.random_ratio(3, 4));
        let others = [EndReason::Closed, EndReason::Dead, EndReason::TooSlow, EndReason::ProtocolError];
        let reason = reason.unwrap_or_else(|| *others.choose(&mut self.random).expect("there are some"));
        Some(Command::End { session, reason })
    }

    fn register(&mut self, model: &Model) -> Option<Command> {
        let session = self.session(|peer| peer.target.is_none())?;
        let identity = self.sockets[&session].identity.clone();
        let mut frame =
            json!({ "message_type": "agent_register", "request_payload": { "agent_name": identity.as_str() } });
        if self.chance(50) {
            frame["protocol_version"] = json!(2);
            if self.chance(60) {
                frame["max_in_flight"] = json!(self.random.random_range(1..6));
            }
            if self.chance(70) {
                frame["running"] = json!(self.running(&identity, model));
            }
        }
        let Inbound::Register(register) = self.parsed(session, &frame) else { return None };
        self.sockets.get_mut(&session)?.version = register.version;
        Some(Command::Register { session, register })
    }

    /// What an agent says it still works on: some of what it has, and sometimes what it has not.
    fn running(&mut self, identity: &Identity, model: &Model) -> Vec<String> {
        let mut running: Vec<InvocationId> =
            self.work.get(identity).into_iter().flatten().map(|work| work.invocation).collect();
        running.retain(|_| self.random.random_ratio(3, 4));
        if self.chance(20) {
            running.extend(self.any_call(model));
        }
        running.iter().map(ToString::to_string).collect()
    }

    pub(super) fn any_call(&mut self, model: &Model) -> Option<InvocationId> {
        let newest: Vec<InvocationId> = model.calls.keys().rev().take(20).copied().collect();
        newest.choose(&mut self.random).copied()
    }

    fn unregister(&mut self) -> Option<Command> {
        let session = self.session(|peer| peer.version == Version::Two)?;
        Some(Command::Unregister { session })
    }

    fn invoke(&mut self) -> Option<Command> {
        let session = self.session(|_| true)?;
        let frame = self.invocation(self.sockets[&session].target.clone());
        let Inbound::Invoke(invoke) = self.parsed(session, &frame) else { return None };
        Some(Command::Invoke { session, invoke })
    }

    /// A call, of this target if there is one as a rule.
    pub(super) fn invocation(&mut self, target: Option<Identity>) -> Value {
        let target = match target {
            Some(target) if self.chance(95) => target.to_string(),
            _ if self.chance(3) => String::new(),
            _ if self.chance(3) => "nobody".to_owned(),
            _ => self.anybody().to_string(),
        };
        self.spoken += 1;
        let mut frame = json!({ "message_type": "agent_invoke", "agent_uuid": target });
        let with_key = self.chance(35);
        if with_key {
            frame["idempotency_key"] = json!(format!("key {}", self.random.random_range(0..3)));
        }
        let asked = if with_key && self.chance(80) { 0 } else { self.spoken };
        frame["request_payload"] = json!({ "asked": asked, "filler": "x".repeat(self.random.random_range(0..60)) });
        if asked == 0 {
            frame["request_payload"] = json!({ "asked": "the same" });
        }
        self.add_terms(&mut frame);
        frame
    }

    fn add_terms(&mut self, frame: &mut Value) {
        if self.chance(20) {
            frame["ttl_ms"] = json!(*[0, 1, 400, 3000, 20_000].choose(&mut self.random).expect("there are some"));
        }
        if self.chance(20) {
            frame["deadline_ms"] = json!(*[0, 1, 300, 2500, 100_000].choose(&mut self.random).expect("there are some"));
        }
        if self.chance(30) {
            frame["max_attempts"] = json!(self.random.random_range(1..5));
        }
        if self.chance(20) {
            frame["receipt"] = json!(true);
            frame["request_metadata"] = json!({ "request_id": format!("request {}", self.spoken) });
        }
    }

    fn dismiss(&mut self) -> Option<Command> {
        let session = self.session(|peer| peer.target.is_some() && peer.identity.is_backend())?;
        let target = self.sockets[&session].target.clone()?;
        let frame = json!({ "message_type": "agent_invoke", "agent_uuid": target.as_str(),
                            "request_payload": { "error_message": "go" } });
        let Inbound::Invoke(invoke) = self.parsed(session, &frame) else { return None };
        Some(Command::Invoke { session, invoke })
    }

    /// A peer reads some of what it was sent. That is no command; its receipts come later, or never.
    fn read(&mut self) -> Option<Command> {
        let session = self.session(|peer| !peer.inbox.is_empty())?;
        let peer = self.sockets.get_mut(&session)?;
        let most = self.random.random_range(1..=peer.inbox.len());
        for message in peer.inbox.drain(..most) {
            match message {
                Outbound::Delivery(delivery) => {
                    peer.receipts.push((delivery.invocation, delivery.attempt));
                    let work = self.work.entry(peer.identity.clone()).or_default();
                    work.push_back(Work { invocation: delivery.invocation, invoked_by: delivery.invoked_by });
                    if work.len() > MEMORY {
                        work.pop_front();
                    }
                }
                Outbound::Answer(answer) => peer.confirmations.push(AnswerRead {
                    invocation: answer.invocation,
                    agent: answer.agent,
                    labels: answer.labels,
                }),
                Outbound::Finish if peer.must_end.is_none() => peer.must_end = Some(EndReason::Unregistered),
                Outbound::Finish | Outbound::Frame(_) | Outbound::Dismissal(_) | Outbound::Notice(_) => {}
            }
        }
        None
    }

    fn receipts(&mut self) -> Option<Command> {
        let session = self.session(|peer| !peer.receipts.is_empty())?;
        let peer = self.sockets.get_mut(&session)?;
        let count = self.random.random_range(1..=peer.receipts.len());
        Some(Command::Receipts { session, deliveries: peer.receipts.drain(..count).collect() })
    }

    fn confirm(&mut self) -> Option<Command> {
        let session = self.session(|peer| !peer.confirmations.is_empty())?;
        let peer = self.sockets.get_mut(&session)?;
        let count = self.random.random_range(1..=peer.confirmations.len());
        Some(Command::AnswersDelivered { session, answers: peer.confirmations.drain(..count).collect() })
    }

    fn answer(&mut self, model: &Model) -> Option<Command> {
        let session = self.session(|peer| peer.target.is_none() && !peer.identity.is_backend())?;
        let peer = &self.sockets[&session];
        let (identity, version) = (peer.identity.clone(), peer.version);
        let work = self.work.entry(identity).or_default();
        let index = if work.is_empty() { None } else { Some(self.random.random_range(0..work.len())) };
        let done = index.map(|index| work[index].clone());
        if let Some(index) = index
            && self.random.random_ratio(4, 5)
        {
            work.remove(index);
        }
        let (mut token, mut id) = match done {
            Some(done) => (done.invoked_by, Some(done.invocation)),
            None => (String::new(), None),
        };
        if self.chance(12) {
            id = self.any_call(model);
            let plain = id.map(|id| model.calls[&id].plain()).unwrap_or_default();
            token = match id {
                Some(id) if self.chance(50) => format!("{plain}#{id}"),
                _ if self.chance(50) => plain,
                _ => format!("odd#{}", InvocationId::generate()),
            };
        }
        self.spoken += 1;
        let kind = if self.chance(85) { "agent_response" } else { "agent_error" };
        let mut frame = json!({ "message_type": kind, "invoked_by": token, "response": self.spoken });
        if let Some(id) = id
            && version == Version::Two
            && self.chance(70)
        {
            frame["invocation_id"] = json!(id.to_string());
        }
        let Inbound::Answer(answer) = self.parsed(session, &frame) else { return None };
        Some(Command::Answer { session, answer })
    }

    fn cancel(&mut self, model: &Model) -> Option<Command> {
        let id = self.any_call(model)?;
        let caller = &model.calls[&id].caller;
        let session = self.session(|peer| peer.identity == *caller);
        let session = if self.chance(90) { session } else { self.session(|_| true) }?;
        let frame = json!({ "message_type": "agent_cancel", "invocation_id": id.to_string() });
        let Inbound::Cancel(cancel) = self.parsed(session, &frame) else { return None };
        Some(Command::Cancel { session, cancel })
    }

    fn client_message(&mut self) -> Command {
        self.spoken += 1;
        let message = json!({ "message_type": "note", "request_payload": { "asked": self.spoken } }).to_string().into();
        let name = *AGENTS.choose(&mut self.random).expect("there are some");
        Command::ClientMessage { caller: Identity::backend(), client: Identity::new(name).expect("a name"), message }
    }

    fn log(&mut self) -> Option<Command> {
        let session = self.session(|peer| peer.target.is_none())?;
        let Inbound::Log(log) = self.parsed(session, &json!({ "message_type": "agent_log", "log_message": "so" }))
        else {
            return None;
        };
        Some(Command::Log { session, log })
    }

    fn refused_frame(&mut self) -> Option<Command> {
        let session = self.session(|_| true)?;
        Some(Command::FrameRefused { session, reason: "not JSON".to_owned() })
    }

    /// The frame, as a session reads it.
    fn parsed(&self, session: SessionId, frame: &Value) -> Inbound {
        let dialect = Dialect { version: self.sockets[&session].version, secured: false };
        parse(&Bytes::from(frame.to_string()), dialect).expect("the frame is well formed")
    }

    pub(super) fn draw<T>(&mut self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.random)
    }
}
