//! The one task that changes anything: it takes commands, decides, commits, and only then lets effects out.
//!
//! It waits for one command, takes whatever else has come by then, and writes it all in one transaction; under load the
//! commit itself makes the batch. While one batch is being committed the next is decided. What need not be durable soon,
//! receipts and confirmations, does not make a commit of its own but rides along with the next. `turn` is one round of that, on
//! a journal that others may be using too; `draft` the batch that is being decided; `outage` what happens while the journal does
//! not answer.

mod draft;
mod outage;
mod turn;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::draft::Draft;
use self::outage::Outage;
use self::turn::Over;
use super::MAX_QUESTIONS;
use super::command::{Class, Command};
use super::directory::Directory;
use super::feed::Feed;
use super::health::Health;
use super::ledger::{Effect, FeedStart, Ledger, Verdict};
use super::outbox::Body;
use super::survey::Question;
use super::waiting::Waiting;
use crate::clock::Clock;
use crate::id::{InvocationId, Position};
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;

/// Commands in one batch, at most.
const MAX_BATCH: usize = 1024;

/// Bodies that are kept for a turn which is begun again and again, at most. The others are read from the journal.
const MAX_BODIES: usize = 1024;

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

    /// Nobody waits for it: it makes no commit of its own.
    fn rides_along(&self) -> bool {
        matches!(self.command.class(), Class::Note | Class::Refusal)
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
    /// The next batch, as far as it is decided.
    draft: Draft,
    /// What is to be decided after that, in order: what rides along, and facts that a failed commit left.
    held: VecDeque<Submission>,
    /// A turn that is durable, and of which nobody has been told yet.
    over: Option<Over>,
    /// What was asked while the draft was not durable. No more than are asked at once.
    questions: Vec<Question>,
    /// When this router last took over what another had committed.
    followed: Option<Instant>,
    /// Small bodies that came with it, by their places in the journal, until a turn succeeds.
    bodies: HashMap<Position, Bytes>,
    /// Invocations that were committed after whoever asked had been told that they are not.
    withdrawn: Vec<InvocationId>,
    /// Since when the journal takes no commits, and when it is tried again.
    outage: Option<Outage>,
}

impl Backlog {
    /// Whether no command waits for its commit.
    fn is_empty(&self) -> bool {
        self.draft.is_empty() && self.held.is_empty()
    }
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
        while self.backlog.questions.len() < MAX_QUESTIONS
            && let Ok(question) = self.questions.try_recv()
        {
            self.ask(question);
        }
        if self.is_pressed() {
            self.take_along();
            return true;
        }
        let mut due = self.wake_at();
        let journal = Arc::clone(&self.journal);
        let mut stirred = journal.stirred();
        loop {
            let outage = self.backlog.outage.is_some();
            // During an outage everything is taken, so that requests are refused; what is kept is bounded by its permits.
            let room = if outage { MAX_BATCH } else { self.room() };
            let mut arrived = Vec::new();
            tokio::select! {
                biased;
                () = self.finishing.cancelled(), if !self.commands.is_closed() => {
                    self.commands.close();
                    continue;
                }
                count = self.commands.recv_many(&mut arrived, room), if room > 0 && !self.is_drained() => {
                    if count == 0 && self.backlog.is_empty() {
                        return false;
                    }
                }
                Some(question) = self.questions.recv(), if self.backlog.questions.len() < MAX_QUESTIONS => {
                    self.ask(question);
                    continue;
                }
                // In an outage the next try finds out what others have committed.
                () = &mut stirred, if !outage => return true,
                () = sleep_until(due) => return true,
            }
            if outage {
                for submission in arrived {
                    self.keep_or_refuse(submission);
                }
                continue;
            }
            let all_ride = arrived.iter().all(Submission::rides_along);
            self.backlog.held.extend(arrived);
            if !all_ride || self.is_drained() {
                return true;
            }
            let ride = Instant::now() + RIDE_ALONG;
            due = Some(due.map_or(ride, |due| due.min(ride)));
        }
    }

    /// The next batch waits for nothing: somebody waits for it.
    fn is_pressed(&self) -> bool {
        let waits = !self.backlog.held.is_empty() || self.backlog.draft.is_urgent();
        let is_told_to_finish = self.finishing.is_cancelled() && !self.commands.is_closed();
        waits && self.backlog.outage.is_none() && !is_told_to_finish
    }

    /// What has come meanwhile is part of the next batch.
    fn take_along(&mut self) {
        while self.room() > 0
            && let Ok(submission) = self.commands.try_recv()
        {
            self.backlog.held.push_back(submission);
        }
    }

    /// Nothing more can arrive.
    fn is_drained(&self) -> bool {
        self.commands.is_closed() && self.commands.is_empty() && !self.backlog.is_empty()
    }

    /// How much the next batch has room for.
    fn room(&self) -> usize {
        MAX_BATCH.saturating_sub(self.backlog.held.len() + self.backlog.draft.len())
    }

    /// When there is something to do without a command.
    fn wake_at(&self) -> Option<Instant> {
        if let Some(outage) = &self.backlog.outage {
            return Some(outage.retry_at);
        }
        let now = Instant::now();
        if !self.backlog.held.is_empty() {
            return Some(now);
        }
        let ride = (!self.backlog.draft.is_empty()).then(|| now + RIDE_ALONG);
        let due = self.ledger.next_due().map(|next| now + next.since(self.clock.now()));
        [ride, due].into_iter().flatten().min()
    }

    /// The last that this router does: what is to be withdrawn does not run at the next start, and others that go on using the
    /// journal are to know that its sockets are closed.
    async fn conclude(&mut self) -> Result<(), JournalError> {
        if self.journal.is_shared() {
            self.backlog.held.push_back(Submission::own(Command::Leave));
        }
        while !self.backlog.is_empty() || !self.backlog.withdrawn.is_empty() {
            if let Some(outage) = &self.backlog.outage {
                tokio::time::sleep_until(outage.retry_at).await;
            }
            self.process().await?;
        }
        Ok(())
    }

    /// Answers a question; once the draft is durable, if there is one.
    fn ask(&mut self, question: Question) {
        if self.backlog.draft.is_empty() {
            self.answer(question);
        } else {
            self.backlog.questions.push(question);
        }
    }

    fn answer(&self, question: Question) {
        let survey = question.look(&self.ledger);
        question.tell(survey);
    }

    fn release(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, mut message, stored } => {
                if let Some(body) = message.stored().and_then(|position| self.backlog.bodies.get(&position)) {
                    message.put_body(Body::Inline(body.clone()));
                }
                self.directory.post(to, message, stored);
            }
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
