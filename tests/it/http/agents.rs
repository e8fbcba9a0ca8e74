//! Agents over HTTP: who there is, and who is there.

use serde_json::{Value, json};

use crate::support::{AUDITOR_KEY, BACKEND_KEY, OPERATOR_KEY, Peer, Router, agent_id};

async fn agent(router: &Router, id: &str) -> Value {
    router.get_as(BACKEND_KEY, &format!("/v1/agents/{id}")).await.expect(200)
}

#[tokio::test]
async fn an_agent_is_shown_as_it_registered_and_as_it_stands() {
    let router = Router::start().await;
    let id = agent_id();
    let (peer, _) = Peer::registered_v2(&router, &id, json!({"max_in_flight": 1})).await;
    for n in 0..3 {
        router.post_as(BACKEND_KEY, "/v1/invocations", json!({"agent_id": id, "payload": {"n": n}})).await.expect(202);
    }
    let here = agent(&router, &id).await;
    let registration = peer.registration();
    for (field, registered) in
        [("name", "agent_name"), ("description", "agent_description"), ("input_schema", "agent_input_schema")]
    {
        assert_eq!(here[field], registration[registered], "{field} in {here}");
    }
    assert_eq!(
        (&here["agent_id"], &here["connected"], &here["protocol_version"]),
        (&json!(id), &json!(true), &json!(2))
    );
    assert_eq!((&here["queued"], &here["in_flight"], &here["last_seen"]), (&json!(2), &json!(1), &json!(null)));
    let ready = router.get("/health/ready").await.1;
    assert!(here["node"].is_string() && here["node"] == ready["node"], "{here} {ready}");
    assert!(here["connected_since"].as_str() <= here["registered_at"].as_str() && here["connected_since"].is_string());

    peer.leave(&router).await;
    let away = agent(&router, &id).await;
    assert_eq!(
        (&away["connected"], &away["connected_since"], &away["node"]),
        (&json!(false), &json!(null), &json!(null))
    );
    assert!(away["last_seen"].is_string() && away["name"] == here["name"], "{away}");
    assert_eq!(router.get_as(BACKEND_KEY, &format!("/v1/agents/{}", agent_id())).await.problem(404), "not_found");
}

#[tokio::test]
async fn agents_are_listed_in_the_order_of_their_ids_page_by_page() {
    let router = Router::start().await;
    let mut ids: Vec<_> = (0..5).map(|_| agent_id()).collect();
    let mut peers = Vec::new();
    for id in &ids {
        peers.push(Peer::registered(&router, id).await);
    }
    peers.remove(0).leave(&router).await;
    let away = ids[0].clone();
    ids.sort();
    let all = async |query: &str| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = router.get_as(OPERATOR_KEY, &format!("/v1/agents?limit=2&{query}{cursor}")).await.expect(200);
            found.extend(
                page["agents"].as_array().unwrap().iter().map(|agent| agent["agent_id"].as_str().unwrap().to_owned()),
            );
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    };
    assert_eq!(all("").await, ids);
    assert_eq!(all("connected=false").await, [&*away]);
    assert_eq!(all("connected=true").await, ids.iter().filter(|id| **id != away).cloned().collect::<Vec<_>>());

    let page = router.get_as(OPERATOR_KEY, "/v1/agents?limit=2").await.expect(200);
    let other = format!("/v1/agents?connected=true&cursor={}", page["next"].as_str().unwrap());
    assert_eq!(router.get_as(OPERATOR_KEY, &other).await.problem(400), "malformed");
}

#[tokio::test]
async fn secrets_in_a_registration_are_for_masters_alone() {
    let router = Router::start().await;
    let id = agent_id();
    let mut peer = Peer::agent(&router, &id).await;
    let payload = json!({"agent_name": "a", "agent_description": {"token": "sk-live-3"}, "agent_input_schema": {}});
    peer.send(json!({"message_type": "agent_register", "request_payload": payload})).await;
    router.wait_for_event(&format!("kind=agent.registered&agent_id={id}")).await;
    assert_eq!(agent(&router, &id).await["description"]["token"], "sk-live-3");
    for key in [AUDITOR_KEY, OPERATOR_KEY] {
        let shown = router.get_as(key, &format!("/v1/agents/{id}")).await.expect(200);
        assert_eq!(shown["description"]["token"], "[redacted]");
    }
    peer.expect_nothing().await;
}

#[tokio::test]
async fn in_secured_mode_an_id_is_found_however_it_is_written() {
    let router = Router::secured(&[]).await;
    let id = agent_id();
    let _peer = Peer::registered(&router, &id).await;
    assert_eq!(agent(&router, &id.to_uppercase()).await["agent_id"], id);
    assert_eq!(router.get_as(BACKEND_KEY, "/v1/agents/anything%20else").await.problem(404), "not_found");
}

#[tokio::test]
async fn a_page_ends_when_it_weighs_enough_and_says_where_to_go_on() {
    let router = Router::start().await;
    let mut ids: Vec<_> = (0..40).map(|_| agent_id()).collect();
    for id in &ids {
        let peer = Peer::agent(&router, id).await;
        let payload = json!({"agent_name": "a", "agent_input_schema": {"text": "x".repeat(500_000)}});
        peer.send(json!({"message_type": "agent_register", "request_payload": payload})).await;
        router.wait_for_event(&format!("kind=agent.registered&agent_id={id}")).await;
        peer.leave(&router).await;
    }
    ids.sort();
    let (mut shown, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = router.get_as(BACKEND_KEY, &format!("/v1/agents?limit=1000{cursor}")).await.expect(200);
        let agents = page["agents"].as_array().unwrap();
        assert!((1..20).contains(&agents.len()), "{} agents on a page", agents.len());
        shown.extend(agents.iter().map(|agent| agent["agent_id"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((pages, shown), (3, ids));
}
