//! The peers: what they say, what they are sent, and what they make of it.

use std::collections::BTreeMap;

use agent_router::auth::Principal;
use agent_router::id::{Identity, InvocationId, NodeId, SessionId};
use agent_router::journal::{Batch, Detail};
use agent_router::protocol::Version;
use agent_router::router::{AnswerRead, Command, Delivery, EndReason, Ending, Outbound, Verdict};
use serde_json::{Value, json};

use super::world::World;
use crate::support::stage::invocation;
use crate::support::{BACKEND, ML, command};

pub(super) const AGENTS: [&str; 3] = ["a", "b", "c"];
const CALLERS: [&str; 2] = ["bare", "other"];

/// A socket that the journal took.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) principal: Principal,
    pub(super) version: Version,
    pub(super) deliveries: Vec<Delivery>,
    /// Deliveries of which no receipt was sent.
    pub(super) unread: Vec<(InvocationId, u32)>,
    /// Answers of which it has not said that it has them.
    unconfirmed: Vec<AnswerRead>,
    /// What it waits for, and how often it was told.
    pub(super) waits: BTreeMap<InvocationId, u32>,
    /// Why it is to close.
    pub(super) ending: Option<EndReason>,
    pub(super) dismissed: u32,
    /// Its end is submitted.
    over: bool,
}

impl Peer {
    pub(super) fn is_own(&self) -> bool {
        matches!(self.principal, Principal::Own { .. })
    }

    pub(super) fn name(&self) -> &str {
        self.principal.identity().as_str()
    }
}

fn identity(name: &str) -> Identity {
    Identity::new(name).unwrap()
}

pub(super) fn own(name: &str) -> Principal {
    Principal::Own { identity: identity(name), credential: None }
}

impl World {
    fn socket(&mut self, number: i64, wanted: impl Fn(&Peer) -> bool) -> Option<SessionId> {
        let there = self.peers.iter().filter(|(_, peer)| peer.node.0 == number && !peer.over && wanted(peer));
        let there: Vec<SessionId> = there.map(|(id, _)| *id).collect();
        self.pick(&there)
    }

    fn peer(&mut self, session: SessionId) -> &mut Peer {
        self.peers.get_mut(&session).expect("it is there")
    }

    /// What comes next at this router.
    pub(super) fn speak(&mut self, number: i64) -> Option<Command> {
        match self.draw(100) {
            0..12 => Some(self.open()),
            12..22 => self.register(number),
            22..42 => self.invoke(number),
            42..46 => Some(self.invoke_over_http()),
            46..64 => self.answer(number),
            64..74 => self.receipts(number),
            74..82 => self.confirm(number),
            82..85 => self.cancel(number),
            85..87 => {
                let (id, row) = self.any_invocation()?;
                Some(Command::HttpCancel { caller: row, invocation: id })
            }
            87..94 => self.end(number),
            94 => Some(Command::Disconnect { agent: identity(self.pick(&AGENTS)?) }),
            95 => {
                let session = self.socket(number, |peer| peer.version == Version::Two)?;
                Some(Command::Unregister { session })
            }
            96 => self.dismiss(number),
            97 => Some(Command::Drain { on: self.chance(30) }),
            98 => {
                let session = self.socket(number, Peer::is_own)?;
                Some(command(session, Version::One, &json!({"message_type": "agent_log", "log_message": "so"})))
            }
            _ => {
                let name = self.pick(&AGENTS)?;
                let message = json!({"message_type": "note"}).to_string().into();
                Some(Command::ClientMessage { caller: Identity::backend(), client: identity(name), message })
            }
        }
    }

    /// What has to be said so that nothing waits for it.
    pub(super) fn orderly(&mut self, number: i64) -> Vec<Command> {
        let here = self.peers.iter().filter(|(_, peer)| peer.node.0 == number && !peer.over);
        let here: Vec<SessionId> = here.map(|(id, _)| *id).collect();
        let mut commands = Vec::new();
        for session in here {
            if !self.peer(session).unconfirmed.is_empty() {
                let answers = std::mem::take(&mut self.peer(session).unconfirmed);
                commands.push(Command::AnswersDelivered { session, answers });
            }
            if let Some(reason) = self.peer(session).ending {
                self.peer(session).over = true;
                commands.push(Command::End { session, reason });
            }
        }
        commands
    }

    fn open(&mut self) -> Command {
        let session = SessionId::generate();
        let principal = match self.draw(10) {
            0..5 => own(AGENTS[self.draw(3) as usize]),
            5 => own(BACKEND),
            6 => own(ML),
            7 => own(CALLERS[self.draw(2) as usize]),
            _ => {
                let caller = self.pick(&[BACKEND, "bare", "a"]).expect("some");
                Principal::Invoke { caller: identity(caller), target: identity(AGENTS[self.draw(3) as usize]) }
            }
        };
        Command::Open { session, principal, sealed_credential: None }
    }

    pub(super) fn registration(&mut self, session: SessionId) -> Command {
        let name = self.peer(session).name().to_owned();
        let version = self.peer(session).version;
        if version == Version::One && self.chance(50) {
            return command(session, version, &json!({"message_type": "agent_register", "request_payload": {}}));
        }
        let open = self.shared.invocations.values().filter(|row| row.agent.as_str() == name && row.is_open());
        let mut running: Vec<String> = open.filter(|row| row.attempt > 0).map(|row| row.id.to_string()).collect();
        running.retain(|_| self.chance(60));
        let credit = 1 + self.draw(4);
        self.peer(session).version = Version::Two;
        let frame = json!({
            "message_type": "agent_register", "protocol_version": 2, "max_in_flight": credit, "running": running,
            "request_payload": {},
        });
        command(session, version, &frame)
    }

    fn register(&mut self, number: i64) -> Option<Command> {
        let session = self.socket(number, |peer| {
            peer.is_own() && (AGENTS.contains(&peer.name()) || [ML, "other"].contains(&peer.name()))
        })?;
        Some(self.registration(session))
    }

    fn options(&mut self) -> Value {
        let mut options = json!({});
        if self.chance(20) {
            options["ttl_ms"] = json!(self.pick(&[0, 0, 3000, 60_000]));
        }
        if self.chance(15) {
            options["deadline_ms"] = json!(self.pick(&[500, 5000, 40_000]));
        }
        if self.chance(50) {
            options["max_attempts"] = json!(1 + self.draw(3));
        }
        if self.chance(15) {
            options["idempotency_key"] = json!(format!("key {}", self.draw(4)));
        }
        options
    }

    fn invoke(&mut self, number: i64) -> Option<Command> {
        let session = self.socket(number, |_| true)?;
        let agent = match &self.peer(session).principal {
            Principal::Invoke { target, .. } => target.to_string(),
            Principal::Own { .. } => self.pick(&AGENTS)?.to_owned(),
        };
        let options = self.options();
        Some(Command::Invoke { session, invoke: invocation(&agent, &json!({}), &options) })
    }

    fn invoke_over_http(&mut self) -> Command {
        let (agent, options) = (AGENTS[self.draw(3) as usize], self.options());
        Command::HttpInvoke { caller: Identity::backend(), invoke: invocation(agent, &json!({}), &options) }
    }

    fn answer(&mut self, number: i64) -> Option<Command> {
        let session = self.socket(number, |peer| !peer.deliveries.is_empty())?;
        let count = self.peer(session).deliveries.len();
        let index = self.draw(u32::try_from(count).expect("few")) as usize;
        let keep = self.chance(10);
        self.spoken += 1;
        let (spoken, kind) = (self.spoken, if self.chance(85) { "agent_response" } else { "agent_error" });
        let peer = self.peer(session);
        let mut frame = json!({
            "message_type": kind, "invoked_by": peer.deliveries[index].invoked_by, "response": spoken, "error": {},
        });
        if peer.version == Version::Two {
            frame["invocation_id"] = json!(peer.deliveries[index].invocation.to_string());
        }
        if !keep {
            peer.deliveries.remove(index);
        }
        let version = peer.version;
        Some(command(session, version, &frame))
    }

    fn receipts(&mut self, number: i64) -> Option<Command> {
        let session = self.socket(number, |peer| !peer.unread.is_empty())?;
        let deliveries = std::mem::take(&mut self.peer(session).unread);
        Some(Command::Receipts { session, deliveries })
    }

    fn confirm(&mut self, number: i64) -> Option<Command> {
        let session = self.socket(number, |peer| !peer.unconfirmed.is_empty())?;
        let answers = std::mem::take(&mut self.peer(session).unconfirmed);
        Some(Command::AnswersDelivered { session, answers })
    }

    fn any_invocation(&mut self) -> Option<(InvocationId, Identity)> {
        let rows: Vec<_> = self.shared.invocations.values().map(|row| (row.id, row.caller.clone())).collect();
        let newest = rows.len().saturating_sub(15);
        self.pick(&rows[newest..])
    }

    fn cancel(&mut self, number: i64) -> Option<Command> {
        let (id, caller) = self.any_invocation()?;
        let session = self.socket(number, |peer| peer.name() == caller.as_str())?;
        Some(command(session, Version::One, &json!({"message_type": "agent_cancel", "invocation_id": id.to_string()})))
    }

    fn dismiss(&mut self, number: i64) -> Option<Command> {
        let session = self.socket(number, |peer| !peer.is_own() && peer.name() == BACKEND)?;
        let Principal::Invoke { target, .. } = &self.peer(session).principal else { return None };
        let agent = target.to_string();
        Some(Command::Invoke { session, invoke: invocation(&agent, &json!({"error_message": "go"}), &json!({})) })
    }

    fn end(&mut self, number: i64) -> Option<Command> {
        let session = self.socket(number, |_| true)?;
        let peer = self.peer(session);
        peer.over = true;
        Some(Command::End { session, reason: peer.ending.unwrap_or(EndReason::Closed) })
    }

    /// Has all sockets of a router end.
    pub(super) fn end_sockets(&mut self, number: i64, reason: EndReason) {
        let here: Vec<SessionId> =
            self.peers.iter().filter(|(_, peer)| peer.node.0 == number && !peer.over).map(|(id, _)| *id).collect();
        for session in here {
            self.peer(session).over = true;
            self.router(number).held.push(Command::End { session, reason });
        }
    }

    /// A command is durable, or refused.
    pub(super) fn taken(&mut self, node: NodeId, command: Command, verdict: Verdict, batch: &Batch) {
        match command {
            Command::Open { session, principal, .. } if verdict == Verdict::Taken => {
                let peer = Peer {
                    node,
                    principal,
                    version: Version::One,
                    deliveries: Vec::new(),
                    unread: Vec::new(),
                    unconfirmed: Vec::new(),
                    waits: BTreeMap::new(),
                    ending: None,
                    dismissed: 0,
                    over: false,
                };
                self.peers.insert(session, peer);
            }
            Command::End { session, .. } => _ = self.peers.remove(&session),
            Command::Invoke { session, .. } => {
                let accepted = batch.events.iter().filter(|event| match &event.detail {
                    Detail::InvocationAccepted(accepted) => accepted.session == Some(session),
                    _ => false,
                });
                let ids: Vec<InvocationId> = accepted.filter_map(|event| event.invocation).collect();
                if let Some(peer) = self.peers.get_mut(&session) {
                    peer.waits.extend(ids.into_iter().map(|id| (id, 0)));
                }
            }
            Command::HttpInvoke { .. } => {
                if let Verdict::Invoked(taken) = verdict
                    && self.shared.invocations[&taken.invocation].is_open()
                {
                    self.router(node.0).http.insert(taken.invocation);
                }
            }
            _ => {}
        }
    }

    pub(super) fn must_end(&mut self, node: NodeId, session: SessionId, why: Ending) {
        let Some(peer) = self.peers.get_mut(&session) else { return };
        assert_eq!(peer.node, node, "a router closes its own sockets");
        let reason = match why {
            Ending::TakenOver => EndReason::TakenOver,
            Ending::Disconnected => EndReason::Operator,
            Ending::TooSlow => EndReason::TooSlow,
            Ending::Restarting => EndReason::Restarting,
        };
        peer.ending.get_or_insert(reason);
    }

    pub(super) fn sent_to(&mut self, node: NodeId, to: SessionId, message: Outbound) {
        self.check_sent(node, to, &message);
        let Some(peer) = self.peers.get_mut(&to) else { return };
        match message {
            Outbound::Delivery(delivery) => {
                peer.unread.push((delivery.invocation, delivery.attempt));
                peer.deliveries.push(*delivery);
            }
            Outbound::Answer(answer) => {
                *peer.waits.entry(answer.invocation).or_default() += 1;
                peer.unconfirmed.push(AnswerRead {
                    invocation: answer.invocation,
                    agent: answer.agent,
                    labels: answer.labels,
                });
            }
            Outbound::Finish => _ = peer.ending.get_or_insert(EndReason::Unregistered),
            Outbound::Dismissal(_) => peer.dismissed += 1,
            Outbound::Frame(_) | Outbound::Notice(_) => {}
        }
    }
}
