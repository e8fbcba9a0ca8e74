//! Being told at once that another router has something for this one. Only a hint: whoever is never told looks each second.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::journal::postgres::error;

/// Between two attempts to listen.
const AGAIN: Duration = Duration::from_secs(1);

/// Listens until it is cancelled; comes back by itself, and says once that it cannot.
pub(super) async fn run(pool: PgPool, channel: String, told: Arc<Notify>, until: CancellationToken) {
    let mut silent = false;
    let listening = async {
        loop {
            let error = listen(&pool, &channel, &told, &mut silent).await;
            if !std::mem::replace(&mut silent, true) {
                tracing::warn!(
                    error = error::describe(&error),
                    "the database cannot tell this router what others have for it: it looks each second"
                );
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = listening => (),
        () = until.cancelled() => (),
    }
    pool.close().await;
}

/// Returns why it cannot go on.
async fn listen(pool: &PgPool, channel: &str, told: &Notify, silent: &mut bool) -> sqlx::Error {
    let listening = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        *silent = false;
        loop {
            // Nothing is known of what was said while the connection was lost: look.
            let lost = listener.try_recv().await?.is_none();
            told.notify_one();
            if lost {
                return Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into()));
            }
        }
    };
    match listening.await {
        Ok(never) => never,
        Err(error) => error,
    }
}
