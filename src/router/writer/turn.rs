//! One turn: what other routers have committed is taken over, what has come is decided and committed, and only then effects
//! leave.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::outage::{Decided, Pending, RETRY, SLOW};
use super::{MAX_BATCH, Writer};
use crate::clock::Timestamp;
use crate::id::Position;
use crate::journal::{Batch, Head, JournalError, Lookup};
use crate::router::account::account;
use crate::router::command::Command;
use crate::router::ledger::{Effect, Found, Step};

/// How often a turn is begun anew because another router was faster. The journal sees to it that this does not go
/// on, so this is never reached.
const MAX_TURNS: usize = 8;

impl Writer {
    /// Has everything that is held, and what is due, decided and committed; as much as the journal takes.
    pub(super) async fn process(&mut self) -> Result<(), JournalError> {
        let late = Instant::now() + SLOW;
        for _ in 0..MAX_TURNS {
            match self.turn(late).await {
                Err(JournalError::Moved) => tracing::debug!("another router was faster: beginning anew"),
                Err(error @ JournalError::Unavailable(_)) => {
                    self.failed(&error);
                    return Ok(());
                }
                over => return over,
            }
        }
        self.failed(&JournalError::Unavailable("other routers were faster again and again".to_owned()));
        Ok(())
    }

    async fn turn(&mut self, late: Instant) -> Result<(), JournalError> {
        let found = match self.prepare(late).await {
            Ok(found) => found,
            Err(error) => {
                self.pass(late).await;
                return Err(error);
            }
        };
        let now = self.clock.now();
        let recovering = self.backlog.outage.is_some();
        let mut step = Step::default();
        let decided = self.decide(&found, now, &mut step);
        let waits = self.release_known(&mut step, !recovering && Instant::now() < late);
        let batch = self.ledger.batch(&mut step);
        let mut pending = Pending { decided, at_once: std::mem::take(&mut step.at_once) };
        let began = Instant::now();
        let journal = Arc::clone(&self.journal);
        let tells = waits || pending.decided.iter().any(Decided::tells);
        let taken = async {
            match &batch {
                batch if !batch.is_empty() => journal.commit(batch).await.map(Some),
                // A commit would have found out what this router does not know yet.
                _ if tells => journal.confirm().await.map(|()| None),
                _ => Ok(None),
            }
        };
        match self.patiently(taken, late, &mut pending).await {
            Ok(None) => {
                self.ledger.seal();
                self.withdraw(&pending.decided, &batch.events, &mut step.effects);
                self.finish(pending, step.effects);
                self.pass(late).await;
                Ok(())
            }
            Ok(Some(head)) => {
                self.ledger.seal();
                self.committed(&batch, head, began.elapsed());
                self.took_commit(recovering);
                self.withdraw(&pending.decided, &batch.events, &mut step.effects);
                if Instant::now() >= late {
                    self.follow_late(late).await?;
                    step.effects.retain(|effect| self.ledger.still_holds(effect));
                }
                self.finish(pending, step.effects);
                Ok(())
            }
            Err(error) => {
                self.ledger.take_back();
                if matches!(error, JournalError::Moved) {
                    // What else has happened may change what is decided, so nobody is told anything.
                    self.put_back(pending.decided);
                } else {
                    self.release_all(pending.at_once);
                    if matches!(error, JournalError::Unavailable(_)) {
                        self.put_back_facts(pending.decided);
                    }
                }
                Err(error)
            }
        }
    }

    /// Takes over what other routers have committed while a commit took long: they may have taken this one for lost, and have
    /// had done elsewhere what it is about to send.
    async fn follow_late(&mut self, late: Instant) -> Result<(), JournalError> {
        loop {
            match self.follow(late).await {
                Err(JournalError::Unavailable(_)) => self.patiently(sleep(RETRY), late, &mut Pending::default()).await,
                over => {
                    self.pass(late).await;
                    return over;
                }
            }
        }
    }

    /// Begins a turn, and takes over what other routers have committed.
    async fn follow(&mut self, late: Instant) -> Result<(), JournalError> {
        let journal = Arc::clone(&self.journal);
        if let Some(news) = self.patiently(journal.begin(), late, &mut Pending::default()).await? {
            let (head, whole) = (news.head, news.whole);
            self.ledger.follow(news);
            if self.ledger.is_superseded() {
                return Err(JournalError::Superseded(self.name.to_string()));
            }
            self.followed(head, whole);
        }
        Ok(())
    }

    /// Begins a turn, and asks the journal for invocations that news or commands name and that are no longer in memory.
    async fn prepare(&mut self, late: Instant) -> Result<Found, JournalError> {
        self.follow(late).await?;
        self.take_along();
        let journal = Arc::clone(&self.journal);
        let missing = Lookup { ids: self.ledger.missing(), keys: Vec::new() };
        if !missing.ids.is_empty() {
            let settled = self.patiently(journal.lookup(&missing), late, &mut Pending::default()).await?;
            self.ledger.follow_settled(settled);
        }
        let mut lookup = Lookup::default();
        for submission in &self.backlog.held {
            self.ledger.wants(&submission.command, &mut lookup);
        }
        if lookup.ids.is_empty() && lookup.keys.is_empty() {
            return Ok(Found::default());
        }
        self.patiently(journal.lookup(&lookup), late, &mut Pending::default()).await.map(Found::new)
    }

    /// What has come while other routers had their turns is part of this one.
    fn take_along(&mut self) {
        let may_wait = self.journal.is_shared() && self.backlog.outage.is_none();
        while may_wait
            && self.backlog.held.len() < MAX_BATCH
            && let Ok(submission) = self.commands.try_recv()
        {
            self.backlog.held.push_back(submission);
        }
    }

    /// What others have made durable leaves at once if this router has looked a moment ago. After a standstill its sockets may
    /// have been ended elsewhere, and what it would send may have been sent there: then it goes with the rest of the turn.
    /// Returns whether something does.
    fn release_known(&mut self, step: &mut Step, is_fresh: bool) -> bool {
        let known = std::mem::take(&mut step.known);
        if is_fresh {
            self.release_all(known);
            self.ledger.told();
            return false;
        }
        let waits = !known.is_empty();
        // Behind the others, which commands know by their places.
        step.effects.extend(known);
        waits
    }

    async fn pass(&mut self, late: Instant) {
        let journal = Arc::clone(&self.journal);
        self.patiently(journal.pass(), late, &mut Pending::default()).await;
    }

    /// Decides what follows from what others did, from the time, and from each command.
    fn decide(&mut self, found: &Found, now: Timestamp, step: &mut Step) -> Vec<Decided> {
        if let Some(outage) = &self.backlog.outage {
            self.ledger.recovered(outage.since, now, step);
        }
        // Before anything else can happen to them.
        for &invocation in &self.backlog.withdrawn {
            self.ledger.decide(&Command::Withdraw { invocation }, found, now, step);
        }
        self.ledger.catch_up(now, step);
        self.ledger.pass_time(now, step);
        let held = std::mem::take(&mut self.backlog.held);
        held.into_iter()
            .map(|submission| {
                let (events, effects) = (step.events.len(), step.effects.len());
                let verdict = self.ledger.decide(&submission.command, found, now, step);
                let (events, effects) = (events..step.events.len(), effects..step.effects.len());
                Decided { submission, verdict, events, effects, told: false }
            })
            .collect()
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
        if batch.events.iter().any(|event| event.detail.kind().is_for_backend()) {
            self.news.send_replace(head.position);
        }
        if !batch.erased.is_empty() {
            self.scrubbing.notify_one();
        }
    }

    /// What others have committed is as durable as what this router has. `whole`: this router does not know what became of
    /// everything in between, so whoever waits is to look.
    fn followed(&mut self, head: Position, whole: bool) {
        if whole {
            self.waiting.wake_all();
        }
        let moved = self.newest.send_if_modified(|newest| {
            let moved = head > *newest;
            *newest = head.max(*newest);
            moved
        });
        if moved {
            self.metrics.followed(head.0);
            // What kinds of events they are, only a reader finds out.
            self.news.send_replace(head);
        }
    }

    /// A turn is over, and what it came to is durable: effects leave, and whoever asked is told.
    fn finish(&mut self, pending: Pending, effects: Vec<Effect>) {
        let Pending { decided, at_once } = pending;
        self.release_all(at_once);
        self.release_all(effects);
        for Decided { mut submission, verdict, .. } in decided {
            if let Command::End { session, .. } = &submission.command {
                self.directory.remove(*session);
            }
            submission.reply(verdict);
        }
    }

    fn release_all(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.release(effect);
        }
    }
}
