//! Client keys: how a secret looks, how it is recognised, and what is stored of it.
//!
//! **Invariant**: the secret is shown once and never stored; only its hash is (test
//! `a_record_does_not_contain_its_secret`).

use crate::moment::Moment;
use crate::ports::KeyRecord;

/// Every secret starts with this, so that leaked ones can be found by scanners.
pub const PREFIX: &str = "tw-";

/// Random bytes in a secret: 256 bits cannot be guessed, so a fast hash is enough to store.
pub const SECRET_BYTES: usize = 32;

/// Characters of a public id after `key_`: 60 bits, unique among any number of keys people make.
const ID_CHARACTERS: usize = 12;

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
}

/// Whether a key works at this moment.
pub fn check(record: &KeyRecord, now: Moment) -> Result<(), Shut> {
    if record.disabled_at.is_some() {
        return Err(Shut::Disabled);
    }
    match record.expires_at {
        Some(end) if end <= now => Err(Shut::Expired),
        Some(_) | None => Ok(()),
    }
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
    fn keys_shut_when_expired_or_disabled() {
        let (_, mut record) = row();
        assert_eq!(check(&record, Moment(1_999)), Ok(()));
        assert_eq!(check(&record, Moment(2_000)), Err(Shut::Expired));
        record.disabled_at = Some(Moment(1_500));
        assert_eq!(check(&record, Moment(1_600)), Err(Shut::Disabled));
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
