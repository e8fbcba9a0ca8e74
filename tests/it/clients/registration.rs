//! What the backend is told: who is there, what they can do, and what they log.

use serde_json::{Value, json};

use super::installation::{BackendLogs, Installation};
use super::program::Client;

#[tokio::test]
async fn the_backend_sees_an_agent_come_and_go() {
    for logs in [BackendLogs::Sent, BackendLogs::Kept] {
        let mut installation = Installation::with_backend_logs(logs).await;
        for client in [Client::V1, Client::V2] {
            let mut agent = installation.start_agent(client);
            let registered = installation.sees("agent_register", &agent.id).await;
            assert_eq!(registered["agent_name"], "worker");
            assert_eq!(registered["agent_description"], "Does what it is told");
            assert_eq!(registered["agent_jwt"], *agent.token);
            let schema = &registered["agent_input_schema"];
            assert_eq!(schema["type"], "function");
            assert_eq!(schema["function"]["name"], *agent.id);
            let parameters = &schema["function"]["parameters"];
            assert_eq!(parameters["required"], json!(["task"]));
            assert_eq!(parameters["properties"]["to"]["default"], "");

            agent.kill();
            installation.sees("agent_unregister", &agent.id).await;
        }
    }
}

/// Its library logs every notification that it handles; told of those as well, it would never come to rest.
#[tokio::test]
async fn the_backend_is_not_told_of_its_own_logs() {
    let mut installation = Installation::with_backend_logs(BackendLogs::Sent).await;
    for _ in 0..3 {
        installation.agent(Client::V2).await;
    }
    let mut agent = installation.agent(Client::V2).await;
    let call = json!({"task": "echo", "value": 1});
    assert_eq!(installation.backend.ask(&agent.id, call).await, Ok(json!(1)));
    agent.kill();
    installation.sees("agent_unregister", &agent.id).await;

    let log = installation.backend.expect("agent_log", |_| true).await;
    assert_eq!(log["agent_uuid"], *agent.id, "the first log that came");
}

#[tokio::test]
async fn the_backend_gets_an_agents_logs_in_order() {
    let mut installation = Installation::start().await;
    for client in [Client::V1, Client::V2] {
        let agent = installation.agent(client).await;
        let lines: Vec<String> = (1..=10).map(|number| format!("line {number}")).collect();
        installation.backend.call_with(
            "logging",
            &agent.id,
            &json!({"task": "log", "value": lines}),
            &json!({"request_id": "request 7", "session_id": "session 9"}),
        );
        assert_eq!(installation.backend.answer("logging").await, Ok(json!(10)), "{client:?}");

        // The library's own two stand around the handler's.
        let start = installation.sees("agent_log", &agent.id).await;
        assert_eq!(said(&start)["request_payload"]["task"], "log");
        for line in &lines {
            let log = installation.sees("agent_log", &agent.id).await;
            assert_eq!(log["log_message"], **line);
            assert_eq!(log["log_level"], "warning");
            assert_eq!(log["request_id"], "request 7");
            assert_eq!(log["session_id"], "session 9");
        }
        let end = installation.sees("agent_log", &agent.id).await;
        assert_eq!(said(&end)["response"], 10);
        assert_eq!(end["log_level"], "info");
    }
}

/// The library's own log messages are JSON.
fn said(log: &Value) -> Value {
    let message = log["log_message"].as_str().unwrap_or_default();
    serde_json::from_str(message).unwrap_or_else(|_| panic!("no JSON in {log}"))
}
