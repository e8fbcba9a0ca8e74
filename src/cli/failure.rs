//! How a command went wrong, and the exit code for it.

use std::fmt;
use std::process::ExitCode;

use crate::journal::{JournalError, Place};

/// Why the process does not exit with 0.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// It was tried and did not work: 1.
    pub(super) fn operation(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }

    /// It was asked for in a way that cannot work: 2, as for arguments.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 2 }
    }

    /// The journal in this place did not do as it was asked: 1.
    pub(super) fn journal(place: &Place, error: &JournalError) -> Self {
        match error {
            JournalError::InUse(_) | JournalError::Superseded(_) => Self::operation(error),
            _ => Self::operation(format_args!("{place}: {error}")),
        }
    }

    /// A signal cut it short: what a shell reports of a process that the signal killed.
    pub(super) fn signal(number: u8) -> Self {
        Self { message: "cut short by a second signal".to_owned(), code: 128 + number }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
