use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use utoipa::PartialSchema;
use uuid::Uuid;

use super::*;
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, Position};
use crate::invocation::StateName;
use crate::journal::{EventKind, EventRecord, InvocationRecord};
use crate::protocol::Redactor;

const AT: Timestamp = Timestamp::from_micros(1_767_323_045_000_006);

fn redactor() -> Redactor {
    Redactor::new(&["api_key".to_owned()])
}

fn record(state: StateName, answer: Option<&str>, code: Option<ErrorCode>) -> InvocationRecord {
    let body = br#"{"request_payload": {"n": NaN, "api_key": "sk-1"}, "request_metadata": {}}"#;
    InvocationRecord {
        id: InvocationId(Uuid::from_u128(1)),
        accepted: Position(1),
        agent: Identity::new("a").unwrap(),
        caller: Identity::backend(),
        state,
        attempt: 1,
        max_attempts: 2,
        request_id: Some("r".to_owned()),
        session_id: None,
        accepted_at: AT,
        delivered_at: Some(AT),
        finished_at: None,
        ttl_ms: 60_000,
        deadline: AT + Duration::from_millis(1_500),
        idempotency_key: None,
        body: Some(Bytes::from_static(body)),
        answer: answer.map(|answer| Bytes::copy_from_slice(answer.as_bytes())),
        code,
    }
}

fn shown(record: &InvocationRecord, redactor: Option<&Redactor>) -> Json {
    let shown = serde_json::to_value(Invocation::new(record, redactor)).unwrap();
    holds_to(&schema::<Invocation<'_>>(), &shown);
    shown
}

fn invocation(state: StateName, answer: Option<&str>, code: Option<ErrorCode>) -> Json {
    shown(&record(state, answer, code), None)
}

fn event(payload: Option<&str>) -> EventRecord {
    EventRecord {
        position: Position(7),
        at: AT,
        kind: EventKind::AgentLogged,
        node: "n".to_owned(),
        invocation: None,
        agent: Some(Identity::new("a").unwrap()),
        caller: None,
        detail: r#"{"request_id":"r"}"#.to_owned(),
        payload: payload.map(|payload| Bytes::copy_from_slice(payload.as_bytes())),
        payload_hash: payload.map(|_| [0xcd; 32]),
        salt: payload.map(|_| [0xef; 16]),
        hash: [0xab; 32],
    }
}

/// The text of an event's line and what it says, which must be what the schema says.
fn line(event: &EventRecord) -> (String, Json) {
    let line = String::from_utf8(event_line(event, &redactor())).unwrap();
    let json = serde_json::from_str(&line).unwrap();
    holds_to(&schema::<Event<'_>>(), &json);
    (line, json)
}

fn schema<T: PartialSchema>() -> Json {
    let mut schema = serde_json::to_value(T::schema()).unwrap();
    schema["components"]["schemas"]["InvocationError"] = serde_json::to_value(Failure::schema()).unwrap();
    schema["additionalProperties"] = false.into();
    schema
}

#[track_caller]
fn holds_to(schema: &Json, value: &Json) {
    if let Err(error) = jsonschema::validate(schema, value) {
        panic!("{error} in {value:#} by {schema:#}");
    }
}

#[test]
fn an_invocation_has_every_field_of_the_interface() {
    let expected = json!({
        "id": "00000000-0000-0000-0000-000000000001", "agent_id": "a", "caller": "master_server_be",
        "state": "delivered", "attempt": 1, "max_attempts": 2, "request_id": "r", "session_id": null,
        "accepted_at": "2026-01-02T03:04:05.000006Z", "delivered_at": "2026-01-02T03:04:05.000006Z",
        "finished_at": null, "ttl_ms": 60_000, "deadline_ms": 1_500, "idempotency_key": null,
        "payload": {"n": "NaN", "api_key": "sk-1"}, "result": null, "error": null,
    });
    assert_eq!(invocation(StateName::Delivered, None, None), expected);
    let mut required = schema::<Invocation<'_>>()["required"].as_array().unwrap().clone();
    required.sort_by_key(ToString::to_string);
    assert_eq!(required, expected.as_object().unwrap().keys().map(|name| json!(name)).collect::<Vec<_>>());
}

#[test]
fn a_result_is_the_response_or_the_fields_of_a_model() {
    let result = |answer: &str| invocation(StateName::Completed, Some(answer), None)["result"].clone();
    let common = r#""message_type": "agent_response", "execution_time": 0.1, "response_metadata": {}"#;
    assert_eq!(result(&format!(r#"{{"response": [1], {common}}}"#)), json!([1]));
    assert_eq!(result(&format!(r#"{{"response": null, {common}}}"#)), Json::Null);
    assert_eq!(result(&format!(r#"{{"name": "x", {common}, "age": 1}}"#)), json!({"name": "x", "age": 1}));
}

#[test]
fn an_error_is_the_agents_own_or_the_routers() {
    let error = |answer: &str| invocation(StateName::Failed, Some(answer), None)["error"].clone();
    let of_the_agent = |message: &str| json!({"code": "agent_error", "message": message});
    assert_eq!(error(r#"{"error": {"error_message": "no\u0021"}}"#), of_the_agent("no!"));
    assert_eq!(error(r#"{"error": {"error_message": [NaN]}}"#), of_the_agent(r#"["NaN"]"#));
    assert_eq!(error(r#"{"error": "plain"}"#), of_the_agent("plain"));
    assert_eq!(error("{}"), of_the_agent("the agent did not say"));

    let lost = invocation(StateName::Failed, None, Some(ErrorCode::AgentLost));
    assert_eq!(lost["error"], json!({"code": "agent_lost", "message": "Agent has been unregistered"}));
    let cancelled = invocation(StateName::Cancelled, None, None);
    assert_eq!(cancelled["error"], json!({"code": "cancelled", "message": "Cancelled"}));
}

#[test]
fn secrets_of_an_invocation_are_hidden_from_all_but_its_master() {
    let answer = r#"{"response": {"Api-Key": ["sk-2"], "text": "{\"api_key\": \"sk-3\"}"}}"#;
    let record = record(StateName::Completed, Some(answer), None);
    let hidden = shown(&record, Some(&redactor()));
    assert_eq!(hidden["payload"], json!({"n": "NaN", "api_key": "[redacted]"}));
    assert_eq!(hidden["result"], json!({"Api-Key": "[redacted]", "text": r#"{"api_key": "[redacted]"}"#}));
    let whole = serde_json::to_string(&Invocations::new(std::slice::from_ref(&record), None, None)).unwrap();
    assert!(["sk-1", "sk-2", "sk-3", r#""next":null"#].iter().all(|part| whole.contains(part)), "{whole}");

    let failed = self::record(StateName::Failed, Some(r#"{"error": {"error_message": "{\"api_key\": 1}"}}"#), None);
    assert_eq!(shown(&failed, Some(&redactor()))["error"]["message"], r#"{"api_key": "[redacted]"}"#);
}

#[test]
fn an_event_without_a_payload_says_so() {
    let expected = json!({
        "position": 7, "at": "2026-01-02T03:04:05.000006Z", "kind": "agent.logged", "node_id": "n",
        "invocation_id": null, "agent_id": "a", "caller": null, "detail": {"request_id": "r"}, "payload": null,
        "hash": "ab".repeat(32), "payload_hash": null, "salt": null,
    });
    assert_eq!(line(&event(None)).1, expected);
    let mut required = schema::<Event<'_>>()["required"].as_array().unwrap().clone();
    required.sort_by_key(ToString::to_string);
    assert_eq!(required, expected.as_object().unwrap().keys().map(|name| json!(name)).collect::<Vec<_>>());

    let events = [event(None)];
    let page = serde_json::to_value(Page::new(&events, &redactor(), "cursor".to_owned())).unwrap();
    assert_eq!(page, json!({"events": [expected], "next": "cursor"}));
}

#[test]
fn a_payload_that_is_shown_as_it_was_stored_can_be_checked() {
    for payload in [r#"{"b":  1.50, "a": "\u00e9 \n"}"#, "null", "[1e2]", r#""x""#] {
        let (line, event) = line(&event(Some(payload)));
        assert!(line.contains(&format!(r#""payload":{payload},"hash""#)), "{line}");
        assert_eq!([&event["payload_hash"], &event["salt"]], [&"cd".repeat(32), &"ef".repeat(16)]);
        assert!(event.get("redacted").is_none() && event.get("erased").is_none());
    }
}

#[test]
fn a_payload_that_is_shown_otherwise_cannot_and_says_so() {
    for (payload, expected) in [
        (r#"{"api_key":"sk-1"}"#, r#"{"api_key":"[redacted]"}"#),
        (r#"{"b":  NaN, "a": "\ud800"}"#, r#"{"b":  "NaN", "a": "\\ud800"}"#),
        ("{\"a\":\r\n1}", r#"{"a":  1}"#),
        (" [1] ", "[1]"),
        ("not\nJSON", r#""not\nJSON""#),
    ] {
        let (line, event) = line(&event(Some(payload)));
        assert!(line.contains(&format!(r#""payload":{expected},"hash""#)), "{line}");
        assert!(!line.contains(['\n', '\r']), "{line}");
        assert_eq!(event["payload_hash"], "cd".repeat(32));
        assert_eq!([&event["salt"], &event["redacted"]], [&Json::Null, &Json::Bool(true)]);
        assert!(event.get("erased").is_none());
    }
}

#[test]
fn an_erased_payload_is_told_apart_from_none() {
    let erased = EventRecord { payload: None, salt: None, ..event(Some("1")) };
    let (_, event) = line(&erased);
    assert_eq!([&event["payload"], &event["salt"]], [&Json::Null; 2]);
    assert_eq!([&event["payload_hash"], &event["erased"]], [&json!("cd".repeat(32)), &json!(true)]);
    assert!(event.get("redacted").is_none());
}

#[test]
fn a_row_of_a_table_has_the_fields_of_an_event() {
    let strange = EventRecord { node: "a \"node\",\r\nof two lines".to_owned(), ..event(Some("{\"api_key\":1}")) };
    let table = [csv_header(), csv_row(&event(Some(r#"{"a":"b,c"}"#)), &redactor()), csv_row(&strange, &redactor())];
    let text = String::from_utf8(table.concat()).unwrap();
    assert!(text.contains("\"{\"\"a\"\":\"\"b,c\"\"}\"") && text.ends_with(",true,\r\n"), "{text}");

    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let names: Vec<_> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let mut fields: Vec<_> = schema::<Event<'_>>()["properties"].as_object().unwrap().keys().cloned().collect();
    fields.sort_by_key(|field| names.iter().position(|name| name == field));
    assert_eq!(names, fields);
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let cell = |row: usize, name: &str| rows[row].get(names.iter().position(|known| known == name).unwrap()).unwrap();
    assert_eq!([cell(0, "position"), cell(0, "payload"), cell(0, "caller")], ["7", r#"{"a":"b,c"}"#, ""]);
    assert_eq!([cell(0, "salt"), cell(0, "redacted"), cell(0, "erased")], ["ef".repeat(16).as_str(), "", ""]);
    assert_eq!([cell(1, "node_id"), cell(1, "salt"), cell(1, "redacted")], [&strange.node, "", "true"]);
    assert_eq!(cell(1, "payload"), r#"{"api_key":"[redacted]"}"#);
}
