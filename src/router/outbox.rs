//! The way from the router to one socket: a bounded queue that never makes the router wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, Position};
use crate::invocation::Labels;

/// How many messages may wait for one socket. A socket that lets more pile up is closed as too slow; nothing is lost,
/// the journal has it all.
pub const MAX_WAITING: usize = 65_536;

/// How many bytes may wait for one socket in memory; beyond, bodies are left in the journal until their turn.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// What a socket is to be sent.
#[derive(Debug)]
pub enum Outbound {
    /// A frame as it is.
    Frame(Bytes),
    /// What the backend said to an agent when it told it to go: the payload of this event.
    Dismissal(Position),
    /// An invocation, with a Ping in the same write whose Pong is the receipt.
    Delivery(Box<Delivery>),
    /// The answer to an invocation, with a Ping in the same write whose Pong confirms it.
    Answer(Box<Answer>),
    /// A notification for the backend, with a Ping in the same write.
    Notice(Box<Notice>),
    /// Close the socket normally when everything before this is sent.
    Finish,
}

/// An invocation on its way to its agent.
#[derive(Debug)]
pub struct Delivery {
    /// Which.
    pub invocation: InvocationId,
    /// Which delivery, from 1.
    pub attempt: u32,
    /// `invoked_by` as this delivery carries it.
    pub invoked_by: String,
    /// What a version-2 agent sees besides.
    pub addition: Option<DeliveryAddition>,
    /// The caller's frame, without what is not passed on.
    pub body: Body,
}

/// What a version-2 agent sees of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryAddition {
    /// When the invocation must be finished.
    pub deadline: Timestamp,
    /// Whether it may have been seen before.
    pub redelivered: bool,
}

/// An answer on its way to a caller.
#[derive(Debug)]
pub struct Answer {
    /// Which invocation.
    pub invocation: InvocationId,
    /// Who answered, or should have.
    pub agent: Identity,
    /// What the invocation belongs to.
    pub labels: Labels,
    /// Whether the caller sees `invocation_id`. A ready frame has it already.
    pub additions: bool,
    /// The frame.
    pub content: AnswerContent,
}

/// What an answer says.
#[derive(Debug)]
pub enum AnswerContent {
    /// The agent's own answer.
    Agent(Body),
    /// An error of the router, ready to be sent.
    Router(Bytes),
}

/// A notification on its way to the backend.
#[derive(Debug)]
pub struct Notice {
    /// Its place in the journal; none for a registration that is only told again.
    pub position: Option<Position>,
    /// The frame.
    pub frame: Bytes,
    /// Its share of what may be unacknowledged; given back when it is.
    pub window: OwnedSemaphorePermit,
}

/// The bytes that a peer sent, at hand or in the journal.
#[derive(Clone, Debug)]
pub enum Body {
    /// At hand.
    Inline(Bytes),
    /// The payload of this event.
    Stored(Position),
}

/// Why the router ends a socket that did not ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A newer socket of the same identity registered (4409): count the whole frames that it has sent, then close.
    TakenOver,
    /// An operator wants it gone (1008): count the whole frames that it has sent, then close.
    Disconnected,
    /// Too much piled up (4408).
    TooSlow,
    /// The router goes down (1012).
    Restarting,
}

/// The router's end.
#[derive(Clone, Debug)]
pub struct Outbox {
    queue: mpsc::Sender<Outbound>,
    waiting_bytes: Arc<AtomicUsize>,
    ending: Arc<watch::Sender<Option<Ending>>>,
}

/// The socket's end.
#[derive(Debug)]
pub struct Outlet {
    queue: mpsc::Receiver<Outbound>,
    waiting_bytes: Arc<AtomicUsize>,
    ending: watch::Receiver<Option<Ending>>,
}

/// A new way to a new socket.
#[must_use]
pub fn outbox() -> (Outbox, Outlet) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let (ending, ended) = watch::channel(None);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    (
        Outbox { queue: sender, waiting_bytes: Arc::clone(&waiting_bytes), ending: Arc::new(ending) },
        Outlet { queue: receiver, waiting_bytes, ending: ended },
    )
}

impl Outbox {
    /// Queues a message. One that finds the queue full ends the socket as too slow; one for a socket that is gone is
    /// dropped: what had to outlive it is in the journal.
    pub fn post(&self, message: Outbound) {
        self.waiting_bytes.fetch_add(message.bytes_at_hand(), Ordering::Relaxed);
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(message) {
            self.end(Ending::TooSlow);
        }
    }

    /// Whether bodies should be left in the journal until the socket has room for them.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) > MAX_WAITING_BYTES
    }

    /// Ends the socket. The first reason counts.
    pub fn end(&self, why: Ending) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            if first {
                *ending = Some(why);
            }
            first
        });
    }
}

impl Outlet {
    /// Waits for the next messages and takes up to `limit` of them. Cancel safe. Zero: the router has let go.
    pub async fn recv_many(&mut self, into: &mut Vec<Outbound>, limit: usize) -> usize {
        let taken = self.queue.recv_many(into, limit).await;
        let bytes: usize = into[into.len() - taken..].iter().map(Outbound::bytes_at_hand).sum();
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        taken
    }

    /// A view of whether, and why, the router ends this socket, for `wait_for`.
    #[must_use]
    pub fn ending(&self) -> watch::Receiver<Option<Ending>> {
        self.ending.clone()
    }
}

impl Outbound {
    /// Where what is not at hand of it is in the journal.
    #[must_use]
    pub const fn stored(&self) -> Option<Position> {
        let body = match self {
            Self::Delivery(delivery) => &delivery.body,
            Self::Answer(answer) => match &answer.content {
                AnswerContent::Agent(body) => body,
                AnswerContent::Router(_) => return None,
            },
            Self::Dismissal(position) => return Some(*position),
            Self::Frame(_) | Self::Notice(_) | Self::Finish => return None,
        };
        match body {
            Body::Stored(position) => Some(*position),
            Body::Inline(_) => None,
        }
    }

    /// Puts something else in place of the body that is carried along.
    pub(super) fn put_body(&mut self, other: Body) {
        match self {
            Self::Delivery(delivery) => delivery.body = other,
            Self::Answer(answer) => {
                if let AnswerContent::Agent(body) = &mut answer.content {
                    *body = other;
                }
            }
            Self::Frame(_) | Self::Dismissal(_) | Self::Notice(_) | Self::Finish => {}
        }
    }

    fn bytes_at_hand(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::Delivery(delivery) => delivery.body.bytes_at_hand(),
            Self::Answer(answer) => match &answer.content {
                AnswerContent::Agent(body) => body.bytes_at_hand(),
                AnswerContent::Router(frame) => frame.len(),
            },
            Self::Notice(notice) => notice.frame.len(),
            Self::Dismissal(_) | Self::Finish => 0,
        }
    }
}

impl Body {
    fn bytes_at_hand(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Stored(_) => 0,
        }
    }
}
