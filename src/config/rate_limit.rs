//! `RATE_LIMIT`: how often one identity may have agents invoked.

use super::reader::Reader;
use super::secret::Mode;
use super::value;
use super::variables as v;

const OFF: &str = "off";

/// What an agent gets in secured mode when nothing is set: far more than work takes that somebody waits for, and little
/// enough to leave the router to the others when one of them runs wild.
const OF_AGENTS: RateLimit = RateLimit { per_second: 1_000, burst: 5_000 };

/// How often somebody may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How often in a second, in the long run.
    pub per_second: u32,
    /// How often at once, after doing nothing for a while.
    pub burst: u32,
}

/// How often each identity may have an agent invoked; `None`: as often as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// A master, on all its sockets and over HTTP together.
    pub masters: Option<RateLimit>,
    /// Anybody else, on all its sockets together.
    pub others: Option<RateLimit>,
}

impl RateLimits {
    /// What is set counts for everybody. Unset, only agents whose tokens are verified are limited: masters' keys are the
    /// operator's own, and in development mode an identity is whatever a peer says.
    pub(super) fn read(reader: &mut Reader<'_>, mode: &Mode) -> Self {
        match reader.optional(&v::RATE_LIMIT, parse) {
            Some(limit) => Self { masters: limit, others: limit },
            None => Self { masters: None, others: mode.is_secured().then_some(OF_AGENTS) },
        }
    }
}

/// `100`, or `100:500` with a burst, or `off`. Fails with the words that follow "must be".
fn parse(text: &str) -> Result<Option<RateLimit>, String> {
    if text == OFF {
        return Ok(None);
    }
    let (per_second, burst) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| value::count(text, &(1..=1_000_000)).ok();
    match (number(per_second), number(burst)) {
        (Some(per_second), Some(burst)) => Ok(Some(RateLimit { per_second, burst })),
        _ => Err(
            "off, or how many a second, from 1 to 1000000, with how many at once after a colon, such as 100 or 100:500"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_burst_of_a_seconds_worth_unless_it_says_otherwise() {
        assert_eq!(parse("100"), Ok(Some(RateLimit { per_second: 100, burst: 100 })));
        assert_eq!(parse("2:1000000"), Ok(Some(RateLimit { per_second: 2, burst: 1_000_000 })));
        assert_eq!(parse("off"), Ok(None));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for text in
            ["0", "1:0", ":", "1:", ":1", "1:2:3", "1.5", "-1", "+1", "1/s", "1000001", "1:1000001", "OFF", " 1"]
        {
            assert!(parse(text).is_err_and(|allowed| allowed.contains("such as 100 or 100:500")), "{text}");
        }
    }
}
