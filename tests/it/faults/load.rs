//! The load that every fault is tried under: masters that each keep some invocations outstanding, and agents that come and
//! go, some of which fail and some of which never answer. Whatever happens to the router, they find it again.

mod agents;
mod callers;
mod stage;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::notes::{Bodies, Notes};
use crate::support::PATIENCE;
use agents::{Agent, Temper};
use callers::{one_by_one, over_http, own_socket};
use stage::{Act, Stage};

/// How many take part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) masters: usize,
    /// How many invocations each master keeps outstanding.
    pub(crate) outstanding: usize,
    pub(crate) agents: usize,
    pub(crate) bodies: Bodies,
}

impl Scale {
    /// 64 invocations outstanding over 8 masters and 32 agents.
    pub(crate) const FULL: Self = Self { masters: 8, outstanding: 8, agents: 32, bodies: Bodies::All };
    /// What a test of some seconds has time for.
    pub(crate) const SHORT: Self = Self { masters: 7, outstanding: 3, agents: 10, bodies: Bodies::All };
}

/// How agents come and go, in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) there: Range<u64>,
    pub(crate) away: Range<u64>,
}

impl Default for Pace {
    /// At any time one in ten is away.
    fn default() -> Self {
        Self { there: 1_000..8_000, away: 0..1_000 }
    }
}

/// How much has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Ends that callers were told of.
    pub(crate) ended: usize,
    /// Connections that agents have made.
    pub(crate) connections: usize,
    /// Requests that were refused, or whose outcome nobody said.
    pub(crate) refused: usize,
}

/// Settings of the router that suit the load: whatever happens, everything ends within some seconds.
pub(crate) const SETTINGS: [(&str, &str); 5] = [
    ("RESUME_GRACE", "500ms"),
    ("AGENT_GRACE", "60s"),
    ("DRAIN_DELAY", "50ms"),
    ("DEFAULT_TTL", "3s"),
    ("DEFAULT_DEADLINE", "6s"),
];

/// Who takes part in it, at work.
pub(crate) struct Load {
    addresses: watch::Sender<Vec<SocketAddr>>,
    act: watch::Sender<Act>,
    progress: watch::Receiver<Progress>,
    callers: JoinSet<Notes>,
    agents: JoinSet<Notes>,
}

impl Load {
    /// Starts it against the routers at these addresses.
    pub(crate) fn start(addresses: Vec<SocketAddr>, scale: Scale, pace: &Pace, random: &mut StdRng) -> Self {
        let (addresses, stage_addresses) = watch::channel(addresses);
        let (act, stage_act) = watch::channel(Act::Playing);
        let (stage_progress, progress) = watch::channel(Progress::default());
        let new_id = |random: &mut StdRng| uuid::Builder::from_random_bytes(rand::Rng::random(random)).into_uuid();
        let ids: Arc<[Uuid]> = (0..scale.agents).map(|_| new_id(random)).collect();
        let stage = Stage {
            addresses: stage_addresses,
            act: stage_act,
            progress: Arc::new(stage_progress),
            agents: Arc::clone(&ids),
            bodies: scale.bodies,
        };
        let mut agents = JoinSet::new();
        for (index, id) in ids.iter().enumerate() {
            let agent = Agent {
                id: *id,
                is_version_2: index % 2 == 0,
                temper: Temper::of(index),
                pace: pace.clone(),
                random: StdRng::from_rng(random),
            };
            agents.spawn(agent.play(stage.clone()));
        }
        let mut callers = JoinSet::new();
        for index in 0..scale.masters {
            let mut random = StdRng::from_rng(random);
            match index % 7 {
                kind @ (0 | 1 | 3 | 4) => {
                    let who = match kind {
                        0 | 4 => own_socket::Who::MasterAgent,
                        1 => own_socket::Who::Backend,
                        _ => own_socket::Who::Agent(new_id(&mut random)),
                    };
                    callers.spawn(own_socket::play(who, scale.outstanding, random, stage.clone()));
                }
                kind => {
                    for _ in 0..scale.outstanding {
                        let random = StdRng::from_rng(&mut random);
                        match kind {
                            2 => callers.spawn(over_http::play(random, stage.clone())),
                            5 => callers.spawn(one_by_one::play(one_by_one::After::Stays, random, stage.clone())),
                            _ => callers.spawn(one_by_one::play(one_by_one::After::Leaves, random, stage.clone())),
                        };
                    }
                }
            }
        }
        Self { addresses, act, progress, callers, agents }
    }

    /// The routers are elsewhere now.
    pub(crate) fn moves_to(&self, addresses: Vec<SocketAddr>) {
        self.addresses.send_replace(addresses);
    }

    /// Where the routers are, as those who take part know it.
    pub(crate) fn addresses(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.addresses.subscribe()
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until callers have been told of so many more ends.
    pub(crate) async fn goes_on(&mut self, more: usize) {
        let goal = self.progress().ended + more;
        self.reaches(|progress| progress.ended >= goal).await;
    }

    /// Waits until that is so; it may take long, as long as something happens.
    async fn reaches(&mut self, is_so: impl Fn(&Progress) -> bool) {
        loop {
            let now = *self.progress.borrow_and_update();
            if is_so(&now) {
                return;
            }
            let moved = timeout(PATIENCE, self.progress.changed()).await;
            assert!(moved.is_ok_and(|moved| moved.is_ok()), "the load stands still at {now:?}");
        }
    }

    /// Callers ask nothing more, and wait for what is outstanding; then agents stop too.
    pub(crate) async fn stop(self) -> Vec<Notes> {
        self.act.send_replace(Act::Ending);
        let mut notes = self.callers.join_all().await;
        self.act.send_replace(Act::Over);
        notes.extend(self.agents.join_all().await);
        notes
    }
}
