//! Turns: a router follows, decides, commits, and lets effects out, as its writer does.

use std::collections::BTreeSet;

use agent_router::id::{InvocationId, NodeId};
use agent_router::journal::Lookup;
use agent_router::router::{Class, Command, Effect, Found, Step, Verdict};
use rand::Rng;

use super::world::World;

impl World {
    fn begin(&mut self, number: i64) -> bool {
        let router = self.routers.get_mut(&number).expect("it runs");
        if let Some(news) = self.shared.news(router.seen) {
            router.seen = self.shared.revision;
            if news.whole {
                // Whoever waits looks again.
                let shared = &self.shared;
                router.http.retain(|id| shared.invocations[id].is_open());
            }
            let missing = router.ledger.follow(news);
            assert_eq!(BTreeSet::from_iter(missing), BTreeSet::from_iter(router.ledger.missing()));
        }
        if router.ledger.is_superseded() {
            return false;
        }
        if self.rough && !router.ledger.missing().is_empty() && self.random.random_ratio(1, 4) {
            // The journal could not be asked. The next turn goes on from here.
            return true;
        }
        let lookup = Lookup { ids: router.ledger.missing(), keys: Vec::new() };
        router.ledger.follow_settled(self.shared.lookup(&lookup));
        true
    }

    /// A turn of a router, in which it takes these commands. Those that its batch has told to rise take theirs at once, and
    /// then nobody else has anything to do.
    pub(super) fn turn_of_all(&mut self, number: i64, commands: Vec<Command>) {
        for other in self.running() {
            self.turn(other, Vec::new());
        }
        self.settle_turns();
        let events = self.shared.events.len();
        self.turn(number, commands);
        // What is due because of that is the next turn's.
        self.turn(number, Vec::new());
        // Who joined an invocation elsewhere is told by the next turn, and not by name.
        let has_key = |id: &InvocationId| self.shared.invocations[id].key.is_some();
        let joined = self.shared.events[events..].iter().filter_map(|event| event.invocation).any(|id| has_key(&id));
        loop {
            let woken: Vec<i64> = std::mem::take(&mut self.woken).into_iter().map(|node| node.0).collect();
            let before = self.shared.revision;
            for woken in woken.iter().filter(|woken| self.routers.contains_key(woken)).copied().collect::<Vec<_>>() {
                self.turn(woken, Vec::new());
            }
            if self.shared.revision == before {
                break;
            }
        }
        for other in self.running() {
            let before = (self.shared.revision, self.done);
            self.turn(other, Vec::new());
            let nothing = before == (self.shared.revision, self.done);
            let last = &self.last;
            assert!(nothing || joined, "router {other} has something to do, and nobody has told it: {last}");
        }
    }

    pub(super) fn settle_turns(&mut self) {
        let mut before = None;
        while before != Some(self.shared.revision) {
            before = Some(self.shared.revision);
            for number in self.running() {
                self.turn(number, Vec::new());
            }
        }
        self.woken.clear();
    }

    pub(super) fn running(&self) -> Vec<i64> {
        self.routers.keys().copied().collect()
    }

    /// A turn of a router, in which it takes these commands.
    pub(super) fn turn(&mut self, number: i64, commands: Vec<Command>) {
        self.router(number).held.extend(commands);
        let mut tries = 0;
        loop {
            tries += 1;
            if !self.begin(number) {
                // Its process ends.
                self.routers.remove(&number);
                return;
            }
            if !self.router(number).ledger.missing().is_empty() {
                return;
            }
            let overtaken = tries == 1 && self.rough && self.chance(15);
            let (fails, now) = (self.rough && self.chance(4), self.now);
            // It stood still since it looked: what others have made durable goes with its turn, or not at all.
            let late = self.rough && self.chance(20);
            let router = self.routers.get_mut(&number).expect("it runs");
            let mut lookup = Lookup::default();
            for command in &router.held {
                router.ledger.wants(command, &mut lookup);
            }
            let found = Found::new(self.shared.lookup(&lookup));
            let mut step = Step::default();
            router.ledger.catch_up(now, &mut step);
            router.ledger.pass_time(now, &mut step);
            let held = std::mem::take(&mut router.held);
            let verdicts: Vec<Verdict> =
                held.iter().map(|command| router.ledger.decide(command, &found, now, &mut step)).collect();
            let known = std::mem::take(&mut step.known);
            let known = if late {
                step.effects.extend(known);
                Vec::new()
            } else {
                router.ledger.told();
                known
            };
            let batch = router.ledger.batch(&mut step);
            for effect in known {
                self.effect(number, effect);
            }
            let router = self.routers.get_mut(&number).expect("it runs");
            if overtaken {
                router.ledger.take_back();
                router.held = held;
                let others: Vec<i64> = self.routers.keys().copied().filter(|other| *other != number).collect();
                if let Some(other) = self.pick(&others) {
                    let commands = self.speak(other).into_iter().collect();
                    self.turn(other, commands);
                }
                continue;
            }
            if !batch.is_empty() {
                if fails {
                    router.ledger.take_back();
                    let is_fact = |command: &Command| matches!(command.class(), Class::Fact | Class::Note);
                    router.held = held.into_iter().filter(is_fact).collect();
                    return;
                }
                self.check_batch(NodeId(number), &batch);
                self.woken.extend(&batch.wake);
                self.shared.commit(&batch);
                self.router(number).seen = self.shared.revision;
            }
            let router = self.routers.get_mut(&number).expect("it runs");
            router.ledger.seal();
            for (command, verdict) in held.into_iter().zip(verdicts) {
                self.taken(NodeId(number), command, verdict, &batch);
            }
            for effect in step.effects {
                self.effect(number, effect);
            }
            return;
        }
    }

    fn effect(&mut self, number: i64, effect: Effect) {
        self.last = format!("{effect:?}");
        self.done += usize::from(match &effect {
            Effect::Ended { invocation, .. } => self.router(number).http.contains(invocation),
            Effect::Feed(start) => start.is_some() || self.router(number).feed.is_some(),
            _ => true,
        });
        match effect {
            Effect::Send { to, message, .. } => self.sent_to(NodeId(number), to, message),
            Effect::End { session, why } => self.must_end(NodeId(number), session, why),
            Effect::Feed(start) => {
                let session = start.map(|start| start.session);
                self.router(number).feed = session;
            }
            Effect::Ended { invocation, .. } => {
                assert!(!self.shared.invocations[&invocation].is_open(), "told before it has ended");
                self.router(number).http.remove(&invocation);
            }
        }
    }

    /// Everybody takes turns until nothing follows any more.
    pub(super) fn settle(&mut self) {
        for number in self.routers.keys().copied().collect::<Vec<_>>() {
            self.router(number).asleep = false;
        }
        for round in 0.. {
            let before = self.shared.revision;
            let mut said = 0;
            for number in self.routers.keys().copied().collect::<Vec<_>>() {
                let commands = self.orderly(number);
                said += commands.len();
                self.turn(number, commands);
            }
            let at_rest = self.routers.keys().copied().collect::<Vec<_>>().into_iter().all(|number| {
                let commands = self.orderly(number);
                let nothing = commands.is_empty();
                self.router(number).held.extend(commands);
                nothing
            });
            if said == 0 && at_rest && self.shared.revision == before {
                return;
            }
            assert!(round < 1000, "it never comes to rest");
        }
    }
}
