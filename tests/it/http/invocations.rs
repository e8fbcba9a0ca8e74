//! Invocations over HTTP: the same thing as over a socket, waited for or read later.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{AUDITOR_KEY, Answer, BACKEND_KEY, ML_KEY, PATIENCE, Peer, Router, agent_id};

const PATH: &str = "/v1/invocations";

async fn invoke(router: &Router, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let request = router.request("POST", PATH, BACKEND_KEY).json(body);
    Answer::to(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

fn id(invocation: &Value) -> String {
    invocation["id"].as_str().expect("an invocation has an id").to_owned()
}

#[tokio::test]
async fn what_is_accepted_is_read_where_the_location_says() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let body = json!({"agent_id": target, "payload": {"name": "Ada"}, "metadata": {"request_id": "r1", "session_id": "s1"},
        "ttl_ms": 5_000, "deadline_ms": 60_000, "max_attempts": 2});
    let accepted = invoke(&router, &body, &[]).await;
    let invocation = accepted.expect(202);
    assert_eq!(accepted.header("location"), format!("{PATH}/{}", id(&invocation)));
    assert_eq!((accepted.header("preference-applied"), accepted.header("idempotency-replayed")), ("", ""));
    for (field, value) in [
        ("agent_id", json!(target)),
        ("caller", json!("master_server_be")),
        ("payload", json!({"name": "Ada"})),
        ("request_id", json!("r1")),
        ("session_id", json!("s1")),
        ("ttl_ms", json!(5_000)),
        ("deadline_ms", json!(60_000)),
        ("max_attempts", json!(2)),
        ("finished_at", json!(null)),
        ("result", json!(null)),
    ] {
        assert_eq!(invocation[field], value, "{field}");
    }

    let delivery = agent.recv().await;
    let delivered = json!({"request_payload": {"name": "Ada"}, "request_metadata": {"request_id": "r1", "session_id": "s1"},
        "invoked_by": "master_server_be"});
    assert_eq!(delivery, delivered);
    agent.answer(&delivery, json!("Hello, Ada!")).await;
    router.wait_for_state(&id(&invocation), "completed").await;
    let read = router.get_as(BACKEND_KEY, accepted.header("location")).await.expect(200);
    assert_eq!(
        (&read["state"], &read["result"], &read["error"]),
        (&json!("completed"), &json!("Hello, Ada!"), &json!(null))
    );
}

#[tokio::test]
async fn whoever_prefers_to_wait_gets_the_result_in_the_answer() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let body = json!({"agent_id": target, "payload": {}});
    let prefer = [("Prefer", "respond-async, wait=20")];
    let (answer, ()) = tokio::join!(invoke(&router, &body, &prefer), async {
        let delivery = agent.recv().await;
        agent.answer(&delivery, json!([1, 2])).await;
    });
    let invocation = answer.expect(200);
    assert_eq!(answer.header("preference-applied"), "wait=20");
    assert_eq!((&invocation["state"], &invocation["result"]), (&json!("completed"), &json!([1, 2])));

    let started = Instant::now();
    let answer = invoke(&router, &body, &[("Prefer", "wait=1")]).await;
    assert_eq!(answer.expect(202)["finished_at"], json!(null));
    assert_eq!(answer.header("preference-applied"), "wait=1");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(invoke(&router, &body, &[("Prefer", "wait=0")]).await.header("preference-applied"), "wait=0");

    let failing = agent_id();
    let mut agent = Peer::registered(&router, &failing).await;
    let body = json!({"agent_id": failing});
    let (answer, ()) = tokio::join!(invoke(&router, &body, &prefer), async {
        let delivery = agent.recv().await;
        agent.fail(&delivery, "no such name").await;
    });
    assert_eq!(answer.expect(200)["error"], json!({"code": "agent_error", "message": "no such name"}));
}

#[tokio::test]
async fn a_wait_ends_with_the_invocation_or_with_its_time() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let body = json!({"agent_id": target, "payload": {}});
    let invocation = id(&invoke(&router, &body, &[]).await.expect(202));
    let delivery = agent.recv().await;
    let path = format!("{PATH}/{invocation}?wait=1");
    let started = Instant::now();
    assert_eq!(router.get_as(BACKEND_KEY, &path).await.expect(200)["finished_at"], json!(null));
    assert!(started.elapsed() >= Duration::from_secs(1));

    let path = format!("{PATH}/{invocation}?wait=20");
    let waiting = (router.get_as(BACKEND_KEY, &path), router.get_as(AUDITOR_KEY, &path));
    let (of_master, of_auditor, ()) = tokio::join!(waiting.0, waiting.1, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        agent.answer(&delivery, json!("late")).await;
    });
    assert_eq!(of_master.expect(200)["state"], "completed");
    assert_eq!(of_auditor.expect(200)["result"], "late");
    let started = Instant::now();
    assert_eq!(router.get_as(BACKEND_KEY, &path).await.expect(200)["state"], "completed");
    assert!(started.elapsed() < PATIENCE, "an end that is past is not waited for");
}

#[tokio::test]
async fn a_shutdown_tells_whoever_waits_how_things_stand() {
    let mut router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let body = json!({"agent_id": target, "payload": {}});
    let invocation = id(&invoke(&router, &body, &[]).await.expect(202));
    agent.recv().await;
    let request = router.request("GET", &format!("{PATH}/{invocation}?wait=60"), BACKEND_KEY);
    let waiting = tokio::spawn(Answer::to(request));
    super::waiters::wait_for_waiters(&router, 1).await;
    router.stop().await;
    assert_eq!(waiting.await.unwrap().expect(200)["finished_at"], json!(null));
}

#[tokio::test]
async fn a_request_that_is_sent_again_finds_what_it_made() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let body = json!({"agent_id": target, "payload": {"n": 1}});
    let key = [("Idempotency-Key", "order-7")];
    let first = invoke(&router, &body, &key).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (202, ""));
    let again = invoke(&router, &body, &key).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, "true"));
    assert_eq!((id(&first.json()), first.header("location")), (id(&again.json()), again.header("location")));
    assert_eq!(again.json()["idempotency_key"], "order-7");

    let other = json!({"agent_id": target, "payload": {"n": 2}});
    assert_eq!(invoke(&router, &other, &key).await.problem(422), "idempotency_key_reused");
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("once")).await;
    agent.expect_nothing().await;
    let (third, wait) = (invoke(&router, &body, &[key[0], ("Prefer", "wait=20")]).await, "wait=20");
    assert_eq!((third.status, third.header("preference-applied")), (200, wait));
    assert_eq!(third.json()["result"], "once");

    // The same key from the same master's socket is the same key.
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke_with(&target, json!({"n": 1}), json!({"idempotency_key": "order-7"})).await;
    assert_eq!(socket.recv().await["invocation_id"], third.json()["id"]);
    // Another master's is not.
    let of_ml = Answer::to(router.request("POST", PATH, ML_KEY).header(key[0].0, key[0].1).json(&body)).await;
    assert_ne!(id(&of_ml.expect(202)), id(&third.json()));
}

#[tokio::test]
async fn the_journal_tells_the_same_as_of_an_invocation_from_a_socket() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let payload = json!({"x": [1, 2.50, "ü"]});
    socket.invoke_with(&target, payload.clone(), json!({"ttl_ms": 7_000})).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("a")).await;
    socket.recv().await;
    invoke(&router, &json!({"agent_id": target, "payload": payload, "ttl_ms": 7_000}), &[]).await.expect(202);
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("a")).await;
    let accepted = router.wait_for_events(&format!("kind=invocation.accepted&agent_id={target}"), 2).await;
    let mut lives = Vec::new();
    for event in &accepted {
        let invocation = event["invocation_id"].as_str().unwrap();
        router.wait_for_state(invocation, "completed").await;
        let life = router.life_of(invocation).await;
        lives.push(life.into_iter().filter(|kind| kind != "answer.delivered").collect::<Vec<_>>());
    }
    assert_eq!(lives[0], lives[1]);
    assert_eq!(
        (&accepted[0]["detail"]["origin"], &accepted[1]["detail"]["origin"]),
        (&json!("invoke_socket"), &json!("http"))
    );
    for field in ["ttl_ms", "deadline_ms", "max_attempts"] {
        assert_eq!(accepted[0]["detail"][field], accepted[1]["detail"][field], "{field}");
    }
    assert_eq!(accepted[0]["payload"]["request_payload"], accepted[1]["payload"]["request_payload"]);
}

#[tokio::test]
async fn the_agent_gets_the_bytes_that_came_and_the_trace() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let payload = r#"{"b":  1.50, "a": "\ud800", "n": NaN, "big": 100000000000000000000000}"#;
    let text = format!(r#"{{"payload": {payload}, "agent_id": "{target}"}}"#);
    let request = router.request("POST", PATH, BACKEND_KEY).header("content-type", "application/json; charset=utf-8");
    let accepted = Answer::to(request.header("traceparent", trace).body(text)).await.expect(202);
    let delivery = agent.recv_text().await;
    assert!(delivery.contains(payload) && delivery.contains(trace), "{delivery}");
    assert_eq!(accepted["payload"]["big"], "100000000000000000000000");
    let event = router.wait_for_event("kind=invocation.accepted").await;
    assert_eq!(event["detail"]["traceparent"], trace);
}

#[tokio::test]
async fn cancelling_ends_an_invocation_that_is_open_and_no_other() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let body = json!({"agent_id": target, "payload": {}});
    let first = id(&invoke(&router, &body, &[]).await.expect(202));
    let delivery = agent.recv().await;
    let cancel = async |key: &str, id: &str| router.post_as(key, &format!("{PATH}/{id}/cancel"), json!({})).await;
    assert_eq!(cancel(ML_KEY, &first).await.problem(404), "not_found");
    let cancelled = cancel(BACKEND_KEY, &first).await.expect(200);
    assert_eq!((&cancelled["state"], &cancelled["error"]["code"]), (&json!("cancelled"), &json!("cancelled")));
    agent.answer(&delivery, json!("late")).await;
    router.wait_for_event(&format!("kind=answer.late&invocation_id={first}")).await;

    let second = id(&invoke(&router, &body, &[]).await.expect(202));
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("done")).await;
    router.wait_for_state(&second, "completed").await;
    assert_eq!(cancel(BACKEND_KEY, &second).await.expect(200)["state"], "completed");
    assert_eq!(cancel(BACKEND_KEY, &agent_id()).await.problem(404), "not_found");
    assert_eq!(cancel(BACKEND_KEY, "7").await.problem(400), "malformed");
}

#[tokio::test]
async fn a_master_sees_its_own_and_an_auditor_all_with_secrets_hidden() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let payload = json!({"configs": {"credentials": {"api_key": "sk-live-1"}, "n": 1}});
    let ours = id(&invoke(&router, &json!({"agent_id": target, "payload": payload}), &[]).await.expect(202));
    let delivery = agent.recv().await;
    assert_eq!(delivery["request_payload"], payload);
    agent.answer(&delivery, json!({"token": "sk-live-2", "text": "fine"})).await;
    router.wait_for_state(&ours, "completed").await;
    let theirs = id(&router.post_as(ML_KEY, PATH, json!({"agent_id": target, "payload": {}})).await.expect(202));

    let own = router.get_as(BACKEND_KEY, &format!("{PATH}/{ours}")).await.expect(200);
    assert_eq!((&own["payload"], &own["result"]["token"]), (&payload, &json!("sk-live-2")));
    let audited = router.get_as(AUDITOR_KEY, &format!("{PATH}/{ours}")).await.expect(200);
    assert_eq!(audited["payload"], json!({"configs": {"credentials": "[redacted]", "n": 1}}));
    assert_eq!(audited["result"], json!({"token": "[redacted]", "text": "fine"}));
    router.get_as(BACKEND_KEY, &format!("{PATH}/{theirs}")).await.problem(404);

    let listed = async |key: &str, query: &str| {
        let page = router.get_as(key, &format!("{PATH}?{query}")).await.expect(200);
        page["invocations"].as_array().unwrap().iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(listed(BACKEND_KEY, "").await, [&*ours]);
    assert_eq!(listed(ML_KEY, "").await, [&*theirs]);
    assert_eq!(listed(AUDITOR_KEY, "").await, [&*theirs, &*ours]);
    assert_eq!(listed(AUDITOR_KEY, "order=asc").await, [&*ours, &*theirs]);
    assert_eq!(listed(AUDITOR_KEY, "caller=master_server_ml").await, [&*theirs]);
    assert!(listed(BACKEND_KEY, "caller=master_server_ml").await.is_empty());
    assert!(listed(AUDITOR_KEY, &format!("caller={}", "%C3%A9".repeat(200))).await.is_empty());
    assert!(!router.get_as(AUDITOR_KEY, PATH).await.text.contains("sk-live"));
}

#[tokio::test]
async fn a_list_is_filtered_and_read_page_by_page() {
    let router = Router::start().await;
    let targets = [agent_id(), agent_id()];
    for target in &targets {
        Peer::registered(&router, target).await.leave(&router).await;
    }
    let mut made = Vec::new();
    for n in 0..7 {
        let body =
            json!({"agent_id": targets[n % 2], "payload": {"n": n}, "metadata": {"request_id": format!("r{}", n % 3)}});
        made.push(id(&invoke(&router, &body, &[]).await.expect(202)));
    }
    let cancelled = &made[3];
    router.post_as(BACKEND_KEY, &format!("{PATH}/{cancelled}/cancel"), json!({})).await.expect(200);
    let all = async |query: &str| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = router.get_as(AUDITOR_KEY, &format!("{PATH}?limit=2&{query}{cursor}")).await.expect(200);
            let invocations = page["invocations"].as_array().unwrap();
            assert!(invocations.len() <= 2);
            found.extend(invocations.iter().map(id));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    };
    let made_by = |wanted: &dyn Fn(usize) -> bool| {
        made.iter().enumerate().filter(|(n, _)| wanted(*n)).map(|(_, id)| id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(all("order=asc").await, made);
    assert_eq!(all("").await, made.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(all(&format!("order=asc&agent_id={}", targets[1])).await, made_by(&|n| n % 2 == 1));
    assert_eq!(all("order=asc&request_id=r1").await, made_by(&|n| n % 3 == 1));
    assert_eq!(all("state=cancelled").await, [&**cancelled]);
    assert_eq!(all("order=asc&state=queued").await, made_by(&|n| n != 3));
    let fifth = router.invocation(&made[4]).await["accepted_at"].as_str().unwrap().to_owned();
    assert_eq!(all(&format!("order=asc&from={fifth}")).await, made[4..]);
    assert_eq!(all(&format!("order=asc&until={fifth}")).await, made[..4]);

    let page = router.get_as(AUDITOR_KEY, &format!("{PATH}?limit=2")).await.expect(200);
    let other = format!("{PATH}?order=asc&cursor={}", page["next"].as_str().unwrap());
    let refused = router.get_as(AUDITOR_KEY, &other).await;
    assert!(refused.problem(400) == "malformed" && refused.text.contains("other filters"), "{}", refused.text);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_its_code() {
    let router = Router::start().await;
    let away = agent_id();
    Peer::registered(&router, &away).await.leave(&router).await;
    assert_eq!(invoke(&router, &json!({"agent_id": agent_id()}), &[]).await.problem(404), "agent_unknown");
    let never = json!({"agent_id": away, "ttl_ms": 0});
    let refused = invoke(&router, &never, &[]).await;
    assert_eq!((refused.problem(503), refused.header("retry-after")), ("agent_away".to_owned(), "1"));
    let backend = json!({"agent_id": "master_server_be", "payload": {}});
    assert_eq!(invoke(&router, &backend, &[]).await.problem(403), "not_allowed");
    let refusals = router.wait_for_events("kind=invocation.refused", 3).await;
    assert_eq!(refusals[0]["detail"]["code"], "agent_unknown");
}

#[tokio::test]
async fn a_body_that_makes_no_sense_is_refused_and_says_where() {
    let router = Router::start().await;
    let post = async |body: &str| {
        let request = router.request("POST", PATH, BACKEND_KEY).header("content-type", "application/json");
        Answer::to(request.body(body.to_owned())).await
    };
    for (body, says) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not an object"),
        ("{}", "agent_id is missing"),
        (r#"{"agent_id": 7}"#, "agent_id is not a string"),
        (r#"{"agent_id": ""}"#, "agent_id is not a possible id"),
        (r#"{"agent_id": "a\u0000"}"#, "agent_id is not a possible id"),
        (r#"{"agent_id": "a", "payload": []}"#, "payload is not an object"),
        (r#"{"agent_id": "a", "metadata": "x"}"#, "metadata is not an object"),
        (r#"{"agent_id": "a", "ttl_ms": -1}"#, "ttl_ms is not a whole number"),
        (r#"{"agent_id": "a", "deadline_ms": 1.5}"#, "deadline_ms is not a whole number"),
        (r#"{"agent_id": "a", "max_attempts": 0}"#, "max_attempts is not a whole number"),
        (r#"{"agent_id": "a", "max_attempts": 101}"#, "more than MAX_ATTEMPTS_LIMIT"),
        (r#"{"agent_id": "a", "agent_uuid": "b"}"#, r#"field "agent_uuid" is unknown"#),
        (r#"{"agent_id": "a", "payload": {"n": [[1]]]}"#, "not JSON"),
    ] {
        let refused = post(body).await;
        assert_eq!(refused.problem(400), "malformed", "{body}");
        assert!(refused.text.contains(says.replace('"', "\\\"").as_str()), "{body}: {}", refused.text);
    }
    let deep = format!(r#"{{"agent_id": "a", "payload": {{"n": {}{}}}}}"#, "[".repeat(600), "]".repeat(600));
    assert_eq!(post(&deep).await.problem(400), "malformed");
    let nulls = r#"{"agent_id": "a", "payload": null, "metadata": null, "ttl_ms": null, "max_attempts": null}"#;
    assert_eq!(post(nulls).await.problem(404), "agent_unknown");
    let text = router.request("POST", PATH, BACKEND_KEY).header("content-type", "text/plain").body("{}");
    assert_eq!(Answer::to(text).await.problem(415), "malformed");
    let keyed = |key: &'static str| {
        router.request("POST", PATH, BACKEND_KEY).json(&json!({"agent_id": "a"})).header("idempotency-key", key)
    };
    for key in ["", "a\tb"] {
        assert_eq!(Answer::to(keyed(key)).await.problem(400), "malformed", "{key:?}");
    }
}
