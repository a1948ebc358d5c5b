//! The keys that open the door, as last loaded from the store.
//!
//! **Invariant**: a secret is compared by hash, in constant time, and never logged (test
//! `only_a_live_key_is_admitted`).

use std::collections::HashMap;

use policy::key::{self, Shut};
use policy::moment::Moment;
use policy::ports::KeyRecord;
use policy::refusal::{Reason, Refusal};
use subtle::ConstantTimeEq;

/// A snapshot of all keys.
#[derive(Debug, Default)]
pub struct Keyring {
    by_hash: HashMap<[u8; 32], KeyRecord>,
}

impl Keyring {
    /// A ring of these keys.
    pub fn new(records: impl IntoIterator<Item = KeyRecord>) -> Self {
        let by_hash = records
            .into_iter()
            .map(|record| (record.hash, record))
            .collect();
        Self { by_hash }
    }

    /// The public id of the key with this secret, if it works now.
    pub fn admit(&self, secret: &str, now: Moment) -> Result<String, Refusal> {
        let hash = key::hash(secret);
        let record = self
            .by_hash
            .get(&hash)
            .filter(|record| record.hash.ct_eq(&hash).into());
        let refuse = |message: String| Err(Refusal::new(Reason::Unauthenticated, message));
        let Some(record) = record else {
            return refuse(
                "this key is not known here; create one with `tokenwise keys create NAME`".into(),
            );
        };
        match key::check(record, now) {
            Ok(()) => Ok(record.id.clone()),
            Err(Shut::Expired) => {
                refuse(format!("key `{}` has expired; create a new one", record.id))
            }
            Err(Shut::Disabled) => refuse(format!(
                "key `{}` is disabled; ask its owner to enable it",
                record.id
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_live_key_is_admitted() {
        let (secret, record) =
            key::issue("ci", [3; key::SECRET_BYTES], Moment(0), Some(Moment(10)));
        let id = record.id.clone();
        let ring = Keyring::new([record]);
        assert_eq!(ring.admit(&secret, Moment(9)), Ok(id));
        for (secret, now, expect) in [
            (secret.as_str(), 10, "has expired"),
            ("tw-wrong", 0, "not known"),
            ("", 0, "not known"),
        ] {
            let refusal = ring.admit(secret, Moment(now)).expect_err(expect);
            assert!(refusal.message.contains(expect), "{refusal:?}");
            assert!(!refusal.message.contains("tw-wrong"));
        }
    }
}
