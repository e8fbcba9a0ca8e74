//! What is read, as an answer.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The answer that carries a record.
pub(super) fn json(record: &impl Serialize) -> Response {
    let body = serde_json::to_vec(record).expect("a record has text keys and no maps that can fail");
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// The answer that is a JSON text already.
pub(super) fn json_text(text: &'static str) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}
