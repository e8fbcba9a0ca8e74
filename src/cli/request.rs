//! A request to the router that runs with these settings, on this machine.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::failure::Failure;
use crate::config::Config;

/// Longer than a healthy router ever takes, shorter than what containers wait for as a rule.
const PATIENCE: Duration = Duration::from_secs(4);

/// As much of an answer as is looked at.
const MAX_ANSWER_BYTES: u64 = 16 << 10;

/// What a router answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Where the router can be reached.
pub(super) fn router(config: &Config) -> Result<SocketAddr, Failure> {
    if config.listen_addr.port() == 0 {
        return Err(Failure::usage("LISTEN_ADDR has port 0: nobody can know which one the router took"));
    }
    Ok(reachable(config.listen_addr))
}

/// That a router did not answer.
pub(super) fn no_answer(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::operation(format_args!("no answer from {address}: {error}"))
}

/// Sends a request, such as `GET /health/ready`, and waits for the answer.
pub(super) fn send(
    address: SocketAddr,
    method_and_path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = format!("{method_and_path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    if !body.is_empty() {
        request.extend(["Content-Type: application/json\r\nContent-Length: ", &body.len().to_string(), "\r\n"]);
    }
    request.extend(["\r\n", body]);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what answers speaks no HTTP"))?;
    Ok(Answer { status, body: body.to_owned() })
}

/// Where a router that listens there can be reached from this machine.
fn reachable(listen_addr: SocketAddr) -> SocketAddr {
    let ip = match listen_addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    (ip, listen_addr.port()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_on_loopback() {
        for (listens, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
