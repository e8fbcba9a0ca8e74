//! What must be true of the codec for every frame there is: for the fuzzer, which looks for one that breaks it, and for the
//! test that replays what it has found.
//!
//! The judge is another reader, `serde_json`, on the strict form of a text; it shares no code with this one.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::inbound::MAX_LABEL_BYTES;
use super::json::Object;
use super::outbound::{self, Addition, Delivery};
use super::{BadFrame, Dialect, Inbound, Version, parse, to_strict};
use crate::id::InvocationId;

const ID: InvocationId = InvocationId(Uuid::from_u128(0x0198_c5b2_7a4e_7c3d_8f10_2b6a_9d4e_5f01));
const NAME: &str = "a \"name\"\n";

/// Room that every notice of a log line has: four known fields at their longest, and what is put around them.
const NOTICE_BYTES: usize = 3400;

/// Reads a frame in every dialect, and makes every frame that may be made of it.
///
/// # Panics
/// If one is not as it has to be.
pub fn frame(bytes: &[u8]) {
    let text = Bytes::copy_from_slice(bytes);
    for version in [Version::One, Version::Two] {
        for secured in [false, true] {
            match parse(&text, Dialect { version, secured }) {
                Ok(inbound) => understood(&text, version, &inbound),
                Err(bad) => not_understood(bytes, bad),
            }
        }
    }
}

/// One error for it, which says no more than it may; and what other readers take for JSON is never said to be none.
fn not_understood(frame: &[u8], bad: BadFrame) {
    let error = outbound::frame_error(&bad, frame);
    assert!(members(&error).iter().any(|(name, _)| name == "error"));
    // Each byte that is quoted may become a `\u00xx`.
    assert!(error.len() < 6 * 4096 + 200, "an error of {} bytes", error.len());
    assert!(bad != BadFrame::NotJson || serde_json::from_slice::<IgnoredAny>(frame).is_err(), "it is JSON");
}

fn understood(text: &Bytes, version: Version, inbound: &Inbound) {
    let sent = members(text);
    match inbound {
        Inbound::Register(register) => {
            assert_eq!(last(&sent, "request_payload"), Some(strict(&register.payload)));
            assert!(register.max_in_flight != Some(0) && register.running.len() <= 10_000);
            is_a_label(register.agent_name.as_deref());
            let notice = outbound::registered_notice(&register.payload, NAME, None);
            let added = [("agent_uuid", quoted(NAME)), ("agent_jwt", "null".into()), said("agent_register")];
            let replaced = ["agent_uuid", "agent_jwt", "message_type"];
            assert_eq!(
                within(&notice, "request_payload"),
                changed(&members(&register.payload), &replaced, &[], &added)
            );
        }
        Inbound::Invoke(invoke) => {
            let cut =
                ["message_type", "agent_uuid", "ttl_ms", "deadline_ms", "max_attempts", "receipt", "idempotency_key"];
            assert_eq!(members(&invoke.body), without(&sent, &cut));
            assert_eq!(invoke.payload.as_deref().map(strict), last(&sent, "request_payload"));
            assert_eq!(invoke.metadata.as_deref().map(strict), last(&sent, "request_metadata"));
            is_a_label(invoke.request_id.as_deref());
            is_a_label(invoke.session_id.as_deref());
            assert!(invoke.options.max_attempts != Some(0));
            delivered(&invoke.body);
            if let Some(payload) = invoke.payload.as_deref().filter(|_| invoke.dismissal) {
                let added = [said("agent_error")];
                let dismissed = changed(&members(payload), &["message_type"], &[], &added);
                assert_eq!(within(&outbound::dismissal(payload), "error"), dismissed);
            }
            receipted(invoke.metadata.as_deref());
        }
        Inbound::Answer(answer) => {
            let cut = ["invoked_by", "agent_uuid", "invocation_id"];
            let cut = &cut[..if version == Version::Two { 3 } else { 2 }];
            assert_eq!(members(&answer.body), without(&sent, cut));
            assert!(version == Version::Two || answer.invocation_id.is_none());
            assert_eq!(outbound::answer(&answer.body, None), answer.body);
            let told = outbound::answer(&answer.body, Some(ID));
            let added = [("invocation_id", quoted(&ID.to_string()))];
            assert_eq!(members(&told), changed(&members(&answer.body), &["invocation_id"], &[], &added));
            is_passed_on(&told);
        }
        Inbound::Log(log) => {
            assert_eq!(members(&log.body), without(&sent, &["message_type", "agent_uuid", "invoked_by"]));
            is_a_label(log.request_id.as_deref());
            is_a_label(log.session_id.as_deref());
            let whole = outbound::log_notice(&log.body, NAME, usize::MAX);
            let added = [said("agent_log"), ("agent_uuid", quoted(NAME))];
            let expected = changed(&members(&log.body), &["message_type", "agent_uuid"], &added, &[]);
            assert_eq!(within(&whole, "request_payload"), expected);
            for most in [NOTICE_BYTES, whole.len().saturating_sub(1), whole.len() / 2] {
                let cut = outbound::log_notice(&log.body, NAME, most);
                assert!(cut.len() <= most.max(NOTICE_BYTES), "{} of {most} bytes", cut.len());
                assert_eq!(within(&cut, "request_payload")[..2], expected[..2]);
            }
        }
        Inbound::Cancel(cancel) => {
            assert_eq!(cancel.metadata.as_deref().map(strict), last(&sent, "request_metadata"));
            receipted(cancel.metadata.as_deref());
        }
        Inbound::Unregister => assert_eq!(version, Version::Two),
    }
}

/// The body on its way to an agent: the same members, in their order, but for those that are the router's.
fn delivered(body: &[u8]) {
    let plain = Delivery { invoked_by: NAME, addition: None };
    let frame = plain.encode(body);
    assert_eq!(frame.len(), plain.encoded_len(body));
    assert_eq!(members(&frame), changed(&members(body), &["invoked_by"], &[], &[("invoked_by", quoted(NAME))]));
    is_passed_on(&frame);

    let addition = Addition { invocation_id: ID, attempt: 2, deadline_ms: 900_000, redelivered: true };
    let second = Delivery { invoked_by: NAME, addition: Some(addition) };
    let frame = second.encode(body);
    assert_eq!(frame.len(), second.encoded_len(body));
    let replaced = ["message_type", "invoked_by", "invocation_id", "attempt", "deadline_ms", "redelivered"];
    let added = [
        ("invoked_by", quoted(NAME)),
        ("invocation_id", quoted(&ID.to_string())),
        ("attempt", "2".into()),
        ("deadline_ms", "900000".into()),
        ("redelivered", "true".into()),
    ];
    assert_eq!(members(&frame), changed(&members(body), &replaced, &[said("agent_invoke")], &added));
    is_passed_on(&frame);
}

/// The caller's own words come back with its receipt.
fn receipted(metadata: Option<&[u8]>) {
    let receipt = outbound::caller_receipt(ID, "queued", metadata);
    let expected = metadata.map_or_else(|| "null".to_owned(), strict);
    assert_eq!(last(&members(&receipt), "request_metadata"), Some(expected));
}

fn is_passed_on(frame: &[u8]) {
    assert!(Object::parse(frame).is_ok(), "a frame to a peer that this router would not read");
}

fn is_a_label(label: Option<&str>) {
    assert!(label.is_none_or(|label| label.len() <= MAX_LABEL_BYTES && !label.contains('\0')));
}

type Member = (String, String);

/// An object's members as others read them: each name, and the strict text of its value, in order, the double ones too.
fn members(text: &[u8]) -> Vec<Member> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<Member>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Member>, A::Error> {
            let mut members = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                members.push((name, value.get().to_owned()));
            }
            Ok(members)
        }
    }

    let strict = to_strict(text);
    let mut reader = serde_json::Deserializer::from_slice(&strict);
    let members = reader.deserialize_map(Members).and_then(|members| reader.end().map(|()| members));
    members.unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(text)))
}

/// The members of the object that is the only member of this one.
fn within(text: &[u8], name: &str) -> Vec<Member> {
    match &members(text)[..] {
        [(only, value)] if only == name => members(value.as_bytes()),
        other => panic!("{name} is not the only member of {other:?}"),
    }
}

fn last(members: &[Member], name: &str) -> Option<String> {
    members.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.clone())
}

fn without(members: &[Member], cut: &[&str]) -> Vec<Member> {
    members.iter().filter(|(name, _)| !cut.contains(&&**name)).cloned().collect()
}

fn changed(
    members: &[Member],
    cut: &[&str],
    before: &[(&'static str, String)],
    behind: &[(&'static str, String)],
) -> Vec<Member> {
    let put = |added: &[(&'static str, String)]| -> Vec<Member> {
        added.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    [put(before), without(members, cut), put(behind)].concat()
}

fn strict(text: &[u8]) -> String {
    String::from_utf8_lossy(&to_strict(text)).into_owned()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn said(message_type: &str) -> (&'static str, String) {
    ("message_type", quoted(message_type))
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn every_frame_that_the_fuzzer_has_kept() {
        let replayed = crate::protocol::corpus::replay("frame", frame);
        assert!(replayed.len() >= 50, "{} frames", replayed.len());
        let kinds = ["agent_register", "agent_invoke", "agent_response", "agent_error", "agent_log", "agent_cancel"];
        for kind in kinds {
            let is_understood = |input: &Vec<u8>| {
                let frame = Bytes::from(input.clone());
                let said =
                    Object::parse(&frame).ok().and_then(|frame| Some(frame.get("message_type")?.as_text()? == kind));
                said == Some(true) && parse(&frame, Dialect { version: Version::Two, secured: false }).is_ok()
            };
            assert!(replayed.iter().any(is_understood), "no {kind} is among them");
        }
    }

    #[test]
    fn the_judge_sees_what_is_lost_or_changed() {
        let whole = members(br#"{"a": 1, "b": [NaN], "a": "\ud800"}"#);
        assert_eq!(whole.len(), 3);
        assert_ne!(whole, members(br#"{"a": 1, "b": [NaN]}"#));
        assert_ne!(whole, members(br#"{"a": 1, "b": [Infinity], "a": "\ud800"}"#));
        for broken in ["{\"a\": 1,}", "{\"a\" 1}", "{} {}", "[]"] {
            assert!(catch_unwind(|| members(broken.as_bytes())).is_err(), "{broken}");
        }
        assert!(catch_unwind(|| not_understood(b"{}", BadFrame::NotJson)).is_err());
    }
}
