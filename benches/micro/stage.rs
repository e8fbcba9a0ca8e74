//! A ledger with an agent and a caller, whose every decision is taken for committed.

use std::time::Duration;

use agent_router::auth::Principal;
use agent_router::clock::Timestamp;
use agent_router::id::{Identity, SessionId};
use agent_router::invocation::Policy;
use agent_router::journal::{Batch, Restored};
use agent_router::protocol::{self, Dialect, Inbound};
use agent_router::router::{Command, Effect, Found, Ledger, Outbound, Step};
use bytes::Bytes;

const AGENT: &str = "agent";
const CALLER: &str = "caller";

/// Both payloads of an invocation are of so many bytes.
pub(crate) const PAYLOAD: usize = 200;

pub(crate) struct Stage {
    ledger: Ledger,
    now: Timestamp,
    agent: SessionId,
    caller: SessionId,
    invoke: Bytes,
    filling: String,
}

impl Stage {
    /// On what a journal says; with what is to be committed before anything else.
    pub(crate) fn new(restored: Restored, now: Timestamp) -> (Self, Vec<Batch>) {
        let ledger = Ledger::restore(restored, Policy::default(), Duration::from_secs(20), now);
        let filling = "x".repeat(PAYLOAD);
        let mut stage = Self {
            ledger,
            now,
            agent: SessionId::generate(),
            caller: SessionId::generate(),
            invoke: invoke_frame(&filling).into(),
            filling,
        };
        let mut step = Step::default();
        stage.ledger.boot(now, &mut step);
        let mut batches = vec![stage.committed(&mut step)];
        for (name, session) in [(AGENT, stage.agent), (CALLER, stage.caller)] {
            let identity = Identity::new(name).expect("a name");
            let principal = Principal::Own { identity, credential: None };
            let open = Command::Open { session, principal, sealed_credential: None };
            batches.push(stage.decide([open]).0);
        }
        let register = r#"{"message_type": "agent_register", "request_payload": {}}"#;
        let register = command(stage.agent, &Bytes::from_static(register.as_bytes()));
        batches.push(stage.decide([register]).0);
        (stage, batches)
    }

    /// Has so many invocations accepted and delivered; returns by whom each is invoked.
    pub(crate) fn invoke(&mut self, count: usize) -> (Batch, Vec<String>) {
        let (caller, frame) = (self.caller, self.invoke.clone());
        let (batch, effects) = self.decide((0..count).map(|_| command(caller, &frame)));
        let delivered = effects.into_iter().filter_map(|effect| match effect {
            Effect::Send { message: Outbound::Delivery(delivery), .. } => Some(delivery.invoked_by),
            _ => None,
        });
        (batch, delivered.collect())
    }

    /// Has them answered.
    pub(crate) fn answer(&mut self, invoked_by: &[String]) -> Batch {
        let (agent, filling) = (self.agent, self.filling.clone());
        self.decide(invoked_by.iter().map(|caller| command(agent, &answer_frame(&filling, caller).into()))).0
    }

    fn decide(&mut self, commands: impl IntoIterator<Item = Command>) -> (Batch, Vec<Effect>) {
        let mut step = Step::default();
        self.now = self.now + Duration::from_micros(1);
        self.ledger.pass_time(self.now, &mut step);
        for command in commands {
            let _ = self.ledger.decide(&command, &Found::default(), self.now, &mut step);
        }
        let batch = self.committed(&mut step);
        (batch, step.effects)
    }

    fn committed(&mut self, step: &mut Step) -> Batch {
        let batch = self.ledger.batch(step);
        self.ledger.seal();
        batch
    }
}

/// What a caller sends.
pub(crate) fn invoke_frame(filling: &str) -> String {
    format!(
        r#"{{"message_type": "agent_invoke", "agent_uuid": "{AGENT}", "request_payload": {{"text": "{filling}"}}, "request_metadata": {{"request_id": "r", "session_id": "s"}}}}"#
    )
}

/// What an agent answers.
pub(crate) fn answer_frame(filling: &str, invoked_by: &str) -> String {
    format!(
        r#"{{"message_type": "agent_response", "response": "{filling}", "execution_time": 0.1, "invoked_by": "{invoked_by}"}}"#
    )
}

fn command(session: SessionId, frame: &Bytes) -> Command {
    match protocol::parse(frame, Dialect::default()).expect("a frame that makes sense") {
        Inbound::Register(register) => Command::Register { session, register },
        Inbound::Invoke(invoke) => Command::Invoke { session, invoke },
        Inbound::Answer(answer) => Command::Answer { session, answer },
        other => unreachable!("{other:?}"),
    }
}
