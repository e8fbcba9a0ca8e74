//! `journal export` and `backup`: copies of the journal, to read and to keep.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::say;
use crate::app;
use crate::config::Config;
use crate::id::Position;
use crate::journal::audit::Erasable;
use crate::journal::sqlite;
use crate::journal::{EventRecord, Head, JournalError, Place, Reader};
use crate::new_file::NewFile;
use crate::protocol::Redactor;
use crate::record;

/// Bytes written at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// What to export, and where to.
#[derive(Args)]
pub(super) struct ExportArguments {
    /// Write to this new file; it is there only once it is whole. Otherwise: to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The first event
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    from: Option<i64>,
    /// The last event. Otherwise: the newest
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    to: Option<i64>,
}

/// Where to copy to.
#[derive(Args)]
pub(super) struct BackupArguments {
    /// A new file; it is there only once it is whole
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Copies the journal, and says how far the copy goes.
pub(super) async fn backup(arguments: &BackupArguments, config: &Config) -> Result<(), Failure> {
    let place = app::place(config);
    let Place::Sqlite { path } = &place else {
        return Err(Failure::usage(
            "the journal is in a Postgres database, which has tools of its own for copies: use pg_dump, or its physical \
             backups",
        ));
    };
    let to = &arguments.to;
    sqlite::backup(path, to).await.map_err(|error| Failure::journal(&place, &error))?;
    let copy = Place::Sqlite { path: to.clone() };
    let failed = |error: JournalError| Failure::journal(&copy, &error);
    let reader = copy.read().await.map_err(failed)?;
    let head = reader.head().await.map_err(failed)?;
    reader.close().await;
    say(format_args!("copied to {}\nhead: {head}", to.display()))
}

/// Writes events, a line each, and says how far they go, on standard error.
pub(super) async fn export(arguments: &ExportArguments, config: &Config) -> Result<(), Failure> {
    let place = app::place(config);
    let reader = place.read().await.map_err(|error| Failure::journal(&place, &error))?;
    let redactor = Redactor::new(&config.redact_keys);
    let exported = match &arguments.out {
        None => {
            let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
            Export::new(reader, redactor, out).write(arguments, &place).await?
        }
        Some(out) => {
            let unwritable =
                |error: io::Error| Failure::operation(format_args!("{}: {}", out.display(), reason(&error)));
            let file = match &place {
                Place::Sqlite { path } => NewFile::begin(out, path),
                Place::Postgres { .. } => NewFile::begin_private(out),
            };
            let file = file.map_err(unwritable)?;
            let out = OpenOptions::new().write(true).open(file.part()).map_err(unwritable)?;
            let out = BufWriter::with_capacity(BUFFER_BYTES, out);
            let exported = Export::new(reader, redactor, out).write(arguments, &place).await?;
            file.finish().map_err(unwritable)?;
            exported
        }
    };
    eprintln!("exported: {} events\nhead: {}", exported.events, exported.last);
    Ok(())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "there is a file of that name already: name another".to_owned(),
        _ => error.to_string(),
    }
}

/// What was written.
struct Exported {
    events: u64,
    last: Head,
}

/// An export under way. Takes the memory of one page of events.
struct Export<W> {
    reader: Reader,
    redactor: Redactor,
    out: W,
    exported: Exported,
    /// What has payloads that are gone, and no event so far that says so.
    unexplained: HashSet<Erasable>,
}

impl<W: Write> Export<W> {
    fn new(reader: Reader, redactor: Redactor, out: W) -> Self {
        let exported = Exported { events: 0, last: Head::EMPTY };
        Self { reader, redactor, out, exported, unexplained: HashSet::new() }
    }

    async fn write(mut self, arguments: &ExportArguments, place: &Place) -> Result<Exported, Failure> {
        let failed = |error: JournalError| Failure::journal(place, &error);
        let head = self.reader.head().await.map_err(failed)?.position;
        let mut after = Position(arguments.from.unwrap_or(1) - 1);
        let mut last = arguments.to.map_or(head, |to| head.min(Position(to)));
        loop {
            let page = self.reader.page(after, last).await.map_err(failed)?;
            for event in &page {
                if self.exported.events > 0 && event.position > after.next() {
                    self.check_gap(event.position).await.map_err(failed)?;
                }
                after = event.position;
                self.write_event(event).map_err(|error| Failure::operation(format_args!("cannot write: {error}")))?;
            }
            if !page.is_empty() {
                continue;
            }
            // What is erased while this goes on is gone from here and said only behind the head that it began with.
            let newest = self.reader.head().await.map_err(failed)?.position;
            if arguments.to.is_some() || self.unexplained.is_empty() || newest <= last {
                break;
            }
            last = newest;
        }
        self.out.flush().map_err(|error| Failure::operation(format_args!("cannot write: {error}")))?;
        Ok(self.exported)
    }

    /// Events before this one are missing. Damage is exported as it is; pruning makes this export useless.
    async fn check_gap(&self, next: Position) -> Result<(), JournalError> {
        let pruned = self.reader.pruned().await?.position;
        if pruned.next() < next {
            return Ok(());
        }
        Err(JournalError::Unavailable(format!("events up to {pruned} were pruned while they were exported; try again")))
    }

    fn write_event(&mut self, event: &EventRecord) -> io::Result<()> {
        self.unexplained.extend(event.gone());
        for erased in event.erased() {
            self.unexplained.remove(&erased);
        }
        self.exported.events += 1;
        self.exported.last = Head { position: event.position, hash: event.hash };
        self.out.write_all(&record::event_line(event, &self.redactor))?;
        self.out.write_all(b"\n")
    }
}
