//! From `[names]` to where the data path looks for what a call belongs to.
//!
//! **Invariant**: no header that may carry a secret becomes a name in the ledger (test
//! `faulty_places_are_named`).

use gateway::receive::names::{Names, Places};
use http::HeaderName;

use super::build::Build;
use super::fault::ConfigError;

/// What stands before a member of the body's `metadata`.
const METADATA: &str = "metadata.";

/// What our own headers begin with.
const OURS: &str = "x-tokenwise-";

/// Headers that carry secrets.
const SECRET: [&str; 6] = [
    "api-key",
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
    "x-goog-api-key",
];

/// Where clients name what a call belongs to.
pub(super) fn names(build: &Build<'_>) -> Result<Names, ConfigError> {
    let raw = &build.raw.names;
    Ok(Names {
        session: places(build, "session", &raw.session)?,
        task: places(build, "task", &raw.task)?,
        parents: places(build, "parent_task", &raw.parent_task)?,
    })
}

fn places(build: &Build<'_>, field: &str, raw: &[String]) -> Result<Places, ConfigError> {
    let mut places = Places::default();
    for place in raw {
        let fault = |why: &str| {
            let problem = format!("lists `{place}`, which {why}");
            build.fault(format!("names.{field}"), problem)
        };
        if let Some(member) = place.strip_prefix(METADATA) {
            if member.is_empty() {
                return Err(fault("names no member; allowed: `metadata.NAME`"));
            }
            places.metadata.push(member.to_owned());
            continue;
        }
        let header = HeaderName::try_from(place.as_str());
        let header =
            header.map_err(|_| fault("is no header; allowed: a header, `metadata.NAME`"))?;
        if SECRET.contains(&header.as_str()) {
            return Err(fault("carries secrets; name another header"));
        }
        if header.as_str().starts_with(OURS) {
            return Err(fault("is one of ours; those are read anyway"));
        }
        places.headers.push(header);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::super::rows::{parse, refused};

    #[test]
    fn places_are_headers_or_metadata() {
        let text = "[names]\nsession = [\"X-Session-Id\"]\n\
                    task = [\"metadata.task\", \"x-run\", \"metadata.run\"]\n";
        let config = parse(text).unwrap();
        let names = &config.settings().names;
        assert_eq!(names.session.headers, ["x-session-id"]);
        assert_eq!(names.task.headers, ["x-run"]);
        assert_eq!(names.task.metadata, ["task", "run"]);
        assert_eq!(names.parents, super::Places::default());
    }

    #[test]
    fn faulty_places_are_named() {
        for (place, expect) in [
            (
                "",
                "lists ``, which is no header; allowed: a header, `metadata.NAME`",
            ),
            (
                "a b",
                "lists `a b`, which is no header; allowed: a header, `metadata.NAME`",
            ),
            (
                "metadata.",
                "lists `metadata.`, which names no member; allowed: `metadata.NAME`",
            ),
            (
                "Authorization",
                "lists `Authorization`, which carries secrets; name another header",
            ),
            (
                "x-tokenwise-task",
                "lists `x-tokenwise-task`, which is one of ours; those are read anyway",
            ),
        ] {
            let text = format!("[names]\ntask = [\"{place}\"]\n");
            let message = refused(&text);
            assert!(
                message.contains(&format!("`names.task` {expect}")),
                "{message}"
            );
        }
    }
}
