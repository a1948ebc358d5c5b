//! What a request of the admin API says: the fields of its body, the parameters of its query.
//!
//! **Invariant**: what is not known is refused by name, nothing is said twice, and no text that may
//! be a secret is taken or repeated (test `what_is_not_allowed_is_named`).

use std::fmt;

use policy::key::{holds_secret, terms};
use policy::moment::Moment;
use policy::refusal::{Reason, Refusal};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::percent::decoded;

/// The end of the year 9999, in milliseconds: a longer time is a slip of the keyboard.
const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given<T> {
    /// It is not there.
    Absent,
    /// It is `null`.
    Null,
    /// It has a value.
    Value(T),
}

impl<T> Given<T> {
    /// The value, if there is one.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }
}

/// The fields of a body.
#[derive(Debug)]
pub(super) struct Fields(Vec<(String, Value)>);

impl Fields {
    /// Reads a body; an empty one has no fields.
    pub(super) fn read(body: &[u8], allowed: &[&str]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let Pairs(pairs) = serde_json::from_slice(body).map_err(|error| {
            // The parser's own words may repeat what was given.
            let (line, column) = (error.line(), error.column());
            let message = format!(
                "the body is not a JSON object (line {line}, column {column}); fields: {}",
                listed(allowed)
            );
            Refusal::new(Reason::BadRequest, message)
        })?;
        for (index, (name, value)) in pairs.iter().enumerate() {
            check_secrets(name, value)?;
            if !allowed.contains(&name.as_str()) {
                return Err(unknown("field", name, allowed));
            }
            if pairs.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(bad(name, format!("`{name}` is given twice; keep one")));
            }
        }
        Ok(Self(pairs))
    }

    fn take(&mut self, name: &str) -> Given<Value> {
        let place = self.0.iter().position(|(given, _)| given == name);
        match place.map(|place| self.0.swap_remove(place).1) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(value) => Given::Value(value),
        }
    }

    /// A text, as it is.
    pub(super) fn text(&mut self, name: &str) -> Result<Given<String>, Refusal> {
        match self.take(name) {
            Given::Absent => Ok(Given::Absent),
            Given::Null => Ok(Given::Null),
            Given::Value(Value::String(text)) => Ok(Given::Value(text)),
            Given::Value(other) => Err(wrong(name, &other, "a text")),
        }
    }

    /// A text that people and tables can read.
    pub(super) fn name(&mut self, name: &str) -> Result<Given<String>, Refusal> {
        let given = self.text(name)?;
        if let Given::Value(text) = &given {
            terms::check(text).map_err(|unfit| bad(name, format!("`{name}` {unfit}")))?;
        }
        Ok(given)
    }

    /// A list of such texts, sorted, each once.
    pub(super) fn names(&mut self, name: &str, most: usize) -> Result<Given<Vec<String>>, Refusal> {
        let items = match self.take(name) {
            Given::Absent => return Ok(Given::Absent),
            Given::Null => return Ok(Given::Null),
            Given::Value(Value::Array(items)) => items,
            Given::Value(other) => return Err(wrong(name, &other, "a list of texts")),
        };
        if items.len() > most {
            let message = format!("`{name}` has {} entries; allowed: {most}", items.len());
            return Err(bad(name, message));
        }
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            let Value::String(text) = item else {
                return Err(wrong(&format!("an entry of {name}"), &item, "a text"));
            };
            let unfit = |unfit| bad(name, format!("an entry of `{name}` {unfit}"));
            terms::check(&text).map_err(unfit)?;
            texts.push(text);
        }
        Ok(Given::Value(terms::sorted(texts)))
    }

    /// A number of milliseconds.
    pub(super) fn millis(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.take(name).value() else {
            return Ok(None);
        };
        let allowed = "a whole number of milliseconds";
        if !value.is_number() {
            return Err(wrong(name, &value, allowed));
        }
        let millis = value.as_u64().filter(|millis| *millis <= TIME_MS_MAX);
        millis.map(Some).ok_or_else(|| {
            let message =
                format!("`{name}` is {value}; allowed: {allowed} from 0 to {TIME_MS_MAX}");
            bad(name, message)
        })
    }

    /// A moment, given as such or as a time from now.
    pub(super) fn moment(
        &mut self,
        at: &str,
        after: &str,
        now: Moment,
    ) -> Result<Option<Moment>, Refusal> {
        match (self.millis(at)?, self.millis(after)?) {
            (None, None) => Ok(None),
            (Some(at), None) => Ok(Some(Moment(at))),
            (None, Some(millis)) => Ok(Some(now.after(millis))),
            (Some(_), Some(_)) => {
                let message = format!("`{at}` and `{after}` are both given; leave out one of them");
                Err(bad(after, message))
            }
        }
    }
}

/// The fields of an object in their order, those that are said twice included.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The parameters of a query.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query.
    pub(super) fn read(query: Option<&str>, allowed: &[&str]) -> Result<Self, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let query = query.unwrap_or_default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                let message = "the query has a percent sign that stands for nothing; write `%25`";
                return Err(Refusal::new(Reason::BadRequest, message));
            };
            if !allowed.contains(&name.as_str()) {
                return Err(unknown("parameter", &name, allowed));
            }
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                return Err(bad(&name, format!("`{name}` is given twice; keep one")));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The value of one.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A number of rows.
    pub(super) fn count(&self, name: &str, default: u32, most: u32) -> Result<u32, Refusal> {
        let Some(text) = self.find(name) else {
            return Ok(default);
        };
        let count = text.parse().ok().filter(|count| (1..=most).contains(count));
        count.ok_or_else(|| {
            let message = format!("`{name}` is {}; allowed: 1 to {most}", shown(text));
            bad(name, message)
        })
    }
}

/// A request that is wrong at one place.
pub(super) fn bad(param: &str, message: String) -> Refusal {
    let mut refusal = Refusal::new(Reason::BadRequest, message);
    refusal.param = Some(shown_plainly(param));
    refusal
}

/// A text as a message repeats it: whole where it is short.
pub(super) fn shown(text: &str) -> String {
    format!("`{}`", shown_plainly(text))
}

fn shown_plainly(text: &str) -> String {
    let mut shown: String = text.chars().take(terms::CHARACTERS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.replace(char::is_control, "?")
}

fn unknown(what: &str, name: &str, allowed: &[&str]) -> Refusal {
    let (name_shown, allowed) = (shown(name), listed(allowed));
    bad(
        name,
        format!("{what} {name_shown} is not known here; allowed: {allowed}"),
    )
}

fn listed(allowed: &[&str]) -> String {
    if allowed.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<String> = allowed.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn wrong(name: &str, value: &Value, allowed: &str) -> Refusal {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    bad(
        name,
        format!("{} is {kind}; allowed: {allowed}", shown(name)),
    )
}

/// Refuses what looks like a secret, in the name of a field or in its value.
fn check_secrets(name: &str, value: &Value) -> Result<(), Refusal> {
    let holds = match value {
        Value::String(text) => holds_secret(text),
        Value::Array(items) => items.iter().filter_map(Value::as_str).any(holds_secret),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    if holds || holds_secret(name) {
        return Err(secret("a field of the body"));
    }
    Ok(())
}

/// What is told to whoever puts a secret where it would be stored or shown.
pub(super) fn secret(what: &str) -> Refusal {
    let message = format!("{what} holds a secret (not shown); name keys by their id, as `key_…`");
    Refusal::new(Reason::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(), Refusal> {
        let allowed = ["team", "tags", "at_ms", "in_ms"];
        let mut fields = Fields::read(body.as_bytes(), &allowed)?;
        fields.name("team")?;
        fields.names("tags", 2)?;
        fields.moment("at_ms", "in_ms", Moment(5)).map(drop)
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let secret = format!(
            "{{\"team\":\"a {}\"}}",
            policy::key::issue("a", [1; 32], Moment(0), None).0
        );
        for (body, expect) in [
            ("", None),
            ("{}", None),
            (r#"{"team":"a","tags":["b","b"],"in_ms":1}"#, None),
            (r#"{"team":null,"tags":null,"at_ms":null}"#, None),
            ("[1]", Some("the body is not a JSON object (line 1")),
            ("\"planted\"", Some("the body is not a JSON object (line 1")),
            (
                r#"{"team":"a""#,
                Some("the body is not a JSON object (line 1"),
            ),
            (
                r#"{"teem":1}"#,
                Some("field `teem` is not known here; allowed: `team`, `tags`"),
            ),
            (r#"{"team":"a","team":"b"}"#, Some("`team` is given twice")),
            (
                r#"{"team":["planted"]}"#,
                Some("`team` is a list; allowed: a text"),
            ),
            (r#"{"team":" a"}"#, Some("`team` has 1 to 128 characters")),
            (
                r#"{"tags":"a"}"#,
                Some("`tags` is a text; allowed: a list of texts"),
            ),
            (r#"{"tags":[1]}"#, Some("`an entry of tags` is a number")),
            (
                r#"{"tags":["a","b","c"]}"#,
                Some("`tags` has 3 entries; allowed: 2"),
            ),
            (r#"{"tags":[""]}"#, Some("an entry of `tags` has 1 to 128")),
            (
                r#"{"at_ms":-1}"#,
                Some("`at_ms` is -1; allowed: a whole number"),
            ),
            (r#"{"at_ms":1.5}"#, Some("`at_ms` is 1.5; allowed")),
            (
                r#"{"at_ms":253402300800000}"#,
                Some("allowed: a whole number of milliseconds from 0"),
            ),
            (r#"{"at_ms":"1"}"#, Some("`at_ms` is a text")),
            (r#"{"at_ms":1,"in_ms":1}"#, Some("both given")),
            (&secret, Some("holds a secret (not shown)")),
        ] {
            match (read(body), expect) {
                (Ok(()), None) => {}
                (Err(refusal), Some(expect)) => {
                    let message = refusal.message;
                    assert!(message.contains(expect), "{body}: {message}");
                    assert!(!message.contains("planted"), "{body}: {message}");
                }
                (found, expect) => assert_eq!(found.err().map(|it| it.message).as_deref(), expect),
            }
        }
    }

    #[test]
    fn queries_are_read() {
        for (query, expect) in [
            (None, Ok(20)),
            (Some(""), Ok(20)),
            (Some("last=3"), Ok(3)),
            (Some("&last=%33&"), Ok(3)),
            (Some("last=0"), Err("`last` is `0`; allowed: 1 to 50")),
            (Some("last=51"), Err("`last` is `51`; allowed: 1 to 50")),
            (Some("last"), Err("`last` is ``; allowed: 1 to 50")),
            (
                Some("last=1&last=2"),
                Err("`last` is given twice; keep one"),
            ),
            (
                Some("first=1"),
                Err("parameter `first` is not known here; allowed: `last`"),
            ),
            (
                Some("last=%"),
                Err("the query has a percent sign that stands for nothing; write `%25`"),
            ),
        ] {
            let count = Parameters::read(query, &["last"]).and_then(|it| it.count("last", 20, 50));
            let count = count.map_err(|refusal| refusal.message);
            assert_eq!(count, expect.map_err(str::to_owned), "{query:?}");
        }
    }
}
