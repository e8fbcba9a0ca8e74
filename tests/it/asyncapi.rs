//! `docs/asyncapi.json` is true: a valid document, and every frame of a real conversation is as it says.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use agent_router::code::ErrorCode;
use agent_router::invocation::StateName;
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::{BACKEND_KEY, Peer, Router, agent_id, answer, registration};

const DOCUMENT: &str = include_str!("../../docs/asyncapi.json");
const PROTOCOL: &str = include_str!("../../docs/protocol.md");

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// What the document says of each message, and which of them have been met.
struct Described {
    messages: BTreeMap<String, Validator>,
    met: BTreeSet<String>,
}

impl Described {
    fn new() -> Self {
        let document = document();
        let names = document["components"]["messages"].as_object().unwrap().keys();
        let validator = |name: &String| {
            let mut schema = document.clone();
            schema["$ref"] = json!(format!("#/components/messages/{name}/payload"));
            jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
        };
        Self { messages: names.map(|name| (name.clone(), validator(name))).collect(), met: BTreeSet::new() }
    }

    /// The frame is such a message.
    #[track_caller]
    fn holds(&mut self, name: &str, frame: &Value) {
        if let Err(error) = self.messages[name].validate(frame) {
            panic!("{frame} is no {name}: {error}");
        }
        self.met.insert(name.to_owned());
    }

    /// Sends a frame as such a message.
    async fn send(&mut self, peer: &Peer, name: &str, frame: Value) {
        self.holds(name, &frame);
        peer.send(frame).await;
    }

    /// The next frame, as such a message.
    async fn recv(&mut self, peer: &mut Peer, name: &str) -> Value {
        let frame = peer.recv().await;
        self.holds(name, &frame);
        frame
    }
}

fn invoke(target: &str, more: Value) -> Value {
    let mut frame = json!({
        "message_type": "agent_invoke", "agent_uuid": target, "request_payload": {"name": "Ada"},
        "request_metadata": {"request_id": "r", "session_id": "s"},
    });
    frame.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    frame
}

async fn acknowledge(described: &mut Described, backend: &mut Peer, notice: &str) {
    described.recv(backend, notice).await;
    let acknowledgement = json!({"message_type": "agent_response", "response": null, "invoked_by": ""});
    described.send(backend, "acknowledgement", acknowledgement).await;
}

/// What a stock agent and its callers say, and what they are told.
async fn with_a_stock_agent(router: &Router, described: &mut Described, backend: &mut Peer) {
    let target = agent_id();
    let mut agent = Peer::agent(router, &target).await;
    let frame = json!({"message_type": "agent_register", "request_payload": registration(&target)});
    described.send(&agent, "agentRegister", frame).await;
    acknowledge(described, backend, "registeredNotice").await;
    let log = json!({"message_type": "agent_log", "log_message": "ready", "log_level": "info", "invoked_by": "x"});
    described.send(&agent, "agentLog", log).await;
    acknowledge(described, backend, "logNotice").await;

    let mut caller = Peer::invoke_socket(router, BACKEND_KEY, &target).await;
    described.send(&caller, "agentInvoke", invoke(&target, json!({}))).await;
    let delivery = described.recv(&mut agent, "delivery").await;
    described.send(&agent, "agentResponse", answer(&delivery, json!("Hello, Ada!"))).await;
    described.recv(&mut caller, "answer").await;

    let options =
        json!({"receipt": true, "ttl_ms": 1000, "max_attempts": 2, "idempotency_key": "k", "deadline_ms": null});
    described.send(&caller, "agentInvoke", invoke(&target, options)).await;
    described.recv(&mut caller, "callerReceipt").await;
    let delivery = described.recv(&mut agent, "delivery").await;
    let error = json!({
        "message_type": "agent_error", "error": {"error_message": "no"}, "execution_time": 0.5,
        "invoked_by": delivery["invoked_by"],
    });
    described.send(&agent, "agentError", error).await;
    assert!(described.recv(&mut caller, "agentFailure").await["invocation_id"].is_string());

    let body = json!({"client_id": target, "message": {"note": "n"}}).to_string();
    assert_eq!(router.post_invoke_agent(Some(BACKEND_KEY), &body).await.0, 200);
    described.recv(&mut agent, "clientMessage").await;

    described.send(&caller, "agentInvoke", invoke(&target, json!({}))).await;
    described.recv(&mut agent, "delivery").await;
    agent.close().await;
    acknowledge(described, backend, "unregisteredNotice").await;
    described.recv(&mut caller, "invocationError").await;
}

/// The same of an agent of version 2.
async fn with_an_agent_of_version_two(router: &Router, described: &mut Described, backend: &mut Peer) {
    let target = agent_id();
    let mut agent = Peer::agent(router, &target).await;
    let frame = json!({
        "message_type": "agent_register", "protocol_version": 2, "request_payload": registration(&target),
        "running": [agent_id()], "max_in_flight": 8,
    });
    described.send(&agent, "agentRegisterV2", frame).await;
    described.recv(&mut agent, "agentRegistered").await;
    acknowledge(described, backend, "registeredNotice").await;

    let mut caller = Peer::invoke_socket(router, BACKEND_KEY, &target).await;
    described.send(&caller, "agentInvoke", invoke(&target, json!({}))).await;
    let delivery = described.recv(&mut agent, "deliveryV2").await;
    described.send(&agent, "agentResponse", answer(&delivery, json!(1))).await;
    described.recv(&mut agent, "answerReceipt").await;
    described.recv(&mut caller, "answer").await;

    described.send(&caller, "agentInvoke", invoke(&target, json!({"receipt": true}))).await;
    let receipt = described.recv(&mut caller, "callerReceipt").await;
    let delivery = described.recv(&mut agent, "deliveryV2").await;
    let cancel = json!({"message_type": "agent_cancel", "invocation_id": receipt["invocation_id"]});
    described.send(&caller, "agentCancel", cancel).await;
    described.recv(&mut agent, "cancelNotice").await;
    let (receipt, error) = caller.recv_two("agent_receipt").await;
    described.holds("callerReceipt", &receipt);
    described.holds("invocationError", &error);
    described.send(&agent, "agentResponse", answer(&delivery, json!("too late"))).await;
    assert_eq!(described.recv(&mut agent, "answerReceipt").await["outcome"], "late");

    described.send(&caller, "agentInvoke", invoke(&target, json!({"request_payload": {"error_message": "go"}}))).await;
    described.recv(&mut agent, "dismissal").await;
    described.send(&agent, "agentUnregister", json!({"message_type": "agent_unregister"})).await;
    agent.expect_close(1000).await;
    acknowledge(described, backend, "unregisteredNotice").await;
}

/// The errors that a caller meets.
async fn with_errors(router: &Router, described: &mut Described) {
    let mut caller = Peer::agent(router, &agent_id()).await;
    for options in [json!({}), json!({"ttl_ms": 0}), json!({"max_attempts": 1_000_000})] {
        described.send(&caller, "agentInvoke", invoke(&agent_id(), options)).await;
        described.recv(&mut caller, "invocationError").await;
    }
    for nonsense in ["no JSON", "[]", r#"{"message_type": "ml_invoke"}"#, r#"{"message_type": "agent_invoke"}"#] {
        caller.send_raw(nonsense).await;
        described.recv(&mut caller, "frameError").await;
    }
    caller.send_raw(r#"{"message_type": "agent_invoke", "request_payload": {"a": 1}}"#).await;
    described.recv(&mut caller, "invocationError").await;
}

#[tokio::test]
async fn every_frame_of_a_conversation_is_described_and_every_message_is_met() {
    let router = Router::start().await;
    let mut described = Described::new();
    let mut backend = Peer::master_be(&router).await;
    with_a_stock_agent(&router, &mut described, &mut backend).await;
    with_an_agent_of_version_two(&router, &mut described, &mut backend).await;
    with_errors(&router, &mut described).await;
    assert_eq!(described.met, described.messages.keys().cloned().collect());
}

#[test]
fn the_examples_are_such_messages_and_without_a_required_field_they_are_not() {
    let mut described = Described::new();
    for (name, message) in document()["components"]["messages"].as_object().unwrap() {
        for example in message["examples"].as_array().unwrap() {
            described.holds(name, &example["payload"]);
            for field in message["payload"]["required"].as_array().unwrap() {
                let mut lacking = example["payload"].clone();
                lacking.as_object_mut().unwrap().remove(field.as_str().unwrap());
                assert!(!described.messages[name].is_valid(&lacking), "{name} without {field}");
            }
        }
    }
}

#[test]
fn each_message_belongs_to_an_operation() {
    let document = document();
    let named = |operation: &Value| {
        let references = operation["messages"].as_array().unwrap().clone();
        references
            .into_iter()
            .map(|reference| reference["$ref"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
    };
    let operations = document["operations"].as_object().unwrap().values();
    let in_operations: BTreeSet<_> = operations.flat_map(named).collect();
    assert_eq!(in_operations, document["components"]["messages"].as_object().unwrap().keys().cloned().collect());
}

#[test]
fn codes_states_and_the_version_are_those_of_the_code() {
    let document = document();
    let listed = |name: &str| {
        let names = document["components"]["schemas"][name]["enum"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(listed("errorCode"), ErrorCode::ALL.map(|code| code.as_str().to_owned()).into());
    assert_eq!(listed("invocationState"), StateName::ALL.map(|state| state.as_str().to_owned()).into());
    let mut messages = BTreeSet::from(ErrorCode::ALL.map(|code| code.message().to_owned()));
    messages.insert("Invalid agent UUID".to_owned());
    assert_eq!(listed("errorMessage"), messages);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn close_codes_are_those_of_the_protocol_page() {
    let (_, table) = PROTOCOL.split_once("| close code | reason | meaning |\n|---|---|---|\n").unwrap();
    let rows: Vec<Vec<_>> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let listed = document()["channels"]["socket"]["x-close-codes"].as_array().unwrap().clone();
    let listed: Vec<Vec<_>> = listed
        .iter()
        .map(|close| {
            let reason = format!("`{}`", close["reason"].as_str().unwrap());
            vec![close["code"].to_string(), reason, close["meaning"].as_str().unwrap_or_default().to_owned()]
        })
        .collect();
    assert_eq!(listed, rows);
}

#[test]
fn the_projects_own_parser_takes_the_document() {
    let modules = std::env::var("ASYNCAPI_MODULES").expect("ASYNCAPI_MODULES is not set: run scripts/test");
    let root = env!("CARGO_MANIFEST_DIR");
    let checked = Command::new("node")
        .args(["tests/asyncapi/check.mjs", &modules, "docs/asyncapi.json"])
        .current_dir(root)
        .output()
        .expect("node starts: run scripts/test");
    let said = [checked.stdout, checked.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(checked.status.success(), "{said}");
    println!("{said}");
}
