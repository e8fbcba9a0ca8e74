//! `token`: a JWT for an agent, for trying things out.

use std::time::Duration;

use clap::Args;
use rand::Rng;
use rand::distr::Alphanumeric;
use uuid::Uuid;

use super::failure::Failure;
use super::say;
use crate::auth::mint_agent_token;
use crate::clock::Clock;
use crate::config::{Config, Mode, SecretKey};

/// Ten thousand years would not fit into a date.
const MAX_LIFETIME: Duration = Duration::from_hours(100 * 365 * 24);

/// For whom, and for how long.
#[derive(Args)]
pub(super) struct Arguments {
    /// The agent's id, a UUID; it becomes the token's `sub`
    #[arg(long, value_name = "UUID")]
    agent: Uuid,
    /// How long the token is good: a number of s, m, h or d, at most 36500d
    #[arg(long, value_name = "DURATION", default_value = "365d", value_parser = lifetime)]
    expires_in: Duration,
}

/// Prints the token, and nothing else, on standard output.
pub(super) fn print(arguments: &Arguments, config: &Config) -> Result<(), Failure> {
    let throw_away;
    let secret = match &config.mode {
        Mode::Secured(secret) => secret,
        Mode::Development => {
            eprintln!(
                "SECRET_KEY is not set: signed with a random key, which is good enough for development mode alone"
            );
            throw_away = random_key();
            &throw_away
        }
    };
    let expires_at = Clock::start().now() + arguments.expires_in;
    say(mint_agent_token(secret, arguments.agent, expires_at))
}

fn random_key() -> SecretKey {
    let text: String = rand::rng().sample_iter(Alphanumeric).take(2 * SecretKey::MIN_BYTES).map(char::from).collect();
    SecretKey::new(&text)
}

fn lifetime(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    UNITS
        .iter()
        .find_map(|(unit, seconds)| {
            text.strip_suffix(unit)?.parse::<u32>().ok().map(|count| u64::from(count) * seconds)
        })
        .map(Duration::from_secs)
        .filter(|lifetime| !lifetime.is_zero() && *lifetime <= MAX_LIFETIME)
        .ok_or_else(|| "it must be a whole number of s, m, h or d, from 1s to 36500d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_a_unit_and_an_end() {
        assert_eq!(lifetime("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(lifetime("365d"), Ok(Duration::from_hours(365 * 24)));
        for text in ["", "d", "365", "0d", "-1d", "1w", "36501d", "99999999999d", "é"] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }
}
