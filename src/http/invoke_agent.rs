//! `POST /invoke-agent`: the original's way to send a message to a client over HTTP, with the original's answers.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::Context;
use super::access::{Master, Peer, origin_is_allowed};
use super::problem::{Problem, add_advice};
use crate::code::ErrorCode;
use crate::id::Identity;
use crate::protocol::json::{Object, ParseError};
use crate::router::Declined;

/// Who asks, in development mode, when a request shows no key.
const ANONYMOUS: &str = "anonymous";

/// Hands the message over. When this answers, the journal has it, and whether the client was there to get it.
pub(super) async fn send(
    State(context): State<Context>,
    peer: Peer,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    if !origin_is_allowed(&headers, &context.settings.allowed_origins) {
        context.journal_refusal(peer, "origin not allowed").await;
        return Err(Problem::forbidden("web pages from this origin may not do this; see ALLOWED_ORIGINS").into());
    }
    let authenticator = &context.settings.authenticator;
    let caller = if authenticator.is_secured() {
        Master::of(&context, peer, &headers).await?.0
    } else {
        authenticator.master(&headers).unwrap_or_else(|_| Identity::new(ANONYMOUS).expect("the name is a valid one"))
    };
    let body = body.map_err(|rejection| Problem::with_status(rejection.status(), rejection.body_text()))?;
    let Request { client, message } = Request::read(&body).map_err(Refusal::Malformed)?;
    let detail = format!("Message sent to client {client}");
    let client = context.settings.authenticator.canonical(client);
    match context.router.client_message(caller, client, message).await {
        // The original does not tell whether the client was there.
        Ok(()) | Err(Declined::Refused(ErrorCode::AgentUnknown | ErrorCode::AgentAway | ErrorCode::NotAllowed)) => {
            Ok(Json(json!({ "detail": detail })).into_response())
        }
        Err(Declined::Refused(code)) => Err(Problem::from(code).into()),
        Err(Declined::Unknown) => Err(Problem::with_status(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the router had to stop before it knew whether the journal has the message: look in the history first",
        )
        .into()),
    }
}

/// What a request asks for.
#[derive(Debug)]
struct Request {
    client: Identity,
    /// The text of an object, as it came.
    message: Bytes,
}

/// One thing that is wrong with a body, in the words of the original's framework, as its callers may look at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    loc: &'static [&'static str],
    msg: &'static str,
    r#type: &'static str,
}

impl Request {
    fn read(body: &Bytes) -> Result<Self, Vec<Fault>> {
        let object = Object::parse(body).map_err(|error| vec![Fault::of_the_body(error)])?;
        match (client(&object), message(&object)) {
            (Ok(client), Ok(message)) => Ok(Self { client, message: body.slice_ref(message) }),
            (client, message) => Err(client.err().into_iter().chain(message.err()).collect()),
        }
    }
}

fn client(body: &Object<'_>) -> Result<Identity, Fault> {
    const LOC: &[&str] = &["body", "client_id"];
    let value = body.get("client_id").ok_or(Fault::missing(LOC))?;
    let text =
        value.as_text().ok_or(Fault { loc: LOC, msg: "Input should be a valid string", r#type: "string_type" })?;
    Identity::new(&text).map_err(|_| Fault { loc: LOC, msg: "Value error, not a possible id", r#type: "value_error" })
}

fn message<'a>(body: &Object<'a>) -> Result<&'a [u8], Fault> {
    const LOC: &[&str] = &["body", "message"];
    let value = body.get("message").ok_or(Fault::missing(LOC))?;
    if value.is_object() {
        Ok(value.bytes())
    } else {
        Err(Fault { loc: LOC, msg: "Input should be a valid dictionary", r#type: "dict_type" })
    }
}

impl Fault {
    fn missing(loc: &'static [&'static str]) -> Self {
        Self { loc, msg: "Field required", r#type: "missing" }
    }

    fn of_the_body(error: ParseError) -> Self {
        let (msg, r#type) = match error {
            ParseError::NotAnObject => ("Input should be a valid dictionary", "dict_type"),
            _ => ("JSON decode error", "json_invalid"),
        };
        Self { loc: &["body"], msg, r#type }
    }
}

/// A refusal as the original's framework words it: all of it is in `detail`.
pub(super) enum Refusal {
    /// The body makes no sense.
    Malformed(Vec<Fault>),
    /// Anything else.
    Problem(Problem),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Malformed(faults) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": faults }))).into_response()
            }
            Self::Problem(problem) => {
                let body = Json(json!({ "detail": problem.detail() }));
                let mut response = (problem.status(), body).into_response();
                add_advice(&mut response);
                response
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn faults(body: &str) -> Vec<(String, &'static str)> {
        let faults = Request::read(&Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
        faults.into_iter().map(|fault| (fault.loc.join("."), fault.r#type)).collect()
    }

    #[test]
    fn the_message_is_the_bytes_that_came() {
        let body =
            Bytes::from_static(br#" {"message": {"n":  NaN, "s": "\udfff"}, "more": 1, "client_id": "a\u0062"} "#);
        let request = Request::read(&body).unwrap();
        assert_eq!(request.client.as_str(), "ab");
        assert_eq!(request.message, br#"{"n":  NaN, "s": "\udfff"}"#[..]);
    }

    #[test]
    fn every_fault_is_named_at_its_place() {
        let [client, message] = ["body.client_id", "body.message"].map(str::to_owned);
        assert_eq!(faults("{}"), [(client.clone(), "missing"), (message.clone(), "missing")]);
        assert_eq!(
            faults(r#"{"client_id": 7, "message": "text"}"#),
            [(client.clone(), "string_type"), (message.clone(), "dict_type")]
        );
        assert_eq!(faults(r#"{"client_id": "a", "message": null}"#), [(message, "dict_type")]);
        assert_eq!(faults(r#"{"client_id": "", "message": {}}"#), [(client.clone(), "value_error")]);
        assert_eq!(faults(r#"{"client_id": "\ud800", "message": {}}"#), [(client, "string_type")]);
    }

    #[test]
    fn a_body_that_is_no_object_is_one_fault() {
        for (body, r#type) in [("", "json_invalid"), ("{", "json_invalid"), ("[]", "dict_type"), ("null", "dict_type")]
        {
            assert_eq!(faults(body), [("body".to_owned(), r#type)], "{body}");
        }
    }
}
