//! One turn: what other routers have committed is taken over, what has come is decided and committed, and only then effects
//! leave.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::draft::Draft;
use super::outage::{Decided, Pending, RETRY, SLOW};
use super::{MAX_BODIES, Writer};
use crate::clock::Timestamp;
use crate::id::Position;
use crate::journal::{Batch, Head, JournalError, Lookup, News};
use crate::router::account::account;
use crate::router::command::Command;
use crate::router::ledger::{Effect, Found, Step};

/// How often a turn is begun anew because another router was faster. The journal sees to it that this does not go
/// on, so this is never reached.
const MAX_TURNS: usize = 8;

/// A turn that is over, and what it came to durable.
#[derive(Debug)]
pub(super) struct Over {
    pending: Pending,
    effects: Vec<Effect>,
}

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
                self.tell_over();
                self.retract();
                self.pass(late).await;
                return Err(error);
            }
        };
        let now = self.clock.now();
        let recovering = self.backlog.outage.is_some();
        let Draft { mut step, decided, .. } = self.decide(&found, now);
        let waits = self.release_known(&mut step, !recovering && Instant::now() < late);
        let batch = Arc::new(self.ledger.batch(&mut step));
        self.ledger.launch();
        let asked = std::mem::take(&mut self.backlog.questions);
        let surveyed: Vec<_> = asked.into_iter().map(|question| (question.look(&self.ledger), question)).collect();
        let mut pending = Pending { decided, at_once: std::mem::take(&mut step.at_once) };
        let began = Instant::now();
        let journal = Arc::clone(&self.journal);
        let tells = waits || pending.decided.iter().any(Decided::tells);
        let taken = async {
            match &batch {
                batch if !batch.is_empty() => journal.commit(Arc::clone(batch)).await.map(Some),
                // A commit would have found out what this router does not know yet.
                _ if tells => journal.confirm().await.map(|()| None),
                _ => Ok(None),
            }
        };
        let taken = self.committing(taken, late, &mut pending).await;
        if taken.is_ok() {
            self.ledger.seal();
            for (survey, question) in surveyed {
                question.tell(survey);
            }
        } else {
            self.retract();
            self.ledger.take_back();
            for (_, question) in surveyed {
                self.answer(question);
            }
        }
        match taken {
            Ok(None) => {
                self.withdraw(&pending.decided, &batch.events, &mut step.effects);
                self.finish(Over { pending, effects: step.effects });
                self.pass(late).await;
                Ok(())
            }
            Ok(Some(head)) => {
                self.committed(&batch, head, began.elapsed());
                self.took_commit(recovering);
                self.withdraw(&pending.decided, &batch.events, &mut step.effects);
                if Instant::now() >= late {
                    self.follow_late(late).await?;
                    step.effects.retain(|effect| self.ledger.still_holds(effect));
                }
                let over = Over { pending, effects: step.effects };
                if self.is_pressed() && !self.journal.is_shared() {
                    // The journal begins with the next batch before anybody is told of this one.
                    self.backlog.over = Some(over);
                } else {
                    self.finish(over);
                }
                Ok(())
            }
            Err(error) => {
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
                Err(JournalError::Unavailable(_)) => self.patiently(sleep(RETRY), late).await,
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
        if let Some(mut news) = self.patiently(journal.begin(), late).await? {
            let (head, whole) = (news.head, news.whole);
            self.keep_bodies(&mut news);
            self.retract();
            self.backlog.followed = Some(Instant::now());
            self.ledger.follow(news);
            if self.ledger.is_superseded() {
                return Err(JournalError::Superseded(self.name.to_string()));
            }
            self.followed(head, whole);
        }
        Ok(())
    }

    /// Keeps the bodies that came with news, and lets go of those that have been erased meanwhile: a look brings what is there.
    fn keep_bodies(&mut self, news: &mut News) {
        let bodies = &mut self.backlog.bodies;
        if news.whole {
            bodies.clear();
        }
        for invocation in &news.invocations {
            bodies.remove(&invocation.accepted);
            if let Some(answer) = invocation.finished().and_then(|finished| finished.answer) {
                bodies.remove(&answer);
            }
        }
        let room = MAX_BODIES.saturating_sub(bodies.len());
        bodies.extend(std::mem::take(&mut news.bodies).into_iter().take(room));
    }

    /// Begins a turn, and asks the journal for invocations that news or commands name and that are no longer in memory.
    async fn prepare(&mut self, late: Instant) -> Result<Found, JournalError> {
        self.follow(late).await?;
        if self.journal.is_shared() && self.backlog.outage.is_none() {
            // While other routers had their turns.
            self.take_along();
        }
        let journal = Arc::clone(&self.journal);
        let missing = Lookup { ids: self.ledger.missing(), keys: Vec::new() };
        if !missing.ids.is_empty() {
            let settled = self.patiently(journal.lookup(&missing), late).await?;
            self.ledger.follow_settled(settled);
        }
        let (mut asked, mut found) = (Lookup::default(), Found::default());
        loop {
            // More may have come to what is held while the journal was asked.
            let mut lookup = Lookup::default();
            for submission in &self.backlog.held {
                self.ledger.wants(&submission.command, &mut lookup);
            }
            if lookup.is_within(&asked) {
                return Ok(found);
            }
            found = Found::new(self.patiently(journal.lookup(&lookup), late).await?);
            asked = lookup;
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
        self.patiently(journal.pass(), late).await;
    }

    /// Decides what follows from what others did, from the time, and from each command that is not in the draft yet.
    fn decide(&mut self, found: &Found, now: Timestamp) -> Draft {
        let mut draft = std::mem::take(&mut self.backlog.draft);
        let step = &mut draft.step;
        if let Some(outage) = &self.backlog.outage {
            self.ledger.recovered(outage.since, now, step);
        }
        // Before anything else can happen to them.
        for &invocation in &self.backlog.withdrawn {
            self.ledger.decide(&Command::Withdraw { invocation }, found, now, step);
        }
        self.ledger.catch_up(now, step);
        self.ledger.pass_time(now, step);
        for submission in std::mem::take(&mut self.backlog.held) {
            draft.decide(submission, &mut self.ledger, found, now);
        }
        draft
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
            self.backlog.bodies.clear();
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

    /// Tells of the last turn, if that was left until the next commit is on its way.
    pub(super) fn tell_over(&mut self) {
        if let Some(over) = self.backlog.over.take() {
            self.finish(over);
        }
    }

    /// Effects leave, and whoever asked is told.
    fn finish(&mut self, over: Over) {
        let Over { pending: Pending { decided, at_once }, effects } = over;
        self.release_all(at_once);
        self.release_all(effects);
        self.backlog.bodies.clear();
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
