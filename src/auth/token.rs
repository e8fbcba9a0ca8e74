//! Agents' tokens: JWTs, HS256, with `sub` and `exp`.

use std::fmt;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::auth::Refused;
use crate::clock::Timestamp;
use crate::config::SecretKey;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A token for one agent, as the backend makes them. `expires_at` counts in whole seconds and may be in the year 9999.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "it does not panic")]
pub fn mint_agent_token(secret: &SecretKey, agent: Uuid, expires_at: Timestamp) -> String {
    #[derive(Serialize)]
    struct Minted {
        sub: Uuid,
        exp: i64,
    }
    let claims = Minted { sub: agent, exp: expires_at.as_micros() / MICROS_PER_SECOND };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("a UUID and a number can be written as JSON, and HMAC takes a key of any length")
}

/// What is read of a token; times may have a fraction (RFC 7519, section 2).
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

/// Verifies tokens with `SECRET_KEY`.
#[derive(Clone)]
pub(super) struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    pub(super) fn new(secret: &SecretKey) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked here, against the clock that is given; the library would read its own.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.required_spec_claims.clear();
        Self { key: DecodingKey::from_secret(secret.as_bytes()), validation }
    }

    /// The subject of a token that is genuine and in time: before `exp`, which must be there, and not before `nbf`. There
    /// is no leeway for clocks that differ; a token's `exp` is far enough away not to need one.
    pub(super) fn subject(&self, token: &str, now: Timestamp) -> Result<String, Refused> {
        let verified = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).map_err(|error| {
            match error.kind() {
                ErrorKind::InvalidSignature => Refused::Signature,
                ErrorKind::InvalidAlgorithm => Refused::Algorithm,
                ErrorKind::InvalidAudience => Refused::Purpose,
                // Of an algorithm that the library has never heard of, `none` above all, it says no more than that.
                _ if has_other_algorithm(token) => Refused::Algorithm,
                _ => Refused::MalformedToken,
            }
        })?;
        if verified.header.crit.is_some() {
            return Err(Refused::Purpose);
        }
        let Claims { sub, exp, nbf } = verified.claims;
        if !exp.is_some_and(f64::is_finite) {
            return Err(Refused::NoExpiry);
        }
        if exp.is_some_and(|exp| now >= moment(exp)) {
            return Err(Refused::Expired);
        }
        if nbf.is_some_and(|nbf| now < moment(nbf)) {
            return Err(Refused::NotYetValid);
        }
        sub.ok_or(Refused::SubjectNotUuid)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(redacted)")
    }
}

/// `seconds` since the epoch; out of range, the farthest moment there is.
#[expect(clippy::cast_possible_truncation, reason = "saturates, which is what is wanted of a distant time")]
fn moment(seconds: f64) -> Timestamp {
    Timestamp::from_micros((seconds * 1e6) as i64)
}

/// Whether it looks like a token, whoever made it.
pub(super) fn is_token(text: &str) -> bool {
    payload_of_jwt(text).is_some()
}

/// The subject of what looks like a JWT, whoever made it: for development mode. None if it is no JWT at all.
pub(super) fn unverified_subject(value: &str) -> Result<Option<String>, Refused> {
    let Some(payload) = payload_of_jwt(value) else {
        return Ok(None);
    };
    let claims: Value =
        decode_part(payload).and_then(|json| serde_json::from_slice(&json).ok()).ok_or(Refused::MalformedToken)?;
    match claims.get("sub") {
        Some(Value::String(subject)) => Ok(Some(subject.clone())),
        _ => Err(Refused::MalformedToken),
    }
}

/// The middle part, if there are three and the first is a JWT's header. A bare name may have dots, but not that.
fn payload_of_jwt(value: &str) -> Option<&str> {
    let mut parts = value.split('.');
    let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    (parts.next().is_none() && algorithm(header).is_some()).then_some(payload)
}

fn has_other_algorithm(token: &str) -> bool {
    token.split('.').next().and_then(algorithm).is_some_and(|name| name != "HS256")
}

fn algorithm(header: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        alg: String,
    }
    serde_json::from_slice::<Named>(&decode_part(header)?).ok().map(|header| header.alg)
}

fn decode_part(part: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&URL_SAFE, LENIENT).decode(part).ok()
}
