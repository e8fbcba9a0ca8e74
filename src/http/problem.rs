//! A refusal: `application/problem+json` (RFC 9457), with an error code of the protocol where it has one.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::code::ErrorCode;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Problem {
    /// 400: the request makes no sense.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::Malformed.as_str(), detail)
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
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 404: there is nothing at this address.
    pub(super) fn no_such_page() -> Self {
        Self::not_found("there is nothing at this address")
    }

    /// 405: the `Allow` header says which would be right.
    pub(super) fn method_not_allowed() -> Self {
        let detail = "this address is not for this method; the Allow header says which it is for";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Malformed.as_str(), detail)
    }

    /// 503: try again later.
    pub(super) fn unavailable(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code.as_str(), detail)
    }

    /// With the status that another part of the machinery chose.
    pub(super) fn with_status(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(status, ErrorCode::Malformed.as_str(), detail)
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, for people.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }
}

/// What the router or the journal refused.
impl From<ErrorCode> for Problem {
    fn from(code: ErrorCode) -> Self {
        let status = match code {
            ErrorCode::AgentUnknown => StatusCode::NOT_FOUND,
            ErrorCode::Cancelled => StatusCode::CONFLICT,
            ErrorCode::FrameTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::Malformed => StatusCode::BAD_REQUEST,
            ErrorCode::NotAllowed => StatusCode::FORBIDDEN,
            ErrorCode::QueueFull | ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::AgentLost => StatusCode::BAD_GATEWAY,
            ErrorCode::AgentAway | ErrorCode::JournalUnavailable | ErrorCode::ShuttingDown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorCode::Expired | ErrorCode::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        };
        Self::new(status, code.as_str(), code.message())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        let mut response = (self.status, body.to_string()).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        add_advice(&mut response);
        response
    }
}

/// The headers that go with some statuses, whatever the body looks like.
pub(super) fn add_advice(response: &mut Response) {
    let advice = match response.status() {
        StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => (RETRY_AFTER, HeaderValue::from_static("1")),
        _ => return,
    };
    response.headers_mut().insert(advice.0, advice.1);
}
