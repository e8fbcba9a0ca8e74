//! To whom an answer goes, once, also when its caller was away.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{BACKEND_KEY, Peer, Router, agent_id, answered, lost};

/// A registered agent, new unless it is named, that has been sent an invocation by `caller`.
async fn at_work_for(router: &Router, caller: &Peer, target: Option<&str>) -> (Peer, Value) {
    let target = target.map_or_else(agent_id, str::to_owned);
    let mut agent = Peer::registered(router, &target).await;
    caller.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    (agent, delivery)
}

/// The answer has been given and is in the journal.
async fn answered_meanwhile(router: &Router, agent: &Peer, delivery: &Value) {
    let before = router.history("kind=invocation.completed").await.len();
    agent.answer(delivery, json!("meanwhile")).await;
    router.wait_for_events("kind=invocation.completed", before + 1).await;
}

#[tokio::test]
async fn the_first_answer_wins_and_later_ones_are_journaled() {
    let router = Router::start().await;
    let target = agent_id();
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let (mut agent, _plain) = at_work_for(&router, &socket, Some(&target)).await;
    socket.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("first")).await;
    assert_eq!(socket.recv().await, answered(json!("first")));
    agent.answer(&delivery, json!("second")).await;
    agent.fail(&delivery, "third").await;
    let events = router.wait_for_events("kind=answer.duplicate", 2).await;
    socket.expect_nothing().await;
    agent.expect_nothing().await;
    let id = events[0]["invocation_id"].as_str().unwrap();
    assert!(router.invocation(id).await["result"].to_string().contains("first"));
}

#[tokio::test]
async fn a_later_answer_with_a_plain_name_reaches_nobody() {
    let router = Router::start().await;
    let target = agent_id();
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let (mut agent, delivery) = at_work_for(&router, &socket, Some(&target)).await;
    agent.answer(&delivery, json!("first")).await;
    assert_eq!(socket.recv().await, answered(json!("first")));
    agent.answer(&delivery, json!("second")).await;
    agent.expect_nothing().await;
    socket.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("of the next")).await;
    assert_eq!(socket.recv().await, answered(json!("of the next")));
}

#[tokio::test]
async fn a_registered_agent_gets_the_answer_on_its_next_own_socket() {
    let router = Router::start().await;
    let caller = agent_id();
    let own = Peer::registered(&router, &caller).await;
    let (agent, delivery) = at_work_for(&router, &own, None).await;
    own.leave(&router).await;
    answered_meanwhile(&router, &agent, &delivery).await;

    let mut stranger = Peer::invoke_socket(&router, &caller, &agent_id()).await;
    stranger.expect_nothing().await;
    let mut own = Peer::agent(&router, &caller).await;
    assert_eq!(own.recv().await, answered(json!("meanwhile")));
    router.wait_for_event("kind=answer.delivered").await;
    own.leave(&router).await;
    Peer::registered(&router, &caller).await.expect_nothing().await;
}

#[tokio::test]
async fn a_master_gets_answers_errors_and_failures_on_its_next_own_socket() {
    let router = Router::start().await;
    let ml = Peer::master_ml(&router).await;
    let (first, first_delivery) = at_work_for(&router, &ml, None).await;
    let (second, second_delivery) = at_work_for(&router, &ml, None).await;
    ml.leave(&router).await;
    answered_meanwhile(&router, &first, &first_delivery).await;
    second.fail(&second_delivery, "no luck").await;
    router.wait_for_event("kind=invocation.failed").await;

    let mut ml = Peer::master_ml(&router).await;
    assert_eq!(ml.recv().await, answered(json!("meanwhile")));
    assert_eq!(ml.recv().await["error"], json!({"error_message": "no luck"}));
    ml.expect_nothing().await;
}

#[tokio::test]
async fn while_the_caller_is_away_for_longer_than_the_answers_are_kept_they_stay_readable_over_http() {
    let router = Router::with(&[("ANSWER_TTL", "100ms")]).await;
    let ml = Peer::master_ml(&router).await;
    let (agent, delivery) = at_work_for(&router, &ml, None).await;
    ml.leave(&router).await;
    answered_meanwhile(&router, &agent, &delivery).await;
    let completed = router.wait_for_event("kind=invocation.completed").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut ml = Peer::master_ml(&router).await;
    ml.expect_nothing().await;
    let (status, _) = router.get(&format!("/v1/invocations/{}", completed["invocation_id"].as_str().unwrap())).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn an_answer_for_an_invoke_socket_that_is_gone_goes_to_no_other_socket() {
    let router = Router::start().await;
    let caller = agent_id();
    let mut own = Peer::registered(&router, &caller).await;
    let target = agent_id();
    let socket = Peer::invoke_socket(&router, &caller, &target).await;
    let (agent, delivery) = at_work_for(&router, &socket, Some(&target)).await;
    socket.close().await;
    answered_meanwhile(&router, &agent, &delivery).await;
    own.expect_nothing().await;

    let mut backend = Peer::master_be(&router).await;
    let registrations = backend.recv_many(2).await;
    assert!(registrations.iter().all(|told| told["request_payload"]["message_type"] == "agent_register"));
    let target = agent_id();
    let socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let (agent, delivery) = at_work_for(&router, &socket, Some(&target)).await;
    assert_eq!(backend.recv().await["request_payload"]["message_type"], "agent_register");
    socket.close().await;
    answered_meanwhile(&router, &agent, &delivery).await;
    backend.expect_nothing().await;
    let event = router.history("kind=invocation.completed").await.pop().unwrap();
    let kept = router.invocation(event["invocation_id"].as_str().unwrap()).await;
    assert!(kept["result"].to_string().contains("meanwhile"), "{kept}");
}

#[tokio::test]
async fn a_bare_caller_gets_no_old_answers() {
    let router = Router::start().await;
    let caller = agent_id();
    let own = Peer::agent(&router, &caller).await;
    let (agent, delivery) = at_work_for(&router, &own, None).await;
    own.leave(&router).await;
    answered_meanwhile(&router, &agent, &delivery).await;
    Peer::agent(&router, &caller).await.expect_nothing().await;
}

#[tokio::test]
async fn an_answer_that_comes_while_the_caller_has_a_new_socket_goes_there_at_once() {
    let router = Router::start().await;
    let ml = Peer::master_ml(&router).await;
    let (agent, delivery) = at_work_for(&router, &ml, None).await;
    ml.leave(&router).await;
    let mut ml = Peer::master_ml(&router).await;
    ml.expect_nothing().await;
    agent.answer(&delivery, json!("now")).await;
    assert_eq!(ml.recv().await, answered(json!("now")));
}

#[tokio::test]
async fn a_caller_on_its_own_socket_is_told_that_the_agent_died() {
    let router = Router::start().await;
    let mut caller = Peer::agent(&router, &agent_id()).await;
    let (agent, _) = at_work_for(&router, &caller, None).await;
    let started = router.wait_for_event("kind=invocation.started").await;
    drop(agent);
    assert_eq!(caller.recv().await, lost(started["agent_id"].as_str().unwrap()));
}

#[tokio::test]
async fn a_master_that_was_away_gets_a_thousand_answers_and_more_each_once_and_in_order() {
    const ANSWERS: usize = 1200;
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let ml = Peer::master_ml(&router).await;
    for n in 0..ANSWERS {
        ml.invoke(&target, json!({"n": n})).await;
    }
    router.wait_for_events("kind=invocation.accepted", ANSWERS).await;
    ml.leave(&router).await;
    for _ in 0..ANSWERS {
        let delivery = agent.recv().await;
        agent.answer(&delivery, delivery["request_payload"]["n"].clone()).await;
    }
    router.wait_for_events("kind=invocation.completed", ANSWERS).await;

    let mut ml = Peer::master_ml(&router).await;
    for n in 0..ANSWERS {
        assert_eq!(ml.recv().await, answered(json!(n)));
    }
    let confirmed = router.wait_for_events("kind=answer.delivered", ANSWERS).await;
    assert_eq!(confirmed.len(), ANSWERS);
    ml.expect_nothing().await;
    ml.close().await;
    Peer::master_ml(&router).await.expect_nothing().await;
}
