//! The router as HTTP asks it, in this process: who waits, what operators have it do, and what it says of itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_router::code::ErrorCode;
use agent_router::id::{Identity, InvocationId, Position};
use agent_router::journal::{Journal, Report, Verification};
use agent_router::router::{Declined, Load, Taken};
use serde_json::json;
use tokio::time::timeout;

use crate::support::stage::{AT_ONCE, Stage, invocation};
use crate::support::{BACKEND, PATIENCE};

/// So many wait for one end.
const WAITERS: usize = 10_000;

fn identity(name: &str) -> Identity {
    Identity::new(name).unwrap()
}

impl Stage {
    async fn ask(&self, agent: &str, text: &str) -> Result<Taken, Declined> {
        self.router.invoke(identity(BACKEND), invocation(agent, &json!({"text": text}), &json!({}))).await
    }
}

#[tokio::test]
async fn ten_thousand_waiters_are_woken_by_the_commit_that_ends_what_they_wait_for() {
    let stage = Stage::start().await;
    let mut agent = stage.open("agent").await.unwrap();
    agent.register().await;
    let taken = stage.ask("agent", "x").await.unwrap();
    let mut waiters = Vec::new();
    for _ in 0..WAITERS {
        let (mut waiter, journal) = (stage.router.waiter(taken.invocation), stage.journal.clone());
        waiters.push(tokio::spawn(async move {
            waiter.ended().await;
            // Reading is what a request does next; a few do it here, for the others would only wait for each other.
            journal.head().await.unwrap().position
        }));
    }
    let abandoned: Vec<_> = (0..WAITERS).map(|_| stage.router.waiter(InvocationId::generate())).collect();
    assert!(stage.router.metrics().render().contains(&format!("agent_router_waiters {}\n", 2 * WAITERS)));
    drop(abandoned);
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()));

    let invoked_by = agent.delivery().await.invoked_by;
    let newest = stage.router.newest();
    agent.send(json!({"message_type": "agent_response", "response": 1, "invoked_by": invoked_by})).await;
    for waiter in waiters {
        let seen = timeout(PATIENCE, waiter).await.expect("it is woken").unwrap();
        assert!(seen <= *newest.borrow(), "{seen:?} is newer than what followers were told of");
    }
    let finished = stage.journal.invocation(taken.invocation).await.unwrap().unwrap();
    assert_eq!(finished.state.as_str(), "completed");
    assert!(stage.router.metrics().render().contains("agent_router_waiters 0\n"));
}

#[tokio::test]
async fn whoever_waits_is_let_go_when_the_router_goes_down() {
    let stage = Stage::start().await;
    let mut waiter = stage.router.waiter(InvocationId::generate());
    stage.router.shutdown().await;
    timeout(AT_ONCE, waiter.ended()).await.expect("there is nothing to wait for any more");
    timeout(AT_ONCE, stage.router.waiter(InvocationId::generate()).ended()).await.expect("nor now");
}

#[tokio::test]
async fn followers_are_told_of_every_commit_with_events() {
    let stage = Stage::start().await;
    let mut newest = stage.router.newest();
    let before = *newest.borrow_and_update();
    assert_eq!(before, Position(1), "the start of the router");
    stage.open("agent").await.unwrap();
    timeout(AT_ONCE, newest.changed()).await.expect("it is told").unwrap();
    assert_eq!(*newest.borrow(), Position(2));
}

#[tokio::test]
async fn a_router_that_drains_says_so_and_its_workload_is_told() {
    let stage = Stage::start().await;
    let mut agent = stage.open("agent").await.unwrap();
    agent.register().await;
    let taken = stage.ask("agent", "x").await.unwrap();
    assert_eq!(stage.router.health().await, Ok(()));
    stage.router.drain(true).await.unwrap();
    let (code, reason) = stage.router.health().await.unwrap_err();
    assert_eq!(code, ErrorCode::ShuttingDown);
    assert!(reason.contains("DELETE /v1/drain"), "{reason}");
    assert_eq!(stage.open("late").await.err(), Some(ErrorCode::ShuttingDown));
    assert_eq!(stage.ask("agent", "x").await, Err(Declined::Refused(ErrorCode::ShuttingDown)));

    let workload = stage.router.workload().await.unwrap();
    assert_eq!((workload.draining, workload.connections, workload.in_flight), (true, 1, 1));
    let loads = stage.router.loads(vec![identity("nobody"), identity("agent")]).await.unwrap();
    assert_eq!(loads, [Load::default(), Load { queued: 0, in_flight: 1 }]);
    let metrics = stage.router.metrics().render();
    assert!(metrics.contains("agent_router_in_flight 1\n"), "{metrics}");
    assert!(metrics.contains("agent_router_connections{role=\"agent\"} 1\n"), "{metrics}");

    let mut waiter = stage.router.waiter(taken.invocation);
    let invoked_by = agent.delivery().await.invoked_by;
    agent.send(json!({"message_type": "agent_response", "response": 1, "invoked_by": invoked_by})).await;
    timeout(PATIENCE, waiter.ended()).await.expect("what was accepted goes on");
    stage.router.drain(false).await.unwrap();
    assert_eq!(stage.router.health().await, Ok(()));
    stage.open("late").await.unwrap();
}

#[tokio::test]
async fn what_is_erased_is_in_no_file_of_the_journal() {
    const SECRET: &str = "the-secret-of-this-invocation";
    let stage = Stage::start().await;
    let mut agent = stage.open("agent").await.unwrap();
    agent.register().await;
    let taken = stage.ask("agent", SECRET).await.unwrap();
    assert_eq!(stage.router.erase(taken.invocation, "asked".to_owned()).await, Err(Declined::StillOpen));
    let invoked_by = agent.delivery().await.invoked_by;
    let mut waiter = stage.router.waiter(taken.invocation);
    agent.send(json!({"message_type": "agent_response", "response": SECRET, "invoked_by": invoked_by})).await;
    timeout(PATIENCE, waiter.ended()).await.expect("it is answered");
    let is_there = || {
        let files =
            std::fs::read_dir(stage.folder()).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        files.into_iter().any(|bytes| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()))
    };
    assert!(is_there());

    stage.router.erase(taken.invocation, "asked".to_owned()).await.unwrap();
    stage.until(async || !is_there()).await;
    let record = stage.journal.invocation(taken.invocation).await.unwrap().unwrap();
    assert_eq!((record.body, record.answer), (None, None));
    let Ok(Verification::Intact(Report { erased, .. })) = stage.journal.verify(None, None).await else { panic!() };
    assert_eq!(erased, 2);
    assert_eq!(stage.router.erase(InvocationId::generate(), "what?".to_owned()).await, Err(Declined::NotFound));
}

#[tokio::test]
async fn a_journal_with_nothing_to_do_is_asked_whether_it_could() {
    let stage = Stage::start().await;
    assert_eq!(stage.router.health().await, Ok(()));
    assert_eq!(stage.journal.probes.load(Ordering::SeqCst), 0, "its last commit says enough");
    stage.lose_journal();
    // Nothing is committed meanwhile, so that only a probe can tell.
    stage.until(async || stage.router.health().await.is_err()).await;
    for _ in 0..100 {
        let (code, reason) = stage.router.health().await.unwrap_err();
        assert_eq!(code, ErrorCode::JournalUnavailable);
        assert!(reason.contains("takes no commits"), "{reason}");
    }
    assert_eq!(stage.journal.probes.load(Ordering::SeqCst), 1, "one asks for all");
    stage.journal.away.store(false, Ordering::SeqCst);
    stage.open("agent").await.unwrap();
    assert_eq!(stage.router.health().await, Ok(()), "a commit says more than a probe");
}

#[tokio::test]
async fn a_journal_that_does_not_come_back_keeps_nobody_waiting_for_others() {
    let stage = Stage::start().await;
    stage.journal.stuck.store(true, Ordering::SeqCst);
    stage.until(async || stage.router.health().await.is_err()).await;
    let all = futures_util::future::join_all((0..20).map(|_| stage.router.health()));
    let told = timeout(AT_ONCE + Duration::from_secs(1), all).await.expect("all wait for the same");
    assert!(told.iter().all(Result::is_err), "{told:?}");
    assert_eq!(stage.journal.probes.load(Ordering::SeqCst), 1);
    stage.journal.stuck.store(false, Ordering::SeqCst);
    let back = stage.until(async || stage.router.health().await.is_ok());
    timeout(AT_ONCE, back).await.expect("what the probe says is heard when it comes back");
}

#[tokio::test]
async fn what_happens_is_counted_and_timed() {
    let stage = Stage::start().await;
    let mut agent = stage.open("agent").await.unwrap();
    agent.register().await;
    let taken = stage.ask("agent", "x").await.unwrap();
    assert!(stage.ask("nobody", "x").await.is_err());
    let mut waiter = stage.router.waiter(taken.invocation);
    let invoked_by = agent.delivery().await.invoked_by;
    agent.send(json!({"message_type": "agent_response", "response": 1, "invoked_by": invoked_by})).await;
    timeout(PATIENCE, waiter.ended()).await.expect("it is answered");
    stage.open("caller").await.unwrap();
    let head = stage.journal.head().await.unwrap().position;
    let metrics = stage.router.metrics().render();
    for line in [
        "invocations_total{outcome=\"accepted\"} 1",
        "invocations_total{outcome=\"completed\"} 1",
        "invocations_total{outcome=\"failed\"} 0",
        "invocations_refused_total{code=\"agent_unknown\"} 1",
        "deliveries_total 1",
        "redeliveries_total 0",
        "answer_latency_seconds_count 1",
        "commit_failures_total 0",
        "journal_available 1",
        &format!("journal_position {head}"),
    ] {
        assert!(metrics.contains(&format!("\nagent_router_{line}\n")), "{line}: {metrics}");
    }
}
