//! What peers show to be let in, and what forgers would show.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The backend's key in development, unless another is set.
pub(crate) const BACKEND_KEY: &str = "7a3fd399-3e48-46a0-ab7c-0eaf38020283::master_server_be";
/// The master agent's key in development, unless another is set.
pub(crate) const ML_KEY: &str = "e1adc3d8-fca1-40b2-b90a-7b48290f2d6a::master_server_ml";
/// The auditor's key of this suite's routers.
pub(crate) const AUDITOR_KEY: &str = "the-auditor-of-this-suite";
/// The operator's key of this suite's routers.
pub(crate) const OPERATOR_KEY: &str = "the-operator-of-this-suite";
/// The secret of routers in secured mode.
pub(crate) const SECRET: &str = "a secret that only this suite's routers know";

pub(crate) const BACKEND: &str = "master_server_be";
pub(crate) const ML: &str = "master_server_ml";

const YEAR_9999: i64 = 253_370_764_800;

/// An agent's token, good until the year 9999.
pub(crate) fn agent_token(agent: &str, secret: &str) -> String {
    token(&json!({"sub": agent, "exp": YEAR_9999}), secret, Algorithm::HS256)
}

/// A token with these claims, signed with HMAC.
pub(crate) fn token(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("the claims can be signed")
}

/// A token whose header says what it likes, with that signature.
pub(crate) fn forged(algorithm: &str, agent: &str, signature: &[u8]) -> String {
    let header = json!({"alg": algorithm, "typ": "JWT"}).to_string();
    let claims = json!({"sub": agent, "exp": YEAR_9999}).to_string();
    [header.as_bytes(), claims.as_bytes(), signature].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}
