//! How soon a long history answers, and what it takes to stream all of it.
//!
//! ```text
//! cargo bench --bench history
//! cargo bench --bench history -- --events 10000000 --requests 1000
//! ```
//!
//! A journal of that many events is written first, as a router would have written it, unless the folder has one from
//! before. Then the router is started on it, and a client asks over HTTP, one request after the other on one connection:
//! by each filter, for values that are frequent, rare and not there at all, and from cursors all over the journal. Last,
//! everything is exported, over HTTP and by the command line, with the memory that it takes.
//!
//! - `options`: what is measured. `journal`: a long history, written. `http`: one connection. `process`: the router, and
//!   what it takes of the machine. `report`: the table.

mod http;
mod journal;
mod options;
mod process;
mod report;

use std::time::Instant;

use clap::Parser;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use http::Connection;
use journal::Written;
use options::Options;
use process::Router;
use report::{Latencies, Streamed};

/// Whatever makes a measurement worthless, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Events on a page.
const PAGE: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let path = options.dir.join(format!("history-{}.db", options.events));
    let written = journal::written(&path, options.events).await?;
    let mut router = Router::start(&path)?;
    let mut connection = Connection::open(router.address()).await?;

    let cursors = walk(&mut connection, written.head).await?;
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut measured = Vec::new();
    for (name, query) in queries(&written, &cursors) {
        measured.push(measure(&mut connection, name, &options, &mut random, &query).await?);
    }
    print!("{}", report::latencies(written.head, &measured));

    let before = router.forget_peak()?;
    let started = Instant::now();
    let (bytes, lines) = connection.stream("/v1/history", "application/x-ndjson").await?;
    let took = started.elapsed();
    let (added, took_http) = (router.peak_kib()?.saturating_sub(before), took);
    check_lines(lines, written.head)?;
    let over_http = Streamed { name: "GET /v1/history as NDJSON", bytes, took: took_http, memory_kib: added };
    let by_command = process::export(&path)?;
    print!("{}", report::streams(&[over_http, by_command]));
    router.stop()
}

/// Goes through all of it by full pages; returns the cursors on the way.
async fn walk(connection: &mut Connection, head: i64) -> Result<Vec<String>, Failure> {
    let mut cursors = Vec::new();
    let mut path = "/v1/history?limit=1000".to_owned();
    loop {
        let page = connection.get(&path).await?;
        let last = page["events"].as_array().and_then(|events| events.last()).map(|event| event["position"].clone());
        let Some(last) = last else { return Err("the walk found no end".into()) };
        let next = page["next"].as_str().ok_or("`next` is always there")?.to_owned();
        if last.as_i64().is_some_and(|last| last >= head) {
            return Ok(cursors);
        }
        path = format!("/v1/history?limit=1000&cursor={next}");
        // A cursor belongs to its filters, not to its limit.
        cursors.push(next);
    }
}

/// What is asked for: a name, and how a query is made.
type Query<'a> = (&'static str, Box<dyn Fn(&mut StdRng) -> String + 'a>);

fn queries<'a>(written: &'a Written, cursors: &'a [String]) -> Vec<Query<'a>> {
    let pick = |random: &mut StdRng, of: &'a [String]| of[random.random_range(0..of.len())].clone();
    let page = |filter: String| format!("/v1/history?limit={PAGE}&{filter}");
    let newest = |filter: String| format!("/v1/history?limit={PAGE}&order=desc&{filter}");
    vec![
        ("first page", Box::new(move |_| page(String::new()))),
        ("newest page", Box::new(move |_| newest(String::new()))),
        ("from a cursor anywhere", Box::new(move |random| page(format!("cursor={}", pick(random, cursors))))),
        ("by agent", Box::new(move |random| page(format!("agent_id={}", pick(random, &written.agents))))),
        (
            "by agent, newest first",
            Box::new(move |random| newest(format!("agent_id={}", pick(random, &written.agents)))),
        ),
        ("by a rare agent", Box::new(move |_| page(format!("agent_id={}", journal::RARE_AGENT)))),
        ("by an agent that is not there", Box::new(move |_| page("agent_id=nobody".to_owned()))),
        ("by caller", Box::new(move |random| page(format!("caller={}", pick(random, &written.callers))))),
        (
            "by invocation",
            Box::new(move |random| page(format!("invocation_id={}", pick(random, &written.invocations)))),
        ),
        ("by request id", Box::new(move |random| page(format!("request_id={}", pick(random, &written.requests))))),
        ("by session id", Box::new(move |random| page(format!("session_id={}", pick(random, &written.sessions))))),
        ("by a frequent kind", Box::new(move |_| page("kind=invocation.completed".to_owned()))),
        ("by a rare kind", Box::new(move |_| page("kind=invocation.failed".to_owned()))),
        ("by a kind that is not there", Box::new(move |_| page("kind=agent.dismissed".to_owned()))),
        (
            "by agent and kind",
            Box::new(move |random| page(format!("kind=invocation.failed&agent_id={}", pick(random, &written.agents)))),
        ),
        ("by time", Box::new(move |random| page(format!("from={}", written.time(random.random()))))),
        (
            "by agent and time",
            Box::new(move |random| {
                let from = written.time(random.random());
                page(format!("from={from}&agent_id={}", pick(random, &written.agents)))
            }),
        ),
        ("invocations: newest", Box::new(move |_| format!("/v1/invocations?limit={PAGE}"))),
        (
            "invocations: by agent",
            Box::new(move |random| format!("/v1/invocations?limit={PAGE}&agent_id={}", pick(random, &written.agents))),
        ),
        ("invocations: failed", Box::new(move |_| format!("/v1/invocations?limit={PAGE}&state=failed"))),
    ]
}

async fn measure(
    connection: &mut Connection,
    name: &'static str,
    options: &Options,
    random: &mut StdRng,
    query: &dyn Fn(&mut StdRng) -> String,
) -> Result<Latencies, Failure> {
    let mut latencies = Vec::with_capacity(options.requests);
    let mut found = 0;
    for _ in 0..options.requests {
        let path = query(random);
        let started = Instant::now();
        let page = connection.get(&path).await?;
        latencies.push(started.elapsed());
        let list = page.get("events").or_else(|| page.get("invocations"));
        found += list.and_then(|list| list.as_array()).map_or(0, Vec::len);
    }
    latencies.sort_unstable();
    Ok(Latencies { name, found: found / options.requests.max(1), sorted: latencies })
}

fn check_lines(lines: usize, head: i64) -> Result<(), Failure> {
    // What the router has journaled since it was started comes on top.
    match i64::try_from(lines) {
        Ok(lines) if lines >= head => Ok(()),
        _ => Err(format!("{lines} of {head} events were streamed").into()),
    }
}
