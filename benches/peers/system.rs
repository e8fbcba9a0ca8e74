//! What is measured: each system, how it is started, and how it is loaded.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use futures_util::future::try_join_all;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::agent::Agent;
use crate::load::Load;
use crate::master::{Master, Work};
use crate::queue::Waiting;
use crate::router::Router;
use crate::server::{self, Processes, Server};
use crate::{Failure, nats, postgres, queue, rabbitmq, redis, relay};

/// A system that does the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum System {
    /// A WebSocket relay that keeps nothing.
    Relay,
    /// The same, appending to a plain file.
    FileRelay,
    /// This router on SQLite.
    Sqlite,
    /// This router on Postgres.
    Postgres,
    /// Redis Streams.
    Redis,
    /// NATS JetStream that syncs each message.
    NatsAlways,
    /// NATS JetStream as it is.
    Nats,
    /// RabbitMQ with quorum queues.
    Rabbitmq,
    /// Postgres as a queue.
    Queue,
}

impl System {
    pub(crate) const ALL: [Self; 9] = [
        Self::Relay,
        Self::FileRelay,
        Self::Sqlite,
        Self::Postgres,
        Self::Redis,
        Self::NatsAlways,
        Self::Nats,
        Self::Rabbitmq,
        Self::Queue,
    ];

    /// What it is called in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Relay => "relay without a journal (a ceiling)",
            Self::FileRelay => "relay, appending to a plain file (a ceiling)",
            Self::Sqlite => "**agent-router, SQLite**",
            Self::Postgres => "**agent-router, Postgres**",
            Self::Redis => "Redis Streams, `appendfsync always`",
            Self::NatsAlways => "NATS JetStream, `sync_interval: always`",
            Self::Nats => "NATS JetStream, default (can lose)",
            Self::Rabbitmq => "RabbitMQ, quorum queues, confirms",
            Self::Queue => "Postgres as a queue, `SKIP LOCKED`",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is skipped");
        f.write_str(value.get_name())
    }
}

/// One that runs.
#[derive(Debug)]
pub(crate) enum Running {
    Relay(relay::Process),
    Router(Router, Option<(postgres::Server, postgres::Database)>),
    Redis(Server),
    Nats(Server),
    Rabbitmq(Server),
    Queue { database: postgres::Database, _server: postgres::Server },
}

/// How often a worker that found nothing looks again.
const PAUSE: Duration = Duration::from_millis(2);

impl Running {
    /// Starts it on an empty folder.
    pub(crate) async fn start(system: System, folder: &Path) -> Result<Self, Failure> {
        Ok(match system {
            System::Relay => Self::Relay(relay::Process::start(None)?),
            System::FileRelay => Self::Relay(relay::Process::start(Some(folder.join("relay")))?),
            System::Sqlite => {
                let url = format!("sqlite://{}", folder.join("journal.db").display());
                Self::Router(Router::start(&url, "router", folder)?, None)
            }
            System::Postgres => {
                let server = postgres::Server::start(None, folder)?;
                let database = server.database().await?;
                Self::Router(Router::start(database.url(), "router", folder)?, Some((server, database)))
            }
            System::Redis => Self::Redis(Server::start("redis", folder)?),
            System::NatsAlways => Self::Nats(Server::start("nats-always", folder)?),
            System::Nats => Self::Nats(Server::start("nats", folder)?),
            System::Rabbitmq => Self::Rabbitmq(Server::start("rabbitmq", folder)?),
            System::Queue => {
                let server = postgres::Server::start(None, folder)?;
                Self::Queue { database: server.database().await?, _server: server }
            }
        })
    }

    /// Whose CPU time and memory is that of the system.
    pub(crate) async fn processes(&self) -> Result<Processes, Failure> {
        Ok(Processes(match self {
            Self::Relay(process) => vec![process.pid()],
            Self::Router(router, None) => vec![router.pid()],
            Self::Router(router, Some((_, database))) => vec![router.pid(), server::of_postgres(database.url()).await?],
            Self::Redis(server) | Self::Nats(server) | Self::Rabbitmq(server) => vec![server.pid],
            Self::Queue { database, .. } => vec![server::of_postgres(database.url()).await?],
        }))
    }

    /// Has the load done; how long each answer took.
    pub(crate) async fn run(&self, load: &Load) -> Result<Vec<Duration>, Failure> {
        match self {
            Self::Relay(process) => over_websockets(process.address, load).await,
            Self::Router(router, _) => over_websockets(router.address(), load).await,
            Self::Redis(server) => redis::run(server.port, load).await,
            Self::Nats(server) => nats::run(server.port, load).await,
            Self::Rabbitmq(server) => rabbitmq::run(server.port, load).await,
            Self::Queue { database, .. } => {
                // Each where it is the faster way.
                let waiting = if load.outstanding < load.workers { Waiting::Notified } else { Waiting::Polling(PAUSE) };
                queue::run(database.url(), load, waiting).await
            }
        }
    }

    /// Ends it. One that is no router just ends with this.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        match self {
            Self::Router(mut router, _database) => {
                router.terminate()?;
                router.ended()
            }
            _ => Ok(()),
        }
    }
}

/// The load of a router, and of what speaks as it does.
async fn over_websockets(address: std::net::SocketAddr, load: &Load) -> Result<Vec<Duration>, Failure> {
    let mut master = Master::connect(address, 0).await?;
    let ids: Arc<[Uuid]> = (0..load.workers).map(|_| Uuid::new_v4()).collect();
    let agents = (0..).zip(&*ids).map(|(index, &id)| Agent::connect(address, id, 1, (index, ids.len() as u64)));
    let mut running = JoinSet::new();
    for agent in try_join_all(agents).await? {
        running.spawn(agent.run());
    }
    master.expect_agents(&ids).await?;
    let work = Work { agents: ids, nodes: 1, payloads: load.payloads.clone(), measured: load.begin() };
    tokio::select! {
        tally = master.invoke(&work, load.outstanding) => Ok(tally?.within),
        Some(agent) = running.join_next() => {
            agent??;
            Err("an agent's connection was closed".into())
        }
    }
}
