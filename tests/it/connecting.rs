//! Who may connect, as whom, and what the others are told.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::support::{
    BACKEND, BACKEND_KEY, ML, ML_KEY, Peer, Router, SECRET, agent_id, agent_token, answered, forged, registration,
    token,
};

/// The socket is accepted, then closed; the attempt is in the journal.
async fn refused(router: &Router, headers: &[(&str, &str)]) {
    let before = router.history("kind=connection.refused").await.len();
    let mut peer = Peer::connect(router, headers).await;
    assert_eq!(peer.expect_close(4000).await, "Missing Authorization header", "{headers:?}");
    router.wait_for_events("kind=connection.refused", before + 1).await;
}

/// The socket is accepted and stays.
async fn accepted(router: &Router, headers: &[(&str, &str)]) -> Peer {
    let mut peer = Peer::connect(router, headers).await;
    peer.expect_nothing().await;
    peer
}

#[tokio::test]
async fn without_a_credential_a_socket_is_closed() {
    let router = Router::start().await;
    refused(&router, &[]).await;
    refused(&router, &[("api-key", ""), ("x-custom-authorization", ""), ("x-custom-invoke-key", "")]).await;
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let router = Router::start().await;
    refused(&router, &[("api-key", "wrong")]).await;
    refused(&router, &[("api-key", BACKEND)]).await;
    refused(&router, &[("api-key", &BACKEND_KEY[..BACKEND_KEY.len() - 1])]).await;
}

#[tokio::test]
async fn the_masters_keys_can_be_set() {
    let router = Router::with(&[
        ("MASTER_BE_API_KEY", "the-backends-own-key::be"),
        ("MASTER_AGENT_API_KEY", "the-master-agents-own-key::ml"),
    ])
    .await;
    refused(&router, &[("api-key", BACKEND_KEY)]).await;
    refused(&router, &[("api-key", ML_KEY)]).await;
    accepted(&router, &[("api-key", "the-backends-own-key::be")]).await;
    accepted(&router, &[("api-key", "the-master-agents-own-key::ml")]).await;
}

#[tokio::test]
async fn the_first_header_that_is_not_empty_counts_and_the_others_are_not_looked_at() {
    let router = Router::start().await;
    let agent = agent_id();
    refused(&router, &[("x-custom-authorization", &agent), ("api-key", "wrong")]).await;
    refused(&router, &[("x-custom-invoke-key", &format!("{agent}:{agent}")), ("x-custom-authorization", ML)]).await;

    let mut backend = Peer::master_be(&router).await;
    let peer = accepted(&router, &[("api-key", ""), ("x-custom-authorization", &agent)]).await;
    peer.send(json!({"message_type": "agent_register", "request_payload": registration(&agent)})).await;
    assert_eq!(backend.recv().await["request_payload"]["agent_uuid"], agent);
}

#[tokio::test]
async fn header_names_are_case_insensitive() {
    let router = Router::start().await;
    for name in ["api-key", "API-KEY", "Api-Key"] {
        accepted(&router, &[(name, ML_KEY)]).await;
    }
}

#[tokio::test]
async fn in_development_a_token_is_not_verified_and_a_bare_string_is_an_id() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let unsigned = forged("none", &id, b"");
    for (credential, identity) in
        [(agent_token(&id, "anything"), &*id), (unsigned, &id), ("weather".to_owned(), "weather")]
    {
        let peer = Peer::connect(&router, &[("x-custom-authorization", &credential)]).await;
        peer.send(json!({"message_type": "agent_register", "request_payload": registration(identity)})).await;
        let notice = backend.recv().await;
        assert_eq!(notice["request_payload"]["agent_uuid"], identity);
        assert_eq!(notice["request_payload"]["agent_jwt"], credential);
        peer.close().await;
        assert_eq!(backend.recv().await["request_payload"]["message_type"], "agent_unregister");
    }
}

#[tokio::test]
async fn nobody_takes_a_masters_name_without_its_key() {
    let router = Router::start().await;
    let agent = agent_id();
    for master in [BACKEND, ML] {
        refused(&router, &[("x-custom-authorization", master)]).await;
        refused(&router, &[("x-custom-authorization", &agent_token(master, "anything"))]).await;
        refused(&router, &[("x-custom-invoke-key", &format!("{master}:{agent}"))]).await;
    }

    let router = Router::secured(&[]).await;
    for master in [BACKEND, ML] {
        refused(&router, &[("x-custom-authorization", &agent_token(master, SECRET))]).await;
        refused(&router, &[("x-custom-invoke-key", &format!("{master}:{agent}"))]).await;
    }
}

#[tokio::test]
async fn an_invoke_key_without_two_parts_is_refused() {
    let router = Router::start().await;
    let agent = agent_id();
    for key in [agent.clone(), format!("{agent}:"), format!(":{agent}"), ":".to_owned()] {
        refused(&router, &[("x-custom-invoke-key", &key)]).await;
    }
}

#[tokio::test]
async fn secured_only_a_token_of_this_secret_that_is_in_time_and_names_an_agent_is_let_in() {
    let router = Router::secured(&[]).await;
    let agent = agent_id();
    accepted(&router, &[("x-custom-authorization", &agent_token(&agent, SECRET))]).await;

    let year_9999 = 253_370_764_800_i64;
    let claims = json!({"sub": agent, "exp": year_9999});
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    let good = agent_token(&agent, SECRET);
    let signature = URL_SAFE_NO_PAD.decode(good.rsplit('.').next().unwrap()).unwrap();
    let mut swapped: Vec<&str> = good.split('.').collect();
    swapped[1] = &payload[..payload.len() - 4];
    for (what, credential) in [
        ("a bare string", agent.clone()),
        ("another secret", agent_token(&agent, "some other secret that nobody gave")),
        ("expired", token(&json!({"sub": agent, "exp": 1_600_000_000}), SECRET, Algorithm::HS256)),
        ("not yet", token(&json!({"sub": agent, "exp": year_9999, "nbf": year_9999}), SECRET, Algorithm::HS256)),
        ("HS384", token(&claims, SECRET, Algorithm::HS384)),
        ("alg none", forged("none", &agent, b"")),
        ("alg None", forged("None", &agent, b"")),
        ("RS256", forged("RS256", &agent, &signature)),
        ("no signature", forged("HS256", &agent, b"")),
        ("other claims", swapped.join(".")),
        ("no id as sub", agent_token("weather", SECRET)),
        ("no sub", token(&json!({"exp": year_9999}), SECRET, Algorithm::HS256)),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned()),
    ] {
        eprintln!("{what}");
        refused(&router, &[("x-custom-authorization", &credential)]).await;
    }
}

#[tokio::test]
async fn secured_an_invoke_key_is_a_masters_or_that_of_an_agent_that_is_connected() {
    let router = Router::secured(&[]).await;
    let (caller, target) = (agent_id(), agent_id());
    let mut agent = Peer::registered(&router, &target).await;
    refused(&router, &[("x-custom-invoke-key", &format!("{caller}:{target}"))]).await;
    refused(&router, &[("x-custom-invoke-key", &format!("somebody:{target}"))]).await;
    refused(&router, &[("x-custom-invoke-key", &format!("{BACKEND_KEY}x:{target}"))]).await;

    let caller_itself = Peer::agent(&router, &caller).await;
    for (key, invoked_by) in [(&*caller, &*caller), (BACKEND_KEY, BACKEND), (ML_KEY, ML)] {
        let mut socket = Peer::invoke_socket(&router, key, &target).await;
        socket.invoke(&target, json!({})).await;
        let delivery = agent.recv().await;
        assert_eq!(delivery["invoked_by"], format!("{invoked_by}:{target}"));
        agent.answer(&delivery, json!("yes")).await;
        assert_eq!(socket.recv().await, answered(json!("yes")));
    }

    caller_itself.leave(&router).await;
    refused(&router, &[("x-custom-invoke-key", &format!("{caller}:{target}"))]).await;
}

#[tokio::test]
async fn credentials_are_neither_in_the_journal_nor_in_the_log() {
    let mut router = Router::secured(&[("RUST_LOG", "debug")]).await;
    let agent = agent_id();
    let jwt = router.agent_credential(&agent);
    let mut backend = Peer::master_be(&router).await;
    let peer = Peer::agent(&router, &agent).await;
    peer.send(json!({"message_type": "agent_register", "request_payload": registration(&agent)})).await;
    assert!(backend.recv().await["request_payload"]["agent_jwt"].is_string());
    Peer::invoke_socket(&router, BACKEND_KEY, &agent).await.invoke(&agent, json!({})).await;
    router.wait_for_event(&format!("kind=invocation.delivered&agent_id={agent}")).await;
    refused(&router, &[("x-custom-authorization", &agent_token(&agent, "a wrong secret of somebody else"))]).await;
    refused(&router, &[("api-key", "a wrong key 0b3d1f")]).await;
    router.stop().await;

    let signature = jwt.rsplit('.').next().unwrap();
    let secrets = [BACKEND_KEY, ML_KEY, SECRET, signature, "a wrong key 0b3d1f"];
    for entry in std::fs::read_dir(router.dir()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{} holds {secret}", path.display());
        }
    }
}
