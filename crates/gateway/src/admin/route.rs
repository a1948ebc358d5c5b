//! Which method and path of the admin API asks for what.
//!
//! **Invariant**: every deed has one method and one path (test `paths_lead_to_deeds`).

use http::Method;
use policy::ports::Stop;
use policy::refusal::{Reason, Refusal};

use super::fields::shown;
use crate::percent::decoded;

/// Where the admin API lies.
pub(super) const BASE: &str = "/admin/v1";

const SERVED: &str = "GET, POST /keys; GET, PATCH /keys/ID; POST /keys/ID/{rotate,disable,enable,expire}; \
                      GET /budgets; GET, POST /stops; DELETE /stops/{everything,key/ID,task/NAME}; \
                      GET /audit";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Something is to be shown.
    Look(Look),
    /// Something is to be changed.
    Change(Change),
}

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// All keys.
    Keys,
    /// One key.
    Key(String),
    /// How far the limits are used.
    Budgets,
    /// What is stopped.
    Stops,
    /// Who changed what.
    Audit,
}

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A new key.
    Create,
    /// Other payers or models for a key.
    Assign(String),
    /// A new secret for a key.
    Rotate(String),
    /// No more calls with a key.
    Disable(String),
    /// Calls with a disabled key again.
    Enable(String),
    /// Another end of a key.
    Expire(String),
    /// The end of what the body names.
    Stop,
    /// The end of a stop.
    Resume(Stop),
}

impl Deed {
    /// Whether it comes with a body.
    pub(super) const fn has_body(&self) -> bool {
        match self {
            Self::Look(_) | Self::Change(Change::Resume(_)) => false,
            Self::Change(_) => true,
        }
    }

    /// The parameters that its query may have.
    pub(super) const fn parameters(&self) -> &'static [&'static str] {
        match self {
            Self::Look(Look::Audit) => &["last"],
            Self::Look(Look::Budgets) => &["limit", "kind", "id"],
            Self::Look(Look::Keys | Look::Key(_) | Look::Stops) | Self::Change(_) => &[],
        }
    }
}

/// Why nothing can be done.
#[derive(Debug)]
pub(super) enum Lost {
    /// No such path.
    Nowhere(Refusal),
    /// Not with this method; these are allowed.
    Method(Refusal, String),
}

/// Understands a method and a path.
pub(super) fn find(method: &Method, path: &str) -> Result<Deed, Lost> {
    let deeds = deeds(path);
    let shown = shown(path);
    if deeds.is_empty() {
        let message = format!("no route {shown}; served below {BASE}: {SERVED}");
        return Err(Lost::Nowhere(Refusal::new(Reason::UnknownRoute, message)));
    }
    let allowed: Vec<&str> = deeds.iter().map(|(method, _)| method.as_str()).collect();
    let allowed = allowed.join(", ");
    let mut deeds = deeds.into_iter();
    let deed = deeds.find(|(wants, _)| wants == method);
    deed.map(|(_, deed)| deed).ok_or_else(|| {
        let message = format!("{shown} takes {allowed}, not {method}");
        Lost::Method(Refusal::new(Reason::MethodNotAllowed, message), allowed)
    })
}

/// What a path offers, by method; nothing if there is no such path.
fn deeds(path: &str) -> Vec<(Method, Deed)> {
    let rest = path
        .strip_prefix(BASE)
        .and_then(|rest| rest.strip_prefix('/'));
    let parts: Option<Vec<String>> = rest.map_or(Some(Vec::new()), |rest| {
        rest.split('/').map(decoded).collect()
    });
    let parts = parts.unwrap_or_default();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let look = |look| (Method::GET, Deed::Look(look));
    let post = |change| (Method::POST, Deed::Change(change));
    match parts.as_slice() {
        ["keys"] => vec![look(Look::Keys), post(Change::Create)],
        ["keys", id] => vec![
            look(Look::Key((*id).to_owned())),
            (
                Method::PATCH,
                Deed::Change(Change::Assign((*id).to_owned())),
            ),
        ],
        ["keys", id, "rotate"] => vec![post(Change::Rotate((*id).to_owned()))],
        ["keys", id, "disable"] => vec![post(Change::Disable((*id).to_owned()))],
        ["keys", id, "enable"] => vec![post(Change::Enable((*id).to_owned()))],
        ["keys", id, "expire"] => vec![post(Change::Expire((*id).to_owned()))],
        ["budgets"] => vec![look(Look::Budgets)],
        ["stops"] => vec![look(Look::Stops), post(Change::Stop)],
        ["stops", "everything"] => vec![resume(Stop::Everything)],
        ["stops", "key", id] => vec![resume(Stop::Key((*id).to_owned()))],
        ["stops", "task", name] => vec![resume(Stop::Task((*name).to_owned()))],
        ["audit"] => vec![look(Look::Audit)],
        _ => Vec::new(),
    }
}

fn resume(stop: Stop) -> (Method, Deed) {
    (Method::DELETE, Deed::Change(Change::Resume(stop)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: &str) {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let found = match find(&method, &format!("/admin/{path}")) {
            Ok(deed) => format!("{deed:?}"),
            Err(Lost::Nowhere(refusal)) => format!("{:?}", refusal.reason),
            Err(Lost::Method(_, allowed)) => format!("allowed: {allowed}"),
        };
        assert_eq!(found, expect, "{line}");
    }

    #[test]
    fn paths_lead_to_deeds() {
        for (line, expect) in [
            ("GET v1/keys", "Look(Keys)"),
            ("POST v1/keys", "Change(Create)"),
            ("PUT v1/keys", "allowed: GET, POST"),
            ("GET v1/keys/key_1", "Look(Key(\"key_1\"))"),
            ("PATCH v1/keys/key%5F1", "Change(Assign(\"key_1\"))"),
            ("DELETE v1/keys/key_1", "allowed: GET, PATCH"),
            ("POST v1/keys/key_1/rotate", "Change(Rotate(\"key_1\"))"),
            ("POST v1/keys/key_1/disable", "Change(Disable(\"key_1\"))"),
            ("POST v1/keys/key_1/enable", "Change(Enable(\"key_1\"))"),
            ("POST v1/keys/key_1/expire", "Change(Expire(\"key_1\"))"),
            ("GET v1/keys/key_1/expire", "allowed: POST"),
            ("POST v1/keys/key_1/sell", "UnknownRoute"),
            ("GET v1/budgets", "Look(Budgets)"),
            ("GET v1/stops", "Look(Stops)"),
            ("POST v1/stops", "Change(Stop)"),
            ("DELETE v1/stops/everything", "Change(Resume(Everything))"),
            (
                "DELETE v1/stops/key/key_1",
                "Change(Resume(Key(\"key_1\")))",
            ),
            (
                "DELETE v1/stops/task/a%2fb%20c",
                "Change(Resume(Task(\"a/b c\")))",
            ),
            ("GET v1/stops/everything", "allowed: DELETE"),
            ("DELETE v1/stops/nothing", "UnknownRoute"),
            ("GET v1/audit", "Look(Audit)"),
            ("GET v1/keys/", "Look(Key(\"\"))"),
            ("GET v1/keys/%", "UnknownRoute"),
            ("GET v1/keys/%zz", "UnknownRoute"),
            ("GET v1/keys/%ff", "UnknownRoute"),
            ("GET v1/keys/%+1", "UnknownRoute"),
            ("GET v1", "UnknownRoute"),
            ("GET v1/", "UnknownRoute"),
            ("GET v2/keys", "UnknownRoute"),
            ("GET v1keys", "UnknownRoute"),
        ] {
            check(line, expect);
        }
    }
}
