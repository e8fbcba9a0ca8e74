//! What must hold between the journal and what the clients wrote down. Whatever does not is a violation, of a rule.

mod book;
mod histories;
mod origins;
mod sights;

use std::fmt;
use std::time::Duration;

use super::notes::{Note, Notes, Way};
use super::record::Record;
use crate::support::{Router, printed};
use book::Book;

/// The whole journal is verified, and grows.
const VERIFIED: Duration = Duration::from_mins(5);
/// How many violations are shown one by one.
const SHOWN: usize = 20;

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Everything that any client ever received is in the journal.
    Lost,
    /// Everything that was accepted has exactly one end, and nothing comes of it afterwards.
    OneEnd,
    /// No answer changes after it was first given.
    Changed,
    /// Nothing arrives other than it was sent.
    Altered,
    /// Each agent gets first deliveries in the order of acceptance; the backend gets log lines in their order.
    Order,
    /// An agent of version 2 is told of each delivery that is not the first, and of no other.
    Flagged,
    /// Nothing is in the journal that nobody sent.
    Invented,
    /// A call is accepted once, however often it is asked with its key.
    Once,
    /// Work is started no more often than its caller allows.
    Attempts,
    /// The positions have no gap.
    Contiguous,
    /// `journal verify` passes, and so do all heads that were ever read.
    Verified,
}

#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// How much there was to be checked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) events: usize,
    pub(crate) accepted: usize,
    pub(crate) answered: usize,
    /// What clients wrote down.
    pub(crate) receipts: usize,
    pub(crate) ends: usize,
    pub(crate) deliveries: usize,
    /// Deliveries that were not the first of their call.
    pub(crate) repeated: usize,
    pub(crate) lines: usize,
}

impl Seen {
    fn count(record: &Record, notes: &[Notes], book: &Book<'_>) -> Self {
        let mut seen = Self { events: record.events.len(), accepted: book.lives.len(), ..Self::default() };
        seen.answered = book.ends().filter(|end| end.way == Way::Completed).count();
        for note in notes.iter().flat_map(|notes| &notes.notes) {
            match note {
                Note::Accepted { .. } => seen.receipts += 1,
                Note::Ended { .. } => seen.ends += 1,
                Note::Delivered { told, .. } => {
                    seen.deliveries += 1;
                    seen.repeated += usize::from(told.is_some_and(|told| told.attempt > 1));
                }
                Note::Heard { .. } => seen.lines += 1,
                Note::Asked { .. } | Note::Missing { .. } | Note::Answered { .. } | Note::Counted { .. } => {}
            }
        }
        seen
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.accepted += other.accepted;
        self.answered += other.answered;
        self.receipts += other.receipts;
        self.ends += other.ends;
        self.deliveries += other.deliveries;
        self.repeated += other.repeated;
        self.lines += other.lines;
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} invocations accepted, {} of them answered; seen by clients: {} receipts, {} ends, \
             {} deliveries ({} of them flagged), {} log lines",
            self.events,
            self.accepted,
            self.answered,
            self.receipts,
            self.ends,
            self.deliveries,
            self.repeated,
            self.lines
        )
    }
}

/// What a check came to.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) seen: Seen,
    pub(crate) violations: Vec<Violation>,
}

impl Findings {
    /// That there are none, or fails with them.
    #[track_caller]
    pub(crate) fn expect_none(&self) {
        let shown: Vec<_> = self.violations.iter().take(SHOWN).map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{} violations:\n{}", self.violations.len(), shown.join("\n"));
    }
}

/// Compares all that was written down with the journal, in which everything has ended.
pub(crate) fn check(record: &Record, notes: &[Notes]) -> Findings {
    let book = Book::of(record);
    let mut violations = Vec::new();
    book.is_sound(record, &mut violations);
    sights::are_in_it(record, &book, notes, &mut violations);
    origins::explain_it(&book, notes, &mut violations);
    Findings { seen: Seen::count(record, notes, &book), violations }
}

/// Reads the router's journal to where everything has ended, checks all of it, and has the router verify it.
pub(crate) async fn check_all(router: &Router, record: &mut Record, notes: &[Notes]) -> Findings {
    record.read_to_the_end(router).await;
    assert_eq!(record.count("frame.refused"), 0, "the load itself is at fault");
    let mut findings = check(record, notes);
    findings.violations.extend(verify(router, record));
    findings
}

/// What `journal verify` has to say, given all heads that were ever read.
pub(crate) fn verify(router: &Router, record: &Record) -> Option<Violation> {
    let mut arguments = vec!["journal", "verify"];
    for head in &record.heads {
        arguments.extend(["--head", head]);
    }
    let verified = router.run_within(&arguments, VERIFIED);
    (!verified.status.success()).then(|| Violation { rule: Rule::Verified, what: printed(&verified) })
}
