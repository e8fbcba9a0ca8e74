//! Which web pages may open a socket. A browser sends `Origin` and cannot be made to leave it out, so a page from
//! elsewhere cannot reach a router on its visitor's own machine.

use std::net::Ipv6Addr;

/// `ALLOWED_ORIGINS`, in lower case. Empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<String>);

impl AllowedOrigins {
    /// Fails with the words that follow "must be".
    pub(super) fn parse(list: &str) -> Result<Self, String> {
        list.split(',')
            .map(str::trim)
            .filter(|origin| !origin.is_empty())
            .map(|origin| {
                Some(origin.to_ascii_lowercase()).filter(|origin| is_origin(origin)).ok_or_else(|| {
                    "a comma-separated list of http(s)://host[:port], without a path, a wildcard or a default port"
                        .to_owned()
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether a request with this `Origin` may open a socket. One without the header always may.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

/// Whether a browser would send exactly this: it leaves out the path and the port that the scheme implies.
fn is_origin(text: &str) -> bool {
    let Some((scheme @ ("http" | "https"), authority)) = text.split_once("://") else {
        return false;
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host_is_plain = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    let implied_port = if scheme == "http" { 80 } else { 443 };
    host_is_plain && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != implied_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_whole() {
        let origins =
            AllowedOrigins::parse("https://console.example.com, http://LOCALHOST:3000, http://[::1]:8000,").unwrap();
        assert!(origins.allows("https://console.example.com"));
        assert!(origins.allows("http://localhost:3000"));
        assert!(origins.allows("http://[::1]:8000"));
        for other in [
            "",
            "null",
            "http://console.example.com",
            "https://console.example.com.evil.test",
            "https://evil.test/https://console.example.com",
            "http://localhost",
            "http://localhost:30001",
        ] {
            assert!(!origins.allows(other), "{other}");
        }
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        assert!(!AllowedOrigins::default().allows("http://localhost"));
        assert!(!AllowedOrigins::default().allows("null"));
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for wrong in [
            "*",
            "null",
            "example.com",
            "https://",
            "https://example.com/",
            "https://*.example.com",
            "https://example.com:443",
            "https://example.com:port",
            "https://user@example.com",
            "https://[::1",
            "ftp://example.com",
            "https://a b",
            "https://ok.example, nonsense",
        ] {
            assert!(AllowedOrigins::parse(wrong).is_err(), "{wrong}");
        }
    }
}
