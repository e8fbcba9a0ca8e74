//! The `.env` file of the working directory.

use std::io::{self, Read};
use std::path::Path;

/// Why `.env` could not be loaded. Says where, never what: the file holds secrets.
#[derive(Debug, thiserror::Error)]
pub enum DotenvError {
    /// It is there, but cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A line is not `NAME=value`, or a quote or substitution in it is wrong.
    #[error("{path}, line {line}: not a valid NAME=value (put a value with spaces, # or $ in single quotes)")]
    Malformed {
        /// The file.
        path: String,
        /// The line on which the entry begins, from 1.
        line: usize,
    },
}

/// Loads the file into the process's environment; what the environment has already stays. Whether there was a file.
///
/// To be called before any other thread is started: changing the environment is not thread-safe.
pub fn load_dotenv(path: &Path) -> Result<bool, DotenvError> {
    let shown = || path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => {
            return Err(DotenvError::Unreadable { path: shown(), source });
        }
    };
    let mut lines = LineByLine { text: &text, read: 0 };
    match dotenvy::from_read(&mut lines) {
        Ok(()) => Ok(true),
        Err(dotenvy::Error::LineParse(entry, _)) => {
            Err(DotenvError::Malformed { path: shown(), line: lines.line_of(&entry) })
        }
        Err(error) => Err(DotenvError::Unreadable { path: shown(), source: io::Error::other(error.to_string()) }),
    }
}

/// Gives out one line a read, so that what has been read tells where the parser stopped; it does not say itself.
struct LineByLine<'a> {
    text: &'a str,
    read: usize,
}

impl LineByLine<'_> {
    /// The line on which the entry begins that was read last. An open quote makes it span several.
    fn line_of(&self, entry: &str) -> usize {
        let read = self.text.as_bytes()[..self.read].split_inclusive(|byte| *byte == b'\n').count();
        (read + 1).saturating_sub(entry.lines().count().max(1)).max(1)
    }
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.text.as_bytes()[self.read..];
        let line = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let taken = line.min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.read += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<bool, DotenvError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        std::fs::write(&path, text).unwrap();
        load_dotenv(&path)
    }

    #[test]
    fn no_file_is_fine() {
        assert!(!load_dotenv(Path::new("no-such-folder/.env")).unwrap());
    }

    #[test]
    fn what_the_environment_has_stays() {
        let path = std::env::var("PATH").unwrap();
        assert!(load("# comment\n\nPATH=changed\nDOTENV_TEST_NEW='a # $b'\nexport DOTENV_TEST_EXPORTED=1\n").unwrap());
        assert_eq!(std::env::var("PATH").unwrap(), path);
        assert_eq!(std::env::var("DOTENV_TEST_NEW").unwrap(), "a # $b");
        assert_eq!(std::env::var("DOTENV_TEST_EXPORTED").unwrap(), "1");
    }

    #[test]
    fn a_malformed_line_is_named_without_its_text() {
        let cases = [
            ("hush", 1),
            ("# one\n\nDOTENV_TEST_A=1\nSECRET KEY=hush\nDOTENV_TEST_B=2\n", 4),
            ("DOTENV_TEST_A=1\r\nDOTENV_TEST_SECRET=hush hush\r\n", 2),
            ("DOTENV_TEST_A=1\nDOTENV_TEST_SECRET='hush\nDOTENV_TEST_B=2\nDOTENV_TEST_C=3\n", 2),
        ];
        for (text, line) in cases {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(&format!(".env, line {line}:")), "{text:?}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
