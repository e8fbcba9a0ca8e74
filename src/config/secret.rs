//! Secrets, in types that cannot be printed and are compared in constant time.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::id::Identity;

/// The key that signs agents' tokens, HS256: the bytes of `SECRET_KEY` as they are.
#[derive(Clone)]
pub struct SecretKey(Box<[u8]>);

impl SecretKey {
    /// The shortest one that is safe: as long as the hash that it keys.
    pub const MIN_BYTES: usize = 32;

    /// Takes the text as it is.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().into())
    }

    /// The bytes, for signing and verifying only.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

/// A key of a master, an auditor or an operator. Only its SHA-256 is kept: enough to recognise the key, nothing to leak,
/// and what is compared has the same length whatever was presented.
#[derive(Clone)]
pub struct ApiKey([u8; 32]);

impl ApiKey {
    /// The key with this text.
    #[must_use]
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether `presented` is this key; takes the same time for every wrong key of one length.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.ct_eq(&Sha256::digest(presented)).into()
    }
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(redacted)")
    }
}

/// The keys of the two masters; never equal.
#[derive(Clone, Debug, PartialEq)]
pub struct MasterKeys {
    /// Of `master_server_be`.
    pub backend: ApiKey,
    /// Of `master_server_ml`.
    pub ml: ApiKey,
}

impl MasterKeys {
    /// The master whose key this is. Both keys are always compared.
    #[must_use]
    pub fn master(&self, presented: &[u8]) -> Option<Identity> {
        let [backend, ml] = [&self.backend, &self.ml].map(|key| key.matches(presented));
        backend.then(Identity::backend).or_else(|| ml.then(Identity::ml))
    }
}

/// Everything that makes somebody more than an agent. No key is in two places.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// Of the two masters.
    pub masters: MasterKeys,
    /// Each makes an auditor.
    pub auditors: Vec<ApiKey>,
    /// Each makes an operator.
    pub operators: Vec<ApiKey>,
}

impl Keys {
    /// Whether this is an auditor's key. All of them are always compared.
    #[must_use]
    pub fn is_auditor(&self, presented: &[u8]) -> bool {
        is_one_of(&self.auditors, presented)
    }

    /// Whether this is an operator's key. All of them are always compared.
    #[must_use]
    pub fn is_operator(&self, presented: &[u8]) -> bool {
        is_one_of(&self.operators, presented)
    }

    /// Whether this is anybody's key. All of them are always compared.
    #[must_use]
    pub fn is_any(&self, presented: &[u8]) -> bool {
        let masters = [&self.masters.backend, &self.masters.ml];
        is_one_of(masters.into_iter().chain(&self.auditors).chain(&self.operators), presented)
    }
}

/// Goes on behind a key that matches, so that the time tells nothing of which it was.
fn is_one_of<'a>(keys: impl IntoIterator<Item = &'a ApiKey>, presented: &[u8]) -> bool {
    let presented = ApiKey::new(presented);
    keys.into_iter().fold(Choice::from(0), |found, key| found | key.0.ct_eq(&presented.0)).into()
}

/// Whether agents' tokens are verified.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// They are not: on a loopback address only.
    Development,
    /// They are, with this key.
    Secured(SecretKey),
}

impl Mode {
    /// Whether agents' tokens are verified.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        matches!(self, Self::Secured(_))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_secured() { "secured" } else { "development" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> MasterKeys {
        MasterKeys { backend: ApiKey::new("be-key"), ml: ApiKey::new("ml-key") }
    }

    #[test]
    fn a_key_makes_its_master_and_nothing_else_does() {
        assert_eq!(keys().master(b"be-key"), Some(Identity::backend()));
        assert_eq!(keys().master(b"ml-key"), Some(Identity::ml()));
        for wrong in ["", "be", "be-key ", "be-key2", "BE-KEY", Identity::BACKEND] {
            assert_eq!(keys().master(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn any_key_of_a_list_makes_the_role() {
        let [auditors, operators] = [["a1", "a2"], ["o1", "o2"]].map(|list| list.map(ApiKey::new).to_vec());
        let keys = Keys { masters: keys(), auditors, operators };
        for (key, auditor, operator) in [
            ("a1", true, false),
            ("a2", true, false),
            ("o1", false, true),
            ("o2", false, true),
            ("be-key", false, false),
        ] {
            assert_eq!(
                [keys.is_auditor(key.as_bytes()), keys.is_operator(key.as_bytes())],
                [auditor, operator],
                "{key}"
            );
            assert!(keys.is_any(key.as_bytes()), "{key}");
        }
        for wrong in ["", "a", "a1,a2", "a1 ", "A1"] {
            assert!(!keys.is_auditor(wrong.as_bytes()) && !keys.is_operator(wrong.as_bytes()), "{wrong}");
            assert!(!keys.is_any(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let printed = format!("{:?} {:?}", keys(), Mode::Secured(SecretKey::new("hush")));
        assert!(!printed.contains("key\"") && !printed.contains("hush"), "{printed}");
        assert_eq!(format!("{:?}", SecretKey::new("hush")), "SecretKey(redacted)");
        assert_eq!(format!("{:?}", ApiKey::new("hush")), "ApiKey(redacted)");
    }
}
