//! `healthcheck`: one request to a router on this machine.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::failure::Failure;
use super::say;
use crate::config::Config;

/// Longer than a healthy router ever takes, shorter than what containers wait for as a rule.
const PATIENCE: Duration = Duration::from_secs(4);

/// As much of an answer as is looked at.
const MAX_ANSWER_BYTES: u64 = 16 << 10;

/// Succeeds if `GET /health/ready` is answered with 200.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    if config.listen_addr.port() == 0 {
        return Err(Failure::usage("LISTEN_ADDR has port 0: nobody can know which one the router took"));
    }
    let address = reachable(config.listen_addr);
    let answer = ask(address).map_err(|error| Failure::operation(format_args!("no answer from {address}: {error}")))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        say("ready")
    } else {
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Err(Failure::operation(format_args!("not ready: {status} {body}")))
    }
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

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
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
