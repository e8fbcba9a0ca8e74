//! What is older than `RETENTION_DAYS` goes, and nobody misses it.

use std::time::Duration;

use agent_router::clock::{Clock, Timestamp};
use agent_router::id::SessionId;
use agent_router::invocation::Policy;
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{EventKind, HistoryFilter, Journal, Order, Report, Verification};
use agent_router::protocol::Version;
use agent_router::router::{Command, EndReason, Found, Ledger, Outbound, Step};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::stage::Stage;
use crate::support::{BACKEND, command};

const DAY: Duration = Duration::from_hours(24);

/// Events of an earlier router.
const OLD: usize = 1500;

/// A router of a week ago: its decisions, committed as they would have been then.
struct Earlier {
    journal: SqliteJournal,
    ledger: Ledger,
    now: Timestamp,
}

impl Earlier {
    async fn start(folder: &TempDir) -> Self {
        let options = SqliteOptions::new(folder.path().join("journal.db"), "node");
        let journal = SqliteJournal::open(&options).await.unwrap();
        let now = Clock::start().now() - 7 * DAY;
        let restored = journal.restore().await.unwrap();
        let mut ledger = Ledger::restore(restored, Policy::default(), Duration::from_secs(20), now);
        let mut step = Step::default();
        ledger.boot(now, &mut step);
        let mut earlier = Self { journal, ledger, now };
        earlier.commit(&mut step).await;
        earlier
    }

    async fn take(&mut self, commands: Vec<Command>) -> Step {
        let mut step = Step::default();
        self.ledger.pass_time(self.now, &mut step);
        for command in &commands {
            self.ledger.decide(command, &Found::default(), self.now, &mut step);
        }
        self.commit(&mut step).await;
        step
    }

    async fn commit(&mut self, step: &mut Step) {
        self.journal.commit(self.ledger.batch(step).into()).await.unwrap();
        self.ledger.seal();
    }

    async fn open(&mut self, name: &str) -> SessionId {
        let session = SessionId::generate();
        let identity = agent_router::id::Identity::new(name).unwrap();
        let principal = agent_router::auth::Principal::Own { identity, credential: None };
        self.take(vec![Command::Open { session, principal, sealed_credential: None }]).await;
        session
    }

    async fn send(&mut self, session: SessionId, frame: Value) -> Step {
        self.take(vec![command(session, Version::One, &frame)]).await
    }

    /// An agent that registered, worked and talked.
    async fn live(&mut self) {
        let agent = self.open("agent").await;
        self.send(agent, json!({"message_type": "agent_register", "request_payload": {"agent_name": "a"}})).await;
        let caller = self.open("caller").await;
        let invoke = json!({"message_type": "agent_invoke", "agent_uuid": "agent", "request_payload": {}});
        let step = self.send(caller, invoke).await;
        let token = step.effects.iter().find_map(|effect| match effect {
            agent_router::router::Effect::Send { message: Outbound::Delivery(delivery), .. } => {
                Some(delivery.invoked_by.clone())
            }
            _ => None,
        });
        self.send(agent, json!({"message_type": "agent_response", "response": 1, "invoked_by": token})).await;
        let line = json!({"message_type": "agent_log", "log_message": "x"});
        self.take((0..OLD).map(|_| command(agent, Version::One, &line)).collect()).await;
        for session in [agent, caller] {
            self.take(vec![Command::End { session, reason: EndReason::Closed }]).await;
        }
    }
}

async fn oldest(stage: &Stage) -> i64 {
    let page = stage.journal.history(&HistoryFilter::default(), Order::Ascending, None, 1).await.unwrap().events;
    page.first().unwrap().position.0
}

async fn intact(stage: &Stage) -> Report {
    match stage.journal.verify(None, None).await.unwrap() {
        Verification::Intact(report) => report,
        broken @ Verification::Broken { .. } => panic!("{broken:?}"),
    }
}

#[tokio::test]
async fn what_is_too_old_goes_in_small_batches_and_the_rest_verifies() {
    let folder = TempDir::new().unwrap();
    let mut earlier = Earlier::start(&folder).await;
    earlier.live().await;
    let old = earlier.journal.head().await.unwrap();
    earlier.journal.close().await;

    let stage = Stage::on(folder, Some(DAY)).await;
    stage.until(async || oldest(&stage).await == old.position.0 + 1).await;
    let report = intact(&stage).await;
    assert_eq!(report.pruned, old, "all of it, and nothing that is new");
    let pruned = stage.history().await.into_iter().filter(|kind| *kind == EventKind::JournalPruned).count();
    assert_eq!(pruned, OLD.div_ceil(512), "at most 512 at a time");
    let restarted = Stage::on(stage.finish().await, None).await;
    intact(&restarted).await;
    let mut caller = restarted.open("caller").await.unwrap();
    let agent = restarted.open("agent").await.unwrap();
    agent.register().await;
    caller.invoke("agent").await;
    assert!(restarted.history().await.contains(&EventKind::InvocationAccepted));
    caller.expect_nothing().await;
}

#[tokio::test]
async fn what_an_open_invocation_needs_stays_however_old_it_is() {
    let folder = TempDir::new().unwrap();
    let mut earlier = Earlier::start(&folder).await;
    let agent = earlier.open("agent").await;
    earlier.send(agent, json!({"message_type": "agent_register", "request_payload": {}})).await;
    let before = earlier.journal.head().await.unwrap();
    let caller = earlier.open("caller").await;
    let waits = json!({
        "message_type": "agent_invoke", "agent_uuid": "agent", "request_payload": {},
        "deadline_ms": u32::MAX, "ttl_ms": u32::MAX,
    });
    earlier.take(vec![Command::End { session: agent, reason: EndReason::Closed }]).await;
    earlier.send(caller, waits).await;
    let accepted = earlier.journal.head().await.unwrap();
    assert_eq!(accepted.position.0, before.position.0 + 3);
    earlier.journal.close().await;

    let stage = Stage::on(folder, Some(DAY)).await;
    stage.until(async || oldest(&stage).await >= accepted.position.0).await;
    assert_eq!(oldest(&stage).await, accepted.position.0, "the acceptance is still needed");
    intact(&stage).await;
}

#[tokio::test]
async fn a_backend_is_told_of_an_agent_whose_registration_is_no_longer_in_the_journal() {
    let stage = Stage::start().await;
    let agent = stage.open("agent").await.unwrap();
    agent.send(json!({"message_type": "agent_register", "request_payload": {"agent_name": "of old"}})).await;
    stage.history().await;
    let through = stage.journal.head().await.unwrap();
    stage.router.submit(Command::Prune { through, events: 1 }, 0).await;
    stage.until(async || oldest(&stage).await > through.position.0).await;
    let mut backend = stage.open(BACKEND).await.unwrap();
    let Outbound::Notice(notice) = backend.next().await else { panic!("a notification") };
    let told: Value = serde_json::from_slice(&notice.frame).unwrap();
    assert_eq!(told["request_payload"]["agent_name"], "of old");
    assert_eq!(told["request_payload"]["agent_uuid"], "agent");
}
