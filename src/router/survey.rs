//! What there is to do, for people who look after the router. Asked of the writer, who answers from what is durable (with what is
//! being committed, if that takes very long); it changes nothing, so it is answered during an outage too.

use tokio::sync::oneshot;

use crate::auth::Principal;
use crate::clock::Timestamp;
use crate::id::Identity;
use crate::router::ledger::Ledger;

/// How much there is to do for an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Invocations that wait for it.
    pub queued: usize,
    /// Invocations that it was sent and has not answered.
    pub in_flight: usize,
}

/// What there is to do. Sockets are this router's own; invocations are those of the journal, for all routers on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// An operator had this router take nothing new.
    pub draining: bool,
    /// Sockets of this router, invoke sockets included.
    pub connections: usize,
    /// The same, by whose they are.
    pub by_role: Connections,
    /// Invocations that are not finished.
    pub open: usize,
    /// Invocations that wait for their agents.
    pub queued: usize,
    /// Invocations that were sent and are not answered.
    pub in_flight: usize,
    /// Since when the longest waiting one waits.
    pub oldest_queued: Option<Timestamp>,
}

/// Sockets, by whose they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Agents' and callers' own.
    pub agents: usize,
    /// The backend's own.
    pub backend: usize,
    /// The master agent's own.
    pub master_agent: usize,
    /// Invoke sockets.
    pub invoke: usize,
}

impl Connections {
    /// All of them.
    #[must_use]
    pub const fn all(self) -> usize {
        self.agents + self.backend + self.master_agent + self.invoke
    }

    /// Those of one kind.
    pub(super) fn of(&mut self, principal: &Principal) -> &mut usize {
        match principal {
            Principal::Invoke { .. } => &mut self.invoke,
            Principal::Own { identity, .. } if identity.is_backend() => &mut self.backend,
            Principal::Own { identity, .. } if identity.is_master() => &mut self.master_agent,
            Principal::Own { .. } => &mut self.agents,
        }
    }
}

/// What the writer is asked. Nobody may wait for the answer any more.
#[derive(Debug)]
pub(super) enum Question {
    Workload(oneshot::Sender<Workload>),
    /// Of these agents, in their order.
    Loads(Vec<Identity>, oneshot::Sender<Vec<Load>>),
}

/// What the answer to a question is.
#[derive(Debug)]
pub(super) enum Survey {
    Workload(Workload),
    Loads(Vec<Load>),
}

impl Question {
    /// Looks at the state, whether or not that is durable yet.
    pub(super) fn look(&self, ledger: &Ledger) -> Survey {
        match self {
            Self::Workload(_) => Survey::Workload(ledger.workload()),
            Self::Loads(agents, _) => Survey::Loads(agents.iter().map(|agent| ledger.load(agent)).collect()),
        }
    }

    /// Tells whoever asked, who may be gone.
    pub(super) fn tell(self, survey: Survey) {
        match (self, survey) {
            (Self::Workload(asker), Survey::Workload(workload)) => _ = asker.send(workload),
            (Self::Loads(_, asker), Survey::Loads(loads)) => _ = asker.send(loads),
            // Each question is told what it looked at itself.
            _ => {}
        }
    }
}
