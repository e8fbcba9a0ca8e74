//! An invocation's way to the agent and its answer's way back.

use serde_json::{Value, json};

use crate::support::{BACKEND, BACKEND_KEY, ML, ML_KEY, Peer, Router, agent_id, answer, answered, not_active};

#[tokio::test]
async fn an_agent_invokes_another_through_an_invoke_socket() {
    let router = Router::start().await;
    let (caller, target) = (agent_id(), agent_id());
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, &caller, &target).await;
    socket
        .invoke_with(&target, json!({"x": 1}), json!({"request_metadata": {"request_id": "r", "session_id": "s"}}))
        .await;

    let delivery = agent.recv().await;
    let expected = json!({
        "request_payload": {"x": 1},
        "request_metadata": {"request_id": "r", "session_id": "s"},
        "invoked_by": format!("{caller}:{target}"),
    });
    assert_eq!(delivery, expected);
    agent
        .send(json!({
            "message_type": "agent_response",
            "response": "done",
            "execution_time": 0.5,
            "response_metadata": {"request_id": "r", "session_id": "s"},
            "invoked_by": delivery["invoked_by"],
        }))
        .await;
    let expected = json!({
        "message_type": "agent_response",
        "response": "done",
        "execution_time": 0.5,
        "response_metadata": {"request_id": "r", "session_id": "s"},
    });
    assert_eq!(socket.recv().await, expected);
    socket.expect_nothing().await;
    agent.expect_nothing().await;
}

#[tokio::test]
async fn an_own_socket_invokes_in_its_own_name() {
    let router = Router::start().await;
    let (caller, target) = (agent_id(), agent_id());
    let mut agent = Peer::registered(&router, &target).await;
    let mut peers = [
        (Peer::agent(&router, &caller).await, &*caller),
        (Peer::master_be(&router).await, BACKEND),
        (Peer::master_ml(&router).await, ML),
    ];
    assert_eq!(peers[1].0.recv().await["request_payload"]["agent_uuid"], target);
    for (peer, name) in &mut peers {
        peer.invoke(&target, json!({})).await;
        let delivery = agent.recv().await;
        assert_eq!(delivery["invoked_by"], *name);
        agent.answer(&delivery, json!(name)).await;
        assert_eq!(peer.recv().await, answered(json!(name)));
    }
}

#[tokio::test]
async fn a_masters_key_is_replaced_by_its_name() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    for (key, name) in [(BACKEND_KEY, BACKEND), (ML_KEY, ML)] {
        let mut socket = Peer::invoke_socket(&router, key, &target).await;
        socket.invoke(&target, json!({})).await;
        let text = agent.recv_text().await;
        assert!(!text.contains(key));
        let delivery: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(delivery["invoked_by"], format!("{name}:{target}"));
        agent.answer(&delivery, json!(name)).await;
        assert_eq!(socket.recv().await, answered(json!(name)));
    }
}

#[tokio::test]
async fn payload_and_metadata_are_optional_and_further_fields_are_passed_on() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.send(json!({"message_type": "agent_invoke", "agent_uuid": target})).await;
    assert_eq!(agent.recv().await, json!({"invoked_by": format!("{BACKEND}:{target}")}));

    let caller = agent_id();
    let socket = Peer::invoke_socket(&router, &caller, &target).await;
    socket
        .send(json!({
            "message_type": "agent_invoke", "agent_uuid": target, "request_payload": {}, "trace": {"id": [1, null]},
            "invoked_by": "somebody else",
        }))
        .await;
    let expected =
        json!({"request_payload": {}, "trace": {"id": [1, null]}, "invoked_by": format!("{caller}:{target}")});
    assert_eq!(agent.recv().await, expected);
}

#[tokio::test]
async fn an_agents_error_reaches_its_caller_as_it_is() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    agent
        .send(json!({
            "message_type": "agent_error", "error": {"error_message": "division by zero"}, "execution_time": 0,
            "invoked_by": delivery["invoked_by"], "agent_uuid": target,
        }))
        .await;
    let expected = json!({
        "message_type": "agent_error", "error": {"error_message": "division by zero"}, "execution_time": 0,
    });
    assert_eq!(socket.recv().await, expected);
    assert_eq!(router.wait_for_event("kind=invocation.failed").await["agent_id"], target);
}

#[tokio::test]
async fn a_models_fields_stand_at_top_level() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    agent
        .send(json!({
            "city": "Oslo", "degrees": -3, "message_type": "agent_response", "execution_time": 0.1,
            "invoked_by": delivery["invoked_by"],
        }))
        .await;
    let expected = json!({"city": "Oslo", "degrees": -3, "message_type": "agent_response", "execution_time": 0.1});
    assert_eq!(socket.recv().await, expected);
}

#[tokio::test]
async fn json_as_python_writes_it_passes_byte_for_byte() {
    const PAYLOAD: &str = concat!(
        r#"{"nan": NaN,  "inf": Infinity, "low": -Infinity, "big": 123456789012345678901234567890, "e": 1E400, "#,
        r#""lone": "\ud800", "escaped": "\u00e9\/", "plain": "é", "twice": 1, "twice": 2}"#
    );
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket
        .send_raw(&format!(
            r#" {{"message_type": "agent_invoke" , "agent_uuid": "{target}", "request_payload" :  {PAYLOAD}, "k": NaN}}"#
        ))
        .await;
    let delivery = agent.recv_text().await;
    assert!(delivery.contains(PAYLOAD), "{delivery}");
    assert!(delivery.contains(r#""k": NaN"#), "{delivery}");
    assert!(!delivery.contains("message_type") && !delivery.contains("agent_uuid"), "{delivery}");

    agent
        .send_raw(&format!(
            r#"{{"message_type": "agent_response", "response":{PAYLOAD}, "invoked_by": "{BACKEND}:{target}", "execution_time": NaN}}"#
        ))
        .await;
    let answer = socket.recv_text().await;
    assert!(answer.contains(PAYLOAD), "{answer}");
    assert!(answer.contains(r#""execution_time": NaN"#), "{answer}");

    let invocation = router.invocation(&router.newest_invocation_of(&target).await).await;
    for (key, strict) in [
        ("nan", "NaN"),
        ("inf", "Infinity"),
        ("low", "-Infinity"),
        ("big", "123456789012345678901234567890"),
        ("lone", r"\ud800"),
        ("escaped", "é/"),
    ] {
        assert_eq!(invocation["payload"][key], strict, "{invocation}");
    }
}

#[tokio::test]
async fn the_master_agent_is_invoked_by_the_backends_invoke_sockets_alone() {
    let router = Router::start().await;
    let mut ml = Peer::master_ml(&router).await;
    ml.send(json!({"message_type": "agent_register", "request_payload": {"agent_name": "master"}})).await;
    ml.expect_nothing().await;

    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, ML).await;
    socket.invoke(ML, json!({"question": "?"})).await;
    let delivery = ml.recv().await;
    assert_eq!(delivery["invoked_by"], format!("{BACKEND}:{ML}"));
    ml.answer(&delivery, json!("!")).await;
    assert_eq!(socket.recv().await, answered(json!("!")));

    let agent = agent_id();
    for mut other in [
        Peer::master_be(&router).await,
        Peer::agent(&router, &agent).await,
        Peer::invoke_socket(&router, &agent, ML).await,
        Peer::invoke_socket(&router, ML_KEY, ML).await,
    ] {
        other.invoke(ML, json!({})).await;
        assert_eq!(other.recv().await, not_active());
    }
    ml.expect_nothing().await;
}

#[tokio::test]
async fn the_backend_is_invoked_by_nobody() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let mut socket = Peer::invoke_socket(&router, ML_KEY, BACKEND).await;
    socket.invoke(BACKEND, json!({})).await;
    assert_eq!(socket.recv().await, not_active());
    backend.expect_nothing().await;
}

#[tokio::test]
async fn an_agent_that_has_not_registered_is_invoked_all_the_same() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::agent(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({"x": 1})).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!(2)).await;
    assert_eq!(socket.recv().await, answered(json!(2)));
}

#[tokio::test]
async fn identities_are_compared_whole() {
    let router = Router::start().await;
    let mut short = Peer::registered(&router, "agent-1").await;
    let mut long = Peer::registered(&router, "agent-11").await;
    let mut socket = Peer::invoke_socket(&router, "gent-1", "agent-1").await;
    for target in ["gent-1", "agent-", "agent-111"] {
        socket.invoke(target, json!({})).await;
        assert_eq!(socket.recv().await, not_active());
    }
    socket.invoke("agent-1", json!({})).await;
    let delivery = short.recv().await;
    long.answer(&delivery, json!("not mine")).await;
    long.expect_nothing().await;
    short.answer(&delivery, json!("mine")).await;
    assert_eq!(socket.recv().await, answered(json!("mine")));
}

#[tokio::test]
async fn twenty_callers_at_once_get_their_own_answers_whatever_the_order() {
    let router = Router::start().await;
    let (caller, target) = (agent_id(), agent_id());
    let mut agent = Peer::registered(&router, &target).await;
    let mut sockets = Vec::new();
    for number in 0..20 {
        let socket = Peer::invoke_socket(&router, &caller, &target).await;
        socket.invoke(&target, json!({"number": number})).await;
        sockets.push((number, socket));
    }
    let mut deliveries = agent.recv_many(20).await;
    deliveries.reverse();
    for delivery in &deliveries {
        agent.send(answer(delivery, delivery["request_payload"]["number"].clone())).await;
    }
    for (number, mut socket) in sockets {
        assert_eq!(socket.recv().await, answered(json!(number)));
        socket.expect_nothing().await;
    }
}

#[tokio::test]
async fn what_went_over_the_wire_is_in_the_journal() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let metadata = json!({"request_metadata": {"request_id": "r-7", "session_id": "s-7"}});
    socket.invoke_with(&target, json!({"question": 42}), metadata).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("the answer 43")).await;
    socket.recv().await;

    let id = router.newest_invocation_of(&target).await;
    router.wait_for_event(&format!("kind=answer.delivered&invocation_id={id}")).await;
    let invocation = router.invocation(&id).await;
    assert_eq!(invocation["id"], id);
    assert_eq!(invocation["agent_id"], target);
    assert_eq!(invocation["caller"], BACKEND);
    assert_eq!(invocation["state"], "completed");
    assert_eq!(invocation["attempt"], 1);
    assert_eq!(invocation["max_attempts"], 1);
    assert_eq!(invocation["request_id"], "r-7");
    assert_eq!(invocation["session_id"], "s-7");
    assert_eq!(invocation["payload"], json!({"question": 42}));
    assert!(invocation["result"].to_string().contains("the answer 43"), "{invocation}");
    let times =
        ["accepted_at", "delivered_at", "finished_at"].map(|time| invocation[time].as_str().unwrap().to_owned());
    assert!(times.is_sorted() && times.iter().all(|time| time.ends_with('Z')), "{times:?}");

    let events = router.history(&format!("invocation_id={id}")).await;
    assert!(
        events.iter().all(|event| event["hash"].is_string() && event["at"].is_string() && event["node_id"].is_string())
    );
    let life = router.life_of(&id).await;
    let main: Vec<_> = life.iter().filter(|kind| *kind != "invocation.started").collect();
    assert_eq!(main, ["invocation.accepted", "invocation.delivered", "invocation.completed", "answer.delivered"]);
}
