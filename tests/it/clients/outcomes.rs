//! What a handler returns or raises, and what the caller's `session.send()` makes of it.

use serde_json::json;

use super::installation::Installation;
use super::program::Client;

#[tokio::test]
async fn a_caller_gets_what_the_handler_returned() {
    let mut installation = Installation::start().await;
    for client in [Client::V1, Client::V2] {
        let agent = installation.agent(client).await;
        let cases = [
            // The model's fields stand beside `response`, of which the caller's library takes the one.
            (json!({"task": "model", "value": "guilty"}), json!("guilty")),
            (json!({"task": "bytes", "value": "żółw"}), json!("żółw")),
            (json!({"task": "file", "value": "contents"}), json!("contents")),
            (json!({"task": "echo"}), json!(null)),
            (
                json!({"task": "echo", "value": {"a": [1, "two", {"three": 3.5}]}}),
                json!({"a": [1, "two", {"three": 3.5}]}),
            ),
        ];
        for (question, answer) in cases {
            assert_eq!(
                installation.backend.ask(&agent.id, question.clone()).await,
                Ok(answer),
                "{client:?}: {question}"
            );
        }
    }
}

/// 2.x ends after an error that it has told, and is started again by whoever supervises it; 1.x goes on.
#[tokio::test]
async fn a_caller_gets_the_message_of_what_the_handler_raised() {
    let failures = [
        (json!({"task": "raise", "value": "no such city"}), "no such city"),
        (json!({"task": "unserialisable"}), "Object of type object is not JSON serializable"),
    ];
    let mut installation = Installation::start().await;
    let old = installation.agent(Client::V1).await;
    for (question, message) in failures {
        assert_eq!(installation.backend.ask(&old.id, question.clone()).await, Err(message.to_owned()));

        let mut new = installation.agent(Client::V2).await;
        assert_eq!(installation.backend.ask(&new.id, question).await, Err(message.to_owned()));
        assert!(new.ended().await.success());
        installation.sees("agent_unregister", &new.id).await;
    }
    assert_eq!(
        installation.backend.ask(&old.id, json!({"task": "echo", "value": "still here"})).await,
        Ok(json!("still here"))
    );
}
