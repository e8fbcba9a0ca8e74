//! A long history: what many agents and callers would have left behind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_router::clock::Timestamp;
use agent_router::code::ErrorCode;
use agent_router::id::{Identity, InvocationId, NodeId, Position, SessionId};
use agent_router::invocation::{Invocation, Labels, Order, Origin, Outcome, Reply, Terms};
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{Accepted, AgentRow, Batch, Detail, Event, Journal, SessionRow, SessionStanding};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::Failure;

/// An agent with few invocations, all over the journal.
const RARE_AGENT: &str = "rare-agent";

const AGENTS: usize = 1_000;
const CALLERS: usize = 20;

/// Invocations at the same time: their events are interleaved.
const AT_ONCE: usize = 256;

/// Time between two of them.
const PACE: Duration = Duration::from_millis(100);

/// One in so many is for the rare agent; one in so many fails.
const RARE: usize = 2_500;
const FAILS: usize = 1_000;

/// One in so many has its agent write a line to its log; one in so many has the backend dismiss its agent.
const LOGS: usize = 10;
const DISMISSALS: usize = 100_000;

/// What is in the journal, to ask for.
pub(crate) struct Written {
    pub(crate) head: i64,
    pub(crate) agents: Vec<String>,
    pub(crate) rare_agents: Vec<String>,
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

/// How long the history is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Events, at least; those of whatever is open come on top.
    pub(crate) events: u32,
    /// Finished invocations, at least.
    pub(crate) finished: u32,
    /// Invocations that are not finished, at least.
    pub(crate) open: u32,
}

/// Writes the journal, or what is missing of it from an earlier time: what is in it follows from its extent alone.
pub(crate) async fn written(path: &Path, extent: Extent) -> Result<Written, Failure> {
    let journal = SqliteJournal::open(&SqliteOptions::new(path.to_owned(), "measured:8080")).await?;
    let there = journal.head().await?.position;
    let mut author = Author::new();
    let mut batches = vec![author.arrival()];
    let mut open = 0;
    loop {
        // A router that was measured on it has written more than its own events.
        for batch in batches.into_iter().filter(|batch| batch.events[0].position > there) {
            let position = batch.events[0].position.0;
            journal.commit(batch.into()).await?;
            if position % (1 << 20) < 1_000 {
                eprintln!("{} events are in {}", author.position.0, path.display());
            }
        }
        if author.position.0 < i64::from(extent.events) || author.accepted < usize::try_from(extent.finished)? {
            batches = author.invocations().into();
        } else if open < extent.open {
            let mut batch = Batch::default();
            author.accept_all(&mut batch);
            open += u32::try_from(AT_ONCE)?;
            batches = vec![batch];
        } else {
            break;
        }
    }
    journal.close().await;
    Ok(author.done())
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

/// What an event is about.
#[derive(Clone, Copy)]
struct About<'a> {
    invocation: Option<InvocationId>,
    agent: Option<&'a Identity>,
    caller: Option<&'a Identity>,
    labels: &'a Labels,
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

    /// Every agent comes, and registers.
    fn arrival(&mut self) -> Batch {
        let mut batch = Batch::default();
        for (agent, session) in self.agents.clone() {
            let registered = Detail::AgentRegistered { session, version: 1, max_in_flight: 64, adopted: Vec::new() };
            let schema =
                format!(r#"{{"agent_name": "{agent}", "agent_description": "{}"}}"#, "Knows a lot. ".repeat(20));
            for (detail, payload) in [(Detail::AgentConnected { session }, None), (registered, Some(schema))] {
                let about = About { invocation: None, agent: Some(&agent), caller: None, labels: &Labels::default() };
                self.event(&mut batch, about, detail, payload);
            }
            let registered = Some(self.position);
            batch.agents.push(AgentRow { agent: agent.clone(), registered, last_seen: None });
            batch.sessions.push(SessionRow {
                session,
                identity: agent,
                registered,
                version: 1,
                connected_at: self.now,
                node: NodeId(1),
                standing: SessionStanding::Live,
                max_in_flight: 64,
                sealed_credential: None,
            });
        }
        batch
    }

    /// Some invocations from their acceptance to the delivery of their answers.
    fn invocations(&mut self) -> [Batch; 3] {
        let [mut accepting, mut working, mut ending] = [Batch::default(), Batch::default(), Batch::default()];
        let mut fresh = self.accept_all(&mut accepting);
        for (invocation, session) in &mut fresh {
            let started = Detail::InvocationStarted { attempt: 1, session: *session, adopted: false };
            self.happened(&mut working, invocation, started, None);
            self.speak(&mut working, invocation, *session);
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

    fn accept_all(&mut self, batch: &mut Batch) -> Vec<(Invocation, SessionId)> {
        (0..AT_ONCE).map(|_| self.accept(batch)).collect()
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
        let mut invocation = Invocation::new(Order {
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
        });
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
        invocation.order_mut().accepted = self.happened(batch, &invocation, accepted, Some(body));
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

    /// What now and then happens to an agent that is at work.
    fn speak(&mut self, batch: &mut Batch, invocation: &Invocation, session: SessionId) {
        let Order { agent, labels, .. } = &*invocation.order;
        let text = |label: &Option<Arc<str>>| label.as_deref().map(str::to_owned);
        let (request_id, session_id) = (text(&labels.request_id), text(&labels.session_id));
        let about = About { invocation: None, agent: Some(agent), caller: None, labels };
        if self.random.random_range(0..LOGS) == 0 {
            let line = format!(r#"{{"log_level": "info", "log_message": "{}"}}"#, "thinking ".repeat(10));
            let logged = Detail::AgentLogged { request_id: request_id.clone(), session_id: session_id.clone() };
            self.event(batch, about, logged, Some(line));
        }
        if self.random.random_range(0..DISMISSALS) == 0 {
            let about = About { labels: &Labels::default(), ..about };
            self.event(
                batch,
                about,
                Detail::AgentDismissed { session: Some(session), request_id: None, session_id: None },
                None,
            );
        }
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
        let Order { id, agent, caller, labels, .. } = &*about.order;
        let about = About { invocation: Some(*id), agent: Some(agent), caller: Some(caller), labels };
        self.event(batch, about, detail, payload)
    }

    fn event(&mut self, batch: &mut Batch, about: About<'_>, detail: Detail, payload: Option<String>) -> Position {
        self.position = self.position.next();
        batch.events.push(Event {
            position: self.position,
            at: self.now,
            invocation: about.invocation,
            agent: about.agent.cloned(),
            caller: about.caller.cloned(),
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
            rare_agents: vec![RARE_AGENT.to_owned()],
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
