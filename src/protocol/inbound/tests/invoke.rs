use super::*;

/// An `agent_invoke` with these fields besides an agent and a payload.
fn invoke_with(fields: &str) -> Result<Box<Invoke>, BadFrame> {
    let text =
        format!(r#"{{"message_type": "agent_invoke", "agent_uuid": "a", "request_payload": {{"q": 1}}{fields}}}"#);
    invoke(&text, ONE)
}

fn invoke(text: &str, dialect: Dialect) -> Result<Box<Invoke>, BadFrame> {
    read(text, dialect).map(|frame| match frame {
        Inbound::Invoke(invoke) => invoke,
        other => panic!("{other:?}"),
    })
}

#[test]
fn an_invocation_is_passed_on_as_the_bytes_that_came() {
    let text = r#"{"message_type": "agent_invoke", "agent_uuid": "a-1", "request_payload": {"x": [NaN, 1e999,
        123456789012345678901234567890, "\ud800"]}, "ttl_ms": 5, "extra" : -Infinity,
        "request_metadata": {"request_id": "r", "session_id": "s", "other": 1}}"#;
    let invoke = invoke(text, ONE).unwrap();
    assert_eq!(invoke.target, "a-1");
    assert_eq!(
        invoke.body,
        r#"{"request_payload": {"x": [NaN, 1e999,
        123456789012345678901234567890, "\ud800"]}, "extra" : -Infinity,
        "request_metadata": {"request_id": "r", "session_id": "s", "other": 1}}"#
    );
    assert!(invoke.payload.unwrap().starts_with(br#"{"x": [NaN"#));
    assert_eq!(invoke.metadata.unwrap(), r#"{"request_id": "r", "session_id": "s", "other": 1}"#);
    assert_eq!((invoke.request_id.as_deref(), invoke.session_id.as_deref()), (Some("r"), Some("s")));
    assert!(!invoke.dismissal);
}

#[test]
fn an_invocation_needs_a_payload_or_an_agent() {
    for fields in [
        "",
        r#", "request_payload": {}"#,
        r#", "request_payload": { }, "agent_uuid": """#,
        r#", "request_payload": null, "agent_uuid": null"#,
        r#", "request_payload": 0.0, "agent_uuid": false"#,
        r#", "request_payload": [], "agent_uuid": {}"#,
        r#", "request_payload": "", "agent_uuid": -0"#,
    ] {
        let text = format!(r#"{{"message_type": "agent_invoke"{fields}}}"#);
        assert_eq!(read(&text, ONE), Err(BadFrame::NoPayload), "{fields}");
        assert_eq!(read(&text, SECURED), Err(BadFrame::NoPayload), "{fields}");
    }
    let bare = invoke(r#"{"message_type": "agent_invoke", "agent_uuid": "a"}"#, ONE).unwrap();
    assert_eq!((bare.payload, bare.metadata, bare.body), (None, None, Bytes::from_static(b"{}")));
}

#[test]
fn an_agent_is_named_by_a_string() {
    let to = |agent: &str, dialect| {
        invoke(
            &format!(r#"{{"message_type": "agent_invoke", "request_payload": {{"a": 1}}, "agent_uuid": {agent}}}"#),
            dialect,
        )
        .map(|invoke| invoke.target)
    };
    for agent in ["null", "5", "true", "[]", "{}", r#""\ud800""#] {
        assert_eq!(to(agent, ONE), Err(BadFrame::AgentUuid), "{agent}");
    }
    assert_eq!(
        invoke(r#"{"message_type": "agent_invoke", "request_payload": {"a": 1}}"#, ONE),
        Err(BadFrame::AgentUuid)
    );
    assert_eq!(invoke(r#"{"message_type": "agent_invoke", "agent_uuid": 5}"#, ONE), Err(BadFrame::AgentUuid));

    assert_eq!(to(r#""""#, ONE).as_deref(), Ok(""));
    assert_eq!(to(r#""any string""#, ONE).as_deref(), Ok("any string"));
    assert_eq!(to(r#""any string""#, SECURED), Err(BadFrame::AgentUuid));
    assert_eq!(to(r#""""#, SECURED), Err(BadFrame::AgentUuid));
    assert_eq!(to(r#""master_server_ml""#, SECURED).as_deref(), Ok("master_server_ml"));
    assert_eq!(to(&format!("{:?}", ID.to_uppercase()), SECURED).as_deref(), Ok(ID));
}

#[test]
fn what_would_break_an_agent_does_not_reach_it() {
    for value in ["null", "[]", "0", "\"\"", "[1]", "\"x\"", "1", "NaN"] {
        mistyped(&invoke(
            &format!(r#"{{"message_type": "agent_invoke", "agent_uuid": "a", "request_payload": {value}}}"#),
            ONE,
        ));
        mistyped(&invoke_with(&format!(r#", "request_metadata": {value}"#)));
    }
    mistyped(&invoke_with(r#", "error": {"error_message": "x"}"#));
    assert!(invoke_with(r#", "error": {}"#).is_ok());
    assert!(invoke_with(r#", "request_metadata": {}"#).is_ok());
}

#[test]
fn a_dismissal_has_an_error_message_in_its_payload() {
    let dismissal = |payload: &str| {
        invoke(&format!(r#"{{"message_type": "agent_invoke", "agent_uuid": "a", "request_payload": {payload}}}"#), ONE)
            .unwrap()
            .dismissal
    };
    assert!(dismissal(r#"{"error_message": null}"#));
    assert!(dismissal(r#"{"error\u005fmessage": "go"}"#));
    assert!(!dismissal(r#"{"nested": {"error_message": "go"}}"#));
}

#[test]
fn options_are_taken_out_and_read() {
    let plain = invoke_with("").unwrap();
    assert_eq!(plain.options, InvokeOptions::default());
    let all =
        r#", "ttl_ms": 0, "deadline_ms": 60000, "max_attempts": 3, "receipt": true, "idempotency_key": "k\u00e9""#;
    let invoke = invoke_with(all).unwrap();
    assert_eq!(
        invoke.options,
        InvokeOptions {
            ttl_ms: Some(0),
            deadline_ms: Some(60_000),
            max_attempts: Some(3),
            receipt: true,
            idempotency_key: Some("ké".to_owned()),
            used: true,
        }
    );
    assert_eq!(invoke.body, plain.body);
    assert!(invoke_with(r#", "receipt": false"#).unwrap().options.used);
    assert_eq!(invoke_with(r#", "ttl_ms": null"#).unwrap(), plain);
}

#[test]
fn mistyped_options_are_refused() {
    for name in ["ttl_ms", "deadline_ms", "max_attempts"] {
        for value in ["-1", "1.0", "1e3", "true", "\"5\"", "[]", "NaN", "99999999999999999999"] {
            mistyped(&invoke_with(&format!(r#", "{name}": {value}"#)));
        }
    }
    mistyped(&invoke_with(r#", "max_attempts": 0"#));
    for value in ["1", "0", "\"true\"", "{}"] {
        mistyped(&invoke_with(&format!(r#", "receipt": {value}"#)));
    }
    for value in ["5", r#""""#, r#""\ud800""#, r#""a\u0000""#, &format!("\"{}\"", "é".repeat(256))] {
        mistyped(&invoke_with(&format!(r#", "idempotency_key": {value}"#)));
    }
    assert!(invoke_with(&format!(r#", "idempotency_key": "{}""#, "é".repeat(255))).is_ok());
}

#[test]
fn request_and_session_ids_are_kept_as_far_as_they_can_be() {
    let request_id =
        |value: &str| invoke_with(&format!(r#", "request_metadata": {{"request_id": {value}}}"#)).unwrap().request_id;
    for value in ["null", "5", "{}", r#""\udc00""#] {
        assert_eq!(request_id(value), None, "{value}");
    }
    assert_eq!(request_id(r#""a\u0000b""#).as_deref(), Some("a\u{fffd}b"));
    assert_eq!(request_id(r#""""#).as_deref(), Some(""));
    assert_eq!(request_id(&format!("\"x{}\"", "é".repeat(200))), Some(format!("x{}", "é".repeat(127))));
    assert_eq!(request_id(&format!("\"{}\"", "é".repeat(200))), Some("é".repeat(127)));
}

#[test]
fn a_trace_context_is_told_apart_from_other_texts_and_is_no_option() {
    let of = |value: &str| {
        let invoke = invoke_with(&format!(r#", "traceparent": {value}"#)).unwrap();
        assert!(invoke.body.ends_with(format!(r#""traceparent": {value}}}"#).as_bytes()), "it is passed on");
        assert!(!invoke.options.used, "it asks for no additions");
        invoke.traceparent
    };
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(of(&format!("\"{context}\"")).as_deref(), Some(context));
    for other in [
        "null",
        "7",
        "\"\"",
        "\"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7\"",
        "\"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01\"",
        "\"00-00000000000000000000000000000000-00f067aa0ba902b7-01\"",
        "\"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01\"",
        "\"00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01\"",
        "\"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\"",
        "\"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\"",
        "\"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more\"",
    ] {
        assert_eq!(of(other), None, "{other}");
    }
}
