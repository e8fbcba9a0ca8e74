//! Waiting for the end of an invocation: woken by the commit that ends it, without asking again and again.

use std::time::Duration;

use tokio::time::sleep;

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
    // Asked for before looking: an end in between is not missed.
    let mut waiter = context.router.waiter(id);
    let found = visible(context, asker, id).await?;
    if found.finished_at.is_some() {
        return Ok(found);
    }
    tokio::select! {
        () = waiter.ended() => {}
        () = sleep(wait) => {}
        () = context.stopping.cancelled() => {}
    }
    visible(context, asker, id).await
}
