//! From the router to the socket: messages become frames, written in batches.

use std::future;
use std::ops::ControlFlow;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::closing::Stop;
use super::payloads::{self, Payloads};
use super::unconfirmed::Unconfirmed;
use super::wire::Wire;
use crate::code::ErrorCode;
use crate::id::{Position, SessionId};
use crate::protocol::{self, ErrorAddition, outbound};
use crate::router::{Answer, AnswerContent, AnswerRead, Body, Delivery, Ending, Notice, Outbound, Outlet, Router};

/// How many messages are taken from the queue at once.
const BATCH: usize = 64;

/// The writing half of a session.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) outlet: Outlet,
    pub(super) session: SessionId,
    pub(super) router: &'a Router,
    pub(super) wire: &'a Mutex<Wire>,
    pub(super) unconfirmed: &'a Unconfirmed,
    /// The largest frame, in bytes.
    pub(super) max_frame_bytes: usize,
}

type Written = ControlFlow<Stop>;

impl Writer<'_> {
    /// Writes until the router has finished with the socket, or nothing can be written any more.
    pub(super) async fn run(mut self) -> Stop {
        let mut ending = self.outlet.ending();
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                taken = self.outlet.recv_many(&mut batch, BATCH) => if taken == 0 {
                    return Stop::Ordered(Ending::Restarting);
                },
                () = restart(&mut ending) => return Stop::Ordered(Ending::Restarting),
            }
            if let ControlFlow::Break(stop) = self.write(batch).await {
                return stop;
            }
        }
    }

    async fn write(&self, mut batch: Vec<Outbound>) -> Written {
        while !batch.is_empty() {
            let rest = batch.split_off(payloads::lot(&batch, self.max_frame_bytes));
            let payloads = Payloads::load(&batch, &**self.router.journal()).await;
            let mut wire = self.wire.lock().await;
            self.write_lot(&mut wire, batch, &payloads).await?;
            batch = rest;
        }
        ControlFlow::Continue(())
    }

    async fn write_lot(&self, wire: &mut Wire, lot: Vec<Outbound>, payloads: &Payloads) -> Written {
        flow(wire.flush().await)?;
        for message in lot {
            match message {
                Outbound::Frame(frame) => flow(self.feed(wire, frame).await)?,
                Outbound::Dismissal(said) => flow(self.dismiss(wire, said, payloads).await)?,
                Outbound::Delivery(delivery) => {
                    flow(self.deliver(wire, *delivery, payloads).await)?;
                }
                Outbound::Answer(answer) => flow(self.answer(wire, *answer, payloads).await)?,
                Outbound::Notice(notice) => flow(self.notify(wire, *notice).await)?,
                Outbound::Finish => {
                    flow(self.finish_write(wire).await)?;
                    return ControlFlow::Break(Stop::Finished);
                }
            }
        }
        flow(self.finish_write(wire).await)
    }

    async fn dismiss(&self, wire: &mut Wire, said: Position, payloads: &Payloads) -> Result<(), Stop> {
        let Some(payload) = payloads.resolve(Body::Stored(said)) else {
            self.skipped("a dismissal's payload is gone");
            return Ok(());
        };
        self.feed(wire, outbound::dismissal(&payload)).await
    }

    /// Each delivery has a Ping of its own right behind it, so that the receipt of one does not wait for the next.
    async fn deliver(&self, wire: &mut Wire, delivery: Delivery, payloads: &Payloads) -> Result<(), Stop> {
        let Some(body) = payloads.resolve(delivery.body) else {
            self.skipped("a delivery's payload is gone");
            return Ok(());
        };
        let now = self.router.clock().now();
        let addition = delivery.addition.map(|addition| protocol::Addition {
            invocation_id: delivery.invocation,
            attempt: delivery.attempt,
            deadline_ms: whole_millis(addition.deadline.since(now)),
            redelivered: addition.redelivered,
        });
        let invoked_by = &delivery.invoked_by;
        let frame = protocol::Delivery { invoked_by, addition }.encode(&body);
        self.unconfirmed.lock().deliver((delivery.invocation, delivery.attempt));
        self.feed(wire, frame).await?;
        self.feed_ping(wire).await
    }

    async fn answer(&self, wire: &mut Wire, answer: Answer, payloads: &Payloads) -> Result<(), Stop> {
        let Answer { invocation, agent, labels, additions, content } = answer;
        let frame = match content {
            AnswerContent::Router(frame) => frame,
            AnswerContent::Agent(body) => {
                let Some(body) = payloads.resolve(body) else {
                    self.skipped("an answer's payload is gone");
                    return Ok(());
                };
                let frame = outbound::answer(&body, additions.then_some(invocation));
                if frame.len() > self.max_frame_bytes {
                    // It is kept whole, and can be read over HTTP.
                    let addition = ErrorAddition { invocation_id: Some(invocation), ..ErrorAddition::default() };
                    let code = ErrorCode::FrameTooLarge;
                    outbound::invocation_error(code, agent.as_str(), additions.then_some(addition))
                } else {
                    frame
                }
            }
        };
        self.unconfirmed.lock().answer(AnswerRead { invocation, agent, labels });
        self.feed(wire, frame).await
    }

    async fn notify(&self, wire: &mut Wire, notice: Notice) -> Result<(), Stop> {
        let Notice { position, frame, window } = notice;
        self.unconfirmed.lock().notify(position, window, Instant::now());
        self.unconfirmed.notified();
        self.feed(wire, frame).await
    }

    /// One Ping for all the answers and notifications since the last, and off it goes.
    async fn finish_write(&self, wire: &mut Wire) -> Result<(), Stop> {
        let owes_ping = self.unconfirmed.lock().owes_ping();
        if owes_ping {
            self.feed_ping(wire).await?;
        }
        wire.flush().await
    }

    async fn feed_ping(&self, wire: &mut Wire) -> Result<(), Stop> {
        let ping = self.unconfirmed.lock().next_ping();
        wire.feed_ping(ping).await
    }

    async fn feed(&self, wire: &mut Wire, frame: Bytes) -> Result<(), Stop> {
        if let Ok(text) = Utf8Bytes::try_from(frame) {
            wire.feed_text(text).await
        } else {
            self.skipped("a frame is not UTF-8");
            Ok(())
        }
    }

    fn skipped(&self, why: &'static str) {
        tracing::error!(session = %self.session, why, "a message was not sent");
    }
}

fn flow(written: Result<(), Stop>) -> Written {
    written.map_or_else(ControlFlow::Break, ControlFlow::Continue)
}

fn whole_millis(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

/// Waits for the router's restart.
async fn restart(ending: &mut watch::Receiver<Option<Ending>>) {
    let told = ending.wait_for(|ending| *ending == Some(Ending::Restarting)).await.is_ok();
    if !told {
        future::pending::<()>().await;
    }
}
