//! Who pays for a call: the row of the ledger, read as scopes of the book.
//!
//! **Invariant**: a call under way and the same call read back from the ledger are charged to the
//! same scopes (test `a_restart_charges_the_same_payers`).

use policy::admit::scope::{Kind, Scope};
use policy::ports::read::Spending;
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
    let tags = payers.tags.iter();
    named
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
            target: None,
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
                      model `m`, tag `a`, tag `b`";
        assert_eq!(names.join(", "), expect);
    }
}
