//! Keys are found, work as long as they should, and are never forgotten.
//!
//! **Invariant**: a change through one handle is seen through another.

#![expect(
    clippy::missing_panics_doc,
    reason = "a check panics where a store fails it"
)]

use policy::moment::Moment;
use policy::ports::KeyRecord;

use super::Make;

/// A running gateway learns of every change of a key, from whichever handle it came.
pub fn key_changes_are_noticed(make: Make<'_>) {
    let shelf = make();
    let (gateway, command) = (shelf.keys(), shelf.keys());
    let mut seen = gateway.version().expect("readable");
    assert_eq!(
        gateway.version().expect("readable"),
        seen,
        "asking changes nothing"
    );
    let changes: [&dyn Fn(); 3] = [
        &|| command.create(&key(1)).expect("created"),
        &|| drop(command.expire("key_1", Moment(70)).expect("expired")),
        &|| drop(command.disable("key_1", Moment(60)).expect("disabled")),
    ];
    for (step, change) in changes.iter().enumerate() {
        change();
        let version = gateway.version().expect("readable");
        assert!(version > seen, "step {step}: {version} after {seen}");
        seen = version;
    }
}

/// Keys are found by hash, work until they are disabled or expire, and stay listed.
pub fn keys_are_kept(make: Make<'_>) {
    let shelf = make();
    let keys = shelf.keys();
    for number in [2, 1, 3] {
        keys.create(&key(number)).expect("created");
    }
    let ids = |keys: Vec<KeyRecord>| keys.into_iter().map(|key| key.id).collect::<Vec<_>>();
    let active = |now| ids(keys.active(Moment(now)).expect("readable"));
    assert_eq!(
        ids(keys.list().expect("readable")),
        ["key_1", "key_2", "key_3"]
    );
    assert_eq!(keys.find(&[2; 32]).expect("readable"), Some(key(2)));
    assert_eq!(keys.find(&[9; 32]).expect("readable"), None);

    let same_id = KeyRecord {
        hash: [9; 32],
        ..key(1)
    };
    let same_hash = KeyRecord {
        id: "key_9".to_owned(),
        ..key(1)
    };
    for twin in [same_id, same_hash] {
        let fault = keys.create(&twin).expect_err("refused").to_string();
        assert!(
            fault.contains(&format!("`{}` exists already", twin.id)),
            "{fault}"
        );
    }

    let disabled = KeyRecord {
        disabled_at: Some(Moment(50)),
        ..key(1)
    };
    assert_eq!(
        keys.disable("key_1", Moment(50)).expect("written"),
        Some(disabled.clone())
    );
    assert_eq!(
        keys.disable("key_1", Moment(90)).expect("written"),
        Some(disabled.clone())
    );
    let expiring = KeyRecord {
        expires_at: Some(Moment(70)),
        ..key(2)
    };
    assert_eq!(
        keys.expire("key_2", Moment(70)).expect("written"),
        Some(expiring.clone())
    );
    assert_eq!(keys.disable("key_9", Moment(50)).expect("written"), None);
    assert_eq!(keys.expire("key_9", Moment(50)).expect("written"), None);

    assert_eq!(active(49), ["key_1", "key_2", "key_3"]);
    assert_eq!(active(50), ["key_2", "key_3"]);
    assert_eq!(active(69), ["key_2", "key_3"]);
    assert_eq!(active(70), ["key_3"]);
    assert_eq!(
        shelf.keys().list().expect("readable"),
        [disabled, expiring, key(3)]
    );
}

fn key(number: u8) -> KeyRecord {
    KeyRecord {
        id: format!("key_{number}"),
        name: format!("the {number}th"),
        hash: [number; 32],
        created_at: Moment(number.into()),
        expires_at: None,
        disabled_at: None,
    }
}
