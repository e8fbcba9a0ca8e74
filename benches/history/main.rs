//! How soon a long history answers, how soon a router starts on it, and what it takes to stream all of it.
//!
//! ```text
//! cargo bench --bench history
//! cargo bench --bench history -- --events 10000000
//! ```
//!
//! A journal of that many events is written first, as a router would have written it, unless the folder has one from
//! before. Then the router is started on it, and a client asks over HTTP, one request after the other on one connection:
//! by each filter, for values that are frequent, rare and not there at all, from the oldest on, from the newest back, and
//! from anywhere. With `--export`, everything is exported then, over HTTP and by the command line, with the memory that it
//! takes. Last, the router is started, several times, on a second journal, with many open invocations.
//!
//! - `options`: what is measured. `journal`: a long history, written. `http`: one connection. `pages`: what is asked.
//!   `start`: starts. `process`: the router, and what it takes of the machine. `report`: the tables.

mod http;
mod journal;
mod options;
mod pages;
mod process;
mod report;
mod start;

use std::time::Instant;

use clap::Parser;

use http::Connection;
use journal::Extent;
use options::Options;
use process::Router;
use report::Streamed;

/// Whatever makes a measurement worthless, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    if options.events > 0 {
        history(&options).await?;
    }
    if options.open > 0 {
        starts(&options).await?;
    }
    Ok(())
}

async fn history(options: &Options) -> Result<(), Failure> {
    let path = options.dir.join(format!("history-{}.db", options.events));
    let written = journal::written(&path, Extent { events: options.events, finished: 0, open: 0 }).await?;
    if options.only_write {
        return Ok(());
    }
    let mut router = Router::start(&path)?;
    let rows = pages::measure(&router, &written, options).await?;
    print!("{}", report::pages(written.head, &rows));
    for list in ["/v1/history", "/v1/invocations"] {
        println!(
            "{list}, the slowest p99: {:.1} ms (at most 20, aim 5, for a single filter)",
            report::slowest(&rows, list).as_secs_f64() * 1e3
        );
    }
    if options.export {
        let before = router.forget_peak()?;
        let started = Instant::now();
        let connection = Connection::open(router.address()).await?;
        let (bytes, lines) = connection.stream("/v1/history", "application/x-ndjson").await?;
        let took = started.elapsed();
        check_lines(lines, written.head)?;
        let memory_kib = router.peak_kib()?.saturating_sub(before);
        let over_http = Streamed { name: "GET /v1/history as NDJSON", bytes, took, memory_kib };
        print!("\n{}", report::streams(&[over_http, process::export(&path)?]));
    }
    router.stop()
}

async fn starts(options: &Options) -> Result<(), Failure> {
    let Options { finished, open, .. } = *options;
    let path = options.dir.join(format!("open-{finished}-{open}.db"));
    journal::written(&path, Extent { events: 0, finished, open }).await?;
    if options.only_write {
        return Ok(());
    }
    let took = start::measure(&path)?;
    let milliseconds: Vec<_> = took.iter().map(|took| format!("{:.0}", took.as_secs_f64() * 1e3)).collect();
    println!(
        "\nstarts with {finished} finished and {open} open invocations, ms: {} (at most 2000, aim 300)",
        milliseconds.join(" ")
    );
    Ok(())
}

fn check_lines(lines: usize, head: i64) -> Result<(), Failure> {
    // What the router has journaled since it was started comes on top.
    match i64::try_from(lines) {
        Ok(lines) if lines >= head => Ok(()),
        _ => Err(format!("{lines} of {head} events were streamed").into()),
    }
}
