//! Keys are found, work as long as they should, and are never forgotten.
//!
//! **Invariant**: a change through one handle is seen through another.

#![expect(
    clippy::missing_panics_doc,
    reason = "a check panics where a store fails it"
)]

use policy::key::{Shut, check};
use policy::moment::Moment;
use policy::ports::{AuditEntry, KeyRecord, Payers, Previous, Stop};

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
    let changes: [&dyn Fn(); 6] = [
        &|| command.create(&key(1)).expect("created"),
        &|| drop(command.assign("key_1", &payers(), &[]).expect("assigned")),
        &|| {
            let rotated = command.rotate("key_1", &[8; 32], Moment(5));
            drop(rotated.expect("rotated"));
        },
        &|| drop(command.expire("key_1", Moment(70)).expect("expired")),
        &|| drop(command.disable("key_1", Moment(60)).expect("disabled")),
        &|| drop(command.enable("key_1").expect("enabled")),
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
        payers: Payers::default(),
        models: Vec::new(),
        previous: None,
    }
}

/// Payers with all that a quotation mark or a comma could break.
fn payers() -> Payers {
    Payers {
        organisation: Some("acme, \"west\"".to_owned()),
        team: Some(String::new()),
        user: None,
        tags: ["", "a,b", "it's", "[\"a\"]", "\u{1f980}\u{0}\n"]
            .map(str::to_owned)
            .into(),
        parents: Vec::new(),
    }
}

/// What a key is made or assigned with comes back word for word; an assignment replaces all of it
/// and nothing else.
pub fn a_key_is_assigned_as_a_whole(make: Make<'_>) {
    let shelf = make();
    let keys = shelf.keys();
    let made = KeyRecord {
        payers: payers(),
        models: vec!["gpt-*".to_owned(), "a,\"b".to_owned()],
        previous: Some(Previous {
            hash: [3; 32],
            until: Moment(30),
        }),
        expires_at: Some(Moment(70)),
        disabled_at: Some(Moment(60)),
        ..key(1)
    };
    keys.create(&made).expect("created");
    keys.create(&key(2)).expect("created");
    assert_eq!(keys.find(&[1; 32]).expect("readable"), Some(made.clone()));
    assert_eq!(keys.find(&[3; 32]).expect("readable"), Some(made.clone()));
    let models = ["claude-*".to_owned()];
    for (payers, models) in [(Payers::default(), &models[..]), (payers(), &[])] {
        let expect = KeyRecord {
            payers: payers.clone(),
            models: models.to_vec(),
            ..made.clone()
        };
        let assigned = keys.assign("key_1", &payers, models).expect("written");
        assert_eq!(assigned, Some(expect.clone()));
        let listed = shelf.keys().list().expect("readable");
        assert_eq!(listed, [expect, key(2)]);
    }
    let nobody = keys.assign("key_9", &payers(), &models);
    assert_eq!(nobody.expect("written"), None);
}

/// After a rotation both secrets work until the old one's time is over, the one before it does not,
/// and no secret is ever given twice.
pub fn a_replaced_secret_works_for_a_while(make: Make<'_>) {
    let shelf = make();
    let keys = shelf.keys();
    keys.create(&key(1)).expect("created");
    keys.create(&key(2)).expect("created");
    let rotated = |secret, before, until| KeyRecord {
        hash: [secret; 32],
        previous: Some(Previous {
            hash: [before; 32],
            until: Moment(until),
        }),
        ..key(1)
    };
    let shut = |secret, now| {
        let found = keys.find(&[secret; 32]).expect("readable");
        found.map(|key| check(&key, &[secret; 32], Moment(now)).err())
    };

    let first = keys.rotate("key_1", &[11; 32], Moment(50));
    assert_eq!(first.expect("written"), Some(rotated(11, 1, 50)));
    for (secret, now, expect) in [
        (11, 0, None),
        (11, 90, None),
        (1, 49, None),
        (1, 50, Some(Shut::Replaced)),
    ] {
        assert_eq!(shut(secret, now), Some(expect), "secret {secret} at {now}");
    }

    let second = keys.rotate("key_1", &[12; 32], Moment(80));
    assert_eq!(second.expect("written"), Some(rotated(12, 11, 80)));
    assert_eq!(
        (shut(1, 0), shut(11, 0), shut(12, 0)),
        (None, Some(None), Some(None))
    );

    // Its own secret, its previous one, and another key's.
    for taken in [12, 11, 2] {
        let refusal = keys.rotate("key_1", &[taken; 32], Moment(90));
        let refusal = refusal.expect_err("refused").to_string();
        assert!(refusal.contains("`key_1` is there already"), "{refusal}");
        assert_eq!(
            keys.rotate("key_9", &[taken; 32], Moment(90))
                .expect("written"),
            None
        );
    }
    let twin = keys.create(&KeyRecord {
        hash: [11; 32],
        ..key(3)
    });
    assert!(
        twin.is_err(),
        "a secret that was replaced is not given again"
    );
    assert_eq!(
        shelf.keys().list().expect("readable"),
        [rotated(12, 11, 80), key(2)]
    );
}

/// A disabled key works again when it is enabled, as long as its other conditions hold.
pub fn disabled_keys_come_back(make: Make<'_>) {
    let shelf = make();
    let keys = shelf.keys();
    let expiring = KeyRecord {
        expires_at: Some(Moment(70)),
        ..key(1)
    };
    keys.create(&expiring).expect("created");
    let active = |now| keys.active(Moment(now)).expect("readable").len();
    keys.disable("key_1", Moment(50)).expect("written");
    assert_eq!((active(49), active(50)), (1, 0));
    for _ in 0..2 {
        assert_eq!(
            keys.enable("key_1").expect("written"),
            Some(expiring.clone())
        );
    }
    assert_eq!((active(50), active(70)), (1, 0));
    keys.disable("key_1", Moment(60)).expect("written");
    assert_eq!((active(59), active(60)), (1, 0));
    assert_eq!(keys.enable("key_9").expect("written"), None);
}

/// Changes are read back newest first, as they were written, whatever their clocks say.
pub fn changes_are_audited_in_order(make: Make<'_>) {
    let shelf = make();
    let keys = shelf.keys();
    assert_eq!(keys.audits(5).expect("readable"), []);
    let entry = |at: u64, action: &str| AuditEntry {
        at: Moment(at),
        actor: "command line".to_owned(),
        action: action.to_owned(),
        subject: "key_1".to_owned(),
        detail: format!("it's \"{action}\",\n\u{1f980}"),
    };
    let entries = [
        entry(5, "create"),
        entry(3, "rotate"),
        entry(3, "rotate"),
        entry(9, "disable"),
    ];
    for entry in &entries {
        keys.audit(entry).expect("written");
    }
    keys.create(&key(1)).expect("created");
    let newest: Vec<_> = entries.into_iter().rev().collect();
    for count in 0..6_u32 {
        let expect: Vec<_> = newest.iter().take(count as usize).cloned().collect();
        assert_eq!(shelf.keys().audits(count).expect("readable"), expect);
    }
}

/// A stop is there once, for every reader, until it is lifted; each change is noticed.
pub fn stops_last_until_they_are_lifted(make: Make<'_>) {
    let shelf = make();
    let keys = shelf.keys();
    let key = Stop::Key("key_1".to_owned());
    let task = Stop::Task("it's a \"task\"".to_owned());
    let everything = Stop::Everything;
    for (at, stop) in [(1, &key), (2, &task), (3, &everything)] {
        let version = keys.version().expect("readable");
        assert!(keys.stop(stop, Moment(at)).expect("stopped"));
        assert!(keys.version().expect("readable") > version);
        assert!(!keys.stop(stop, Moment(9)).expect("stopped already"));
    }
    let expect = [
        (key.clone(), Moment(1)),
        (task.clone(), Moment(2)),
        (everything, Moment(3)),
    ];
    assert_eq!(shelf.keys().stops().expect("readable"), expect);
    let version = keys.version().expect("readable");
    assert!(keys.resume(&key).expect("lifted"));
    assert!(!keys.resume(&key).expect("not there"));
    assert!(keys.version().expect("readable") > version);
    let left: Vec<_> = keys.stops().expect("readable");
    assert_eq!(left.first().map(|(stop, _)| stop), Some(&task));
    assert_eq!(left.len(), 2);
}
