//! That a session is there, and the one way in which it ends.

use crate::id::SessionId;
use crate::router::{Command, EndReason, Router};

/// As long as this lives, the router may hold the peer for connected. However the session's task comes to its end, by a panic
/// too, the router is told.
#[derive(Debug)]
pub(super) struct Presence<'a> {
    router: &'a Router,
    session: SessionId,
    told: bool,
}

impl<'a> Presence<'a> {
    /// Before the session is announced.
    pub(super) const fn new(router: &'a Router, session: SessionId) -> Self {
        Self { router, session, told: false }
    }

    /// The router did not take the session, so there is nothing to end.
    pub(super) fn declined(mut self) {
        self.told = true;
    }

    /// Ends the session. Everything that was read from its socket has been submitted.
    pub(super) async fn end(mut self, reason: EndReason) {
        let session = self.session;
        self.router.submit(Command::End { session, reason }, 0).await;
        self.told = true;
        self.router.metrics().socket_closed(reason.as_str());
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.router.abandon(self.session);
            self.router.metrics().socket_closed(EndReason::Failed.as_str());
        }
    }
}
