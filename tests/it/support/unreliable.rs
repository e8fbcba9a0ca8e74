//! A journal that fails on demand.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_router::clock::{Clock, Timestamp};
use agent_router::id::{Identity, InvocationId, Position, SessionId};
use agent_router::invocation::Invocation;
use agent_router::journal::sqlite::SqliteJournal;
use agent_router::journal::{
    AgentFilter, AgentPage, AgentRecord, Batch, Beat, FeedEvent, Head, HistoryFilter, HistoryPage, InvocationFilter,
    InvocationPage, InvocationRecord, Journal, JournalError, Lookup, News, NodeRecord, Order, Restored, SessionRow,
    Verification,
};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::sleep;

/// A journal that takes commits or does not, as the test wants.
#[derive(Debug)]
pub(crate) struct Unreliable {
    inner: SqliteJournal,
    pub(crate) away: AtomicBool,
    /// It makes the next commit durable, and cannot tell.
    pub(crate) uncertain: AtomicBool,
    /// Probes do not come back.
    pub(crate) stuck: AtomicBool,
    /// Turns do not begin.
    pub(crate) no_turns: AtomicBool,
    /// Commits do not come back.
    pub(crate) stalled: AtomicBool,
    /// So many of the next commits find that another router was faster.
    pub(crate) moved: AtomicUsize,
    /// Others may be using it. (Nobody is.)
    shared: bool,
    /// What others have committed, as the next turn is told.
    news: Mutex<Option<News>>,
    /// What they have committed, and a turn that does not look finds out at its end.
    unseen: Mutex<Option<News>>,
    stirred: Notify,
    /// How far its clock is ahead of this machine's, in seconds, if it is shared.
    pub(crate) ahead: AtomicI64,
    /// The lives for which a lease was renewed, and how many commits had been tried by then.
    pub(crate) renewals: Mutex<Vec<(i64, usize)>>,
    /// Commits that were tried.
    pub(crate) commits: AtomicUsize,
    /// Turns that were begun, or tried to be.
    pub(crate) turns: AtomicUsize,
    /// Probes that were tried.
    pub(crate) probes: AtomicUsize,
}

impl Unreliable {
    pub(crate) fn new(inner: SqliteJournal, shared: bool) -> Self {
        let [away, uncertain, stuck, no_turns, stalled] = std::array::from_fn(|_| AtomicBool::new(false));
        let [commits, turns, probes, moved] = std::array::from_fn(|_| AtomicUsize::new(0));
        let (news, unseen) = Default::default();
        let (stirred, renewals, ahead) = (Notify::new(), Mutex::default(), AtomicI64::new(0));
        Self {
            inner,
            away,
            uncertain,
            stuck,
            no_turns,
            stalled,
            moved,
            shared,
            news,
            unseen,
            stirred,
            ahead,
            renewals,
            commits,
            turns,
            probes,
        }
    }

    /// Has the router told that others have committed this.
    pub(crate) fn tell(&self, news: News) {
        *self.news.lock().unwrap() = Some(news);
        self.stirred.notify_one();
    }

    /// The same, but nobody tells.
    pub(crate) fn hide(&self, news: News) {
        *self.unseen.lock().unwrap() = Some(news);
    }

    /// Whether others have committed since the turn began; the next is told.
    fn find_out(&self) -> Result<(), JournalError> {
        match self.unseen.lock().unwrap().take() {
            None => Ok(()),
            unseen => {
                *self.news.lock().unwrap() = unseen;
                Err(JournalError::Moved)
            }
        }
    }

    async fn while_set(flag: &AtomicBool) {
        while flag.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl Journal for Unreliable {
    async fn begin(&self) -> Result<Option<News>, JournalError> {
        self.turns.fetch_add(1, Ordering::SeqCst);
        Self::while_set(&self.no_turns).await;
        if self.away.load(Ordering::SeqCst) && self.shared {
            return Err(JournalError::Unavailable("nobody answers".to_owned()));
        }
        Ok(self.news.lock().unwrap().take())
    }

    async fn confirm(&self) -> Result<(), JournalError> {
        self.find_out()
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    async fn time(&self) -> Result<Option<Timestamp>, JournalError> {
        let ahead = self.ahead.load(Ordering::SeqCst) * 1_000_000;
        Ok(self.shared.then(|| Timestamp::from_micros(Clock::start().now().as_micros() + ahead)))
    }

    async fn stirred(&self) {
        self.stirred.notified().await;
    }

    async fn renew(&self, epoch: i64) -> Result<Vec<Beat>, JournalError> {
        let commits = self.commits.load(Ordering::SeqCst);
        self.renewals.lock().unwrap().push((epoch, commits));
        Ok(Vec::new())
    }

    async fn restore(&self) -> Result<Restored, JournalError> {
        let restored = self.inner.restore().await?;
        Ok(Restored { alone: !self.shared, ..restored })
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, JournalError> {
        self.inner.nodes().await
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, JournalError> {
        self.inner.session(id).await
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Head, JournalError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        Self::while_set(&self.stalled).await;
        if self.moved.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |moved| moved.checked_sub(1)).is_ok() {
            return Err(JournalError::Moved);
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(JournalError::Unavailable("the disk is full".to_owned()));
        }
        self.find_out()?;
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
        order: Order,
        beyond: Option<Position>,
        limit: usize,
    ) -> Result<HistoryPage, JournalError> {
        Journal::history(&self.inner, filter, order, beyond, limit).await
    }

    async fn invocations(
        &self,
        filter: &InvocationFilter,
        order: Order,
        beyond: Option<Position>,
        limit: usize,
    ) -> Result<InvocationPage, JournalError> {
        self.inner.invocations(filter, order, beyond, limit).await
    }

    async fn agents(
        &self,
        filter: AgentFilter,
        after: Option<&Identity>,
        limit: usize,
    ) -> Result<AgentPage, JournalError> {
        self.inner.agents(filter, after, limit).await
    }

    async fn agent(&self, agent: &Identity) -> Result<Option<AgentRecord>, JournalError> {
        self.inner.agent(agent).await
    }

    async fn verify(&self, from: Option<Position>, to: Option<Position>) -> Result<Verification, JournalError> {
        self.inner.verify(from, to).await
    }

    async fn hash_at(&self, position: Position) -> Result<Option<[u8; 32]>, JournalError> {
        self.inner.hash_at(position).await
    }

    async fn prunable(&self, before: Timestamp, limit: usize) -> Result<Option<Head>, JournalError> {
        self.inner.prunable(before, limit).await
    }

    async fn scrub(&self) -> Result<(), JournalError> {
        self.inner.scrub().await
    }

    async fn probe(&self) -> Result<(), JournalError> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        Self::while_set(&self.stuck).await;
        if self.away.load(Ordering::SeqCst) {
            return Err(JournalError::Unavailable("the disk is full".to_owned()));
        }
        self.inner.probe().await
    }

    async fn head(&self) -> Result<Head, JournalError> {
        self.inner.head().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
