//! Who is connected here, and what happens next.
//!
//! ```text
//! session, http ──Command──▶ writer ──▶ ledger (decides) ──▶ journal (commits) ──Effect──▶ outbox ──▶ session
//! ```
//!
//! [`Ledger`] holds the rules and the state, without I/O; the writer is the one task that changes anything, and lets no
//! effect out before its event is durable; the directory knows the sockets of this process; the feed tells the backend
//! what happened. `admission` refuses who asks too often (`rate_limit`); `requests` is what HTTP asks, `waiting` who waits for an end, `survey` and `health` what operators ask;
//! `account` counts and logs what was committed, `upkeep` looks after the journal, `lease` tells other routers on it that this
//! one lives. May import `journal`, `metrics`, `protocol`, `auth`, `invocation` and what is below; knows no HTTP and no socket.

mod account;
mod admission;
pub mod command;
mod directory;
mod feed;
mod health;
mod lease;
mod ledger;
pub mod outbox;
mod outcome;
mod rate_limit;
mod requests;
mod running;
mod survey;
mod upkeep;
mod waiting;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::account::account;
use self::admission::Admission;
use self::directory::Directory;
use self::feed::Feed;
use self::health::Health;
use self::survey::Question;
use self::waiting::Waiting;
use self::writer::{Backlog, Submission, Writer};
use crate::auth::{Principal, Sealer};
use crate::clock::Clock;
use crate::code::ErrorCode;
use crate::id::{NodeId, Position, SessionId};
use crate::invocation::Policy;
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;

pub use command::{AnswerRead, Class, Command, EndReason};
pub use ledger::{Effect, FeedStart, Found, Ledger, Rows, Step, Verdict};
pub use outbox::{
    Answer, AnswerContent, Body, Delivery, DeliveryAddition, Ending, Notice, Outbound, Outbox, Outlet, outbox,
};
pub use outcome::{Declined, Taken};
pub use rate_limit::{RateLimit, RateLimits};
pub use running::Running;
pub use survey::{Connections, Load, Workload};
pub use waiting::Waiter;

/// Commands that may wait for the writer. Beyond, sockets are not read.
const MAX_COMMANDS: usize = 4096;

/// Bytes of frames that may wait for the writer, in KiB: of requests, and of everything else. Beyond, sockets are not
/// read. They are apart so that during an outage requests can be refused while facts wait for its end.
const MAX_WAITING_KIB: usize = 32 << 10;

/// Questions that may wait for the writer. Beyond, whoever asks waits.
const MAX_QUESTIONS: usize = 64;

/// How long whoever asks the writer something waits for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a router that goes down waits for the journal to take that before it lets its sockets go.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What an operator decides of the router, besides the [`Policy`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often sockets are pinged; version-2 agents are told.
    pub ping_interval: Duration,
    /// How long the backend's notifications wait for it.
    pub feed_ttl: Duration,
    /// How long the journal keeps what happened; `None`: for ever.
    pub retention: Option<Duration>,
    /// How often each identity may have an agent invoked.
    pub rate_limits: RateLimits,
    /// Seals agents' credentials for the other routers on the journal; `None`: they are not told them.
    pub sealer: Option<Sealer>,
}

/// The way to the router, for sessions and HTTP.
#[derive(Clone, Debug)]
pub struct Router {
    commands: mpsc::Sender<Submission>,
    room_for_requests: Arc<Semaphore>,
    room_for_facts: Arc<Semaphore>,
    directory: Directory,
    journal: Arc<dyn Journal>,
    clock: Clock,
    questions: mpsc::Sender<Question>,
    newest: watch::Receiver<Position>,
    waiting: Waiting,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    sealer: Option<Sealer>,
    admission: Admission,
    node: Node,
    /// What is done beside the writer; [`Running`] waits for it.
    tasks: TaskTracker,
}

/// Which router this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number in the journal.
    pub id: NodeId,
    /// `NODE_ID`.
    pub name: Arc<str>,
}

impl Router {
    /// Goes on where the journal stands: restores the state, journals the end of every connection that a predecessor
    /// held, and starts the writer.
    pub async fn start(
        journal: Arc<dyn Journal>,
        policy: Policy,
        clock: Clock,
        settings: Settings,
    ) -> Result<(Self, Running), JournalError> {
        let mut restored = journal.restore().await?;
        let node = Node { id: restored.node.node, name: Arc::clone(&restored.node.name) };
        // A life that has counted and never came into the journal may still count: this is not the same one.
        let counted = journal.beats().await?.into_iter().find(|beat| beat.node == node.id).map_or(0, |beat| beat.epoch);
        restored.node.epoch = restored.node.epoch.max(counted);
        let epoch = restored.node.epoch + 1;
        // Before this life is in the journal: whoever finds it there can find out whether it goes on.
        journal.renew(epoch).await?;
        let max_frame_bytes = policy.max_frame_bytes;
        // What may still be asked for, joined or told.
        let needed = policy.idempotency_ttl.max(policy.answer_ttl).max(policy.late_answer_ttl).max(settings.feed_ttl);
        let mut ledger = Ledger::restore(restored, policy, settings.ping_interval, clock.now());
        let mut step = Step::default();
        ledger.boot(clock.now(), &mut step);
        let batch = Arc::new(ledger.batch(&mut step));
        let head = journal.commit(Arc::clone(&batch)).await?;
        ledger.seal();
        let metrics = Arc::new(Metrics::new());
        account(&batch.events, &metrics);

        let directory = Directory::default();
        let (commands, received) = mpsc::channel(MAX_COMMANDS);
        let (asked, questions) = mpsc::channel(MAX_QUESTIONS);
        let (news, seen) = watch::channel(head.position);
        let (newest, followed) = watch::channel(head.position);
        let waiting = Waiting::new(Arc::clone(&metrics));
        let health = Arc::new(Health::new());
        let scrubbing = Arc::new(Notify::new());
        let finishing = CancellationToken::new();
        let feed = Feed {
            journal: Arc::clone(&journal),
            directory: directory.clone(),
            node: node.id,
            sealer: settings.sealer.clone(),
            clock: clock.clone(),
            ttl: settings.feed_ttl,
            max_frame_bytes,
            news: seen,
        };
        let writer = Writer {
            ledger,
            journal: Arc::clone(&journal),
            name: Arc::clone(&node.name),
            directory: directory.clone(),
            clock: clock.clone(),
            commands: received,
            questions,
            feed,
            news,
            newest,
            waiting: waiting.clone(),
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            scrubbing: Arc::clone(&scrubbing),
            telling: None,
            backlog: Backlog::default(),
            finishing: finishing.clone(),
        };
        let tasks = TaskTracker::new();
        let running =
            Running { writer: tokio::spawn(writer.run()), finishing: finishing.clone(), tasks: tasks.clone() };
        let router = Self {
            commands,
            room_for_requests: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
            room_for_facts: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
            directory,
            journal,
            clock,
            questions: asked,
            newest: followed,
            waiting,
            health,
            metrics,
            sealer: settings.sealer,
            admission: Admission::new(settings.rate_limits),
            node,
            tasks,
        };
        router.tasks.spawn(upkeep::scrub(Arc::clone(router.journal()), scrubbing, finishing.clone()));
        if let Some(keep) = settings.retention {
            router.tasks.spawn(upkeep::retain(router.clone(), keep.max(needed), finishing.clone()));
        }
        if router.journal.is_shared() {
            router.tasks.spawn(lease::keep(router.clone(), epoch, finishing));
        }
        Ok((router, running))
    }

    /// Announces a socket whose credential was accepted. It may be read once this is `Ok`: then its event is durable.
    ///
    /// # Errors
    /// [`ErrorCode::NotAllowed`] for an invoke socket whose caller is not connected, [`ErrorCode::ShuttingDown`], and
    /// [`ErrorCode::JournalUnavailable`].
    pub async fn open(&self, session: SessionId, principal: &Principal, outbox: Outbox) -> Result<(), ErrorCode> {
        self.directory.insert(session, principal, outbox);
        let sealed_credential = self.sealed(session, principal);
        let opened = self.request(Command::Open { session, principal: principal.clone(), sealed_credential }, 0).await;
        opened.map(drop).map_err(|declined| {
            self.directory.remove(session);
            match declined {
                Declined::Refused(code) => code,
                Declined::RateLimited { .. } => ErrorCode::RateLimited,
                Declined::Unknown | Declined::NotFound | Declined::StillOpen => ErrorCode::JournalUnavailable,
            }
        })
    }

    /// Hands over a command that came with `bytes` of a frame. Waits while the router has as much to do as it takes:
    /// that is what keeps a socket from being read. After the end of the router it is dropped.
    pub async fn submit(&self, command: Command, bytes: usize) {
        let permit = self.room(&command, bytes).await;
        // The writer is gone only when the process ends; what it did not take, it did not promise.
        let _ = self.commands.send(Submission { command, reply: None, permit }).await;
    }

    /// Has the end of a session submitted whose own task can no longer do so.
    pub fn abandon(&self, session: SessionId) {
        let router = self.clone();
        let end = async move { router.submit(Command::End { session, reason: EndReason::Failed }, 0).await };
        // Without a runtime the process is ending, and the next start finds the socket's row.
        if let Ok(runtime) = Handle::try_current() {
            self.tasks.spawn_on(end, &runtime);
        }
    }

    /// Counts and times, for operators.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether what is sent to the router now is accepted; the reason if it is not.
    ///
    /// # Errors
    /// Its code, and a sentence for an operator.
    pub async fn health(&self) -> Result<(), (ErrorCode, &'static str)> {
        self.health.check(self.commands.is_closed(), &self.journal, &self.tasks).await
    }

    /// Takes no more requests, ends every socket with 1012, and leaves nobody waiting.
    pub async fn shutdown(&self) {
        self.health.shut_down();
        // Submitted in any case, and so ahead of the ends of the sockets; a journal that is away takes it later.
        let router = self.clone();
        let told = tokio::spawn(async move { router.request(Command::Shutdown, 0).await });
        let _ = timeout(LAST_WORD, told).await;
        self.directory.end_all(Ending::Restarting);
        self.waiting.close();
    }

    /// The journal, for readers.
    #[must_use]
    pub const fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// Which router this is.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The router's clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The credential of a socket, for the other routers on the journal, if there may be any.
    fn sealed(&self, session: SessionId, principal: &Principal) -> Option<Bytes> {
        match principal {
            Principal::Own { credential: Some(credential), .. } if self.journal.is_shared() => {
                self.sealer.as_ref()?.seal(session, credential)
            }
            _ => None,
        }
    }

    async fn room(&self, command: &Command, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let room = match command.class() {
            Class::Request | Class::Refusal => &self.room_for_requests,
            Class::Fact | Class::Note => &self.room_for_facts,
        };
        let share = u32::try_from((bytes >> 10).clamp(1, MAX_WAITING_KIB)).unwrap_or(u32::MAX);
        Arc::clone(room).acquire_many_owned(share).await.ok()
    }
}
