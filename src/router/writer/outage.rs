//! While the journal takes no commits, or does not say what became of one: requests are refused, what happened is kept,
//! questions are answered.
//!
//! A journal that is slow is not waited for in silence. Beyond [`SLOW`] whoever asked for something is refused, although it
//! may come out that it was committed. Then an invocation is *withdrawn*: it is not delivered, and ends as failed before
//! anything else can happen to it. One with an idempotency key stays: whoever asked can ask again, and finds it.

use std::future::ready;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::{MAX_BATCH, Submission, Writer};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{InvocationId, SessionId};
use crate::journal::{Detail, Event, JournalError};
use crate::protocol::outbound::{ErrorAddition, invocation_error};
use crate::router::command::{Class, Command, EndReason};
use crate::router::ledger::{Effect, Verdict};
use crate::router::outbox::Outbound;

/// How long the journal may take for a turn before it is taken for unavailable.
pub(super) const SLOW: Duration = Duration::from_secs(2);

/// How long after a failed commit the next is tried.
pub(super) const RETRY: Duration = Duration::from_millis(250);

/// The journal takes no commits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) since: Timestamp,
    pub(super) retry_at: Instant,
}

/// A command that is decided, and whose commit is awaited.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) submission: Submission,
    pub(super) verdict: Verdict,
    /// Which events of the batch it made.
    pub(super) events: Range<usize>,
    /// Which effects of the batch it made.
    pub(super) effects: Range<usize>,
    /// Whoever asked has been refused, because it took too long.
    pub(super) told: bool,
}

/// What is awaited: commands, and what can be told before they are durable.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) decided: Vec<Decided>,
    pub(super) at_once: Vec<Effect>,
}

impl Writer {
    /// Waits for the journal. From `late` on, requests are refused meanwhile, and questions answered.
    pub(super) async fn patiently<T>(&mut self, asked: impl Future<Output = T>, late: Instant) -> T {
        self.wait(asked, late, &mut Pending::default(), false).await
    }

    /// Waits for the commit of what is launched, in the same way, and decides ahead meanwhile.
    pub(super) async fn committing<T>(
        &mut self,
        commit: impl Future<Output = T>,
        late: Instant,
        pending: &mut Pending,
    ) -> T {
        self.wait(commit, late, pending, true).await
    }

    async fn wait<T>(
        &mut self,
        asked: impl Future<Output = T>,
        late: Instant,
        pending: &mut Pending,
        is_launched: bool,
    ) -> T {
        let mut asked = pin!(asked);
        loop {
            let is_late = self.backlog.outage.is_some();
            let may_arrive = !(self.commands.is_closed() && self.commands.is_empty());
            let ahead = is_launched && self.may_decide_ahead();
            let room = if is_late { MAX_BATCH } else { self.room() };
            let mut arrived = Vec::new();
            tokio::select! {
                biased;
                done = &mut asked => {
                    if is_launched {
                        self.tell_over();
                    }
                    return done;
                }
                // The journal is at work by now.
                () = ready(()), if self.backlog.over.is_some() => self.tell_over(),
                () = sleep_until(late), if !is_late => self.is_slow(pending),
                _ = self.commands.recv_many(&mut arrived, room), if (is_late || ahead) && may_arrive => {}
                Some(question) = self.questions.recv(), if is_late => self.answer(question),
            }
            if ahead && self.backlog.outage.is_none() {
                self.decide_ahead(arrived);
            } else {
                for submission in arrived {
                    self.keep_or_refuse(submission);
                }
            }
        }
    }

    /// The journal has taken too long: whoever waits for it is told so.
    fn is_slow(&mut self, pending: &mut Pending) {
        let seconds = SLOW.as_secs();
        tracing::error!(seconds, "the journal has not answered for long: requests are refused until it does");
        self.interrupt(self.clock.now() - SLOW);
        self.retract();
        for effect in pending.at_once.drain(..) {
            self.release(effect);
        }
        for decided in pending.decided.iter_mut().filter(|decided| !decided.keeps()) {
            decided.told = true;
            self.refuse(&mut decided.submission, decided.verdict);
        }
        for submission in std::mem::take(&mut self.backlog.held) {
            self.keep_or_refuse(submission);
        }
    }

    /// A turn is not in the journal. Requests are refused; facts, which happened all the same, wait for the next try.
    pub(super) fn failed(&mut self, error: &JournalError) {
        let since = self.backlog.outage.map_or_else(
            || {
                tracing::error!(%error, "the journal takes no commits: requests are refused until it does");
                self.clock.now()
            },
            |outage| outage.since,
        );
        self.metrics.commit_failed();
        self.interrupt(since);
        for submission in std::mem::take(&mut self.backlog.held) {
            self.keep_or_refuse(submission);
        }
    }

    fn interrupt(&mut self, since: Timestamp) {
        self.health.set_available(false);
        self.metrics.set_available(false);
        self.backlog.outage = Some(Outage { since, retry_at: Instant::now() + RETRY });
    }

    /// The journal took a turn. `recovering`: that the outage is over is in it.
    pub(super) fn took_commit(&mut self, recovering: bool) {
        if !recovering {
            // It was only slow. Whether it still is, the next turn shows, which is at once.
            if let Some(outage) = &mut self.backlog.outage {
                outage.retry_at = Instant::now();
            }
        } else if let Some(outage) = self.backlog.outage.take() {
            self.health.set_available(true);
            self.metrics.set_available(true);
            tracing::info!(since = ?outage.since, "the journal takes commits again");
        }
    }

    /// Puts back what was decided and is not in the journal, in front of what has come since.
    pub(super) fn put_back(&mut self, decided: Vec<Decided>) {
        for Decided { submission, .. } in decided.into_iter().rev().filter(|decided| !decided.told) {
            self.backlog.held.push_front(submission);
        }
    }

    /// The same, of a turn that failed: what was refused then is dealt with.
    pub(super) fn put_back_facts(&mut self, decided: Vec<Decided>) {
        let (kept, refused): (Vec<_>, Vec<_>) = decided.into_iter().partition(Decided::keeps);
        for mut decided in refused.into_iter().filter(|decided| !decided.told) {
            self.refuse(&mut decided.submission, decided.verdict);
        }
        self.put_back(kept);
    }

    /// Deals with a command that is not in the journal and was not decided.
    pub(super) fn keep_or_refuse(&mut self, mut submission: Submission) {
        if is_kept(&submission.command) {
            self.backlog.held.push_back(submission);
        } else {
            self.refuse(&mut submission, Verdict::Taken);
        }
    }

    /// Tells whoever asked for something that it is not taken, if `verdict` has not told so already.
    fn refuse(&self, submission: &mut Submission, verdict: Verdict) {
        let code = ErrorCode::JournalUnavailable;
        match &submission.command {
            _ if matches!(verdict, Verdict::Refused(_)) => {}
            Command::Invoke { session, invoke } => {
                let addition = invoke.options.used.then(ErrorAddition::default);
                self.tell(*session, invocation_error(code, &invoke.target, addition));
            }
            Command::Cancel { session, cancel } => {
                let addition = ErrorAddition { invocation_id: Some(cancel.invocation_id), ..Default::default() };
                self.tell(*session, invocation_error(code, "", Some(addition)));
            }
            _ => {}
        }
        submission.reply(Verdict::Refused(code));
    }

    fn tell(&self, session: SessionId, frame: Bytes) {
        self.directory.post(session, Outbound::Frame(frame), None);
    }

    /// What was refused because it took too long, and is on the disk all the same: invocations are withdrawn, sockets that
    /// were turned away end. Takes what is not to be sent out of the effects. What was to be withdrawn before is by now.
    pub(super) fn withdraw(&mut self, decided: &[Decided], events: &[Event], effects: &mut Vec<Effect>) {
        self.backlog.withdrawn.clear();
        let told = || decided.iter().filter(|decided| decided.told);
        for decided in told() {
            if let (Command::Open { session, .. }, Verdict::Taken) = (&decided.submission.command, decided.verdict) {
                let end = Command::End { session: *session, reason: EndReason::Failed };
                self.backlog.held.push_front(Submission::own(end));
            }
        }
        let withdrawn: Vec<_> = told().filter_map(|decided| Some((accepted(decided, events)?, decided))).collect();
        if withdrawn.is_empty() {
            return;
        }
        let mut index = 0..;
        effects.retain(|effect| {
            let index = index.next().unwrap_or(usize::MAX);
            !withdrawn.iter().any(|(id, decided)| concerns(effect, *id, decided, index))
        });
        tracing::warn!(count = withdrawn.len(), "invocations are withdrawn: the journal took them too late");
        self.backlog.withdrawn.extend(withdrawn.into_iter().map(|(id, _)| id));
    }
}

impl Decided {
    /// Whether it is decided anew if it is not in the journal.
    fn keeps(&self) -> bool {
        is_kept(&self.submission.command) && !matches!(self.verdict, Verdict::Refused(_))
    }

    /// Whether somebody is told how things stand, or waits for something that is there already.
    pub(super) fn tells(&self) -> bool {
        let joins = matches!(self.submission.command, Command::Invoke { .. });
        joins || !matches!(self.verdict, Verdict::Taken | Verdict::Invoked(_))
    }
}

fn is_kept(command: &Command) -> bool {
    matches!(command.class(), Class::Fact | Class::Note)
}

/// The invocation that a command has had accepted, if whoever asked cannot find it again by its idempotency key.
fn accepted(decided: &Decided, events: &[Event]) -> Option<InvocationId> {
    let made = events.get(decided.events.clone())?;
    made.iter().find_map(|event| match &event.detail {
        Detail::InvocationAccepted(accepted) if accepted.idempotency_key.is_none() => event.invocation,
        _ => None,
    })
}

/// Whether an effect is the delivery of a withdrawn invocation, or the receipt for it.
fn concerns(effect: &Effect, id: InvocationId, decided: &Decided, index: usize) -> bool {
    let Effect::Send { to, message, .. } = effect else { return false };
    match message {
        Outbound::Delivery(delivery) => delivery.invocation == id,
        Outbound::Frame(_) => {
            let asker = match &decided.submission.command {
                Command::Invoke { session, .. } => Some(session),
                _ => None,
            };
            decided.effects.contains(&index) && asker == Some(to)
        }
        _ => false,
    }
}
