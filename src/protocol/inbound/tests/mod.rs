mod invoke;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::id::InvocationId;

const ID: &str = "0198c5b2-7a4e-7c3d-8f10-2b6a9d4e5f01";
const ONE: Dialect = Dialect { version: Version::One, secured: false };
const TWO: Dialect = Dialect { version: Version::Two, secured: false };
const SECURED: Dialect = Dialect { version: Version::One, secured: true };

fn read(text: &str, dialect: Dialect) -> Result<Inbound, BadFrame> {
    parse(&Bytes::copy_from_slice(text.as_bytes()), dialect)
}

fn answer(text: &str, dialect: Dialect) -> Result<Answer, BadFrame> {
    read(text, dialect).map(|frame| match frame {
        Inbound::Answer(answer) => answer,
        other => panic!("{other:?}"),
    })
}

fn register(text: &str) -> Result<Register, BadFrame> {
    read(text, ONE).map(|frame| match frame {
        Inbound::Register(register) => register,
        other => panic!("{other:?}"),
    })
}

fn id() -> InvocationId {
    InvocationId(ID.parse().unwrap())
}

#[track_caller]
fn mistyped<T: std::fmt::Debug>(frame: &Result<T, BadFrame>) {
    assert!(matches!(frame, Err(BadFrame::Unexpected { .. })), "{frame:?}");
}

#[test]
fn frames_of_no_known_kind_are_bad() {
    assert_eq!(read("{", ONE), Err(BadFrame::NotJson));
    assert_eq!(read("", ONE), Err(BadFrame::NotJson));
    for text in [
        "[]",
        "{}",
        r#"{"message_type": null}"#,
        r#"{"message_type": 5}"#,
        r#"{"message_type": "\ud800"}"#,
        r#"{"message_type": "ml_invoke", "agent_uuid": "a", "request_payload": {"a": 1}}"#,
        r#"{"message_type": "AGENT_INVOKE"}"#,
        r#"{"message_type": "agent_registered"}"#,
        r#"{"message_type": "agent_unregister"}"#,
    ] {
        mistyped(&read(text, ONE));
    }
    mistyped(&parse(&Bytes::from_static(b"{\"message_type\": \"\xff\"}"), ONE));
    assert_eq!(read(r#"{"message_type": "agent_unregister"}"#, TWO), Ok(Inbound::Unregister));
}

#[test]
fn a_registration_has_an_object_as_payload() {
    for fields in ["", r#", "request_payload": null"#, r#", "request_payload": []"#, r#", "request_payload": "x""#] {
        mistyped(&register(&format!(r#"{{"message_type": "agent_register"{fields}}}"#)));
    }
    let stock = register(r#"{"message_type": "agent_register", "request_payload": {"agent_name": "n", "x": NaN}}"#);
    assert_eq!(
        stock.unwrap(),
        Register {
            payload: Bytes::from_static(br#"{"agent_name": "n", "x": NaN}"#),
            version: Version::One,
            running: Vec::new(),
            max_in_flight: None,
            agent_name: Some("n".to_owned()),
        }
    );
}

#[test]
fn a_registration_of_version_2_says_more() {
    let with =
        |fields: &str| register(&format!(r#"{{"message_type": "agent_register", "request_payload": {{}}, {fields}}}"#));
    let two = with(&format!(r#""protocol_version": 2, "running": ["{ID}"], "max_in_flight": 99999999999"#)).unwrap();
    assert_eq!((two.version, two.running, two.max_in_flight), (Version::Two, vec![id()], Some(u32::MAX)));
    let bare = with(r#""protocol_version": 2"#).unwrap();
    assert_eq!((bare.version, bare.running, bare.max_in_flight), (Version::Two, vec![], None));
    let one = with(r#""protocol_version": 1, "running": 5, "max_in_flight": 0"#).unwrap();
    assert_eq!((one.version, one.running, one.max_in_flight), (Version::One, vec![], None));

    for version in ["0", "3", "2.0", "\"2\"", "true", "[]"] {
        mistyped(&with(&format!(r#""protocol_version": {version}"#)));
    }
    for running in ["5", "{}", "[5]", "[null]", r#"["x"]"#] {
        mistyped(&with(&format!(r#""protocol_version": 2, "running": {running}"#)));
    }
    for wanted in ["0", "-1", "1.5", "\"5\"", "true"] {
        mistyped(&with(&format!(r#""protocol_version": 2, "max_in_flight": {wanted}"#)));
    }
    let many =
        |count: usize| format!(r#""protocol_version": 2, "running": [{}]"#, vec![format!("{ID:?}"); count].join(","));
    assert_eq!(with(&many(10_000)).unwrap().running.len(), 10_000);
    mistyped(&with(&many(10_001)));
}

#[test]
fn an_answer_is_passed_on_without_its_correlation() {
    let text = format!(
        r#"{{"message_type": "agent_response", "response": NaN, "invoked_by": "b#1", "agent_uuid": 5,
        "invocation_id": "{ID}", "execution_time": 0.1}}"#
    );
    let one = answer(&text, ONE).unwrap();
    assert_eq!((one.kind, &*one.invoked_by, one.invocation_id), (AnswerKind::Response, "b#1", None));
    assert_eq!(
        one.body,
        format!(
            r#"{{"message_type": "agent_response", "response": NaN,
        "invocation_id": "{ID}", "execution_time": 0.1}}"#
        )
    );
    let two = answer(&text, TWO).unwrap();
    assert_eq!(two.invocation_id, Some(id()));
    assert_eq!(two.body, r#"{"message_type": "agent_response", "response": NaN, "execution_time": 0.1}"#);
}

#[test]
fn an_answer_may_lack_its_correlation_but_not_have_a_wrong_one() {
    for text in [r#"{"message_type": "agent_error"}"#, r#"{"message_type": "agent_error", "invoked_by": null}"#] {
        let error = answer(text, TWO).unwrap();
        assert_eq!((error.kind, &*error.invoked_by, error.invocation_id), (AnswerKind::Error, "", None));
        assert_eq!(error.body, r#"{"message_type": "agent_error"}"#);
    }
    for value in ["5", "{}", r#""\ud800""#] {
        mistyped(&answer(&format!(r#"{{"message_type": "agent_error", "invoked_by": {value}}}"#), ONE));
    }
    let wrong = r#"{"message_type": "agent_error", "error": [1], "invocation_id": "x"}"#;
    mistyped(&answer(wrong, TWO));
    assert_eq!(answer(wrong, ONE).unwrap().body, wrong);
}

#[test]
fn a_log_line_is_passed_on_without_what_the_backend_refuses() {
    let text = r#"{"message_type": "agent_log", "log_message": "m", "invoked_by": "b", "agent_uuid": "x",
        "request_id": "r", "session_id": 5}"#;
    let Ok(Inbound::Log(log)) = read(text, ONE) else { panic!() };
    assert_eq!(log.body, "{\"log_message\": \"m\",\n        \"request_id\": \"r\", \"session_id\": 5}");
    assert_eq!((log.request_id.as_deref(), log.session_id), (Some("r"), None));
}

#[test]
fn a_cancel_names_an_invocation() {
    let cancel = |fields: &str| read(&format!(r#"{{"message_type": "agent_cancel"{fields}}}"#), ONE);
    assert_eq!(
        cancel(&format!(r#", "invocation_id": "{ID}", "request_metadata": {{"a": 1}}"#)),
        Ok(Inbound::Cancel(Cancel { invocation_id: id(), metadata: Some(Bytes::from_static(br#"{"a": 1}"#)) }))
    );
    for fields in ["", r#", "invocation_id": null"#, r#", "invocation_id": 5"#, r#", "invocation_id": "x""#] {
        mistyped(&cancel(fields));
    }
}

#[test]
fn frames_made_of_anything_never_panic() {
    const PARTS: [&str; 18] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"message_type\"",
        "\"agent_invoke\"",
        "\"agent_response\"",
        "\"agent_uuid\"",
        "\"request_payload\"",
        "\"a\"",
        "null",
        "1",
        "NaN",
        "\"\\ud800\"",
        "{}",
        "\"running\"",
    ];
    let mut rng = StdRng::seed_from_u64(2);
    for _ in 0..50_000 {
        let mut text = "{\"message_type\":\"agent_invoke\"".to_owned();
        text.extend((0..rng.random_range(0..12)).map(|_| PARTS[rng.random_range(0..PARTS.len())]));
        let _ = read(&text, TWO);
        let _ = read(&(text + "}"), SECURED);
    }
}
