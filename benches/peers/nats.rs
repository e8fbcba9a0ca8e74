//! NATS JetStream: a stream of tasks from which workers pull, and a stream of answers that is pushed to the master.
//!
//! With `sync_interval: always` a message is synced before it is acknowledged and before a consumer gets it.

use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Failure;
use crate::line::Line;
use crate::load::{Load, Questions};

/// How many messages a worker asks for, and how many of them it has left when it asks again. So do the usual clients.
const PULL: u32 = 200;
const PULL_AGAIN: u32 = 100;

/// A message, or that there is none.
#[derive(Debug)]
struct Message {
    /// Which subscription it is for.
    subscription: u8,
    reply: Option<String>,
    /// With headers it is word of the server's, not a message of somebody's.
    has_headers: bool,
    payload: Bytes,
}

/// Has this load done by the server at `port`.
pub(crate) async fn run(port: u16, load: &Load) -> Result<Vec<Duration>, Failure> {
    let mut line = connect(port).await?;
    subscribe(&mut line, "inbox.master", 1);
    subscribe(&mut line, "inbox.answers", 2);
    for stream in ["TASKS", "ANSWERS"] {
        // The first time there is none, which is as well.
        call(&mut line, &format!("STREAM.DELETE.{stream}"), &json!({})).await?;
    }
    let limits = json!({"storage": "file", "num_replicas": 1});
    let stream = |name: &str, subject: &str, retention: &str| {
        let mut stream = limits.clone();
        stream["name"] = name.into();
        stream["subjects"] = json!([subject]);
        stream["retention"] = retention.into();
        stream
    };
    succeed(&mut line, "STREAM.CREATE.TASKS", &stream("TASKS", "tasks", "workqueue")).await?;
    succeed(&mut line, "STREAM.CREATE.ANSWERS", &stream("ANSWERS", "answers", "limits")).await?;
    let workers = json!({"durable_name": "workers", "ack_policy": "explicit", "max_ack_pending": 20_000});
    let request = json!({"stream_name": "TASKS", "config": workers});
    succeed(&mut line, "CONSUMER.DURABLE.CREATE.TASKS.workers", &request).await?;
    let master = json!({"deliver_subject": "inbox.answers", "deliver_policy": "all", "ack_policy": "none"});
    let request = json!({"stream_name": "ANSWERS", "config": master});
    succeed(&mut line, "CONSUMER.CREATE.ANSWERS", &request).await?;

    let mut workers = JoinSet::new();
    for number in 0..load.workers {
        workers.spawn(work(connect(port).await?, number));
    }
    tokio::select! {
        latencies = master_of(line, load) => latencies,
        Some(worker) = workers.join_next() => match worker? { Ok(never) => match never {}, Err(failure) => Err(failure) },
    }
}

async fn master_of(mut line: Line, load: &Load) -> Result<Vec<Duration>, Failure> {
    let mut questions = Questions::new(load);
    for payload in questions.first() {
        publish(&mut line, "tasks", Some("inbox.master"), payload.as_bytes());
    }
    line.flush().await?;
    while !questions.are_settled() {
        tokio::select! {
            received = line.receive() => received?,
            () = sleep_until(questions.too_late()) => return Err("answers are missing".into()),
        }
        let now = Instant::now();
        while let Some(message) = next(&mut line)? {
            if message.subscription == 1 {
                stored(&message.payload)?;
            } else if let Some(payload) = questions.answered(&message.payload, now)? {
                publish(&mut line, "tasks", Some("inbox.master"), payload.as_bytes());
            }
        }
        line.flush().await?;
    }
    Ok(questions.latencies())
}

/// Answers tasks; a task is acknowledged when its answer is stored.
async fn work(mut line: Line, number: u32) -> Result<Infallible, Failure> {
    let (tasks, confirmations) = (format!("inbox.tasks.{number}"), format!("inbox.stored.{number}"));
    subscribe(&mut line, &tasks, 1);
    subscribe(&mut line, &format!("{confirmations}.*"), 2);
    let mut expected = 0;
    // What is to be acknowledged, by the last word of where the confirmation of its answer goes. They come in order.
    let mut open = std::collections::VecDeque::new();
    loop {
        if expected <= PULL_AGAIN {
            let request = json!({"batch": PULL, "expires": 60_000_000_000_u64});
            publish(&mut line, "$JS.API.CONSUMER.MSG.NEXT.TASKS.workers", Some(&tasks), request.to_string().as_bytes());
            expected += PULL;
        }
        line.flush().await?;
        line.receive().await?;
        while let Some(message) = next(&mut line)? {
            if message.has_headers {
                return Err(format!("NATS says {}", String::from_utf8_lossy(&message.payload)).into());
            }
            if message.subscription == 1 {
                expected -= 1;
                publish(&mut line, "answers", Some(&format!("{confirmations}.0")), &message.payload);
                open.push_back(message.reply.ok_or("a task that cannot be acknowledged")?);
            } else {
                stored(&message.payload)?;
                let task = open.pop_front().ok_or("NATS stored what nobody sent")?;
                publish(&mut line, &task, None, b"+ACK");
            }
        }
    }
}

async fn connect(port: u16) -> Result<Line, Failure> {
    let mut line = Line::open(port).await?;
    let options = json!({"verbose": false, "pedantic": false, "headers": true, "no_responders": false, "echo": true});
    write!(line.outgoing, "CONNECT {options}\r\n")?;
    line.flush().await?;
    Ok(line)
}

fn subscribe(line: &mut Line, subject: &str, subscription: u8) {
    write!(line.outgoing, "SUB {subject} {subscription}\r\n").expect("a vector takes every byte");
}

fn publish(line: &mut Line, subject: &str, reply: Option<&str>, payload: &[u8]) {
    let out = &mut line.outgoing;
    write!(out, "PUB {subject} {} {}\r\n", reply.unwrap_or_default(), payload.len())
        .expect("a vector takes every byte");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Asks the server for something and returns what it says.
async fn call(line: &mut Line, what: &str, request: &Value) -> Result<Value, Failure> {
    publish(line, &format!("$JS.API.{what}"), Some("inbox.master"), request.to_string().as_bytes());
    line.flush().await?;
    loop {
        if let Some(message) = next(line)? {
            return Ok(serde_json::from_slice(&message.payload)?);
        }
        line.receive().await?;
    }
}

async fn succeed(line: &mut Line, what: &str, request: &Value) -> Result<(), Failure> {
    let said = call(line, what, request).await?;
    if said.get("error").is_some() { Err(format!("{what}: NATS says {said}").into()) } else { Ok(()) }
}

/// Whether that is the confirmation of a message that was stored.
fn stored(said: &[u8]) -> Result<(), Failure> {
    let is_stored = said.windows(5).any(|bytes| bytes == b"\"seq\"");
    if is_stored { Ok(()) } else { Err(format!("NATS says {}", String::from_utf8_lossy(said)).into()) }
}

/// The next message of what has come. A Ping is answered with the next write.
fn next(line: &mut Line) -> Result<Option<Message>, Failure> {
    loop {
        let Some(end) = line.peek().windows(2).position(|bytes| bytes == b"\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&line.peek()[..end])?;
        let words: Vec<&str> = head.split_whitespace().collect();
        let (reply, sizes, has_headers) = match words[..] {
            ["MSG", _, _, ref rest @ .., size] => (rest.first(), size, false),
            ["HMSG", _, _, ref rest @ .., _, size] => (rest.first(), size, true),
            ["PING"] => {
                line.outgoing.extend_from_slice(b"PONG\r\n");
                line.take(end + 2, 0);
                continue;
            }
            ["INFO", ..] | ["PONG"] => {
                line.take(end + 2, 0);
                continue;
            }
            _ => return Err(format!("NATS says {head}").into()),
        };
        let size: usize = sizes.parse()?;
        if line.peek().len() < end + 2 + size + 2 {
            return Ok(None);
        }
        let (subscription, reply) = (words[2].parse()?, reply.map(ToString::to_string));
        let payload = line.take(end + 2, size);
        line.take(2, 0);
        return Ok(Some(Message { subscription, reply, has_headers, payload }));
    }
}
