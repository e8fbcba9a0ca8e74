//! Refusals are journaled behind, a few a second from one source one by one, and the rest as a count: nobody fills the
//! journal by being wrong.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::{Ledger, Step, Subject};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, SessionId};
use crate::invocation::Labels;
use crate::journal::Detail;

const WINDOW: Duration = Duration::from_secs(1);

/// How many sources are told apart; more share one window.
const MAX_SOURCES: usize = 10_000;

/// The source that all share who are too many to be told apart.
const OTHERS: &str = "*";

/// See the module.
#[derive(Debug)]
pub(super) struct Refusals {
    per_window: u32,
    windows: HashMap<Box<str>, Window>,
    ends: BTreeSet<(Timestamp, Box<str>)>,
    /// What the running batch has changed, as it was: a batch that is taken back is decided anew, and counts once.
    undo: Vec<(Box<str>, Option<Window>)>,
    /// The same of the batch that is being committed.
    launched: Vec<(Box<str>, Option<Window>)>,
}

#[derive(Debug)]
struct Window {
    until: Timestamp,
    seen: u32,
    suppressed: u64,
    last: (Subject, Detail),
}

impl Refusals {
    pub(super) fn new(per_window: u32) -> Self {
        Self { per_window, windows: HashMap::new(), ends: BTreeSet::new(), undo: Vec::new(), launched: Vec::new() }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Whether this one is journaled by itself.
    fn admit(&mut self, source: &str, now: Timestamp, subject: &Subject, detail: &Detail) -> bool {
        let source =
            if self.windows.len() < MAX_SOURCES || self.windows.contains_key(source) { source } else { OTHERS };
        let last = (subject.clone(), detail.clone());
        let new = match self.windows.get(source) {
            Some(&Window { until, seen, suppressed, .. }) => {
                let admitted = seen < self.per_window;
                Window { until, seen: seen.saturating_add(1), suppressed: suppressed + u64::from(!admitted), last }
            }
            None => Window { until: now + WINDOW, seen: 1, suppressed: 0, last },
        };
        let admitted = new.suppressed == 0;
        let old = self.put(source, Some(new));
        self.undo.push((source.into(), old));
        admitted
    }

    /// A window that is over: what it was about, and how many were not journaled one by one.
    fn close_one(&mut self, now: Timestamp) -> Option<(Subject, Detail, u64)> {
        let (_, source) = self.ends.first().filter(|(at, _)| *at <= now)?.clone();
        let window = self.put(&source, None)?;
        let (subject, detail) = window.last.clone();
        let suppressed = window.suppressed;
        self.undo.push((source, Some(window)));
        Some((subject, detail, suppressed))
    }

    fn put(&mut self, source: &str, new: Option<Window>) -> Option<Window> {
        let old = self.windows.remove(source);
        if let Some(old) = &old {
            self.ends.remove(&(old.until, source.into()));
        }
        if let Some(new) = new {
            self.ends.insert((new.until, source.into()));
            self.windows.insert(source.into(), new);
        }
        old
    }

    /// The running batch is being committed.
    pub(super) fn launch(&mut self) {
        self.launched = std::mem::take(&mut self.undo);
    }

    /// The launched batch is durable.
    pub(super) fn seal(&mut self) {
        self.launched.clear();
    }

    /// Neither the launched batch nor the running one is durable, and they never were.
    pub(super) fn take_back(&mut self) {
        self.retract();
        self.undo = std::mem::take(&mut self.launched);
        self.retract();
    }

    /// The running batch is not durable, and never was.
    pub(super) fn retract(&mut self) {
        for (source, old) in std::mem::take(&mut self.undo).into_iter().rev() {
            self.put(&source, old);
        }
    }
}

impl Ledger {
    /// Journals how many were not journaled one by one.
    pub(super) fn report_suppressed(&mut self, now: Timestamp, step: &mut Step) {
        while let Some((subject, mut detail, suppressed_in_all)) = self.refusals.close_one(now) {
            if suppressed_in_all > 0 {
                if let Detail::InvocationRefused { suppressed, .. }
                | Detail::ConnectionRefused { suppressed, .. }
                | Detail::FrameRefused { suppressed, .. } = &mut detail
                {
                    // The event itself stands for one.
                    *suppressed = suppressed_in_all - 1;
                }
                self.record(step, now, subject, detail, None);
            }
        }
    }

    pub(super) fn invocation_refused(
        &mut self,
        caller: &Identity,
        target: &str,
        labels: Labels,
        code: ErrorCode,
        now: Timestamp,
        step: &mut Step,
    ) {
        let agent = Identity::new(target).ok();
        let Labels { request_id, session_id } = labels.clone();
        let subject = Subject { agent, caller: Some(caller.clone()), labels, ..Subject::none() };
        let detail = Detail::InvocationRefused { code, request_id, session_id, suppressed: 0 };
        self.refused(caller.as_str(), subject, detail, now, step);
    }

    pub(super) fn frame_refused(&mut self, session: SessionId, reason: &str, now: Timestamp, step: &mut Step) {
        let Some(sender) = self.tables.session(session).map(|session| session.identity().clone()) else { return };
        let detail = Detail::FrameRefused { session, reason: reason.to_owned(), suppressed: 0 };
        self.refused(sender.as_str(), Subject { caller: Some(sender.clone()), ..Subject::none() }, detail, now, step);
    }

    pub(super) fn connection_refused(&mut self, peer: &str, reason: &str, now: Timestamp, step: &mut Step) {
        let detail = Detail::ConnectionRefused { reason: reason.to_owned(), peer: peer.to_owned(), suppressed: 0 };
        self.refused(peer, Subject::none(), detail, now, step);
    }

    fn refused(&mut self, source: &str, subject: Subject, detail: Detail, now: Timestamp, step: &mut Step) {
        if self.refusals.admit(source, now, &subject, &detail) {
            self.record(step, now, subject, detail, None);
        }
    }
}
