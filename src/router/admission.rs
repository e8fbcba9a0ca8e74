//! Who asks too often is refused before the writer hears of it; the journal is told behind.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Router;
use super::command::Command;
use super::ledger::labels_of;
use super::rate_limit::{Allowances, RateLimits};
use crate::code::ErrorCode;
use crate::id::Identity;
use crate::invocation::Labels;
use crate::protocol::Invoke;

/// The allowances of all who ask, for all who let them in. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Admission(Option<Arc<Mutex<Allowances>>>);

impl Admission {
    pub(super) fn new(limits: RateLimits) -> Self {
        Self(Allowances::new(limits).map(|allowances| Arc::new(Mutex::new(allowances))))
    }
}

impl Router {
    /// Whether this caller may have an agent invoked now, by a frame of so many bytes. To be asked once for each
    /// invocation. If it may not, the journal is told, and the caller is to be.
    ///
    /// # Errors
    /// How long until it may.
    pub async fn admit(&self, caller: &Identity, invoke: &Invoke, bytes: usize) -> Result<(), Duration> {
        self.admit_call(caller, || (invoke.target.clone(), labels_of(invoke)), bytes).await
    }

    /// `call`: the target, and what it belongs to.
    pub(super) async fn admit_call(
        &self,
        caller: &Identity,
        call: impl FnOnce() -> (String, Labels),
        bytes: usize,
    ) -> Result<(), Duration> {
        let Admission(Some(allowances)) = &self.admission else { return Ok(()) };
        // Nothing fails between two of its changes, so that what another has left is whole.
        let taken = allowances.lock().unwrap_or_else(PoisonError::into_inner).take(caller, self.clock.now());
        let Err(retry_after) = taken else { return Ok(()) };
        let (target, labels) = call();
        let code = ErrorCode::RateLimited;
        self.submit(Command::InvocationRefused { caller: caller.clone(), target, labels, code }, bytes).await;
        Err(retry_after)
    }
}
