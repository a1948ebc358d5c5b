//! Who pays for a call: the row of the ledger, read as scopes of the book.
//!
//! **Invariant**: a call under way and the same call read back from the ledger are charged to the
//! same scopes (test `a_restart_charges_the_same_payers`).

use policy::admit::scope::{Kind, Scope};
use policy::ports::read::{Spending, SpendingAt};
use policy::ports::{CallOpened, Payers};

/// Everything that a call is charged to.
pub fn scopes(opened: &CallOpened) -> Vec<Scope> {
    let CallOpened {
        key,
        session,
        task,
        model,
        payers,
        ..
    } = opened;
    charged_to(key, session.as_deref(), task.as_deref(), model, payers)
}

/// The names of a leg's target, to which the leg alone is charged: the model's own and
/// `provider/model`. Not the name that the client used, to which the whole call is charged.
pub fn at_target(opened: &CallOpened) -> Vec<Scope> {
    let target = opened.target.as_deref().and_then(|it| it.split_once('/'));
    target.map_or_else(Vec::new, |(provider, model)| {
        names_of(&opened.model, provider, model)
    })
}

/// The same of legs of the past.
pub fn at_target_of_spending(spending: &SpendingAt) -> Vec<Scope> {
    names_of(&spending.asked, &spending.provider, &spending.model)
}

/// Everything that a call and its latest leg are charged to.
pub fn all(opened: &CallOpened) -> Vec<Scope> {
    let mut all = scopes(opened);
    all.extend(at_target(opened));
    all
}

fn names_of(asked: &str, provider: &str, model: &str) -> Vec<Scope> {
    // What is passed through may name no model.
    if model.is_empty() {
        return Vec::new();
    }
    let names = [model.to_owned(), format!("{provider}/{model}")];
    let names = names.into_iter().filter(|name| name != asked);
    names.map(|name| Scope::new(Kind::Model, name)).collect()
}

/// Everything that calls of the past were charged to.
pub fn scopes_of_spending(spending: &Spending) -> Vec<Scope> {
    let Spending {
        key,
        session,
        task,
        model,
        payers,
        ..
    } = spending;
    charged_to(key, session.as_deref(), task.as_deref(), model, payers)
}

fn charged_to(
    key: &str,
    session: Option<&str>,
    task: Option<&str>,
    model: &str,
    payers: &Payers,
) -> Vec<Scope> {
    let named = [
        (Kind::Organisation, payers.organisation.as_deref()),
        (Kind::Team, payers.team.as_deref()),
        (Kind::Key, Some(key)),
        (Kind::User, payers.user.as_deref()),
        (Kind::Session, session),
        (Kind::Task, task),
        (Kind::Model, Some(model)),
    ];
    let named = named
        .into_iter()
        .filter_map(|(kind, id)| Some(Scope::new(kind, id?)));
    let parents = payers.parents.iter();
    let tags = payers.tags.iter();
    named
        .chain(parents.map(|task| Scope::new(Kind::Task, task.as_str())))
        .chain(tags.map(|tag| Scope::new(Kind::Tag, tag.as_str())))
        .collect()
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use policy::money::PicoUsd;
    use policy::ports::CallId;
    use wire::usage::Tokens;

    use super::*;

    #[test]
    fn a_restart_charges_the_same_payers() {
        let payers = Payers {
            organisation: Some("acme".to_owned()),
            team: None,
            user: Some("ann".to_owned()),
            tags: vec!["a".to_owned(), "b".to_owned()],
            parents: vec!["inner".to_owned(), "outer".to_owned()],
        };
        let opened = CallOpened {
            call: CallId("call_1".to_owned()),
            at: Moment(1),
            key: "key_1".to_owned(),
            session: Some("s".to_owned()),
            task: Some("t".to_owned()),
            endpoint: "/v1/messages".to_owned(),
            model: "m".to_owned(),
            provider: "p".to_owned(),
            target: Some("p/m/1".to_owned()),
            input_estimate: Tokens(1),
            payers: payers.clone(),
            held: None,
        };
        let spending = Spending {
            key: "key_1".to_owned(),
            session: Some("s".to_owned()),
            task: Some("t".to_owned()),
            model: "m".to_owned(),
            payers,
            at: Moment(1),
            cost: PicoUsd(1),
            tokens: Tokens(1),
            calls: 1,
        };
        assert_eq!(scopes(&opened), scopes_of_spending(&spending));
        let names: Vec<String> = scopes(&opened).iter().map(ToString::to_string).collect();
        let expect = "organisation `acme`, key `key_1`, user `ann`, session `s`, task `t`, \
                      model `m`, task `inner`, task `outer`, tag `a`, tag `b`";
        assert_eq!(names.join(", "), expect);

        let at = |asked: &str, model: &str| SpendingAt {
            asked: asked.to_owned(),
            provider: "p".to_owned(),
            model: model.to_owned(),
            at: Moment(1),
            cost: PicoUsd(1),
            tokens: Tokens(1),
            legs: 1,
        };
        assert_eq!(at_target(&opened), at_target_of_spending(&at("m", "m/1")));
        for (asked, model, expect) in [
            ("alias", "m/1", "model `m/1`, model `p/m/1`"),
            ("m/1", "m/1", "model `p/m/1`"),
            ("p/m/1", "m/1", "model `m/1`"),
            ("", "", ""),
        ] {
            let names = at_target_of_spending(&at(asked, model));
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(names.join(", "), expect, "{asked}");
        }
    }
}
