//! The backend's notifications: what happened to agents, told in order, from where the backend left off.
//!
//! They are read from the journal and from nowhere else, so there is one order, and a backend that was away or is slow
//! costs no memory. What is sent and not acknowledged is bounded by a window; what was not acknowledged is sent again
//! on the next socket.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::directory::Directory;
use super::ledger::FeedStart;
use super::outbox::{Notice as NoticeMessage, Outbound, Outbox};
use crate::auth::{Credential, Sealer};
use crate::clock::Clock;
use crate::id::{Identity, NodeId, Position, SessionId};
use crate::journal::{FeedEvent, Journal, JournalError, Notice};
use crate::protocol::outbound::{log_notice, registered_notice, unregistered_notice};

/// What may be sent and not acknowledged, in units of [`UNIT`] bytes or a notification each.
const WINDOW: usize = 1024;

/// The bytes of a notification that count as much as a notification.
const UNIT: usize = 4096;

/// Notifications that are read from the journal at once.
const PAGE: usize = 64;

/// How long to wait before a journal that could not be read is read again.
const RETRY: Duration = Duration::from_millis(250);

/// What a feed needs, whichever socket it goes to.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) directory: Directory,
    /// This router.
    pub(super) node: NodeId,
    /// Opens the credentials of sockets that other routers hold.
    pub(super) sealer: Option<Sealer>,
    pub(super) clock: Clock,
    pub(super) ttl: Duration,
    pub(super) max_frame_bytes: usize,
    /// The newest durable position at which there was something to tell.
    pub(super) news: watch::Receiver<Position>,
}

/// The feed to one socket.
struct Telling {
    feed: Feed,
    outbox: Outbox,
    window: Arc<Semaphore>,
    /// Sockets whose registration was told on this connection.
    told: HashSet<SessionId>,
}

impl Feed {
    /// Tells the backend what it misses and then what happens, until the socket is gone or the task is aborted.
    pub(super) async fn tell(self, start: FeedStart) {
        let Some(outbox) = self.directory.outbox(start.session) else { return };
        let mut telling =
            Telling { outbox, window: Arc::new(Semaphore::new(WINDOW)), told: HashSet::new(), feed: self };
        let mut cursor = start.acknowledged;
        while cursor < start.head {
            cursor = telling.page(cursor, Some(start.head)).await;
        }
        telling.still_connected(start.registered).await;
        let mut news = telling.feed.news.clone();
        loop {
            let newest = *news.borrow_and_update();
            while cursor < newest {
                cursor = telling.page(cursor, None).await;
            }
            if news.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Telling {
    /// Tells the next page after a place, not beyond `until`, and returns how far that went.
    async fn page(&mut self, after: Position, until: Option<Position>) -> Position {
        let (events, reached) = self.read(after).await;
        let beyond = |position: Position| until.is_some_and(|until| position > until);
        for event in events {
            if beyond(event.position) {
                break;
            }
            let position = event.position;
            if let Some(frame) = self.frame(event).await {
                self.send(Some(position), frame).await;
            }
        }
        until.map_or(reached, |until| reached.min(until))
    }

    async fn read(&self, after: Position) -> (Vec<FeedEvent>, Position) {
        loop {
            let since = self.feed.clock.now() - self.feed.ttl;
            match self.feed.journal.feed(after, since, PAGE).await {
                Ok(page) => return page,
                Err(error) => self.wait_out(&error).await,
            }
        }
    }

    async fn frame(&mut self, event: FeedEvent) -> Option<Bytes> {
        let agent = event.agent.as_str();
        match event.notice {
            Notice::Registered { session, payload } => {
                self.told.insert(session);
                let credential = self.socket(session).await.unwrap_or_default();
                let frame = registered_notice(&payload, agent, credential.as_ref().map(Credential::expose));
                self.fits(frame, &event.agent)
            }
            Notice::Logged { body } => Some(log_notice(&body, agent, self.feed.max_frame_bytes)),
            Notice::Unregistered => Some(unregistered_notice(agent)),
        }
    }

    fn fits(&self, frame: Bytes, agent: &Identity) -> Option<Bytes> {
        if frame.len() <= self.feed.max_frame_bytes {
            return Some(frame);
        }
        tracing::error!(%agent, bytes = frame.len(), "a registration is too large to be told to the backend");
        None
    }

    /// Tells of every agent that is still connected and was not told of just now.
    async fn still_connected(&mut self, registered: Vec<(SessionId, Identity, Position)>) {
        for (session, agent, position) in registered {
            if self.told.contains(&session) {
                continue;
            }
            let Some(credential) = self.socket(session).await else { continue };
            let Some(payload) = self.payload(position).await else { continue };
            let frame = registered_notice(&payload, agent.as_str(), credential.as_ref().map(Credential::expose));
            if let Some(frame) = self.fits(frame, &agent) {
                self.send(None, frame).await;
            }
        }
    }

    /// The credential that a socket came with, if it did and that is known here; `None`: the socket is gone. Whether one is
    /// there that another router holds, the journal says.
    async fn socket(&self, session: SessionId) -> Option<Option<Credential>> {
        let Feed { journal, directory, node, sealer, .. } = &self.feed;
        if directory.is_open(session) {
            return Some(directory.credential(session));
        }
        if !journal.is_shared() {
            return None;
        }
        let row = loop {
            match journal.session(session).await {
                Ok(row) => break row?,
                Err(error) => self.wait_out(&error).await,
            }
        };
        let open = |sealed: &[u8]| sealer.as_ref()?.open(session, sealed);
        (row.node != *node).then(|| row.sealed_credential.as_deref().and_then(open))
    }

    /// What an agent registered with; the journal has it also when it has let go of the event.
    async fn payload(&self, position: Position) -> Option<Bytes> {
        loop {
            match self.feed.journal.payloads(&[position]).await {
                Ok(payloads) => return payloads.into_iter().next().map(|(_, payload)| payload),
                Err(error) => self.wait_out(&error).await,
            }
        }
    }

    async fn send(&self, position: Option<Position>, frame: Bytes) {
        let share = u32::try_from((1 + frame.len() / UNIT).min(WINDOW)).unwrap_or(1);
        if let Ok(window) = Arc::clone(&self.window).acquire_many_owned(share).await {
            self.outbox.post(Outbound::Notice(Box::new(NoticeMessage { position, frame, window })));
        }
    }

    async fn wait_out(&self, error: &JournalError) {
        tracing::warn!(%error, "the journal could not be read for the backend's notifications; trying again");
        tokio::time::sleep(RETRY).await;
    }
}
