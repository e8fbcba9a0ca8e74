//! The journal takes no commits for a while: requests are refused, what happened is kept, and nothing else is promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use agent_router::auth::Principal;
use agent_router::clock::{Clock, Timestamp};
use agent_router::code::ErrorCode;
use agent_router::id::{Identity, InvocationId, Position, SessionId};
use agent_router::invocation::{Invocation, Policy};
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{
    Batch, EventKind, EventRecord, FeedEvent, Head, HistoryFilter, InvocationRecord, Journal, JournalError, Lookup,
    Restored, Verification,
};
use agent_router::protocol::Version;
use agent_router::router::{
    AnswerContent, Body, Command, Declined, Delivery, EndReason, Ending, Outbound, Outlet, Router, Running, Settings,
    outbox,
};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{PATIENCE, command, general_error, not_active};

/// How soon a request is refused while the journal is away.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A journal that takes commits or does not, as the test wants.
#[derive(Debug)]
struct Unreliable {
    inner: SqliteJournal,
    away: AtomicBool,
    /// It makes the next commit durable, and cannot tell.
    uncertain: AtomicBool,
    /// Commits that were tried.
    commits: AtomicUsize,
}

#[async_trait]
impl Journal for Unreliable {
    async fn restore(&self) -> Result<Restored, JournalError> {
        self.inner.restore().await
    }

    async fn commit(&self, batch: &Batch) -> Result<Head, JournalError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(JournalError::Unavailable("the disk is full".to_owned()));
        }
        let committed = self.inner.commit(batch).await;
        if self.uncertain.load(Ordering::SeqCst) {
            return Err(JournalError::Uncertain("the sync failed".to_owned()));
        }
        committed
    }

    async fn lookup(&self, lookup: &Lookup) -> Result<Vec<Invocation>, JournalError> {
        self.inner.lookup(lookup).await
    }

    async fn payloads(&self, positions: &[Position]) -> Result<Vec<(Position, Bytes)>, JournalError> {
        self.inner.payloads(positions).await
    }

    async fn feed(
        &self,
        after: Position,
        since: Timestamp,
        limit: usize,
    ) -> Result<(Vec<FeedEvent>, Position), JournalError> {
        self.inner.feed(after, since, limit).await
    }

    async fn invocation(&self, id: InvocationId) -> Result<Option<InvocationRecord>, JournalError> {
        self.inner.invocation(id).await
    }

    async fn history(
        &self,
        filter: &HistoryFilter,
        after: Position,
        limit: usize,
    ) -> Result<Vec<EventRecord>, JournalError> {
        self.inner.history(filter, after, limit).await
    }

    async fn verify(&self) -> Result<Verification, JournalError> {
        self.inner.verify().await
    }

    async fn head(&self) -> Result<Head, JournalError> {
        self.inner.head().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// The real router over such a journal.
struct Stage {
    journal: Arc<Unreliable>,
    router: Router,
    running: Running,
    _folder: TempDir,
}

impl Stage {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions { path: folder.path().join("journal.db"), node: "node".to_owned() };
        let inner = SqliteJournal::open(&options).await.unwrap();
        let (away, uncertain, commits) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        let journal = Arc::new(Unreliable { inner, away, uncertain, commits });
        let settings = Settings { ping_interval: Duration::from_secs(20), feed_ttl: Duration::from_hours(1) };
        let over = Arc::clone(&journal) as Arc<dyn Journal>;
        let (router, running) = Router::start(over, Policy::default(), Clock::start(), settings).await.unwrap();
        Self { journal, router, running, _folder: folder }
    }

    fn commits(&self) -> usize {
        self.journal.commits.load(Ordering::SeqCst)
    }

    fn lose_journal(&self) {
        self.journal.away.store(true, Ordering::SeqCst);
    }

    /// Waits until the router has found out, and has tried again more than once.
    async fn tried_again(&self) {
        let before = self.commits();
        self.until(|| self.router.health().is_err() && self.commits() > before + 3).await;
    }

    /// Has the journal take commits again, and waits until the router has found out.
    async fn recover(&self) {
        self.journal.away.store(false, Ordering::SeqCst);
        self.until(|| self.router.health().is_ok()).await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "after {} commits: {:?}", self.commits(), self.router.health());
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn open(&self, name: &str) -> Result<Socket, ErrorCode> {
        self.open_as(&Principal::Own { identity: Identity::new(name).unwrap(), credential: None }).await
    }

    async fn open_as(&self, principal: &Principal) -> Result<Socket, ErrorCode> {
        let session = SessionId::generate();
        let (outbox, outlet) = outbox();
        self.router.open(session, principal, outbox).await?;
        Ok(Socket { session, outlet, router: self.router.clone(), journal: Arc::clone(&self.journal) })
    }

    /// The kinds of all events, in order, once all that was submitted so far has been dealt with.
    async fn history(&self) -> Vec<EventKind> {
        self.open("whoever asks").await.unwrap();
        let mut kinds = Vec::new();
        let mut after = Position(0);
        loop {
            let page = self.journal.history(&HistoryFilter::default(), after, 100).await.unwrap();
            let Some(last) = page.last() else { return kinds };
            after = last.position;
            kinds.extend(page.iter().map(|event| event.kind));
        }
    }
}

/// A session without a socket.
struct Socket {
    session: SessionId,
    outlet: Outlet,
    router: Router,
    journal: Arc<Unreliable>,
}

impl Socket {
    async fn send(&self, frame: Value) {
        self.router.submit(command(self.session, Version::One, &frame), frame.to_string().len()).await;
    }

    async fn register(&self) {
        self.send(json!({"message_type": "agent_register", "request_payload": {}})).await;
    }

    async fn invoke(&self, agent: &str) {
        self.send(json!({"message_type": "agent_invoke", "agent_uuid": agent, "request_payload": {}})).await;
    }

    async fn end(self) {
        self.router.submit(Command::End { session: self.session, reason: EndReason::Closed }, 0).await;
    }

    /// What it is sent next.
    async fn next(&mut self) -> Outbound {
        let mut messages = Vec::new();
        let taken = timeout(AT_ONCE, self.outlet.recv_many(&mut messages, 1)).await.expect("it is sent something");
        assert_eq!(taken, 1, "the router let go");
        messages.remove(0)
    }

    async fn recv(&mut self) -> Value {
        match self.next().await {
            Outbound::Frame(frame) => serde_json::from_slice(&frame).unwrap(),
            Outbound::Answer(answer) => {
                let body = match answer.content {
                    AnswerContent::Agent(Body::Stored(at)) => self.journal.payloads(&[at]).await.unwrap().remove(0).1,
                    AnswerContent::Agent(Body::Inline(body)) | AnswerContent::Router(body) => body,
                };
                serde_json::from_slice(&body).unwrap()
            }
            other => panic!("{other:?} is neither a frame nor an answer"),
        }
    }

    async fn delivery(&mut self) -> Delivery {
        match self.next().await {
            Outbound::Delivery(delivery) => *delivery,
            other => panic!("{other:?} is no delivery"),
        }
    }

    async fn expect_nothing(&mut self) {
        self.invoke("nobody").await;
        let next = self.recv().await;
        assert!(next == not_active() || next == general_error("Journal is unavailable"), "{next}");
    }
}

fn count(history: &[EventKind], kind: EventKind) -> usize {
    history.iter().filter(|other| **other == kind).count()
}

#[tokio::test]
async fn a_peer_with_many_large_log_lines_does_not_keep_others_from_being_refused() {
    const LINES: usize = 80;
    let stage = Stage::start().await;
    let (chatty, mut other) = (stage.open("chatty").await.unwrap(), stage.open("other").await.unwrap());
    stage.lose_journal();
    let submitted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&submitted);
    let talking = tokio::spawn(async move {
        let line = json!({"message_type": "agent_log", "log_message": "x".repeat(1 << 20)});
        for _ in 0..LINES {
            chatty.send(line.clone()).await;
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut read = usize::MAX;
    while read != submitted.load(Ordering::SeqCst) {
        read = submitted.load(Ordering::SeqCst);
        stage.tried_again().await;
    }
    assert!(!talking.is_finished(), "it is not read any more");

    assert!(matches!(stage.router.health(), Err((ErrorCode::JournalUnavailable, _))));
    let refused = timeout(AT_ONCE, stage.open("newcomer")).await.expect("it is told at once");
    assert_eq!(refused.err(), Some(ErrorCode::JournalUnavailable));
    let [caller, client] = ["master_server_be", "other"].map(|name| Identity::new(name).unwrap());
    let message = stage.router.client_message(caller, client, Bytes::from_static(b"{}"));
    let refused = timeout(AT_ONCE, message).await.expect("it is told at once");
    assert_eq!(refused, Err(Declined::Refused(ErrorCode::JournalUnavailable)));
    for _ in 0..3 {
        other.invoke("other").await;
        assert_eq!(other.recv().await, general_error("Journal is unavailable"));
    }

    stage.recover().await;
    timeout(PATIENCE, talking).await.expect("it is read again").unwrap();
    let history = stage.history().await;
    assert_eq!(count(&history, EventKind::AgentLogged), LINES, "what happened is kept");
    assert_eq!(count(&history, EventKind::JournalRecovered), 1);
    assert_eq!(count(&history, EventKind::AgentConnected), 3, "who was refused was never there");
    assert_eq!(count(&history, EventKind::InvocationAccepted), 0);
    other.invoke("chatty").await;
    assert_eq!(count(&stage.history().await, EventKind::InvocationAccepted), 1);
}

#[tokio::test]
async fn what_was_accepted_before_an_outage_goes_on_behind_it() {
    let stage = Stage::start().await;
    let (mut agent, mut caller) = (stage.open("agent").await.unwrap(), stage.open("caller").await.unwrap());
    agent.register().await;
    caller.invoke("agent").await;
    let delivery = agent.delivery().await;
    stage.lose_journal();
    let answer = json!({"message_type": "agent_response", "response": "kept", "invoked_by": delivery.invoked_by});
    agent.send(answer).await;
    let late = stage.open("late");
    assert_eq!(late.await.err(), Some(ErrorCode::JournalUnavailable));
    stage.tried_again().await;
    caller.expect_nothing().await;

    stage.recover().await;
    assert_eq!(caller.recv().await["response"], "kept");
    caller.expect_nothing().await;
    let history = stage.history().await;
    assert_eq!(count(&history, EventKind::InvocationCompleted), 1);
    assert_eq!(count(&history, EventKind::JournalRecovered), 1);
    assert!(matches!(stage.journal.verify().await, Ok(Verification::Intact { .. })));
}

#[tokio::test]
async fn a_registration_that_is_too_large_gets_one_error_also_in_an_outage() {
    let stage = Stage::start().await;
    let mut agent = stage.open("agent").await.unwrap();
    stage.lose_journal();
    let name = "n".repeat(1 << 20);
    agent.send(json!({"message_type": "agent_register", "request_payload": {"agent_name": name}})).await;
    stage.tried_again().await;
    let error = agent.recv().await;
    assert_eq!(error["error"]["error_message"], "Frame is too large");
    stage.recover().await;
    agent.expect_nothing().await;
    assert_eq!(count(&stage.history().await, EventKind::AgentRegistered), 0);
}

#[tokio::test]
async fn a_router_that_goes_down_in_an_outage_tells_its_sockets_all_the_same() {
    let stage = Stage::start().await;
    let agent = stage.open("agent").await.unwrap();
    stage.lose_journal();
    assert_eq!(stage.open("newcomer").await.err(), Some(ErrorCode::JournalUnavailable));
    timeout(AT_ONCE, stage.router.shutdown()).await.expect("it does not wait for the journal");
    assert_eq!(*agent.outlet.ending().borrow(), Some(Ending::Restarting));

    stage.journal.away.store(false, Ordering::SeqCst);
    stage.running.finish().await.unwrap();
    let stopped = HistoryFilter { kind: Some(EventKind::NodeStopped), ..HistoryFilter::default() };
    assert_eq!(stage.journal.history(&stopped, Position(0), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_invoke_socket_that_comes_and_goes_costs_no_commit() {
    let stage = Stage::start().await;
    let [caller, target] = ["caller", "agent"].map(|name| Identity::new(name).unwrap());
    let principal = Principal::Invoke { caller, target };
    let before = stage.commits();
    for _ in 0..20 {
        stage.open_as(&principal).await.unwrap().end().await;
    }
    stage.open("agent").await.unwrap();
    assert_eq!(stage.commits(), before + 1, "that of the agent's own socket");
}

#[tokio::test]
async fn a_router_that_cannot_tell_whether_a_commit_is_durable_says_neither_and_ends() {
    let mut stage = Stage::start().await;
    let mut agent = stage.open("agent").await.unwrap();
    agent.register().await;
    stage.history().await;

    stage.journal.uncertain.store(true, Ordering::SeqCst);
    agent.invoke("nobody's").await;
    let [caller, client] = ["master_server_be", "agent"].map(|name| Identity::new(name).unwrap());
    let message = stage.router.client_message(caller, client, Bytes::from_static(b"{}"));
    assert_eq!(timeout(PATIENCE, message).await.expect("it is answered"), Err(Declined::Unknown));
    let ended = timeout(PATIENCE, stage.running.ended()).await.expect("the writer ends");
    assert!(matches!(ended, Err(JournalError::Uncertain(_))), "{ended:?}");

    assert_eq!(agent.recv().await, not_active(), "a refusal needs no journal");
    let after = stage.journal.history(&HistoryFilter::default(), Position(0), 100).await.unwrap();
    assert!(after.iter().any(|event| event.kind == EventKind::InvocationAccepted), "it was durable after all");
    let mut sent = Vec::new();
    let more = timeout(AT_ONCE, agent.outlet.recv_many(&mut sent, 1)).await;
    assert!(more.is_err() || sent.is_empty(), "sent before anybody knew: {sent:?}");
}
