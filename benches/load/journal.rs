//! What the router wrote, read from the file once it is closed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use agent_router::clock::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::Failure;

/// What the journal of a run amounts to.
#[derive(Debug)]
pub(crate) struct Written {
    /// All events, by kind.
    pub(crate) kinds: BTreeMap<String, i64>,
    /// Events in the measured time.
    pub(crate) events: u32,
    /// Commits in the measured time: all events of one have the same time, and no two the same.
    pub(crate) commits: u32,
    /// The size of the file.
    pub(crate) bytes: u64,
}

/// Counts the events of the journal.
pub(crate) async fn read(path: &Path, measured: Range<Timestamp>) -> Result<Written, Failure> {
    let mut connection = SqliteConnectOptions::new().filename(path).read_only(true).connect().await?;
    let kinds: Vec<(String, i64)> = sqlx::query_as(
        "SELECT event_kinds.name, count(*) FROM journal JOIN event_kinds ON code = kind GROUP BY event_kinds.name",
    )
    .fetch_all(&mut connection)
    .await?;
    let (events, commits) =
        sqlx::query_as("SELECT count(*), count(DISTINCT at) FROM journal WHERE at >= $1 AND at < $2")
            .bind(measured.start.as_micros())
            .bind(measured.end.as_micros())
            .fetch_one(&mut connection)
            .await?;
    connection.close().await?;
    Ok(Written { kinds: kinds.into_iter().collect(), events, commits, bytes: std::fs::metadata(path)?.len() })
}

impl Written {
    /// Whether the journal has as many invocations as were answered, each accepted, delivered and completed once, and no
    /// answer that was not wanted.
    pub(crate) fn check(&self, answers: u64) -> Result<(), Failure> {
        let once = ["invocation.accepted", "invocation.delivered", "invocation.completed", "answer.delivered"];
        for kind in once {
            let count = self.kinds.get(kind).copied().unwrap_or_default();
            if u64::try_from(count) != Ok(answers) {
                return Err(format!("{answers} invocations were answered, and the journal has {count} {kind}").into());
            }
        }
        let of_no_interest = |kind: &str| {
            once.contains(&kind)
                || kind == "invocation.started"
                || ["node.", "agent.", "feed."].iter().any(|prefix| kind.starts_with(prefix))
        };
        match self.kinds.iter().find(|(kind, _)| !of_no_interest(kind)) {
            Some((kind, count)) => Err(format!("the journal has {count} {kind}").into()),
            None => Ok(()),
        }
    }
}
