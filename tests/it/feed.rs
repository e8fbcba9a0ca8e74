//! What the backend missed, it is told; what it acknowledged, it is not told again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Peer, Router, agent_id};

/// Acknowledgements by answers alone.
const ANSWERS_ONLY: (&str, &str) = ("FEED_ACK_TIMEOUT", "1h");

async fn log(agent: &Peer, line: &str) {
    agent.send(json!({"message_type": "agent_log", "log_message": line, "log_level": "info"})).await;
}

/// What a notification says, in short.
fn brief(notice: &Value) -> (String, String, Value) {
    let payload = &notice["request_payload"];
    let text = |key: &str| payload[key].as_str().expect("text").to_owned();
    let what = match &*text("message_type") {
        "agent_register" => payload["agent_jwt"].clone(),
        "agent_log" => payload["log_message"].clone(),
        _ => json!(null),
    };
    (text("message_type"), text("agent_uuid"), what)
}

fn register(agent: &str, jwt: Value) -> (String, String, Value) {
    ("agent_register".to_owned(), agent.to_owned(), jwt)
}

fn line(agent: &str, line: &str) -> (String, String, Value) {
    ("agent_log".to_owned(), agent.to_owned(), json!(line))
}

fn unregister(agent: &str) -> (String, String, Value) {
    ("agent_unregister".to_owned(), agent.to_owned(), json!(null))
}

/// Reads so many notifications and answers each as the backend's library does.
async fn acknowledged(router: &Router, backend: &mut Peer, count: usize) -> Vec<(String, String, Value)> {
    let mut notices = Vec::new();
    for notice in backend.recv_many(count).await {
        notices.push(brief(&notice));
        acknowledge(backend).await;
    }
    router.wait_for_event("kind=feed.acknowledged").await;
    notices
}

async fn acknowledge(backend: &Peer) {
    let answer = json!({"message_type": "agent_response", "response": null, "execution_time": 0.0, "invoked_by": ""});
    backend.send(answer).await;
}

#[tokio::test]
async fn a_backend_that_was_away_gets_what_it_missed_in_order() {
    let router = Router::start().await;
    let (gone, here) = (agent_id(), agent_id());
    let agent = Peer::registered(&router, &gone).await;
    log(&agent, "one").await;
    log(&agent, "two").await;
    router.wait_for_events("kind=agent.logged", 2).await;
    agent.leave(&router).await;
    let agent = Peer::registered(&router, &here).await;
    log(&agent, "three").await;
    router.wait_for_events("kind=agent.logged", 3).await;

    let mut backend = Peer::master_be(&router).await;
    let missed: Vec<_> = backend.recv_many(6).await.iter().map(brief).collect();
    let expected = [
        register(&gone, json!(null)),
        line(&gone, "one"),
        line(&gone, "two"),
        unregister(&gone),
        register(&here, json!(here)),
        line(&here, "three"),
    ];
    assert_eq!(missed, expected);
    backend.expect_nothing().await;
}

#[tokio::test]
async fn a_restarted_backend_sees_every_registered_agent_again() {
    let router = Router::with(&[ANSWERS_ONLY]).await;
    let mut backend = Peer::master_be(&router).await;
    let (one, two, unregistered) = (agent_id(), agent_id(), agent_id());
    let _one = Peer::registered(&router, &one).await;
    let _two = Peer::registered(&router, &two).await;
    let _unregistered = Peer::agent(&router, &unregistered).await;
    acknowledged(&router, &mut backend, 2).await;
    backend.expect_nothing().await;
    backend.close().await;

    let mut backend = Peer::master_be(&router).await;
    let seen: Vec<_> = backend.recv_many(2).await.iter().map(brief).collect();
    for id in [&one, &two] {
        assert!(seen.contains(&register(id, json!(id))), "{seen:?}");
    }
    backend.expect_nothing().await;
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_a_reconnect() {
    let router = Router::with(&[ANSWERS_ONLY]).await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let agent = Peer::registered(&router, &id).await;
    log(&agent, "one").await;
    log(&agent, "two").await;
    assert_eq!(acknowledged(&router, &mut backend, 2).await, [register(&id, json!(id)), line(&id, "one")]);
    assert_eq!(brief(&backend.recv().await), line(&id, "two"));
    backend.expect_nothing().await;
    backend.close().await;

    let mut backend = Peer::master_be(&router).await;
    assert_eq!(brief(&backend.recv().await), line(&id, "two"));
    assert_eq!(brief(&backend.recv().await), register(&id, json!(id)));
    backend.expect_nothing().await;
}

#[tokio::test]
async fn an_error_acknowledges_like_any_answer() {
    let router = Router::with(&[ANSWERS_ONLY]).await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let agent = Peer::agent(&router, &id).await;
    log(&agent, "one").await;
    assert_eq!(brief(&backend.recv().await), line(&id, "one"));
    let error = json!({"error_message": "unexpected keyword argument"});
    backend.send(json!({"message_type": "agent_error", "error": error, "execution_time": 0, "invoked_by": ""})).await;
    router.wait_for_event("kind=feed.acknowledged").await;
    backend.close().await;
    Peer::master_be(&router).await.expect_nothing().await;
}

#[tokio::test]
async fn for_a_backend_that_never_answers_its_pong_acknowledges() {
    let router = Router::with(&[("FEED_ACK_TIMEOUT", "200ms"), ("PING_INTERVAL", "100ms")]).await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let agent = Peer::agent(&router, &id).await;
    log(&agent, "one").await;
    assert_eq!(brief(&backend.recv().await), line(&id, "one"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    log(&agent, "two").await;
    assert_eq!(brief(&backend.recv().await), line(&id, "two"));
    router.wait_for_event("kind=feed.acknowledged").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    backend.close().await;
    Peer::master_be(&router).await.expect_nothing().await;
}

#[tokio::test]
async fn a_notification_waits_no_longer_than_its_ttl() {
    let router = Router::with(&[("FEED_TTL", "100ms")]).await;
    let agent = Peer::registered(&router, &agent_id()).await;
    log(&agent, "stale").await;
    router.wait_for_event("kind=agent.logged").await;
    agent.leave(&router).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    Peer::master_be(&router).await.expect_nothing().await;
}

#[tokio::test]
async fn the_ends_of_all_connections_are_told_after_the_router_was_killed() {
    let mut router = Router::with(&[ANSWERS_ONLY]).await;
    let mut backend = Peer::master_be(&router).await;
    let (registered, bare) = (agent_id(), agent_id());
    let _registered = Peer::registered(&router, &registered).await;
    let _bare = Peer::agent(&router, &bare).await;
    assert_eq!(acknowledged(&router, &mut backend, 1).await, [register(&registered, json!(registered))]);
    router.kill_and_start_again().await;

    let mut backend = Peer::master_be(&router).await;
    let ends: Vec<_> = backend.recv_many(2).await.iter().map(brief).collect();
    for id in [&registered, &bare] {
        assert!(ends.contains(&unregister(id)), "{ends:?}");
    }
    backend.expect_nothing().await;
    router.wait_for_event(&format!("kind=agent.disconnected&agent_id={registered}")).await;
}

#[tokio::test]
async fn what_the_backend_missed_survives_the_router_without_the_token() {
    let mut router = Router::start().await;
    let id = agent_id();
    let agent = Peer::registered(&router, &id).await;
    log(&agent, "before").await;
    router.wait_for_event("kind=agent.logged").await;
    router.restart().await;
    let mut backend = Peer::master_be(&router).await;
    let missed: Vec<_> = backend.recv_many(3).await.iter().map(brief).collect();
    assert_eq!(missed, [register(&id, json!(null)), line(&id, "before"), unregister(&id)]);
    backend.expect_nothing().await;
}

#[tokio::test]
async fn the_newest_backend_socket_gets_the_feed() {
    let router = Router::start().await;
    let mut older = Peer::master_be(&router).await;
    older.expect_nothing().await;
    let mut newer = Peer::master_be(&router).await;
    newer.expect_nothing().await;
    let id = agent_id();
    let agent = Peer::agent(&router, &id).await;
    log(&agent, "to one").await;
    assert_eq!(brief(&newer.recv().await), line(&id, "to one"));
    older.expect_nothing().await;
}

#[tokio::test]
async fn the_end_of_an_older_backend_socket_does_not_have_the_newest_told_again() {
    let router = Router::with(&[ANSWERS_ONLY]).await;
    let mut older = Peer::master_be(&router).await;
    older.expect_nothing().await;
    let mut newest = Peer::master_be(&router).await;
    newest.expect_nothing().await;
    let id = agent_id();
    let agent = Peer::registered(&router, &id).await;
    assert_eq!(brief(&newest.recv().await), register(&id, json!(id)));
    older.close().await;
    router.wait_for_event("kind=agent.disconnected&agent_id=master_server_be").await;
    log(&agent, "next").await;
    assert_eq!(brief(&newest.recv().await), line(&id, "next"));
    newest.expect_nothing().await;
}
