//! Where the journal is.

use std::path::PathBuf;

use super::database_url::DatabaseUrl;

/// `DATABASE_URL`, understood, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file, made when it does not exist.
    Sqlite {
        /// The file, taken from the URL literally: nothing in it is percent-decoded.
        path: PathBuf,
    },
    /// A Postgres database, which must be there, and which several routers may share.
    Postgres {
        /// Where, as whom, and how.
        url: DatabaseUrl,
        /// The same database, without a pooler in between; `None`: `url` has none.
        notify_url: Option<DatabaseUrl>,
    },
}

impl Database {
    /// Fails with what is wrong. Only what is no credential is repeated: other schemes carry a password in the URL.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err("has no scheme: it must be sqlite:// and the path of a file, or postgres://…".to_owned());
        };
        match scheme {
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() || path.ends_with('/') {
                    return Err(format!("is {url:?}: it names no file, such as sqlite://agent-router.db"));
                }
                if path.contains(":memory:") {
                    return Err(format!("is {url:?}: the journal must be a file, memory is not durable"));
                }
                if path.contains(['?', '#']) || path.chars().any(char::is_control) {
                    return Err(format!("is {url:?}: it must be sqlite:// and a path, without parameters"));
                }
                Ok(Self::Sqlite { path: path.into() })
            }
            "postgres" | "postgresql" => Ok(Self::Postgres { url: DatabaseUrl::parse(url)?, notify_url: None }),
            _ => {
                Err("has a scheme that is not supported: it must be sqlite:// and the path of a file, or postgres://…"
                    .to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_sqlite_url_is_a_path() {
        let cases = [
            ("sqlite://agent-router.db", "agent-router.db"),
            ("sqlite:agent-router.db", "agent-router.db"),
            ("sqlite:///var/lib/router/j.db", "/var/lib/router/j.db"),
            ("sqlite:/var/j.db", "/var/j.db"),
            ("sqlite://../a b%20c.db", "../a b%20c.db"),
        ];
        for (url, path) in cases {
            assert_eq!(Database::parse(url), Ok(Database::Sqlite { path: Path::new(path).into() }), "{url}");
        }
    }

    #[test]
    fn a_postgres_url_is_kept_whole() {
        for url in ["postgres://router:hush@db/router", "postgresql://router:hush@db/router"] {
            match Database::parse(url) {
                Ok(Database::Postgres { url: parsed, notify_url: None }) => assert_eq!(parsed.expose(), url),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_durable_file_is_refused() {
        for url in ["sqlite:", "sqlite://", "sqlite:///tmp/", "sqlite::memory:", "sqlite://a.db?mode=ro", "a.db"] {
            assert!(Database::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn other_databases_are_refused_without_repeating_a_password() {
        let refusal = Database::parse("mysql://u:hush@h/db").unwrap_err();
        assert!(!refusal.contains("hush"), "{refusal}");
    }
}
