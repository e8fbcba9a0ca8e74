//! What was committed, for people who look after the router: counted, and told in log lines.
//!
//! A line reads alone and carries fields. It has no bodies, no credentials and no reasons in peers' words; what it leaves out
//! is in the journal. What is rare or about a connection is told at `info`, what happens to each invocation at `debug`.

use crate::id::{Identity, InvocationId};
use crate::journal::{Detail, Event};
use crate::metrics::{Metrics, Tally};

/// Counts and tells of the events of a batch that is on the disk.
pub(super) fn account(events: &[Event], metrics: &Metrics) {
    let mut tally = Tally::default();
    for event in events {
        count(event, &mut tally, metrics);
        tell(event);
    }
    metrics.add(&tally);
}

fn count(event: &Event, tally: &mut Tally, metrics: &Metrics) {
    match &event.detail {
        Detail::InvocationAccepted(_) => tally.accepted += 1,
        Detail::InvocationCompleted { .. } => tally.completed += 1,
        Detail::InvocationFailed { .. } => tally.failed += 1,
        Detail::InvocationExpired {} => tally.expired += 1,
        Detail::InvocationTimedOut {} => tally.timed_out += 1,
        Detail::InvocationCancelled {} => tally.cancelled += 1,
        Detail::InvocationDelivered { attempt, .. } => {
            tally.deliveries += 1;
            tally.redeliveries += u64::from(*attempt > 1);
        }
        Detail::FrameRefused { suppressed, .. } => tally.frames_refused += 1 + suppressed,
        Detail::ConnectionRefused { suppressed, .. } => tally.connections_refused += 1 + suppressed,
        // Those that were not journaled one by one need not have had the same code; the last one's stands for them.
        Detail::InvocationRefused { code, suppressed, .. } => {
            metrics.invocations_refused(code.as_str(), 1 + suppressed);
        }
        _ => {}
    }
}

fn tell(event: &Event) {
    let agent = event.agent.as_ref().map_or("", Identity::as_str);
    match &event.detail {
        Detail::NodeStarted { version } => tracing::info!(version, "the router starts on its journal"),
        Detail::NodeStopped {} => tracing::info!("the router stops"),
        Detail::NodeDraining {} => tracing::info!("an operator has the router drain: it takes nothing new"),
        Detail::NodeResumed {} => tracing::info!("an operator ended the draining: the router takes new things again"),
        Detail::AgentConnected { session } if event.agent.as_ref().is_some_and(Identity::is_backend) => {
            tracing::info!(%session, "the backend connected");
        }
        Detail::AgentConnected { session } => tracing::debug!(agent, %session, "a peer connected"),
        Detail::AgentRegistered { session, version, adopted, .. } => {
            tracing::info!(agent, %session, version, adopted = adopted.len(), "an agent registered");
        }
        Detail::AgentUnregistered { session } => tracing::info!(agent, %session, "an agent asked for no more"),
        Detail::AgentDisconnected { session, reason, .. } => {
            tracing::info!(agent, %session, reason, "a peer's socket ended");
        }
        Detail::AgentDismissed { .. } => tracing::info!(agent, "the backend dismissed an agent"),
        Detail::PayloadErased { .. } => {
            let invocation = event.invocation.map(tracing::field::display);
            tracing::info!(invocation, agent, "an operator erased the payloads of an invocation");
        }
        Detail::InvocationRefused { code, suppressed, .. } => {
            let caller = event.caller.as_ref().map_or("", Identity::as_str);
            tracing::debug!(agent, caller, %code, suppressed, "an invocation was refused");
        }
        detail => {
            if let Some(invocation) = event.invocation {
                tell_of_invocation(invocation, agent, detail);
            }
        }
    }
}

fn tell_of_invocation(invocation: InvocationId, agent: &str, detail: &Detail) {
    let kind = detail.kind().as_str();
    match detail {
        Detail::InvocationDelivered { attempt, session, .. } | Detail::InvocationStarted { attempt, session, .. } => {
            tracing::debug!(%invocation, agent, kind, attempt, %session, "an invocation goes on");
        }
        Detail::InvocationFailed { attempt, code: Some(code) } => {
            tracing::debug!(%invocation, agent, kind, attempt, %code, "the router gave an invocation up");
        }
        _ => tracing::debug!(%invocation, agent, kind, "an invocation goes on"),
    }
}
