//! One measurement: a fresh router, its clients, the load, and the checks.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use agent_router::clock::{Clock, Timestamp};
use futures_util::future::{try_join, try_join_all};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::agent::Agent;
use crate::journal::{self, Written};
use crate::master::{Master, Tally, Work};
use crate::options::Options;
use crate::payload::Payloads;
use crate::router::{self, Router};
use crate::{Failure, disk};

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) outstanding: u32,
    /// How long each invocation took, from the shortest to the longest.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) usage: Usage,
    /// The most memory that the router had, in KiB.
    pub(crate) peak_kib: u32,
    /// How long 4 KiB take to the disk.
    pub(crate) sync: Duration,
    pub(crate) written: Written,
    /// All answers, those of the warm-up and after the measured time included.
    pub(crate) answers: u64,
}

/// What the measured time cost.
#[derive(Debug)]
pub(crate) struct Usage {
    /// CPU time of the router.
    pub(crate) router: Duration,
    /// CPU time of all clients.
    pub(crate) clients: Duration,
    /// When that was.
    at: Range<Timestamp>,
}

/// Measures with so many invocations on their way.
pub(crate) async fn measure(options: &Options, outstanding: u32) -> Result<Measured, Failure> {
    let folder = tempfile::Builder::new().prefix("load-").tempdir_in(&options.dir)?;
    let sync = disk::sync_time(folder.path())?;
    let mut router = Router::start(folder.path())?;
    let (masters, mut agents, ids) = connect(options, &router).await?;

    let start = Instant::now() + Options::WARM_UP;
    let work =
        Work { agents: ids, payloads: Payloads::of(options.payload), measured: start..start + options.measured() };
    let load = try_join_all(
        masters
            .into_iter()
            .zip(shares(outstanding, options.masters))
            .map(|(master, outstanding)| master.invoke(&work, outstanding)),
    );
    let (tallies, usage) = tokio::select! {
        biased;
        // First, because it is the reason for what masters see of it.
        Some(agent) = agents.join_next() => {
            agent??;
            return Err("the router closed an agent's connection".into());
        }
        measured = try_join(load, usage(router.pid(), &work.measured)) => measured?,
    };
    let peak_kib = router.peak_kib()?;

    router.terminate()?;
    let delivered = ended(agents).await?;
    router.ended()?;
    router.verify()?;
    let (answers, latencies) = sum(tallies);
    if delivered != answers {
        return Err(format!("{answers} invocations were answered, and {delivered} delivered").into());
    }
    let written = journal::read(&router.journal(), usage.at.clone()).await?;
    written.check(answers)?;
    Ok(Measured { outstanding, latencies, usage, peak_kib, sync, written, answers })
}

type Agents = JoinSet<Result<u64, Failure>>;

/// Everyone, connected, registered and known to the router.
async fn connect(options: &Options, router: &Router) -> Result<(Vec<Master>, Agents, Arc<[Uuid]>), Failure> {
    let address = router.address();
    let mut first = Master::connect(address).await?;
    let ids: Arc<[Uuid]> = (0..options.agents).map(|_| Uuid::new_v4()).collect();
    let mut agents = JoinSet::new();
    for (index, &id) in (0..).zip(&*ids) {
        let agent = Agent::connect(address, id, options.version, (index, ids.len() as u64)).await?;
        agents.spawn(agent.run());
    }
    // Agents of part 1 are told nothing when they are registered, but the backend is.
    first.expect_agents(ids.len()).await?;
    let mut masters = vec![first];
    for _ in 1..options.masters {
        masters.push(Master::connect(address).await?);
    }
    Ok((masters, agents, ids))
}

/// What of `whole` each of `parts` gets.
fn shares(whole: u32, parts: u32) -> impl Iterator<Item = u32> {
    (0..parts).map(move |part| whole / parts + u32::from(part < whole % parts))
}

async fn usage(router: u32, measured: &Range<Instant>) -> Result<Usage, Failure> {
    let clock = Clock::start();
    let clients = std::process::id();
    let now = || Ok::<_, Failure>((router::cpu_time(router)?, router::cpu_time(clients)?, clock.now()));
    sleep_until(measured.start).await;
    let start = now()?;
    sleep_until(measured.end).await;
    let end = now()?;
    Ok(Usage { router: end.0.saturating_sub(start.0), clients: end.1.saturating_sub(start.1), at: start.2..end.2 })
}

/// Waits until the router has closed all agents' connections. Returns how many invocations they were sent.
async fn ended(mut agents: Agents) -> Result<u64, Failure> {
    let mut delivered = 0;
    while let Some(agent) = agents.join_next().await {
        delivered += agent??;
    }
    Ok(delivered)
}

fn sum(tallies: Vec<Tally>) -> (u64, Vec<Duration>) {
    let answers = tallies.iter().map(|tally| tally.answers).sum();
    let mut latencies: Vec<_> = tallies.into_iter().flat_map(|tally| tally.latencies).collect();
    latencies.sort_unstable();
    (answers, latencies)
}
