//! An agent: it comes and goes, works at several things at once, and answers, fails, dawdles, forgets and repeats itself.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::super::notes::{Mark, Note, Notes, Told, new_text};
use super::Pace;
use super::stage::{Act, Came, Stage, next, send};
use crate::support::{Socket, answer, registration};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temper {
    Able,
    /// Answers with errors, mostly.
    Failing,
    /// Never answers.
    Mute,
}

impl Temper {
    pub(super) fn of(index: usize) -> Self {
        match index % 16 {
            3 => Self::Mute,
            5 => Self::Failing,
            _ => Self::Able,
        }
    }
}

pub(super) struct Agent {
    pub(super) id: Uuid,
    pub(super) is_version_2: bool,
    pub(super) temper: Temper,
    pub(super) pace: Pace,
    pub(super) random: StdRng,
}

/// A delivery that is worked on, and when it will be answered.
struct Work {
    due: Instant,
    delivery: Value,
    call: Uuid,
}

/// What an agent has in its head.
#[derive(Default)]
struct Mind {
    notes: Notes,
    work: Vec<Work>,
    /// Answers of which it was not told what became of them, by invocation.
    unconfirmed: BTreeMap<String, Value>,
}

impl Agent {
    pub(super) async fn play(mut self, stage: Stage) -> Notes {
        let id = self.id.to_string();
        let mut mind = Mind { notes: Notes { agent: Some(self.id), notes: Vec::new() }, ..Mind::default() };
        while let Some(mut socket) =
            stage.connect(Act::Ending, &[("x-custom-authorization", &id)], &mut self.random).await
        {
            stage.an_agent_connected();
            socket.answer_pings(self.random.random_bool(0.9));
            if self.register(&socket, &mut mind).await {
                self.serve(&stage, &mut socket, &mut mind).await;
            }
            drop(socket);
            sleep(Duration::from_millis(self.random.random_range(self.pace.away.clone()))).await;
        }
        mind.notes
    }

    async fn register(&self, socket: &Socket, mind: &mut Mind) -> bool {
        // What came before it had registered has no id to go on with, and the stock library ends with its connection.
        mind.work.retain(|work| work.delivery["invocation_id"].is_string());
        let mut frame =
            json!({"message_type": "agent_register", "request_payload": registration(&self.id.to_string())});
        if self.is_version_2 {
            let at_work = mind.work.iter().map(|work| work.delivery["invocation_id"].clone());
            let running: Vec<_> = at_work.chain(mind.unconfirmed.keys().map(|id| json!(id))).collect();
            frame["protocol_version"] = json!(2);
            frame["running"] = json!(running);
        }
        if !send(socket, &frame).await {
            return false;
        }
        for answer in mind.unconfirmed.values() {
            if !send(socket, answer).await {
                return false;
            }
        }
        true
    }

    /// Works until the connection ends or is broken off.
    async fn serve(&mut self, stage: &Stage, socket: &mut Socket, mind: &mut Mind) {
        let until = Instant::now() + Duration::from_millis(self.random.random_range(self.pace.there.clone()));
        while stage.act() != Act::Over {
            let now = Instant::now();
            if now > until {
                return;
            }
            let due = mind.work.iter().position(|work| work.due <= now);
            if let Some(due) = due {
                let work = mind.work.swap_remove(due);
                if !self.answer(stage, socket, mind, work).await {
                    return;
                }
                continue;
            }
            let next_due = mind.work.iter().map(|work| work.due).min().unwrap_or(until);
            match next(socket, next_due.min(now + Duration::from_millis(100))).await {
                Came::Frame(frame) => self.take(mind, frame),
                Came::Nothing => {}
                Came::End => return,
            }
        }
    }

    fn take(&mut self, mind: &mut Mind, frame: Value) {
        let invocation = || frame["invocation_id"].as_str().unwrap_or_default().to_owned();
        match frame["message_type"].as_str() {
            Some("agent_registered") => {
                // What it is not to go on with it drops, or answers all the same.
                let adopted = frame["adopted"].as_array().cloned().unwrap_or_default();
                let is_stubborn = self.random.random_bool(0.5);
                mind.work.retain(|work| is_stubborn || adopted.contains(&work.delivery["invocation_id"]));
            }
            Some("agent_receipt") => {
                if frame["outcome"] == "accepted" {
                    let invocation = invocation().parse().expect("a receipt names the invocation");
                    mind.notes.notes.push(Note::Counted { invocation });
                }
                mind.unconfirmed.remove(&invocation());
            }
            Some("agent_cancel") => {
                let cancelled = invocation();
                let obeys = self.random.random_bool(0.5);
                mind.work.retain(|work| !obeys || work.delivery["invocation_id"] != cancelled);
            }
            _ => {
                if let Some(call) = frame["request_payload"]["call"].as_str() {
                    let call = Mark::in_text(call).expect("every call has a mark, whole or not");
                    let told = frame["invocation_id"].as_str().map(|id| Told {
                        invocation: id.parse().expect("a UUID"),
                        attempt: frame["attempt"].as_u64().expect("a number"),
                        redelivered: frame["redelivered"] == true,
                    });
                    mind.notes.notes.push(Note::Delivered { call, told });
                    if self.temper != Temper::Mute && !self.random.random_bool(0.01) {
                        let mut delivery = frame;
                        // It is not needed any more, and may be large.
                        delivery["request_payload"].take();
                        mind.work.push(Work { due: self.due(), delivery, call: call.name });
                    }
                }
            }
        }
    }

    /// Most work takes a moment, some a second.
    fn due(&mut self) -> Instant {
        let longest = if self.random.random_bool(0.7) { 60 } else { 1_000 };
        Instant::now() + Duration::from_millis(self.random.random_range(0..longest))
    }

    async fn answer(&mut self, stage: &Stage, socket: &Socket, mind: &mut Mind, work: Work) -> bool {
        let (mark, text) = new_text(stage.bodies, &mut self.random);
        let fails = self.random.random_bool(if self.temper == Temper::Failing { 0.9 } else { 0.05 });
        let mut frame = answer(&work.delivery, json!(text));
        if fails {
            frame["message_type"] = json!("agent_error");
            frame["error"] = json!({"error_message": frame["response"].take()});
            frame.as_object_mut().expect("an object").remove("response");
        }
        mind.notes.notes.push(Note::Answered { call: work.call, answer: mark });
        if self.random.random_bool(0.1) {
            let (_, line) = new_text(stage.bodies, &mut self.random);
            let line = json!({"message_type": "agent_log", "log_level": "info", "log_message": line,
                "request_id": work.call, "session_id": "of the load"});
            if !send(socket, &line).await {
                return false;
            }
        }
        if let Some(invocation) = work.delivery["invocation_id"].as_str() {
            mind.unconfirmed.insert(invocation.to_owned(), frame.clone());
        }
        // One of version 1 has no way to say what its second answer is to: it would be taken for the next call's.
        let times = if self.is_version_2 && self.random.random_bool(0.05) { 2 } else { 1 };
        for _ in 0..times {
            if !send(socket, &frame).await {
                return false;
            }
        }
        true
    }
}
