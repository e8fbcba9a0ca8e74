//! Who has agents invoked more often than it may.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{
    AUDITOR_KEY, BACKEND, BACKEND_KEY, ML, ML_KEY, OPERATOR_KEY, Peer, Router, agent_id, answered, general_error,
    not_active,
};

/// So slow that what comes back during a test can be counted.
const SLOW: (&str, &str) = ("RATE_LIMIT", "1:5");
const BURST: usize = 5;

/// Sends so many invocations of nobody and returns how many were let in; the others have been told what they are to be.
async fn let_in(peer: &mut Peer, count: usize) -> usize {
    let nobody = agent_id();
    for _ in 0..count {
        peer.invoke(&nobody, json!({})).await;
    }
    let errors = peer.recv_many(count).await;
    let refused = errors.iter().filter(|error| **error == general_error("Too many requests")).count();
    assert_eq!(refused + errors.iter().filter(|error| **error == not_active()).count(), count, "{errors:?}");
    count - refused
}

/// As many as the burst, and what the time brings.
#[track_caller]
fn assert_burst(let_in: usize, since: Instant) {
    let most = BURST + usize::try_from(since.elapsed().as_secs()).unwrap() + 1;
    assert!((BURST..=most).contains(&let_in), "{let_in} of {BURST} and at most {most}");
}

#[tokio::test]
async fn each_identity_has_its_burst_on_all_its_sockets_together() {
    let router = Router::with(&[SLOW]).await;
    let (one, other) = (agent_id(), agent_id());
    let mut peer = Peer::agent(&router, &one).await;
    let since = Instant::now();
    assert_burst(let_in(&mut peer, 20).await, since);
    let target = agent_id();
    let mut same = Peer::invoke_socket(&router, &one, &target).await;
    for _ in 0..10 {
        same.invoke(&target, json!({})).await;
    }
    let refused = same.recv_many(10).await.into_iter().filter(|error| *error == general_error("Too many requests"));
    assert!(refused.count() >= 10 - usize::try_from(since.elapsed().as_secs()).unwrap() - 1);

    for mut others in [Peer::agent(&router, &other).await, Peer::master_ml(&router).await] {
        let since = Instant::now();
        assert_burst(let_in(&mut others, 20).await, since);
    }
    peer.expect_nothing().await;
}

#[tokio::test]
async fn who_uses_an_option_is_told_when_to_try_again_and_is_let_in_then() {
    let router = Router::with(&[SLOW]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut caller = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let options = json!({"receipt": true, "request_metadata": {"request_id": "r", "session_id": "s"}});
    let retry_after_ms = loop {
        caller.invoke_with(&target, json!({}), options.clone()).await;
        let answer = caller.recv().await;
        if answer["message_type"] == "agent_receipt" {
            continue;
        }
        let mut expected = general_error("Too many requests");
        expected["error"]["code"] = json!("rate_limited");
        expected["error"]["retry_after_ms"] = answer["error"]["retry_after_ms"].clone();
        assert_eq!(answer, expected);
        break answer["error"]["retry_after_ms"].as_u64().unwrap();
    };
    assert!((1..=1000).contains(&retry_after_ms), "{retry_after_ms}");
    let query = format!("kind=invocation.refused&agent_id={target}");
    let event = router.wait_for_event(&query).await;
    let detail = json!({"code": "rate_limited", "request_id": "r", "session_id": "s"});
    assert_eq!((&event["detail"], &event["caller"]), (&detail, &json!(BACKEND)), "{event}");

    let let_in = agent.recv_many(BURST).await;
    sleep(Duration::from_millis(retry_after_ms)).await;
    caller.invoke(&target, json!({"again": true})).await;
    let deliveries: Vec<Value> = vec![agent.recv().await];
    assert_eq!(deliveries[0]["request_payload"]["again"], true, "{let_in:?} {deliveries:?}");
}

#[tokio::test]
async fn over_http_it_is_429_with_the_time_to_wait_and_reading_is_free() {
    let router = Router::with(&[SLOW]).await;
    let target = agent_id();
    let _agent = Peer::registered(&router, &target).await;
    let body = json!({"agent_id": target});
    let answer = loop {
        let answer = router.post_as(ML_KEY, "/v1/invocations", body.clone()).await;
        if answer.status != 202 {
            break answer;
        }
    };
    assert_eq!((answer.problem(429), answer.header("retry-after")), ("rate_limited".to_owned(), "1"));
    let message = json!({"client_id": target, "message": {"a": 1}}).to_string();
    let legacy = loop {
        let (status, legacy) = router.post_invoke_agent(Some(ML_KEY), &message).await;
        if status != 200 {
            assert_eq!(status, 429);
            break legacy;
        }
    };
    assert!(legacy["detail"].as_str().unwrap().contains("RATE_LIMIT"), "{legacy}");
    for _ in 0..20 {
        assert_eq!(router.get_as(ML_KEY, "/v1/invocations").await.status, 200);
        assert_eq!(router.get_as(AUDITOR_KEY, "/v1/history?limit=1").await.status, 200);
    }
    router.post_as(BACKEND_KEY, "/v1/invocations", body).await.expect(202);

    let refused = router.wait_for_events("kind=invocation.refused", 2).await;
    assert!(refused.iter().all(|event| event["detail"]["code"] == "rate_limited" && event["caller"] == ML));
    let metrics = router.get_as(OPERATOR_KEY, "/metrics").await.text;
    assert!(metrics.contains("agent_router_invocations_refused_total{code=\"rate_limited\"}"), "{metrics}");
}

#[tokio::test]
async fn a_secured_router_limits_agents_that_run_wild_and_serves_the_others() {
    const FLOOD: usize = 5_000;
    let router = Router::secured(&[("RATE_LIMIT", "50:100"), ("REFUSALS_PER_SECOND", "10")]).await;
    let (wild, target) = (agent_id(), agent_id());
    let mut wild = Peer::agent(&router, &wild).await;
    let mut agent = Peer::registered(&router, &target).await;
    let mut caller = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let since = Instant::now();
    let flood = async {
        for _ in 0..FLOOD {
            wild.invoke(&target, json!({})).await;
        }
    };
    let served = async {
        for n in 0..20 {
            caller.invoke(&target, json!({"n": n})).await;
            loop {
                let delivery = agent.recv().await;
                agent.answer(&delivery, json!(n)).await;
                if delivery["invoked_by"].as_str().unwrap().starts_with(BACKEND) {
                    break;
                }
            }
            assert_eq!(caller.recv().await, answered(json!(n)));
        }
    };
    tokio::join!(flood, served);
    let answers = async {
        // What was let in is answered, if the agent above has got to it, and the rest is refused.
        let mut refused = 0;
        while refused == 0 {
            refused += usize::from(wild.recv().await == general_error("Too many requests"));
        }
    };
    answers.await;
    let events = router.wait_for_events("kind=invocation.refused", 1).await;
    assert!(events.iter().all(|event| event["detail"]["code"] != "rate_limited" || event["caller"] != BACKEND));
    let seconds = usize::try_from(since.elapsed().as_secs()).unwrap() + 1;
    assert!(events.len() <= 11 * seconds + 11, "{} of them are journaled one by one", events.len());
}
