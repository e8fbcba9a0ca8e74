//! Calls over HTTP, each with a key: whoever did not hear asks again.

use std::time::Duration;

use rand::rngs::StdRng;
use reqwest::RequestBuilder;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::super::super::notes::{End, Mark, Note, Notes, Way};
use super::super::stage::{Act, Stage, UNANSWERED};
use super::Call;
use crate::support::ML_KEY;

/// Longer than any deadline, and than a router is gone.
const ENDED: Duration = Duration::from_secs(15);

/// How long to wait before asking again.
const AGAIN: Duration = Duration::from_millis(50);

pub(in super::super) async fn play(mut random: StdRng, stage: Stage) -> Notes {
    let mut notes = Notes::default();
    let reader = Reader::new();
    let mut previous = None;
    while stage.act() == Act::Playing {
        let call = Call::new(&stage, &mut random, &mut notes);
        let accepted = reader.ask(&call, &stage, &mut random, &mut notes).await;
        if let Some(invocation) = accepted {
            reader.read_to_the_end(invocation, &stage, &mut random, &mut notes).await;
        }
        // What was given once is given again, and is the same.
        if let Some(invocation) = std::mem::replace(&mut previous, accepted) {
            reader.read(invocation, &stage, &mut random, &mut notes).await;
        }
    }
    notes
}

/// The master agent over HTTP.
pub(super) struct Reader(reqwest::Client);

impl Reader {
    pub(super) fn new() -> Self {
        let client = reqwest::Client::builder().no_proxy().connect_timeout(UNANSWERED).timeout(2 * UNANSWERED);
        Self(client.build().expect("a client without TLS can be built"))
    }

    /// Asks until it is known whether that is accepted.
    async fn ask(&self, call: &Call, stage: &Stage, random: &mut StdRng, notes: &mut Notes) -> Option<Uuid> {
        let body = call.body();
        let until = Instant::now() + ENDED;
        while stage.act() != Act::Over && Instant::now() < until {
            let url = format!("http://{}/v1/invocations", stage.address(random));
            let request = self.0.post(url).header("api-key", ML_KEY).header("prefer", "wait=1").json(&body);
            match answer(request.header("idempotency-key", call.mark.name.to_string())).await {
                Some((200 | 202, invocation)) => {
                    let id = invocation["id"].as_str().and_then(|id| id.parse().ok()).expect("an invocation has an id");
                    notes.notes.push(Note::Accepted { invocation: id });
                    return Some(id);
                }
                // Nobody said whether it was accepted.
                None | Some((500, _)) => {}
                Some((503, problem)) if problem["code"] != "agent_away" => stage.was_refused(),
                Some((404 | 429 | 503, _)) => {
                    stage.was_refused();
                    sleep(AGAIN).await;
                    return None;
                }
                Some((status, problem)) => panic!("{status}: {problem}"),
            }
            sleep(AGAIN).await;
        }
        None
    }

    /// Reads how the invocation ended, once it has.
    pub(super) async fn read_to_the_end(&self, id: Uuid, stage: &Stage, random: &mut StdRng, notes: &mut Notes) {
        let until = Instant::now() + ENDED;
        while stage.act() != Act::Over && Instant::now() < until {
            if self.read(id, stage, random, notes).await {
                stage.an_end_was_told();
                return;
            }
        }
    }

    /// Reads the invocation; returns whether it has ended.
    async fn read(&self, id: Uuid, stage: &Stage, random: &mut StdRng, notes: &mut Notes) -> bool {
        let url = format!("http://{}/v1/invocations/{id}?wait=1", stage.address(random));
        match answer(self.0.get(url).header("api-key", ML_KEY)).await {
            Some((200, shown)) if shown["finished_at"].is_null() => false,
            Some((200, shown)) => {
                notes.notes.push(Note::Ended { invocation: id, end: end(&shown) });
                true
            }
            Some((404, _)) => {
                notes.notes.push(Note::Missing { invocation: id });
                true
            }
            _ => {
                sleep(AGAIN).await;
                false
            }
        }
    }
}

/// The status and the JSON; `None` if there was no whole answer.
async fn answer(request: RequestBuilder) -> Option<(u16, Value)> {
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    Some((status, response.json().await.ok()?))
}

/// How an invocation that has ended did so.
fn end(shown: &Value) -> End {
    let text = |value: &Value| value.as_str().and_then(Mark::in_text);
    let way = match shown["state"].as_str().expect("an invocation has a state") {
        "completed" => Way::Completed,
        "failed" => Way::Failed,
        "expired" => Way::Expired,
        "timed_out" => Way::TimedOut,
        "cancelled" => Way::Cancelled,
        state => panic!("{state} is no end: {shown}"),
    };
    End { way, answer: text(&shown["result"]).or_else(|| text(&shown["error"]["message"])) }
}
