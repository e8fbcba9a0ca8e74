//! The secrets, and whether they are good enough for the address that the router listens on.

use std::fmt;
use std::net::SocketAddr;

use super::problem::Problem;
use super::reader::Reader;
use super::secret::{ApiKey, MasterKeys, Mode, SecretKey};
use super::variables::{MASTER_AGENT_API_KEY, MASTER_BE_API_KEY, SECRET_KEY, Variable};

/// The shortest master's key that others than this machine may try to guess.
const MIN_API_KEY_BYTES: usize = 16;

/// Whose defaults anyone can look up; neither may stand in for the other.
const PUBLISHED_KEYS: [&Variable; 2] = [&MASTER_BE_API_KEY, &MASTER_AGENT_API_KEY];

/// Why a secret is good on a loopback address only. Tells nothing of the secret but its length.
enum Weakness {
    Unset,
    Published,
    Short { bytes: usize, least: usize },
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.write_str("is not set, so agents' tokens are not verified"),
            Self::Published => f.write_str("is the published example, so anyone knows it"),
            Self::Short { bytes, least } => {
                write!(f, "is {bytes} bytes long, which is less than {least}")
            }
        }
    }
}

/// Reads the secrets. A weak one is a problem where others can reach the router, and a warning on loopback.
pub(super) fn read(reader: &mut Reader<'_>, listen_addr: SocketAddr) -> (Mode, MasterKeys, Vec<String>) {
    let (mode, weak_secret) = mode(reader);
    let (backend, weak_backend) = api_key(reader, &MASTER_BE_API_KEY);
    let (ml, weak_ml) = api_key(reader, &MASTER_AGENT_API_KEY);
    if backend == ml {
        let message = format_args!("is the same as {}: the masters could not be told apart", MASTER_BE_API_KEY.name);
        reader.problems.push(Problem::new(&MASTER_AGENT_API_KEY, message));
    }

    let on_loopback = listen_addr.ip().to_canonical().is_loopback();
    let mut warnings = Vec::new();
    let weaknesses = [(&SECRET_KEY, weak_secret), (&MASTER_BE_API_KEY, weak_backend), (&MASTER_AGENT_API_KEY, weak_ml)];
    for (variable, weakness) in weaknesses {
        let Some(weakness) = weakness else { continue };
        if on_loopback {
            warnings.push(format!("{} {weakness}: fit for a loopback address only", variable.name));
        } else {
            let message = format_args!(
                "{weakness}, and others can reach {listen_addr}: \
                 set it to a random value of your own, for example from: openssl rand -hex 32"
            );
            reader.problems.push(Problem::new(variable, message));
        }
    }
    (mode, MasterKeys { backend, ml }, warnings)
}

fn mode(reader: &mut Reader<'_>) -> (Mode, Option<Weakness>) {
    match reader.text(&SECRET_KEY) {
        Some(key) => (Mode::Secured(SecretKey::new(&key)), short(&key, SecretKey::MIN_BYTES)),
        None => (Mode::Development, Some(Weakness::Unset)),
    }
}

fn api_key(reader: &mut Reader<'_>, variable: &Variable) -> (ApiKey, Option<Weakness>) {
    let key = reader.text(variable).or_else(|| variable.default.map(str::to_owned)).unwrap_or_default();
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "must be visible ASCII without spaces, as it goes in a header";
        reader.problems.push(Problem::new(variable, message));
    }
    let published = PUBLISHED_KEYS.iter().any(|published| published.default == Some(&key));
    let weakness = if published { Some(Weakness::Published) } else { short(&key, MIN_API_KEY_BYTES) };
    (ApiKey::new(&key), weakness)
}

fn short(secret: &str, least: usize) -> Option<Weakness> {
    (secret.len() < least).then_some(Weakness::Short { bytes: secret.len(), least })
}
