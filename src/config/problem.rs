//! What is wrong with the configuration, all of it at once.

use std::fmt;

use super::variables::Variable;

/// As much of a wrong value as is shown; enough to recognise it.
const SHOWN_CHARS: usize = 80;

/// One thing to change: names the variable, shows its value unless that is a secret, says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    variable: &'static str,
    message: String,
}

impl Problem {
    /// A problem of which the value says nothing, or must not be shown.
    pub(super) fn new(variable: &Variable, message: impl fmt::Display) -> Self {
        Self { variable: variable.name, message: format!("{} {message}", variable.name) }
    }

    /// A wrong value.
    pub(super) fn value(variable: &Variable, value: &str, allowed: impl fmt::Display) -> Self {
        let shown: String = value.chars().take(SHOWN_CHARS).collect();
        let cut = if shown.len() < value.len() { "…" } else { "" };
        Self::new(variable, format_args!("is {shown:?}{cut}: it must be {allowed}"))
    }

    /// The variable to change.
    #[must_use]
    pub fn variable(&self) -> &'static str {
        self.variable
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why the router does not start: every problem, one on a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub(super) Vec<Problem>);

impl ConfigErrors {
    /// The problems, in the order in which the variables are read.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
