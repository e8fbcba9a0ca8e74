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
}

#[derive(Debug)]
struct Window {
    seen: u32,
    suppressed: u64,
    last: (Subject, Detail),
}

impl Refusals {
    pub(super) fn new(per_window: u32) -> Self {
        Self { per_window, windows: HashMap::new(), ends: BTreeSet::new() }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Whether this one is journaled by itself.
    fn admit(&mut self, source: &str, now: Timestamp, subject: &Subject, detail: &Detail) -> bool {
        let source =
            if self.windows.len() < MAX_SOURCES || self.windows.contains_key(source) { source } else { OTHERS };
        if let Some(window) = self.windows.get_mut(source) {
            window.seen = window.seen.saturating_add(1);
            if window.seen > self.per_window {
                window.suppressed += 1;
                window.last = (subject.clone(), detail.clone());
                return false;
            }
            return true;
        }
        let last = (subject.clone(), detail.clone());
        self.windows.insert(source.into(), Window { seen: 1, suppressed: 0, last });
        self.ends.insert((now + WINDOW, source.into()));
        true
    }

    /// A window that is over.
    fn close_one(&mut self, now: Timestamp) -> Option<Window> {
        let first = self.ends.first().filter(|(at, _)| *at <= now)?.clone();
        self.ends.remove(&first);
        self.windows.remove(&first.1)
    }
}

impl Ledger {
    /// Journals how many were not journaled one by one.
    pub(super) fn report_suppressed(&mut self, now: Timestamp, step: &mut Step) {
        while let Some(window) = self.refusals.close_one(now) {
            if window.suppressed > 0 {
                let (subject, mut detail) = window.last;
                if let Detail::InvocationRefused { suppressed, .. }
                | Detail::ConnectionRefused { suppressed, .. }
                | Detail::FrameRefused { suppressed, .. } = &mut detail
                {
                    // The event itself stands for one.
                    *suppressed = window.suppressed - 1;
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
