//! Who is connected here, and what happens next.
//!
//! ```text
//! session, http ──Command──▶ writer ──▶ ledger (decides) ──▶ journal (commits) ──Effect──▶ outbox ──▶ session
//! ```
//!
//! [`Ledger`] holds the rules and the state, without I/O; the writer is the one task that changes anything, and lets no
//! effect out before its event is durable; the directory knows the sockets of this process; the feed tells the backend
//! what happened. May import `journal`, `protocol`, `auth`, `invocation` and what is below; knows no HTTP and no socket.

pub mod command;
mod directory;
mod feed;
mod ledger;
pub mod outbox;
mod writer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::directory::Directory;
use self::feed::Feed;
use self::writer::{Submission, Writer};
use crate::auth::Principal;
use crate::clock::Clock;
use crate::code::ErrorCode;
use crate::id::{Identity, SessionId};
use crate::invocation::Policy;
use crate::journal::{Journal, JournalError};

pub use command::{Class, Command, EndReason};
pub use ledger::{Effect, FeedStart, Found, Ledger, Step, Verdict};
pub use outbox::{
    Answer, AnswerContent, Body, Delivery, DeliveryAddition, Ending, Notice, Outbound, Outbox, Outlet, outbox,
};

/// Commands that may wait for the writer. Beyond, sockets are not read.
const MAX_COMMANDS: usize = 4096;

/// Bytes of frames that may wait for the writer, in KiB: of requests, and of everything else. Beyond, sockets are not
/// read. They are apart so that during an outage requests can be refused while facts wait for its end.
const MAX_WAITING_KIB: usize = 32 << 10;

/// How long a router that goes down waits for the journal to take that before it lets its sockets go.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What an operator decides of the router, besides the [`Policy`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often sockets are pinged; version-2 agents are told.
    pub ping_interval: Duration,
    /// How long the backend's notifications wait for it.
    pub feed_ttl: Duration,
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
    available: Arc<AtomicBool>,
    draining: Arc<AtomicBool>,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// It was refused, and nothing came of it.
    Refused(ErrorCode),
    /// The router ended in the middle of a commit: nobody knows before its next start whether the journal has it.
    Unknown,
}

/// The running writer.
#[derive(Debug)]
pub struct Running {
    writer: JoinHandle<Result<(), JournalError>>,
    finishing: CancellationToken,
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
        let restored = journal.restore().await?;
        let max_frame_bytes = policy.max_frame_bytes;
        let mut ledger = Ledger::restore(restored, policy, settings.ping_interval, clock.now());
        let mut step = Step::default();
        ledger.boot(clock.now(), &mut step);
        let head = journal.commit(&ledger.batch(&mut step)).await?;
        ledger.seal();

        let directory = Directory::default();
        let (commands, received) = mpsc::channel(MAX_COMMANDS);
        let (news, seen) = watch::channel(head.position);
        let available = Arc::new(AtomicBool::new(true));
        let finishing = CancellationToken::new();
        let feed = Feed {
            journal: Arc::clone(&journal),
            directory: directory.clone(),
            clock,
            ttl: settings.feed_ttl,
            max_frame_bytes,
            news: seen,
        };
        let writer = Writer {
            ledger,
            journal: Arc::clone(&journal),
            directory: directory.clone(),
            clock,
            commands: received,
            feed,
            news,
            available: Arc::clone(&available),
            telling: None,
            held: VecDeque::new(),
            outage: None,
            finishing: finishing.clone(),
        };
        let running = Running { writer: tokio::spawn(writer.run()), finishing };
        let router = Self {
            commands,
            room_for_requests: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
            room_for_facts: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
            directory,
            journal,
            clock,
            available,
            draining: Arc::new(AtomicBool::new(false)),
        };
        Ok((router, running))
    }

    /// Announces a socket whose credential was accepted. It may be read once this is `Ok`: then its event is durable.
    ///
    /// # Errors
    /// [`ErrorCode::NotAllowed`] for an invoke socket whose caller is not connected, [`ErrorCode::ShuttingDown`], and
    /// [`ErrorCode::JournalUnavailable`].
    pub async fn open(&self, session: SessionId, principal: &Principal, outbox: Outbox) -> Result<(), ErrorCode> {
        self.directory.insert(session, principal, outbox);
        let opened = self.request(Command::Open { session, principal: principal.clone() }, 0).await;
        opened.map_err(|declined| {
            self.directory.remove(session);
            match declined {
                Declined::Refused(code) => code,
                Declined::Unknown => ErrorCode::JournalUnavailable,
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

    /// `POST /invoke-agent`. `Ok` and a refusal that the journal tells of look the same to a part-1 client.
    pub async fn client_message(&self, caller: Identity, client: Identity, message: Bytes) -> Result<(), Declined> {
        let bytes = message.len();
        self.request(Command::ClientMessage { caller, client, message }, bytes).await
    }

    /// Whether the router does its work; the reason if it does not.
    ///
    /// # Errors
    /// Its code, and a sentence for an operator.
    pub fn health(&self) -> Result<(), (ErrorCode, &'static str)> {
        if self.draining.load(Ordering::Acquire) {
            return Err((ErrorCode::ShuttingDown, "the router is shutting down"));
        }
        if !self.available.load(Ordering::Acquire) {
            return Err((ErrorCode::JournalUnavailable, "the journal takes no commits"));
        }
        if self.commands.is_closed() {
            return Err((ErrorCode::JournalUnavailable, "the writer has ended"));
        }
        Ok(())
    }

    /// Takes no more requests, and ends every socket with 1012.
    pub async fn shutdown(&self) {
        self.draining.store(true, Ordering::Release);
        // Submitted in any case, and so ahead of the ends of the sockets; a journal that is away takes it later.
        let router = self.clone();
        let told = tokio::spawn(async move { router.request(Command::Shutdown, 0).await });
        let _ = timeout(LAST_WORD, told).await;
        self.directory.end_all(Ending::Restarting);
    }

    /// The journal, for readers.
    #[must_use]
    pub const fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// The router's clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn request(&self, command: Command, bytes: usize) -> Result<(), Declined> {
        let (reply, answered) = oneshot::channel();
        let permit = self.room(&command, bytes).await;
        let submission = Submission { command, reply: Some(reply), permit };
        self.commands.send(submission).await.map_err(|_| Declined::Refused(ErrorCode::ShuttingDown))?;
        match answered.await {
            Ok(answer) => answer.map_err(Declined::Refused),
            Err(_) => Err(Declined::Unknown),
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

impl Running {
    /// Waits for the writer to end by itself, which it does only when the journal failed for good.
    pub async fn ended(&mut self) -> Result<(), JournalError> {
        joined((&mut self.writer).await)
    }

    /// Deals with everything that was submitted, and ends. To be called when the sockets are closed.
    pub async fn finish(self) -> Result<(), JournalError> {
        self.finishing.cancel();
        joined(self.writer.await)
    }
}

fn joined(ended: Result<Result<(), JournalError>, tokio::task::JoinError>) -> Result<(), JournalError> {
    ended.unwrap_or_else(|panic| Err(JournalError::Uncertain(format!("the writer failed: {panic}"))))
}
