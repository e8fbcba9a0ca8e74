//! Where the routers of a run have their journal, and what they wrote, read once they have ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use agent_router::clock::Timestamp;
use agent_router::id::Position;
use agent_router::journal::Verification;
use agent_router::journal::sqlite::SqliteReader;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::{Failure, postgres, router};

/// A journal of one run.
#[derive(Debug)]
pub(crate) enum Database {
    /// A file, and what it had before the run.
    Sqlite { path: PathBuf, events: i64, bytes: u64 },
    /// A database on a server.
    Postgres(postgres::Database),
}

/// What the journal of a run amounts to.
#[derive(Debug)]
pub(crate) struct Written {
    /// All events of the run, by kind.
    pub(crate) kinds: BTreeMap<String, i64>,
    /// Events in the measured time.
    pub(crate) events: u32,
    /// The size of the file, or of the database, beyond what it was empty.
    pub(crate) bytes: u64,
}

const KINDS: &str = "SELECT event_kinds.name, count(*) FROM journal JOIN event_kinds ON code = kind
     WHERE position > $1 GROUP BY event_kinds.name";

impl Database {
    /// A file that is not there yet.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self::Sqlite { path: folder.join("journal.db"), events: 0, bytes: 0 }
    }

    /// A copy of a journal.
    pub(crate) async fn copied(journal: &Path, folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("journal.db");
        let bytes = fs::copy(journal, &path)?;
        // Or else the first sync of the run would wait for all of it.
        File::open(&path)?.sync_all()?;
        let reader = SqliteReader::open(&path).await?;
        let events = reader.head().await?.position.0;
        reader.close().await;
        Ok(Self::Sqlite { path, events, bytes })
    }

    /// Has the chain checked: the binary checks all of it, unless most is of an earlier time.
    pub(crate) async fn verify(&self) -> Result<(), Failure> {
        match self {
            Self::Sqlite { path, events: before @ 1.., .. } => {
                let reader = SqliteReader::open(path).await?;
                let verification = reader.verify(Some(Position(*before)), None).await?;
                reader.close().await;
                match verification {
                    Verification::Intact(_) => Ok(()),
                    Verification::Broken { position, what } => {
                        Err(format!("the journal is broken at {position:?}: {what}").into())
                    }
                }
            }
            _ => router::verify(&self.url()),
        }
    }

    /// What a router is told of it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite { path, .. } => format!("sqlite://{}", path.display()),
            Self::Postgres(database) => database.url().to_owned(),
        }
    }

    /// Counts the events of the journal.
    pub(crate) async fn read(&self, measured: Range<Timestamp>) -> Result<Written, Failure> {
        let (start, end) = (measured.start.as_micros(), measured.end.as_micros());
        let (kinds, events, bytes): (Vec<(String, i64)>, i64, u64) = match self {
            Self::Sqlite { path, events, bytes } => {
                let mut connection = SqliteConnectOptions::new().filename(path).read_only(true).connect().await?;
                let kinds = sqlx::query_as(KINDS).bind(events).fetch_all(&mut connection).await?;
                let counted =
                    sqlx::query_scalar("SELECT count(*) FROM journal WHERE at >= $1 AND at < $2 AND position > $3")
                        .bind(start)
                        .bind(end)
                        .bind(events)
                        .fetch_one(&mut connection)
                        .await?;
                connection.close().await?;
                (kinds, counted, fs::metadata(path)?.len() - bytes)
            }
            Self::Postgres(database) => {
                let mut connection = PgConnection::connect(database.url()).await?;
                let kinds = sqlx::query_as(KINDS).bind(0_i64).fetch_all(&mut connection).await?;
                let counted = sqlx::query_scalar("SELECT count(*) FROM journal WHERE at >= $1 AND at < $2");
                let counted = counted.bind(start).bind(end).fetch_one(&mut connection).await?;
                let bytes = database.grown(&mut connection).await?;
                connection.close().await?;
                (kinds, counted, bytes)
            }
        };
        Ok(Written { kinds: kinds.into_iter().collect(), events: events.try_into()?, bytes })
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
