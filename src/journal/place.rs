//! Where a journal is: the one choice between the back ends, for whoever opens it, migrates it, or reads it without a
//! router.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::postgres::{self, PostgresJournal, PostgresOptions, PostgresReader};
use super::sqlite::{self, SqliteJournal, SqliteOptions, SqliteReader};
use super::{EventRecord, Head, Journal, JournalError, Migration, Verification};
use crate::id::Position;

/// Where a journal is. Shown without passwords.
#[derive(Clone)]
pub enum Place {
    /// In a file.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// In a Postgres database.
    Postgres {
        /// With its password.
        url: String,
        /// Past a pooler, if `url` leads to one.
        direct_url: Option<String>,
        /// For people, without its password.
        shown: String,
    },
}

impl Place {
    /// Opens it for the router, or for whoever writes in a router's stead, with this name.
    pub async fn open(&self, node: &str) -> Result<Opened, JournalError> {
        match self {
            Self::Sqlite { path } => {
                let journal = SqliteJournal::open(&SqliteOptions::new(path.clone(), node)).await?;
                Ok(Opened { journal: Arc::new(journal), warnings: Vec::new() })
            }
            Self::Postgres { url, direct_url, .. } => {
                let mut options = PostgresOptions::new(url.clone(), node);
                options.notify_url.clone_from(direct_url);
                let journal = PostgresJournal::open(&options).await?;
                Ok(Opened { warnings: journal.warnings().to_vec(), journal: Arc::new(journal) })
            }
        }
    }

    /// Opens it for reading, while a router may be running.
    pub async fn read(&self) -> Result<Reader, JournalError> {
        match self {
            Self::Sqlite { path } => SqliteReader::open(path).await.map(Reader::Sqlite),
            Self::Postgres { url, .. } => PostgresReader::open(url).await.map(Reader::Postgres),
        }
    }

    /// Applies the migrations that are pending; gives back what was applied now. A file is made if it is missing, a database
    /// is not.
    pub async fn migrate(&self) -> Result<Vec<Migration>, JournalError> {
        match self {
            Self::Sqlite { path } => sqlite::migrate(path).await,
            Self::Postgres { url, direct_url, .. } => postgres::migrate(direct_url.as_ref().unwrap_or(url)).await,
        }
    }

    /// Every migration that this version knows, and whether it is applied. Changes nothing; a router may be running.
    pub async fn migrations(&self) -> Result<Vec<Migration>, JournalError> {
        match self {
            Self::Sqlite { path } => sqlite::migration_status(path).await,
            Self::Postgres { url, direct_url, .. } => {
                postgres::migration_status(direct_url.as_ref().unwrap_or(url)).await
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => path.display().fmt(f),
            Self::Postgres { shown, .. } => f.write_str(shown),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

/// A journal for writing.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// What whoever runs the database should know: why a commit may be less durable than it should be.
    pub warnings: Vec<String>,
}

/// A journal for reading, without a router of one's own.
#[derive(Clone, Debug)]
pub enum Reader {
    /// Of a file.
    Sqlite(SqliteReader),
    /// Of a Postgres database.
    Postgres(PostgresReader),
}

impl Reader {
    /// The newest event.
    pub async fn head(&self) -> Result<Head, JournalError> {
        match self {
            Self::Sqlite(reader) => reader.head().await,
            Self::Postgres(reader) => reader.head().await,
        }
    }

    /// Events after a place, up to another one, as many as take little memory; none: there are no more.
    pub async fn page(&self, after: Position, up_to: Position) -> Result<Vec<EventRecord>, JournalError> {
        match self {
            Self::Sqlite(reader) => reader.page(after, up_to).await,
            Self::Postgres(reader) => reader.page(after, up_to).await,
        }
    }

    /// The last event that was pruned.
    pub async fn pruned(&self) -> Result<Head, JournalError> {
        match self {
            Self::Sqlite(reader) => reader.pruned().await,
            Self::Postgres(reader) => reader.pruned().await,
        }
    }

    /// Checks all of it, and that it has these heads, which were noted earlier.
    pub async fn verify_noted(&self, noted: Vec<Head>) -> Result<Verification, JournalError> {
        match self {
            Self::Sqlite(reader) => reader.verify_noted(noted).await,
            Self::Postgres(reader) => reader.verify_noted(noted).await,
        }
    }

    /// Lets it go.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(reader) => reader.close().await,
            Self::Postgres(reader) => reader.close().await,
        }
    }
}
