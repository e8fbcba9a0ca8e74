//! What a figure has to reach.

use std::fmt::{self, Display};

/// A figure, and what it has to reach.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) measured: f64,
    /// What is asked for.
    pub(crate) bound: f64,
    /// What would be good.
    pub(crate) aim: f64,
    pub(crate) unit: &'static str,
    /// Whether a figure below the bound is what reaches it.
    pub(crate) smaller_is_better: bool,
}

impl Bar {
    fn verdict(&self) -> &'static str {
        let reaches = |bound: f64| if self.smaller_is_better { self.measured <= bound } else { self.measured >= bound };
        match (reaches(self.aim), reaches(self.bound)) {
            (true, _) => "yes, and the aim",
            (false, true) => "yes",
            (false, false) => "**no**",
        }
    }
}

/// All of them, as a table of a page.
pub(crate) fn table(bars: &[Bar]) -> impl Display {
    fmt::from_fn(move |f| {
        writeln!(f, "| | measured | to be met | aim | met |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        for bar in bars {
            let Bar { name, measured, bound, aim, unit, smaller_is_better } = bar;
            let sign = if *smaller_is_better { "≤" } else { "≥" };
            let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
            let verdict = bar.verdict();
            writeln!(f, "| {name} | {measured:.2}{unit} | {sign} {bound}{unit} | {aim}{unit} | {verdict} |")?;
        }
        Ok(())
    })
}
