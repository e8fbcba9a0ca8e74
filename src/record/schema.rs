//! Schemas of fields that have no type of their own.

use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use super::invocation::AGENT_ERROR;
use crate::code::ErrorCode;
use crate::invocation::StateName;
use crate::journal::EventKind;

/// One of the names of [`EventKind`].
pub(super) fn event_kind() -> Object {
    one_of("What kind of thing happened.", EventKind::ALL.iter().map(|kind| kind.as_str()))
}

/// One of the names of [`StateName`].
pub(super) fn state() -> Object {
    one_of("What has become of it.", StateName::ALL.iter().map(|state| state.as_str()))
}

/// A code of the router, or that of an agent's own error.
pub(super) fn failure_code() -> Object {
    let codes = ErrorCode::ALL.iter().map(|code| code.as_str());
    one_of("The router's error code, or `agent_error` for an error of the agent's own.", codes.chain([AGENT_ERROR]))
}

/// A peer's own JSON.
pub(super) fn any_json() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some("A peer's own JSON, of any type; null if there is none, or if it was erased."))
        .build()
}

fn one_of(description: &str, names: impl Iterator<Item = &'static str>) -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .description(Some(description))
        .enum_values(Some(names))
        .build()
}
