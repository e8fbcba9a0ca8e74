//! A refusal: `application/problem+json` (RFC 9457), with an error code of the protocol where it has one.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use crate::code::ErrorCode;
use crate::journal::JournalError;
use crate::router::Declined;

/// How a problem is labelled.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// When to try again, where nothing better is known.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The code of what is not there, or not for whoever asks.
const NOT_FOUND: &str = "not_found";
/// The code of what can be done to finished invocations alone.
const STILL_OPEN: &str = "still_open";

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// In whole seconds, where trying again later is the advice.
    retry_after: u64,
}

/// A problem as it is sent.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// Always `about:blank`: the code says more than a link would.
    #[schema(example = "about:blank")]
    r#type: &'static str,
    /// The status in words.
    #[schema(example = "Not Found")]
    title: &'a str,
    /// The status.
    #[schema(minimum = 400, maximum = 599, example = 404)]
    status: u16,
    /// What happened, to what, and what to do next, for people.
    #[schema(example = "there is no invocation 01a20425-9bff-74dd-b286-0f02b9075eb8")]
    detail: &'a str,
    /// The same for programs: a code of the protocol, `not_found` or `still_open`.
    #[schema(schema_with = codes)]
    code: &'static str,
}

fn codes() -> Object {
    let codes = ErrorCode::ALL.iter().map(|code| code.as_str()).chain([NOT_FOUND, STILL_OPEN]);
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes)).build()
}

impl Problem {
    /// 400: the request makes no sense.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::with_status(StatusCode::BAD_REQUEST, detail)
    }

    /// 401: nobody knows who asks.
    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorCode::NotAllowed.as_str(), detail)
    }

    /// 403: whoever asks may not.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorCode::NotAllowed.as_str(), detail)
    }

    /// 404: there is no such thing, or not for whoever asks.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, NOT_FOUND, detail)
    }

    /// 404: there is nothing at this address.
    pub(super) fn no_such_page() -> Self {
        Self::not_found("there is nothing at this address; /openapi.json lists what there is")
    }

    /// 405: the `Allow` header says which would be right.
    pub(super) fn method_not_allowed() -> Self {
        let detail = "this address is not for this method; the Allow header says which it is for";
        Self::with_status(StatusCode::METHOD_NOT_ALLOWED, detail)
    }

    /// 429: as many as may are at it.
    pub(super) fn too_many(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited.as_str(), detail)
    }

    /// 503: as many sockets are open as may be.
    pub(super) fn no_seat() -> Self {
        Self::unavailable(ErrorCode::RateLimited, "as many sockets are open as may; see MAX_CONNECTIONS")
    }

    /// 503: try again later.
    pub(super) fn unavailable(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code.as_str(), detail)
    }

    /// With the status that another part of the machinery chose, for a request that is wrong.
    pub(super) fn with_status(status: StatusCode, detail: impl Into<String>) -> Self {
        let code = match status {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::FrameTooLarge,
            _ => ErrorCode::Malformed,
        };
        Self::new(status, code.as_str(), detail)
    }

    /// 500: the router had to stop in the middle of a commit.
    pub(super) fn unknown_outcome() -> Self {
        let detail = "the router had to stop before it knew whether the journal has this: look in the history, or \
                      at the thing itself, before you try again";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::JournalUnavailable.as_str(), detail)
    }

    /// 503: the journal cannot be read. Why is for the log: it may name files.
    pub(super) fn unreadable(error: &JournalError) -> Self {
        tracing::error!(%error, "the journal cannot be read");
        Self::unavailable(ErrorCode::JournalUnavailable, "the journal cannot be read now: try again in a moment")
    }

    /// The same refusal with other words.
    pub(super) fn saying(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// When to try again, in seconds, if that is the advice.
    pub(super) fn retry_after(&self) -> u64 {
        self.retry_after
    }

    /// What is wrong, for people.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: RETRY_AFTER_SECONDS }
    }
}

/// What the router refused.
impl From<ErrorCode> for Problem {
    fn from(code: ErrorCode) -> Self {
        let (status, detail) = match code {
            ErrorCode::AgentUnknown => {
                (StatusCode::NOT_FOUND, "no agent of this id has ever registered: check the id, or start the agent")
            }
            ErrorCode::AgentAway => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the agent is not connected: try again later, or say with ttl_ms how long to wait for it",
            ),
            ErrorCode::Expired => {
                (StatusCode::GATEWAY_TIMEOUT, "it waited for its agent for its whole ttl: try again, or wait longer")
            }
            ErrorCode::TimedOut => {
                (StatusCode::GATEWAY_TIMEOUT, "no answer came by the deadline: give long work a longer one")
            }
            ErrorCode::AgentLost => (
                StatusCode::BAD_GATEWAY,
                "the agent was lost at work: look what was done, and allow more attempts if it can be repeated",
            ),
            ErrorCode::Cancelled => (StatusCode::CONFLICT, "its caller cancelled it"),
            ErrorCode::QueueFull => {
                (StatusCode::TOO_MANY_REQUESTS, "as many invocations wait as may: try again when some are done")
            }
            ErrorCode::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "the idempotency key belongs to an earlier request with another payload: use a new key",
            ),
            ErrorCode::NotAllowed => {
                (StatusCode::FORBIDDEN, "this caller may not do this: use the key of one that may")
            }
            ErrorCode::FrameTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "it is larger than MAX_FRAME_BYTES: send a reference to the contents")
            }
            ErrorCode::RateLimited => {
                (StatusCode::TOO_MANY_REQUESTS, "this caller asks more often than it may, see RATE_LIMIT: slow down")
            }
            ErrorCode::JournalUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the journal takes no commits now, so nothing was accepted: try again in a moment",
            ),
            ErrorCode::ShuttingDown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the router takes nothing new, as it is about to stop or is drained: try again in a moment",
            ),
            ErrorCode::Malformed => {
                (StatusCode::BAD_REQUEST, "max_attempts is more than MAX_ATTEMPTS_LIMIT: ask for fewer")
            }
        };
        Self::new(status, code.as_str(), detail)
    }
}

impl From<Declined> for Problem {
    fn from(declined: Declined) -> Self {
        match declined {
            Declined::Refused(code) => code.into(),
            Declined::RateLimited { retry_after } => Self {
                retry_after: retry_after.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX).max(1),
                ..ErrorCode::RateLimited.into()
            },
            Declined::NotFound => Self::not_found("there is no such thing"),
            Declined::StillOpen => Self::new(
                StatusCode::CONFLICT,
                STILL_OPEN,
                "the invocation is not finished: wait for its end, or have its caller cancel it",
            ),
            Declined::Unknown => Self::unknown_outcome(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        let mut response = (self.status, json!(body).to_string()).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        add_advice(&mut response, self.retry_after);
        response
    }
}

/// The headers that go with some statuses, whatever the body looks like.
pub(super) fn add_advice(response: &mut Response, retry_after: u64) {
    let advice = match response.status() {
        StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => (RETRY_AFTER, retry_after.into()),
        _ => return,
    };
    response.headers_mut().insert(advice.0, advice.1);
}
