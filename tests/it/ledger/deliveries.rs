//! What an agent is sent, when, and with what.

use agent_router::auth::Principal;
use agent_router::code::ErrorCode;
use agent_router::id::MAX_IDENTITY_BYTES;
use agent_router::invocation::Policy;
use agent_router::journal::Detail;
use agent_router::protocol::{self, Version};
use agent_router::router::{Body, Command, Delivery, Effect, EndReason, Outbound};
use serde_json::{Value, json};

use super::{AGENT, CALLER, Stage, delivered, frames, identity};

fn deliveries(effects: &[Effect]) -> Vec<&Delivery> {
    let deliveries = effects.iter().filter_map(|effect| match effect {
        Effect::Send { message: Outbound::Delivery(delivery), .. } => Some(&**delivery),
        _ => None,
    });
    deliveries.collect()
}

#[test]
fn what_goes_at_once_takes_its_body_along_and_what_waited_is_read_back() {
    let mut stage = Stage::with(Policy { max_in_flight: 1, ..Policy::default() });
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 1);
    let effects = stage.invoke(caller);
    let [first] = deliveries(&effects)[..] else { panic!("{effects:?}") };
    let Body::Inline(body) = &first.body else { panic!("{first:?}") };
    assert_eq!(serde_json::from_slice::<Value>(body).unwrap()["request_payload"], json!({}));
    assert!(!first.addition.unwrap().redelivered);
    let waits = stage.events.last().unwrap().position.next();
    assert!(deliveries(&stage.invoke(caller)).is_empty(), "it is busy");
    let effects = stage.answer(agent, first.invocation);
    let [next] = deliveries(&effects)[..] else { panic!("{effects:?}") };
    assert!(matches!(next.body, Body::Stored(place) if place == waits), "{next:?}");
}

#[test]
fn an_agent_of_version_2_is_told_that_it_may_have_seen_a_delivery() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 1);
    stage.invoke(caller);
    stage.end(agent, EndReason::Closed);
    let agent = stage.open(AGENT);
    let effects = stage.register_v2(agent, 1);
    let [again] = deliveries(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((again.attempt, again.addition.unwrap().redelivered), (2, true));
}

#[test]
fn a_delivery_that_was_overtaken_by_the_end_of_its_invocation_does_not_hold_any_more() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register(agent);
    let effects = stage.invoke(caller);
    let [delivery] = &effects[..] else { panic!("{effects:?}") };
    assert!(stage.ledger.still_holds(delivery));
    let ended = stage.answer(agent, delivered(&effects)[0]);
    assert!(!stage.ledger.still_holds(delivery));
    assert!(ended.iter().all(|effect| stage.ledger.still_holds(effect)), "{ended:?}");
}

#[test]
fn a_socket_that_may_be_about_to_register_gets_what_is_new_at_once_and_what_waited_later() {
    let mut stage = Stage::with(Policy { max_in_flight: 1, ..Policy::default() });
    let caller = stage.open(CALLER);
    let older = stage.open(AGENT);
    let running = delivered(&stage.invoke(caller))[0];
    let newer = stage.open(AGENT);
    assert!(delivered(&stage.invoke(caller)).is_empty(), "the agent is busy");
    assert!(delivered(&stage.answer(older, running)).is_empty(), "the newer may be about to register");
    stage.now = stage.now + Policy::default().drain_delay;
    assert_eq!(frames(&stage.end(caller, EndReason::Closed), newer), ["agent_invoke"]);
}

#[test]
fn a_delivery_may_be_as_large_as_a_frame_and_no_larger() {
    // Nothing takes more room than what has to be escaped.
    let [asker, target] = ["\"", "\\"].map(|letter| identity(&letter.repeat(MAX_IDENTITY_BYTES)));
    let length = |version_2, limit| {
        let mut stage = Stage::with(Policy { max_frame_bytes: limit, ..Policy::default() });
        let (agent, _) = stage.open_as(&Principal::Own { identity: target.clone(), credential: None });
        if version_2 {
            stage.register_v2(agent, 10);
        }
        let (caller, _) = stage.open_as(&Principal::Invoke { caller: asker.clone(), target: target.clone() });
        let frame = json!({"message_type": "agent_invoke", "agent_uuid": target.as_str(), "request_payload": {}});
        // The name of the first is plain, that of the second has an id behind it.
        let [_, effects] = [0; 2].map(|_| stage.send(caller, Version::One, frame.clone()));
        let [delivery] = deliveries(&effects)[..] else { return None };
        let Body::Inline(body) = &delivery.body else { panic!("{delivery:?}") };
        let addition = delivery.addition.map(|addition| protocol::Addition {
            invocation_id: delivery.invocation,
            attempt: delivery.attempt,
            deadline_ms: u64::from(u32::MAX),
            redelivered: addition.redelivered,
        });
        Some(protocol::Delivery { invoked_by: &delivery.invoked_by, addition }.encoded_len(body))
    };
    for version_2 in [false, true] {
        let most = length(version_2, 1 << 20).unwrap();
        assert!(most > 4 * MAX_IDENTITY_BYTES);
        assert_eq!(length(version_2, most - 1), None, "version 2: {version_2}");
        // What an agent of version 2 is sent has a type of its own, which is counted besides.
        let least = (most..most + 64).find(|limit| length(version_2, *limit).is_some());
        assert!(least == Some(most) || version_2 && least.is_some(), "{least:?} for {most}");
    }
}

#[test]
fn a_delivery_that_has_grown_too_large_ends_its_invocation() {
    let payload = "x".repeat(1000);
    // How each delivery of one invocation counts, and how it ends; its agent starts work and is lost, again and again.
    let run = |limit| {
        let mut stage = Stage::with(Policy { max_frame_bytes: limit, ..Policy::default() });
        let caller = stage.open(CALLER);
        let agent = stage.open(AGENT);
        stage.register_v2(agent, 1);
        let frame = json!({"message_type": "agent_invoke", "agent_uuid": AGENT, "max_attempts": 11, "request_payload": {"text": payload}});
        let mut effects = stage.send(caller, Version::One, frame);
        let (mut agent, mut body_bytes, mut counted) = (agent, 0, Vec::new());
        while let [delivery] = deliveries(&effects)[..] {
            if let Body::Inline(body) = &delivery.body {
                body_bytes = body.len();
            }
            let addition = protocol::Addition {
                invocation_id: delivery.invocation,
                attempt: delivery.attempt,
                deadline_ms: u64::from(u32::MAX),
                redelivered: delivery.addition.unwrap().redelivered,
            };
            let added = protocol::Delivery { invoked_by: &delivery.invoked_by, addition: Some(addition) };
            // Members that are added to others have a comma more than those of an object of their own.
            counted.push(body_bytes + added.encoded_len(b"{}") - "{}".len() + ",".len());
            stage.take(Command::Receipts { session: agent, deliveries: vec![(delivery.invocation, delivery.attempt)] });
            stage.end(agent, EndReason::Closed);
            agent = stage.open(AGENT);
            effects = stage.register_v2(agent, 1);
        }
        let end = stage.events.iter().rev().find_map(|event| match event.detail {
            Detail::InvocationFailed { code, .. } => code,
            _ => None,
        });
        (counted, end)
    };
    let (all, end) = run(1 << 20);
    assert_eq!((all.len(), end), (11, Some(ErrorCode::AgentLost)));
    // The second is marked, and bears the id in its name; the tenth has a digit more.
    assert!(all[0] < all[1] && all[1] == all[8] && all[8] + 1 == all[9] && all[9] == all[10], "{all:?}");
    for (index, most) in [(0, 1), (1, 9), (9, 11)] {
        assert_eq!(run(all[index]).0.len(), most);
        let (sent, end) = run(all[index] - 1);
        let refused = index == 0;
        assert_eq!((sent.len(), end), (index, (!refused).then_some(ErrorCode::FrameTooLarge)));
    }
}
