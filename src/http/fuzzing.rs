//! What must be true of the query strings and cursors that anybody can send: for the fuzzer, and for the test that replays
//! what it has found.

use std::fmt::Debug;

use axum::http::{HeaderMap, StatusCode, Uri};

use super::access::Asker;
use super::cursor::List;
use super::history::{Form, Question};
use super::invocations::InvocationsQuery;
use super::parameters::Parameters;
use super::problem::Problem;
use crate::auth::Role;
use crate::id::{Identity, InvocationId, Position};
use crate::journal::Order;

/// As long as a refusal may get: it repeats at most 80 characters of what came, each of which may be written as `\u{…}`.
const REFUSAL_BYTES: usize = 2048;

/// Asks each list with this query string.
///
/// # Panics
/// If what is refused is not refused well, or what is taken depends on the order in which the parameters stand.
pub fn filters(query: &[u8]) {
    // What is behind a `#` is no part of an address.
    let Some(query) = str::from_utf8(query).ok().filter(|query| !query.contains('#')) else { return };
    let backwards = query.split('&').rev().collect::<Vec<_>>().join("&");
    for form in [Form::Page, Form::Lines, Form::Table] {
        asked(query, &backwards, |parameters| {
            let question = Question::of_history(parameters, form)?;
            if let (Form::Page, Some(limit)) = (form, question.limit) {
                assert!((1..=1000).contains(&limit));
            }
            if let Some(filter) = &question.filter {
                for label in [&filter.request_id, &filter.session_id].into_iter().flatten() {
                    assert!((1..=255).contains(&label.len()) && !label.contains('\0'));
                }
            }
            assert!(question.beyond.is_none_or(|place| place >= Position(0)) && question.wait.as_secs() <= 60);
            Ok(question)
        });
        asked(query, &backwards, |parameters| {
            Question::of_invocation(InvocationId(uuid::Uuid::nil()), parameters, form)
        });
    }
    asked(query, &backwards, |parameters| Question::of_stream(parameters, &HeaderMap::new(), Position(7)));
    let master = Role::Master(Identity::backend());
    for role in [Role::Auditor, master] {
        asked(query, &backwards, |parameters| {
            let (query, list) = InvocationsQuery::read(parameters, &Asker(role.clone()))?;
            let filter = query.filter(&role);
            if let (Role::Master(master), Some(filter)) = (&role, &filter) {
                assert_eq!(filter.caller.as_ref(), Some(master), "a master is shown what is another's");
            }
            Ok((filter, list))
        });
    }
}

/// A cursor is refused, or is the very one that its place is given; and every place is led back to.
///
/// # Panics
/// If it is not so.
pub fn cursor(bytes: &[u8]) {
    let list = List::new("history", "");
    if let Ok(text) = str::from_utf8(bytes) {
        match list.place(text) {
            Ok(place) => assert_eq!(list.cursor(&place), text),
            Err(_) => assert!(list.position(text).is_err()),
        }
        if let Ok(position) = list.position(text) {
            assert!(position >= Position(0));
            assert_eq!(list.cursor_at(position), text);
        }
    }
    let cursor = list.cursor(bytes);
    assert_eq!(list.place(&cursor).as_deref(), Ok(bytes));
    assert!(List::new("history", "another").place(&cursor).is_err());
    for order in [Order::Ascending, Order::Descending] {
        let other = List::new("invocations", &format!("{order:?}"));
        assert!(other.position(&cursor).is_err());
    }
}

/// The same answer to the parameters forwards and backwards, with nothing kept back of what was understood.
fn asked<T: Debug>(query: &str, backwards: &str, ask: impl Fn(Parameters) -> Result<T, Problem>) {
    let ask = |query: &str| {
        let uri: Uri = format!("/?{query}").parse().ok()?;
        Some(Parameters::of(&uri).and_then(&ask))
    };
    let Some(answer) = ask(query) else { return };
    match (&answer, ask(backwards)) {
        (Ok(question), Some(Ok(other))) => assert_eq!(format!("{question:?}"), format!("{other:?}")),
        (Err(refusal), Some(Err(_))) => {
            assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
            let detail = refusal.detail();
            assert!(!detail.is_empty() && detail.len() <= REFUSAL_BYTES, "{} bytes: {detail}", detail.len());
            assert!(!detail.chars().any(char::is_control), "a refusal has a control character: {detail:?}");
        }
        (answer, other) => panic!("forwards {answer:?}, backwards {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;
    use crate::journal::HistoryFilter;

    #[test]
    fn every_query_that_the_fuzzer_has_kept() {
        let replayed = crate::protocol::corpus::replay("filters", filters);
        assert!(replayed.len() >= 50, "{} queries", replayed.len());
        let is_taken = |query: &Vec<u8>| {
            let uri = format!("/?{}", String::from_utf8_lossy(query)).parse().ok();
            let parameters = uri.as_ref().and_then(|uri| Parameters::of(uri).ok());
            parameters.is_some_and(|parameters| {
                Question::of_history(parameters, Form::Page)
                    .is_ok_and(|question| question.filter != Some(HistoryFilter::default()))
            })
        };
        assert!(replayed.iter().filter(|query| is_taken(query)).count() >= 10, "hardly any filter is among them");
    }

    #[test]
    fn every_cursor_that_the_fuzzer_has_kept() {
        let replayed = crate::protocol::corpus::replay("cursor", cursor);
        assert!(replayed.len() >= 5, "{} cursors", replayed.len());
        let list = List::new("history", "");
        let is_taken = |text: &Vec<u8>| str::from_utf8(text).is_ok_and(|text| list.position(text).is_ok());
        assert!(replayed.iter().any(is_taken), "no cursor of the list is among them");
    }

    #[test]
    fn an_answer_that_depends_on_the_order_is_seen() {
        let first = |parameters: Parameters| Ok(parameters.without(&[]));
        asked("kind=a&caller=b", "caller=b&kind=a", first);
        assert!(catch_unwind(|| asked("kind=a", "kind=b", first)).is_err());
        let refuses = |text: &'static str| move |_| Err::<(), _>(Problem::malformed(text));
        asked("", "", refuses("no"));
        assert!(catch_unwind(|| asked("", "", refuses("a\nb"))).is_err());
    }
}
