//! What can be said in a path, a query or a header: for each kind of value how it is read, and how it is described.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use chrono::DateTime;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use uuid::Uuid;

use super::parameters::{Parameters, wrong_value};
use super::problem::Problem;
use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, MAX_IDENTITY_BYTES, Position};
use crate::invocation::StateName;
use crate::journal::{EventKind, Order};
use crate::protocol::inbound::MAX_LABEL_BYTES;

/// The most records on a page, and how many there are if nobody says.
pub(super) const MAX_LIMIT: usize = 1_000;
pub(super) const DEFAULT_LIMIT: usize = 100;

/// The longest that a request waits for something to happen.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(MAX_WAIT_SECONDS as u64);
const MAX_WAIT_SECONDS: u32 = 60;

/// No control characters; Python's and ECMA's expressions agree on it.
const NAME_PATTERN: &str = r"^[^\x00-\x1f\x7f-\x9f]+$";

/// A name that was asked for: `None` if it is too long to be anybody's.
pub(super) type Name = Option<Identity>;

impl Parameters {
    /// Whom something is about.
    pub(super) fn name(&self, name: &str) -> Result<Option<Name>, Problem> {
        self.optional(name, allowed_name, read_name)
    }

    /// A `request_id` or `session_id`, cut as the ones that are kept.
    pub(super) fn label(&self, name: &str) -> Result<Option<String>, Problem> {
        let allowed = || format!("1 to {MAX_LABEL_BYTES} characters without NUL");
        self.optional(name, allowed, |text| {
            let fits = (1..=MAX_LABEL_BYTES).contains(&text.chars().count()) && !text.contains('\0');
            fits.then(|| text[..text.floor_char_boundary(MAX_LABEL_BYTES)].to_owned())
        })
    }

    /// A UUID with hyphens.
    pub(super) fn invocation(&self, name: &str) -> Result<Option<InvocationId>, Problem> {
        self.optional(name, || "a UUID".to_owned(), read_uuid)
    }

    /// A moment.
    pub(super) fn moment(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.optional(
            name,
            || "a time of RFC 3339, such as 2026-01-02T03:04:05Z (with + written as %2B)".to_owned(),
            |text| DateTime::parse_from_rfc3339(text).ok().map(|at| Timestamp::from_micros(at.timestamp_micros())),
        )
    }

    /// Kinds of events, separated by commas.
    pub(super) fn kinds(&self, name: &str) -> Result<Vec<EventKind>, Problem> {
        let all = || EventKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        let kinds = self.optional(
            name,
            || format!("one or more of these, separated by commas: {}", all()),
            |text| text.split(',').map(EventKind::from_name).collect::<Option<Vec<_>>>(),
        )?;
        Ok(kinds.unwrap_or_default())
    }

    /// The state of an invocation.
    pub(super) fn state(&self, name: &str) -> Result<Option<StateName>, Problem> {
        let all = || StateName::ALL.map(StateName::as_str).join(", ");
        self.optional(name, all, |text| StateName::ALL.into_iter().find(|state| state.as_str() == text))
    }

    /// The direction of a list.
    pub(super) fn order(&self, default: Order) -> Result<Order, Problem> {
        let order = self.optional(
            "order",
            || "asc, desc".to_owned(),
            |text| match text {
                "asc" => Some(Order::Ascending),
                "desc" => Some(Order::Descending),
                _ => None,
            },
        )?;
        Ok(order.unwrap_or(default))
    }

    /// How many records there may be, at most `most`.
    pub(super) fn limit(&self, most: usize) -> Result<Option<usize>, Problem> {
        self.optional(
            "limit",
            || format!("a whole number from 1 to {most}"),
            |text| {
                read_number(text)
                    .and_then(|limit| usize::try_from(limit).ok())
                    .filter(|limit| (1..=most).contains(limit))
            },
        )
    }

    /// How long to wait for something to happen.
    pub(super) fn wait(&self) -> Result<Duration, Problem> {
        let allowed = || format!("a whole number of seconds from 0 to {}", MAX_WAIT.as_secs());
        let wait = self.optional("wait", allowed, |text| {
            read_number(text).map(Duration::from_secs).filter(|wait| *wait <= MAX_WAIT)
        })?;
        Ok(wait.unwrap_or_default())
    }

    /// A place in the journal.
    pub(super) fn position(&self, name: &str) -> Result<Option<Position>, Problem> {
        self.optional(
            name,
            || "a position: a whole number from 1".to_owned(),
            |text| read_position(text).filter(|position| *position > Position(0)),
        )
    }

    /// True or false.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        self.optional(name, || "true, false".to_owned(), |text| text.parse().ok())
    }
}

/// The invocation that a path names.
#[derive(IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(super) struct InvocationInPath(
    /// Its id.
    #[param(value_type = UuidText, inline)]
    pub(super) InvocationId,
);

impl<S: Send + Sync> FromRequestParts<S> for InvocationInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = in_path(Path::from_request_parts(parts, state).await)?;
        read_uuid(&text).map(Self).ok_or_else(|| wrong_value("id", &text, "a UUID"))
    }
}

/// The agent that a path names.
#[derive(IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(super) struct AgentInPath(
    /// Its id.
    #[param(value_type = NameText, inline)]
    pub(super) Name,
);

impl<S: Send + Sync> FromRequestParts<S> for AgentInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = in_path(Path::from_request_parts(parts, state).await)?;
        read_name(&text).map(Self).ok_or_else(|| wrong_value("id", &text, &allowed_name()))
    }
}

fn in_path(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(text)| text).map_err(|_| Problem::malformed("the id in the path is not UTF-8"))
}

/// What a name may be, for people.
pub(super) fn allowed_name() -> String {
    format!("1 to {MAX_IDENTITY_BYTES} characters, none of them a control character")
}

/// Whether somebody could ask for this name.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_IDENTITY_BYTES).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn read_name(text: &str) -> Option<Name> {
    is_name(text).then(|| Identity::new(text).ok())
}

fn read_uuid(text: &str) -> Option<InvocationId> {
    let is_hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
    Uuid::try_parse(text).ok().filter(|_| is_hyphenated).map(InvocationId)
}

/// `FromStr` takes a sign; nobody here does.
fn read_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A place in the journal, or the one before the first.
pub(super) fn read_position(text: &str) -> Option<Position> {
    read_number(text).and_then(|number| i64::try_from(number).ok()).map(Position)
}

/// Gives each kind of value a type that describes it and is nothing else.
macro_rules! described {
    ($($(#[$doc:meta])* $name:ident = $description:expr;)*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl ToSchema for $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    $description.into()
                }
            }
        )*
    };
}

described! {
    /// A [`Name`].
    NameText = name();
    /// A label.
    LabelText = text().min_length(Some(1)).max_length(Some(MAX_LABEL_BYTES)).pattern(Some(r"^[^\x00]+$"));
    /// An invocation's id.
    UuidText = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    /// A moment.
    MomentText = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    /// One or more kinds of events.
    KindsText = {
        let names = EventKind::ALL.iter().map(|kind| kind.as_str());
        ArrayBuilder::new().items(text().enum_values(Some(names))).min_items(Some(1))
    };
    /// A state.
    StateText = text().enum_values(Some(StateName::ALL.map(StateName::as_str)));
    /// An order.
    OrderText = text().enum_values(Some(["asc", "desc"]));
    /// How many records there may be on a page.
    LimitNumber = number().minimum(Some(1)).maximum(Some(MAX_LIMIT)).default(Some(DEFAULT_LIMIT.into()));
    /// Seconds to wait.
    WaitNumber = number().minimum(Some(0)).maximum(Some(MAX_WAIT_SECONDS)).default(Some(0.into()));
    /// A place in the journal.
    PositionNumber = number().format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64))).minimum(Some(1));
    /// A cursor. Its format is one of our own: no text is one but one that was given out.
    CursorText = {
        let format = Some(SchemaFormat::Custom("cursor".to_owned()));
        text().format(format).pattern(Some("^[A-Za-z0-9_-]{11,400}$"))
    };
    /// A place in a stream to go on from.
    EventIdText = text().pattern(Some("^[0-9]{1,18}$"));
    /// A key against doing something twice.
    KeyText = text().min_length(Some(1)).max_length(Some(255)).pattern(Some("^[!-~]([ -~]*[!-~])?$"));
    /// Any text.
    AnyText = text();
    /// True or false.
    Flag = ObjectBuilder::new().schema_type(Type::Boolean);
}

/// The description of a [`Name`], to be said more about.
pub(super) fn name() -> ObjectBuilder {
    text().min_length(Some(1)).max_length(Some(MAX_IDENTITY_BYTES)).pattern(Some(NAME_PATTERN))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn number() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_too_long_to_be_anybodys_is_nobodys() {
        assert_eq!(read_name("a").unwrap().unwrap().as_str(), "a");
        assert_eq!(read_name(&"é".repeat(200)), Some(None));
        for impossible in ["", "a\u{7f}", "\u{85}", &"a".repeat(256)] {
            assert_eq!(read_name(impossible), None, "{impossible:?}");
        }
    }

    #[test]
    fn numbers_have_no_sign_and_uuids_have_hyphens() {
        assert_eq!(
            (read_number("007"), read_number("+1"), read_number("-1"), read_number("")),
            (Some(7), None, None, None)
        );
        assert_eq!(read_position("9223372036854775808"), None);
        let id = "01a20425-9bff-74dd-b286-0f02b9075eb8";
        assert_eq!(read_uuid(id).unwrap().to_string(), id);
        assert_eq!(read_uuid(&id.replace('-', "")), None);
    }
}
