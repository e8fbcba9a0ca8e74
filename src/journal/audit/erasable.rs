//! What an erasure takes, told from the events themselves: the payloads of an invocation, and those of its agent's log lines
//! about the same request.

use serde::Deserialize;

use crate::journal::EventKind;

/// Payloads that go together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Erasable {
    /// Those of this invocation's own events.
    Invocation(Box<[u8]>),
    /// Those of an agent's log lines about a request.
    Logs {
        /// Who logged.
        agent: Box<str>,
        /// What its lines name; never empty.
        request_id: Box<str>,
    },
}

/// The one fact of a `detail` that counts here.
#[derive(Deserialize)]
struct Request {
    request_id: Option<Box<str>>,
}

impl Erasable {
    /// To which of them the payload of this event belongs; `None`: it can never be erased.
    #[must_use]
    pub fn holding(kind: EventKind, invocation: Option<&[u8]>, agent: Option<&str>, detail: &str) -> Option<Self> {
        match kind {
            EventKind::AgentLogged => Self::logs(agent, detail),
            _ => invocation.map(|invocation| Self::Invocation(invocation.into())),
        }
    }

    /// What a `payload.erased` with these facts says is gone.
    pub fn named(invocation: Option<&[u8]>, agent: Option<&str>, detail: &str) -> impl Iterator<Item = Self> {
        let invocation = invocation.map(|invocation| Self::Invocation(invocation.into()));
        [invocation, Self::logs(agent, detail)].into_iter().flatten()
    }

    fn logs(agent: Option<&str>, detail: &str) -> Option<Self> {
        let Request { request_id } = serde_json::from_str(detail).ok()?;
        let request_id = request_id.filter(|request_id| !request_id.is_empty())?;
        Some(Self::Logs { agent: agent?.into(), request_id })
    }
}
