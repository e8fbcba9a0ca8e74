//! A Postgres to measure on: one that is there, or a throw-away one of `scripts/postgres`.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::Failure;

/// How long single commits are measured.
const MEASURED: Duration = Duration::from_secs(1);

/// A server. A throw-away one ends with this.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    /// Ends when its standard input does; its folder goes after it.
    throw_away: Option<(Child, tempfile::TempDir)>,
}

/// A database of its own for a run.
#[derive(Debug)]
pub(crate) struct Database {
    url: String,
    name: String,
    empty_bytes: i64,
}

impl Server {
    /// The one at `url`, or a throw-away one with its files below `dir`.
    pub(crate) fn start(url: Option<&str>, dir: &Path) -> Result<Self, Failure> {
        if let Some(url) = url {
            return Ok(Self { url: url.to_owned(), throw_away: None });
        }
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir_in(dir)?;
        // As root, the script runs Postgres as another user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))?;
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres"))
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("stdout is a pipe")?;
        // Up to its last word, as it ends when nobody listens.
        let lines = BufReader::new(stdout).lines().map_while(Result::ok).take_while(|line| line != "done");
        let said = lines.filter_map(|line| line.strip_prefix("url ").map(ToOwned::to_owned)).last();
        let url = said.ok_or("there is no Postgres: see above, or leave it out with --database sqlite")?;
        Ok(Self { url, throw_away: Some((child, folder)) })
    }

    /// A new database with the journal's schema.
    pub(crate) async fn database(&self) -> Result<Database, Failure> {
        let name = format!("agent_router_load_{}", Uuid::new_v4().simple());
        self.execute(format!("CREATE DATABASE {name}")).await?;
        let url = with_database(&self.url, &name).ok_or("no URL of a Postgres server")?;
        let output = crate::router::command(&url).arg("migrate").output()?;
        if !output.status.success() {
            return Err(format!("`migrate` fails: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let mut connection = PgConnection::connect(&url).await?;
        let empty_bytes = size(&mut connection).await?;
        connection.close().await?;
        Ok(Database { url, name, empty_bytes })
    }

    /// Lets a database go.
    pub(crate) async fn drop_database(&self, database: Database) -> Result<(), Failure> {
        self.execute(format!("DROP DATABASE {} WITH (FORCE)", database.name)).await
    }

    async fn execute(&self, statement: String) -> Result<(), Failure> {
        let mut connection = PgConnection::connect(&self.url).await?;
        connection.execute(AssertSqlSafe(statement)).await?;
        connection.close().await?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.throw_away {
            drop(child.stdin.take());
            // It has ended, however it ended.
            let _ = child.wait();
        }
    }
}

impl Database {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How many bytes there are more than in an empty journal.
    pub(crate) async fn grown(&self, connection: &mut PgConnection) -> Result<u64, Failure> {
        Ok(u64::try_from(size(connection).await? - self.empty_bytes).unwrap_or_default())
    }

    /// How long a commit of one small row takes, in the middle of many, one after the other.
    pub(crate) async fn commit_time(&self) -> Result<Duration, Failure> {
        let mut connection = PgConnection::connect(&self.url).await?;
        connection.execute("CREATE TABLE commits (number BIGINT, filling TEXT)").await?;
        let mut took = Vec::new();
        let started = Instant::now();
        while started.elapsed() < MEASURED {
            let begun = Instant::now();
            sqlx::query("INSERT INTO commits VALUES ($1, repeat('x', 200))")
                .bind(i64::try_from(took.len())?)
                .execute(&mut connection)
                .await?;
            took.push(begun.elapsed());
        }
        connection.execute("DROP TABLE commits").await?;
        connection.close().await?;
        took.sort_unstable();
        Ok(took[took.len() / 2])
    }
}

async fn size(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(connection).await
}

/// The same server and user, another database.
fn with_database(url: &str, name: &str) -> Option<String> {
    let (address, parameters) = url.split_once('?').map_or((url, None), |(address, list)| (address, Some(list)));
    let (scheme, rest) = address.split_once("://")?;
    let server = rest.split('/').next()?;
    let parameters = parameters.map_or_else(String::new, |list| format!("?{list}"));
    Some(format!("{scheme}://{server}/{name}{parameters}"))
}
