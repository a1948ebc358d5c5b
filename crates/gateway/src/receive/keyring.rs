//! The keys that open the door, as last loaded from the store.
//!
//! **Invariant**: a secret is compared by hash, in constant time, and never logged (test
//! `only_a_live_key_is_admitted`).

use std::collections::HashMap;
use std::sync::Arc;

use policy::key::{self, Shut};
use policy::moment::Moment;
use policy::ports::KeyRecord;
use policy::refusal::{Reason, Refusal};
use subtle::ConstantTimeEq;

/// Why a secret does not open the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No key has it: somebody may be guessing.
    Unknown(Refusal),
    /// Its key does not work now.
    Shut(Refusal),
}

/// A snapshot of all keys, each under the hashes of its present secret and of the one before.
#[derive(Debug, Default)]
pub struct Keyring {
    by_hash: HashMap<[u8; 32], Arc<KeyRecord>>,
}

impl Keyring {
    /// A ring of these keys.
    pub fn new(records: impl IntoIterator<Item = KeyRecord>) -> Self {
        let mut by_hash = HashMap::new();
        for record in records {
            let record = Arc::new(record);
            if let Some(previous) = record.previous {
                by_hash.insert(previous.hash, Arc::clone(&record));
            }
            by_hash.insert(record.hash, record);
        }
        Self { by_hash }
    }

    /// The key with this secret, if it works now.
    pub fn admit(&self, secret: &str, now: Moment) -> Result<Arc<KeyRecord>, Denied> {
        let hash = key::hash(secret);
        let known = self.by_hash.get_key_value(&hash);
        let record = known.filter(|(known, _)| known.ct_eq(&hash).into());
        let Some((_, record)) = record else {
            let message =
                "this key is not known here; create one with `tokenwise keys create NAME`";
            return Err(Denied::Unknown(Refusal::new(
                Reason::Unauthenticated,
                message,
            )));
        };
        let refuse =
            |message: String| Err(Denied::Shut(Refusal::new(Reason::Unauthenticated, message)));
        match key::check(record, &hash, now) {
            Ok(()) => Ok(Arc::clone(record)),
            Err(Shut::Expired) => {
                refuse(format!("key `{}` has expired; create a new one", record.id))
            }
            Err(Shut::Disabled) => refuse(format!(
                "key `{}` is disabled; ask its owner to enable it",
                record.id
            )),
            Err(Shut::Replaced) => refuse(format!(
                "this secret of key `{}` was replaced; use the new one",
                record.id
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::ports::Previous;

    use super::*;

    #[test]
    fn only_a_live_key_is_admitted() {
        let (old, mut record) =
            key::issue("ci", [3; key::SECRET_BYTES], Moment(0), Some(Moment(10)));
        let (new, rotated) = key::issue("ci", [4; key::SECRET_BYTES], Moment(0), None);
        record.previous = Some(Previous {
            hash: record.hash,
            until: Moment(5),
        });
        record.hash = rotated.hash;
        let ring = Keyring::new([record.clone()]);
        for (secret, now) in [(&new, 9), (&old, 4)] {
            let admitted = ring.admit(secret, Moment(now)).expect("admitted");
            assert_eq!(*admitted, record);
        }
        for (secret, now, expect) in [
            (new.as_str(), 10, "has expired"),
            (&old, 5, "was replaced; use the new one"),
            (&old, 10, "has expired"),
            ("tw-wrong", 0, "not known"),
            ("", 0, "not known"),
        ] {
            let denied = ring.admit(secret, Moment(now)).expect_err(expect);
            let is_guess = matches!(denied, Denied::Unknown(_));
            assert_eq!(is_guess, expect == "not known", "{denied:?}");
            let (Denied::Unknown(refusal) | Denied::Shut(refusal)) = denied;
            assert!(refusal.message.contains(expect), "{refusal:?}");
            assert!(!refusal.message.contains("tw-"), "{refusal:?}");
        }
    }
}
