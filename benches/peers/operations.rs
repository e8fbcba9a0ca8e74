//! What else is asked of a router on SQLite: how fast a queue drains, and what memory agents and waiting invocations take.

use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::Failure;
use crate::agent::Agent;
use crate::master::Master;
use crate::payload::Payloads;
use crate::router::Router;
use crate::server;
use crate::wire::{Incoming, Socket};

const PATIENCE: Duration = Duration::from_mins(1);

/// Between two looks at what a router counts.
const PAUSE: Duration = Duration::from_millis(50);

/// What waits for one agent, to be drained.
const QUEUED: u32 = 10_000;

/// Agents that are connected and have nothing to do.
const IDLE: u32 = 10_000;

/// Connections that are opened at a time.
const AT_ONCE: usize = 100;

/// What waits, and for how many agents.
const WAITING: u32 = 100_000;
const ABSENT: u32 = 100;

const PAYLOAD: usize = 200;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Queued invocations that were answered a second, from when their agent came back.
    pub(crate) drained: f64,
    /// KiB of memory for each idle agent.
    pub(crate) idle: f64,
    /// MiB of a router with all that waits.
    pub(crate) waiting: f64,
}

pub(crate) async fn measure(dir: &Path) -> Result<Figures, Failure> {
    Ok(Figures { drained: drain(dir).await?, idle: memory_of_idle(dir).await?, waiting: memory_of_waiting(dir).await? })
}

/// What waits in a router, until its agents come back.
struct Waiting {
    router: Router,
    /// The only master, which has asked for all of it.
    master: Socket,
    agents: Vec<Uuid>,
    payloads: Payloads,
    _folder: tempfile::TempDir,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

fn start(dir: &Path, settings: &[(&str, &str)]) -> Result<(tempfile::TempDir, Router), Failure> {
    let folder = tempfile::Builder::new().prefix("peers-").tempdir_in(dir)?;
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    let router = Router::start_with(&url, "router", folder.path(), settings)?;
    Ok((folder, router))
}

/// Has so many invocations wait for so many agents.
async fn waiting(dir: &Path, agents: u32, invocations: u32) -> Result<Waiting, Failure> {
    let room = invocations.to_string();
    let (folder, router) = start(dir, &[("MAX_QUEUED", &room)])?;
    let address = router.address();
    let mut master = Master::connect(address, 0).await?;
    let ids: Vec<Uuid> = (0..agents).map(|_| Uuid::new_v4()).collect();
    let connected = try_join_all(ids.iter().map(|&id| Agent::connect(address, id, 1, (0, 1)))).await?;
    master.expect_agents(&ids).await?;
    try_join_all(connected.into_iter().map(|agent| agent.socket.close())).await?;
    let mut master = master.socket;
    let payloads = Payloads::of(PAYLOAD);
    for number in 0..invocations {
        let agent = ids[(number % agents) as usize];
        let payload = payloads.render(number.into());
        let frame = format!(r#"{{"message_type":"agent_invoke","agent_uuid":"{agent}","request_payload":{payload}}}"#);
        master.text(&frame);
    }
    master.flush().await?;
    reaches(&router, "agent_router_queued", invocations).await?;
    Ok(Waiting { router, master, agents: ids, payloads, _folder: folder })
}

async fn drain(dir: &Path) -> Result<f64, Failure> {
    let Waiting { mut router, mut master, agents, payloads, _folder } = waiting(dir, 1, QUEUED).await?;
    let started = Instant::now();
    let agent = tokio::spawn(Agent::connect(router.address(), agents[0], 1, (0, 1)).await?.run());
    let mut answers = 0;
    while answers < QUEUED {
        if !timeout(PATIENCE, master.receive()).await.is_ok_and(|received| received.unwrap_or(false)) {
            return Err(format!("only {answers} of {QUEUED} that waited were answered").into());
        }
        while let Some(Incoming::Text(frame)) = master.next()? {
            let answer: Answer = serde_json::from_slice(&frame)?;
            // Others are of the agent that comes and goes.
            answers += u32::from(answer.response.is_some_and(|response| payloads.recognise(response.get()).is_some()));
        }
        master.flush().await?;
    }
    let took = started.elapsed();
    router.terminate()?;
    agent.await??;
    router.ended()?;
    Ok(f64::from(QUEUED) / took.as_secs_f64())
}

async fn memory_of_waiting(dir: &Path) -> Result<f64, Failure> {
    let Waiting { mut router, master, _folder, .. } = waiting(dir, ABSENT, WAITING).await?;
    let memory = server::memory_kib(router.pid())?;
    drop(master);
    router.terminate()?;
    router.ended()?;
    Ok(f64::from(memory) / 1024.0)
}

async fn memory_of_idle(dir: &Path) -> Result<f64, Failure> {
    let (_folder, mut router) = start(dir, &[])?;
    let before = server::memory_kib(router.pid())?;
    let mut agents = Vec::new();
    while agents.len() < IDLE as usize {
        let connecting = (0..AT_ONCE).map(|_| Agent::connect(router.address(), Uuid::new_v4(), 1, (0, 1)));
        agents.extend(try_join_all(connecting).await?);
    }
    // Each connects and registers.
    reaches(&router, "agent_router_journal_position", 2 * IDLE).await?;
    let after = server::memory_kib(router.pid())?;
    drop(agents);
    router.terminate()?;
    router.ended()?;
    Ok(f64::from(after.saturating_sub(before)) / f64::from(IDLE))
}

/// Waits until the router counts so many of something.
async fn reaches(router: &Router, metric: &str, count: u32) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    while router.metric(metric).await? < f64::from(count) {
        if Instant::now() > until {
            return Err(format!("{metric} does not reach {count}").into());
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
