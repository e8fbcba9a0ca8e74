//! A router that ends, orderly or not, and starts again on its journal: nothing is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use agent_router::journal::EventKind;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::{BACKEND_KEY, Incoming, PATIENCE, Peer, Router, Socket, agent_id, answered, lost, printed};

#[tokio::test]
async fn it_says_where_it_listens_where_the_journal_is_and_in_which_mode_it_runs() {
    for (mut router, mode) in [(Router::start().await, "development"), (Router::secured(&[]).await, "secured")] {
        let journal = router.shown_journal();
        let address = router.url("");
        let lines = router.stop().await;
        assert_eq!(lines.iter().filter(|line| line.contains(&address)).count(), 1, "{lines:?}");
        let text = lines.join("\n");
        assert!(text.contains(&journal), "{text}");
        assert!(text.to_lowercase().contains(mode), "{text}");
        assert!(lines.len() <= 10, "{text}");
    }
}

#[tokio::test]
async fn sigterm_closes_sockets_with_1012_and_exits_with_0() {
    let mut router = Router::start().await;
    let mut agent = Peer::registered(&router, &agent_id()).await;
    let mut master = Peer::master_ml(&router).await;
    master.expect_nothing().await;
    let address = router.address();
    router.stop().await;
    agent.expect_close(1012).await;
    master.expect_close(1012).await;
    assert!(Socket::open(address, &[]).await.is_err());
}

#[tokio::test]
async fn what_waited_is_delivered_after_an_orderly_restart_and_after_a_kill() {
    let mut router = Router::start().await;
    let target = agent_id();
    Peer::registered(&router, &target).await.leave(&router).await;
    let mut backend = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    backend.accepted(&target, json!({"n": 1}), json!({})).await;
    router.restart().await;
    let mut backend = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    backend.accepted(&target, json!({"n": 2}), json!({})).await;
    router.kill_and_start_again().await;

    let mut agent = Peer::registered(&router, &target).await;
    for n in 1..3 {
        assert_eq!(agent.recv().await["request_payload"]["n"], n);
    }
    router.wait_for_events("kind=node.started", 3).await;
}

#[tokio::test]
async fn an_agent_that_was_connected_when_the_router_ended_is_waited_for() {
    let mut router = Router::start().await;
    let target = agent_id();
    let _agent = Peer::registered(&router, &target).await;
    router.kill_and_start_again().await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    router.newest_invocation_of(&target).await;
    let mut agent = Peer::registered(&router, &target).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("welcome back")).await;
    assert_eq!(socket.recv().await, answered(json!("welcome back")));
}

#[tokio::test]
async fn what_an_agent_was_doing_when_the_router_was_killed_counts_as_possibly_started() {
    let mut router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    agent.answer_pings(false);
    let mut ml = Peer::master_ml(&router).await;
    let once = ml.accepted(&target, json!({"n": 1}), json!({})).await;
    let twice = ml.accepted(&target, json!({"n": 2}), json!({"max_attempts": 2})).await;
    agent.recv_many(2).await;
    router.kill_and_start_again().await;
    for id in [&once, &twice] {
        router.wait_for_state(id, "interrupted").await;
    }

    let mut ml = Peer::master_ml(&router).await;
    let mut agent = Peer::registered(&router, &target).await;
    let failed = ml.recv().await;
    assert_eq!((&failed["invocation_id"], &failed["error"]["code"]), (&json!(once), &json!("agent_lost")));
    let delivery = agent.recv().await;
    assert_eq!(delivery["request_payload"]["n"], 2);
    agent.answer(&delivery, json!("again")).await;
    let answer = ml.recv().await;
    assert_eq!((&answer["invocation_id"], &answer["response"]), (&json!(twice), &json!("again")));
    agent.expect_nothing().await;
}

#[tokio::test]
async fn work_goes_on_while_the_router_is_away() {
    let mut router = Router::start().await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let mut ml = Peer::master_ml(&router).await;
    let id = ml.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    router.kill_and_start_again().await;

    let (mut agent, registered) = Peer::registered_v2(&router, &target, json!({"running": [id]})).await;
    assert_eq!(registered["adopted"], json!([id]));
    let mut ml = Peer::master_ml(&router).await;
    agent.answer(&delivery, json!("done meanwhile")).await;
    assert_eq!(agent.recv().await["outcome"], "accepted");
    assert_eq!(ml.recv().await["response"], "done meanwhile");
    agent.answer(&delivery, json!("done meanwhile")).await;
    assert_eq!(agent.recv().await["outcome"], "duplicate");
}

#[tokio::test]
async fn an_agent_of_version_1_that_answers_on_its_next_connection_is_heard() {
    let mut router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let ml = Peer::master_ml(&router).await;
    ml.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    router.kill_and_start_again().await;
    let mut ml = Peer::master_ml(&router).await;
    let agent = Peer::agent(&router, &target).await;
    agent.answer(&delivery, json!("kept")).await;
    assert_eq!(ml.recv().await, answered(json!("kept")));
}

#[tokio::test]
async fn after_the_grace_what_nobody_adopted_has_failed() {
    let mut router = Router::with(&[("RESUME_GRACE", "200ms")]).await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let ml = Peer::master_ml(&router).await;
    ml.invoke(&target, json!({})).await;
    agent.recv().await;
    router.kill_and_start_again().await;
    let mut ml = Peer::master_ml(&router).await;
    assert_eq!(ml.recv().await, lost(&target));
}

#[tokio::test]
async fn answers_for_callers_that_are_away_survive() {
    let mut router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let ml = Peer::master_ml(&router).await;
    ml.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    ml.close().await;
    agent.answer(&delivery, json!("kept")).await;
    router.wait_for_event("kind=invocation.completed").await;
    router.restart().await;
    router.kill_and_start_again().await;
    let mut ml = Peer::master_ml(&router).await;
    assert_eq!(ml.recv().await, answered(json!("kept")));
    ml.expect_nothing().await;
    let id = router.newest_invocation_of(&target).await;
    router.wait_for_event(&format!("kind=answer.delivered&invocation_id={id}")).await;
}

#[tokio::test]
async fn a_bare_caller_whose_socket_the_restart_ended_gets_a_soon_answer_on_its_own_socket() {
    let mut router = Router::start().await;
    let (caller, target) = (agent_id(), agent_id());
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let own = Peer::agent(&router, &caller).await;
    own.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    router.kill_and_start_again().await;

    let mut own = Peer::agent(&router, &caller).await;
    let running = json!({"running": [delivery["invocation_id"]]});
    let (agent, _) = Peer::registered_v2(&router, &target, running).await;
    agent.answer(&delivery, json!("soon")).await;
    assert_eq!(own.recv().await, answered(json!("soon")));
}

#[tokio::test]
async fn every_receipt_that_was_given_before_a_kill_holds_after_it() {
    let mut router = Router::start().await;
    let target = agent_id();
    Peer::registered(&router, &target).await.leave(&router).await;
    let mut socket =
        Socket::open(router.address(), &[("x-custom-invoke-key", &format!("{BACKEND_KEY}:{target}"))]).await.unwrap();
    let mut receipts = BTreeSet::new();
    for n in 0..500 {
        let frame = json!({
            "message_type": "agent_invoke", "agent_uuid": target, "request_payload": {"n": n}, "receipt": true,
        });
        assert!(socket.send_text(&frame.to_string()).await);
    }
    let receipt = |incoming: Incoming| match incoming {
        Incoming::Text(text) => {
            let receipt: serde_json::Value = serde_json::from_str(&text).unwrap();
            Some(receipt["invocation_id"].as_str().unwrap().to_owned())
        }
        _ => None,
    };
    while receipts.len() < 100 {
        receipts.extend(receipt(socket.next().await.expect("the router lives")));
    }
    router.kill();
    while let Some(incoming) = socket.next().await {
        receipts.extend(receipt(incoming));
    }
    router.start_again().await;

    let accepted = router.history(&format!("kind=invocation.accepted&agent_id={target}")).await;
    let known: BTreeSet<_> = accepted.iter().map(|event| event["invocation_id"].as_str().unwrap().to_owned()).collect();
    assert!(receipts.is_subset(&known), "{} receipts, {} invocations", receipts.len(), known.len());
    let mut agent = Peer::registered(&router, &target).await;
    for n in 0..known.len() {
        assert_eq!(agent.recv().await["request_payload"]["n"], n);
    }
    agent.expect_nothing().await;
}

#[tokio::test]
async fn positions_go_on_without_a_gap() {
    let mut router = Router::start().await;
    for round in 0..3 {
        Peer::registered(&router, &agent_id()).await.leave(&router).await;
        if round == 1 {
            router.restart().await;
        } else {
            router.kill_and_start_again().await;
        }
    }
    let positions: Vec<_> = router.history("").await.iter().map(|event| event["position"].as_i64().unwrap()).collect();
    assert!(positions.iter().copied().eq(1..=i64::try_from(positions.len()).unwrap()), "{positions:?}");
}

#[tokio::test]
async fn a_second_router_on_the_same_file_is_refused() {
    let router = Router::on_a_file(&[]).await;
    let second = router.run(&["serve"]);
    assert!(!second.status.success());
    assert!(printed(&second).contains("journal.db"), "{}", printed(&second));
    Peer::master_be(&router).await.expect_nothing().await;
}

#[tokio::test]
async fn a_killed_router_starts_again_at_once_on_its_journal() {
    let mut router = Router::start().await;
    for _ in 0..3 {
        router.kill_and_start_again().await;
    }
    let (status, _) = router.get("/health/live").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn what_is_queued_while_the_router_goes_down_is_delivered_after_its_restart() {
    let mut router = Router::start().await;
    let target = agent_id();
    let one_at_a_time = json!({"max_in_flight": 1});
    let (mut agent, _) = Peer::registered_v2(&router, &target, one_at_a_time.clone()).await;
    agent.answer_closes(false);
    let mut ml = Peer::master_ml(&router).await;
    let running = ml.accepted(&target, json!({"n": 1}), json!({})).await;
    let queued = ml.accepted(&target, json!({"n": 2}), json!({})).await;
    let delivery = agent.recv().await;
    router.wait_for_state(&running, "running").await;

    router.terminate();
    going_down(&router).await;
    agent.answer(&delivery, json!("a last word")).await;
    assert_eq!(agent.ended().await, Some(1012));
    router.ended().await;
    router.start_again().await;
    assert_eq!(router.invocation(&running).await["state"], "completed");
    assert_eq!(router.life_of(&queued).await, ["invocation.accepted"]);

    let (mut agent, _) = Peer::registered_v2(&router, &target, one_at_a_time).await;
    let delivery = agent.recv().await;
    assert_eq!((&delivery["invocation_id"], &delivery["attempt"]), (&json!(queued), &json!(1)));
    assert!(delivery.get("redelivered").is_none(), "{delivery}");
}

/// Waits until the journal says that the router goes down.
async fn going_down(router: &Router) {
    let deadline = Instant::now() + PATIENCE;
    let stopped = EventKind::NodeStopped as i64;
    while router.number(&format!("SELECT count(*) FROM journal WHERE kind = {stopped}")).await == 0 {
        assert!(Instant::now() < deadline, "the router does not go down");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn interrupted_work_has_its_grace_anew_when_the_router_was_away() {
    let mut router = Router::with(&[("RESUME_GRACE", "3s")]).await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let mut ml = Peer::master_ml(&router).await;
    let id = ml.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    router.wait_for_state(&id, "running").await;
    agent.leave(&router).await;
    router.wait_for_state(&id, "interrupted").await;
    router.kill();
    sleep(Duration::from_millis(3200)).await;
    router.start_again().await;

    let (mut agent, registered) = Peer::registered_v2(&router, &target, json!({"running": [id]})).await;
    assert_eq!(registered["adopted"], json!([id]));
    let mut ml = Peer::master_ml(&router).await;
    agent.answer(&delivery, json!("went on")).await;
    assert_eq!(agent.recv().await["outcome"], "accepted");
    assert_eq!(ml.recv().await["response"], "went on");
}
