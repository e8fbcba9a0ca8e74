//! Redis Streams: a stream of tasks with a group of consumers, and a stream of answers.
//!
//! What a command changes is synced before its reply leaves, and before a waiting reader is told of it: Redis writes its
//! append-only file at the end of each turn of its loop, and the replies after that.

use std::io::Write;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Failure;
use crate::line::Line;
use crate::load::{Load, Questions};
use crate::resp::{self, Value};

/// Answers in one reply.
const PAGE: &str = "1024";

/// Has this load done by the server at `port`.
pub(crate) async fn run(port: u16, load: &Load) -> Result<Vec<Duration>, Failure> {
    let mut asking = Line::open(port).await?;
    command(&mut asking, &[b"FLUSHALL"]);
    command(&mut asking, &[b"XGROUP", b"CREATE", b"tasks", b"workers", b"$", b"MKSTREAM"]);
    asking.flush().await?;
    for _ in 0..2 {
        reply(&mut asking).await?;
    }
    let mut workers = JoinSet::new();
    for number in 0..load.workers {
        workers.spawn(work(Line::open(port).await?, format!("worker {number}"), load.share()));
    }
    tokio::select! {
        latencies = master(asking, Line::open(port).await?, load) => latencies,
        Some(worker) = workers.join_next() => match worker? { Ok(never) => match never {}, Err(failure) => Err(failure) },
    }
}

/// Asks on one connection and waits for answers on another, as a connection that waits takes no other command.
async fn master(mut asking: Line, mut answers: Line, load: &Load) -> Result<Vec<Duration>, Failure> {
    let mut questions = Questions::new(load);
    for payload in questions.first() {
        command(&mut asking, &[b"XADD", b"tasks", b"*", b"p", payload.as_bytes()]);
    }
    asking.flush().await?;
    let mut last = "0".to_owned();
    wait_for_answers(&mut answers, &last).await?;
    while !questions.are_settled() {
        tokio::select! {
            received = answers.receive() => received?,
            received = asking.receive() => {
                received?;
                while let Some(bytes) = next(&mut asking)? {
                    checked(&bytes)?;
                }
                continue;
            }
            () = sleep_until(questions.too_late()) => return Err("answers are missing".into()),
        }
        let Some(reply) = next(&mut answers)? else { continue };
        let now = Instant::now();
        for (id, payload) in entries(&checked(&reply)?) {
            if let Some(payload) = questions.answered(payload, now)? {
                command(&mut asking, &[b"XADD", b"tasks", b"*", b"p", payload.as_bytes()]);
            }
            last = String::from_utf8_lossy(id).into_owned();
        }
        asking.flush().await?;
        wait_for_answers(&mut answers, &last).await?;
    }
    Ok(questions.latencies())
}

async fn wait_for_answers(line: &mut Line, last: &str) -> Result<(), Failure> {
    command(line, &[b"XREAD", b"COUNT", PAGE.as_bytes(), b"BLOCK", b"0", b"STREAMS", b"answers", last.as_bytes()]);
    line.flush().await
}

/// Takes up to `share` tasks at a time. What it says about them, and that it waits for the next ones, is one write.
async fn work(mut line: Line, name: String, share: u32) -> Result<std::convert::Infallible, Failure> {
    let share = share.to_string();
    loop {
        command(
            &mut line,
            &[
                b"XREADGROUP",
                b"GROUP",
                b"workers",
                name.as_bytes(),
                b"COUNT",
                share.as_bytes(),
                b"BLOCK",
                b"0",
                b"STREAMS",
                b"tasks",
                b">",
            ],
        );
        line.flush().await?;
        // First the replies to what was said before, which are no lists.
        let tasks = loop {
            let bytes = reply(&mut line).await?;
            if bytes.starts_with(b"*") {
                break bytes;
            }
        };
        let tasks = checked(&tasks)?;
        let tasks = entries(&tasks);
        let mut done: Vec<&[u8]> = vec![b"XACK", b"tasks", b"workers"];
        for (id, payload) in tasks {
            command(&mut line, &[b"XADD", b"answers", b"*", b"p", payload]);
            done.push(id);
        }
        command(&mut line, &done);
    }
}

fn command(line: &mut Line, words: &[&[u8]]) {
    let out = &mut line.outgoing;
    write!(out, "*{}\r\n", words.len()).expect("a vector takes every byte");
    for word in words {
        write!(out, "${}\r\n", word.len()).expect("a vector takes every byte");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

async fn reply(line: &mut Line) -> Result<bytes::Bytes, Failure> {
    loop {
        if let Some(bytes) = next(line)? {
            checked(&bytes)?;
            return Ok(bytes);
        }
        line.receive().await?;
    }
}

/// The bytes of the next reply, if all of it has come.
fn next(line: &mut Line) -> Result<Option<bytes::Bytes>, Failure> {
    Ok(resp::length(line.peek())?.map(|length| line.take(0, length)))
}

fn checked(reply: &[u8]) -> Result<Value<'_>, Failure> {
    match resp::parse(reply)? {
        Value::Error(said) => Err(format!("Redis says {}", String::from_utf8_lossy(said)).into()),
        value => Ok(value),
    }
}

/// Ids and payloads in the reply to a read of one stream: `[[stream, [[id, [field, payload]], …]]]`.
fn entries<'a>(reply: &Value<'a>) -> Vec<(&'a [u8], &'a [u8])> {
    let entry = |entry: &Value<'a>| {
        let entry = entry.list()?;
        Some((entry.first()?.text()?, entry.get(1)?.list()?.get(1)?.text()?))
    };
    let entries = || reply.list()?.first()?.list()?.get(1)?.list();
    entries().unwrap_or_default().iter().filter_map(entry).collect()
}
