//! Whose answer it is: `invoked_by` comes back verbatim, and is never ambiguous.

use serde_json::{Value, json};

use crate::support::{BACKEND, BACKEND_KEY, Peer, Router, agent_id, answered, lost};

fn invoked_by(delivery: &Value) -> &str {
    delivery["invoked_by"].as_str().expect("a delivery says who invoked")
}

#[tokio::test]
async fn invoked_by_is_plain_unless_an_earlier_one_is_unanswered() {
    let router = Router::start().await;
    let target = agent_id();
    let plain = format!("{BACKEND}:{target}");
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;

    let first = socket.accepted(&target, json!({"n": 1}), json!({})).await;
    let second = socket.accepted(&target, json!({"n": 2}), json!({})).await;
    let (one, two) = (agent.recv().await, agent.recv().await);
    assert_eq!(invoked_by(&one), plain);
    assert_eq!(invoked_by(&two), format!("{plain}#{second}"));

    agent.answer(&two, json!(2)).await;
    assert_eq!(socket.recv().await["invocation_id"], second);
    let third = socket.accepted(&target, json!({"n": 3}), json!({})).await;
    let three = agent.recv().await;
    assert_eq!(invoked_by(&three), format!("{plain}#{third}"), "the first is still unanswered");

    agent.answer(&one, json!(1)).await;
    assert_eq!(socket.recv().await["invocation_id"], first);
    socket.accepted(&target, json!({"n": 4}), json!({})).await;
    assert_eq!(invoked_by(&agent.recv().await), plain, "the plain one is free again");
}

#[tokio::test]
async fn callers_of_different_names_do_not_stand_in_each_others_way() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    for _ in 0..3 {
        let caller = agent_id();
        let socket = Peer::invoke_socket(&router, &caller, &target).await;
        socket.invoke(&target, json!({})).await;
        assert_eq!(invoked_by(&agent.recv().await), format!("{caller}:{target}"));
    }
}

#[tokio::test]
async fn after_a_cancelled_one_the_next_carries_its_id_and_the_late_answer_goes_to_nobody() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let cancelled = socket.accepted(&target, json!({}), json!({})).await;
    let first = agent.recv().await;
    socket.send(json!({"message_type": "agent_cancel", "invocation_id": cancelled})).await;
    router.wait_for_state(&cancelled, "cancelled").await;

    let mut other = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let second = other.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    assert_eq!(invoked_by(&delivery), format!("{BACKEND}:{target}#{second}"));
    agent.answer(&first, json!("of the cancelled one")).await;
    router.wait_for_event(&format!("kind=answer.late&invocation_id={cancelled}")).await;
    other.expect_nothing().await;
    agent.answer(&delivery, json!("mine")).await;
    assert_eq!(other.recv().await["response"], "mine");
}

#[tokio::test]
async fn a_delivery_on_an_earlier_connection_counts_too() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let first = agent.recv().await;
    router.wait_for_event(&format!("kind=invocation.started&agent_id={target}")).await;
    agent.leave(&router).await;
    assert_eq!(socket.recv().await, lost(&target));

    let mut agent = Peer::registered(&router, &target).await;
    let second = socket.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    assert_eq!(invoked_by(&delivery), format!("{}#{second}", invoked_by(&first)));
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_one_to_the_next_invocation() {
    let mut router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let late = socket.accepted(&target, json!({}), json!({"deadline_ms": 100})).await;
    let first = agent.recv().await;
    assert_eq!(invoked_by(&first), format!("{BACKEND}:{target}"));
    assert_eq!(socket.recv().await["error"]["code"], "timed_out");
    router.restart().await;

    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let next = socket.accepted(&target, json!({}), json!({})).await;
    let second = agent.recv().await;
    assert_eq!(invoked_by(&second), format!("{BACKEND}:{target}#{next}"), "the first may still be answered");
    agent.answer(&first, json!("late")).await;
    router.wait_for_event(&format!("kind=answer.late&invocation_id={late}")).await;
    socket.expect_nothing().await;
    agent.answer(&second, json!("mine")).await;
    assert_eq!(socket.recv().await["response"], "mine");

    socket.invoke(&target, json!({})).await;
    assert_eq!(invoked_by(&agent.recv().await), invoked_by(&first), "it was answered, if late");
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_journaled_and_goes_to_nobody() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    for (count, stray) in
        [json!("somebody:else"), json!(format!("{BACKEND}:{target}#nonsense")), json!("")].iter().enumerate()
    {
        agent.answer(&json!({"invoked_by": stray}), json!("stray")).await;
        router.wait_for_events(&format!("kind=answer.unmatched&agent_id={target}"), count + 1).await;
    }
    agent.expect_nothing().await;
    socket.expect_nothing().await;
    agent.answer(&delivery, json!("asked for")).await;
    assert_eq!(socket.recv().await, answered(json!("asked for")));
}

#[tokio::test]
async fn nobody_answers_for_another_agent() {
    let router = Router::start().await;
    let (target, thief) = (agent_id(), agent_id());
    let mut agent = Peer::registered(&router, &target).await;
    let (mut thief_v2, _) = Peer::registered_v2(&router, &thief, json!({})).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;

    let mut stolen = delivery.clone();
    stolen["invocation_id"] = json!(id);
    thief_v2.answer(&stolen, json!("stolen")).await;
    assert_eq!(thief_v2.recv().await["outcome"], "unknown");
    let plain_thief = Peer::registered(&router, &agent_id()).await;
    plain_thief.answer(&delivery, json!("stolen")).await;
    router.wait_for_events("kind=answer.unmatched", 2).await;
    socket.expect_nothing().await;
    agent.answer(&delivery, json!("honest")).await;
    assert_eq!(socket.recv().await["response"], "honest");
}
