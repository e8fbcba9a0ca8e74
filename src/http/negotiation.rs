//! What a client would like: a form of the answer, and how long to wait for it.

use std::time::Duration;

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderName, StatusCode};

use super::problem::Problem;
use super::values::MAX_WAIT;

/// RFC 7240.
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
/// What came of it.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The form that a client likes best among those there are, the first of equals. Without `Accept`, the first.
pub(super) fn accepted<T: Copy>(headers: &HeaderMap, forms: &[(&str, T)]) -> Result<T, Problem> {
    let wanted: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let wanted = wanted.join(",");
    let best = if wanted.trim().is_empty() {
        forms.first().map(|(_, form)| (*form, 1.0))
    } else {
        let rated = forms.iter().map(|(name, form)| (*form, quality(&wanted, name)));
        rated.reduce(|best, other| if other.1 > best.1 { other } else { best })
    };
    best.filter(|(_, quality)| *quality > 0.0).map(|(form, _)| form).ok_or_else(|| {
        let names: Vec<_> = forms.iter().map(|(name, _)| *name).collect();
        let detail = format!("there is no answer in a form that Accept allows; there are: {}", names.join(", "));
        Problem::with_status(StatusCode::NOT_ACCEPTABLE, detail)
    })
}

/// How much a form is wanted, by the most specific range that it is in (RFC 9110, section 12.5.1).
fn quality(accept: &str, form: &str) -> f32 {
    let kind = form.split_once('/').map_or("", |(kind, _)| kind);
    let ranges = accept.split(',').filter_map(|range| {
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        let name = name.trim().to_ascii_lowercase();
        let precision = match &*name {
            "*/*" => 0,
            name if name == form => 2,
            name if name.strip_suffix("/*") == Some(kind) => 1,
            _ => return None,
        };
        let quality = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().ok())?
        });
        Some((precision, quality.unwrap_or(1.0)))
    });
    ranges.max_by_key(|(precision, _)| *precision).map_or(0.0, |(_, quality)| quality)
}

/// How long a client would like to wait, `Prefer: wait=N`; more than the most there is is the most. What else it prefers,
/// and what makes no sense, is passed over, as RFC 7240 has it.
pub(super) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let preferences = values.flat_map(|value| value.split(',')).filter_map(|preference| {
        let preference = preference.split(';').next().unwrap_or_default();
        preference.split_once('=').map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
    });
    let seconds = preferences.filter(|(name, _)| name.eq_ignore_ascii_case("wait")).map(|(_, value)| value).next()?;
    if seconds.is_empty() || !seconds.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(seconds.parse().map_or(MAX_WAIT, Duration::from_secs).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_form_is_the_one_that_is_liked_best() {
        let form = |accept: &[&'static str]| {
            let forms = [("application/json", 1), ("application/x-ndjson", 2), ("text/csv", 3)];
            accepted(&headers(&ACCEPT, accept), &forms).ok()
        };
        for (accept, expected) in [
            (&[][..], Some(1)),
            (&[""], Some(1)),
            (&["*/*"], Some(1)),
            (&["text/html, */*;q=0.1"], Some(1)),
            (&["application/x-ndjson"], Some(2)),
            (&["TEXT/CSV ; q=0.5"], Some(3)),
            (&["text/*"], Some(3)),
            (&["application/json;q=0.2", "text/csv;q=0.3"], Some(3)),
            (&["application/json;q=0, */*"], Some(2)),
            (&["text/html"], None),
            (&["application/json;q=0"], None),
        ] {
            assert_eq!(form(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_preference_to_wait_is_found_among_others_and_capped() {
        let wait = |prefer: &[&'static str]| preferred_wait(&headers(&PREFER, prefer)).map(|wait| wait.as_secs());
        assert_eq!(wait(&["wait=5"]), Some(5));
        assert_eq!(wait(&["respond-async, WAIT = \"10\" ; x=1"]), Some(10));
        assert_eq!(wait(&["handling=lenient", "wait=99999999999999999999"]), Some(60));
        for other in ["", "wait", "wait=", "wait=-1", "wait=soon", "return=minimal"] {
            assert_eq!(wait(&[other]), None, "{other}");
        }
    }
}
