//! What operators have the router do, and what the journal lets go of.

use super::answer::cut;
use super::session::{Session, Standing};
use super::{Found, Ledger, Step, Subject, Verdict};
use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId};
use crate::invocation::Reply;
use crate::journal::chain::to_hex;
use crate::journal::{Detail, Erased, Head};
use crate::router::outbox::Ending;
use crate::router::survey::{Load, Workload};

/// How much of an operator's reason is kept, in bytes: all that HTTP takes, in any script.
const MAX_REASON: usize = 4096;

/// The digest of no payload, in place of one that was erased: the key is taken and goes with nothing.
const ERASED: [u8; 32] = [0; 32];

impl Ledger {
    /// Has every own socket of an agent closed. Each ends as a socket that is taken over does: it is sent nothing more, and
    /// what it had sent still counts.
    pub(super) fn disconnect(&mut self, agent: &Identity, step: &mut Step) -> Verdict {
        let sockets: Vec<Session> = self.tables.sessions_of(agent).cloned().collect();
        let count = sockets.len();
        for socket in sockets.into_iter().filter(|socket| !socket.is_outgoing()) {
            self.close(socket, Standing::Disconnected, Ending::Disconnected, step);
        }
        if count == 0 { Verdict::NotFound } else { Verdict::Disconnected(count) }
    }

    pub(super) fn set_draining(&mut self, on: bool, now: Timestamp, step: &mut Step) {
        if self.marks.draining != on {
            self.marks.draining = on;
            self.put_own_standing();
            let detail = if on { Detail::NodeDraining {} } else { Detail::NodeResumed {} };
            self.record(step, now, Subject::none(), detail, None);
        }
    }

    pub(super) fn erase(
        &mut self,
        id: InvocationId,
        reason: &str,
        found: &Found,
        now: Timestamp,
        step: &mut Step,
    ) -> Verdict {
        let Some(invocation) = self.stored(id, found) else { return Verdict::NotFound };
        if invocation.is_open() {
            return Verdict::StillOpen;
        }
        let (subject, reply) = (Subject::of(invocation), invocation.reply);
        let reason = cut(reason, MAX_REASON).to_owned();
        let erased = Erased::all_of(invocation);
        self.record(step, now, subject, erased.detail(reason), None);
        step.erased.push(erased);
        self.tables.change(id, |entry| {
            // There is no answer to be sent any more.
            entry.invocation.reply = Reply::None;
            if entry.invocation.key.is_some()
                && let Some(key) = &mut entry.invocation.order_mut().key
            {
                key.digest = ERASED;
            }
        });
        if let Reply::Sent { session } = reply {
            if let Some(elsewhere) = self.elsewhere(session) {
                step.wake_node(elsewhere);
            }
            // It may not have left yet, and then nothing will confirm it: what comes behind it does not wait for that.
            self.send_owed_answers(session, step);
        }
        Verdict::Taken
    }

    /// Lets the journal go of its oldest events, unless something may still need them.
    pub(super) fn prune(&mut self, through: Head, events: u64, now: Timestamp, step: &mut Step) -> Verdict {
        let needed = self.tables.oldest_unsettled().is_some_and(|oldest| oldest <= through.position);
        // Another router may have been faster.
        let gone = through.position <= self.marks.pruned;
        if needed || gone || through.position > self.sealed.head || step.pruned.is_some() {
            return Verdict::StillOpen;
        }
        let hash = to_hex(&through.hash);
        // Some of them may be gone with what another router has pruned since they were counted.
        let events = events.min(u64::try_from(through.position.0 - self.marks.pruned.0).unwrap_or(0));
        self.record(
            step,
            now,
            Subject::none(),
            Detail::JournalPruned { through: through.position, hash, events },
            None,
        );
        self.marks.pruned = through.position;
        step.pruned = Some(through);
        Verdict::Taken
    }

    /// Whether nothing new is taken because an operator wants it so; what is durable of that.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.sealed.draining
    }

    /// What there is to do all in all.
    #[must_use]
    pub fn workload(&self) -> Workload {
        let by_role = self.tables.connections();
        Workload {
            draining: self.marks.draining,
            connections: by_role.all(),
            by_role,
            open: self.tables.open(),
            queued: self.tables.queued(),
            in_flight: self.tables.in_flight(),
            oldest_queued: self.tables.oldest_queued(),
        }
    }

    /// What there is to do for an agent.
    #[must_use]
    pub fn load(&self, agent: &Identity) -> Load {
        self.tables
            .agent(agent)
            .map_or_else(Load::default, |agent| Load { queued: agent.queue.len(), in_flight: agent.in_flight.len() })
    }
}
