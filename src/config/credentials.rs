//! The secrets, and whether they are good enough for the address that the router listens on.

use std::fmt;
use std::net::SocketAddr;

use super::problem::Problem;
use super::reader::Reader;
use super::secret::{ApiKey, Keys, MasterKeys, Mode, SecretKey};
use super::variables::{
    AUDITOR_API_KEY, MASTER_AGENT_API_KEY, MASTER_BE_API_KEY, OPERATOR_API_KEY, SECRET_KEY, Variable,
};

/// The shortest key that others than this machine may try to guess.
const MIN_API_KEY_BYTES: usize = 16;

/// The most keys that make one role: enough to rotate them, few enough to compare with each.
const MAX_KEYS_OF_A_ROLE: usize = 8;

/// What makes an auditor or an operator of a router that one tries on one's own machine.
const LOCAL_AUDITOR: &str = "local-auditor";
/// The operator's key where none is set, in development mode.
pub const LOCAL_OPERATOR: &str = "local-operator";

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
pub(super) fn read(reader: &mut Reader<'_>, listen_addr: SocketAddr) -> (Mode, Keys, Vec<String>) {
    let on_loopback = listen_addr.ip().to_canonical().is_loopback();
    let (mode, weak_secret) = mode(reader);
    let (backend, weak_backend) = master_key(reader, &MASTER_BE_API_KEY);
    let (ml, weak_ml) = master_key(reader, &MASTER_AGENT_API_KEY);
    // Elsewhere development mode is a problem already, and a published key would only be a second one.
    let is_local = on_loopback && !mode.is_secured();
    let (auditors, weak_auditor) = role_keys(reader, &AUDITOR_API_KEY, is_local.then_some(LOCAL_AUDITOR));
    let (operators, weak_operator) = role_keys(reader, &OPERATOR_API_KEY, is_local.then_some(LOCAL_OPERATOR));
    let keys = Keys { masters: MasterKeys { backend, ml }, auditors, operators };
    each_has_one_role(reader, &keys);

    let mut warnings = Vec::new();
    let weaknesses = [
        (&SECRET_KEY, weak_secret),
        (&MASTER_BE_API_KEY, weak_backend),
        (&MASTER_AGENT_API_KEY, weak_ml),
        (&AUDITOR_API_KEY, weak_auditor),
        (&OPERATOR_API_KEY, weak_operator),
    ];
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
    (mode, keys, warnings)
}

fn mode(reader: &mut Reader<'_>) -> (Mode, Option<Weakness>) {
    match reader.text(&SECRET_KEY) {
        Some(key) => (Mode::Secured(SecretKey::new(&key)), short(&key, SecretKey::MIN_BYTES)),
        None => (Mode::Development, Some(Weakness::Unset)),
    }
}

fn master_key(reader: &mut Reader<'_>, variable: &Variable) -> (ApiKey, Option<Weakness>) {
    let key = reader.text(variable).or_else(|| variable.default.map(str::to_owned)).unwrap_or_default();
    api_key(reader, variable, &key)
}

/// The keys of a comma-separated list, and what is wrong with the first that is weak. Unset: `local`, if there is one.
fn role_keys(
    reader: &mut Reader<'_>,
    variable: &Variable,
    local: Option<&'static str>,
) -> (Vec<ApiKey>, Option<Weakness>) {
    let Some(list) = reader.text(variable).or_else(|| local.map(str::to_owned)) else {
        return (Vec::new(), None);
    };
    let keys: Vec<_> = list.split(',').map(str::trim).filter(|key| !key.is_empty()).collect();
    if keys.is_empty() || keys.len() > MAX_KEYS_OF_A_ROLE {
        let message = format_args!("holds {} keys: it must be 1 to {MAX_KEYS_OF_A_ROLE}, comma-separated", keys.len());
        reader.problems.push(Problem::new(variable, message));
        return (Vec::new(), None);
    }
    let (keys, weaknesses): (_, Vec<_>) = keys.into_iter().map(|key| api_key(reader, variable, key)).unzip();
    (keys, weaknesses.into_iter().flatten().next())
}

fn api_key(reader: &mut Reader<'_>, variable: &Variable, key: &str) -> (ApiKey, Option<Weakness>) {
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "must be visible ASCII without spaces, as it goes in a header";
        reader.problems.push(Problem::new(variable, message));
    }
    (ApiKey::new(key), if is_published(key) { Some(Weakness::Published) } else { short(key, MIN_API_KEY_BYTES) })
}

/// Whether anyone can look it up; one role's published key must not stand in for another's either.
fn is_published(key: &str) -> bool {
    [MASTER_BE_API_KEY.default, MASTER_AGENT_API_KEY.default, Some(LOCAL_AUDITOR), Some(LOCAL_OPERATOR)]
        .contains(&Some(key))
}

fn each_has_one_role(reader: &mut Reader<'_>, keys: &Keys) {
    let Keys { masters: MasterKeys { backend, ml }, auditors, operators } = keys;
    let roles = [
        (&MASTER_BE_API_KEY, std::slice::from_ref(backend)),
        (&MASTER_AGENT_API_KEY, std::slice::from_ref(ml)),
        (&AUDITOR_API_KEY, auditors),
        (&OPERATOR_API_KEY, operators),
    ];
    for (index, (variable, keys)) in roles.iter().enumerate() {
        for (earlier, others) in &roles[..index] {
            if keys.iter().any(|key| others.contains(key)) {
                let message = format_args!(
                    "has a key that {} has too, and who shows it could not be told apart: set them to different keys",
                    earlier.name
                );
                reader.problems.push(Problem::new(variable, message));
            }
        }
    }
}

fn short(secret: &str, least: usize) -> Option<Weakness> {
    (secret.len() < least).then_some(Weakness::Short { bytes: secret.len(), least })
}
