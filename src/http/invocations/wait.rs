//! Waiting for the end of an invocation: woken by the commit that ends it, without asking again and again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::visible;
use crate::http::Context;
use crate::http::access::Asker;
use crate::http::problem::Problem;
use crate::id::InvocationId;
use crate::journal::InvocationRecord;

/// The invocation when it has ended, or as it stands after the wait or when the router goes down. Whoever hangs up stops
/// waiting.
pub(super) async fn ended(
    context: &Context,
    asker: &Asker,
    id: InvocationId,
    wait: Duration,
) -> Result<InvocationRecord, Problem> {
    if wait.is_zero() {
        return visible(context, asker, id).await;
    }
    let deadline = Instant::now() + wait;
    loop {
        // Asked for before looking: an end in between is not missed.
        let mut waiter = context.router.waiter(id);
        let found = visible(context, asker, id).await?;
        if found.finished_at.is_some() || Instant::now() >= deadline || context.stopping.is_cancelled() {
            return Ok(found);
        }
        // Who is woken finds the end as a rule; or the router does not know of it, and everybody is to look.
        tokio::select! {
            () = waiter.ended() => {}
            () = sleep_until(deadline) => {}
            () = context.stopping.cancelled() => {}
        }
    }
}
