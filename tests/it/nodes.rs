//! Several routers on one Postgres: what a client sees does not depend on the one it is connected to.

mod across;
mod behind;
mod chaos;
mod connecting;
mod leases;
mod moving;
mod operators;
mod outage;
mod settings;

use std::sync::Arc;

use crate::support::Router;
use crate::support::postgres::database;

/// Two routers on a new database, named `one` and `other`.
async fn two(settings: &[(&str, &str)]) -> (Router, Router) {
    let database = Arc::new(database().await);
    let one = Router::on(database, "one", settings).await;
    let other = one.another_node("other").await;
    (one, other)
}

/// A router that others have just been started beside.
async fn one(settings: &[(&str, &str)]) -> Router {
    Router::on(Arc::new(database().await), "one", settings).await
}
