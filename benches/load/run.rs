//! One measurement: fresh routers, their clients, the load, and the checks.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_router::clock::{Clock, Timestamp};
use futures_util::future::{try_join, try_join_all};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::agent::Agent;
use crate::database::{Database, Written};
use crate::master::{Master, Tally, Work};
use crate::options::{Options, Setup};
use crate::payload::Payloads;
use crate::postgres::Server;
use crate::router::{self, Router};
use crate::{Failure, disk};

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) setup: Setup,
    /// How long each invocation took, from the shortest to the longest.
    pub(crate) latencies: Vec<Duration>,
    /// Those of them whose agent was on the master's own router.
    pub(crate) within: Vec<Duration>,
    /// Those of them whose agent was on another router.
    pub(crate) across: Vec<Duration>,
    pub(crate) usage: Usage,
    /// The most memory that a router had, in KiB.
    pub(crate) peak_kib: u32,
    /// How long 4 KiB take to the disk.
    pub(crate) sync: Duration,
    /// How long Postgres takes to commit a small row.
    pub(crate) row_commit: Option<Duration>,
    pub(crate) written: Written,
    /// All answers, those of the warm-up and after the measured time included.
    pub(crate) answers: u64,
}

/// What the measured time cost.
#[derive(Debug)]
pub(crate) struct Usage {
    /// CPU time of the routers.
    pub(crate) router: Duration,
    /// CPU time of all clients.
    pub(crate) clients: Duration,
    /// How many commits the routers made.
    pub(crate) commits: f64,
    /// How long they took, on average.
    pub(crate) commit: Duration,
    /// When that was.
    at: Range<Timestamp>,
}

/// Measures one setup.
pub(crate) async fn measure(options: &Options, setup: Setup, server: Option<&Server>) -> Result<Measured, Failure> {
    let folder = tempfile::Builder::new().prefix("load-").tempdir_in(&options.dir)?;
    let sync = disk::sync_time(folder.path())?;
    let (database, row_commit) = match server.filter(|_| setup.is_postgres) {
        None if setup.is_long => {
            let journal = options.journal.as_ref().ok_or("there is no long journal")?;
            (Database::copied(journal, folder.path()).await?, None)
        }
        Some(server) => {
            let database = server.database().await?;
            let row_commit = database.commit_time().await?;
            (Database::Postgres(database), Some(row_commit))
        }
        None => (Database::in_folder(folder.path()), None),
    };
    let measured = measure_on(options, setup, &database, folder.path(), (sync, row_commit)).await?;
    if let (Some(server), Database::Postgres(database)) = (server, database) {
        server.drop_database(database).await?;
    }
    Ok(measured)
}

async fn measure_on(
    options: &Options,
    setup: Setup,
    database: &Database,
    folder: &Path,
    (sync, row_commit): (Duration, Option<Duration>),
) -> Result<Measured, Failure> {
    let url = database.url();
    let mut routers = (1..=setup.nodes)
        .map(|number| Router::start(&url, &format!("router-{number}"), folder))
        .collect::<Result<Vec<_>, _>>()?;
    let (masters, mut agents, ids) = connect(options, &routers).await?;

    let start = Instant::now() + Options::WARM_UP;
    let work = Work {
        agents: ids,
        nodes: setup.nodes.into(),
        payloads: Payloads::of(options.payload),
        measured: start..start + options.measured(),
    };
    let shares = shares(setup.outstanding, u32::try_from(masters.len())?);
    let load =
        try_join_all(masters.into_iter().zip(shares).map(|(master, outstanding)| master.invoke(&work, outstanding)));
    let (tallies, usage) = tokio::select! {
        biased;
        // First, because it is the reason for what masters see of it.
        Some(agent) = agents.join_next() => {
            agent??;
            return Err("a router closed an agent's connection".into());
        }
        measured = try_join(load, usage(&routers, &work.measured)) => measured?,
    };
    let peaks = routers.iter().map(Router::peak_kib).collect::<Result<Vec<_>, _>>()?;

    routers.iter().try_for_each(Router::terminate)?;
    let delivered = ended(agents).await?;
    routers.iter_mut().try_for_each(Router::ended)?;
    database.verify().await?;
    let (answers, within, across) = sum(tallies);
    if delivered != answers {
        return Err(format!("{answers} invocations were answered, and {delivered} delivered").into());
    }
    let written = database.read(usage.at.clone()).await?;
    written.check(answers)?;
    let mut latencies = [within.clone(), across.clone()].concat();
    latencies.sort_unstable();
    let peak_kib = peaks.into_iter().max().unwrap_or_default();
    Ok(Measured { setup, latencies, within, across, usage, peak_kib, sync, row_commit, written, answers })
}

pub(crate) type Agents = JoinSet<Result<u64, Failure>>;

/// Everyone, connected, registered and known to the router, and spread over the routers.
pub(crate) async fn connect(
    options: &Options,
    routers: &[Router],
) -> Result<(Vec<Master>, Agents, Arc<[Uuid]>), Failure> {
    let router = |number: u64| {
        let node = number % routers.len() as u64;
        (routers[usize::try_from(node).expect("it is less than a length")].address(), node)
    };
    let (address, node) = router(0);
    let mut first = Master::connect(address, node).await?;
    let ids: Arc<[Uuid]> = (0..options.agents).map(|_| Uuid::new_v4()).collect();
    let mut agents = JoinSet::new();
    for (index, &id) in (0..).zip(&*ids) {
        let agent = Agent::connect(router(index).0, id, options.version, (index, ids.len() as u64)).await?;
        agents.spawn(agent.run());
    }
    // Agents of part 1 are told nothing when they are registered, but the backend is.
    first.expect_agents(&ids).await?;
    let mut masters = vec![first];
    for number in 1..u64::from(options.masters).max(routers.len() as u64) {
        let (address, node) = router(number);
        masters.push(Master::connect(address, node).await?);
    }
    Ok((masters, agents, ids))
}

/// What of `whole` each of `parts` gets.
fn shares(whole: u32, parts: u32) -> impl Iterator<Item = u32> {
    (0..parts).map(move |part| whole / parts + u32::from(part < whole % parts))
}

async fn usage(routers: &[Router], measured: &Range<Instant>) -> Result<Usage, Failure> {
    let clock = Clock::start();
    let now = async || {
        let (mut cpu, mut commits, mut took) = (Duration::ZERO, 0.0, Duration::ZERO);
        for router in routers {
            cpu += router::cpu_time(router.pid())?;
            let (made, time) = router.commits().await?;
            commits += made;
            took += time;
        }
        Ok::<_, Failure>((cpu, commits, took, router::cpu_time(std::process::id())?, clock.now()))
    };
    sleep_until(measured.start).await;
    let start = now().await?;
    sleep_until(measured.end).await;
    let end = now().await?;
    Ok(Usage {
        router: end.0.saturating_sub(start.0),
        clients: end.3.saturating_sub(start.3),
        commits: end.1 - start.1,
        commit: end.2.saturating_sub(start.2).div_f64((end.1 - start.1).max(1.0)),
        at: start.4..end.4,
    })
}

/// Waits until the routers have closed all agents' connections. Returns how many invocations they were sent.
pub(crate) async fn ended(mut agents: Agents) -> Result<u64, Failure> {
    let mut delivered = 0;
    while let Some(agent) = agents.join_next().await {
        delivered += agent??;
    }
    Ok(delivered)
}

fn sum(tallies: Vec<Tally>) -> (u64, Vec<Duration>, Vec<Duration>) {
    let answers = tallies.iter().map(|tally| tally.answers).sum();
    let (mut within, mut across) = (Vec::new(), Vec::new());
    for tally in tallies {
        within.extend(tally.within);
        across.extend(tally.across);
    }
    within.sort_unstable();
    across.sort_unstable();
    (answers, within, across)
}
