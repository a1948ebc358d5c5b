//! Keys, stops, changes and budgets as JSON.
//!
//! **Invariant**: no secret and no hash of one is ever shown (test `no_hash_is_shown`).

use policy::admit::book::report::Usage;
use policy::admit::limit::{Limit, Measure, Units};
use policy::key::state;
use policy::moment::Moment;
use policy::ports::{AuditEntry, KeyRecord, Stop};
use serde_json::{Value, json};

/// A key.
pub fn key(record: &KeyRecord, now: Moment) -> Value {
    json!({
        "id": record.id,
        "name": record.name,
        "state": state(record, now),
        "created_at_ms": record.created_at.0,
        "expires_at_ms": record.expires_at.map(|at| at.0),
        "disabled_at_ms": record.disabled_at.map(|at| at.0),
        "organisation": record.payers.organisation,
        "team": record.payers.team,
        "user": record.payers.user,
        "tags": record.payers.tags,
        "models": record.models,
        "previous_until_ms": record.previous.map(|previous| previous.until.0),
    })
}

/// A key together with its new secret.
pub fn with_secret(record: &KeyRecord, now: Moment, secret: String) -> Value {
    let mut value = key(record, now);
    value["secret"] = secret.into();
    value
}

/// A change that somebody made.
pub fn entry(entry: &AuditEntry) -> Value {
    json!({
        "at_ms": entry.at.0,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
    })
}

/// What is stopped, and since when.
pub fn stop(stop: &Stop, at: Moment) -> Value {
    json!({"kind": stop.kind(), "id": stop.id(), "since_ms": at.0})
}

/// A limit, as it is configured.
pub fn limit(limit: &Limit) -> Value {
    json!({"limit": limit.id.as_ref(), "mode": limit.mode.name(), "says": limit.to_string()})
}

/// How far a limit is used by one payer.
pub fn usage(usage: &Usage) -> Value {
    let limit = &usage.limit;
    let measure = limit.quota.measure();
    let window = limit.quota.window();
    json!({
        "limit": limit.id.as_ref(),
        "mode": limit.mode.name(),
        "scope": {"kind": usage.scope.kind.name(), "id": usage.scope.id.as_ref()},
        "measure": measure.name(),
        "unit": unit(measure),
        "amount": units(limit.quota.amount()),
        "spent": units(usage.tally.spent),
        "held": units(usage.tally.held(limit.mode)),
        "left": units(usage.left()),
        "window": {
            "period": window.period().name(),
            "zone": window.zone().name(),
            "start_ms": usage.window.start.0,
            "end_ms": usage.window.end.map(|end| end.0),
        },
    })
}

const fn unit(measure: Measure) -> &'static str {
    match measure {
        Measure::Usd => "pico_usd",
        Measure::Tokens => "tokens",
        Measure::Requests | Measure::Concurrency => "calls",
    }
}

/// An amount to the last digit: a number, or a text where JSON's numbers end.
fn units(units: Units) -> Value {
    i64::try_from(units.0).map_or_else(|_| Value::from(units.0.to_string()), Value::from)
}

#[cfg(test)]
mod tests {
    use policy::key::{SECRET_BYTES, issue};
    use policy::ports::Previous;

    use super::*;

    #[test]
    fn no_hash_is_shown() {
        let (secret, mut record) = issue("ci", [9; SECRET_BYTES], Moment(1), Some(Moment(9)));
        record.previous = Some(Previous {
            hash: [8; 32],
            until: Moment(7),
        });
        assert_eq!(
            key(&record, Moment(9)),
            json!({
                "id": record.id, "name": "ci", "state": "expired", "created_at_ms": 1,
                "expires_at_ms": 9, "disabled_at_ms": null, "organisation": null, "team": null,
                "user": null, "tags": [], "models": [], "previous_until_ms": 7,
            })
        );
        let shown = with_secret(&record, Moment(2), secret.clone());
        assert_eq!(
            (&shown["secret"], &shown["state"]),
            (&json!(secret), &json!("active"))
        );
    }

    #[test]
    fn amounts_keep_every_digit() {
        assert_eq!(units(Units(-5)), json!(-5));
        let most = i128::from(i64::MAX);
        assert_eq!(units(Units(most)), json!(i64::MAX));
        assert_eq!(units(Units(most + 1)), json!("9223372036854775808"));
    }
}
