//! Agents that die, leave, come back or are sent away, a router that restarts, and who gets in at all.

use serde_json::json;

use super::installation::Installation;
use super::program::Client;
use crate::support::{agent_id, agent_token};

#[tokio::test]
async fn a_caller_is_told_that_the_agent_died_at_work() {
    let mut installation = Installation::start().await;
    let mut agent = installation.agent(Client::V2).await;
    installation.backend.call("lost", &agent.id, &json!({"task": "wait", "value": "never"}));
    agent.expect("started", |_| true).await;
    agent.kill();

    assert_eq!(installation.backend.answer("lost").await, Err("Agent has been unregistered".to_owned()));
    installation.sees("agent_unregister", &agent.id).await;
}

#[tokio::test]
async fn a_call_waits_for_an_agent_that_is_away_and_comes_back() {
    let mut installation = Installation::start().await;
    let mut caller = installation.agent(Client::V2).await;
    let mut agent = installation.agent(Client::V2).await;
    agent.kill();
    installation.sees("agent_unregister", &agent.id).await;

    let question = json!({"task": "echo", "value": "welcome back"});
    caller.call("from an agent", &agent.id, &question);
    installation.backend.call("from the backend", &agent.id, &question);
    let accepted = format!("kind=invocation.accepted&agent_id={}", agent.id);
    installation.router.wait_for_events(&accepted, 2).await;

    let _back = installation.start_again(&agent).await;
    for outcome in [caller.answer("from an agent").await, installation.backend.answer("from the backend").await] {
        assert_eq!(outcome, Ok(json!("welcome back")));
    }
}

#[tokio::test]
async fn the_backend_sends_an_agent_away() {
    let mut installation = Installation::start().await;
    for client in [Client::V1, Client::V2] {
        let mut agent = installation.agent(client).await;
        let dismissal = json!({"error_message": "You are not wanted", "error_type": "AgentGeneralError"});
        // No answer is to come to it, so the library is told to give up waiting.
        installation.backend.call_with("dismissal", &agent.id, &dismissal, &json!({"close_timeout": 1}));
        assert!(agent.ended().await.success());
        installation.sees("agent_unregister", &agent.id).await;
        assert_eq!(installation.backend.answer("dismissal").await, Err("Request timed out".to_owned()));
        assert_eq!(
            installation.backend.ask(&agent.id, dismissal).await,
            Err("Agent is NOT active".to_owned()),
            "a dismissal does not wait for an agent that is away"
        );
    }
}

#[tokio::test]
async fn agents_started_again_after_a_restart_of_the_router_work_on() {
    let mut installation = Installation::start().await;
    let mut agent = installation.agent(Client::V2).await;

    installation.restart().await;
    assert!(agent.ended().await.success(), "2.x ends with its connection");

    let agent = installation.start_again(&agent).await;
    assert_eq!(
        installation.backend.ask(&agent.id, json!({"task": "echo", "value": "as before"})).await,
        Ok(json!("as before"))
    );
}

#[tokio::test]
async fn a_secured_router_serves_agents_with_tokens_of_its_own() {
    let mut installation = Installation::secured().await;
    let old = installation.agent(Client::V1).await;
    let mut new = installation.agent(Client::V2).await;
    for outcome in [
        installation.backend.ask(&new.id, json!({"task": "echo", "value": 1})).await,
        new.ask(&old.id, json!({"task": "echo", "value": 1})).await,
    ] {
        assert_eq!(outcome, Ok(json!(1)));
    }

    let stranger = agent_id();
    let forged = agent_token(&stranger, "a secret that this router does not have");
    let mut refused = installation.start_agent_with(Client::V2, &stranger, &forged);
    refused.ended().await;
    assert_eq!(new.ask(&stranger, json!({"task": "echo", "value": 1})).await, Err("Agent is NOT active".to_owned()));
}
