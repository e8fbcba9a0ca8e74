//! The URL of a Postgres database: checked for its shape, and never shown with its password.

use std::fmt;
use std::net::IpAddr;

/// The parameters that may follow the `?`, by the names by which people know them.
const PARAMETERS: &str = "sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, dbname, user, password, \
                          application_name, options and statement-cache-capacity";

const SSL_MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Where a database is, as whom to log in, and how. `Debug` and `Display` leave out everything but user, host, port and
/// database.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    whole: Box<str>,
    shown: Box<str>,
}

impl DatabaseUrl {
    /// All of it, with the password: for the database's client alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.whole
    }

    /// Fails with what is wrong, of which nothing is repeated that may be part of a password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or("must be postgres://user:password@host:port/database")?;
        if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("has white space in it: a space is written %20".to_owned());
        }
        if rest.contains('#') {
            return Err("has a # in it, which is written %23".to_owned());
        }
        let (place, parameters) = rest.split_once('?').map_or((rest, None), |(place, list)| (place, Some(list)));
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        if path.contains(['@', '/']) {
            return Err(
                "has an @ or a / behind its host: in a user or a password, / is written %2F, @ %40, : %3A, ? %3F \
                        and % %25"
                    .to_owned(),
            );
        }
        let mut parts = Parts::default();
        parts.read_authority(authority)?;
        parts.database = decoded(path)?;
        let parameters = parameters.unwrap_or_default();
        // A ? in a password makes the rest of it look like parameters, and an @ follows.
        let may_be_named = !parameters.contains('@');
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            parts.read_parameter(name, &decoded(&value.replace('+', " "))?).map_err(|wrong| match wrong {
                WrongParameter::Unknown if may_be_named && is_plain(name) => {
                    format!("has a parameter {name}, which is not known: there are {PARAMETERS}")
                }
                WrongParameter::Unknown => format!("has a parameter that is not known: there are {PARAMETERS}"),
                WrongParameter::Value(what) => what,
            })?;
        }
        if parts.database.is_empty() {
            return Err("names no database, as postgres://user:password@host:port/database does".to_owned());
        }
        Ok(Self { whole: url.into(), shown: parts.to_string().into() })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.shown)
    }
}

/// What of a URL may be shown. Empty: it is not said, and the client's own default counts.
#[derive(Default)]
struct Parts {
    user: String,
    host: String,
    port: Option<u16>,
    database: String,
}

impl Parts {
    /// `user:password@host:port`, all of it optional.
    fn read_authority(&mut self, authority: &str) -> Result<(), String> {
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        if place.contains(',') {
            return Err("names several hosts: name one, which leads to the primary at any time".to_owned());
        }
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        decoded(password)?;
        self.user = decoded(user)?;
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (place, None),
        };
        let host = decoded(host)?;
        let is_address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_address = is_address.is_some_and(|address| address.parse::<IpAddr>().is_ok());
        if !is_address && host.contains(['[', ']', ':', '<', '>', '\\', '^', '|', '@']) {
            return Err(
                "has a host that is no name, no address ([::1] if it has colons) and no folder of a socket (%2Frun…)"
                    .to_owned(),
            );
        }
        self.host = host;
        self.port = port.filter(|port| !port.is_empty()).map(self::port).transpose()?;
        Ok(())
    }

    fn read_parameter(&mut self, name: &str, value: &str) -> Result<(), WrongParameter> {
        let wrong = |what: &str| Err(WrongParameter::Value(what.to_owned()));
        match name {
            "sslmode" | "ssl-mode" if !SSL_MODES.contains(&value) => {
                return wrong(&format!("has a wrong sslmode: it must be one of {}", SSL_MODES.join(", ")));
            }
            "statement-cache-capacity" if value.parse::<usize>().is_err() => {
                return wrong("has a wrong statement-cache-capacity: it must be a number");
            }
            "hostaddr" if value.parse::<IpAddr>().is_err() => {
                return wrong("has a wrong hostaddr: it must be an IP address");
            }
            _ if value.is_empty() => return wrong("has a parameter without a value"),
            "host" | "hostaddr" => value.clone_into(&mut self.host),
            "port" => self.port = Some(port(value).map_err(WrongParameter::Value)?),
            "dbname" => value.clone_into(&mut self.database),
            "user" => value.clone_into(&mut self.user),
            "sslmode"
            | "ssl-mode"
            | "sslrootcert"
            | "ssl-root-cert"
            | "ssl-ca"
            | "sslcert"
            | "ssl-cert"
            | "sslkey"
            | "ssl-key"
            | "statement-cache-capacity"
            | "password"
            | "application_name"
            | "options" => {}
            _ if name.starts_with("options[") && name.ends_with(']') => {}
            _ => return Err(WrongParameter::Unknown),
        }
        Ok(())
    }
}

/// Why a parameter cannot be used.
enum WrongParameter {
    /// The database's client would leave it out without a word.
    Unknown,
    /// This is wrong with its value.
    Value(String),
}

/// Whether it looks like the name of a parameter.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte))
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, database } = self;
        f.write_str("postgres://")?;
        if !user.is_empty() {
            write!(f, "{user}@")?;
        }
        f.write_str(&host.replace('/', "%2F"))?;
        if let Some(port) = port {
            write!(f, ":{port}")?;
        }
        write!(f, "/{database}")
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|&port| port > 0).ok_or_else(|| {
        "has a port that is no number from 1 to 65535 (in a user or a password, : is written %3A and @ %40)".to_owned()
    })
}

fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "has a % that begins no printable character in UTF-8: it is written %25 itself".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = behind;
            continue;
        }
        let (digits, behind) = behind.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        bytes.push(digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(wrong)?);
        rest = behind;
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_whole_and_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://router:hush@db.example.com/journal", "postgres://router@db.example.com/journal"),
            ("postgresql://router:hush@db:6432/journal?sslmode=verify-full", "postgres://router@db:6432/journal"),
            ("postgres://router:hu%2Fsh%40@[::1]:5432/journal", "postgres://router@[::1]:5432/journal"),
            ("postgres://router@%2Frun%2Fpostgresql/journal", "postgres://router@%2Frun%2Fpostgresql/journal"),
            ("postgres:///?host=/run/pg&dbname=j&user=r&password=hush&port=99", "postgres://r@%2Frun%2Fpg:99/j"),
            ("postgres:///journal?options[search_path]=hush&application_name=a+b", "postgres:///journal"),
            ("postgres://h/j?statement-cache-capacity=0&hostaddr=10.0.0.7", "postgres://10.0.0.7/j"),
        ] {
            let parsed = DatabaseUrl::parse(url).unwrap_or_else(|wrong| panic!("{url} {wrong}"));
            assert_eq!((parsed.expose(), parsed.to_string().as_str()), (url, shown));
            assert!(!format!("{parsed:?}").contains("hush"), "{parsed:?}");
        }
    }

    #[test]
    fn what_cannot_be_right_is_named_without_the_password() {
        for (url, what) in [
            ("postgres:db", "must be postgres://"),
            ("postgres://router:hush@db", "names no database"),
            ("postgres://router:hush@db/", "names no database"),
            ("postgres://router:hu sh@db/j", "white space"),
            ("postgres://router:hu#sh@db/j", "%23"),
            ("postgres://router:hu/sh@db/j", "%2F"),
            ("postgres://router:hu%sh@db/j", "%25"),
            ("postgres://router:hush@db:5432x/j", "port"),
            ("postgres://router:hush@db:0/j", "port"),
            ("postgres://router:hush@a:1,b:2/j", "several hosts"),
            ("postgres://router:hush@[::1/j", "host"),
            ("postgres://router:hush@db/j?sslmode=on", "verify-full"),
            ("postgres://router:hush@db/j?connect_timeout=5", "connect_timeout, which is not known: there are sslmode"),
            ("postgres://router:hush@db/j?sslrootcert", "without a value"),
            ("postgres://router:hush@db/j?statement-cache-capacity=none", "a number"),
            ("postgres://router:hush@db/j?hostaddr=db", "an IP address"),
            ("postgres://router:12?hush@db/j", ""),
            ("postgres://router:hu?hush&hush@db/j", ""),
            ("postgres://router:hu/hush", ""),
        ] {
            let wrong = DatabaseUrl::parse(url).expect_err(url);
            assert!(wrong.contains(what), "{url}: {wrong}");
            assert!(!wrong.contains("hush"), "{wrong}");
        }
    }
}
