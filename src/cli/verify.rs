//! `journal verify`: of the journal, or of an export.

use std::fmt::Write;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use super::say;
use crate::app;
use crate::config::Config;
use crate::journal::audit::Audit;
use crate::journal::{Head, JournalError, Report, Verification};
use crate::record;

/// What to check, and against what.
#[derive(Args)]
pub(super) struct Arguments {
    /// Check an export, which needs no router and no database, instead of the journal
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The export ends before the newest event: what was erased may be said to be so only after its end
    #[arg(long, requires = "file")]
    excerpt: bool,
    /// A head that was noted earlier, which must be there; may be given more than once
    #[arg(long = "head", value_name = "POSITION:HASH")]
    heads: Vec<Head>,
}

/// Checks the chain; broken is a failure that names the place.
pub(super) async fn verify(arguments: Arguments, config: &Config) -> Result<(), Failure> {
    let Arguments { file, excerpt, heads } = arguments;
    let (name, verification) = match &file {
        Some(file) => ("export", verify_file(file, excerpt, heads)?),
        None => ("journal", verify_journal(config, heads).await?),
    };
    match verification {
        Verification::Intact(report) => say(intact(&report)),
        Verification::Broken { position, what } => {
            Err(Failure::operation(format_args!("the {name} is broken at position {position}: {what}")))
        }
    }
}

async fn verify_journal(config: &Config, heads: Vec<Head>) -> Result<Verification, Failure> {
    let place = app::place(config);
    let failed = |error: JournalError| Failure::journal(&place, &error);
    let reader = place.read().await.map_err(failed)?;
    reader.verify_noted(heads).await.map_err(failed)
}

fn verify_file(path: &Path, excerpt: bool, heads: Vec<Head>) -> Result<Verification, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::operation(format_args!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| failed(&error))?;
    let audit = if excerpt { Audit::of_excerpt() } else { Audit::of_export() };
    record::file::verify(BufReader::new(file), audit.noting(heads)).map_err(|error| failed(&error))
}

/// What was found, in lines of which all but the first and the last are there only if they say something.
fn intact(report: &Report) -> String {
    let Report { from, events, erased, unchecked, pruned, head } = report;
    let mut text = format!("intact: {events} events");
    let mut line = |line: std::fmt::Arguments<'_>| write!(text, "\n{line}").expect("writing to a string cannot fail");
    if *pruned != Head::EMPTY {
        line(format_args!("pruned: up to {pruned}"));
    }
    if *from > pruned.position.next() {
        line(format_args!("from: {from}"));
    }
    if *erased > 0 {
        line(format_args!("erased payloads: {erased}"));
    }
    if *unchecked > 0 {
        line(format_args!("unchecked payloads: {unchecked}, as they are redacted"));
    }
    line(format_args!("head: {head}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Position;

    #[test]
    fn what_is_found_says_what_is_unusual() {
        let head = |position| Head { position: Position(position), hash: [0xab; 32] };
        let hash = "ab".repeat(32);
        let report =
            Report { from: Position(1), events: 14, erased: 0, unchecked: 0, pruned: Head::EMPTY, head: head(14) };
        assert_eq!(intact(&report), format!("intact: 14 events\nhead: 14:{hash}"));
        let report = Report { from: Position(9), pruned: head(8), erased: 1, unchecked: 2, ..report };
        let [pruned, erased, unchecked] = [
            format!("pruned: up to 8:{hash}"),
            "erased payloads: 1".into(),
            "unchecked payloads: 2, as they are redacted".into(),
        ];
        assert_eq!(intact(&report), format!("intact: 14 events\n{pruned}\n{erased}\n{unchecked}\nhead: 14:{hash}"));
        let report = Report { from: Position(9), erased: 0, unchecked: 0, pruned: Head::EMPTY, ..report };
        assert_eq!(intact(&report), format!("intact: 14 events\nfrom: 9\nhead: 14:{hash}"));
    }
}
