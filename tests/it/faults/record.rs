//! The journal as the checker needs it: read from a router, page by page, without the bodies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::notes::{End, Mark, Way};
use crate::support::Router;

/// Everything ends within this: attempts, deadlines, and leases between them.
const END: Duration = Duration::from_mins(1);

/// An event, without its body.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) position: i64,
    pub(crate) invocation: Option<Uuid>,
    pub(crate) fact: Fact,
}

/// What an event says, as far as anybody can have seen it.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Accepted {
        agent: String,
        call: Option<Mark>,
        max_attempts: u64,
    },
    Delivered {
        attempt: u64,
    },
    Started {
        attempt: u64,
    },
    Ended(End),
    Logged(Option<Mark>),
    /// Nothing that a client of the load sees.
    Other,
}

impl Event {
    fn read(event: &Value) -> Self {
        let (detail, payload) = (&event["detail"], &event["payload"]);
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let number = |field: &str| detail[field].as_u64().expect("a number");
        let end = |way, answer: &Value| Fact::Ended(End { way, answer: answer.as_str().and_then(Mark::in_text) });
        let fact = match event["kind"].as_str().expect("every event has a kind") {
            "invocation.accepted" => Fact::Accepted {
                agent: text("agent_id"),
                call: payload["request_payload"]["call"].as_str().and_then(Mark::in_text),
                max_attempts: number("max_attempts"),
            },
            "invocation.delivered" => Fact::Delivered { attempt: number("attempt") },
            "invocation.started" => Fact::Started { attempt: number("attempt") },
            "invocation.completed" => end(Way::Completed, &payload["response"]),
            "invocation.failed" => end(Way::Failed, &payload["error"]["error_message"]),
            "invocation.expired" => end(Way::Expired, &Value::Null),
            "invocation.timed_out" => end(Way::TimedOut, &Value::Null),
            "invocation.cancelled" => end(Way::Cancelled, &Value::Null),
            "agent.logged" => Fact::Logged(payload["log_message"].as_str().and_then(Mark::in_text)),
            _ => Fact::Other,
        };
        Self {
            position: event["position"].as_i64().expect("every event has a position"),
            invocation: event["invocation_id"].as_str().and_then(|id| id.parse().ok()),
            fact,
        }
    }
}

/// What has been read of a journal.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The last position before `events`.
    pub(crate) before: i64,
    pub(crate) events: Vec<Event>,
    /// How many events of each kind there were, from the beginning.
    pub(crate) kinds: BTreeMap<String, usize>,
    /// `position:hash` of the newest event, each time that it was read: whatever it covers must never change.
    pub(crate) heads: Vec<String>,
    /// Where each log line is, from the beginning: the backend may be told of it late.
    pub(crate) lines: BTreeMap<Mark, i64>,
    /// How what was accepted in earlier acts ended: its caller may be told late.
    pub(crate) past: BTreeMap<Uuid, End>,
    unfinished: BTreeSet<Uuid>,
    cursor: String,
}

impl Record {
    /// Reads on to the end of the journal.
    pub(crate) async fn read_on(&mut self, router: &Router) {
        let mut head = None;
        loop {
            let (status, page) = router.get(&format!("/v1/history?limit=1000{}", self.cursor)).await;
            assert_eq!(status, 200, "{page}");
            let Value::Array(events) = &page["events"] else { panic!("no events in {page}") };
            let Some(newest) = events.last() else { break };
            let text = |field: &str| newest[field].to_string();
            head = Some(format!("{}:{}", text("position"), text("hash").trim_matches('"')));
            for event in events {
                self.add(event);
            }
            self.cursor = format!("&cursor={}", page["next"].as_str().expect("`next` is always there"));
        }
        self.heads.extend(head);
    }

    /// Adds an event as it is shown over HTTP, or in a line of an export.
    pub(crate) fn add(&mut self, event: &Value) {
        *self.kinds.entry(event["kind"].as_str().expect("every event has a kind").to_owned()).or_default() += 1;
        self.put(Event::read(event));
    }

    /// Adds an event.
    pub(crate) fn put(&mut self, event: Event) {
        match (&event.fact, event.invocation) {
            (Fact::Accepted { .. }, Some(id)) => drop(self.unfinished.insert(id)),
            (Fact::Ended(_), Some(id)) => drop(self.unfinished.remove(&id)),
            (Fact::Logged(Some(line)), _) => drop(self.lines.insert(*line, event.position)),
            _ => {}
        }
        self.events.push(event);
    }

    /// Reads on until everything that was accepted has ended, as far as it does within a minute: what has not, the checker
    /// says.
    pub(crate) async fn read_to_the_end(&mut self, router: &Router) {
        let deadline = Instant::now() + END;
        loop {
            self.read_on(router).await;
            if self.unfinished.is_empty() || Instant::now() > deadline {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// How many events of that kind there were.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.kinds.get(kind).copied().unwrap_or(0)
    }

    /// Puts aside what was read, for an act that begins when everything has ended.
    pub(crate) fn begin_anew(&mut self) {
        if let Some(newest) = self.events.last() {
            self.before = newest.position;
        }
        for event in self.events.drain(..) {
            if let (Fact::Ended(end), Some(id)) = (event.fact, event.invocation) {
                self.past.insert(id, end);
            }
        }
        self.unfinished.clear();
    }
}
