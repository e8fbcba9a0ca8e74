//! Reads variables one by one and keeps on after a problem, so that all of them are reported together.

use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::problem::Problem;
use super::value;
use super::variables::Variable;

pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { lookup, problems: Vec::new() }
    }

    /// What is set; an empty value is none.
    pub(super) fn text(&mut self, variable: &Variable) -> Option<String> {
        let Ok(text) = (self.lookup)(variable.name)?.into_string() else {
            self.problems.push(Problem::new(variable, "is not valid UTF-8"));
            return None;
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// What is set, parsed. `parse` fails with the words that follow "must be".
    pub(super) fn optional<T>(&mut self, variable: &Variable, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(variable)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(allowed) => {
                self.problems.push(Problem::value(variable, &text, allowed));
                None
            }
        }
    }

    /// What is set, parsed, or the default; after a problem the default too, to go on with.
    pub(super) fn required<T>(&mut self, variable: &Variable, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.optional(variable, &parse).unwrap_or_else(|| default(variable, parse))
    }

    pub(super) fn duration(&mut self, variable: &Variable, allowed: RangeInclusive<Duration>) -> Duration {
        self.required(variable, |text| value::duration(text, &allowed))
    }

    /// A duration whose default yields to an upper bound that is itself a setting.
    pub(super) fn duration_within(&mut self, variable: &Variable, allowed: RangeInclusive<Duration>) -> Duration {
        let any = Duration::ZERO..=Duration::MAX;
        self.optional(variable, |text| value::duration(text, &allowed))
            .unwrap_or_else(|| default(variable, |text| value::duration(text, &any)).min(*allowed.end()))
    }

    pub(super) fn size(&mut self, variable: &Variable, allowed: RangeInclusive<usize>) -> usize {
        self.required(variable, |text| value::size(text, &allowed))
    }

    pub(super) fn count<T: FromStr + PartialOrd + Display>(
        &mut self,
        variable: &Variable,
        allowed: RangeInclusive<T>,
    ) -> T {
        self.required(variable, |text| value::count(text, &allowed))
    }
}

fn default<T>(variable: &Variable, parse: impl Fn(&str) -> Result<T, String>) -> T {
    variable
        .default
        .and_then(|text| parse(text).ok())
        .expect("a variable that is read so has a valid default, as a test with nothing set shows")
}
