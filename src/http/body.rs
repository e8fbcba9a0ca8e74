//! The body of a request: all of it, within bounds.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use tokio::time::timeout;

use super::problem::Problem;
use crate::protocol::json::{Object, ParseError};

/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A whole body, of whatever type. How large it may be is the layer's to say ([`super::routes`]).
pub(super) struct Body(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match timeout(PATIENCE, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Problem::with_status(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than MAX_FRAME_BYTES: send a reference to the contents",
            )),
            Ok(Err(_)) => Err(Problem::malformed("the body could not be read to its end: send it again")),
            Err(_) => Err(Problem::with_status(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body did not come within {} s: send it again, in one go", PATIENCE.as_secs()),
            )),
        }
    }
}

/// A body that is labelled as JSON.
pub(super) struct JsonBody(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::with_status(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body has to be JSON: send it with Content-Type: application/json",
            ));
        }
        Ok(Self(Body::from_request(request, state).await?.0))
    }
}

impl JsonBody {
    /// Its fields, all of which are among the known ones.
    pub(super) fn object(&self, known: &[&str]) -> Result<Object<'_>, Problem> {
        let object = Object::parse(&self.0).map_err(|error| {
            Problem::malformed(match error {
                ParseError::NotUtf8 | ParseError::NotJson => "the body is not JSON".to_owned(),
                error => format!("the body cannot be taken: {error}"),
            })
        })?;
        match object.field_other_than(known) {
            None => Ok(object),
            Some(unknown) => {
                let unknown = if is_plain(&unknown) { format!("field {unknown:?}") } else { "a field".to_owned() };
                Err(Problem::malformed(format!("{unknown} is unknown; allowed: {}", known.join(", "))))
            }
        }
    }
}

/// Whether it is the name of a field, as far as one can see. What else came in its place may be a secret.
fn is_plain(name: &str) -> bool {
    name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
