//! What proves who somebody is stays with whom it proves it to: it is nowhere in what the router writes or tells. What is
//! secret in a payload reaches the agent, and no reader.

use std::collections::BTreeSet;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{AUDITOR_KEY, Peer, Router, SECRET, agent_id, agent_token, printed, token};

const BACKEND_KEY: &str = "0f31c9d2-be-key-that-must-not-leak::master_server_be";
const ML_KEY: &str = "77ab04e1-ml-key-that-must-not-leak::master_server_ml";
const NEXT_AUDITOR_KEY: &str = "next-auditor-key-that-must-not-leak";
/// A UUID, as an agent's id is.
const OPERATOR_KEY: &str = "9a4f6c1e-7d3b-4a52-8f0e-2b6d91c5e7a3";
/// A key that is no key of this router: perhaps of another one.
const WRONG_KEY: &str = "somebody-elses-key-that-must-not-leak";

/// What a backend puts into a payload for the agent alone.
const MODEL_KEY: &str = "sk-model-key-that-only-the-agent-gets";

/// Whoever reads over HTTP, and what was answered so far.
struct Reader<'a> {
    router: &'a Router,
    client: Client,
    answers: Vec<Answer>,
}

/// An answer, its headers included.
struct Answer {
    request: String,
    status: u16,
    text: String,
    is_a_masters: bool,
}

impl<'a> Reader<'a> {
    fn new(router: &'a Router) -> Self {
        let client = Client::builder().no_proxy().build().unwrap();
        Self { router, client, answers: Vec::new() }
    }

    async fn ask(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> u16 {
        let mut request = self.client.request(method.clone(), self.router.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let head = format!("{:?}", response.headers());
        let text = format!("{head}\n{}", response.text().await.unwrap());
        let is_a_masters = headers.iter().any(|(_, key)| key.contains(BACKEND_KEY) || key.contains(ML_KEY));
        self.answers.push(Answer { request: format!("{method} {path}"), status, text, is_a_masters });
        status
    }

    async fn get(&mut self, path: &str, key: &str) -> u16 {
        self.ask(Method::GET, path, &[("api-key", key)], None).await
    }
}

/// In whatever header, a credential that is none opens no socket that stays.
async fn refused(router: &Router, header: &str, value: &str) {
    Peer::connect(router, &[(header, value)]).await.expect_close(4000).await;
}

/// Credentials in the wrong places, for the wrong purposes, and out of date.
async fn refused_credentials(router: &Router, agent: &str, jwt: &str) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let expired = token(&json!({"sub": agent, "exp": now - 1}), SECRET, Algorithm::HS256);
    let forged = agent_token(agent, "a secret that is not this router's own");
    for value in [WRONG_KEY, AUDITOR_KEY, OPERATOR_KEY, jwt] {
        refused(router, "api-key", value).await;
    }
    for value in [WRONG_KEY, BACKEND_KEY, AUDITOR_KEY, OPERATOR_KEY, &expired, &forged, SECRET] {
        refused(router, "x-custom-authorization", value).await;
    }
    let named_by_a_key = agent_token(OPERATOR_KEY, SECRET);
    refused(router, "x-custom-authorization", &named_by_a_key).await;
    for caller in [WRONG_KEY, AUDITOR_KEY, OPERATOR_KEY, jwt] {
        refused(router, "x-custom-invoke-key", &format!("{caller}:{agent}")).await;
    }
    for value in [BACKEND_KEY, jwt, &format!("{agent}:{OPERATOR_KEY}"), &format!("{agent}:{ML_KEY}")] {
        refused(router, "x-custom-invoke-key", value).await;
    }
    vec![expired, forged, named_by_a_key]
}

/// Frames that make no sense, with secrets in them. Their senders get them back, and nobody else.
async fn bad_frames(peer: &mut Peer, secrets: &[&str]) {
    for secret in secrets {
        for frame in [
            format!("Bearer {secret}"),
            json!([secret]).to_string(),
            json!({"message_type": secret}).to_string(),
            json!({"message_type": "agent_invoke", "agent_uuid": secret, "request_payload": {"a": 1}}).to_string(),
            json!({"message_type": "agent_invoke", "agent_uuid": [secret], "request_payload": {"a": 1}}).to_string(),
            json!({"message_type": "agent_cancel", "invocation_id": secret}).to_string(),
            json!({"message_type": "agent_register", "request_payload": secret}).to_string(),
        ] {
            peer.send_raw(&frame).await;
            peer.recv().await;
        }
        let stray = json!({"message_type": "agent_response", "response": 1, "invoked_by": format!("{secret}:x")});
        peer.send(stray).await;
    }
}

/// An invocation with a model's key in it, on the way that backends take, and over HTTP.
async fn invocations(router: &Router, reader: &mut Reader<'_>, target: &str, agent: &mut Peer) -> Vec<String> {
    let payload = json!({
        "task": "summarise", "configs": {"credentials": {"api_key": MODEL_KEY}, "Api-Key": MODEL_KEY},
        "nested": json!({"list": [{"password": MODEL_KEY}]}).to_string(),
    });
    let mut ids = Vec::new();
    for caller in [BACKEND_KEY, ML_KEY] {
        let mut socket = Peer::invoke_socket(router, caller, target).await;
        ids.push(socket.accepted(target, payload.clone(), json!({})).await);
        let delivery = agent.recv().await;
        assert_eq!(delivery["request_payload"], payload, "the agent gets the real payload");
        agent.answer(&delivery, json!({"summary": "short", "credentials": [MODEL_KEY], "token": MODEL_KEY})).await;
        assert_eq!(socket.recv().await["response"]["token"], MODEL_KEY, "the caller gets the real answer");
    }
    let body = json!({"agent_id": target, "payload": payload});
    let headers = [("api-key", BACKEND_KEY), ("idempotency-key", "once")];
    assert_eq!(reader.ask(Method::POST, "/v1/invocations", &headers, Some(body)).await, 202);
    let delivery = agent.recv().await;
    assert_eq!(delivery["request_payload"], payload, "the agent gets the real payload");
    agent.fail(&delivery, "could not").await;
    ids.push(router.newest_invocation_of(target).await);
    for id in &ids {
        router.wait_for_event(&format!("invocation_id={id}&kind=invocation.completed,invocation.failed")).await;
    }
    ids
}

/// Keys where they do not belong: in URLs and bodies.
async fn misplaced(reader: &mut Reader<'_>, secrets: &[&str]) {
    for secret in secrets {
        let encoded = secret.replace(':', "%3A");
        for path in [
            format!("/v1/history?api_key={encoded}"),
            format!("/v1/history?agent_id={encoded}"),
            format!("/v1/invocations/{encoded}"),
            format!("/v1/agents/{encoded}/history"),
            format!("/{encoded}"),
            format!("/ws?token={encoded}"),
            format!("/metrics?key={encoded}"),
        ] {
            assert_eq!(reader.get(&path, AUDITOR_KEY).await, 400, "{path}");
        }
        for (path, body) in [
            ("/v1/invocations", json!({"agent_id": secret})),
            ("/v1/invocations", json!({"agent_id": agent_id(), secret.to_owned(): 1})),
            ("/v1/invocations", json!(secret)),
            ("/invoke-agent", json!({"client_id": secret, "message": {"a": 1}})),
            ("/invoke-agent", json!(secret)),
        ] {
            reader.ask(Method::POST, path, &[("api-key", BACKEND_KEY)], Some(body)).await;
        }
        reader.ask(Method::GET, "/v1/history", &[("authorization", &format!("Basic {secret}"))], None).await;
        reader.ask(Method::GET, "/v1/history", &[("x-custom-authorization", secret)], None).await;
        reader.ask(Method::GET, "/v1/history", &[("api-key", &format!("{secret}x"))], None).await;
    }
}

/// Everything that can be read.
async fn everything(reader: &mut Reader<'_>, ids: &[String], agent: &str) {
    let mut paths: Vec<_> = [
        "/v1/history?limit=1000",
        "/v1/history?order=desc&kind=invocation.accepted",
        "/v1/history/head",
        "/v1/history/verify",
        "/v1/invocations?limit=1000",
        "/v1/agents",
        "/health/live",
        "/health/ready",
        "/openapi.json",
        "/asyncapi.json",
        "/docs/",
        "/nowhere",
    ]
    .map(str::to_owned)
    .into();
    paths.push(format!("/v1/agents/{agent}"));
    for id in ids {
        paths.extend([format!("/v1/invocations/{id}"), format!("/v1/invocations/{id}/history")]);
    }
    for path in &paths {
        for key in [AUDITOR_KEY, NEXT_AUDITOR_KEY, OPERATOR_KEY, BACKEND_KEY, WRONG_KEY, ""] {
            let status = reader.get(path, key).await;
            assert!(status < 500, "{path}: {status}");
        }
    }
    assert_eq!(reader.get("/metrics", OPERATOR_KEY).await, 200);
    assert_eq!(reader.get("/v1/drain", OPERATOR_KEY).await, 200);
    for accept in ["application/x-ndjson", "text/csv"] {
        let headers = [("api-key", AUDITOR_KEY), ("accept", accept)];
        assert_eq!(reader.ask(Method::GET, "/v1/history", &headers, None).await, 200);
    }
    let headers = [("api-key", AUDITOR_KEY), ("last-event-id", "0")];
    assert_eq!(reader.ask(Method::GET, "/v1/history/stream", &headers, None).await, 200);
    let reached = reader.answers.iter().filter(|answer| answer.status == 200 && answer.text.contains("[redacted]"));
    let reached: BTreeSet<_> = reached.map(|answer| answer.request.clone()).collect();
    assert!(reached.len() >= 2 + 2 * ids.len(), "payloads were to be read: {reached:?}");
}

/// Every file of the router's folder, and what it printed.
fn files(router: &Router) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(router.dir()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries.map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect();
    assert!(router.is_on_postgres() || files.iter().any(|(name, _)| name.ends_with("journal.db")));
    files
}

#[track_caller]
fn assert_absent(place: &str, bytes: &[u8], secrets: &[&str]) {
    for secret in secrets {
        let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
        if let Some(at) = found {
            let around = &bytes[at.saturating_sub(200)..(at + secret.len() + 100).min(bytes.len())];
            panic!("{secret} is in {place}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

#[tokio::test]
async fn keys_and_tokens_of_a_run_occur_nowhere_and_secrets_in_payloads_reach_no_reader() {
    let mut router = Router::secured(&[
        ("MASTER_BE_API_KEY", BACKEND_KEY),
        ("MASTER_AGENT_API_KEY", ML_KEY),
        ("AUDITOR_API_KEY", &format!("{AUDITOR_KEY},{NEXT_AUDITOR_KEY}")),
        ("OPERATOR_API_KEY", OPERATOR_KEY),
        ("STREAM_LIFETIME", "500ms"),
        ("RUST_LOG", "trace"),
    ])
    .await;
    let (target, other) = (agent_id(), agent_id());
    let [jwt, others_jwt] = [&target, &other].map(|id| agent_token(id, SECRET));

    let mut backend = Peer::connect(&router, &[("api-key", BACKEND_KEY)]).await;
    let mut ml = Peer::connect(&router, &[("api-key", ML_KEY)]).await;
    let mut agent = Peer::registered(&router, &target).await;
    assert_eq!(backend.recv().await["request_payload"]["agent_jwt"], jwt, "the backend is told the token");
    let (mut second, _) = Peer::registered_v2(&router, &other, json!({})).await;
    assert_eq!(backend.recv().await["request_payload"]["agent_jwt"], others_jwt);

    let further = refused_credentials(&router, &target, &jwt).await;
    let keys = [BACKEND_KEY, ML_KEY, AUDITOR_KEY, NEXT_AUDITOR_KEY, OPERATOR_KEY];
    let password = if router.is_on_postgres() { router.database().password().to_owned() } else { String::new() };
    let mut secrets = [&keys[..], &[WRONG_KEY, SECRET, &jwt, &others_jwt]].concat();
    secrets.extend(further.iter().map(String::as_str));
    let misusable: Vec<_> = keys.into_iter().chain([&*jwt]).collect();
    for peer in [&mut agent, &mut second, &mut ml] {
        bad_frames(peer, &misusable).await;
    }

    let mut reader = Reader::new(&router);
    let ids = invocations(&router, &mut reader, &target, &mut agent).await;
    misplaced(&mut reader, &misusable).await;
    everything(&mut reader, &ids, &target).await;
    for Answer { request, text, is_a_masters, .. } in &reader.answers {
        let place = request.split(['?', ' ']).take(2).collect::<Vec<_>>().join(" ");
        assert_absent(&place, text.as_bytes(), &secrets);
        if !is_a_masters {
            assert_absent(&place, text.as_bytes(), &[MODEL_KEY]);
        }
    }
    drop(reader);

    for arguments in [["journal", "export"], ["journal", "verify"]] {
        let output = router.run(&arguments);
        assert!(output.status.success(), "{}", printed(&output));
        assert_absent(&arguments.join(" "), printed(&output).as_bytes(), &[&secrets[..], &[MODEL_KEY]].concat());
    }

    if router.is_on_postgres() {
        let contents = router.database().contents().await;
        assert!(contents.contains("agent.registered") && contents.contains(&target), "{contents}");
        assert_absent("the database", contents.as_bytes(), &secrets);
        secrets.push(&password);
    }
    for (file, bytes) in files(&router) {
        assert_absent(&file, &bytes, &secrets);
    }
    assert_absent("the log", router.log().as_bytes(), &[MODEL_KEY]);
    let said = router.stop().await.join("\n");
    assert_absent("standard output", said.as_bytes(), &secrets);
    for (file, bytes) in files(&router) {
        assert_absent(&file, &bytes, &secrets);
    }
}
