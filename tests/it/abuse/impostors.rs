//! Those who act in another's name: with a captured invoke key, with a master's name, with answers to others' invocations.

use serde_json::json;

use crate::support::{BACKEND, BACKEND_KEY, ML, Peer, Router, SECRET, agent_id, agent_token, answered, not_active};

async fn refused(router: &Router, header: &str, value: &str) {
    let mut peer = Peer::connect(router, &[(header, value)]).await;
    assert_eq!(peer.expect_close(4000).await, "Missing Authorization header", "{header}: {value}");
}

#[tokio::test]
async fn a_captured_invoke_key_is_worth_nothing_once_its_agent_is_gone() {
    let router = Router::secured(&[]).await;
    let (caller, target) = (agent_id(), agent_id());
    let mut agent = Peer::registered(&router, &target).await;
    let owner = Peer::agent(&router, &caller).await;
    let key = format!("{caller}:{target}");
    let mut captured = Peer::invoke_socket(&router, &caller, &target).await;
    captured.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("while it is there")).await;
    assert_eq!(captured.recv().await, answered(json!("while it is there")));
    captured.invoke(&agent_id(), json!({})).await;
    assert_eq!(captured.recv().await, not_active(), "it is good for one target");

    owner.leave(&router).await;
    refused(&router, "x-custom-invoke-key", &key).await;
    captured.invoke(&target, json!({"after": true})).await;
    assert_eq!(captured.recv().await, not_active(), "a socket that was open already calls nobody either");
    agent.expect_nothing().await;
    let event = router.wait_for_event(&format!("kind=invocation.refused&agent_id={target}")).await;
    assert_eq!((&event["detail"]["code"], &event["caller"]), (&json!("not_allowed"), &json!(caller)));
}

#[tokio::test]
async fn nobody_answers_for_another() {
    let router = Router::secured(&[]).await;
    let (target, thief) = (agent_id(), agent_id());
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let mut caller = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = caller.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    let (mut thief, _) = Peer::registered_v2(&router, &thief, json!({})).await;
    let stolen = json!({
        "message_type": "agent_response", "response": "stolen", "execution_time": 1,
        "invoked_by": delivery["invoked_by"], "invocation_id": id,
    });
    thief.send(stolen.clone()).await;
    assert_eq!(thief.recv().await["outcome"], "unknown");
    for caller_of_others in [Peer::master_ml(&router).await, Peer::agent(&router, &agent_id()).await] {
        caller_of_others.send(stolen.clone()).await;
    }
    router.wait_for_events("kind=answer.unmatched", 3).await;
    thief.send(json!({"message_type": "agent_cancel", "invocation_id": id})).await;
    assert_eq!(thief.recv().await["error"]["error_type"], "AgentNotActive");
    caller.expect_nothing().await;
    agent.answer(&delivery, json!("its own")).await;
    assert_eq!(caller.recv().await["response"], "its own");
}

#[tokio::test]
async fn a_masters_name_is_no_masters_key() {
    let development = Router::start().await;
    let secured = Router::secured(&[]).await;
    let target = agent_id();
    for router in [&development, &secured] {
        for master in [BACKEND, ML] {
            for claim in [master.to_owned(), agent_token(master, SECRET), format!(" {master} ")] {
                refused(router, "x-custom-authorization", &claim).await;
            }
            refused(router, "x-custom-invoke-key", &format!("{master}:{target}")).await;
            refused(router, "api-key", master).await;
            refused(router, "api-key", &format!("::{master}")).await;
        }
        assert_eq!(router.get_as(BACKEND, "/v1/invocations").await.problem(401), "not_allowed");
    }
}
