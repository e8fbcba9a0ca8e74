//! The configuration: the environment and `.env`, validated once at the start.
//!
//! Every problem is reported in one go. Secrets are in types that cannot be printed. Depends on `id` alone; anything may
//! depend on it.

mod credentials;
mod database;
mod database_url;
mod dotenv;
mod limits;
mod origins;
mod problem;
mod rate_limit;
mod reader;
mod secret;
mod value;
mod variables;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

pub use credentials::LOCAL_OPERATOR;
pub use database::Database;
pub use database_url::DatabaseUrl;
pub use dotenv::{DotenvError, load_dotenv};
pub use limits::{Limits, SocketSettings};
pub use origins::AllowedOrigins;
pub use problem::{ConfigErrors, Problem};
pub use rate_limit::{RateLimit, RateLimits};
pub use secret::{ApiKey, Keys, MasterKeys, Mode, SecretKey};
pub use variables::{VARIABLES, Variable};

use reader::Reader;
use variables as v;

/// The longest `NODE_ID`, in bytes.
const MAX_NODE_ID_BYTES: usize = 255;

/// The most names in `REDACT_KEYS`, and the longest of them: every field of every payload is compared with them.
const MAX_REDACT_KEYS: usize = 64;
const MAX_REDACT_KEY_BYTES: usize = 128;

/// Everything that an operator can decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen_addr: SocketAddr,
    /// Where the journal is.
    pub database: Database,
    /// This router's name in the journal, the same after every restart.
    pub node_id: String,
    /// Whether agents' tokens are verified, and with which key.
    pub mode: Mode,
    /// What makes somebody a master, an auditor or an operator.
    pub keys: Keys,
    /// Which web pages may open a socket.
    pub allowed_origins: AllowedOrigins,
    /// The defaults and bounds of the protocol.
    pub limits: Limits,
    /// How often each identity may have an agent invoked.
    pub rate_limits: RateLimits,
    /// How sockets are held.
    pub socket: SocketSettings,
    /// Fields whose values are hidden from readers, in lower case.
    pub redact_keys: Vec<String>,
    /// How long the journal keeps what happened; `None`: for ever.
    pub retention: Option<Duration>,
    /// How long a shutdown may take.
    pub shutdown_grace: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged: a filter that is known to parse.
    pub log_filter: String,
    warnings: Vec<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl Config {
    /// From the environment. `.env` counts if [`load_dotenv`] was called before.
    pub fn from_env() -> Result<Self, ConfigErrors> {
        Self::read(&|name| std::env::var_os(name))
    }

    /// From whatever `lookup` finds by a variable's name.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        Self::read(&|name| lookup(name).map(OsString::from))
    }

    /// What the operator should know, one sentence each: secrets that are good on loopback only.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The router's name when it listens there: where any port was asked for, the default name is of the one it got, so that
    /// two routers do not have the same.
    #[must_use]
    pub fn node_id_at(&self, bound: SocketAddr) -> String {
        let any_port = format!("/{}", self.listen_addr);
        match self.node_id.strip_suffix(&any_port) {
            Some(host) if self.listen_addr.port() == 0 => format!("{host}/{bound}"),
            _ => self.node_id.clone(),
        }
    }

    fn read(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(lookup);
        let listen_addr = reader.required(&v::LISTEN_ADDR, listen_addr);
        let database = database(&mut reader);
        let node_id = reader
            .optional(&v::NODE_ID, node_id)
            .unwrap_or_else(|| format!("{}/{listen_addr}", host_name().unwrap_or_else(|| "localhost".to_owned())));
        let (mode, keys, warnings) = credentials::read(&mut reader, listen_addr);
        let config = Self {
            listen_addr,
            database,
            node_id,
            rate_limits: RateLimits::read(&mut reader, &mode),
            mode,
            keys,
            allowed_origins: reader.optional(&v::ALLOWED_ORIGINS, AllowedOrigins::parse).unwrap_or_default(),
            limits: Limits::read(&mut reader),
            socket: SocketSettings::read(&mut reader),
            redact_keys: reader.required(&v::REDACT_KEYS, redact_keys),
            retention: reader.optional(&v::RETENTION_DAYS, retention),
            shutdown_grace: reader.duration(&v::SHUTDOWN_GRACE, Duration::ZERO..=Duration::from_hours(1)),
            log_format: reader.required(&v::LOG_FORMAT, log_format),
            log_filter: reader.required(&v::RUST_LOG, log_filter),
            warnings,
        };
        if reader.problems.is_empty() { Ok(config) } else { Err(ConfigErrors(reader.problems)) }
    }
}

fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    let localhost = || text.strip_prefix("localhost:")?.parse().ok().map(|port| (Ipv4Addr::LOCALHOST, port).into());
    text.parse().ok().or_else(localhost).ok_or_else(|| {
        "an IP address and a port, such as 127.0.0.1:8080, localhost:8080, 0.0.0.0:8080 or [::1]:0".to_owned()
    })
}

/// Not read like the others: what is wrong with a URL is said without repeating a password.
fn database(reader: &mut Reader<'_>) -> Database {
    let url = reader.text(&v::DATABASE_URL);
    let url = url.as_deref().or(v::DATABASE_URL.default).unwrap_or_default();
    let notify = reader.text(&v::NOTIFY_DATABASE_URL);
    let notify = notify.as_deref().and_then(|url| match DatabaseUrl::parse(url) {
        Ok(url) => Some(url),
        Err(wrong) => {
            reader.problems.push(Problem::new(&v::NOTIFY_DATABASE_URL, wrong));
            None
        }
    });
    match Database::parse(url) {
        Ok(Database::Postgres { url, .. }) => Database::Postgres { url, notify_url: notify },
        Ok(sqlite) => {
            if notify.is_some() {
                let wrong = "is set, and DATABASE_URL names no Postgres database: leave it out";
                reader.problems.push(Problem::new(&v::NOTIFY_DATABASE_URL, wrong));
            }
            sqlite
        }
        Err(wrong) => {
            reader.problems.push(Problem::new(&v::DATABASE_URL, wrong));
            Database::Sqlite { path: Path::new("").into() }
        }
    }
}

fn node_id(text: &str) -> Result<String, String> {
    Some(text.to_owned())
        .filter(|text| text.len() <= MAX_NODE_ID_BYTES && !text.chars().any(char::is_control))
        .ok_or_else(|| format!("1 to {MAX_NODE_ID_BYTES} bytes without control characters"))
}

fn redact_keys(text: &str) -> Result<Vec<String>, String> {
    let is_name = |name: &&str| name.len() <= MAX_REDACT_KEY_BYTES && name.contains(|c: char| !matches!(c, '-' | '_'));
    let names: Vec<_> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    Some(names)
        .filter(|names| names.len() <= MAX_REDACT_KEYS && names.iter().all(is_name))
        .map(|names| names.into_iter().map(str::to_lowercase).collect())
        .ok_or_else(|| {
            format!(
                "up to {MAX_REDACT_KEYS} comma-separated names of fields, each of up to {MAX_REDACT_KEY_BYTES} bytes \
                 and of more than hyphens and underscores"
            )
        })
}

fn retention(text: &str) -> Result<Duration, String> {
    value::count(text, &(1_u64..=36_500)).map(|days| Duration::from_hours(24 * days))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json".to_owned()),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("a level (error, warn, info, debug, trace), or levels by module ({error})")),
    }
}

/// The machine's name, as Linux tells it; other systems get along with `NODE_ID`.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
