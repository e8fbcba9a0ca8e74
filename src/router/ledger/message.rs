//! What only masters send, and is no ordinary invocation: dismissals, and messages by `POST /invoke-agent`.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::accept::{Refusal, Request, labels_of};
use super::asker::Asker;
use super::session::Session;
use super::{Ledger, Step, Subject, Verdict};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::Identity;
use crate::invocation::{Labels, Origin};
use crate::journal::{Detail, Dismissed};
use crate::protocol::Invoke;
use crate::protocol::outbound::dismissal;
use crate::router::outbox::Outbound;

impl Ledger {
    /// The backend tells an agent to go.
    pub(super) fn dismiss(
        &mut self,
        session: &Session,
        invoke: &Invoke,
        now: Timestamp,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let agent = Identity::new(&invoke.target).map_err(|_| ErrorCode::AgentUnknown)?;
        if !Asker::Socket(session).may_invoke(&agent) {
            return Err(ErrorCode::NotAllowed.into());
        }
        let to = self.receiver(&agent).ok_or(ErrorCode::AgentAway)?;
        let payload = invoke.payload.clone().unwrap_or_default();
        let frame = dismissal(&payload);
        if frame.len() > self.policy.max_frame_bytes {
            return Err(ErrorCode::FrameTooLarge.into());
        }
        let labels = labels_of(invoke);
        let Labels { request_id, session_id } = labels.clone();
        let detail = Detail::AgentDismissed { session: Some(to), request_id, session_id };
        let caller = Some(session.identity().clone());
        let subject = Subject { agent: Some(agent), caller, labels, ..Subject::none() };
        let position = self.record(step, now, subject, detail, Some(payload));
        if let Some(elsewhere) = self.elsewhere(to) {
            step.dismissed.push(Dismissed { session: to, position });
            step.wake_node(elsewhere);
        } else {
            step.send(to, Outbound::Frame(frame));
        }
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
            labels: Labels::default(),
            traceparent: None,
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
                self.invocation_refused(caller, client.as_str(), Labels::default(), refusal.code, now, step);
                Verdict::Refused(refusal.code)
            }
        }
    }
}
