//! The routers: their turns, their ends, and their starts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_router::clock::Timestamp;
use agent_router::id::{InvocationId, NodeId, Position, SessionId};
use agent_router::invocation::Policy;
use agent_router::journal::NodeStanding;
use agent_router::router::{Command, EndReason, Ledger, Step};
use rand::Rng;
use rand::rngs::StdRng;

use super::peers::Peer;
use super::shared::Shared;

/// The router, less its sockets.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) ledger: Ledger,
    /// The revision that it has followed.
    pub(super) seen: usize,
    /// Commands of sockets that a turn is still to take, in order.
    pub(super) held: Vec<Command>,
    /// It takes no turns for a while.
    pub(super) asleep: bool,
    /// Whoever waits here over HTTP.
    pub(super) http: BTreeSet<InvocationId>,
    pub(super) feed: Option<SessionId>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) shared: Shared,
    /// Those that run, by number.
    pub(super) routers: BTreeMap<i64, Router>,
    pub(super) numbers: i64,
    pub(super) peers: BTreeMap<SessionId, Peer>,
    pub(super) random: StdRng,
    pub(super) spoken: u64,
    /// Deliveries that were sent.
    pub(super) sent: BTreeSet<(InvocationId, u32)>,
    /// The place of the newest first delivery, by agent.
    pub(super) first: BTreeMap<String, Position>,
    /// Routers that were told to rise.
    pub(super) woken: BTreeSet<NodeId>,
    /// What routers did that can be seen outside.
    pub(super) done: usize,
    /// The last of it.
    pub(super) last: String,
    /// Whether commits fail and routers end, at random.
    pub(super) rough: bool,
}

pub(super) fn policy() -> Policy {
    Policy {
        default_ttl: Duration::from_secs(10),
        default_deadline: Duration::from_mins(2),
        agent_grace: Duration::from_secs(20),
        resume_grace: Duration::from_secs(5),
        answer_ttl: Duration::from_hours(10),
        max_in_flight: 4,
        ..Policy::default()
    }
}

impl World {
    pub(super) fn new(numbers: i64, random: StdRng) -> Self {
        let mut world = Self {
            now: Timestamp::from_micros(1_767_322_985_000_000),
            shared: Shared::default(),
            routers: BTreeMap::new(),
            numbers,
            peers: BTreeMap::new(),
            random,
            spoken: 0,
            sent: BTreeSet::new(),
            first: BTreeMap::new(),
            woken: BTreeSet::new(),
            done: 0,
            last: String::new(),
            rough: true,
        };
        for number in 1..=numbers {
            world.start(number);
        }
        world
    }

    pub(super) fn draw(&mut self, below: u32) -> u32 {
        self.random.random_range(0..below)
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    pub(super) fn pick<T: Clone>(&mut self, among: &[T]) -> Option<T> {
        let index = if among.is_empty() { return None } else { self.random.random_range(0..among.len()) };
        Some(among[index].clone())
    }

    /// One thing happens: somewhere a turn is taken, or a router ends or starts.
    pub(super) fn anything(&mut self) {
        let number = i64::from(self.draw(u32::try_from(self.numbers).expect("few"))) + 1;
        if !self.routers.contains_key(&number) {
            if self.chance(25) {
                self.start(number);
            } else {
                self.miss(number);
            }
            return;
        }
        match self.draw(200) {
            0 => self.kill(number),
            1 => self.stop(number),
            2 => self.router(number).asleep = true,
            3 => {
                // It may be busy and no more.
                let gone: Vec<i64> = (1..=self.numbers).filter(|other| *other != number).collect();
                if let Some(gone) = self.pick(&gone) {
                    self.miss(gone);
                }
            }
            4 => {
                // Its process goes on beside the one that takes its place, for a turn.
                let old = self.routers.remove(&number).expect("it runs");
                self.drop_peers(number);
                self.start(number);
                let new = self.routers.insert(number, old).expect("it has started");
                self.turn(number, Vec::new());
                assert!(!self.routers.contains_key(&number), "it has seen that another has its name");
                self.routers.insert(number, new);
            }
            _ if self.router(number).asleep => {
                if self.chance(20) {
                    self.router(number).asleep = false;
                }
            }
            _ => {
                let count = self.draw(5);
                let all_run = self.routers.len() == usize::try_from(self.numbers).expect("few");
                let prompt = self.chance(20) && all_run && self.routers.values().all(|router| !router.asleep);
                if prompt {
                    let rough = std::mem::replace(&mut self.rough, false);
                    self.settle_turns();
                    let commands = (0..count).filter_map(|_| self.speak(number)).collect();
                    self.turn_of_all(number, commands);
                    self.rough = rough;
                } else {
                    let commands = (0..count).filter_map(|_| self.speak(number)).collect();
                    self.turn(number, commands);
                }
            }
        }
    }

    pub(super) fn router(&mut self, number: i64) -> &mut Router {
        self.routers.get_mut(&number).expect("it runs")
    }

    pub(super) fn start(&mut self, number: i64) {
        let restored = self.shared.restore(NodeId(number), self.now);
        let mut ledger = Ledger::restore(restored, policy(), Duration::from_secs(20), self.now);
        let mut step = Step::default();
        ledger.boot(self.now, &mut step);
        let batch = ledger.batch(&mut step);
        self.check_batch(NodeId(number), &batch);
        self.shared.commit(&batch);
        ledger.seal();
        let router = Router {
            ledger,
            seen: self.shared.revision,
            held: Vec::new(),
            asleep: false,
            http: BTreeSet::new(),
            feed: None,
        };
        self.routers.insert(number, router);
    }

    /// Ends a router as kill -9 does.
    pub(super) fn kill(&mut self, number: i64) {
        self.routers.remove(&number);
        self.drop_peers(number);
    }

    fn drop_peers(&mut self, number: i64) {
        self.peers.retain(|_, peer| peer.node.0 != number);
    }

    /// Ends a router in good order.
    fn stop(&mut self, number: i64) {
        self.router(number).asleep = false;
        self.turn(number, vec![Command::Shutdown]);
        if !self.routers.contains_key(&number) {
            return;
        }
        if self.chance(50) {
            self.end_sockets(number, EndReason::Restarting);
        }
        self.turn(number, vec![Command::Leave]);
        self.kill(number);
    }

    /// A router that was not heard of for too long is taken for lost by another.
    fn miss(&mut self, number: i64) {
        let Some(row) = self.shared.nodes.get(&NodeId(number)) else { return };
        let (node, epoch) = (row.node, row.epoch);
        let others: Vec<i64> = self.routers.keys().copied().filter(|other| *other != number).collect();
        if let Some(other) = self.pick(&others) {
            self.turn(other, vec![Command::NodeLost { node, epoch }]);
        }
    }

    pub(super) fn is_present(&self, node: NodeId) -> bool {
        self.shared
            .nodes
            .get(&node)
            .is_some_and(|row| matches!(row.standing, NodeStanding::Up | NodeStanding::Draining))
    }
}
