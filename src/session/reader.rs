//! From the socket to the router: frames become commands, Pongs become confirmations.

use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout_at};

use super::closing::Stop;
use super::heartbeat::Pulse;
use super::unconfirmed::Unconfirmed;
use super::wire::Wire;
use crate::auth::{Authenticator, Principal};
use crate::code::ErrorCode;
use crate::id::{Identity, SessionId};
use crate::protocol::{self, Answer, BadFrame, Dialect, ErrorAddition, Inbound, Invoke, outbound};
use crate::router::{Command, Router};

/// How long a socket whose peer was not told of its end has to be quiet for all its frames to be there.
const QUIET: Duration = Duration::from_millis(10);

/// For how long, at most, frames of a socket that is to be closed are taken.
const MAX_REST: Duration = Duration::from_secs(1);

/// How many of them, at most.
const MAX_REST_FRAMES: usize = 10_000;

/// What kinds of frames make sense on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// An agent's, a caller's or the master agent's own socket.
    Peer,
    /// The backend's own socket, whose answers without `invoked_by` acknowledge notifications.
    Backend,
    /// An invoke socket, for calls alone.
    Invoke,
}

impl Role {
    pub(super) fn of(principal: &Principal) -> Self {
        match principal {
            Principal::Own { identity, .. } if identity.is_backend() => Self::Backend,
            Principal::Own { .. } => Self::Peer,
            Principal::Invoke { .. } => Self::Invoke,
        }
    }
}

/// The reading half of a session.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) stream: SplitStream<WebSocket>,
    pub(super) session: SessionId,
    pub(super) role: Role,
    /// In whose name invocations are asked for.
    pub(super) caller: Identity,
    pub(super) dialect: Dialect,
    pub(super) router: &'a Router,
    pub(super) authenticator: &'a Authenticator,
    pub(super) unconfirmed: &'a Unconfirmed,
    pub(super) pulse: &'a Pulse,
}

impl Reader<'_> {
    /// Reads until the stream is over; or until told to leave, and then returns nothing. All that was read has been
    /// submitted when this returns: it must be told to leave rather than be dropped.
    pub(super) async fn run(&mut self, wire: &Mutex<Wire>, leave: &Notify) -> Option<Stop> {
        loop {
            self.pulse.listen();
            let next = tokio::select! {
                biased;
                () = leave.notified() => return None,
                next = self.stream.next() => next,
            };
            self.pulse.heard();
            let error = match self.take(next).await {
                Ok(error) => error,
                Err(stop) => return Some(stop),
            };
            if let Some(error) = error {
                let told = async { wire.lock().await.text(error).await };
                tokio::select! {
                    biased;
                    () = leave.notified() => return None,
                    told = told => if let Err(stop) = told {
                        return Some(stop);
                    },
                }
            }
        }
    }

    /// Takes the frames that the peer had sent when its socket was to be closed. A peer that was told answers with a Close
    /// frame behind the last of them; of one that was not, what comes without a pause is taken.
    pub(super) async fn take_rest(&mut self, told: bool) {
        let end = Instant::now() + MAX_REST;
        for _ in 0..MAX_REST_FRAMES {
            let patience = if told { end } else { end.min(Instant::now() + QUIET) };
            let Ok(next) = timeout_at(patience, self.stream.next()).await else {
                return;
            };
            if self.take(next).await.is_err() || Instant::now() >= end {
                return;
            }
        }
    }

    /// Takes one message. Returns the error that the peer is to be told, if it made no sense.
    async fn take(&mut self, next: Option<Result<Message, axum::Error>>) -> Result<Option<Utf8Bytes>, Stop> {
        match next {
            Some(Ok(Message::Text(text))) => Ok(self.frame(text.into()).await),
            Some(Ok(Message::Binary(bytes))) => {
                let bad = unexpected("the frame is binary");
                Ok(Some(self.refuse(bad, &bytes).await))
            }
            Some(Ok(Message::Pong(payload))) => {
                self.pong(&payload).await;
                Ok(None)
            }
            Some(Ok(Message::Ping(_))) => Ok(None),
            Some(Ok(Message::Close(_))) | None => Err(Stop::Closed),
            Some(Err(error)) => {
                let stop = Stop::from_read_error(&error);
                if let Stop::Violation(farewell) = stop {
                    self.report(farewell.reason.to_owned(), 0).await;
                }
                Err(stop)
            }
        }
    }

    async fn frame(&mut self, text: Bytes) -> Option<Utf8Bytes> {
        self.router.metrics().frame_received();
        let frame = match protocol::parse(&text, self.dialect).and_then(|frame| self.allowed(frame)) {
            Ok(frame) => frame,
            Err(bad) => return Some(self.refuse(bad, &text).await),
        };
        if let Inbound::Invoke(invoke) = &frame
            && let Err(retry_after) = self.router.admit(&self.caller, invoke, text.len()).await
        {
            return Some(too_many_requests(invoke, retry_after));
        }
        if let Some(command) = self.command(frame) {
            self.router.submit(command, text.len()).await;
        }
        None
    }

    fn allowed(&self, frame: Inbound) -> Result<Inbound, BadFrame> {
        match (self.role, &frame) {
            // As the name of an agent that there is not, it would be journaled.
            (_, Inbound::Invoke(invoke)) if self.authenticator.is_key(invoke.target.as_bytes()) => {
                Err(BadFrame::AgentUuid)
            }
            (Role::Invoke, Inbound::Invoke(_) | Inbound::Cancel(_)) | (Role::Peer | Role::Backend, _) => Ok(frame),
            (Role::Invoke, _) => Err(unexpected("not for an invoke socket")),
        }
    }

    /// What the router has to do with a frame; nothing, if it was for the session alone.
    fn command(&mut self, frame: Inbound) -> Option<Command> {
        let session = self.session;
        Some(match frame {
            Inbound::Register(register) => {
                self.dialect.version = register.version;
                Command::Register { session, register }
            }
            Inbound::Unregister => Command::Unregister { session },
            Inbound::Invoke(invoke) => Command::Invoke { session, invoke },
            Inbound::Answer(answer) if self.acknowledges(&answer) => {
                let mut pending = self.unconfirmed.lock();
                let position = pending.notices().answered(Instant::now())?;
                Command::FeedAcknowledged { position }
            }
            Inbound::Answer(mut answer) => {
                answer.invoked_by = self.authenticator.without_key(answer.invoked_by);
                Command::Answer { session, answer }
            }
            Inbound::Log(log) => Command::Log { session, log },
            Inbound::Cancel(cancel) => Command::Cancel { session, cancel },
        })
    }

    fn acknowledges(&self, answer: &Answer) -> bool {
        self.role == Role::Backend && answer.invoked_by.is_empty()
    }

    async fn pong(&self, payload: &[u8]) {
        let session = self.session;
        let confirmed = self.unconfirmed.lock().ponged(payload);
        let deliveries = confirmed.deliveries;
        if !deliveries.is_empty() {
            let receipts = Command::Receipts { session, deliveries };
            self.router.submit(receipts, payload.len()).await;
        }
        let answers = confirmed.answers;
        if !answers.is_empty() {
            let delivered = Command::AnswersDelivered { session, answers };
            self.router.submit(delivered, payload.len()).await;
        }
        if let Some(position) = confirmed.feed {
            let acknowledged = Command::FeedAcknowledged { position };
            self.router.submit(acknowledged, payload.len()).await;
        }
    }

    /// Has a bad frame journaled, and returns the error that its sender is told.
    async fn refuse(&self, bad: BadFrame, frame: &[u8]) -> Utf8Bytes {
        self.report(bad.to_string(), frame.len()).await;
        own_frame(outbound::frame_error(&bad, frame))
    }

    async fn report(&self, reason: String, bytes: usize) {
        let session = self.session;
        let refused = Command::FrameRefused { session, reason };
        // Seldom: a socket has no room for it all the time.
        Box::pin(self.router.submit(refused, bytes)).await;
    }
}

/// What a caller is told that asks more often than it may.
fn too_many_requests(invoke: &Invoke, retry_after: Duration) -> Utf8Bytes {
    let retry_after_ms = u64::try_from(retry_after.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
    let addition = ErrorAddition { retry_after_ms: Some(retry_after_ms), ..ErrorAddition::default() };
    let addition = invoke.options.used.then_some(addition);
    own_frame(outbound::invocation_error(ErrorCode::RateLimited, &invoke.target, addition))
}

fn own_frame(frame: Bytes) -> Utf8Bytes {
    Utf8Bytes::try_from(frame).expect("the router's own frames are UTF-8")
}

const fn unexpected(reason: &'static str) -> BadFrame {
    BadFrame::Unexpected { reason }
}
