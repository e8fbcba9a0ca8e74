//! What a start makes of what it finds.

use std::time::Duration;

use agent_router::id::NodeId;
use agent_router::invocation::{Policy, State};
use agent_router::journal::{Head, NodeRow, NodeStanding, Restored};

use super::{AGENT, CALLER, EndReason, Stage, delivered, nothing};

#[test]
fn a_router_that_has_the_journal_to_itself_takes_those_of_other_names_for_lost() {
    let now = Stage::new().now;
    let row = |node, standing| NodeRow { node: NodeId(node), standing, ..nothing(now).node };
    let nodes = vec![row(2, NodeStanding::Up), row(3, NodeStanding::Draining), row(4, NodeStanding::Stopped)];
    let stage = Stage::restored(Restored { nodes, ..nothing(now) }, Policy::default(), now);
    let changed: Vec<_> = stage.batch.nodes.iter().map(|row| (row.node.0, row.standing)).collect();
    assert_eq!(changed, [(1, NodeStanding::Up), (2, NodeStanding::Lost), (3, NodeStanding::Lost)]);
}

#[test]
fn work_that_was_interrupted_before_a_restart_is_waited_for_as_long_after_it() {
    let mut before = Stage::new();
    let caller = before.open(CALLER);
    let agent = before.open(AGENT);
    before.register_v2(agent, 1);
    let id = delivered(&before.invoke(caller))[0];
    before.receipt(agent, id);
    before.end(agent, EndReason::Closed);
    let grace = Policy::default().resume_grace;
    let unsettled = before.ledger.rows().invocations;
    assert_eq!(unsettled[0].state, State::Interrupted { until: before.now + grace });

    let head = Head { position: before.events.last().unwrap().position, hash: [0; 32] };
    let now = before.now + grace - Duration::from_secs(1);
    let stage = Stage::restored(Restored { head, unsettled, ..nothing(now) }, Policy::default(), now);
    let states: Vec<_> = stage.batch.changed.iter().map(|invocation| (invocation.id, invocation.state)).collect();
    assert_eq!(states, [(id, State::Interrupted { until: now + grace })]);
}
