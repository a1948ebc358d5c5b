//! Names: what a request says about who and what it belongs to, in our headers or where the operator says
//! that clients name it already.
//!
//! **Invariant**: our own header counts before any other place, and a name that cannot be one is refused
//! wherever it stands (transcripts `bad_input`, test `names_are_taken_from_where_clients_have_them`).

use http::{HeaderMap, HeaderName};
use policy::ports::{KeyRecord, Payers};
use policy::refusal::{Reason, Refusal};
use wire::dialect::{Metadatum, read_metadata};

/// Names the session that a call belongs to.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-session");

/// Names the task that a call belongs to.
pub const TASK_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-task");

/// Names the tasks that the call's task is part of, the nearest first, with commas between them: all
/// of them pay for it.
pub const PARENTS_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-parent-task");

/// Names the person or service on whose behalf a call is made.
pub const USER_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-user");

/// Labels a call: names with commas between them.
pub const TAGS_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-tags");

/// 16: each may have limits of its own, and every one costs a look.
const TAGS_MAX: usize = 16;

/// 8: agents that start agents; each level is one more payer to look up.
const PARENTS_MAX: usize = 8;

/// 256 bytes: session and task names are ids, not documents; longer ones are refused.
const NAME_BYTES_MAX: usize = 256;

/// Where else clients name a session, a task and what it is part of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The session.
    pub session: Places,
    /// The task.
    pub task: Places,
    /// The tasks that it is part of.
    pub parents: Places,
}

impl Names {
    /// Whether bodies have to be looked into.
    fn in_bodies(&self) -> bool {
        [&self.session, &self.task, &self.parents]
            .iter()
            .any(|places| !places.metadata.is_empty())
    }
}

/// Where a name may stand, of each kind of place in order; headers come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Headers.
    pub headers: Vec<HeaderName>,
    /// Members of the body's `metadata`.
    pub metadata: Vec<String>,
}

/// What looking into a body has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A task, or what a task is part of.
    Tasks,
    /// No task that was not known before.
    NoTasks,
}

/// What a request says about who and what it belongs to.
#[derive(Debug)]
pub struct Named {
    /// The session.
    pub session: Option<String>,
    /// The task.
    pub task: Option<String>,
    /// Who pays, besides.
    pub payers: Payers,
}

impl Named {
    /// What headers say. Where bodies are looked into as well, the whole is checked after that.
    pub fn in_headers(
        headers: &HeaderMap,
        names: &Names,
        key: Option<&KeyRecord>,
    ) -> Result<Self, Refusal> {
        let mut payers = key.map(|key| key.payers.clone()).unwrap_or_default();
        if let Some(user) = name(headers, &USER_HEADER)? {
            payers.user = Some(user);
        }
        let tags = name(headers, &TAGS_HEADER)?.unwrap_or_default();
        let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
        payers.tags.extend(tags.map(str::to_owned));
        payers.tags.sort();
        payers.tags.dedup();
        if payers.tags.len() > TAGS_MAX {
            let given = payers.tags.len();
            return Err(bad(format!(
                "{given} tags, with those of the key; at most {TAGS_MAX} are allowed"
            )));
        }
        let first = |ours: &HeaderName, places: &Places| {
            let mut headers_of = [ours].into_iter().chain(&places.headers);
            headers_of
                .find_map(|header| name(headers, header).transpose())
                .transpose()
        };
        let parents = first(&PARENTS_HEADER, &names.parents)?;
        payers.parents = listed(parents.as_deref());
        let mut named = Self {
            session: first(&SESSION_HEADER, &names.session)?,
            task: first(&TASK_HEADER, &names.task)?,
            payers,
        };
        if !names.in_bodies() {
            named.check_parents()?;
        }
        Ok(named)
    }

    /// Adds what the body says of what no header has said.
    pub fn look_into(&mut self, body: &[u8], names: &Names) -> Result<Found, Refusal> {
        if !names.in_bodies() {
            return Ok(Found::NoTasks);
        }
        let known = self.tasks().len();
        let metadata = read_metadata(body);
        let first = |places: &Places| {
            let members = places.metadata.iter();
            let mut members = members.filter_map(|it| metadata.get_key_value(it));
            let member = members.next().map(|(name, value)| member(name, value));
            member.transpose()
        };
        if self.session.is_none() {
            self.session = first(&names.session)?;
        }
        if self.task.is_none() {
            self.task = first(&names.task)?;
        }
        if self.payers.parents.is_empty() {
            self.payers.parents = listed(first(&names.parents)?.as_deref());
        }
        self.check_parents()?;
        Ok(if self.tasks().len() == known {
            Found::NoTasks
        } else {
            Found::Tasks
        })
    }

    /// The call's task and those that it is part of.
    pub fn tasks(&self) -> Vec<String> {
        self.task
            .iter()
            .chain(&self.payers.parents)
            .cloned()
            .collect()
    }

    /// A task is no part of itself, and has not too many above it.
    fn check_parents(&mut self) -> Result<(), Refusal> {
        let task = self.task.as_deref();
        self.payers
            .parents
            .retain(|parent| Some(parent.as_str()) != task);
        let given = self.payers.parents.len();
        if given > PARENTS_MAX {
            return Err(bad(format!(
                "what the task is part of (`{PARENTS_HEADER}`) names {given} tasks; at most \
                 {PARENTS_MAX} are allowed"
            )));
        }
        if task.is_none() && given > 0 {
            return Err(bad(format!(
                "the call says what its task is part of (`{PARENTS_HEADER}`); name that task in \
                 `{TASK_HEADER}`"
            )));
        }
        Ok(())
    }
}

fn bad(message: String) -> Refusal {
    Refusal::new(Reason::BadRequest, message)
}

/// Names with commas between them, each once.
fn listed(names: Option<&str>) -> Vec<String> {
    let mut listed: Vec<String> = Vec::new();
    for name in names.unwrap_or_default().split(',').map(str::trim) {
        if !name.is_empty() && !listed.iter().any(|known| known == name) {
            listed.push(name.to_owned());
        }
    }
    listed
}

/// The name in a header, if it is there.
fn name(headers: &HeaderMap, header: &HeaderName) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(header) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if fits(text) => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(bad(format!(
            "header `{header}` must be 1 to {NAME_BYTES_MAX} visible ASCII characters; \
             shorten it or leave it out"
        ))),
    }
}

/// The name in a member of the metadata.
fn member(name: &str, value: &Metadatum) -> Result<String, Refusal> {
    match value {
        Metadatum::Text(text) if fits(text) && !text.contains(char::is_control) => Ok(text.clone()),
        Metadatum::Text(_) | Metadatum::Other => Err(bad(format!(
            "`metadata.{name}` must be a text of 1 to {NAME_BYTES_MAX} bytes without control \
             characters; shorten it or leave it out"
        ))),
    }
}

const fn fits(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX
}
