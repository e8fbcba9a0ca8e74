//! A master, or an agent that calls others, on a socket of its own: many calls at once. Half of them have a key, and are
//! asked again on the next connection.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::super::super::notes::{Mark, Note, Notes};
use super::super::stage::{Act, Came, Stage, next, send};
use super::{Call, Heard, hear};
use crate::support::{BACKEND_KEY, ML_KEY, Socket};

/// A call of which nothing was heard for so long was refused, or its answer went elsewhere.
const FORGOTTEN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Who {
    Backend,
    MasterAgent,
    /// One that never registers.
    Agent(Uuid),
}

/// A call that has not ended, as far as this caller knows.
struct Outstanding {
    since: Instant,
    /// To be asked again with.
    keyed: Option<Value>,
}

struct Caller {
    stage: Stage,
    random: StdRng,
    notes: Notes,
    width: usize,
    /// By the call's name.
    outstanding: BTreeMap<Uuid, Outstanding>,
    /// The names of calls that were accepted, by their invocation.
    calls: BTreeMap<Uuid, Uuid>,
    /// How many of those outstanding were refused; a refusal does not say which.
    refused: usize,
}

pub(in super::super) async fn play(who: Who, width: usize, random: StdRng, stage: Stage) -> Notes {
    let (outstanding, calls) = (BTreeMap::new(), BTreeMap::new());
    let mut caller = Caller { stage, random, notes: Notes::default(), width, outstanding, calls, refused: 0 };
    let (header, credential) = match who {
        Who::Backend => ("api-key", BACKEND_KEY.to_owned()),
        Who::MasterAgent => ("api-key", ML_KEY.to_owned()),
        Who::Agent(id) => ("x-custom-authorization", id.to_string()),
    };
    let stage = caller.stage.clone();
    while let Some(mut socket) = stage.connect(Act::Ending, &[(header, &credential)], &mut caller.random).await {
        caller.outstanding.retain(|_, call| call.keyed.is_some());
        caller.refused = 0;
        if caller.ask_again(&socket).await && caller.serve(&mut socket).await {
            break;
        }
    }
    caller.notes
}

impl Caller {
    async fn ask_again(&self, socket: &Socket) -> bool {
        for call in self.outstanding.values() {
            if let Some(frame) = &call.keyed
                && !send(socket, frame).await
            {
                return false;
            }
        }
        true
    }

    /// Asks and listens until the connection ends or is broken off; returns whether nothing is left to be done.
    async fn serve(&mut self, socket: &mut Socket) -> bool {
        let until = Instant::now() + Duration::from_millis(self.random.random_range(1_000..10_000));
        loop {
            let now = Instant::now();
            self.outstanding.retain(|_, call| now - call.since < FORGOTTEN);
            self.calls.retain(|_, call| self.outstanding.contains_key(call));
            self.refused = self.refused.min(self.outstanding.len());
            let waiting = self.outstanding.len() - self.refused;
            match self.stage.act() {
                Act::Playing if now > until => return false,
                Act::Playing if waiting < self.width => {
                    if !self.ask(socket).await {
                        return false;
                    }
                }
                Act::Ending if waiting == 0 => return true,
                Act::Over => return true,
                Act::Playing | Act::Ending => {}
            }
            // While there is room for more, only what has come already is looked at.
            let patience = if waiting + 1 < self.width { Duration::ZERO } else { Duration::from_millis(100) };
            match next(socket, Instant::now() + patience).await {
                Came::Frame(frame) => {
                    if !self.take(socket, &frame).await {
                        return false;
                    }
                }
                Came::Nothing => {}
                Came::End => return false,
            }
        }
    }

    async fn ask(&mut self, socket: &Socket) -> bool {
        let call = Call::new(&self.stage, &mut self.random, &mut self.notes);
        let is_keyed = self.random.random_bool(0.5);
        let frame = call.frame(is_keyed);
        let is_sent = send(socket, &frame).await;
        let outstanding = Outstanding { since: Instant::now(), keyed: is_keyed.then_some(frame) };
        self.outstanding.insert(call.mark.name, outstanding);
        is_sent
    }

    async fn take(&mut self, socket: &Socket, frame: &Value) -> bool {
        match hear(frame) {
            Heard::Accepted(invocation, call) => {
                self.notes.notes.push(Note::Accepted { invocation });
                self.calls.extend(call.map(|call| (invocation, call)));
            }
            Heard::Ended(invocation, end) => {
                self.notes.notes.push(Note::Ended { invocation, end });
                if let Some(call) = self.calls.remove(&invocation) {
                    self.outstanding.remove(&call);
                }
                self.stage.an_end_was_told();
            }
            Heard::Refused => {
                self.refused += 1;
                self.stage.was_refused();
                sleep(Duration::from_millis(20)).await;
            }
            Heard::Else => {
                let notification = &frame["request_payload"];
                if let Some(line) = notification["log_message"].as_str().and_then(Mark::in_text) {
                    self.notes.notes.push(Note::Heard { line });
                }
                if notification["message_type"].is_string() {
                    return send(socket, &json!({"message_type": "agent_response", "invoked_by": ""})).await;
                }
            }
        }
        true
    }
}
