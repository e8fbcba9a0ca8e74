//! Invocations come in: what is taken, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::asker::Asker;
use super::replies::send_answer;
use super::tables::Waiter;
use super::{Found, Ledger, Step, Subject, Verdict};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, SessionId};
use crate::invocation::{IdempotencyKey, Invocation, Labels, Order, Origin, Terms};
use crate::journal::{Accepted, Detail, Lookup};
use crate::protocol::Invoke;
use crate::protocol::outbound::{ErrorAddition, caller_receipt, invocation_error};
use crate::router::Taken;
use crate::router::outbox::Outbound;

/// When a caller whose invocation found the queue full may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is to become an invocation.
pub(super) struct Request {
    pub(super) agent: Identity,
    pub(super) caller: Identity,
    pub(super) origin: Origin,
    pub(super) additions: bool,
    pub(super) body: Bytes,
    pub(super) terms: Terms,
    pub(super) key: Option<Box<IdempotencyKey>>,
    pub(super) labels: Labels,
    pub(super) traceparent: Option<String>,
    pub(super) waiters: SmallVec<[Waiter; 1]>,
}

/// Why an invocation is not taken.
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    /// How many wait already, if that is why.
    queued: Option<u64>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, queued: None }
    }
}

impl Ledger {
    pub(super) fn wants_key(&self, caller: &Identity, invoke: &Invoke, lookup: &mut Lookup) {
        let Some(key) = &invoke.options.idempotency_key else { return };
        if let Ok(agent) = Identity::new(&invoke.target) {
            let scope = (caller.clone(), agent, Arc::from(key.as_str()));
            // While one is open there is no newer one.
            if self.tables.by_key(&scope).is_none_or(|entry| !entry.invocation.is_open()) {
                lookup.keys.push(scope);
            }
        }
    }

    pub(super) fn invoke(
        &mut self,
        id: SessionId,
        invoke: &Invoke,
        found: &Found,
        now: Timestamp,
        step: &mut Step,
    ) -> Verdict {
        let Some(session) = self.tables.session(id).cloned() else {
            return Verdict::Refused(ErrorCode::NotAllowed);
        };
        let asker = Asker::Socket(&session);
        let outcome = if invoke.dismissal && session.is_backends_invoke_socket() {
            self.dismiss(&session, invoke, now, step)
        } else {
            self.take(asker, invoke, found, now, step).map(|_| ())
        };
        match outcome {
            Ok(()) => Verdict::Taken,
            Err(refusal) => self.refuse(asker, invoke, &refusal, now, step),
        }
    }

    /// An invocation over HTTP is what the same frame on the master's own socket would be. Nobody is dismissed so.
    pub(super) fn http_invoke(
        &mut self,
        caller: &Identity,
        invoke: &Invoke,
        found: &Found,
        now: Timestamp,
        step: &mut Step,
    ) -> Verdict {
        let asker = Asker::Http(caller);
        match self.take(asker, invoke, found, now, step) {
            Ok(taken) => Verdict::Invoked(taken),
            Err(refusal) => self.refuse(asker, invoke, &refusal, now, step),
        }
    }

    fn refuse(
        &mut self,
        asker: Asker<'_>,
        invoke: &Invoke,
        refusal: &Refusal,
        now: Timestamp,
        step: &mut Step,
    ) -> Verdict {
        if let Asker::Socket(session) = asker {
            let addition = invoke.options.used.then_some(ErrorAddition {
                invocation_id: None,
                queued: refusal.queued,
                retry_after_ms: refusal.queued.map(|_| as_millis(RETRY_AFTER)),
            });
            step.send_at_once(session.id, invocation_error(refusal.code, &invoke.target, addition));
        }
        self.invocation_refused(asker.identity(), &invoke.target, labels_of(invoke), refusal.code, now, step);
        Verdict::Refused(refusal.code)
    }

    /// An invoke key is good while its agent is connected, also on a socket that was opened with it before: otherwise
    /// whoever captured one could keep it good.
    fn may_call(&self, asker: Asker<'_>) -> bool {
        match asker {
            Asker::Socket(session) => self.vouches_for(&session.principal),
            Asker::Http(_) => true,
        }
    }

    fn take(
        &mut self,
        asker: Asker<'_>,
        invoke: &Invoke,
        found: &Found,
        now: Timestamp,
        step: &mut Step,
    ) -> Result<Taken, Refusal> {
        if self.marks.shutting_down {
            return Err(ErrorCode::ShuttingDown.into());
        }
        let agent = Identity::new(&invoke.target).map_err(|_| ErrorCode::AgentUnknown)?;
        if !asker.may_invoke(&agent) || !self.may_call(asker) {
            return Err(ErrorCode::NotAllowed.into());
        }
        let caller = asker.identity().clone();
        let options = &invoke.options;
        let waiter = asker.waiter(options.used);
        let key = options.idempotency_key.as_deref().map(|key| {
            let digest = Sha256::digest(invoke.payload.as_deref().unwrap_or_default()).into();
            Box::new(IdempotencyKey { key: key.into(), digest })
        });
        if let Some(key) = &key
            && let Some(earlier) = self.earlier(&caller, &agent, key, found, now)
        {
            // What the journal said of it is older than this batch.
            let is_erased = step.erased.iter().any(|erased| erased.invocation == earlier.id);
            if is_erased || earlier.key.as_ref().is_none_or(|used| used.digest != key.digest) {
                return Err(ErrorCode::IdempotencyKeyReused.into());
            }
            if let Some(waiter) = waiter {
                self.join(&earlier, waiter, invoke, step);
            }
            return Ok(Taken { invocation: earlier.id, replayed: true });
        }
        let millis = |value: Option<u64>| value.map(Duration::from_millis);
        let terms = self
            .policy
            .terms(now, millis(options.ttl_ms), millis(options.deadline_ms), options.max_attempts)
            .map_err(|_| ErrorCode::Malformed)?;
        let request = Request {
            agent,
            caller,
            origin: asker.origin(),
            additions: waiter.is_some_and(|waiter| waiter.additions),
            body: invoke.body.clone(),
            terms,
            key,
            labels: labels_of(invoke),
            traceparent: invoke.traceparent.clone(),
            waiters: waiter.into_iter().collect(),
        };
        let accepted = self.accept(request, now, step)?;
        if options.receipt
            && let Some(waiter) = waiter
            && let Some(entry) = self.tables.invocation(accepted)
        {
            let state = entry.invocation.state_name();
            let receipt = self.receipt_frame(accepted, state.as_str(), invoke.metadata.as_deref());
            step.send(waiter.session, Outbound::Frame(receipt));
        }
        Ok(Taken { invocation: accepted, replayed: false })
    }

    /// Admits a request, journals it, and sends it on if its agent can take it.
    pub(super) fn accept(
        &mut self,
        request: Request,
        now: Timestamp,
        step: &mut Step,
    ) -> Result<InvocationId, Refusal> {
        self.admit(&request, now)?;
        let id = InvocationId::generate();
        let body_bytes = u32::try_from(request.body.len()).map_err(|_| ErrorCode::FrameTooLarge)?;
        let invocation = Invocation::new(Order {
            id,
            agent: self.tables.known_as(request.agent),
            caller: request.caller,
            origin: request.origin,
            home: self.node,
            additions: request.additions,
            // The event that is recorded next.
            accepted: self.marks.head.next(),
            accepted_at: now,
            body_bytes,
            terms: request.terms,
            key: request.key,
            labels: request.labels,
        });
        if !self.fits(&invocation) {
            return Err(ErrorCode::FrameTooLarge.into());
        }
        let (origin, session) = match invocation.origin {
            Origin::Socket { session, .. } => ("socket", Some(session)),
            Origin::InvokeSocket { session } => ("invoke_socket", Some(session)),
            Origin::ClientMessage => ("client_message", None),
            Origin::Http => ("http", None),
        };
        let detail = Detail::InvocationAccepted(Accepted {
            origin,
            session,
            ttl_ms: as_millis(invocation.terms.ttl),
            deadline_ms: as_millis(invocation.terms.deadline.since(now)),
            max_attempts: invocation.terms.max_attempts,
            idempotency_key: invocation.key.as_ref().map(|key| Arc::clone(&key.key)),
            request_id: invocation.labels.request_id.clone(),
            session_id: invocation.labels.session_id.clone(),
            traceparent: request.traceparent,
        });
        let subject = Subject::of(&invocation);
        self.record(step, now, subject, detail, Some(request.body.clone()));
        let agent = invocation.agent.clone();
        self.tables.put_invocation(invocation, request.waiters);
        self.deliver_next(&agent, Some(&(id, request.body)), now, step);
        Ok(id)
    }

    /// Whether anything new is taken, there is room, and anybody to wait for.
    fn admit(&self, request: &Request, now: Timestamp) -> Result<(), Refusal> {
        if self.marks.draining {
            return Err(ErrorCode::ShuttingDown.into());
        }
        let agent = self.tables.agent(&request.agent);
        let queued = agent.map_or(0, |agent| agent.queue.len());
        let full = Refusal { code: ErrorCode::QueueFull, queued: Some(queued as u64) };
        if self.tables.open() >= self.policy.max_open {
            return Err(full);
        }
        if self.can_deliver_now(&request.agent) {
            return Ok(());
        }
        if !self.tables.is_connected(&request.agent) {
            if !self.is_known(&request.agent) {
                return Err(ErrorCode::AgentUnknown.into());
            }
            let just_left = agent
                .and_then(|agent| agent.record.last_seen)
                .is_some_and(|seen| now.since(seen) < self.policy.agent_grace);
            if request.terms.ttl.is_zero() || !(just_left || request.terms.ttl_given) {
                return Err(ErrorCode::AgentAway.into());
            }
        }
        let bytes = agent.map_or(0, |agent| agent.queued_bytes) + request.body.len() as u64;
        if request.terms.ttl.is_zero() || queued >= self.policy.max_queued || bytes > self.policy.max_queued_bytes {
            return Err(full);
        }
        Ok(())
    }

    /// The invocation for which the caller used this key, if that is remembered.
    fn earlier(
        &self,
        caller: &Identity,
        agent: &Identity,
        key: &IdempotencyKey,
        found: &Found,
        now: Timestamp,
    ) -> Option<Invocation> {
        let scope = (caller.clone(), agent.clone(), Arc::clone(&key.key));
        let in_memory = self.tables.by_key(&scope).map(|entry| &entry.invocation);
        let stored = found.by_key.get(&scope).and_then(|(_, id)| found.by_id.get(id));
        // The newest may be settled while an older one is not.
        let earlier = match (in_memory, stored) {
            (Some(in_memory), Some(stored)) if stored.accepted > in_memory.accepted => stored,
            (in_memory, stored) => in_memory.or(stored)?,
        };
        let remembered = earlier.finished().is_none_or(|finished| now.since(finished.at) < self.policy.idempotency_ttl);
        remembered.then(|| earlier.clone())
    }

    /// One more socket sent the same invocation.
    fn join(&mut self, earlier: &Invocation, waiter: Waiter, invoke: &Invoke, step: &mut Step) {
        if invoke.options.receipt {
            let state = earlier.state_name().as_str();
            let receipt = self.receipt_frame(earlier.id, state, invoke.metadata.as_deref());
            step.send(waiter.session, Outbound::Frame(receipt));
        }
        if earlier.is_open() {
            let mut waiters = self.tables.invocation(earlier.id).map(|entry| entry.waiters.clone()).unwrap_or_default();
            waiters.retain(|other| other.session != waiter.session && self.is_held(other.session));
            waiters.push(waiter);
            self.tables.change(earlier.id, |entry| entry.waiters = waiters);
        } else {
            send_answer(earlier, waiter, None, step);
        }
    }

    /// A receipt for a caller, without the caller's metadata if it would be too large with them.
    pub(super) fn receipt_frame(&self, id: InvocationId, state: &str, metadata: Option<&[u8]>) -> Bytes {
        let whole = caller_receipt(id, state, metadata);
        if whole.len() > self.policy.max_frame_bytes { caller_receipt(id, state, None) } else { whole }
    }
}

/// What the frame says that the invocation belongs to.
pub(in crate::router) fn labels_of(invoke: &Invoke) -> Labels {
    Labels {
        request_id: invoke.request_id.as_deref().map(Arc::from),
        session_id: invoke.session_id.as_deref().map(Arc::from),
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
