//! The one task that changes anything: it takes commands, decides, commits, and only then lets effects out.
//!
//! It waits for one command, takes whatever else has come by then, and writes it all in one transaction; under load the
//! commit itself makes the batch. What need not be durable soon, receipts and confirmations, does not make a commit of
//! its own but rides along with the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::account::account;
use super::command::{Class, Command};
use super::directory::Directory;
use super::feed::Feed;
use super::health::Health;
use super::ledger::{Effect, FeedStart, Found, Ledger, Step, Verdict};
use super::outbox::Outbound;
use super::survey::Question;
use super::waiting::Waiting;
use crate::clock::{Clock, Timestamp};
use crate::code::ErrorCode;
use crate::id::{Position, SessionId};
use crate::journal::{Batch, Head, Journal, JournalError, Lookup};
use crate::metrics::Metrics;
use crate::protocol::outbound::{ErrorAddition, invocation_error};

/// Commands in one batch, at most.
const MAX_BATCH: usize = 1024;

/// How long what rides along waits for something to ride with.
const RIDE_ALONG: Duration = Duration::from_millis(20);

/// How long after a failed commit the next is tried.
const RETRY: Duration = Duration::from_millis(250);

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

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) ledger: Ledger,
    pub(super) journal: Arc<dyn Journal>,
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
    /// What is still to be committed, in order: what rides along, and facts that a failed commit left.
    pub(super) held: VecDeque<Submission>,
    /// Since when the journal takes no commits, and when it is tried again.
    pub(super) outage: Option<Outage>,
    /// Take nothing more, deal with what is there, and end.
    pub(super) finishing: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    since: Timestamp,
    retry_at: Instant,
}

impl Writer {
    /// Runs until it is told to finish and has dealt with all that was submitted.
    pub(super) async fn run(mut self) -> Result<(), JournalError> {
        while self.gather().await {
            self.process().await?;
        }
        if let Some(telling) = self.telling.take() {
            telling.abort();
        }
        Ok(())
    }

    /// Waits until there is something to do, and moves it to `held`. False: there never will be again.
    async fn gather(&mut self) -> bool {
        // Under load nothing below waits, so this is where questions have their turn.
        while let Ok(question) = self.questions.try_recv() {
            self.answer(question);
        }
        let mut due = self.wake_at();
        loop {
            // During an outage everything is taken, so that requests are refused; what is kept is bounded by its permits.
            let room = if self.outage.is_some() { MAX_BATCH } else { MAX_BATCH.saturating_sub(self.held.len()) };
            let mut arrived = Vec::new();
            tokio::select! {
                biased;
                () = self.finishing.cancelled(), if !self.commands.is_closed() => {
                    self.commands.close();
                    continue;
                }
                count = self.commands.recv_many(&mut arrived, room), if room > 0 && !self.is_drained() => {
                    if count == 0 && self.held.is_empty() {
                        return false;
                    }
                }
                Some(question) = self.questions.recv() => {
                    self.answer(question);
                    continue;
                }
                () = sleep_until(due) => return true,
            }
            if self.outage.is_some() {
                for submission in arrived {
                    self.keep_or_refuse(submission, false);
                }
                continue;
            }
            let rides_along = |class| matches!(class, Class::Note | Class::Refusal);
            let all_ride = arrived.iter().all(|submission| rides_along(submission.command.class()));
            self.held.extend(arrived);
            if !all_ride || self.is_drained() {
                return true;
            }
            let ride = Instant::now() + RIDE_ALONG;
            due = Some(due.map_or(ride, |due| due.min(ride)));
        }
    }

    /// Nothing more can arrive.
    fn is_drained(&self) -> bool {
        self.commands.is_closed() && self.commands.is_empty() && !self.held.is_empty()
    }

    /// When there is something to do without a command.
    fn wake_at(&self) -> Option<Instant> {
        if let Some(outage) = self.outage {
            return Some(outage.retry_at);
        }
        if !self.held.is_empty() {
            return Some(Instant::now());
        }
        let next = self.ledger.next_due()?;
        Some(Instant::now() + next.since(self.clock.now()))
    }

    async fn process(&mut self) -> Result<(), JournalError> {
        let found = match self.look_up().await {
            Ok(found) => found,
            Err(error @ JournalError::Unavailable(_)) => {
                self.failed(&error, &[]);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let now = self.clock.now();
        let mut step = Step::default();
        if let Some(outage) = self.outage {
            self.ledger.recovered(outage.since, now, &mut step);
        }
        self.ledger.pass_time(now, &mut step);
        let verdicts: Vec<Verdict> = self
            .held
            .iter()
            .map(|submission| self.ledger.decide(&submission.command, &found, now, &mut step))
            .collect();
        for effect in std::mem::take(&mut step.at_once) {
            self.release(effect);
        }
        let batch = self.ledger.batch(&mut step);
        let news = batch.events.iter().any(|event| event.detail.kind().is_for_backend());
        if batch.is_empty() {
            self.ledger.seal();
        } else {
            let began = Instant::now();
            match self.journal.commit(&batch).await {
                Ok(head) => {
                    self.ledger.seal();
                    self.committed(&batch, head, began.elapsed());
                    if news {
                        self.news.send_replace(head.position);
                    }
                }
                Err(error @ JournalError::Unavailable(_)) => {
                    self.ledger.take_back();
                    self.failed(&error, &verdicts);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(outage) = self.outage.take() {
            self.health.set_available(true);
            self.metrics.set_available(true);
            tracing::info!(since = ?outage.since, "the journal takes commits again");
        }
        for effect in step.effects {
            self.release(effect);
        }
        for (submission, verdict) in self.held.drain(..).zip(verdicts) {
            if let Command::End { session, .. } = &submission.command {
                self.directory.remove(*session);
            }
            if let Some(reply) = submission.reply {
                // Nobody waits any more: the socket or the request is gone.
                let _ = reply.send(verdict);
            }
        }
        Ok(())
    }

    /// A batch is on the disk: whoever looks after the router, or follows it, can know.
    fn committed(&mut self, batch: &Batch, head: Head, took: Duration) {
        self.health.committed();
        self.health.set_draining(self.ledger.is_draining());
        self.metrics.committed(batch.events.len(), head.position.0, took);
        account(&batch.events, &self.metrics);
        if !batch.events.is_empty() {
            self.newest.send_replace(head.position);
        }
        if !batch.erased.is_empty() {
            self.scrubbing.notify_one();
        }
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

    /// Asks the journal for invocations that commands name and that are no longer in memory.
    async fn look_up(&self) -> Result<Found, JournalError> {
        let mut lookup = Lookup::default();
        for submission in &self.held {
            self.ledger.wants(&submission.command, &mut lookup);
        }
        if lookup.ids.is_empty() && lookup.keys.is_empty() {
            return Ok(Found::default());
        }
        self.journal.lookup(&lookup).await.map(Found::new)
    }

    /// A batch is not in the journal. Requests are refused; facts, which happened all the same, wait for the next try.
    fn failed(&mut self, error: &JournalError, verdicts: &[Verdict]) {
        let since = self.outage.map_or_else(
            || {
                tracing::error!(%error, "the journal takes no commits: requests are refused until it does");
                self.clock.now()
            },
            |outage| outage.since,
        );
        self.health.set_available(false);
        self.metrics.set_available(false);
        self.metrics.commit_failed();
        self.outage = Some(Outage { since, retry_at: Instant::now() + RETRY });
        let mut told = verdicts.iter().map(|verdict| matches!(verdict, Verdict::Refused(_)));
        let held = std::mem::take(&mut self.held);
        for submission in held {
            let told = told.next().unwrap_or(false);
            self.keep_or_refuse(submission, told);
        }
    }

    /// Deals with a command that is not in the journal. `told`: its sender knows already that it is refused.
    fn keep_or_refuse(&mut self, submission: Submission, told: bool) {
        if !told && matches!(submission.command.class(), Class::Fact | Class::Note) {
            self.held.push_back(submission);
            return;
        }
        let code = ErrorCode::JournalUnavailable;
        match &submission.command {
            Command::Invoke { session, invoke } if !told => {
                let addition = invoke.options.used.then(ErrorAddition::default);
                self.tell(*session, invocation_error(code, &invoke.target, addition));
            }
            Command::Cancel { session, cancel } if !told => {
                let addition = ErrorAddition { invocation_id: Some(cancel.invocation_id), ..Default::default() };
                self.tell(*session, invocation_error(code, "", Some(addition)));
            }
            _ => {}
        }
        if let Some(reply) = submission.reply {
            // Nobody waits any more: the socket or the request is gone.
            let _ = reply.send(Verdict::Refused(code));
        }
    }

    fn tell(&self, session: SessionId, frame: Bytes) {
        self.directory.post(session, Outbound::Frame(frame), None);
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
