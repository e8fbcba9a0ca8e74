//! What is counted in bytes, what the journal is asked for, and when the router rises by itself.

use std::time::Duration;

use agent_router::auth::{Authenticator, Principal};
use agent_router::code::ErrorCode;
use agent_router::config::Config;
use agent_router::id::{InvocationId, Position, SessionId};
use agent_router::invocation::Policy;
use agent_router::journal::{Detail, EventKind, Lookup};
use agent_router::protocol::Version;
use agent_router::protocol::outbound::registered_notice;
use agent_router::router::{Command, Effect, EndReason, Found, Outbound, Step, Verdict};
use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::{Value, json};

use super::{AGENT, CALLER, Stage, delivered, identity, invocation};
use crate::support::{BACKEND, ML, SECRET, agent_token, command, stage};

/// The one frame that a socket is sent.
fn frame(effects: &[Effect], socket: SessionId) -> Bytes {
    let mut frames = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message: Outbound::Frame(frame), .. } if *to == socket => Some(frame.clone()),
        _ => None,
    });
    let frame = frames.next().expect("a frame");
    assert!(frames.next().is_none(), "{effects:?}");
    frame
}

#[test]
fn a_registration_counts_with_the_credential_that_the_backend_is_told() {
    let token = agent_token(AGENT, SECRET);
    let headers = HeaderMap::from_iter([("x-custom-authorization".parse().unwrap(), token.parse().unwrap())]);
    let config = Config::from_lookup(|_| None).unwrap();
    let principal = Authenticator::new(&config).socket(&headers, Stage::new().now).unwrap();
    let register = |max_frame_bytes| {
        let mut stage = Stage::with(Policy { max_frame_bytes, ..Policy::default() });
        let (agent, _) = stage.open_as(&principal);
        let register = json!({"message_type": "agent_register", "request_payload": {}});
        stage.ask(command(agent, Version::One, &register)).0
    };
    let told = registered_notice(b"{}", AGENT, Some(&token)).len();
    assert_eq!(register(told), Verdict::Taken);
    assert_eq!(register(told - 1), Verdict::Refused(ErrorCode::FrameTooLarge));
}

#[test]
fn a_receipt_leaves_out_its_callers_metadata_where_it_would_be_too_large_with_them() {
    const LARGEST: usize = 1000;
    let mut stage = Stage::with(Policy { max_frame_bytes: LARGEST, ..Policy::default() });
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register(agent);
    let mut receipt = |letters| {
        let id = delivered(&stage.invoke(caller))[0];
        let metadata = json!({"text": "x".repeat(letters)});
        let cancel =
            json!({"message_type": "agent_cancel", "invocation_id": id.to_string(), "request_metadata": metadata});
        frame(&stage.send(caller, Version::One, cancel), caller)
    };
    let around = receipt(0).len();
    assert_eq!(receipt(LARGEST - around).len(), LARGEST);
    let cut: Value = serde_json::from_slice(&receipt(LARGEST - around + 1)).unwrap();
    assert_eq!((&cut["state"], &cut["request_metadata"]), (&json!("cancelled"), &Value::Null));
}

#[test]
fn the_journal_is_asked_for_what_may_be_settled_and_for_nothing_else() {
    let mut stage = Stage::new();
    let master = stage.open(ML);
    let agent = stage.open(AGENT);
    stage.register(agent);
    let wants = |stage: &Stage, command: Command| {
        let mut lookup = Lookup::default();
        stage.ledger.wants(&command, &mut lookup);
        (lookup.ids, lookup.keys.len())
    };
    let keyed = json!({"idempotency_key": "k"});
    let over_http =
        || Command::HttpInvoke { caller: identity(ML), invoke: stage::invocation(AGENT, &json!({}), &keyed) };
    let mut on_socket = invocation();
    on_socket["idempotency_key"] = json!("k");
    assert_eq!(wants(&stage, over_http()), (vec![], 1));
    assert_eq!(wants(&stage, command(master, Version::One, &on_socket)), (vec![], 1));
    assert_eq!(wants(&stage, command(master, Version::One, &invocation())), (vec![], 0));
    let id = delivered(&stage.send(master, Version::One, on_socket))[0];
    assert_eq!(wants(&stage, over_http()), (vec![], 0), "while it is open there is no newer one");

    let cancel = |id: InvocationId| Command::HttpCancel { caller: identity(ML), invocation: id };
    let answer = |name: &str| {
        command(agent, Version::One, &json!({"message_type": "agent_response", "invoked_by": name, "response": 1}))
    };
    let gone = InvocationId::generate();
    for (here, elsewhere) in
        [(cancel(id), cancel(gone)), (answer(&format!("{ML}#{id}")), answer(&format!("{ML}#{gone}")))]
    {
        assert_eq!(wants(&stage, here), (vec![], 0));
        assert_eq!(wants(&stage, elsewhere), (vec![gone], 0));
    }
    assert_eq!(wants(&stage, answer(ML)), (vec![], 0), "plain names are in memory");
    stage.send(agent, Version::One, json!({"message_type": "agent_response", "invoked_by": ML, "response": 1}));
    assert_eq!(wants(&stage, over_http()), (vec![], 1), "it has ended, and there may be a newer one");
}

#[test]
fn the_router_rises_for_what_is_due_next_and_for_nothing_else() {
    let seconds = Duration::from_secs;
    let policy = Policy { default_ttl: seconds(20), default_deadline: seconds(30), ..Policy::default() };
    let mut stage = Stage::with(policy.clone());
    let start = stage.now;
    let agent = stage.open(AGENT);
    assert_eq!(stage.ledger.next_due(), Some(start + policy.drain_delay), "it has so long to register");
    stage.register_v2(agent, 1);
    assert_eq!(stage.ledger.next_due(), None);
    stage.open(BACKEND);
    stage.open_as(&Principal::Invoke { caller: identity(CALLER), target: identity(AGENT) });
    assert_eq!(stage.ledger.next_due(), None, "nothing waits for them to register");

    let newer = stage.open(AGENT);
    stage.register_v2(newer, 1);
    stage.now = start + policy.drain_delay;
    stage.take(Command::FeedAcknowledged { position: Position(0) });
    assert_eq!(stage.ledger.next_due(), None, "what it takes over from is this router's own to close");
    stage.end(newer, EndReason::Closed);
    stage.end(agent, EndReason::TakenOver);
    stage.open(AGENT);
    stage.take(Command::Disconnect { agent: identity(AGENT) });
    assert_eq!(stage.ledger.next_due(), None, "one that is being closed is not waited for");

    let mut stage = Stage::with(policy.clone());
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 1);
    let caller = stage.open(CALLER);
    stage.now = start + policy.drain_delay;
    let id = delivered(&stage.invoke(caller))[0];
    stage.now = stage.now + seconds(1);
    stage.invoke(caller);
    assert_eq!(stage.ledger.next_due(), Some(start + policy.drain_delay + seconds(30)), "a deadline");
    stage.receipt(agent, id);
    stage.end(agent, EndReason::Closed);
    let left = stage.now;
    assert_eq!(stage.ledger.next_due(), Some(left + seconds(20)), "a ttl, from its agent's end");
    stage.ask(Command::ConnectionRefused { peer: "127.0.0.1".to_owned(), reason: "so".to_owned() });
    assert_eq!(stage.ledger.next_due(), Some(left + seconds(1)), "refusals that were not journaled one by one");
}

#[test]
fn it_is_journaled_since_when_the_journal_took_no_commits() {
    let mut stage = Stage::new();
    let mut step = Step::default();
    let since = stage.now;
    stage.now = since + Duration::from_secs(3);
    stage.ledger.recovered(since, stage.now, &mut step);
    let [event] = &step.events[..] else { panic!("{step:?}") };
    assert!(matches!(event.detail, Detail::JournalRecovered { since: told } if told == since), "{event:?}");
}

#[test]
fn a_log_line_can_be_found_by_what_it_says_that_it_belongs_to() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    let log = json!({
        "message_type": "agent_log", "log_message": "so", "log_level": "info", "request_id": "r", "session_id": "s",
    });
    stage.send(agent, Version::One, log);
    let event = stage.events.last().unwrap();
    let labels = [&event.labels.request_id, &event.labels.session_id].map(|label| label.as_deref());
    assert_eq!((labels, &event.agent), ([Some("r"), Some("s")], &Some(identity(AGENT))));
}

#[test]
fn the_backend_is_told_again_of_every_agent_that_is_registered_and_of_no_master() {
    let mut stage = Stage::new();
    let [second, first] = ["b", "a"].map(|name| stage.open(name));
    for socket in [first, second] {
        stage.register(socket);
    }
    let master = stage.open(ML);
    stage.register(master);
    stage.open(CALLER);
    let (_, effects) = stage.open_as(&Principal::Own { identity: identity(BACKEND), credential: None });
    let [Effect::Feed(Some(start))] = &effects[..] else { panic!("{effects:?}") };
    let told: Vec<_> = start.registered.iter().map(|(socket, agent, _)| (*socket, agent.as_str())).collect();
    assert_eq!(told, [(first, "a"), (second, "b")]);
}

#[test]
fn what_the_backend_says_that_it_has_is_noted_once_and_no_more_than_there_is() {
    let mut stage = Stage::new();
    stage.open(BACKEND);
    let head = stage.events.last().unwrap().position;
    for (position, noted) in [(Position(0), None), (head.next(), None), (head, Some(head)), (head, None)] {
        stage.take(Command::FeedAcknowledged { position });
        assert_eq!(stage.batch.feed_acknowledged, noted, "{position:?}");
        let agents: Vec<_> = stage.batch.events.iter().map(|event| event.agent.clone()).collect();
        assert_eq!(agents, noted.iter().map(|_| Some(identity(BACKEND))).collect::<Vec<_>>());
    }
}

#[test]
fn a_refusal_is_journaled_with_whoever_it_was() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    stage.take(Command::FrameRefused { session: caller, reason: "no JSON".to_owned() });
    stage.take(Command::ConnectionRefused { peer: "127.0.0.1".to_owned(), reason: "no key".to_owned() });
    let mut step = Step::default();
    let invoke = command(
        caller,
        Version::One,
        &json!({
            "message_type": "agent_invoke", "agent_uuid": "nobody", "request_payload": {},
        }),
    );
    stage.ledger.decide(&invoke, &Found::default(), stage.now, &mut step);
    assert!(matches!(step.at_once[..], [Effect::Send { to, .. }] if to == caller), "{step:?}");
    let refusals = stage.events.iter().chain(&step.events).skip(1);
    let named: Vec<_> =
        refusals.map(|event| (event.detail.kind(), event.agent.clone(), event.caller.clone())).collect();
    let [agent, caller] = ["nobody", CALLER].map(|name| Some(identity(name)));
    let expected = [
        (EventKind::FrameRefused, None, caller.clone()),
        (EventKind::ConnectionRefused, None, None),
        (EventKind::InvocationRefused, agent, caller),
    ];
    assert_eq!(named, expected);
}

#[test]
fn those_who_are_too_many_to_be_told_apart_share_what_is_journaled_of_their_refusals() {
    const TOLD_APART: usize = 10_000;
    let mut stage = Stage::new();
    let mut refused = |peers: std::ops::Range<usize>| {
        let before = stage.events.len();
        for peer in peers {
            stage.take(Command::ConnectionRefused { peer: peer.to_string(), reason: "no key".to_owned() });
        }
        stage.events.len() - before
    };
    assert_eq!(refused(0..TOLD_APART), TOLD_APART);
    let shared = Policy::default().refusals_per_second as usize;
    assert_eq!(refused(TOLD_APART..TOLD_APART + 3 * shared), shared);
    assert_eq!(refused(0..1), 1, "whoever was there before counts alone");
}
