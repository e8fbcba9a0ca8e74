//! `/docs`: the description for people, with everything that the page needs from here.

use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::Context;
use super::problem::Problem;

/// The page may load what is here, and nothing from anywhere else; it has its styles and icons in itself.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The page and its parts.
pub(super) fn routes() -> axum::Router<Context> {
    let config = Config::from("/openapi.json")
        .validator_url("none")
        .query_config_enabled(false)
        .persist_authorization(false)
        .use_base_layout()
        .try_it_out_enabled(true);
    axum::Router::from(SwaggerUi::new("/docs").config(config)).layer(map_response(async |mut response: Response| {
        if response.status() == StatusCode::NOT_FOUND {
            response = Problem::no_such_page().into_response();
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }))
}
