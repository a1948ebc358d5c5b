//! The token that opens the admin API: only its hash is kept.
//!
//! **Invariant**: tokens are compared by hash, in constant time, and show nowhere (test
//! `only_the_token_opens_and_nothing_shows`).

use std::fmt;

use policy::key;
use subtle::ConstantTimeEq;

/// 16 bytes: what people type by heart is shorter, and is guessed.
pub const TOKEN_BYTES_MIN: usize = 16;

/// BLAKE3 of the token that opens the admin API.
#[derive(Clone, Copy)]
pub struct AdminToken([u8; 32]);

/// A token that could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "has {0} bytes; allowed: {TOKEN_BYTES_MIN} or more, all of them visible ASCII characters; make \
     one with `openssl rand -hex 32`"
)]
pub struct WeakToken(usize);

impl AdminToken {
    /// What is kept of a token, if it is long enough and can stand in a header.
    pub fn new(token: &str) -> Result<Self, WeakToken> {
        if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(WeakToken(token.len()));
        }
        Ok(Self(key::hash(token)))
    }

    /// Whether this is the token.
    pub fn is(&self, given: &str) -> bool {
        self.0.ct_eq(&key::hash(given)).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens_and_nothing_shows() {
        let token = AdminToken::new("planted-token-16").expect("long enough");
        assert!(token.is("planted-token-16"));
        for given in [
            "",
            "planted-token-1",
            "planted-token-166",
            "PLANTED-TOKEN-16",
        ] {
            assert!(!token.is(given), "{given}");
        }
        assert_eq!(format!("{token:?}"), "***");
        for (given, bytes) in [
            ("", 0),
            ("planted-token-1", 15),
            ("planted token 16", 16),
            ("planted-töken-16", 17),
        ] {
            let weak = AdminToken::new(given).expect_err(given);
            assert_eq!(weak, WeakToken(bytes));
            assert!(!weak.to_string().contains("planted"), "{weak}");
        }
    }
}
