//! Keys and tokens in texts where they do not belong: they would be kept, or repeated.

use super::Authenticator;

/// What is shorter is looked at by itself alone, and not among other words: each look at a key is work, and anybody can
/// send a URL of thousands of parts.
const MIN_PART_BYTES: usize = 8;

impl Authenticator {
    /// Whether there is one of the router's keys in it, or what looks like a JWT: by itself, among other words, with a scheme
    /// or a label before it, or with a target behind it as in an invoke key.
    #[must_use]
    pub fn finds_secret(&self, text: &[u8]) -> bool {
        let is_one = |word: &[u8]| {
            let mut colons = word.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
            let labelled = colons.next();
            let followed = colons.next_back().or(labelled);
            looks_like_jwt(word)
                || self.is_key(word)
                || labelled.is_some_and(|colon| self.is_key(&word[colon + 1..]))
                || followed.is_some_and(|colon| self.is_key(&word[..colon]))
        };
        text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).any(|word| {
            // A key may have any of these in it, so it is looked for with them and without.
            let parts = word.split(|byte| b",;&=?/|\"'`<>()[]{}".contains(byte));
            let parts = parts.map(|part| part.strip_suffix(b".").unwrap_or(part));
            is_one(word) || parts.filter(|part| (MIN_PART_BYTES..word.len()).contains(&part.len())).any(is_one)
        })
    }
}

/// Three parts in base64, the first of them an object.
fn looks_like_jwt(text: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=".contains(byte);
    let parts: Vec<_> = text.split(|byte| *byte == b'.').collect();
    parts.len() == 3
        && text.starts_with(b"eyJ")
        && parts[..2].iter().all(|part| part.len() > 4 && part.iter().all(is_base64))
}
