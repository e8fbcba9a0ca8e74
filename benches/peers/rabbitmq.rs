//! RabbitMQ: a quorum queue of tasks and one of answers, persistent messages, confirms.

use std::convert::Infallible;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Failure;
use crate::amqp::{Channel, Incoming};
use crate::load::{Load, Questions};

/// Tasks that a worker has at a time. RabbitMQ gives them to workers in turn, so that each has its share.
const PREFETCH: u16 = 256;

/// Has this load done by the server at `port`.
pub(crate) async fn run(port: u16, load: &Load) -> Result<Vec<Duration>, Failure> {
    let mut asking = Channel::open(port).await?;
    for queue in ["tasks", "answers"] {
        asking.declare(queue, "quorum").await?;
    }
    let mut answers = Channel::open(port).await?;
    answers.consume("answers", u16::MAX).await?;
    let mut workers = JoinSet::new();
    for _ in 0..load.workers {
        let mut channel = Channel::open(port).await?;
        channel.consume("tasks", PREFETCH).await?;
        workers.spawn(work(channel));
    }
    let latencies = tokio::select! {
        latencies = master(&mut asking, answers, load) => latencies?,
        Some(worker) = workers.join_next() => match worker? { Ok(never) => match never {}, Err(failure) => return Err(failure) },
    };
    workers.shutdown().await;
    // Not on a connection on which confirms may still be on their way.
    let mut ending = Channel::open(port).await?;
    for queue in ["tasks", "answers"] {
        ending.delete(queue).await?;
    }
    Ok(latencies)
}

/// Publishes on one connection and consumes on another, as RabbitMQ holds up connections that publish too fast.
async fn master(asking: &mut Channel, mut answers: Channel, load: &Load) -> Result<Vec<Duration>, Failure> {
    let mut questions = Questions::new(load);
    for payload in questions.first() {
        asking.publish("tasks", payload.as_bytes());
    }
    asking.flush().await?;
    while !questions.are_settled() {
        tokio::select! {
            received = answers.receive() => received?,
            received = asking.receive() => {
                received?;
                while asking.next()?.is_some() {}
                continue;
            }
            () = sleep_until(questions.too_late()) => return Err("answers are missing".into()),
        }
        let now = Instant::now();
        let mut newest = None;
        while let Some(incoming) = answers.next()? {
            let Incoming::Message { tag, body } = incoming else { continue };
            newest = Some(tag);
            if let Some(payload) = questions.answered(&body, now)? {
                asking.publish("tasks", payload.as_bytes());
            }
        }
        asking.flush().await?;
        if let Some(tag) = newest {
            answers.acknowledge(tag, true);
            answers.flush().await?;
        }
    }
    Ok(questions.latencies())
}

/// Answers tasks; a task is acknowledged when its answer is stored. As each task has one answer, and they go in order, a
/// task and its answer have the same number.
async fn work(mut channel: Channel) -> Result<Infallible, Failure> {
    loop {
        channel.receive().await?;
        while let Some(incoming) = channel.next()? {
            match incoming {
                Incoming::Message { body, .. } => channel.publish("answers", &body),
                Incoming::Confirmed { tag, all_before } => channel.acknowledge(tag, all_before),
            }
        }
        channel.flush().await?;
    }
}
