//! The writing half of a socket, bounded in time.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio::time::timeout;

use super::closing::Stop;

/// Writes whole messages. Each must be on its way within `patience`, or the peer is too slow; so a large one has to be
/// read at least at its size over `patience`.
#[derive(Debug)]
pub(super) struct Wire {
    sink: SplitSink<WebSocket, Message>,
    patience: Duration,
}

impl Wire {
    pub(super) fn new(sink: SplitSink<WebSocket, Message>, patience: Duration) -> Self {
        Self { sink, patience }
    }

    /// Adds a text frame to the current write.
    pub(super) async fn feed_text(&mut self, text: Utf8Bytes) -> Result<(), Stop> {
        self.feed(Message::Text(text)).await
    }

    /// Adds a Ping to the current write.
    pub(super) async fn feed_ping(&mut self, payload: Bytes) -> Result<(), Stop> {
        self.feed(Message::Ping(payload)).await
    }

    /// Ends the current write: everything is with the operating system. It also makes room, for Pongs that the peer
    /// asked for wait in the same buffer.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        within(self.patience, self.sink.flush()).await
    }

    /// Sends a text frame at once.
    pub(super) async fn text(&mut self, text: Utf8Bytes) -> Result<(), Stop> {
        self.message(Message::Text(text)).await
    }

    /// Sends a Ping at once.
    pub(super) async fn ping(&mut self, payload: Bytes) -> Result<(), Stop> {
        self.message(Message::Ping(payload)).await
    }

    /// Sends a message at once.
    pub(super) async fn message(&mut self, message: Message) -> Result<(), Stop> {
        self.flush().await?;
        self.feed(message).await?;
        self.flush().await
    }

    pub(super) fn into_sink(self) -> SplitSink<WebSocket, Message> {
        self.sink
    }

    async fn feed(&mut self, message: Message) -> Result<(), Stop> {
        within(self.patience, self.sink.feed(message)).await
    }
}

/// Most writes are done at once, without a timer.
async fn within(patience: Duration, write: impl Future<Output = Result<(), axum::Error>>) -> Result<(), Stop> {
    let mut write = pin!(write);
    let at_once = poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
    let written = match at_once {
        Poll::Ready(written) => Ok(written),
        Poll::Pending => timeout(patience, write).await,
    };
    match written {
        Ok(written) => written.map_err(|error| Stop::from_write_error(&error)),
        Err(_) => Err(Stop::TooSlow),
    }
}
