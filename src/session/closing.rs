//! How a session ends, and what its peer is told.

use std::error::Error;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::{sleep, timeout};
use tungstenite::Error as SocketError;
use tungstenite::error::ProtocolError;

use crate::code::ErrorCode;
use crate::router::{EndReason, Ending};

/// The close code for a frame that is too large to be read.
const FRAME_TOO_LARGE: u16 = 1009;

/// How long the peer has to take the Close frame, and again to answer it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a peer that broke the protocol has to have read so. It can be told nothing more, and may wait for the end.
const BRIEF_PATIENCE: Duration = Duration::from_millis(250);

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The peer closed the socket.
    Closed,
    /// The connection broke.
    Lost,
    /// The peer broke the WebSocket protocol. Nothing more can be read from it.
    Violation(Farewell),
    /// The peer gave no sign of life.
    Dead,
    /// The peer did not read what it was sent.
    TooSlow,
    /// Everything was sent that the socket was kept for.
    Finished,
    /// The router ended it.
    Ordered(Ending),
}

/// What a Close frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

impl Farewell {
    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// For a socket that the router did not take.
    pub(super) const fn refused(why: ErrorCode) -> Self {
        match why {
            ErrorCode::NotAllowed => Self::new(4000, "Missing Authorization header"),
            ErrorCode::ShuttingDown => Self::new(1012, "restarting"),
            _ => Self::new(1013, "try again later"),
        }
    }
}

impl Stop {
    /// What a failed read means.
    pub(super) fn from_read_error(error: &axum::Error) -> Self {
        match socket_error(error) {
            Some(SocketError::Capacity(_)) => Self::Violation(Farewell::new(FRAME_TOO_LARGE, "frame too large")),
            Some(SocketError::Utf8(_)) => Self::Violation(Farewell::new(1007, "text is not UTF-8")),
            Some(SocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Self::Lost,
            Some(SocketError::Protocol(_)) => Self::Violation(Farewell::new(1002, "protocol error")),
            _ => Self::Lost,
        }
    }

    /// What a failed write means.
    pub(super) fn from_write_error(error: &axum::Error) -> Self {
        match socket_error(error) {
            // What the peer does not read piles up: frames, or the Pongs that it asked for.
            Some(SocketError::WriteBufferFull(_)) => Self::TooSlow,
            Some(
                SocketError::ConnectionClosed
                | SocketError::AlreadyClosed
                | SocketError::Protocol(ProtocolError::SendAfterClosing),
            ) => Self::Closed,
            _ => Self::Lost,
        }
    }

    /// As the router is told.
    pub(super) const fn reason(self) -> EndReason {
        match self {
            Self::Closed | Self::Lost => EndReason::Closed,
            Self::Violation(_) => EndReason::ProtocolError,
            Self::Dead => EndReason::Dead,
            Self::TooSlow | Self::Ordered(Ending::TooSlow) => EndReason::TooSlow,
            Self::Finished => EndReason::Unregistered,
            Self::Ordered(Ending::TakenOver) => EndReason::TakenOver,
            Self::Ordered(Ending::Disconnected) => EndReason::Operator,
            Self::Ordered(Ending::Restarting) => EndReason::Restarting,
        }
    }

    /// Whether frames that the peer had sent may still be there to be read.
    pub(super) const fn leaves_frames(self) -> bool {
        !matches!(self, Self::Closed | Self::Violation(_))
    }

    /// As the peer is told; nothing if it is gone, or has said so first.
    const fn farewell(self) -> Option<Farewell> {
        match self {
            Self::Closed | Self::Lost | Self::Dead => None,
            Self::Violation(farewell) => Some(farewell),
            Self::TooSlow | Self::Ordered(Ending::TooSlow) => Some(Farewell::new(4408, "too slow")),
            Self::Finished => Some(Farewell::new(1000, "unregistered")),
            Self::Ordered(Ending::TakenOver) => Some(Farewell::new(4409, "taken over")),
            Self::Ordered(Ending::Disconnected) => Some(Farewell::new(1008, "Disconnected by an operator")),
            Self::Ordered(Ending::Restarting) => Some(Farewell::refused(ErrorCode::ShuttingDown)),
        }
    }
}

/// What axum wraps. It is found only if this package's tungstenite is the one that axum uses.
fn socket_error(error: &axum::Error) -> Option<&SocketError> {
    error.source()?.downcast_ref()
}

/// Tells the peer why its socket ends, if there is something to tell and it takes it.
pub(super) async fn say(sink: &mut SplitSink<WebSocket, Message>, stop: Stop) -> bool {
    match stop.farewell() {
        Some(farewell) => send(sink, farewell).await,
        None => false,
    }
}

/// Leaves the peer a moment to have read why its socket ended, and then lets it go. `told`: it was told.
pub(super) async fn wait(mut stream: SplitStream<WebSocket>, stop: Stop, told: bool) {
    match stop {
        Stop::Closed => {
            // The answer to the peer's Close frame is queued and leaves with the next poll.
            _ = timeout(PATIENCE, stream.next()).await;
        }
        // Unread bytes make the operating system reset the connection when it is dropped, which would overtake the Close
        // frame; and they cannot be read any more. So the peer is given the time; most of it if it may be in the middle of
        // sending what was too large.
        Stop::Violation(Farewell { code: FRAME_TOO_LARGE, .. }) if told => sleep(PATIENCE).await,
        Stop::Violation(_) if told => sleep(BRIEF_PATIENCE).await,
        _ if told => read_to_the_end(stream).await,
        _ => {}
    }
}

/// Closes a healthy socket: says why, and waits a moment for the peer to have read it.
pub(super) async fn shake_hands(
    mut sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    farewell: Farewell,
) {
    if send(&mut sink, farewell).await {
        read_to_the_end(stream).await;
    }
}

async fn read_to_the_end(mut stream: SplitStream<WebSocket>) {
    _ = timeout(PATIENCE, async { while let Some(Ok(_)) = stream.next().await {} }).await;
}

async fn send(sink: &mut SplitSink<WebSocket, Message>, farewell: Farewell) -> bool {
    let frame = CloseFrame { code: farewell.code, reason: Utf8Bytes::from_static(farewell.reason) };
    let said = timeout(PATIENCE, sink.send(Message::Close(Some(frame)))).await;
    matches!(said, Ok(Ok(())))
}
