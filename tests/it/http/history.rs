//! The history over HTTP: filtered, page by page, all of it, and its proof.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{AUDITOR_KEY, Answer, BACKEND_KEY, Peer, Router, agent_id};

/// Whether an event is among those that a query selects.
type Matches<'a> = dyn Fn(&Value) -> bool + 'a;

/// The answer to a query in some form.
async fn read(router: &Router, query: &str, accept: &str) -> Answer {
    Answer::to(router.request("GET", &format!("/v1/history?{query}"), AUDITOR_KEY).header("accept", accept)).await
}

/// A router with some invocations behind it, and whose they were.
async fn lively() -> (Router, Vec<String>) {
    let router = Router::start().await;
    let targets = vec![agent_id(), agent_id()];
    for (n, target) in targets.iter().enumerate() {
        let mut agent = Peer::registered(&router, target).await;
        for m in 0..3 {
            let metadata = json!({"request_id": format!("r{m}"), "session_id": format!("s{n}")});
            let body = json!({"agent_id": target, "payload": {"text": "a, \"b\"\r\nc"}, "metadata": metadata});
            let made = router.post_as(BACKEND_KEY, "/v1/invocations", body).await.expect(202);
            let delivery = agent.recv().await;
            agent.answer(&delivery, json!("done")).await;
            router.wait_for_state(made["id"].as_str().unwrap(), "completed").await;
        }
        agent.leave(&router).await;
    }
    (router, targets)
}

#[tokio::test]
async fn every_filter_selects_what_it_says_in_both_orders() {
    let (router, targets) = lively().await;
    let all = router.history("").await;
    let at = all[all.len() / 2]["at"].as_str().unwrap().to_owned();
    let one = all.iter().find_map(|event| event["invocation_id"].as_str()).unwrap().to_owned();
    let of_request = |event: &Value, name: &str, value: &str| {
        let accepted =
            |other: &&Value| other["invocation_id"] == event["invocation_id"] && other["kind"] == "invocation.accepted";
        event["invocation_id"].is_string()
            && all.iter().find(accepted).is_some_and(|accepted| accepted["detail"][name] == value)
    };
    let cases: Vec<(String, Box<Matches<'_>>)> = vec![
        (String::new(), Box::new(|_| true)),
        (format!("agent_id={}", targets[0]), Box::new(|event| event["agent_id"] == targets[0])),
        ("caller=master_server_be".to_owned(), Box::new(|event| event["caller"] == "master_server_be")),
        (format!("invocation_id={one}"), Box::new(|event| event["invocation_id"] == one)),
        ("kind=invocation.accepted".to_owned(), Box::new(|event| event["kind"] == "invocation.accepted")),
        (
            "kind=agent.registered,invocation.completed".to_owned(),
            Box::new(|event| event["kind"] == "agent.registered" || event["kind"] == "invocation.completed"),
        ),
        ("request_id=r1".to_owned(), Box::new(|event| of_request(event, "request_id", "r1"))),
        ("session_id=s1".to_owned(), Box::new(|event| of_request(event, "session_id", "s1"))),
        (format!("from={at}"), Box::new(|event| event["at"].as_str().unwrap() >= &*at)),
        (format!("until={at}"), Box::new(|event| event["at"].as_str().unwrap() < &*at)),
        (
            format!("agent_id={}&kind=invocation.started,invocation.delivered&session_id=s0&from={at}", targets[0]),
            Box::new(|event| {
                event["agent_id"] == targets[0]
                    && (event["kind"] == "invocation.started" || event["kind"] == "invocation.delivered")
                    && event["at"].as_str().unwrap() >= &*at
            }),
        ),
        (format!("agent_id={}", "%C3%A9".repeat(250)), Box::new(|_| false)),
    ];
    for (query, matches) in &cases {
        let mut expected: Vec<_> = all.iter().filter(|event| matches(event)).cloned().collect();
        assert_eq!(router.history(query).await, expected, "{query}");
        expected.reverse();
        assert_eq!(router.history(&format!("order=desc&{query}")).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_cursor_goes_on_where_it_was_given_and_with_the_same_filters_alone() {
    let (router, targets) = lively().await;
    let all = router.history("").await;
    for order in ["asc", "desc"] {
        let (mut read, mut cursor) = (Vec::new(), String::new());
        while read.len() < all.len() {
            let page =
                router.get_as(AUDITOR_KEY, &format!("/v1/history?limit=3&order={order}{cursor}")).await.expect(200);
            assert!(page["events"].as_array().unwrap().len() <= 3);
            read.extend(page["events"].as_array().unwrap().clone());
            cursor = format!("&cursor={}", page["next"].as_str().unwrap());
        }
        if order == "desc" {
            read.reverse();
        }
        assert_eq!(read, all);
        let page = router.get_as(AUDITOR_KEY, &format!("/v1/history?order={order}{cursor}")).await.expect(200);
        assert_eq!(page["events"], json!([]));
        for other in [
            format!("order={order}&agent_id={}", targets[0]),
            format!("order={}", ["asc", "desc"][usize::from(order == "asc")]),
        ] {
            let refused = router.get_as(AUDITOR_KEY, &format!("/v1/history?{other}{cursor}")).await;
            assert_eq!(refused.problem(400), "malformed");
            assert!(refused.text.contains("other filters"), "{}", refused.text);
        }
    }
    assert_eq!(router.get_as(AUDITOR_KEY, "/v1/history?cursor=x").await.problem(400), "malformed");
}

#[tokio::test]
async fn a_wait_follows_the_live_end() {
    let router = Router::start().await;
    let agent = agent_id();
    let path = format!("/v1/history?kind=agent.registered&agent_id={agent}");
    let page = router.get_as(AUDITOR_KEY, &path).await.expect(200);
    let path = format!("{path}&wait=20&cursor={}", page["next"].as_str().unwrap());
    let (page, peer) = tokio::join!(router.get_as(AUDITOR_KEY, &path), async {
        // Others' events come first, and end no wait.
        Peer::registered(&router, &agent_id()).await.leave(&router).await;
        Peer::registered(&router, &agent).await
    });
    let page = page.expect(200);
    assert_eq!(page["events"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(page["events"][0]["agent_id"], agent);
    peer.leave(&router).await;

    let started = Instant::now();
    let path =
        format!("/v1/history?kind=agent.registered&agent_id={agent}&wait=1&cursor={}", page["next"].as_str().unwrap());
    assert_eq!(router.get_as(AUDITOR_KEY, &path).await.expect(200)["events"], json!([]));
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn all_of_it_is_streamed_as_lines_and_as_a_table() {
    let (router, targets) = lively().await;
    let all = router.history("").await;
    let lines = read(&router, "", "application/x-ndjson").await;
    assert_eq!((lines.status, lines.header("content-type")), (200, "application/x-ndjson"));
    let parsed: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed, all);

    let mut reversed = all.clone();
    reversed.reverse();
    let lines = read(&router, "order=desc&limit=5", "application/x-ndjson, application/json;q=0.5").await;
    let parsed: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed, reversed[..5]);

    let table = read(&router, &format!("agent_id={}", targets[0]), "text/csv").await;
    assert_eq!((table.status, table.header("content-type")), (200, "text/csv; charset=utf-8; header=present"));
    let of_agent: Vec<_> = all.iter().filter(|event| event["agent_id"] == targets[0]).collect();
    let mut reader = csv::Reader::from_reader(table.text.as_bytes());
    let columns = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), of_agent.len());
    for (row, event) in rows.iter().zip(of_agent) {
        for (column, cell) in columns.iter().zip(row) {
            match &event[column] {
                Value::Null => assert_eq!(cell, "", "{column}"),
                Value::String(text) => assert_eq!(cell, text, "{column}"),
                other => assert_eq!(serde_json::from_str::<Value>(cell).unwrap(), *other, "{column}"),
            }
        }
    }
    let none = read(&router, "kind=payload.erased", "text/csv").await;
    assert_eq!(none.text.lines().count(), 1, "the header: {}", none.text);
    let of_nobody = format!("agent_id={}", "%C3%A9".repeat(200));
    assert_eq!(read(&router, &of_nobody, "application/x-ndjson").await.text, "");
    assert_eq!(read(&router, "", "text/html").await.problem(406), "malformed");
    assert_eq!(read(&router, "", "text/html, */*;q=0.1").await.status, 200);
}

#[tokio::test]
async fn an_export_goes_on_from_a_cursor_and_ends_at_the_head_of_its_beginning() {
    let (router, _) = lively().await;
    let all = router.history("").await;
    let page = router.get_as(AUDITOR_KEY, "/v1/history?limit=10").await.expect(200);
    let rest = read(&router, &format!("cursor={}", page["next"].as_str().unwrap()), "application/x-ndjson").await;
    let positions: Vec<_> =
        rest.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].clone()).collect();
    assert_eq!(positions, all[10..].iter().map(|event| event["position"].clone()).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_life_of_an_invocation_is_read_from_its_first_event_to_its_last() {
    let (router, _) = lively().await;
    let accepted = router.history("kind=invocation.accepted").await;
    let id = accepted[0]["invocation_id"].as_str().unwrap();
    let life = router.get_as(AUDITOR_KEY, &format!("/v1/invocations/{id}/history")).await.expect(200);
    assert_eq!(life["events"], json!(router.history(&format!("invocation_id={id}")).await));
    assert_eq!(life["events"][0]["kind"], "invocation.accepted");
    let lines = router.request("GET", &format!("/v1/invocations/{id}/history?order=desc"), AUDITOR_KEY);
    let lines = Answer::to(lines.header("accept", "application/x-ndjson")).await;
    assert_eq!(lines.text.lines().count(), life["events"].as_array().unwrap().len());
    assert_eq!(
        router.get_as(AUDITOR_KEY, &format!("/v1/invocations/{}/history", agent_id())).await.problem(404),
        "not_found"
    );
}

#[tokio::test]
async fn the_head_is_the_newest_event_and_the_chain_up_to_it_is_verified() {
    let (router, _) = lively().await;
    let all = router.history("").await;
    let newest = all.last().unwrap();
    let head = router.get_as(AUDITOR_KEY, "/v1/history/head").await.expect(200);
    assert_eq!(head, json!({"position": newest["position"], "hash": newest["hash"]}));

    let found = router.get_as(AUDITOR_KEY, "/v1/history/verify").await.expect(200);
    let expected =
        json!({"status": "intact", "from": 1, "events": all.len(), "erased": 0, "pruned": null, "head": head});
    assert_eq!(found, expected);
    let part = router.get_as(AUDITOR_KEY, "/v1/history/verify?from=3&to=5").await.expect(200);
    assert_eq!((&part["status"], &part["from"], &part["events"]), (&json!("intact"), &json!(3), &json!(3)));
    assert_eq!(part["head"], json!({"position": 5, "hash": all[4]["hash"]}));
    for range in ["from=5&to=3", "to=1000000"] {
        let path = format!("/v1/history/verify?{range}");
        assert_eq!(router.get_as(AUDITOR_KEY, &path).await.problem(404), "not_found", "{range}");
    }
    assert_eq!(router.get_as(AUDITOR_KEY, "/v1/history/verify?from=0").await.problem(400), "malformed");
}

#[tokio::test]
async fn an_event_that_was_changed_is_found() {
    let (mut router, _) = lively().await;
    router.stop().await;
    router.execute("UPDATE journal SET detail = '{}' WHERE position = 4").await;
    router.start_again().await;
    let found = router.get_as(AUDITOR_KEY, "/v1/history/verify").await.expect(200);
    assert_eq!((&found["status"], &found["position"]), (&json!("broken"), &json!(4)), "{found}");
}

/// A cursor of the same list with another place in it.
fn moved(cursor: &str, place: i64) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
    let list = bytes.len() - 8;
    bytes[list..].copy_from_slice(&place.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test]
async fn what_is_beyond_the_newest_event_is_refused_and_not_waited_for() {
    let router = Router::start().await;
    let page = router.get_as(AUDITOR_KEY, "/v1/history").await.expect(200);
    let cursor = page["next"].as_str().unwrap();
    let newest = page["events"].as_array().unwrap().len();
    for (place, status) in [(i64::try_from(newest).unwrap(), 200), (1_000_000, 400), (i64::MAX, 400)] {
        let cursor = moved(cursor, place);
        for accept in ["application/json", "application/x-ndjson"] {
            let answer = read(&router, &format!("cursor={cursor}"), accept).await;
            assert_eq!(answer.status, status, "{place}: {}", answer.text);
        }
        if status == 400 {
            let refused = router.get_as(AUDITOR_KEY, &format!("/v1/history/stream?cursor={cursor}")).await;
            assert_eq!(refused.problem(400), "malformed");
            assert!(refused.text.contains("begin anew"), "{}", refused.text);
        }
    }
}

#[tokio::test]
async fn filters_that_look_alike_when_joined_are_not_the_same_list() {
    let router = Router::start().await;
    let page = router.get_as(AUDITOR_KEY, "/v1/history?request_id=a%0Asession_id%3Db").await.expect(200);
    let other = format!("/v1/history?request_id=a&session_id=b&cursor={}", page["next"].as_str().unwrap());
    assert_eq!(router.get_as(AUDITOR_KEY, &other).await.problem(400), "malformed");
}

#[tokio::test]
async fn what_could_end_early_without_a_sign_is_not_streamed() {
    let router = Router::start().await;
    for (accept, status) in [("application/x-ndjson", 505), ("text/csv", 505), ("application/json", 200)] {
        let request = router.request("GET", "/v1/history", AUDITOR_KEY).version(reqwest::Version::HTTP_10);
        let answer = Answer::to(request.header("accept", accept)).await;
        assert_eq!(answer.status, status, "{accept}: {}", answer.text);
    }
}
