//! `POST /invoke-agent`: the original's way to send a message to a client over HTTP, with the original's answers.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::access::{Access, Kind, Peer, role};
use super::body::Body;
use super::problem::{Problem, add_advice};
use super::{Context, reply, values};
use crate::auth::Role;
use crate::code::ErrorCode;
use crate::id::Identity;
use crate::protocol::json::{Object, ParseError};
use crate::router::Declined;

/// Who asks, in development mode, when a request shows no key.
const ANONYMOUS: &str = "anonymous";

/// The description of the body, whose bytes are cut, and never decoded. It may have other fields.
pub(super) struct ClientMessage;

impl ToSchema for ClientMessage {
    fn name() -> Cow<'static, str> {
        "ClientMessage".into()
    }
}

impl PartialSchema for ClientMessage {
    fn schema() -> RefOr<Schema> {
        let message = ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("The frame, with `request_payload` as a rule; it gets an `invoked_by`."));
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("client_id", values::name().description(Some("Which client.")))
            .property("message", message)
            .required("client_id")
            .required("message")
            .into()
    }
}

/// That it was done.
#[derive(Serialize, ToSchema)]
pub(super) struct Sent {
    /// To whom.
    #[schema(examples("Message sent to client 5f0c1bd2-6f1c-4b8e-9d7e-0c8a3f1e2d4b"))]
    detail: String,
}

/// A refusal.
#[derive(Serialize, ToSchema)]
pub(super) struct LegacyError {
    /// What is wrong, for people.
    detail: String,
}

/// What is wrong with a body.
#[derive(Serialize, ToSchema)]
pub(super) struct LegacyFaults {
    detail: Vec<Fault>,
}

/// Send a message to a client
///
/// The original's request, with the original's answers. The message is one frame to a connected client, never queued;
/// what the client answers is read as an invocation. Needs a master's key, in development mode none. When this answers,
/// the journal has it, and whether the client was there.
#[utoipa::path(
    post, path = "/invoke-agent", tag = "original", operation_id = "invokeAgent",
    request_body(content = ClientMessage, content_type = "application/json"),
    responses(
        (status = 200, description = "The journal has it; the client may not have been there.", body = Sent),
        (status = 401, description = "There is no master's key, in secured mode.", body = LegacyError),
        (status = 403, description = "The key is no master's.", body = LegacyError),
        (status = 408, description = "The body did not come in time.", body = LegacyError),
        (status = 413, description = "The message is larger than `MAX_FRAME_BYTES`.", body = LegacyError),
        (status = 422, description = "The body makes no sense.", body = LegacyFaults),
        (status = 429, description = "The client takes no more, or the caller asks more often than it may; see `RATE_LIMIT`.", body = LegacyError),
        (status = 500, description = "The router had to stop before it knew whether the journal has it.", body = LegacyError),
        (status = 503, description = "The journal takes no commits, or the router takes nothing new.", body = LegacyError),
    ),
    security((), ("api-key" = []), ("bearer" = [])),
)]
pub(super) async fn send(
    State(context): State<Context>,
    peer: Peer,
    headers: HeaderMap,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let authenticator = &context.settings.authenticator;
    let caller = if authenticator.is_secured() {
        role(&context, peer, &headers, Access(&[Kind::Master])).await.map(master)?
    } else {
        authenticator.role(&headers).ok().and_then(master)
    };
    let caller = caller.unwrap_or_else(|| Identity::new(ANONYMOUS).expect("the name is a valid one"));
    // Not before: the bodies of those who may not would be held in memory.
    let Body(body) = Body::from_request(request, &()).await?;
    let Request { client, message } = Request::read(&body).map_err(Refusal::Malformed)?;
    if authenticator.finds_secret(client.as_str().as_bytes()) {
        return Err(Refusal::Malformed(vec![Fault::KEY_AS_ID]));
    }
    let detail = format!("Message sent to client {client}");
    let client = authenticator.canonical(client);
    match context.router.client_message(caller, client, message).await {
        // The original does not tell whether the client was there.
        Ok(()) | Err(Declined::Refused(ErrorCode::AgentUnknown | ErrorCode::AgentAway | ErrorCode::NotAllowed)) => {
            Ok(reply::json(&Sent { detail }))
        }
        Err(declined) => Err(Problem::from(declined).into()),
    }
}

fn master(role: Role) -> Option<Identity> {
    match role {
        Role::Master(master) => Some(master),
        Role::Auditor | Role::Operator => None,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Fault {
    /// Where it is.
    #[schema(value_type = Vec<String>)]
    loc: &'static [&'static str],
    /// What it is, for people.
    msg: &'static str,
    /// What it is, for programs.
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
    const LOC: &[&str] = Fault::CLIENT_ID;
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
    const CLIENT_ID: &[&str] = &["body", "client_id"];

    /// It would be journaled, and answered with.
    const KEY_AS_ID: Self = Self {
        loc: Self::CLIENT_ID,
        msg: "Value error, a key in place of an id: replace the key",
        r#type: "value_error",
    };

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
            Self::Malformed(detail) => {
                let mut response = reply::json(&LegacyFaults { detail });
                *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
                response
            }
            Self::Problem(problem) => {
                let mut response = reply::json(&LegacyError { detail: problem.detail().to_owned() });
                *response.status_mut() = problem.status();
                add_advice(&mut response, problem.retry_after());
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
