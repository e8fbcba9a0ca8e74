//! A long history: what many agents and callers would have left behind.

use std::path::Path;
use std::time::Duration;

use agent_router::clock::Timestamp;
use agent_router::code::ErrorCode;
use agent_router::id::{Identity, InvocationId, NodeId, Position, SessionId};
use agent_router::invocation::{Invocation, Labels, Origin, Outcome, Reply, State, Terms};
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{Accepted, Batch, Detail, Event, Journal};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::Failure;

/// An agent with few invocations, all over the journal.
pub(crate) const RARE_AGENT: &str = "rare-agent";

const AGENTS: usize = 1_000;
const CALLERS: usize = 20;

/// Invocations at the same time: their events are interleaved.
const AT_ONCE: usize = 64;

/// Time between two of them.
const PACE: Duration = Duration::from_millis(100);

/// One in so many is for the rare agent; one in so many fails.
const RARE: usize = 2_500;
const FAILS: usize = 1_000;

/// What is in the journal, to ask for.
pub(crate) struct Written {
    pub(crate) head: i64,
    pub(crate) agents: Vec<String>,
    pub(crate) callers: Vec<String>,
    /// Some of them, from all over the journal.
    pub(crate) invocations: Vec<String>,
    pub(crate) requests: Vec<String>,
    pub(crate) sessions: Vec<String>,
    first: Timestamp,
    last: Timestamp,
}

impl Written {
    /// A time in the history, by a share of it, as a parameter.
    pub(crate) fn time(&self, share: f64) -> String {
        let at = self.first + self.last.since(self.first).mul_f64(share.clamp(0.0, 1.0));
        at.to_rfc3339()
    }
}

/// Writes the journal, or finds it there from an earlier time: what is in it follows from the number of events alone.
pub(crate) async fn written(path: &Path, events: u32) -> Result<Written, Failure> {
    let is_new = !path.exists();
    let journal = SqliteJournal::open(&SqliteOptions::new(path.to_owned(), "measured:8080")).await?;
    let mut author = Author::new();
    if is_new {
        eprintln!("writing {events} events to {}", path.display());
    }
    while author.position.0 < i64::from(events) {
        let batches = author.invocations();
        if is_new {
            for batch in batches {
                journal.commit(&batch).await?;
            }
        }
    }
    let head = journal.head().await?.position.0;
    journal.close().await;
    Ok(Written { head: author.position.0.min(head), ..author.done() })
}

/// Makes the batches that a router would have committed. The same ones every time.
struct Author {
    random: StdRng,
    now: Timestamp,
    first: Timestamp,
    position: Position,
    agents: Vec<(Identity, SessionId)>,
    callers: Vec<(Identity, SessionId)>,
    session: Option<(usize, String)>,
    accepted: usize,
    noted: Noted,
}

#[derive(Default)]
struct Noted {
    invocations: Vec<String>,
    requests: Vec<String>,
    sessions: Vec<String>,
}

impl Author {
    fn new() -> Self {
        let mut random = StdRng::seed_from_u64(0);
        let mut peers = |count: usize| (0..count).map(|_| peer(&mut random)).collect::<Vec<_>>();
        let (agents, callers) = (peers(AGENTS), peers(CALLERS));
        // 2026-01-01T00:00:00Z
        let first = Timestamp::from_micros(1_767_225_600_000_000);
        Self {
            random,
            now: first,
            first,
            position: Position(0),
            agents,
            callers,
            session: None,
            accepted: 0,
            noted: Noted::default(),
        }
    }

    /// Some invocations from their acceptance to the delivery of their answers.
    fn invocations(&mut self) -> [Batch; 3] {
        let [mut accepting, mut working, mut ending] = [Batch::default(), Batch::default(), Batch::default()];
        let mut fresh: Vec<(Invocation, SessionId)> = (0..AT_ONCE).map(|_| self.accept(&mut accepting)).collect();
        for (invocation, session) in &mut fresh {
            let started = Detail::InvocationStarted { attempt: 1, session: *session, adopted: false };
            self.happened(&mut working, invocation, started, None);
            self.end(&mut working, invocation);
        }
        for (invocation, _) in &mut fresh {
            let (_, session) = self.callers[0];
            self.happened(&mut ending, invocation, Detail::AnswerDelivered { session }, None);
            invocation.reply = Reply::None;
            ending.changed.push(invocation.clone());
        }
        [accepting, working, ending]
    }

    fn accept(&mut self, batch: &mut Batch) -> (Invocation, SessionId) {
        self.now = self.now + PACE;
        self.accepted += 1;
        let (agent, session) = match self.accepted % RARE {
            0 => (Identity::new(RARE_AGENT).expect("the name is a valid one"), self.agents[0].1),
            _ => self.agents[self.random.random_range(0..AGENTS)].clone(),
        };
        let (caller, caller_session) = self.callers[self.random.random_range(0..CALLERS)].clone();
        let labels = self.labels();
        let now = self.now;
        let deadline = now + Duration::from_mins(15);
        let mut invocation = Invocation {
            id: self.id(),
            agent,
            caller,
            origin: Origin::InvokeSocket { session: caller_session },
            home: NodeId(1),
            additions: false,
            accepted: Position(0),
            accepted_at: now,
            body_bytes: 300,
            terms: Terms { ttl: Duration::from_mins(1), ttl_given: false, deadline, max_attempts: 1 },
            key: None,
            labels: labels.clone(),
            attempt: 0,
            unreceipted: 0,
            starts: 0,
            receipted: false,
            delivered_at: None,
            plain_unanswered: false,
            state: State::Queued { since: now },
            reply: Reply::None,
        };
        let accepted = Detail::InvocationAccepted(Accepted {
            origin: "invoke_socket",
            session: Some(caller_session),
            ttl_ms: 60_000,
            deadline_ms: 900_000,
            max_attempts: 1,
            idempotency_key: None,
            request_id: labels.request_id.clone(),
            session_id: labels.session_id.clone(),
            traceparent: None,
        });
        let body = format!(
            r#"{{"request_payload": {{"question": "{}"}}, "request_metadata": {{"request_id": "{}", "session_id": "{}"}}}}"#,
            "why ".repeat(40),
            labels.request_id.as_deref().unwrap_or_default(),
            labels.session_id.as_deref().unwrap_or_default(),
        );
        invocation.accepted = self.happened(batch, &invocation, accepted, Some(body));
        let delivered = Detail::InvocationDelivered { attempt: 1, session, plain: true };
        self.happened(batch, &invocation, delivered, None);
        invocation.deliver(session, now, true);
        if self.accepted.is_multiple_of(100) {
            self.noted.invocations.push(invocation.id.to_string());
        }
        batch.accepted.push(invocation.clone());
        (invocation, session)
    }

    /// An id as the router gives them: in the order of time.
    fn id(&mut self) -> InvocationId {
        let millis = u64::try_from(self.now.as_micros() / 1_000).unwrap_or_default();
        InvocationId(uuid::Builder::from_unix_timestamp_millis(millis, &self.random.random()).into_uuid())
    }

    /// A request of its own for each, and a user session for several.
    fn labels(&mut self) -> Labels {
        let request = uuid(&mut self.random).to_string();
        let (left, session) = match self.session.take() {
            Some((left, session)) if left > 0 => (left - 1, session),
            _ => (self.random.random_range(1..20), uuid(&mut self.random).to_string()),
        };
        if self.accepted.is_multiple_of(100) {
            self.noted.requests.push(request.clone());
            self.noted.sessions.push(session.clone());
        }
        let labels = Labels { request_id: Some(request.as_str().into()), session_id: Some(session.as_str().into()) };
        self.session = Some((left, session));
        labels
    }

    fn end(&mut self, batch: &mut Batch, invocation: &mut Invocation) {
        let fails = self.random.random_range(0..FAILS) == 0;
        let (outcome, detail, answer) = if fails {
            let code = Some(ErrorCode::AgentLost);
            (Outcome::Failed(code), Detail::InvocationFailed { attempt: 1, code }, None)
        } else {
            let answer = format!(r#"{{"response": "{}", "execution_time": 0.1}}"#, "because ".repeat(20));
            (Outcome::Completed, Detail::InvocationCompleted { attempt: 1 }, Some(answer))
        };
        let answered = answer.is_some();
        let position = self.happened(batch, invocation, detail, answer);
        invocation.finish(outcome, self.now, answered.then_some(position));
        invocation.plain_unanswered = false;
        batch.changed.push(invocation.clone());
    }

    fn happened(&mut self, batch: &mut Batch, about: &Invocation, detail: Detail, payload: Option<String>) -> Position {
        self.position = self.position.next();
        batch.events.push(Event {
            position: self.position,
            at: self.now,
            invocation: Some(about.id),
            agent: Some(about.agent.clone()),
            caller: Some(about.caller.clone()),
            detail,
            payload: payload.map(Bytes::from),
            labels: about.labels.clone(),
        });
        self.position
    }

    fn done(self) -> Written {
        let names = |peers: Vec<(Identity, SessionId)>| peers.into_iter().map(|(peer, _)| peer.to_string()).collect();
        Written {
            head: self.position.0,
            agents: names(self.agents),
            callers: names(self.callers),
            invocations: self.noted.invocations,
            requests: self.noted.requests,
            sessions: self.noted.sessions,
            first: self.first,
            last: self.now,
        }
    }
}

fn peer(random: &mut StdRng) -> (Identity, SessionId) {
    let name = uuid(random).to_string();
    (Identity::new(&name).expect("a UUID is a name"), SessionId(uuid(random)))
}

fn uuid(random: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(random.random()).into_uuid()
}
