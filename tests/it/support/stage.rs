//! The real router over a journal that fails on demand, without sockets: the test plays the sessions.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_router::auth::Principal;
use agent_router::clock::Clock;
use agent_router::code::ErrorCode;
use agent_router::id::{Identity, Position, SessionId};
use agent_router::invocation::Policy;
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{EventKind, HistoryFilter, Journal, Order};
use agent_router::protocol::{Dialect, Inbound, Invoke, Version, parse};
use agent_router::router::{
    AnswerContent, Body, Command, Delivery, EndReason, Outbound, Outlet, RateLimits, Router, Running, Settings, outbox,
};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::unreliable::Unreliable;
use super::{PATIENCE, command, general_error, not_active};

/// How soon a request is refused while the journal is away.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(2);

/// The real router over such a journal.
pub(crate) struct Stage {
    pub(crate) journal: Arc<Unreliable>,
    pub(crate) router: Router,
    pub(crate) running: Running,
    folder: TempDir,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::on(tempfile::tempdir().unwrap(), None).await
    }

    /// On the journal in that folder, which keeps what happened for so long.
    pub(crate) async fn on(folder: TempDir, retention: Option<Duration>) -> Self {
        Self::set(folder, retention, false).await
    }

    /// On a journal that other routers may be using.
    pub(crate) async fn shared() -> Self {
        Self::set(tempfile::tempdir().unwrap(), None, true).await
    }

    async fn set(folder: TempDir, retention: Option<Duration>, shared: bool) -> Self {
        let options = SqliteOptions::new(folder.path().join("journal.db"), "node");
        let inner = SqliteJournal::open(&options).await.unwrap();
        let journal = Arc::new(Unreliable::new(inner, shared));
        let settings = Settings {
            ping_interval: Duration::from_secs(20),
            feed_ttl: Duration::from_hours(1),
            retention,
            sealer: None,
            rate_limits: RateLimits::default(),
        };
        let over = Arc::clone(&journal) as Arc<dyn Journal>;
        let (router, running) = Router::start(over, Policy::default(), Clock::start(), settings).await.unwrap();
        Self { journal, router, running, folder }
    }

    pub(crate) fn commits(&self) -> usize {
        self.journal.commits.load(Ordering::SeqCst)
    }

    pub(crate) fn lose_journal(&self) {
        self.journal.away.store(true, Ordering::SeqCst);
    }

    /// Waits until the router has found out, and has tried again more than once.
    pub(crate) async fn tried_again(&self) {
        let before = self.commits();
        self.until(async || self.router.health().await.is_err() && self.commits() > before + 3).await;
    }

    /// Has the journal take commits again, and waits until the router has found out.
    pub(crate) async fn recover(&self) {
        self.journal.away.store(false, Ordering::SeqCst);
        self.until(async || self.router.health().await.is_ok()).await;
    }

    pub(crate) async fn until(&self, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds().await {
            let health = self.router.health().await;
            assert!(Instant::now() < deadline, "after {} commits: {health:?}", self.commits());
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn open(&self, name: &str) -> Result<Socket, ErrorCode> {
        self.open_as(&Principal::Own { identity: Identity::new(name).unwrap(), credential: None }).await
    }

    pub(crate) async fn open_as(&self, principal: &Principal) -> Result<Socket, ErrorCode> {
        let session = SessionId::generate();
        let (outbox, outlet) = outbox();
        self.router.open(session, principal, outbox).await?;
        Ok(Socket { session, outlet, router: self.router.clone(), journal: Arc::clone(&self.journal) })
    }

    /// Where the journal's files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the router in good order, and leaves its journal.
    pub(crate) async fn finish(self) -> TempDir {
        self.router.shutdown().await;
        self.running.finish().await.unwrap();
        self.journal.close().await;
        self.folder
    }

    /// The kinds of all events, in order, once all that was submitted so far has been dealt with.
    pub(crate) async fn history(&self) -> Vec<EventKind> {
        self.open("whoever asks").await.unwrap();
        let mut kinds = Vec::new();
        let mut after = Position(0);
        loop {
            let page = self
                .journal
                .history(&HistoryFilter::default(), Order::Ascending, Some(after), 100)
                .await
                .unwrap()
                .events;
            let Some(last) = page.last() else { return kinds };
            after = last.position;
            kinds.extend(page.iter().map(|event| event.kind));
        }
    }
}

/// What a master asks over HTTP: the frame that its own socket would have sent.
pub(crate) fn invocation(agent: &str, payload: &Value, options: &Value) -> Box<Invoke> {
    let mut frame = json!({"message_type": "agent_invoke", "agent_uuid": agent, "request_payload": payload});
    for (name, value) in options.as_object().into_iter().flatten() {
        frame[name] = value.clone();
    }
    match parse(&Bytes::from(frame.to_string()), Dialect::default()) {
        Ok(Inbound::Invoke(invoke)) => invoke,
        other => panic!("no invocation: {other:?}"),
    }
}

/// A session without a socket.
pub(crate) struct Socket {
    pub(crate) session: SessionId,
    pub(crate) outlet: Outlet,
    router: Router,
    journal: Arc<Unreliable>,
}

impl Socket {
    pub(crate) async fn send(&self, frame: Value) {
        self.router.submit(command(self.session, Version::One, &frame), frame.to_string().len()).await;
    }

    pub(crate) async fn register(&self) {
        self.send(json!({"message_type": "agent_register", "request_payload": {}})).await;
    }

    pub(crate) async fn invoke(&self, agent: &str) {
        self.send(json!({"message_type": "agent_invoke", "agent_uuid": agent, "request_payload": {}})).await;
    }

    pub(crate) async fn end(self) {
        self.router.submit(Command::End { session: self.session, reason: EndReason::Closed }, 0).await;
    }

    /// What it is sent next.
    pub(crate) async fn next(&mut self) -> Outbound {
        self.next_within(AT_ONCE).await
    }

    async fn next_within(&mut self, patience: Duration) -> Outbound {
        let mut messages = Vec::new();
        let taken = timeout(patience, self.outlet.recv_many(&mut messages, 1)).await.expect("it is sent something");
        assert_eq!(taken, 1, "the router let go");
        messages.remove(0)
    }

    pub(crate) async fn recv(&mut self) -> Value {
        self.recv_within(AT_ONCE).await
    }

    pub(crate) async fn recv_within(&mut self, patience: Duration) -> Value {
        match self.next_within(patience).await {
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

    pub(crate) async fn delivery(&mut self) -> Delivery {
        match self.next().await {
            Outbound::Delivery(delivery) => *delivery,
            other => panic!("{other:?} is no delivery"),
        }
    }

    pub(crate) async fn expect_nothing(&mut self) {
        self.invoke("nobody").await;
        let next = self.recv().await;
        assert!(next == not_active() || next == general_error("Journal is unavailable"), "{next}");
    }
}
