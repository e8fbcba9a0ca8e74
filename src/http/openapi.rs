//! The description of the HTTP interface (OpenAPI 3.1): made from the handlers, completed by what is the same for all.

use std::sync::LazyLock;

use axum::response::Response;
use serde_json::json;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Paths};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, Header, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr,
    ResponseBuilder, SecurityRequirement, Server, Tag,
};
use utoipa::{PartialSchema, ToSchema};

use super::access::Access;
use super::problem::{PROBLEM_JSON, ProblemBody};
use super::{reply, routes};

/// What it says first.
const INTRODUCTION: &str = "\
A durable router for AI agents. Masters have agents do things, auditors read what happened, operators look after the \
router; who may do what follows from the key, which is sent as `api-key` or as `Authorization: Bearer`, and never in a \
URL. Errors are `application/problem+json`. Times are UTC with microseconds; JSON is strict, so a number that strict \
JSON lacks is a string of the same characters. Agents speak over the WebSocket at `/ws`, described by `/asyncapi.json`.";

/// Subjects, in the order of the page.
const TAGS: [(&str, &str); 7] = [
    ("invocations", "What agents are asked to do: for masters; auditors read."),
    ("agents", "Who there is, and who is there."),
    ("history", "What happened: for auditors."),
    ("operators", "Looking after the router."),
    ("health", "For whatever watches over the process."),
    ("descriptions", "What all of this looks like."),
    ("original", "What the original router had."),
];

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = document().to_pretty_json().expect("a description can be written as JSON");
    text.push('\n');
    text
});

/// The description, as it is served and checked in.
#[must_use]
pub fn openapi() -> &'static str {
    &DOCUMENT
}

/// This description
///
/// OpenAPI 3.1; for people it is at `/docs`.
#[utoipa::path(
    get, path = "/openapi.json", tag = "descriptions", operation_id = "readOpenApi",
    responses((status = 200, description = "This.", body = Object))
)]
pub(super) async fn serve() -> Response {
    reply::json_text(openapi())
}

/// The description of the WebSocket
///
/// AsyncAPI 3.
#[utoipa::path(
    get, path = "/asyncapi.json", tag = "descriptions", operation_id = "readAsyncApi",
    responses((status = 200, description = "That.", body = Object))
)]
pub(super) async fn serve_asyncapi() -> Response {
    reply::json_text(include_str!("../../docs/asyncapi.json"))
}

/// What the table of routes is filled into.
pub(super) fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("agent-router")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(INTRODUCTION))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").build()))
        .build();
    let components = ComponentsBuilder::new()
        .security_scheme("api-key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("api-key"))))
        .security_scheme("bearer", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()))
        .schema(ProblemBody::name(), ProblemBody::schema())
        .header("RequestId", header("The request's id: as it came, or made up."))
        .header("Authenticate", header("`Bearer`."))
        .header("RetryAfter", header("Seconds after which it may be better."))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/")]))
        .tags(Some(TAGS.map(|(name, description)| {
            let mut tag = Tag::new(name);
            tag.description = Some(description.to_owned());
            tag
        })))
        .components(Some(components))
        .build()
}

/// Says of every operation who may use it.
pub(super) fn restrict(paths: &mut Paths, access: Access) {
    let kinds: Vec<_> = access.0.iter().map(|kind| kind.as_str()).collect();
    for operation in operations(paths) {
        operation.security =
            Some(["api-key", "bearer"].map(|scheme| SecurityRequirement::new(scheme, [] as [&str; 0])).into());
        operation
            .extensions
            .get_or_insert_default()
            .merge(ExtensionsBuilder::new().add("x-roles", json!(kinds)).build());
        add(operation, "401", "There is no usable key.");
        add(operation, "403", &format!("The key is not one of these roles: {}.", kinds.join(", ")));
        add(operation, "503", "The journal is unavailable, or the router is about to stop.");
    }
}

fn document() -> OpenApi {
    let mut document = routes::table().into_openapi();
    for operation in operations(&mut document.paths) {
        add(operation, "400", "The request makes no sense, or there is a key in its URL.");
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            let mut refer = |name: &str, to: &str| {
                let header = RefOr::Ref(Ref::new(format!("#/components/headers/{to}")));
                response.headers.insert(name.to_owned(), header);
            };
            refer("X-Request-Id", "RequestId");
            match &**status {
                "401" => refer("WWW-Authenticate", "Authenticate"),
                "429" | "503" => refer("Retry-After", "RetryAfter"),
                _ => {}
            }
            if status.starts_with(['4', '5']) && response.content.is_empty() {
                let problem = Ref::from_schema_name(ProblemBody::name());
                response.content.insert(PROBLEM_JSON.to_owned(), Content::new(Some(problem)).into());
            }
        }
    }
    document
}

/// Adds a response, unless the handler has said more about it.
fn add(operation: &mut Operation, status: &str, description: &str) {
    let response = || ResponseBuilder::new().description(description).build();
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response().into());
}

fn header(description: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
}

fn operations(paths: &mut Paths) -> impl Iterator<Item = &mut Operation> {
    paths.paths.values_mut().flat_map(|path| {
        let PathItem { get, put, post, delete, options, head, patch, trace, .. } = path;
        [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
    })
}
