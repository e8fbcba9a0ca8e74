//! The databases of a server: made from a template with the journal's schema, and dropped.

use std::path::Path;
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use super::Database;
use super::cluster::Process;

/// Whoever creates and drops the databases of a server: a thread, for the runtimes of tests end with them.
#[derive(Clone, Debug)]
pub(super) struct Server {
    url: String,
    wishes: mpsc::Sender<Wish>,
}

enum Wish {
    /// Make a database of this name with the journal's schema.
    Create(String, mpsc::Sender<()>),
    Execute(String, mpsc::Sender<()>),
}

/// The server of this run.
pub(super) fn shared() -> &'static Server {
    static SHARED: OnceLock<(Server, Option<Mutex<Process>>)> = OnceLock::new();
    let (server, _) = SHARED.get_or_init(|| {
        if let Ok(url) = std::env::var("TEST_POSTGRES_URL") {
            return (Server::at(&url), None);
        }
        let (process, url, _) = Process::start(&[], &[]);
        (Server::at(&url), Some(Mutex::new(process)))
    });
    server
}

impl Server {
    pub(super) fn at(url: &str) -> Self {
        let (wishes, coming) = mpsc::channel();
        let server = Self { url: url.to_owned(), wishes };
        let administrator = Administrator { url: url.to_owned(), connection: None, template: None };
        thread::spawn(move || administrator.work(&coming));
        server
    }

    pub(super) fn empty(&self) -> Database {
        let name = format!("agent_router_{}", Uuid::new_v4().simple());
        self.execute(&format!(r#"CREATE DATABASE "{name}" TEMPLATE template0"#));
        Database { url: with_database(&self.url, &name), name, server: self.clone() }
    }

    pub(super) fn database(&self) -> Database {
        let name = format!("agent_router_{}", Uuid::new_v4().simple());
        self.wish(|done| Wish::Create(name.clone(), done)).expect("a database can be made");
        Database { url: with_database(&self.url, &name), name, server: self.clone() }
    }

    /// Nobody hears of it if that fails: the server may be gone.
    pub(super) fn execute(&self, statement: &str) {
        let _ = self.wish(|done| Wish::Execute(statement.to_owned(), done));
    }

    fn wish(&self, wish: impl FnOnce(mpsc::Sender<()>) -> Wish) -> Result<(), mpsc::RecvError> {
        let (done, is_done) = mpsc::channel();
        // Without an administrator nothing is ever done.
        let _ = self.wishes.send(wish(done));
        is_done.recv()
    }
}

struct Administrator {
    url: String,
    connection: Option<PgConnection>,
    template: Option<String>,
}

impl Administrator {
    fn work(mut self, wishes: &mpsc::Receiver<Wish>) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        while let Ok(wish) = wishes.recv() {
            let (done, outcome) = match wish {
                Wish::Create(name, done) => (done, runtime.block_on(self.create(&name))),
                Wish::Execute(statement, done) => (done, runtime.block_on(self.execute(statement))),
            };
            match outcome {
                // Whoever wished may be gone.
                Ok(()) => drop(done.send(())),
                Err(error) => {
                    eprintln!("Postgres, as administrator: {error}");
                    self.connection = None;
                }
            }
        }
    }

    async fn execute(&mut self, statement: String) -> Result<(), sqlx::Error> {
        // The server may have been started again since the last time.
        if let Some(mut connection) = self.connection.take()
            && connection.ping().await.is_ok()
        {
            self.connection = Some(connection);
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.url).await?),
        };
        connection.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    async fn create(&mut self, name: &str) -> Result<(), sqlx::Error> {
        let template = match &self.template {
            Some(template) => template.clone(),
            None => self.template().await?,
        };
        self.execute(format!(r#"CREATE DATABASE "{name}" TEMPLATE "{template}""#)).await
    }

    /// A database with the schema and nothing in it. It is named after the schema, and kept: a server that is not thrown
    /// away has it the next time.
    async fn template(&mut self) -> Result<String, sqlx::Error> {
        let migrator = Migrator::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres")).await?;
        let mut digest = Sha256::new();
        for migration in migrator.iter() {
            digest.update(&migration.checksum);
        }
        let digest = digest.finalize();
        let name = format!("agent_router_schema_{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
        let unfinished = format!("agent_router_{}", Uuid::new_v4().simple());
        self.execute(format!(r#"CREATE DATABASE "{unfinished}" TEMPLATE template0"#)).await?;
        let mut connection = connect(&with_database(&self.url, &unfinished)).await?;
        migrator.run(&mut connection).await?;
        connection.close().await?;
        // Another run may have been faster.
        if self.execute(format!(r#"ALTER DATABASE "{unfinished}" RENAME TO "{name}""#)).await.is_err() {
            self.execute(format!(r#"DROP DATABASE "{unfinished}""#)).await?;
        }
        self.template = Some(name.clone());
        Ok(name)
    }
}

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let mut tries = 0;
    loop {
        match PgConnection::connect(url).await {
            Err(_) if tries < 50 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            outcome => return outcome,
        }
    }
}

/// The same server and user, another database.
fn with_database(url: &str, name: &str) -> String {
    let (address, parameters) = url.split_once('?').map_or((url, ""), |(address, parameters)| (address, parameters));
    let (scheme, rest) = address.split_once("://").expect("a URL");
    let server = rest.split('/').next().expect("a server");
    let question = if parameters.is_empty() { "" } else { "?" };
    format!("{scheme}://{server}/{name}{question}{parameters}")
}
