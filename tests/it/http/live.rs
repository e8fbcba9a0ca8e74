//! The live history: events as they happen, once each, whatever ends the stream.

use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{AUDITOR_KEY, PATIENCE, Peer, Router, agent_id};

/// What came of a stream of events.
struct Stream {
    bytes: futures_util::stream::BoxStream<'static, reqwest::Result<axum::body::Bytes>>,
    text: String,
    last_id: Option<String>,
}

impl Stream {
    async fn open(router: &Router, query: &str, last_id: Option<&str>) -> Self {
        let mut request = router.request("GET", &format!("/v1/history/stream?{query}"), AUDITOR_KEY);
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { bytes: response.bytes_stream().boxed(), text: String::new(), last_id: None }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let (message, rest) = (message.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                self.last_id = field("id: ").or(self.last_id.take());
                if let Some(event) = field("data: ") {
                    let event: Value = serde_json::from_str(&event).unwrap();
                    assert_eq!(self.last_id, Some(event["position"].to_string()));
                    return Some(event);
                }
                continue;
            }
            let more = timeout(PATIENCE, self.bytes.next()).await.expect("something is said in time");
            // A router that is killed ends a stream as well as one that stops.
            self.text.push_str(str::from_utf8(&more?.ok()?).unwrap());
        }
    }
}

#[tokio::test]
async fn events_come_as_they_happen_from_now_on() {
    let router = Router::start().await;
    let (agent, other) = (agent_id(), agent_id());
    Peer::registered(&router, &agent).await.leave(&router).await;
    let mut stream = Stream::open(&router, &format!("agent_id={agent}&kind=agent.registered"), None).await;
    Peer::registered(&router, &other).await.leave(&router).await;
    let _peer = Peer::registered(&router, &agent).await;
    let event = stream.next().await.unwrap();
    let registered = router.history(&format!("agent_id={agent}&kind=agent.registered")).await;
    assert_eq!((event["agent_id"].as_str(), Some(&event)), (Some(&*agent), registered.get(1)));
}

#[tokio::test]
async fn a_stream_begins_where_its_reader_says() {
    let router = Router::start().await;
    Peer::registered(&router, &agent_id()).await.leave(&router).await;
    let all = router.history("").await;
    let beginning = all[0]["at"].as_str().unwrap();
    let mut stream = Stream::open(&router, &format!("from={beginning}"), None).await;
    for event in &all {
        assert_eq!(stream.next().await.as_ref(), Some(event));
    }
    let page = router.get_as(AUDITOR_KEY, "/v1/history?limit=2").await.expect(200);
    let cursor = page["next"].as_str().unwrap();
    let mut stream = Stream::open(&router, &format!("cursor={cursor}"), None).await;
    assert_eq!(stream.next().await.as_ref(), Some(&all[2]));
    let mut stream = Stream::open(&router, &format!("cursor={cursor}"), Some("3")).await;
    assert_eq!(stream.next().await.as_ref(), Some(&all[3]));
    for (query, id) in [("", "x"), ("", "-1"), ("", "999999"), ("limit=1", "1"), ("cursor=x", "1")] {
        let request = router.request("GET", &format!("/v1/history/stream?{query}"), AUDITOR_KEY);
        assert_eq!(request.header("Last-Event-ID", id).send().await.unwrap().status(), 400, "{query} {id}");
    }
}

#[tokio::test]
async fn whoever_comes_back_misses_nothing_and_gets_nothing_twice() {
    let mut router = Router::with(&[("STREAM_LIFETIME", "150ms")]).await;
    let (mut seen, mut last) = (Vec::new(), Some("0".to_owned()));
    for round in 0..12 {
        let mut stream = Stream::open(&router, "", last.as_deref()).await;
        let agent = agent_id();
        Peer::registered(&router, &agent).await.leave(&router).await;
        if round % 4 == 3 {
            router.kill_and_start_again().await;
        }
        while let Some(event) = stream.next().await {
            seen.push(event["position"].as_i64().unwrap());
        }
        last = stream.last_id.or(last);
    }
    let head = router.get_as(AUDITOR_KEY, "/v1/history/head").await.expect(200)["position"].as_i64().unwrap();
    let mut stream = Stream::open(&router, "", last.as_deref()).await;
    while *seen.last().unwrap() < head {
        seen.push(stream.next().await.unwrap()["position"].as_i64().unwrap());
    }
    assert_eq!(seen, (1..=*seen.last().unwrap()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_shutdown_ends_streams_at_once() {
    let mut router = Router::start().await;
    let mut stream = Stream::open(&router, "kind=journal.pruned", None).await;
    let (end, printed) = tokio::join!(stream.next(), router.stop());
    assert_eq!(end, None);
    assert!(!printed.is_empty());
}

#[tokio::test]
async fn no_more_answers_are_streamed_than_may_be() {
    let router = Router::with(&[("MAX_STREAMS", "2")]).await;
    let first = Stream::open(&router, "", None).await;
    let _second = Stream::open(&router, "", None).await;
    let refused = router.get_as(AUDITOR_KEY, "/v1/history/stream").await;
    assert_eq!((refused.problem(429), refused.header("retry-after")), ("rate_limited".to_owned(), "1"));
    let export = router.request("GET", "/v1/history", AUDITOR_KEY).header("accept", "text/csv");
    assert_eq!(export.send().await.unwrap().status(), 429);
    drop(first);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while router.get_as(AUDITOR_KEY, "/v1/history/head").await.status == 200 {
        let export = router.request("GET", "/v1/history", AUDITOR_KEY).header("accept", "text/csv");
        if export.send().await.unwrap().status() == 200 {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "a stream whose reader is gone gives its place back");
    }
}
