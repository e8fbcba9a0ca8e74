//! Where the journal is, and who writes to it.

use std::fmt;

use crate::journal::Salts;

/// Where the journal is, and who writes to it. `Debug` shows neither URL: both may hold a password.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://…`. Its schema must be there.
    pub url: String,
    /// A direct connection to the same database, for being told what others have done; needed if `url` leads through a pooler
    /// that gives each transaction another connection.
    pub notify_url: Option<String>,
    /// The name of this router, which each of its events carries.
    pub node: String,
    /// Where the salts of payloads come from.
    pub salts: Salts,
}

impl PostgresOptions {
    /// With salts that nobody can guess.
    #[must_use]
    pub fn new(url: impl Into<String>, node: impl Into<String>) -> Self {
        Self { url: url.into(), notify_url: None, node: node.into(), salts: Salts::Random }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("node", &self.node).field("salts", &self.salts).finish_non_exhaustive()
    }
}
