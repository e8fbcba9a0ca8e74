//! `session.send()`: who can call whom, and that everybody gets their own answer.

use serde_json::json;

use super::installation::{Agent, Installation};
use super::program::{Client, Program};
use crate::support::{BACKEND, ML, agent_id};

#[tokio::test]
async fn the_backend_calls_agents_of_both_versions() {
    let mut installation = Installation::start().await;
    for client in [Client::V1, Client::V2] {
        let mut agent = installation.agent(client).await;
        let question = json!({"task": "echo", "value": "hello"});
        let answer = installation.backend.ask(&agent.id, question.clone()).await;
        assert_eq!(answer, Ok(json!("hello")), "{client:?}");

        if let Client::V2 = client {
            let started = agent.expect("started", |_| true).await;
            let name_for_key = format!("{BACKEND}:{}", agent.id);
            assert_eq!(started["invoked_by"], name_for_key);
        }
        let completed = format!("kind=invocation.completed&agent_id={}", agent.id);
        let event = installation.router.wait_for_event(&completed).await;
        let id = event["invocation_id"].as_str().unwrap();
        let invocation = installation.router.invocation(id).await;
        assert_eq!(invocation["state"], "completed");
        assert_eq!(invocation["caller"], BACKEND);
        assert_eq!(invocation["payload"], question);
    }
}

#[tokio::test]
async fn agents_call_each_other() {
    let mut installation = Installation::start().await;
    let mut old = installation.agent(Client::V1).await;
    let mut new = installation.agent(Client::V2).await;
    let other = installation.agent(Client::V2).await;

    let echo = |value: &str| json!({"task": "echo", "value": value});
    assert_eq!(new.ask(&other.id, echo("new to new")).await, Ok(json!("new to new")));
    assert_eq!(new.ask(&old.id, echo("new to old")).await, Ok(json!("new to old")));
    assert_eq!(old.ask(&new.id, echo("old to new")).await, Ok(json!("old to new")));
}

#[tokio::test]
async fn an_agent_asks_another_while_it_works() {
    let mut installation = Installation::start().await;
    let asking = installation.agent(Client::V2).await;
    let asked = installation.agent(Client::V2).await;

    let errand = json!({
        "task": "ask",
        "to": asked.id,
        "value": {"task": "echo", "value": {"nested": [1, 2.5, null, "żółw"]}},
    });
    assert_eq!(
        installation.backend.ask(&asking.id, errand).await,
        Ok(json!({"is_success": true, "response": {"nested": [1, 2.5, null, "żółw"]}}))
    );
}

#[tokio::test]
async fn the_backend_calls_the_master_agent_and_that_one_calls_an_agent() {
    let mut installation = Installation::start().await;
    let mut master = installation.master_agent().await;
    let agent = installation.agent(Client::V2).await;

    assert_eq!(installation.backend.ask(ML, json!({"task": "echo", "value": 1})).await, Ok(json!(1)));
    assert_eq!(master.ask(&agent.id, json!({"task": "echo", "value": 2})).await, Ok(json!(2)));
    let errand = json!({"task": "ask", "to": agent.id, "value": {"task": "echo", "value": 3}});
    assert_eq!(installation.backend.ask(ML, errand).await, Ok(json!({"is_success": true, "response": 3})));
}

#[tokio::test]
async fn only_the_backend_calls_the_master_agent() {
    let mut installation = Installation::start().await;
    let _master = installation.master_agent().await;
    let mut agent = installation.agent(Client::V2).await;

    assert_eq!(agent.ask(ML, json!({"task": "echo", "value": 1})).await, Err("Agent is NOT active".to_owned()));
}

#[tokio::test]
async fn a_call_to_an_unknown_agent_is_refused() {
    let mut installation = Installation::start().await;
    let mut agent = installation.agent(Client::V2).await;

    let nobody = agent_id();
    let question = json!({"task": "echo", "value": 1});
    let refusal = Err("Agent is NOT active".to_owned());
    assert_eq!(installation.backend.ask(&nobody, question.clone()).await, refusal);
    assert_eq!(agent.ask(&nobody, question).await, refusal);
}

#[tokio::test]
async fn twenty_calls_at_once_get_their_own_answers_in_whatever_order_these_come() {
    let mut installation = Installation::start().await;
    let mut caller = installation.agent(Client::V2).await;
    let mut old = installation.agent(Client::V1).await;
    let mut new = installation.agent(Client::V2).await;

    twenty_calls_answered_backwards(&mut caller, &mut new).await;
    twenty_calls_answered_backwards(&mut caller, &mut old).await;
    twenty_calls_answered_backwards(&mut installation.backend, &mut new).await;
}

async fn twenty_calls_answered_backwards(caller: &mut Program, agent: &mut Agent) {
    let labels: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
    for label in &labels {
        caller.call(label, &agent.id, &json!({"task": "wait", "value": label}));
    }
    for label in &labels {
        agent.expect("started", |event| event["value"] == **label).await;
    }
    for label in labels.iter().rev() {
        agent.release(label);
        assert_eq!(caller.answer(label).await, Ok(json!(label)));
    }
}
