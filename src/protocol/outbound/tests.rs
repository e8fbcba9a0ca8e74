use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::code::ErrorCode;
use crate::id::{InvocationId, SessionId};
use crate::protocol::inbound::BadFrame;

const ID: &str = "0198c5b2-7a4e-7c3d-8f10-2b6a9d4e5f01";

fn id() -> InvocationId {
    InvocationId(ID.parse().unwrap())
}

#[track_caller]
fn says(frame: &Bytes, expected: &Value) {
    assert_eq!(serde_json::from_slice::<Value>(frame).unwrap(), *expected);
}

#[test]
fn a_delivery_is_the_callers_frame_with_invoked_by() {
    let delivery = Delivery { invoked_by: "caller:\"a\"", addition: None };
    let body = br#"{"request_payload": {"x": NaN, "y":"\ud800"} , "invoked_by": "forged", "message_type": 1}"#;
    assert_eq!(
        delivery.encode(body),
        r#"{"request_payload": {"x": NaN, "y":"\ud800"}, "message_type": 1,"invoked_by":"caller:\"a\""}"#
    );
    assert_eq!(delivery.encode(b"{}"), r#"{"invoked_by":"caller:\"a\""}"#);
    assert_eq!(client_message(b"{}", "#1"), r##"{"invoked_by":"#1"}"##);
}

#[test]
fn an_agent_of_version_2_is_told_more() {
    let mut addition = Addition { invocation_id: id(), attempt: 2, deadline_ms: 900_000, redelivered: true };
    let body = br#"{"attempt": "x", "request_payload": {"q": 1}, "message_type": "y", "redelivered": true}"#;
    let expected = json!({
        "message_type": "agent_invoke", "request_payload": {"q": 1}, "invoked_by": "b", "invocation_id": ID,
        "attempt": 2, "deadline_ms": 900_000, "redelivered": true
    });
    let frame = Delivery { invoked_by: "b", addition: Some(addition) }.encode(body);
    says(&frame, &expected);
    assert!(frame.starts_with(br#"{"message_type":"agent_invoke","#));

    addition.redelivered = false;
    let frame = Delivery { invoked_by: "b", addition: Some(addition) }.encode(body);
    assert_eq!(serde_json::from_slice::<Value>(&frame).unwrap().get("redelivered"), None);
}

#[test]
fn a_deliverys_length_is_known_before() {
    let addition = Addition { invocation_id: id(), attempt: 1, deadline_ms: 5, redelivered: true };
    for body in
        ["{}", r#"{"a": 1}"#, r#" { "invoked_by": 1, "a": "é" } "#, r#"{"attempt":1,"message_type":2}"#, "erased"]
    {
        for addition in [None, Some(addition)] {
            let delivery = Delivery { invoked_by: "b\n", addition };
            assert_eq!(delivery.encode(body.as_bytes()).len(), delivery.encoded_len(body.as_bytes()), "{body}");
        }
    }
}

#[test]
fn an_answer_is_passed_on_as_it_is_or_with_its_invocation() {
    let body = Bytes::from_static(br#"{"message_type": "agent_response", "response": NaN, "invocation_id": 5}"#);
    assert_eq!(answer(&body, None).as_ptr(), body.as_ptr());
    assert_eq!(
        answer(&body, Some(id())),
        format!(r#"{{"message_type": "agent_response", "response": NaN,"invocation_id":"{ID}"}}"#)
    );
}

#[test]
fn every_invocation_error_is_the_frame_that_clients_know() {
    let general = |text: &str| json!({"error_message": text, "error_type": "AgentGeneralError"});
    for code in ErrorCode::ALL {
        let error = match code {
            ErrorCode::AgentUnknown | ErrorCode::AgentAway | ErrorCode::Expired | ErrorCode::NotAllowed => {
                json!({"error_message": "Agent is NOT active", "error_type": "AgentNotActive"})
            }
            ErrorCode::AgentLost => {
                json!({"error_message": "Agent has been unregistered", "agent_uuid": "a"})
            }
            ErrorCode::TimedOut => general("Request timed out"),
            ErrorCode::Cancelled => general("Cancelled"),
            ErrorCode::QueueFull => general("Queue is full"),
            ErrorCode::IdempotencyKeyReused => general("Idempotency key was used for another request"),
            ErrorCode::FrameTooLarge => general("Frame is too large"),
            ErrorCode::RateLimited => general("Too many requests"),
            ErrorCode::JournalUnavailable => general("Journal is unavailable"),
            ErrorCode::ShuttingDown => general("Router is shutting down"),
            ErrorCode::Malformed => general("Request is malformed"),
        };
        let frame = invocation_error(code, "a", None);
        says(&frame, &json!({"message_type": "agent_error", "error": error}));
        assert!(frame.starts_with(br#"{"message_type""#));
    }
}

#[test]
fn a_caller_that_sees_additions_is_told_the_finer_cause() {
    let addition = ErrorAddition { invocation_id: Some(id()), ..ErrorAddition::default() };
    says(
        &invocation_error(ErrorCode::AgentLost, "a", Some(addition)),
        &json!({
            "message_type": "agent_error", "invocation_id": ID,
            "error": {"error_message": "Agent has been unregistered", "agent_uuid": "a", "code": "agent_lost"}
        }),
    );
    let addition = ErrorAddition { invocation_id: None, queued: Some(1000), retry_after_ms: Some(250) };
    says(
        &invocation_error(ErrorCode::QueueFull, "a", Some(addition)),
        &json!({
            "message_type": "agent_error",
            "error": {
                "error_message": "Queue is full", "error_type": "AgentGeneralError", "code": "queue_full",
                "queued": 1000, "retry_after_ms": 250
            }
        }),
    );
}

#[test]
fn every_bad_frame_gets_the_error_that_clients_know() {
    let bare = |text: &str, error_type: &str| json!({"error": {"error_message": text, "error_type": error_type}});
    says(&frame_error(&BadFrame::NotJson, b"{"), &bare("Invalid JSON format", "InvalidJSONRequestFormat"));
    says(&frame_error(&BadFrame::NoPayload, b"{}"), &bare("Missing request payload or agent UUID", "NoRequestPayload"));
    let unexpected = BadFrame::Unexpected { reason: "why" };
    says(
        &frame_error(&unexpected, "{\"a\": \"é\n\\\"}".as_bytes()),
        &bare("Unexpected exception: {\"a\": \"é\n\\\"}", "AgentGeneralError"),
    );
    says(&frame_error(&unexpected, b"\xffa"), &bare("Unexpected exception: \u{fffd}a", "AgentGeneralError"));
    says(&frame_too_large_error(), &bare("Frame is too large", "AgentGeneralError"));
    let agent_uuid = json!({
        "message_type": "agent_error", "error": {"error_message": "Invalid agent UUID", "error_type": "AgentUUIDError"}
    });
    says(&frame_error(&BadFrame::AgentUuid, b"{}"), &agent_uuid);
    says(&agent_uuid_error(), &agent_uuid);
}

#[test]
fn a_long_bad_frame_is_sent_back_up_to_4_kib_of_whole_characters() {
    for (character, shift) in [("x", 0), ("é", 0), ("é", 1), ("€", 0), ("😀", 0), ("😀", 1), ("😀", 2), ("😀", 3)]
    {
        let frame = "y".repeat(shift) + &character.repeat(5000);
        let error: Value =
            serde_json::from_slice(&frame_error(&BadFrame::Unexpected { reason: "" }, frame.as_bytes())).unwrap();
        let quoted = error["error"]["error_message"].as_str().unwrap().strip_prefix("Unexpected exception: ").unwrap();
        assert!(frame.starts_with(quoted));
        assert_eq!(quoted.len(), frame.floor_char_boundary(4096));
    }
    assert!(frame_error(&BadFrame::Unexpected { reason: "" }, &[0x80; 9000]).len() < 20_000);
}

#[test]
fn the_backend_is_told_who_comes_and_goes() {
    let payload = br#"{"agent_name": "n", "agent_uuid": "forged", "message_type": 1, "x": "\ud83d\ude00"}"#;
    says(
        &registered_notice(payload, "a", Some("a.b.c")),
        &json!({"request_payload": {
            "agent_name": "n", "x": "😀", "agent_uuid": "a", "agent_jwt": "a.b.c", "message_type": "agent_register"
        }}),
    );
    says(
        &registered_notice(b"{}", "a", None),
        &json!({"request_payload": {"agent_uuid": "a", "agent_jwt": null, "message_type": "agent_register"}}),
    );
    says(
        &unregistered_notice("a"),
        &json!({"request_payload": {"agent_uuid": "a", "message_type": "agent_unregister"}}),
    );
}

#[test]
fn a_dismissed_agent_is_told_so_in_the_backends_words() {
    says(
        &dismissal(br#"{"error_message": "go", "error_type": "AgentUUIDError"}"#),
        &json!({"error": {"error_message": "go", "error_type": "AgentUUIDError", "message_type": "agent_error"}}),
    );
}

#[test]
fn a_log_line_is_passed_on_in_the_senders_name() {
    let body = br#"{"log_message": "m", "log_level": "info", "other": 1}"#;
    let expected = json!({"request_payload": {
        "message_type": "agent_log", "agent_uuid": "a", "log_message": "m", "log_level": "info", "other": 1
    }});
    let notice = log_notice(body, "a", 1 << 20);
    says(&notice, &expected);
    assert_eq!(log_notice(body, "a", notice.len()), notice);
}

#[test]
fn a_log_line_that_is_too_long_is_cut_with_a_mark() {
    for unit in ["x", "é", "😀", r"\n", r"\u00e9", r"\ud83d\ude00", r#"\""#] {
        let message = unit.repeat(5000);
        let body = format!(r#"{{"log_message": "{message}", "log_level": "info", "other": NaN}}"#);
        for max_len in 300..330 {
            let notice = log_notice(body.as_bytes(), "a", max_len);
            assert!(notice.len() <= max_len && notice.len() > max_len - 12, "{unit}");
            let line: Value = serde_json::from_slice(&crate::protocol::to_strict(&notice)).unwrap();
            let line = &line["request_payload"];
            assert_eq!((&line["log_level"], &line["other"]), (&json!("info"), &json!("NaN")));
            let mark = format!(" … [cut by the router, {} bytes in all]", message.len());
            let kept = line["log_message"].as_str().unwrap().strip_suffix(&mark).unwrap();
            let whole: String = serde_json::from_str(&format!("\"{message}\"")).unwrap();
            assert!(!kept.is_empty() && whole.starts_with(kept));
        }
    }
}

#[test]
fn a_log_line_that_is_long_elsewhere_is_reduced_to_what_the_backend_knows() {
    let long = "x".repeat(5000);
    for body in [
        format!(r#"{{"log_message": "m", "log_level": "info", "request_id": "r", "other": "{long}"}}"#),
        format!(r#"{{"log_message": ["{long}"], "log_level": "info", "request_id": "r"}}"#),
        format!(r#"{{"log_message": "m", "log_level": "info", "request_id": "r", "session_id": "{long}"}}"#),
    ] {
        let notice = log_notice(body.as_bytes(), "a", 1000);
        says(
            &notice,
            &json!({"request_payload": {
                "message_type": "agent_log", "agent_uuid": "a", "log_level": "info", "request_id": "r",
                "log_message": format!("… [cut by the router, {} bytes in all]", body.len())
            }}),
        );
    }
}

#[test]
fn receipts_and_frames_of_version_2() {
    let session = SessionId(ID.parse().unwrap());
    says(
        &agent_registered(session, &[id(), id()], 20_000),
        &json!({"message_type": "agent_registered", "session_id": ID, "adopted": [ID, ID], "ping_interval_ms": 20_000}),
    );
    says(
        &caller_receipt(id(), "queued", Some(br#"{"request_id": "r"}"#)),
        &json!({
            "message_type": "agent_receipt", "invocation_id": ID, "state": "queued",
            "request_metadata": {"request_id": "r"}
        }),
    );
    says(
        &caller_receipt(id(), "delivered", None),
        &json!({"message_type": "agent_receipt", "invocation_id": ID, "state": "delivered", "request_metadata": null}),
    );
    says(
        &agent_receipt(ID, "accepted"),
        &json!({"message_type": "agent_receipt", "invocation_id": ID, "outcome": "accepted"}),
    );
    says(&agent_cancel(id()), &json!({"message_type": "agent_cancel", "invocation_id": ID}));
}
