//! Invocations come in: who may ask whom, what is taken, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use smallvec::{SmallVec, smallvec};

use super::replies::send_answer;
use super::session::Session;
use super::tables::Waiter;
use super::{Found, Labels, Ledger, Step, Subject, Verdict};
use crate::auth::Principal;
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, Position, SessionId};
use crate::invocation::{IdempotencyKey, Invocation, Origin, Outcome, Reply, State, Terms};
use crate::journal::{Accepted, Detail, Lookup};
use crate::protocol::outbound::{ErrorAddition, caller_receipt, dismissal, invocation_error};
use crate::protocol::{Cancel, Invoke};
use crate::router::outbox::Outbound;

/// When a caller whose invocation found the queue full may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is to become an invocation.
struct Request {
    agent: Identity,
    caller: Identity,
    origin: Origin,
    additions: bool,
    body: Bytes,
    terms: Terms,
    key: Option<Box<IdempotencyKey>>,
    labels: Labels,
    waiters: SmallVec<[Waiter; 1]>,
}

/// Why an invocation is not taken.
struct Refusal {
    code: ErrorCode,
    /// How many wait already, if that is why.
    queued: Option<u64>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, queued: None }
    }
}

impl Ledger {
    pub(super) fn wants_key(&self, session: SessionId, invoke: &Invoke, lookup: &mut Lookup) {
        let Some(key) = &invoke.options.idempotency_key else { return };
        if let (Some(session), Ok(agent)) = (self.tables.session(session), Identity::new(&invoke.target)) {
            let scope = (session.identity().clone(), agent, Arc::from(key.as_str()));
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
        let additions = invoke.options.used;
        let outcome = if invoke.dismissal && session.is_backends_invoke_socket() {
            self.dismiss(&session, invoke, now, step)
        } else {
            self.take(&session, invoke, found, now, step)
        };
        match outcome {
            Ok(()) => Verdict::Taken,
            Err(refusal) => {
                let addition = additions.then_some(ErrorAddition {
                    invocation_id: None,
                    queued: refusal.queued,
                    retry_after_ms: refusal.queued.map(|_| as_millis(RETRY_AFTER)),
                });
                step.send_at_once(id, invocation_error(refusal.code, &invoke.target, addition));
                self.invocation_refused(session.identity(), &invoke.target, refusal.code, now, step);
                Verdict::Refused(refusal.code)
            }
        }
    }

    fn take(
        &mut self,
        session: &Session,
        invoke: &Invoke,
        found: &Found,
        now: Timestamp,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        if self.marks.shutting_down {
            return Err(ErrorCode::ShuttingDown.into());
        }
        let agent = Identity::new(&invoke.target).map_err(|_| ErrorCode::AgentUnknown)?;
        if !may_invoke(&session.principal, &agent) {
            return Err(ErrorCode::NotAllowed.into());
        }
        let caller = session.identity().clone();
        let options = &invoke.options;
        let waiter = Waiter { session: session.id, additions: options.used };
        let key = options.idempotency_key.as_deref().map(|key| {
            let digest = Sha256::digest(invoke.payload.as_deref().unwrap_or_default()).into();
            Box::new(IdempotencyKey { key: key.into(), digest })
        });
        if let Some(key) = &key
            && let Some(earlier) = self.earlier(&caller, &agent, key, found, now)
        {
            if earlier.key.as_ref().is_none_or(|used| used.digest != key.digest) {
                return Err(ErrorCode::IdempotencyKeyReused.into());
            }
            self.join(&earlier, waiter, invoke, step);
            return Ok(());
        }
        let millis = |value: Option<u64>| value.map(Duration::from_millis);
        let terms = self
            .policy
            .terms(now, millis(options.ttl_ms), millis(options.deadline_ms), options.max_attempts)
            .map_err(|_| ErrorCode::Malformed)?;
        let registered = session.has_registered();
        let origin = match session.principal {
            Principal::Own { .. } => Origin::Socket { session: session.id, registered },
            Principal::Invoke { .. } => Origin::InvokeSocket { session: session.id },
        };
        let request = Request {
            agent,
            caller,
            origin,
            additions: options.used,
            body: invoke.body.clone(),
            terms,
            key,
            labels: Labels { request_id: invoke.request_id.clone(), session_id: invoke.session_id.clone() },
            waiters: smallvec![waiter],
        };
        let accepted = self.accept(request, now, step)?;
        if options.receipt
            && let Some(entry) = self.tables.invocation(accepted)
        {
            let state = entry.invocation.state_name();
            let receipt = self.receipt_frame(accepted, state.as_str(), invoke.metadata.as_deref());
            step.send(session.id, Outbound::Frame(receipt));
        }
        Ok(())
    }

    /// Admits a request, journals it, and sends it on if its agent can take it.
    fn accept(&mut self, request: Request, now: Timestamp, step: &mut Step) -> Result<InvocationId, Refusal> {
        self.admit(&request, now)?;
        let id = InvocationId::generate();
        let body_bytes = u32::try_from(request.body.len()).map_err(|_| ErrorCode::FrameTooLarge)?;
        let mut invocation = Invocation {
            id,
            agent: request.agent,
            caller: request.caller,
            origin: request.origin,
            additions: request.additions,
            accepted: Position::default(),
            accepted_at: now,
            body_bytes,
            terms: request.terms,
            key: request.key,
            attempt: 0,
            unreceipted: 0,
            starts: 0,
            receipted: false,
            delivered_at: None,
            plain_unanswered: false,
            state: State::Queued { since: now },
            reply: Reply::None,
        };
        if self.delivery_len(&invocation) > self.policy.max_frame_bytes {
            return Err(ErrorCode::FrameTooLarge.into());
        }
        let (origin, session) = match invocation.origin {
            Origin::Socket { session, .. } => ("socket", Some(session)),
            Origin::InvokeSocket { session } => ("invoke_socket", Some(session)),
            Origin::ClientMessage => ("client_message", None),
        };
        let detail = Detail::InvocationAccepted(Accepted {
            origin,
            session,
            ttl_ms: as_millis(invocation.terms.ttl),
            deadline_ms: as_millis(invocation.terms.deadline.since(now)),
            max_attempts: invocation.terms.max_attempts,
            idempotency_key: invocation.key.as_ref().map(|key| Arc::clone(&key.key)),
            request_id: request.labels.request_id.clone(),
            session_id: request.labels.session_id.clone(),
        });
        let subject = Subject::of(&invocation);
        invocation.accepted = self.record(step, now, subject, detail, Some(request.body.clone()));
        let agent = invocation.agent.clone();
        step.labels.insert(id, request.labels);
        self.tables.put_invocation(invocation, request.waiters);
        self.deliver_next(&agent, Some(&(id, request.body)), now, step);
        Ok(id)
    }

    /// Whether there is room, and anybody to wait for.
    fn admit(&self, request: &Request, now: Timestamp) -> Result<(), Refusal> {
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
            waiters.retain(|other| other.session != waiter.session && self.tables.session(other.session).is_some());
            waiters.push(waiter);
            self.tables.change(earlier.id, |entry| entry.waiters = waiters);
        } else {
            send_answer(earlier, waiter, None, step);
        }
    }

    /// A receipt for a caller, without the caller's metadata if it would be too large with them.
    fn receipt_frame(&self, id: InvocationId, state: &str, metadata: Option<&[u8]>) -> Bytes {
        let whole = caller_receipt(id, state, metadata);
        if whole.len() > self.policy.max_frame_bytes { caller_receipt(id, state, None) } else { whole }
    }

    /// The backend tells an agent to go.
    fn dismiss(&mut self, session: &Session, invoke: &Invoke, now: Timestamp, step: &mut Step) -> Result<(), Refusal> {
        let agent = Identity::new(&invoke.target).map_err(|_| ErrorCode::AgentUnknown)?;
        if !may_invoke(&session.principal, &agent) {
            return Err(ErrorCode::NotAllowed.into());
        }
        let to = self.receiver(&agent).ok_or(ErrorCode::AgentAway)?;
        let payload = invoke.payload.clone().unwrap_or_default();
        let frame = dismissal(&payload);
        if frame.len() > self.policy.max_frame_bytes {
            return Err(ErrorCode::FrameTooLarge.into());
        }
        let subject = Subject { agent: Some(agent), caller: Some(session.identity().clone()), invocation: None };
        self.record(step, now, subject, Detail::AgentDismissed { session: Some(to) }, Some(payload));
        step.send(to, Outbound::Frame(frame));
        Ok(())
    }

    /// `POST /invoke-agent`: to a client that is connected, or not at all.
    pub(super) fn client_message(
        &mut self,
        caller: &Identity,
        client: &Identity,
        message: &Bytes,
        now: Timestamp,
        step: &mut Step,
    ) -> Verdict {
        let terms = self.policy.terms(now, Some(Duration::ZERO), None, None);
        let request = terms.map_err(|_| Refusal::from(ErrorCode::Malformed)).map(|terms| Request {
            agent: client.clone(),
            caller: caller.clone(),
            origin: Origin::ClientMessage,
            additions: false,
            body: message.clone(),
            terms,
            key: None,
            labels: Labels { request_id: None, session_id: None },
            waiters: SmallVec::new(),
        });
        let accepted = if self.marks.shutting_down {
            Err(ErrorCode::ShuttingDown.into())
        } else {
            request.and_then(|request| self.accept(request, now, step))
        };
        match accepted {
            Ok(_) => Verdict::Taken,
            Err(refusal) => {
                self.invocation_refused(caller, client.as_str(), refusal.code, now, step);
                Verdict::Refused(refusal.code)
            }
        }
    }

    pub(super) fn cancel(
        &mut self,
        id: SessionId,
        cancel: &Cancel,
        found: &Found,
        now: Timestamp,
        step: &mut Step,
    ) -> Verdict {
        let Some(session) = self.tables.session(id) else { return Verdict::Taken };
        let caller = session.identity().clone();
        let invocation = self
            .tables
            .invocation(cancel.invocation_id)
            .map(|entry| &entry.invocation)
            .or_else(|| found.by_id.get(&cancel.invocation_id))
            .filter(|invocation| invocation.caller == caller)
            .cloned();
        let Some(invocation) = invocation else {
            let addition =
                ErrorAddition { invocation_id: Some(cancel.invocation_id), queued: None, retry_after_ms: None };
            step.send_at_once(id, invocation_error(ErrorCode::NotAllowed, "", Some(addition)));
            self.invocation_refused(&caller, "", ErrorCode::NotAllowed, now, step);
            return Verdict::Refused(ErrorCode::NotAllowed);
        };
        let open = invocation.is_open();
        let state = if open { "cancelled" } else { invocation.state_name().as_str() };
        let receipt = self.receipt_frame(invocation.id, state, cancel.metadata.as_deref());
        step.send(id, Outbound::Frame(receipt));
        if open {
            self.record(step, now, Subject::of(&invocation), Detail::InvocationCancelled {}, None);
            self.finish(invocation.id, Outcome::Cancelled, None, now, step);
        }
        Verdict::Taken
    }
}

/// Who may invoke whom: an invoke socket its target alone, the master agent by the backend's invoke sockets alone, and
/// the backend by nobody.
fn may_invoke(principal: &Principal, agent: &Identity) -> bool {
    match principal {
        _ if agent.is_backend() => false,
        Principal::Own { .. } => !agent.is_master(),
        Principal::Invoke { caller, target } => target == agent && (!agent.is_master() || caller.is_backend()),
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
