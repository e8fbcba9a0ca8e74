//! What two routers do together, scene by scene.

use std::time::Duration;

use agent_router::auth::Principal;
use agent_router::id::{Identity, InvocationId, NodeId, SessionId};
use agent_router::invocation::StateName;
use agent_router::journal::{EventKind, Head, NodeStanding};
use agent_router::protocol::Version;
use agent_router::router::{Command, EndReason};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::peers::own;
use super::world::{World, policy};
use crate::support::{BACKEND, ML, command};

/// Two routers and nothing that happens by chance.
fn two() -> World {
    some(2)
}

fn three() -> World {
    some(3)
}

fn some(routers: i64) -> World {
    let mut world = World::new(routers, StdRng::seed_from_u64(0));
    world.rough = false;
    world
}

impl World {
    fn connect(&mut self, number: i64, principal: Principal) -> SessionId {
        let session = SessionId::generate();
        self.turn(number, vec![Command::Open { session, principal, sealed_credential: None }]);
        session
    }

    fn says(&mut self, number: i64, session: SessionId, version: Version, frame: Value) {
        self.turn(number, vec![command(session, version, &frame)]);
    }

    fn agent(&mut self, number: i64) -> SessionId {
        self.registered(number, "a")
    }

    fn registered(&mut self, number: i64, name: &str) -> SessionId {
        let socket = self.connect(number, own(name));
        self.says(number, socket, Version::One, json!({"message_type": "agent_register", "request_payload": {}}));
        socket
    }

    fn closes(&mut self, number: i64, session: SessionId) {
        self.turn(number, vec![Command::End { session, reason: EndReason::Closed }]);
    }

    /// How often a socket was told the end of an invocation.
    fn told(&self, socket: SessionId, id: InvocationId) -> u32 {
        self.peers[&socket].waits.get(&id).copied().unwrap_or(0)
    }

    fn asks(&mut self, number: i64, caller: SessionId, options: Value) -> InvocationId {
        let mut frame = json!({"message_type": "agent_invoke", "agent_uuid": "a", "request_payload": {}});
        frame.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        self.says(number, caller, Version::One, frame);
        *self.shared.invocations.keys().next_back().expect("it is accepted")
    }

    fn answers(&mut self, number: i64, agent: SessionId) {
        let invoked_by = self.peers.get_mut(&agent).unwrap().deliveries.remove(0).invoked_by;
        let answer = json!({"message_type": "agent_response", "invoked_by": invoked_by, "response": 1});
        self.says(number, agent, Version::One, answer);
    }

    /// More happens there than another can follow commit by commit.
    fn bustles(&mut self, number: i64) {
        let socket = self.connect(number, own("loud"));
        for _ in 0..30 {
            self.says(number, socket, Version::One, json!({"message_type": "agent_log", "log_message": "so"}));
        }
    }

    fn state(&self, id: InvocationId) -> StateName {
        self.shared.invocations[&id].state_name()
    }

    fn count(&self, kind: EventKind) -> usize {
        self.shared.events.iter().filter(|event| event.detail.kind() == kind).count()
    }
}

#[test]
fn what_may_not_wait_reaches_an_agent_at_another_router_and_ends_with_it() {
    let mut world = two();
    let (caller, agent) = (world.connect(1, own("bare")), world.agent(2));
    let id = world.asks(1, caller, json!({"ttl_ms": 0}));
    assert_eq!(world.state(id), StateName::Queued);
    world.turn(2, Vec::new());
    assert_eq!(world.peers[&agent].deliveries[0].invocation, id);
    world.answers(2, agent);
    world.turn(1, Vec::new());
    assert_eq!(world.peers[&caller].waits[&id], 1, "the caller is told by its own router");

    let id = world.asks(1, caller, json!({"ttl_ms": 0}));
    world.turn(2, vec![Command::End { session: agent, reason: EndReason::Closed }]);
    world.turn(1, Vec::new());
    assert!(matches!(world.state(id), StateName::Failed | StateName::Expired), "{}", world.state(id));
    assert_eq!(world.peers[&caller].waits[&id], 1);
}

#[test]
fn a_dismissal_is_sent_by_the_router_that_holds_the_agent() {
    let mut world = two();
    let agent = world.agent(2);
    let target = Identity::new("a").unwrap();
    let backend = world.connect(1, Principal::Invoke { caller: Identity::new(BACKEND).unwrap(), target });
    let frame = json!({"message_type": "agent_invoke", "agent_uuid": "a", "request_payload": {"error_message": "go"}});
    world.says(1, backend, Version::One, frame);
    assert_eq!(world.peers[&agent].dismissed, 0);
    world.turn(2, Vec::new());
    world.turn(2, Vec::new());
    assert_eq!(world.peers[&agent].dismissed, 1);
}

#[test]
fn a_newer_socket_at_another_router_takes_over_when_the_older_one_has_ended() {
    let mut world = two();
    let (older, newer) = (world.agent(1), world.agent(2));
    assert_eq!(world.count(EventKind::AgentRegistered), 1, "it waits for the older one");
    world.turn(1, Vec::new());
    assert_eq!(world.peers[&older].ending, Some(EndReason::TakenOver));
    world.turn(1, vec![Command::End { session: older, reason: EndReason::TakenOver }]);
    world.turn(2, Vec::new());
    assert!(world.shared.sessions[&newer].registered.is_some());
}

#[test]
fn a_router_that_does_not_close_its_socket_is_not_waited_for_and_what_the_socket_had_sent_counts() {
    let mut world = two();
    let caller = world.connect(2, own("bare"));
    let older = world.agent(1);
    let id = world.asks(2, caller, json!({"max_attempts": 2}));
    world.turn(1, Vec::new());
    let newer = world.agent(2);
    world.now = world.now + Duration::from_millis(1999);
    world.turn(2, Vec::new());
    assert!(world.shared.sessions[&newer].registered.is_none());
    world.now = world.now + Duration::from_millis(1);
    world.turn(2, Vec::new());
    assert!(world.shared.sessions[&newer].registered.is_some());
    assert!(!world.shared.sessions.contains_key(&older));

    world.answers(1, older);
    assert_eq!(world.peers[&older].ending, Some(EndReason::TakenOver));
    assert_eq!(world.state(id), StateName::Completed);
    let events = world.shared.events.len();
    world.turn(1, vec![Command::End { session: older, reason: EndReason::TakenOver }]);
    assert_eq!(world.shared.events.len(), events, "its end is in the journal already");
    world.turn(2, Vec::new());
    assert_eq!(world.peers[&caller].waits[&id], 1);
}

#[test]
fn a_router_that_was_taken_for_lost_closes_its_sockets_and_goes_on() {
    let mut world = two();
    let agent = world.agent(1);
    world.turn(2, vec![Command::NodeLost { node: NodeId(1), epoch: 1 }]);
    assert_eq!(world.shared.nodes[&NodeId(1)].standing, NodeStanding::Lost);
    assert!(world.shared.sessions.is_empty());
    world.turn(2, vec![Command::NodeLost { node: NodeId(1), epoch: 1 }]);
    assert_eq!(world.count(EventKind::NodeLost), 1);
    world.turn(1, Vec::new());
    assert_eq!(world.peers[&agent].ending, Some(EndReason::Restarting));
    assert_eq!(world.count(EventKind::NodeReturned), 1);
    assert_eq!(world.shared.nodes[&NodeId(1)].standing, NodeStanding::Up);
    let agent = world.agent(1);
    assert!(world.shared.sessions[&agent].registered.is_some());
}

#[test]
fn what_was_refused_and_committed_all_the_same_is_withdrawn_without_a_word() {
    let mut world = two();
    let (caller, agent) = (world.connect(1, own("bare")), world.agent(2));
    let id = world.asks(1, caller, json!({}));
    world.turn(1, vec![Command::Withdraw { invocation: id }]);
    assert_eq!(world.state(id), StateName::Failed);
    world.turn(2, Vec::new());
    assert!(world.peers[&agent].deliveries.is_empty());
    world.turn(1, vec![Command::Withdraw { invocation: id }]);
    assert_eq!(world.count(EventKind::InvocationFailed), 1);
    assert_eq!(world.peers[&caller].waits[&id], 0);
}

#[test]
fn what_one_router_prunes_no_other_prunes_again() {
    let mut world = two();
    let through = Head { position: world.shared.head(), hash: [0; 32] };
    world.turn(1, vec![Command::Prune { through, events: 2 }]);
    world.turn(2, vec![Command::Prune { through, events: 2 }]);
    assert_eq!(world.count(EventKind::JournalPruned), 1);
}

#[test]
fn a_router_that_leaves_ends_its_sockets_in_the_journal() {
    let mut world = two();
    let (caller, agent) = (world.connect(2, own("bare")), world.agent(1));
    let id = world.asks(2, caller, json!({"max_attempts": 2}));
    world.turn(1, Vec::new());
    world.turn(1, vec![Command::Receipts { session: agent, deliveries: vec![(id, 1)] }, Command::Shutdown]);
    world.turn(1, vec![Command::Leave]);
    assert_eq!(world.shared.nodes[&NodeId(1)].standing, NodeStanding::Stopped);
    assert_eq!(world.shared.sessions.keys().collect::<Vec<_>>(), [&caller]);
    assert_eq!(world.state(id), StateName::Interrupted);
    let agent = world.agent(2);
    assert_eq!(world.peers[&agent].deliveries[0].attempt, 2, "the work goes on at the other");
}

#[test]
fn a_bare_caller_that_a_restart_cut_off_is_told_on_its_next_socket_while_that_is_made_up_for() {
    let mut world = two();
    let (caller, agent) = (world.connect(1, own("bare")), world.agent(1));
    let [soon, late] = [0; 2].map(|_| world.asks(1, caller, json!({"max_attempts": 2})));
    assert_eq!(world.peers[&agent].deliveries.len(), 2);
    world.kill(1);
    world.start(1);
    let restarted = world.now;
    let (caller, agent) = (world.connect(1, own("bare")), world.agent(1));
    assert_eq!(world.peers[&agent].deliveries.len(), 2);
    world.now = restarted + policy().resume_grace - Duration::from_millis(1);
    world.answers(1, agent);
    world.now = restarted + policy().resume_grace;
    world.answers(1, agent);
    assert_eq!([soon, late].map(|id| world.told(caller, id)), [1, 0]);
}

#[test]
fn the_router_with_a_callers_newest_socket_is_told_whether_or_not_others_know_what_it_makes_up_for() {
    let mut world = three();
    let (asked, _agent) = (world.connect(3, own("bare")), world.agent(3));
    let id = world.asks(3, asked, json!({"max_attempts": 2}));
    world.kill(3);
    world.turn(1, vec![Command::NodeLost { node: NodeId(3), epoch: 1 }]);
    world.kill(2);
    world.start(2);
    let (older, newest) = (world.connect(2, own("bare")), world.connect(1, own("bare")));
    world.turn(1, Vec::new());
    world.woken.clear();
    world.says(2, older, Version::One, json!({"message_type": "agent_cancel", "invocation_id": id.to_string()}));
    assert_eq!(world.state(id), StateName::Cancelled);
    assert!(world.woken.contains(&NodeId(1)), "it is told to rise");
    world.turn(1, Vec::new());
    assert_eq!(world.told(newest, id), 1);
}

#[test]
fn an_answer_is_sent_by_the_router_that_holds_the_socket_which_asked() {
    let mut world = two();
    let (asked, agent) = (world.connect(1, own(ML)), world.agent(2));
    let id = world.asks(1, asked, json!({}));
    let newer = world.connect(2, own(ML));
    world.answers(2, agent);
    world.turn(1, Vec::new());
    assert_eq!([asked, newer].map(|socket| world.told(socket, id)), [1, 0]);
}

#[test]
fn an_answer_does_not_wait_for_a_socket_elsewhere_that_may_be_about_to_register() {
    let mut world = two();
    let before = world.registered(1, "b");
    world.closes(1, before);
    let [older, asked] = [0; 2].map(|_| world.connect(1, own("b")));
    let agent = world.agent(1);
    world.now = world.now + policy().drain_delay;
    let id = world.asks(1, asked, json!({}));
    world.closes(1, asked);
    let newest = world.connect(2, own("b"));
    world.answers(1, agent);
    assert_eq!(world.told(older, id), 1);
    world.turn(2, Vec::new());
    assert_eq!(world.told(newest, id), 0);
}

#[test]
fn an_answer_is_left_to_the_router_where_its_caller_has_registered_since() {
    let mut world = two();
    let (asked, agent) = (world.registered(1, "b"), world.agent(1));
    let id = world.asks(1, asked, json!({}));
    let newer = world.registered(2, "b");
    world.closes(1, asked);
    world.turn(2, Vec::new());
    assert!(world.shared.sessions[&newer].registered.is_some());
    world.turn(1, Vec::new());
    world.woken.clear();
    world.answers(1, agent);
    assert!(world.woken.contains(&NodeId(2)), "it is told to rise");
    world.turn(2, Vec::new());
    assert_eq!(world.told(newer, id), 1);
}

#[test]
fn what_is_anothers_to_do_is_looked_at_a_little_later() {
    let mut world = two();
    let (caller, agent) = (world.connect(1, own("bare")), world.agent(2));
    world.closes(2, agent);
    world.now = world.now + policy().drain_delay;
    world.turn(1, Vec::new());
    world.asks(1, caller, json!({"ttl_ms": 3000}));
    world.turn(2, Vec::new());
    let over = world.now + Duration::from_secs(3);
    let rises = |world: &mut World| [1, 2].map(|number| world.router(number).ledger.next_due());
    assert_eq!(rises(&mut world), [Some(over), Some(over + Duration::from_millis(150))]);

    let agent = world.agent(2);
    world.turn(1, Vec::new());
    let deadline = world.now + policy().default_deadline;
    assert_eq!(rises(&mut world), [Some(deadline); 2], "who has its agent is as near to it");
    world.closes(2, agent);
}

#[test]
fn what_is_its_own_is_looked_at_when_it_is_due_although_something_of_anothers_was_due_before() {
    let mut world = two();
    let (caller, other) = (world.connect(1, own("bare")), world.connect(2, own("other")));
    let agent = world.agent(2);
    world.closes(2, agent);
    world.now = world.now + policy().drain_delay;
    world.turn(1, Vec::new());
    world.asks(1, caller, json!({"ttl_ms": 3000}));
    world.asks(2, other, json!({"ttl_ms": 3100}));
    assert_eq!(world.router(2).ledger.next_due(), Some(world.now + Duration::from_millis(3100)));
}

#[test]
fn a_socket_that_another_router_has_closed_or_ended_is_waited_for_no_more() {
    let mut world = two();
    let other = world.agent(1);
    let waits = world.agent(2);
    let fresh = world.connect(2, own("a"));
    assert!(world.router(2).ledger.next_due().is_some());
    world.turn(1, vec![Command::Disconnect { agent: Identity::new("a").unwrap() }]);
    world.turn(2, Vec::new());
    let ending = [waits, fresh].map(|socket| world.peers[&socket].ending);
    assert_eq!(ending, [Some(EndReason::Operator); 2]);
    assert_eq!(world.router(2).ledger.next_due(), None);
    for socket in [waits, fresh] {
        world.closes(2, socket);
    }
    world.closes(1, other);

    world.agent(1);
    world.agent(2);
    world.connect(2, own("a"));
    world.turn(1, vec![Command::NodeLost { node: NodeId(2), epoch: 1 }]);
    world.turn(2, Vec::new());
    assert_eq!(world.router(2).ledger.next_due(), None);
}

#[test]
fn a_router_that_missed_much_goes_by_what_is_there_now_and_asks_how_the_rest_has_ended() {
    let mut world = two();
    let (caller, agent) = (world.connect(1, own("bare")), world.agent(2));
    let [ends, waits] = [0; 2].map(|_| world.asks(1, caller, json!({})));
    let (stays, goes) = (world.registered(1, "b"), world.registered(2, "c"));
    world.turn(2, Vec::new());
    world.turn(1, Vec::new());
    world.closes(2, goes);
    world.answers(2, agent);
    world.bustles(2);
    assert_eq!([ends, waits].map(|id| world.told(caller, id)), [0, 0]);

    world.turn(1, Vec::new());
    world.compare();
    assert_eq!([ends, waits].map(|id| world.told(caller, id)), [1, 0]);
    assert_eq!([caller, stays].map(|socket| world.peers[&socket].ending), [None; 2]);
    assert_eq!(world.count(EventKind::NodeReturned), 0, "nobody has taken it for lost");
}

#[test]
fn a_router_that_missed_much_makes_up_for_the_loss_of_another_all_the_same() {
    let mut world = three();
    let (asked, agent) = (world.connect(3, own("bare")), world.agent(2));
    let id = world.asks(3, asked, json!({}));
    world.turn(2, Vec::new());
    world.kill(3);
    world.turn(1, vec![Command::NodeLost { node: NodeId(3), epoch: 1 }]);
    let newest = world.connect(1, own("bare"));
    world.answers(2, agent);
    world.bustles(2);
    assert_eq!(world.told(newest, id), 0);
    world.turn(1, Vec::new());
    assert_eq!(world.told(newest, id), 1);
}

#[test]
fn what_a_router_cut_off_by_starting_anew_is_made_up_for_by_the_others() {
    let mut world = two();
    let (asked, agent) = (world.connect(2, own("bare")), world.agent(1));
    let id = world.asks(2, asked, json!({}));
    world.turn(1, Vec::new());
    world.kill(2);
    world.start(2);
    let newest = world.connect(1, own("bare"));
    world.answers(1, agent);
    assert_eq!(world.told(newest, id), 1);
}

#[test]
fn the_loss_of_one_router_is_still_made_up_for_when_another_is_lost() {
    for (early, told) in [(Duration::from_millis(1), 1), (Duration::ZERO, 0)] {
        let mut world = three();
        let (asked, agent) = (world.connect(2, own("bare")), world.agent(1));
        let id = world.asks(2, asked, json!({}));
        world.connect(3, own("bare"));
        world.turn(1, Vec::new());
        let second = world.now + policy().resume_grace - early;
        for (number, lost) in [(2, world.now), (3, second)] {
            world.now = lost;
            world.kill(number);
            world.turn(1, vec![Command::NodeLost { node: NodeId(number), epoch: 1 }]);
        }
        let newest = world.connect(1, own("bare"));
        world.answers(1, agent);
        assert_eq!(world.told(newest, id), told, "{early:?} before it is over");
    }
}

#[test]
fn the_life_of_a_router_that_was_not_heard_of_is_lost_and_no_other() {
    let mut world = three();
    let [older, newest] = [1, 3].map(|number| world.connect(number, own(BACKEND)));
    world.turn(1, Vec::new());
    assert_eq!([1, 3].map(|number| world.router(number).feed), [None, Some(newest)]);
    world.kill(3);
    world.woken.clear();
    world.turn(1, vec![Command::NodeLost { node: NodeId(3), epoch: 1 }]);
    let standing = |world: &World| [1, 2, 3].map(|number| world.shared.nodes[&NodeId(number)].standing);
    assert_eq!(standing(&world), [NodeStanding::Up, NodeStanding::Up, NodeStanding::Lost]);
    assert_eq!(world.woken.iter().collect::<Vec<_>>(), [&NodeId(2)], "who is left is told to rise");
    assert_eq!(world.router(1).feed, Some(older), "the backend is told things by its next socket");

    world.start(3);
    world.turn(1, vec![Command::NodeLost { node: NodeId(3), epoch: 1 }]);
    assert_eq!(standing(&world), [NodeStanding::Up; 3], "it has started anew since");
}

#[test]
fn whoever_waits_too_long_for_a_socket_elsewhere_ends_that_one_alone() {
    let mut world = two();
    let [older, others] = ["a", "b"].map(|name| world.registered(1, name));
    let unregistered = world.connect(1, own("a"));
    let newest = world.registered(2, "a");
    world.now = world.now + Duration::from_secs(1);
    world.registered(2, "b");
    world.now = world.now + Duration::from_secs(1);
    world.turn(2, Vec::new());
    let is_there = [older, others, unregistered].map(|socket| world.shared.sessions.contains_key(&socket));
    assert_eq!(is_there, [false, true, true]);
    assert!(world.shared.sessions[&newest].registered.is_some());
}

#[test]
fn a_socket_of_its_own_router_is_waited_for_however_long_it_takes_to_close() {
    let mut world = two();
    let here = world.registered(2, "a");
    let there = world.registered(1, "a");
    world.turn(2, vec![Command::Disconnect { agent: Identity::new("a").unwrap() }]);
    let newest = world.registered(2, "a");
    world.now = world.now + Duration::from_secs(2);
    world.turn(2, Vec::new());
    let is_there = [here, there].map(|socket| world.shared.sessions.contains_key(&socket));
    assert_eq!(is_there, [true, false]);
    assert!(world.shared.sessions[&newest].registered.is_none());
    assert_eq!(world.router(2).ledger.next_due(), None, "it does not rise for that again");
    world.closes(2, here);
    assert!(world.shared.sessions[&newest].registered.is_some());
}

#[test]
fn a_socket_that_the_journal_has_ended_is_told_nothing_more() {
    let mut world = two();
    let (caller, agent) = (world.connect(1, own("bare")), world.agent(2));
    let id = world.asks(1, caller, json!({}));
    world.turn(2, vec![Command::NodeLost { node: NodeId(1), epoch: 1 }]);
    world.answers(2, agent);
    assert_eq!(world.state(id), StateName::Completed);
    world.turn(1, Vec::new());
    assert_eq!(world.told(caller, id), 0);
}
