//! How the database is reached, and what is set on each connection.
//!
//! Behind a pooler that gives each transaction another connection, nothing set on a connection stays with the router, and the
//! startup message may carry no settings. `statement-cache-capacity=0` in the URL says so: then what a transaction needs is
//! set inside it ([`Target::begin`]), and no statement has a name.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

use crate::journal::JournalError;
use crate::journal::postgres::error;

/// Readers at once; more than these wait for each other.
pub(super) const READERS: u32 = 8;

/// How long to wait for a connection that is free, or a new one.
const ACQUIRE: Duration = Duration::from_secs(5);

/// How long a new connection of the writer may take.
const CONNECT: Duration = Duration::from_secs(5);

/// What holds for the connection that writes. A commit is on the disk when it returns. A router that is stopped in the
/// middle of its turn is cut off so soon that the others go on before they take the journal for unavailable. The statements of a commit are planned once,
/// by the indexes: the tables may not have been analysed yet.
const WRITING: [(&str, &str); 12] = [
    ("synchronous_commit", "on"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("bytea_output", "hex"),
    ("statement_timeout", "10s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "1500ms"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// What holds for the connections that read. A search may take long; a statement that nobody waits for any more, or a
/// snapshot that is held for a reader who has gone away, must not be there for ever. Statements are planned by the indexes, as those of the writer are: a plan that begins with a
/// scan or a sort of a table is wrong, whatever the statistics say.
pub(super) const READING: [(&str, &str); 13] = [
    ("synchronous_commit", "on"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("bytea_output", "hex"),
    ("statement_timeout", "60s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// What holds for what may take long, and need not be done by a certain time: migrations, and the freeing of space.
const WORKING: [(&str, &str); 5] = [
    ("synchronous_commit", "on"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
];

/// By these the server finds out that a router's machine is gone. They are left out where they may not be set.
const KEEPALIVE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10000"),
];

/// Where the database is.
#[derive(Clone)]
pub(super) struct Target {
    options: PgConnectOptions,
    /// Each transaction may run on another connection.
    pub(super) pooled: bool,
}

impl Target {
    /// From `postgres://…`.
    pub(super) fn new(url: &str) -> Result<Self, JournalError> {
        let options = PgConnectOptions::from_str(url).map_err(error::unavailable)?;
        let pooled = options
            .to_url_lossy()
            .query_pairs()
            .any(|(name, value)| name == "statement-cache-capacity" && value == "0");
        // Poolers refuse parameters at the start that they do not know.
        let options = options.extra_float_digits(None).disable_statement_logging();
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("agent-router"),
        };
        Ok(Self { options, pooled })
    }

    fn with(&self, settings: &[(&str, &str)]) -> PgConnectOptions {
        if self.pooled { self.options.clone() } else { self.options.clone().options(settings.iter().copied()) }
    }

    /// The text that begins a transaction of the writer, with what must hold in it.
    pub(super) fn begin(&self, mode: &str) -> String {
        let settings: &[_] = if self.pooled { &WRITING } else { &[] };
        // Whatever the database's default is.
        let mode = if mode.is_empty() { "ISOLATION LEVEL READ COMMITTED" } else { mode };
        let set = settings.iter().map(|(name, value)| format!("SET LOCAL {name} = '{value}';"));
        format!("BEGIN {mode};{}", set.collect::<String>())
    }
}

/// The connection that writes.
pub(super) async fn writer(target: &Target) -> Result<PgConnection, JournalError> {
    let settings: Vec<_> = WRITING.into_iter().chain(KEEPALIVE).collect();
    let connecting = target.with(&settings);
    match tokio::time::timeout(CONNECT, connecting.connect()).await {
        Ok(connection) => connection.map_err(error::unavailable),
        Err(_) => Err(JournalError::Unavailable("the database does not answer".to_owned())),
    }
}

/// A connection for what may take long.
pub(super) async fn worker(target: &Target) -> Result<PgConnection, JournalError> {
    let settings: Vec<_> = WORKING.into_iter().chain(KEEPALIVE).collect();
    target.with(&settings).connect().await.map_err(error::unavailable)
}

/// A statement that has one row; it is sent whole, which works behind any pooler.
pub(super) async fn one(connection: &mut PgConnection, text: &'static str) -> Result<PgRow, JournalError> {
    sqlx::raw_sql(text).fetch_one(connection).await.map_err(error::unavailable)
}

/// Connections that only read.
pub(super) async fn readers(target: &Target, connections: u32) -> Result<PgPool, JournalError> {
    let settings: Vec<_> = READING.into_iter().chain(KEEPALIVE).collect();
    let pool = pool(connections).connect_lazy_with(target.with(&settings));
    // Whether it can be reached at all.
    drop(pool.acquire().await.map_err(error::unavailable)?);
    Ok(pool)
}

/// One connection for what other routers tell; it need not be there.
pub(super) fn listener(target: &Target) -> PgPool {
    pool(1).max_lifetime(None).idle_timeout(None).connect_lazy_with(target.with(&KEEPALIVE))
}

fn pool(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE)
}

/// Refuses a database that cannot keep every text: one that a peer sends would bring the journal to a halt.
pub(super) async fn require_unicode(connection: &mut PgConnection) -> Result<(), JournalError> {
    let row = one(connection, "SELECT current_setting('server_encoding') AS encoding").await?;
    if row.try_get::<&str, _>("encoding").map_err(error::unavailable)? == "UTF8" {
        return Ok(());
    }
    Err(JournalError::Unavailable("the database's encoding is not UTF8: make another with ENCODING 'UTF8'".to_owned()))
}

/// What of the server's own settings makes a commit that has returned less than durable, in words for whoever runs it.
pub(super) async fn dangers(connection: &mut PgConnection) -> Result<Vec<String>, JournalError> {
    let text = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'";
    let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(connection).await.map_err(error::unavailable)?;
    let danger = |row: &PgRow| match row.get::<&str, _>("name") {
        "fsync" => "the database runs with fsync=off: after a power cut, what it has acknowledged may be gone",
        _ => "the database runs with full_page_writes=off: a power cut may damage what it has acknowledged",
    };
    Ok(rows.iter().map(danger).map(str::to_owned).collect())
}

/// Ends a connection without waiting for long.
pub(super) async fn close(connection: PgConnection) {
    let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("pooled", &self.pooled).finish_non_exhaustive()
    }
}
