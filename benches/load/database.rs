//! Where the routers of a run have their journal, and what they wrote, read once they have ended.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use agent_router::clock::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::Failure;
use crate::postgres;

/// A journal of one run.
#[derive(Debug)]
pub(crate) enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A database on a server.
    Postgres(postgres::Database),
}

/// What the journal of a run amounts to.
#[derive(Debug)]
pub(crate) struct Written {
    /// All events, by kind.
    pub(crate) kinds: BTreeMap<String, i64>,
    /// Events in the measured time.
    pub(crate) events: u32,
    /// Commits in the measured time: all events of one have the same time, and no two of one router the same.
    pub(crate) commits: u32,
    /// The size of the file, or of the database, beyond what it was empty.
    pub(crate) bytes: u64,
}

const KINDS: &str =
    "SELECT event_kinds.name, count(*) FROM journal JOIN event_kinds ON code = kind GROUP BY event_kinds.name";

impl Database {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self::Sqlite(folder.join("journal.db"))
    }

    /// What a router is told of it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::Postgres(database) => database.url().to_owned(),
        }
    }

    /// Counts the events of the journal.
    pub(crate) async fn read(&self, measured: Range<Timestamp>) -> Result<Written, Failure> {
        let (start, end) = (measured.start.as_micros(), measured.end.as_micros());
        let (kinds, (events, commits), bytes): (Vec<(String, i64)>, (i64, i64), u64) = match self {
            Self::Sqlite(path) => {
                let mut connection = SqliteConnectOptions::new().filename(path).read_only(true).connect().await?;
                let kinds = sqlx::query_as(KINDS).fetch_all(&mut connection).await?;
                let counted =
                    sqlx::query_as("SELECT count(*), count(DISTINCT at) FROM journal WHERE at >= $1 AND at < $2")
                        .bind(start)
                        .bind(end)
                        .fetch_one(&mut connection)
                        .await?;
                connection.close().await?;
                (kinds, counted, std::fs::metadata(path)?.len())
            }
            Self::Postgres(database) => {
                let mut connection = PgConnection::connect(database.url()).await?;
                let kinds = sqlx::query_as(KINDS).fetch_all(&mut connection).await?;
                let counted = sqlx::query_as(
                    "SELECT count(*), count(DISTINCT (node, at)) FROM journal WHERE at >= $1 AND at < $2",
                )
                .bind(start)
                .bind(end)
                .fetch_one(&mut connection)
                .await?;
                let bytes = database.grown(&mut connection).await?;
                connection.close().await?;
                (kinds, counted, bytes)
            }
        };
        Ok(Written {
            kinds: kinds.into_iter().collect(),
            events: events.try_into()?,
            commits: commits.try_into()?,
            bytes,
        })
    }
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
