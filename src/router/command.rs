//! What sessions and HTTP ask of the router.

use bytes::Bytes;

use crate::auth::Principal;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, NodeId, Position, SessionId};
use crate::invocation::Labels;
use crate::journal::Head;
use crate::protocol;

/// One thing that happened at a socket or was asked over HTTP. Commands of one session are taken in the order in which
/// they were submitted.
#[derive(Debug)]
pub enum Command {
    /// A peer's credential was accepted. Answered by [`super::Router::open`].
    Open {
        /// The connection.
        session: SessionId,
        /// Whose it is.
        principal: Principal,
        /// Its credential, sealed for the other routers on the journal; none if there are none, or no key to seal it with.
        sealed_credential: Option<Bytes>,
    },
    /// The socket is gone, and everything that was read from it has been submitted.
    End {
        /// The connection.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// `agent_register`
    Register {
        /// The connection.
        session: SessionId,
        /// The frame.
        register: protocol::Register,
    },
    /// `agent_unregister`
    Unregister {
        /// The connection.
        session: SessionId,
    },
    /// `agent_invoke`
    Invoke {
        /// The connection.
        session: SessionId,
        /// The frame.
        invoke: Box<protocol::Invoke>,
    },
    /// `agent_response` or `agent_error`; not the backend's acknowledgements of its notifications.
    Answer {
        /// The connection.
        session: SessionId,
        /// The frame.
        answer: protocol::Answer,
    },
    /// `agent_log`
    Log {
        /// The connection.
        session: SessionId,
        /// The frame.
        log: protocol::Log,
    },
    /// `agent_cancel`
    Cancel {
        /// The connection.
        session: SessionId,
        /// The frame.
        cancel: protocol::Cancel,
    },
    /// The agent's library has read these deliveries.
    Receipts {
        /// The connection.
        session: SessionId,
        /// The invocations and which delivery of each.
        deliveries: Vec<(InvocationId, u32)>,
    },
    /// The caller's library has read these answers.
    AnswersDelivered {
        /// The connection.
        session: SessionId,
        /// Which.
        answers: Vec<AnswerRead>,
    },
    /// The backend has its notifications up to this place.
    FeedAcknowledged {
        /// The last one.
        position: Position,
    },
    /// A frame made no sense; the session has told its sender.
    FrameRefused {
        /// The connection.
        session: SessionId,
        /// What was wrong; no content of the frame.
        reason: String,
    },
    /// An invocation was refused before it came here; whoever asked was told.
    InvocationRefused {
        /// Who asked.
        caller: Identity,
        /// Whom it was for, as it was written.
        target: String,
        /// What it belongs to.
        labels: Labels,
        /// Why.
        code: ErrorCode,
    },
    /// A connection or a request was turned away.
    ConnectionRefused {
        /// Where it came from: an address without the port.
        peer: String,
        /// Why; no credential.
        reason: String,
    },
    /// `POST /invoke-agent`. Answered by [`super::Router::client_message`].
    ClientMessage {
        /// Who asks.
        caller: Identity,
        /// To whom.
        client: Identity,
        /// The message: the text of a JSON object.
        message: Bytes,
    },
    /// `POST /v1/invocations`. Answered by [`super::Router::invoke`].
    HttpInvoke {
        /// Which master asks.
        caller: Identity,
        /// The frame that its own socket would have sent.
        invoke: Box<protocol::Invoke>,
    },
    /// The cancelling of an invocation over HTTP. Answered by [`super::Router::cancel`].
    HttpCancel {
        /// Which master asks.
        caller: Identity,
        /// Which invocation.
        invocation: InvocationId,
    },
    /// An operator ends every own socket of an agent. Answered by [`super::Router::disconnect`].
    Disconnect {
        /// Whose.
        agent: Identity,
    },
    /// An operator has the router take nothing new, or take it again. Answered by [`super::Router::drain`].
    Drain {
        /// Nothing new.
        on: bool,
    },
    /// An operator removes the payloads of a finished invocation for good. Answered by [`super::Router::erase`].
    Erase {
        /// Which invocation.
        invocation: InvocationId,
        /// Why.
        reason: String,
    },
    /// The journal may let go of its oldest events.
    Prune {
        /// The last of them.
        through: Head,
        /// How many they are.
        events: u64,
    },
    /// Another router was not heard of for too long: its sockets have ended. Nothing, if it has a new life since.
    NodeLost {
        /// Which.
        node: NodeId,
        /// Which of its lives.
        epoch: i64,
    },
    /// This router's sockets are closed, and it goes: what other routers can go on with is left to them, not to its next
    /// start.
    Leave,
    /// Whoever asked for this was told `journal_unavailable` before it came out that it was committed: it is not to run.
    Withdraw {
        /// Which invocation.
        invocation: InvocationId,
    },
    /// The router goes down: requests are refused as `shutting_down`, and ends of sockets are left for the next start to
    /// see.
    Shutdown,
}

/// An answer that its caller's library has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRead {
    /// The invocation that it is to.
    pub invocation: InvocationId,
    /// Its agent.
    pub agent: Identity,
    /// What it belongs to.
    pub labels: Labels,
}

/// What a commit that fails means for a command, and how soon it has to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody asks for something, and can be refused.
    Request,
    /// Something happened, and is kept until the journal takes it.
    Fact,
    /// Something happened that nothing waits for: it rides along with the next commit.
    Note,
    /// The same, of something that was refused: it is dropped when the journal takes nothing.
    Refusal,
}

impl Command {
    /// Its class.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Open { .. }
            | Self::Invoke { .. }
            | Self::Cancel { .. }
            | Self::ClientMessage { .. }
            | Self::HttpInvoke { .. }
            | Self::HttpCancel { .. }
            | Self::Disconnect { .. }
            | Self::Drain { .. }
            | Self::Erase { .. }
            | Self::Prune { .. } => Class::Request,
            Self::Register { .. }
            | Self::Unregister { .. }
            | Self::Answer { .. }
            | Self::Log { .. }
            | Self::End { .. }
            | Self::NodeLost { .. }
            | Self::Leave
            | Self::Withdraw { .. }
            | Self::Shutdown => Class::Fact,
            Self::Receipts { .. } | Self::AnswersDelivered { .. } | Self::FeedAcknowledged { .. } => Class::Note,
            Self::FrameRefused { .. } | Self::InvocationRefused { .. } | Self::ConnectionRefused { .. } => {
                Class::Refusal
            }
        }
    }
}

/// Why a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The peer closed it or vanished.
    Closed,
    /// It answered no Ping.
    Dead,
    /// It did not read what it was sent.
    TooSlow,
    /// A newer socket of the same identity registered.
    TakenOver,
    /// It sent a frame that is larger than any that is read, or broke the WebSocket protocol.
    ProtocolError,
    /// It asked for no more invocations, and has answered all that it had.
    Unregistered,
    /// An operator ended it.
    Operator,
    /// The router's own task for it broke off, which is a fault of the router.
    Failed,
    /// This router goes down.
    Restarting,
    /// Its router was not heard of for too long.
    NodeLost,
}

impl EndReason {
    /// As the journal has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Dead => "dead",
            Self::TooSlow => "too_slow",
            Self::TakenOver => "taken_over",
            Self::ProtocolError => "protocol_error",
            Self::Unregistered => "unregistered",
            Self::Operator => "operator",
            Self::Failed => "failed",
            Self::Restarting => "router_restarted",
            Self::NodeLost => "node_lost",
        }
    }
}
