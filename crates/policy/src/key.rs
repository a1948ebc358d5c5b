//! Client keys: how a secret looks, how it is recognised, and what is stored of it.
//!
//! **Invariant**: the secret is shown once and never stored; only its hash is (test
//! `a_record_does_not_contain_its_secret`).

pub mod terms;

use crate::moment::Moment;
use crate::ports::{KeyRecord, Payers, Previous};

/// Every secret starts with this, so that leaked ones can be found by scanners.
pub const PREFIX: &str = "tw-";

/// Random bytes in a secret: 256 bits cannot be guessed, so a fast hash is enough to store.
pub const SECRET_BYTES: usize = 32;

/// Characters of a public id after `key_`: 60 bits, unique among any number of keys people make.
const ID_CHARACTERS: usize = 12;

/// 20 characters after the prefix: 100 bits, more than any name has, and less than half a secret.
const SUSPICIOUS_CHARACTERS: usize = 20;

/// Crockford's base 32: no letter that reads like a digit, sorts like the number it encodes.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new key: the secret to show once, and the record to store.
pub fn issue(
    name: &str,
    random: [u8; SECRET_BYTES],
    at: Moment,
    expires_at: Option<Moment>,
) -> (String, KeyRecord) {
    let secret = format!("{PREFIX}{}", base32(&random));
    let hash = hash(&secret);
    let mut id = base32(&hash);
    id.truncate(ID_CHARACTERS);
    let record = KeyRecord {
        id: format!("key_{id}"),
        name: name.to_owned(),
        hash,
        created_at: at,
        expires_at,
        disabled_at: None,
        payers: Payers::default(),
        models: Vec::new(),
        previous: None,
    };
    (secret, record)
}

/// What is stored and compared instead of the secret.
pub fn hash(secret: &str) -> [u8; 32] {
    *blake3::hash(secret.as_bytes()).as_bytes()
}

/// Why a known key does not open the door now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// Its time is over.
    Expired,
    /// Someone disabled it.
    Disabled,
    /// Another secret has taken the place of this one.
    Replaced,
}

/// Whether a key works at this moment with the secret that has this hash.
pub fn check(record: &KeyRecord, hash: &[u8; 32], now: Moment) -> Result<(), Shut> {
    if record.disabled_at.is_some() {
        return Err(Shut::Disabled);
    }
    if record.expires_at.is_some_and(|end| end <= now) {
        return Err(Shut::Expired);
    }
    let lasts = |previous: Previous| previous.hash == *hash && now < previous.until;
    if record.hash == *hash || record.previous.is_some_and(lasts) {
        Ok(())
    } else {
        Err(Shut::Replaced)
    }
}

/// Whether a key works at this moment, in a word: `active`, `expired` or `disabled`.
pub fn state(record: &KeyRecord, now: Moment) -> &'static str {
    match check(record, &record.hash, now) {
        // The present secret is asked about, which nothing has replaced.
        Ok(()) | Err(Shut::Replaced) => "active",
        Err(Shut::Expired) => "expired",
        Err(Shut::Disabled) => "disabled",
    }
}

/// Whether a text holds what looks like a secret of a key, so that it is better not repeated.
pub fn holds_secret(text: &str) -> bool {
    let letters = |rest: &str| {
        rest.bytes()
            .take_while(|byte| ALPHABET.contains(byte))
            .count()
    };
    text.match_indices(PREFIX)
        .any(|(at, _)| letters(&text[at + PREFIX.len()..]) >= SUSPICIOUS_CHARACTERS)
}

/// Encodes bytes as lower-case base 32, most significant bit first, without padding.
pub fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(letter(buffer >> bits));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(letter(buffer << (5 - bits)));
    }
    text
}

fn letter(value: u32) -> char {
    char::from(ALPHABET[(value & 31) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> (String, KeyRecord) {
        issue("ci", [7; SECRET_BYTES], Moment(1_000), Some(Moment(2_000)))
    }

    #[test]
    fn a_record_does_not_contain_its_secret() {
        let (secret, record) = row();
        assert!(secret.starts_with("tw-"));
        assert!(!format!("{record:?}").contains(&secret[3..15]));
        assert_eq!(record.hash, hash(&secret));
    }

    #[test]
    fn keys_shut_when_expired_disabled_or_replaced() {
        let (_, mut record) = row();
        let (old, new) = (record.hash, hash("tw-new"));
        record.hash = new;
        record.previous = Some(Previous {
            hash: old,
            until: Moment(1_200),
        });
        for (hash, at, expect) in [
            (new, 1_999, Ok(())),
            (new, 2_000, Err(Shut::Expired)),
            (old, 1_199, Ok(())),
            (old, 1_200, Err(Shut::Replaced)),
            (old, 2_000, Err(Shut::Expired)),
            (hash("tw-other"), 0, Err(Shut::Replaced)),
        ] {
            assert_eq!(check(&record, &hash, Moment(at)), expect, "at {at}");
        }
        record.disabled_at = Some(Moment(1_500));
        assert_eq!(check(&record, &new, Moment(1_600)), Err(Shut::Disabled));
    }

    #[test]
    fn secrets_are_recognised() {
        let (secret, record) = row();
        for (text, expect) in [
            (secret.as_str(), true),
            (&format!("a {secret}, b"), true),
            (&format!("tw-tw-{secret}"), true),
            (&secret[..22], false),
            (&secret[3..], false),
            ("tw-", false),
            (&record.id, false),
        ] {
            assert_eq!(holds_secret(text), expect, "{text}");
        }
    }

    #[test]
    fn base32_rows() {
        for (bytes, expect) in [
            (&b""[..], ""),
            (&[0], "00"),
            (&[255], "zw"),
            (&[0x10, 0x42], "2110"),
            (&[255; 5], "zzzzzzzz"),
        ] {
            assert_eq!(base32(bytes), expect, "{bytes:?}");
        }
    }
}
