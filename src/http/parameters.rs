//! The query of a request: each parameter known, given once, and of a value that means something.

use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;

use super::cursor::WrongCursor;
use super::problem::Problem;

/// As much of a wrong value as is repeated.
const SHOWN_CHARS: usize = 80;

/// The parameters of a request, undecided.
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.uri)
    }
}

impl Parameters {
    /// Those in the query of an address.
    pub(super) fn of(uri: &Uri) -> Result<Self, Problem> {
        match Query::try_from_uri(uri) {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(_) => Err(Problem::malformed("the query cannot be read: it has to be name=value pairs joined by &")),
        }
    }

    /// Refuses any that is not among the known ones, and any that is there twice.
    pub(super) fn only(self, known: &[&str]) -> Result<Self, Problem> {
        for (index, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&&**name) {
                let allowed = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Problem::malformed(format!("parameter {:?} is unknown; allowed: {allowed}", shown(name))));
            }
            if self.0[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::malformed(format!("parameter {name} is there twice; allowed: once")));
            }
        }
        Ok(self)
    }

    /// Those that are not left out, in one text that is always the same for the same parameters.
    pub(super) fn without(&self, left_out: &[&str]) -> String {
        let mut pairs: Vec<_> = self.0.iter().filter(|(name, _)| !left_out.contains(&&**name)).collect();
        pairs.sort();
        let lines: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        lines.join("\n")
    }

    /// One parameter's value, if the parameter is there. `allowed` says, for people, what `parse` takes.
    pub(super) fn optional<T>(
        &self,
        name: &str,
        allowed: impl FnOnce() -> String,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some((_, value)) = self.0.iter().find(|(known, _)| known == name) else { return Ok(None) };
        parse(value).map(Some).ok_or_else(|| wrong_value(name, value, &allowed()))
    }
}

/// The place that a cursor leads to, if there is a cursor.
pub(super) fn cursor_of<T>(
    parameters: &Parameters,
    read: impl FnOnce(&str) -> Result<T, WrongCursor>,
) -> Result<Option<T>, Problem> {
    let Some((_, cursor)) = parameters.0.iter().find(|(name, _)| name == "cursor") else { return Ok(None) };
    read(cursor).map(Some).map_err(|wrong| match wrong {
        WrongCursor::Unknown => wrong_value("cursor", cursor, "the `next` of an earlier page"),
        WrongCursor::OtherList => Problem::malformed(
            "this cursor is of a list with other filters or another order: send those again with it, or leave it out \
             to begin anew",
        ),
    })
}

/// The refusal of a value: names the parameter, repeats the value, and says what is allowed.
pub(super) fn wrong_value(name: &str, value: &str, allowed: &str) -> Problem {
    Problem::malformed(format!("parameter {name} is {:?}; allowed: {allowed}", shown(value)))
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        Parameters(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[track_caller]
    fn detail<T>(result: Result<T, Problem>) -> String {
        result.err().unwrap().detail().to_owned()
    }

    #[test]
    fn an_unknown_parameter_is_named_with_the_known_ones() {
        let refusal = parameters(&[("agent", "a")]).only(&["agent_id", "kind"]);
        assert_eq!(detail(refusal), r#"parameter "agent" is unknown; allowed: agent_id, kind"#);
        let refusal = parameters(&[("wait", "1")]).only(&[]);
        assert_eq!(detail(refusal), r#"parameter "wait" is unknown; allowed: none"#);
    }

    #[test]
    fn a_parameter_counts_once() {
        let refusal = parameters(&[("kind", "a"), ("kind", "a")]).only(&["kind"]);
        assert_eq!(detail(refusal), "parameter kind is there twice; allowed: once");
    }

    #[test]
    fn a_wrong_value_is_repeated_with_what_is_allowed() {
        let given = parameters(&[("limit", "-1")]).only(&["limit"]).ok().unwrap();
        let limit = |name| given.optional(name, || "a whole number".to_owned(), |text| text.parse::<u8>().ok());
        assert_eq!(detail(limit("limit")), r#"parameter limit is "-1"; allowed: a whole number"#);
        assert_eq!(limit("cursor"), Ok(None));
    }
}
