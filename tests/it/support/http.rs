//! The router over HTTP: asked with somebody's key, and read with the auditor's.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::credentials::AUDITOR_KEY;
use super::router::{PATIENCE, Router};

/// An answer over HTTP, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

/// Events of the journal, and where they go on.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) events: Vec<Value>,
    cursor: String,
}

impl Answer {
    /// Sends a request and reads the answer.
    pub(crate) async fn to(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("the router answers over HTTP");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.expect("the answer comes to its end") }
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("it is text"))
    }

    /// The body, which is JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body, which comes with this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// The code of the problem that comes with this status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(problem["status"], status, "{problem}");
        problem["code"].as_str().expect("a problem has a code").to_owned()
    }
}

impl Router {
    /// A request with somebody's key, to be completed and sent.
    pub(crate) fn request(&self, method: &str, path: &str, key: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        self.http.request(method, self.url(path)).header("api-key", key)
    }

    /// `GET` with somebody's key.
    pub(crate) async fn get_as(&self, key: &str, path: &str) -> Answer {
        Answer::to(self.request("GET", path, key)).await
    }

    /// `POST` of a JSON body with somebody's key.
    pub(crate) async fn post_as(&self, key: &str, path: &str, body: Value) -> Answer {
        Answer::to(self.request("POST", path, key).json(&body)).await
    }

    /// The page at `path` with the auditor's key: its status, and its JSON if it is JSON.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.get_as(AUDITOR_KEY, path).await;
        (answer.status, serde_json::from_str(&answer.text).unwrap_or_default())
    }

    /// Posts JSON text to `/invoke-agent`, with a key or without.
    pub(crate) async fn post_invoke_agent(&self, key: Option<&str>, body: &str) -> (u16, Value) {
        let mut request = self.http.post(self.url("/invoke-agent")).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("api-key", key);
        }
        let response = request.body(body.to_owned()).send().await.expect("the router answers over HTTP");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// All events of the journal that a query such as `kind=agent.registered` selects, in order.
    pub(crate) async fn history(&self, query: &str) -> Vec<Value> {
        let mut journal = Journal::default();
        self.read_on(query, &mut journal).await;
        journal.events
    }

    /// Reads on to the end from where it was left with the same query.
    pub(crate) async fn read_on(&self, query: &str, journal: &mut Journal) {
        loop {
            let (status, page) = self.get(&format!("/v1/history?limit=1000&{query}{}", journal.cursor)).await;
            assert_eq!(status, 200, "{query}: {page}");
            let Value::Array(more) = &page["events"] else { panic!("no events in {page}") };
            if more.is_empty() {
                return;
            }
            journal.events.extend(more.iter().cloned());
            journal.cursor = format!("&cursor={}", page["next"].as_str().expect("`next` is always there"));
        }
    }

    /// Waits for the first event that the query selects.
    pub(crate) async fn wait_for_event(&self, query: &str) -> Value {
        self.wait_for_events(query, 1).await.remove(0)
    }

    /// Waits until the query selects so many events.
    pub(crate) async fn wait_for_events(&self, query: &str, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.history(query).await;
            if events.len() >= count {
                return events;
            }
            if Instant::now() > deadline {
                let kinds: Vec<_> = self.history("").await.iter().map(brief).collect();
                panic!("{query}: {} of {count} events; the journal has {kinds:#?}", events.len());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The kinds of all events about an invocation, in order.
    pub(crate) async fn life_of(&self, invocation: &str) -> Vec<String> {
        let events = self.history(&format!("invocation_id={invocation}")).await;
        events.iter().map(|event| event["kind"].as_str().expect("a kind").to_owned()).collect()
    }

    /// The invocation as it stands.
    pub(crate) async fn invocation(&self, id: &str) -> Value {
        let (status, invocation) = self.get(&format!("/v1/invocations/{id}")).await;
        assert_eq!(status, 200, "{id}: {invocation}");
        invocation
    }

    /// Waits until the invocation is in that state.
    pub(crate) async fn wait_for_state(&self, id: &str, state: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let invocation = self.invocation(id).await;
            if invocation["state"] == state {
                return invocation;
            }
            assert!(Instant::now() < deadline, "{id} is not {state}: {invocation}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The id of the newest invocation that was accepted for an agent.
    pub(crate) async fn newest_invocation_of(&self, agent: &str) -> String {
        let query = format!("kind=invocation.accepted&agent_id={agent}");
        self.wait_for_event(&query).await;
        let events = self.history(&query).await;
        let newest = events.last().expect("there is one");
        newest["invocation_id"].as_str().expect("an invocation's event has its id").to_owned()
    }
}

fn brief(event: &Value) -> Value {
    json!([event["position"], event["kind"], event["agent_id"], event["detail"]])
}
