//! The one task that changes anything: it takes commands, decides, commits, and only then lets effects out.
//!
//! It waits for one command, takes whatever else has come by then, and writes it all in one transaction; under load the
//! commit itself makes the batch. What need not be durable soon, receipts and confirmations, does not make a commit of
//! its own but rides along with the next. `turn` is one round of that, on a journal that others may be using too;
//! `outage` what happens while the journal does not answer.

mod outage;
mod turn;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::outage::Outage;
use super::command::{Class, Command};
use super::directory::Directory;
use super::feed::Feed;
use super::health::Health;
use super::ledger::{Effect, FeedStart, Ledger, Verdict};
use super::survey::Question;
use super::waiting::Waiting;
use crate::clock::Clock;
use crate::id::{InvocationId, Position};
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;

/// Commands in one batch, at most.
const MAX_BATCH: usize = 1024;

/// How long what rides along waits for something to ride with.
const RIDE_ALONG: Duration = Duration::from_millis(20);

/// A command on its way to the writer.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) command: Command,
    /// For whoever waits until the command is durable or refused.
    pub(super) reply: Option<oneshot::Sender<Verdict>>,
    /// Its share of what may be on its way at once; given back, with the submission, when it is dealt with.
    #[expect(dead_code, reason = "held, not read")]
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Submission {
    /// One that nobody waits for and that takes no share: the writer's own.
    fn own(command: Command) -> Self {
        Self { command, reply: None, permit: None }
    }

    fn reply(&mut self, verdict: Verdict) {
        if let Some(reply) = self.reply.take() {
            // Nobody waits any more: the socket or the request is gone.
            let _ = reply.send(verdict);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) ledger: Ledger,
    pub(super) journal: Arc<dyn Journal>,
    /// `NODE_ID`.
    pub(super) name: Arc<str>,
    pub(super) directory: Directory,
    pub(super) clock: Clock,
    pub(super) commands: mpsc::Receiver<Submission>,
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) feed: Feed,
    /// The newest position at which there was something to tell the backend.
    pub(super) news: watch::Sender<Position>,
    /// The newest durable position.
    pub(super) newest: watch::Sender<Position>,
    pub(super) waiting: Waiting,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    /// Something was erased, and may still be in the journal's files.
    pub(super) scrubbing: Arc<Notify>,
    pub(super) telling: Option<JoinHandle<()>>,
    pub(super) backlog: Backlog,
    /// Take nothing more, deal with what is there, and end.
    pub(super) finishing: CancellationToken,
}

/// What the writer still has to do.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// What is still to be committed, in order: what rides along, and facts that a failed commit left.
    held: VecDeque<Submission>,
    /// Invocations that were committed after whoever asked had been told that they are not.
    withdrawn: Vec<InvocationId>,
    /// Since when the journal takes no commits, and when it is tried again.
    outage: Option<Outage>,
}

impl Writer {
    /// Runs until it is told to finish and has dealt with all that was submitted.
    pub(super) async fn run(mut self) -> Result<(), JournalError> {
        while self.gather().await {
            self.process().await?;
        }
        self.conclude().await?;
        if let Some(telling) = self.telling.take() {
            telling.abort();
        }
        Ok(())
    }

    /// Waits until there is something to do, and moves it to what is held. False: there never will be again.
    async fn gather(&mut self) -> bool {
        // Under load nothing below waits, so this is where questions have their turn.
        while let Ok(question) = self.questions.try_recv() {
            self.answer(question);
        }
        let mut due = self.wake_at();
        loop {
            let outage = self.backlog.outage.is_some();
            // During an outage everything is taken, so that requests are refused; what is kept is bounded by its permits.
            let room = if outage { MAX_BATCH } else { MAX_BATCH.saturating_sub(self.backlog.held.len()) };
            let mut arrived = Vec::new();
            tokio::select! {
                biased;
                () = self.finishing.cancelled(), if !self.commands.is_closed() => {
                    self.commands.close();
                    continue;
                }
                count = self.commands.recv_many(&mut arrived, room), if room > 0 && !self.is_drained() => {
                    if count == 0 && self.backlog.held.is_empty() {
                        return false;
                    }
                }
                Some(question) = self.questions.recv() => {
                    self.answer(question);
                    continue;
                }
                // In an outage the next try finds out what others have committed.
                () = self.journal.stirred(), if !outage => return true,
                () = sleep_until(due) => return true,
            }
            if outage {
                for submission in arrived {
                    self.keep_or_refuse(submission);
                }
                continue;
            }
            let rides_along = |class| matches!(class, Class::Note | Class::Refusal);
            let all_ride = arrived.iter().all(|submission| rides_along(submission.command.class()));
            self.backlog.held.extend(arrived);
            if !all_ride || self.is_drained() {
                return true;
            }
            let ride = Instant::now() + RIDE_ALONG;
            due = Some(due.map_or(ride, |due| due.min(ride)));
        }
    }

    /// Nothing more can arrive.
    fn is_drained(&self) -> bool {
        self.commands.is_closed() && self.commands.is_empty() && !self.backlog.held.is_empty()
    }

    /// When there is something to do without a command.
    fn wake_at(&self) -> Option<Instant> {
        if let Some(outage) = &self.backlog.outage {
            return Some(outage.retry_at);
        }
        if !self.backlog.held.is_empty() {
            return Some(Instant::now());
        }
        let next = self.ledger.next_due()?;
        Some(Instant::now() + next.since(self.clock.now()))
    }

    /// The last that this router does: what is to be withdrawn does not run at the next start, and others that go on using the
    /// journal are to know that its sockets are closed.
    async fn conclude(&mut self) -> Result<(), JournalError> {
        if self.journal.is_shared() {
            self.backlog.held.push_back(Submission::own(Command::Leave));
        }
        while !self.backlog.held.is_empty() || !self.backlog.withdrawn.is_empty() {
            if let Some(outage) = &self.backlog.outage {
                tokio::time::sleep_until(outage.retry_at).await;
            }
            self.process().await?;
        }
        Ok(())
    }

    fn answer(&self, question: Question) {
        // Whoever asked may be gone.
        match question {
            Question::Workload(asker) => _ = asker.send(self.ledger.workload()),
            Question::Loads(agents, asker) => {
                _ = asker.send(agents.iter().map(|agent| self.ledger.load(agent)).collect());
            }
        }
    }

    fn release(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message, stored } => self.directory.post(to, message, stored),
            Effect::End { session, why } => self.directory.end(session, why),
            Effect::Feed(start) => self.direct_feed(start),
            Effect::Ended { invocation, answered_after } => {
                self.waiting.ended(invocation);
                if let Some(after) = answered_after {
                    self.metrics.answered(after);
                }
            }
        }
    }

    fn direct_feed(&mut self, start: Option<FeedStart>) {
        if let Some(telling) = self.telling.take() {
            telling.abort();
        }
        self.telling = start.map(|start| tokio::spawn(self.feed.clone().tell(start)));
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
