//! Ids of calls: sortable by time, unguessable in the rest.
//!
//! **Invariant**: later calls have greater ids, to the millisecond (test `ids_sort_by_time`).

use policy::key::base32;
use policy::moment::Moment;
use policy::ports::CallId;

/// Bytes of randomness in an id: 80 bits, so that two calls of one millisecond never meet.
const RANDOM_BYTES: usize = 10;

/// A new id. Falls back to the address of a local where the system has no randomness left, which
/// keeps serving calls: ids identify, they do not protect.
pub fn call_id(now: Moment) -> CallId {
    let mut bytes = [0_u8; 6 + RANDOM_BYTES];
    bytes[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
    if getrandom::getrandom(&mut bytes[6..]).is_err() {
        let address = std::ptr::from_ref(&bytes) as usize;
        bytes[6..14].copy_from_slice(&address.to_be_bytes());
    }
    CallId(format!("call_{}", base32(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time() {
        let earlier = call_id(Moment(1_700_000_000_000));
        let later = call_id(Moment(1_700_000_000_001));
        assert!(earlier < later);
        assert_eq!(earlier.0.len(), "call_".len() + 26);
    }
}
