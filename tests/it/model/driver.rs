//! Plays the writer: takes commands in batches, decides, commits to the real journal, and only then lets effects out; decides
//! some of the next batch while one is being committed; has commits fail, and the router start again. After each batch it
//! compares all accounts of what is true.

use std::sync::Arc;
use std::time::Duration;

use agent_router::clock::Timestamp;
use agent_router::id::InvocationId;
use agent_router::invocation::Policy;
use agent_router::journal::sqlite::SqliteReader;
use agent_router::journal::{Batch, HistoryFilter, Journal, Lookup, Order, Report, Salts, Verification};
use agent_router::router::{Class, Command, Effect, Found, Ledger, Outbound, Step, Verdict};

use super::canonical::canonical;
use super::fold::Fold;
use super::scene::{Cause, Seen};
use super::state::Model;
use crate::journal::store::{BackEnd, Store};

pub(super) const PING_INTERVAL: Duration = Duration::from_secs(20);

/// The router without its sockets, and everything that watches it.
#[derive(Debug)]
pub(super) struct Driver {
    store: Store,
    journal: Arc<dyn Journal>,
    ledger: Ledger,
    pub(super) model: Model,
    fold: Fold,
    pub(super) now: Timestamp,
    /// Facts that a failed commit left for the next try.
    held: Vec<Command>,
    /// The next batch, as far as it is decided.
    draft: Draft,
}

/// A batch that is being decided.
#[derive(Debug, Default)]
struct Draft {
    step: Step,
    commands: Vec<Command>,
    verdicts: Vec<Verdict>,
    /// What the journal has, while more than that is decided.
    durable: Option<Model>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) effects: Vec<Effect>,
    /// The commands that were refused, or that an outage made nothing of.
    pub(super) refused: Vec<Command>,
    /// The commands that were taken.
    pub(super) taken: Vec<Command>,
}

impl Driver {
    pub(super) async fn start(policy: Policy, back_end: BackEnd) -> Self {
        let store = Store::on(back_end);
        let journal = open(&store).await;
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let restored = journal.restore().await.expect("an empty journal");
        let ledger = Ledger::restore(restored, policy.clone(), PING_INTERVAL, now);
        let model = Model::new(policy);
        let mut driver = Self {
            store,
            journal,
            ledger,
            model,
            fold: Fold::default(),
            now,
            held: Vec::new(),
            draft: Draft::default(),
        };
        driver.boot().await;
        driver
    }

    /// When the router next has something to do by itself.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.ledger.next_due()
    }

    /// One batch: the draft, what was held, then these. While it is being committed, those of `ahead` are decided for which the
    /// journal need not be asked; the others are held.
    pub(super) async fn process(&mut self, commands: Vec<Command>, ahead: Vec<Command>, commit_fails: bool) -> Outcome {
        let mut batch = std::mem::take(&mut self.held);
        batch.extend(commands);
        let found = self.look_up(&batch).await;
        let mut draft = std::mem::take(&mut self.draft);
        let before = draft.durable.take().unwrap_or_else(|| self.model.clone());
        // With a draft, what was before it is not known; with none, everything is to be as it was.
        let fails = (commit_fails && draft.commands.is_empty()).then(|| what_is_taken_back(&self.ledger));

        self.decide(&mut draft, batch, &found);
        let rows = self.ledger.batch(&mut draft.step);
        self.ledger.launch();
        let launched = self.model.clone();
        self.decide_ahead(ahead);
        if commit_fails {
            self.ledger.take_back();
            if let Some(ledger) = fails {
                assert_same(&ledger, &what_is_taken_back(&self.ledger));
            }
            self.model = before;
            self.model.assert_workload(&self.ledger.workload());
            draft.commands.append(&mut std::mem::take(&mut self.draft).commands);
            draft.commands.append(&mut self.held);
            return self.outage(draft.commands);
        }
        let decided = std::mem::replace(&mut self.model, launched);
        self.commit(&rows).await;
        self.compare_touched(&rows).await;
        if !self.draft.commands.is_empty() {
            self.draft.durable = Some(std::mem::replace(&mut self.model, decided));
            if rows.events.len().is_multiple_of(3) {
                // As if others had committed something first.
                self.retract();
            }
        }
        self.model.assert_workload(&self.ledger.workload());
        if self.draft.commands.is_empty() {
            self.model.assert_remembered(&self.ledger);
        }
        let Draft { step, commands, verdicts, .. } = draft;
        self.assert_committed(&step.effects);
        let mut outcome = Outcome { effects: step.effects, ..Outcome::default() };
        for (command, verdict) in commands.into_iter().zip(verdicts) {
            let is_taken = matches!(verdict, Verdict::Taken | Verdict::Invoked(_) | Verdict::Disconnected(_));
            let commands = if is_taken { &mut outcome.taken } else { &mut outcome.refused };
            commands.push(command);
        }
        outcome
    }

    fn decide(&mut self, draft: &mut Draft, commands: Vec<Command>, found: &Found) {
        let marks = Marks::of(&draft.step);
        self.ledger.pass_time(self.now, &mut draft.step);
        self.model.observe(&seen(Cause::Time, self.now, &draft.step, marks));
        for command in commands {
            let marks = Marks::of(&draft.step);
            let verdict = self.ledger.decide(&command, found, self.now, &mut draft.step);
            self.model.observe(&seen(Cause::Command(&command, verdict), self.now, &draft.step, marks));
            draft.verdicts.push(verdict);
            draft.commands.push(command);
        }
    }

    fn decide_ahead(&mut self, commands: Vec<Command>) {
        let mut draft = Draft::default();
        for command in commands {
            let mut lookup = Lookup::default();
            self.ledger.wants(&command, &mut lookup);
            if self.held.is_empty() && lookup.ids.is_empty() && lookup.keys.is_empty() {
                self.decide(&mut draft, vec![command], &Found::default());
            } else {
                self.held.push(command);
            }
        }
        self.draft = draft;
    }

    /// The draft is to be decided anew.
    fn retract(&mut self) {
        let mut draft = std::mem::take(&mut self.draft);
        self.ledger.retract();
        if let Some(durable) = draft.durable.take() {
            self.model = durable;
        }
        draft.commands.append(&mut self.held);
        self.held = draft.commands;
    }

    /// Ends the router as kill -9 does, and starts it again.
    pub(super) async fn restart(&mut self) {
        self.retract();
        self.journal.close().await;
        self.journal = open(&self.store).await;
        self.held.clear();
        let restored = self.journal.restore().await.expect("it can be read");
        self.model.assert_restored(&restored);
        self.ledger = Ledger::restore(restored, self.model.limits.clone(), PING_INTERVAL, self.now);
        self.boot().await;
    }

    /// Every account of what is true is the same.
    pub(super) async fn compare_all(&self) {
        self.model.assert_restored(&self.journal.restore().await.expect("it can be read"));
        self.journal.pass().await;
        let ids: Vec<InvocationId> = self.model.calls.keys().copied().collect();
        self.compare_rows(&ids).await;
        for id in ids {
            let record = self.journal.invocation(id).await.expect("it can be read").expect("it was accepted");
            self.model.assert_record(id, &record);
        }
        let verified = self.journal.verify(None, None).await.expect("it can be read");
        let Verification::Intact(Report { events, head, .. }) = verified else {
            panic!("the chain is broken: {verified:?}")
        };
        assert_eq!((head.position, i64::try_from(events)), (self.model.head, Ok(self.model.head.0)));
        if matches!(self.store, Store::Sqlite(_)) {
            let reader = SqliteReader::open(&self.store.path()).await.expect("it can be read");
            let verified = reader.verify_noted(Vec::new()).await.expect("the file is sound");
            assert!(matches!(verified, Verification::Intact(_)), "{verified:?}");
            reader.close().await;
        }
    }

    async fn boot(&mut self) {
        let mut step = Step::default();
        self.ledger.boot(self.now, &mut step);
        self.model.observe(&seen(Cause::Restart, self.now, &step, Marks::default()));
        let rows = self.ledger.batch(&mut step);
        self.commit(&rows).await;
        self.compare_touched(&rows).await;
    }

    async fn look_up(&self, commands: &[Command]) -> Found {
        let mut lookup = Lookup::default();
        for command in commands {
            self.ledger.wants(command, &mut lookup);
        }
        Found::new(self.journal.lookup(&lookup).await.expect("it can be read"))
    }

    async fn commit(&mut self, rows: &Batch) {
        let head = self.journal.commit(Arc::new(rows.clone())).await.expect("the journal takes it");
        assert_eq!(head.position, self.model.head);
        self.ledger.seal();
        while self.fold.head() < head.position {
            let news =
                self.journal.history(&HistoryFilter::default(), Order::Ascending, Some(self.fold.head()), 1000).await;
            let news = news.expect("it can be read");
            assert!(!news.events.is_empty(), "events are missing");
            for event in &news.events {
                self.fold.take(event);
            }
        }
    }

    /// The rows of a batch: as they were handed over, as they are read back, as the events and the model have them.
    async fn compare_touched(&self, rows: &Batch) {
        let written = rows.accepted.iter().chain(&rows.changed);
        let ids: Vec<InvocationId> = written.clone().map(|row| row.id).collect();
        let read = self.compare_rows(&ids).await;
        let mut written: Vec<_> = written.cloned().collect();
        written.sort_by_key(|row| row.accepted);
        for (read, mut written) in read.into_iter().zip(written) {
            // What was erased is not handed over again: the journal puts something random in its place.
            let erased = self.model.calls[&read.id].erased;
            if let (true, Some(read), Some(written)) = (erased, &read.key, &mut written.order_mut().key) {
                written.digest = read.digest;
            }
            assert_eq!(read, written, "rows are read back as they were written");
        }
    }

    async fn compare_rows(&self, ids: &[InvocationId]) -> Vec<agent_router::invocation::Invocation> {
        let lookup = Lookup { ids: ids.to_vec(), keys: Vec::new() };
        let rows = self.journal.lookup(&lookup).await.expect("it can be read");
        assert_eq!(rows.len(), ids.len(), "a row is missing");
        for row in &rows {
            self.fold.assert_row(row);
            self.model.assert_row(row);
        }
        rows
    }

    /// No effect without its event in the journal.
    fn assert_committed(&self, effects: &[Effect]) {
        for effect in effects {
            let Effect::Send { to, message, .. } = effect else { continue };
            match message {
                Outbound::Delivery(delivery) => {
                    let there = self.fold.has_delivery(delivery.invocation, delivery.attempt, &to.to_string());
                    assert!(there, "not in the journal: {delivery:?}");
                }
                Outbound::Answer(answer) => {
                    assert!(self.fold.is_finished(answer.invocation), "not in the journal: {answer:?}");
                }
                _ => {}
            }
        }
    }

    /// During an outage requests are refused, and facts wait for the next try.
    fn outage(&mut self, batch: Vec<Command>) -> Outcome {
        let is_request = |command: &Command| matches!(command.class(), Class::Request | Class::Refusal);
        let (refused, held) = batch.into_iter().partition(is_request);
        self.held = held;
        Outcome { refused, ..Outcome::default() }
    }
}

/// The state, less the counts of refusals. Those are not taken back: a refusal is told at once and journaled behind, so
/// that it has happened whatever becomes of the batch.
fn what_is_taken_back(ledger: &Ledger) -> String {
    let mut state = canonical(ledger);
    let start = state.find("refusals: Refusals").expect("it is there");
    let end = start + state[start..].find("resume_until: ").expect("it is there");
    state.replace_range(start..end, "");
    without_batches(&state)
}

/// Less the numbers of batches, which say who changed something last, and not what it is.
fn without_batches(state: &str) -> String {
    let mut parts = state.split("batch: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start_matches(|sign: char| sign.is_ascii_digit()))
}

/// Says where two texts part, for the whole would be pages.
fn assert_same(before: &str, after: &str) {
    let part = before.bytes().zip(after.bytes()).take_while(|(before, after)| before == after).count();
    let from = before.floor_char_boundary(part.saturating_sub(200));
    let around = |text: &str| text[from..text.floor_char_boundary(part + 200)].to_owned();
    assert!(before == after, "taken back and not as before:\n{}\n{}", around(before), around(after));
}

async fn open(store: &Store) -> Arc<dyn Journal> {
    store.open_as("model", Salts::Random).await
}

/// How far a step had come.
#[derive(Clone, Copy, Default)]
struct Marks {
    events: usize,
    effects: usize,
    at_once: usize,
}

impl Marks {
    fn of(step: &Step) -> Self {
        Self { events: step.events.len(), effects: step.effects.len(), at_once: step.at_once.len() }
    }
}

/// What a step has come to since the marks.
fn seen<'a>(cause: Cause<'a>, now: Timestamp, step: &'a Step, since: Marks) -> Seen<'a> {
    Seen {
        cause,
        now,
        events: &step.events[since.events..],
        effects: &step.effects[since.effects..],
        at_once: &step.at_once[since.at_once..],
    }
}
