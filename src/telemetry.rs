//! Log lines: on standard error, as text or JSON, filtered by `RUST_LOG`.

use std::io::{self, IsTerminal};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::LogFormat;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed. That of a configuration can.
    #[error("RUST_LOG cannot be used: {0}")]
    Filter(#[from] ParseError),
    /// Something else in this process logs already.
    #[error("logging is set up already: {0}")]
    Installed(#[from] TryInitError),
}

/// Starts logging for the whole process, once. Each line is written as it comes: there is nothing to flush.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let colours = io::stderr().is_terminal();
    subscriber(format, filter, io::stderr, colours)?.try_init()?;
    Ok(())
}

fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
    colours: bool,
) -> Result<impl Subscriber + Send + Sync, ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let filter = EnvFilter::builder().parse(filter)?;
    Ok(tracing_subscriber::registry().with(lines).with(filter).with(filter_fn(tells_no_frames)))
}

/// At its finest level the WebSocket library writes whole frames, one with an agent's token to the backend among them.
fn tells_no_frames(metadata: &Metadata<'_>) -> bool {
    let of_websocket = ["tungstenite", "tokio_tungstenite"].iter().any(|name| metadata.target().starts_with(name));
    !(of_websocket && *metadata.level() == Level::TRACE)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged while `act` runs.
    fn logged(format: LogFormat, filter: &str, act: impl FnOnce()) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&written);
        let subscriber = subscriber(format, filter, move || Shared(Arc::clone(&writer)), false);
        tracing::subscriber::with_default(subscriber.unwrap(), act);
        String::from_utf8(written.lock().unwrap().clone()).unwrap()
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_filter_decides_what_is_logged() {
        let written = logged(LogFormat::Text, "warn,agent_router=info", || {
            tracing::info!(target: "agent_router::router", agent = "a", "connected");
            tracing::debug!(target: "agent_router::router", "not this");
            tracing::info!(target: "hyper", "nor this");
        });
        assert!(written.contains("INFO agent_router::router: connected agent=\"a\"\n"), "{written}");
        assert_eq!(written.lines().count(), 1, "{written}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let written = logged(LogFormat::Json, "info", || {
            tracing::info!(agent = "a", "connected");
        });
        let line: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!([&line["level"], &line["message"], &line["agent"]], ["INFO", "connected", "a"]);
    }

    #[test]
    fn frames_are_not_logged_at_any_level() {
        let written = logged(LogFormat::Text, "trace,tungstenite=trace", || {
            tracing::trace!(target: "tungstenite::protocol", "Sending frame: hush");
            tracing::debug!(target: "tungstenite::protocol", "closed");
        });
        assert!(written.contains("closed") && !written.contains("hush"), "{written}");
    }
}
