//! What is asked of the router over HTTP, and answered when it is durable.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::command::Command;
use super::ledger::Verdict;
use super::outcome::{Declined, Taken};
use super::survey::{Load, Question, Workload};
use super::writer::Submission;
use super::{PATIENCE, Router, Waiter};
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, Position};
use crate::invocation::Labels;
use crate::metrics::Standing;
use crate::protocol::Invoke;

impl Router {
    /// `POST /invoke-agent`. `Ok` and a refusal that the journal tells of look the same to a part-1 client.
    pub async fn client_message(&self, caller: Identity, client: Identity, message: Bytes) -> Result<(), Declined> {
        let bytes = message.len();
        self.admit_call(&caller, || (client.to_string(), Labels::default()), bytes).await.map_err(rate_limited)?;
        self.request(Command::ClientMessage { caller, client, message }, bytes).await.map(drop)
    }

    /// `POST /v1/invocations`: the same as an `agent_invoke` of this master's own socket, but that the answer is read and
    /// not sent.
    pub async fn invoke(&self, caller: Identity, invoke: Box<Invoke>) -> Result<Taken, Declined> {
        let bytes = invoke.body.len();
        self.admit(&caller, &invoke, bytes).await.map_err(rate_limited)?;
        match self.request(Command::HttpInvoke { caller, invoke }, bytes).await? {
            Verdict::Invoked(taken) => Ok(taken),
            other => unreachable!("an invocation that was taken has an id: {other:?}"),
        }
    }

    /// Cancels an invocation of this caller; one that has ended stays as it is. [`Declined::NotFound`] if it has none.
    pub async fn cancel(&self, caller: Identity, invocation: InvocationId) -> Result<(), Declined> {
        self.request(Command::HttpCancel { caller, invocation }, 0).await.map(drop)
    }

    /// Ends every own socket of an agent, for an operator; returns how many. Each is told at once, and is over when the
    /// journal has its `agent.disconnected`. [`Declined::NotFound`] if the agent has none.
    pub async fn disconnect(&self, agent: Identity) -> Result<usize, Declined> {
        match self.request(Command::Disconnect { agent }, 0).await? {
            Verdict::Disconnected(count) => Ok(count),
            other => unreachable!("sockets that were found are counted: {other:?}"),
        }
    }

    /// Has the router take no new sockets and invocations, or take them again. What was accepted goes on. It ends with the
    /// process.
    pub async fn drain(&self, on: bool) -> Result<(), Declined> {
        self.request(Command::Drain { on }, 0).await.map(drop)
    }

    /// Removes the payloads of a finished invocation for good, and an answer that is still owed with them.
    /// [`Declined::NotFound`], [`Declined::StillOpen`].
    pub async fn erase(&self, invocation: InvocationId, reason: String) -> Result<(), Declined> {
        self.request(Command::Erase { invocation, reason }, 0).await.map(drop)
    }

    /// How much there is to do for each of these agents, in their order.
    pub async fn loads(&self, agents: Vec<Identity>) -> Result<Vec<Load>, Declined> {
        self.question(|answer| Question::Loads(agents, answer)).await
    }

    /// What there is to do all in all. The gauges of [`Self::metrics`] say the same from then on.
    pub async fn workload(&self) -> Result<Workload, Declined> {
        let workload = self.question(Question::Workload).await?;
        let by_role = workload.by_role;
        let now = self.clock().now();
        self.metrics().set_standing(&Standing {
            connections: [by_role.agents, by_role.backend, by_role.master_agent, by_role.invoke],
            open: workload.open,
            queued: workload.queued,
            oldest_age: workload.oldest_queued.map(|since| now.since(since)).unwrap_or_default(),
            in_flight: workload.in_flight,
        });
        Ok(workload)
    }

    /// Waits for the end of an invocation from now on. Ask for it first, and then look whether it has ended already.
    #[must_use]
    pub fn waiter(&self, invocation: InvocationId) -> Waiter {
        self.waiting.join(invocation)
    }

    /// The place of the newest event that readers can see, for following it.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<Position> {
        self.newest.clone()
    }

    pub(super) async fn request(&self, command: Command, bytes: usize) -> Result<Verdict, Declined> {
        let (reply, answered) = oneshot::channel();
        let permit = self.room(&command, bytes).await;
        let submission = Submission { command, reply: Some(reply), permit };
        self.commands.send(submission).await.map_err(|_| Declined::Refused(ErrorCode::ShuttingDown))?;
        match answered.await {
            Ok(Verdict::Refused(code)) => Err(Declined::Refused(code)),
            Ok(Verdict::NotFound) => Err(Declined::NotFound),
            Ok(Verdict::StillOpen) => Err(Declined::StillOpen),
            Ok(taken) => Ok(taken),
            Err(_) => Err(Declined::Unknown),
        }
    }

    /// Asks the writer. One who is held up by its disk does not answer, and that is what the asker is told.
    async fn question<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, Declined> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.questions.send(question(answer)).await.ok()?;
            answered.await.ok()
        };
        match timeout(PATIENCE, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Declined::Refused(ErrorCode::ShuttingDown)),
            Err(_) => Err(Declined::Refused(ErrorCode::JournalUnavailable)),
        }
    }
}

const fn rate_limited(retry_after: Duration) -> Declined {
    Declined::RateLimited { retry_after }
}
