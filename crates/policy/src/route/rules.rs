//! Rules: which route of the configuration a call takes, by what can be seen of it.
//!
//! **Invariant**: the first route whose every condition holds is taken, and a route without
//! conditions takes every call (test `the_first_route_whose_conditions_hold_is_taken`).

use std::fmt;

use jiff::civil::Time;
use wire::dialect::Dialect;
use wire::provider::matches_glob;
use wire::usage::Tokens;

use crate::admit::window::Zone;
use crate::moment::Moment;
use crate::route::language::{Language, detect};

/// What can be seen of a call before anything is decided.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The model as the client named it.
    pub model: &'a str,
    /// The public id of its key.
    pub key: &'a str,
    /// Its labels.
    pub tags: &'a [String],
    /// The path that was called.
    pub path: &'a str,
    /// What it is written in.
    pub dialect: Dialect,
    /// Whether it defines tools.
    pub tools: bool,
    /// Whether it carries images, documents or sound.
    pub media: bool,
    /// Its input, as estimated.
    pub input: Tokens,
    /// What the user wrote last.
    pub text: &'a str,
    /// When it came.
    pub at: Moment,
    /// Looks up a header of the client's by its lowercase name.
    pub header: &'a dyn Fn(&str) -> Option<String>,
}

impl fmt::Debug for Sight<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sight")
            .field("model", &self.model)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Whether a call has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Having {
    /// It must.
    With,
    /// It must not.
    Without,
}

impl Having {
    fn holds(self, has: bool) -> bool {
        has == (self == Self::With)
    }
}

/// A stretch of the local day; one that ends before it begins runs over midnight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// The first minute.
    pub from: Time,
    /// The first minute after it.
    pub until: Time,
    /// Whose clocks.
    pub zone: Zone,
}

impl Hours {
    /// Whether a moment lies within.
    pub fn contain(&self, at: Moment) -> bool {
        let Some(time) = self.zone.clock(at) else {
            return false;
        };
        if self.from <= self.until {
            self.from <= time && time < self.until
        } else {
            self.from <= time || time < self.until
        }
    }
}

/// A time of day as rules write it: `6:00`, `22:30`.
pub fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let is_short = minute.len() == 2 && (1..=2).contains(&hour.len());
    let time = Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0);
    time.ok().filter(|_| is_short)
}

/// The conditions of a route: all must hold; an empty list and `None` ask nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Globs of the model as the client names it.
    pub models: Vec<String>,
    /// Globs of the key's public id.
    pub keys: Vec<String>,
    /// Labels, one of which it must carry.
    pub tags: Vec<String>,
    /// Globs of the path.
    pub paths: Vec<String>,
    /// Headers by lowercase name, and globs of their values.
    pub headers: Vec<(String, String)>,
    /// What it is written in.
    pub dialect: Option<Dialect>,
    /// Tools.
    pub tools: Option<Having>,
    /// Images, documents in encoded form, sound.
    pub media: Option<Having>,
    /// Least estimated input.
    pub input_min: Option<Tokens>,
    /// Largest estimated input.
    pub input_max: Option<Tokens>,
    /// Languages of what the user wrote last, one of which it must be.
    pub languages: Vec<Language>,
    /// When it comes.
    pub hours: Option<Hours>,
}

/// A condition that does not hold, as `route explain` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The model.
    Model,
    /// The key.
    Key,
    /// The labels.
    Tags,
    /// The path.
    Path,
    /// A header.
    Header,
    /// The dialect.
    Dialect,
    /// Tools.
    Tools,
    /// Media.
    Media,
    /// The size.
    Input,
    /// The language.
    Language,
    /// The time.
    Hours,
}

impl Unmet {
    /// The name of the condition in configuration and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Key => "keys",
            Self::Tags => "tags",
            Self::Path => "paths",
            Self::Header => "headers",
            Self::Dialect => "dialect",
            Self::Tools => "tools",
            Self::Media => "media",
            Self::Input => "input_tokens",
            Self::Language => "languages",
            Self::Hours => "hours",
        }
    }
}

impl When {
    /// The first condition that does not hold, cheapest first; none if the route takes the call.
    pub fn unmet(&self, sight: &Sight<'_>) -> Option<Unmet> {
        let input_fits = self.input_min.is_none_or(|least| sight.input >= least)
            && self.input_max.is_none_or(|most| sight.input <= most);
        let header_fits = |(name, glob): &(String, String)| {
            (sight.header)(name).is_some_and(|value| matches_glob(glob, &value))
        };
        let has = |having: Option<Having>, has: bool| having.is_none_or(|it| it.holds(has));
        let tagged = |tag: &String| sight.tags.contains(tag);
        let unmet = [
            (any(&self.models, sight.model), Unmet::Model),
            (any(&self.keys, sight.key), Unmet::Key),
            (any(&self.paths, sight.path), Unmet::Path),
            (
                self.tags.is_empty() || self.tags.iter().any(tagged),
                Unmet::Tags,
            ),
            (
                self.dialect.is_none_or(|dialect| dialect == sight.dialect),
                Unmet::Dialect,
            ),
            (has(self.tools, sight.tools), Unmet::Tools),
            (has(self.media, sight.media), Unmet::Media),
            (input_fits, Unmet::Input),
            (self.headers.iter().all(header_fits), Unmet::Header),
        ];
        if let Some((_, unmet)) = unmet.into_iter().find(|(holds, _)| !holds) {
            return Some(unmet);
        }
        if self.hours.as_ref().is_some_and(|it| !it.contain(sight.at)) {
            return Some(Unmet::Hours);
        }
        let spoken = self.languages.is_empty()
            || detect(sight.text).is_some_and(|found| self.languages.contains(&found));
        (!spoken).then_some(Unmet::Language)
    }
}

/// Whether one of the globs matches, or there is none.
fn any(globs: &[String], text: &str) -> bool {
    globs.is_empty() || globs.iter().any(|glob| matches_glob(glob, text))
}

/// The first of some routes that takes a call, by its place.
pub fn first<'w>(routes: impl Iterator<Item = &'w When>, sight: &Sight<'_>) -> Option<usize> {
    let mut routes = routes.enumerate();
    routes
        .find(|(_, when)| when.unmet(sight).is_none())
        .map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-24T10:00:00Z.
    const AT: Moment = Moment(1_795_514_400_000);

    fn header(name: &str) -> Option<String> {
        (name == "x-app").then(|| "billing-eu".to_owned())
    }

    fn sight(tags: &[String]) -> Sight<'_> {
        Sight {
            model: "smart",
            key: "key_7",
            tags,
            path: "/v1/chat/completions",
            dialect: Dialect::OpenAiChat,
            tools: false,
            media: false,
            input: Tokens(900),
            text: "Bitte fasse mir den folgenden Vertrag in zwei kurzen Sätzen zusammen.",
            at: AT,
            header: &header,
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn hours(from: (i8, i8), until: (i8, i8), zone: &str) -> Hours {
        Hours {
            from: Time::constant(from.0, from.1, 0, 0),
            until: Time::constant(until.0, until.1, 0, 0),
            zone: Zone::named(zone).expect("a zone"),
        }
    }

    #[test]
    fn each_condition_is_named_where_it_does_not_hold() {
        let tags = texts(&["nightly"]);
        let check = |change: fn(&mut When), expect: Option<Unmet>| {
            let mut when = When::default();
            change(&mut when);
            assert_eq!(when.unmet(&sight(&tags)), expect, "{when:?}");
        };
        check(|_| {}, None);
        check(|when| when.models = texts(&["gpt-*", "sm*"]), None);
        check(|when| when.models = texts(&["gpt-*"]), Some(Unmet::Model));
        check(|when| when.keys = texts(&["key_8"]), Some(Unmet::Key));
        check(|when| when.tags = texts(&["daily", "nightly"]), None);
        check(|when| when.tags = texts(&["daily"]), Some(Unmet::Tags));
        check(|when| when.paths = texts(&["/v1/chat/*"]), None);
        check(
            |when| when.paths = texts(&["/v1/messages"]),
            Some(Unmet::Path),
        );
        check(
            |when| when.dialect = Some(Dialect::AnthropicMessages),
            Some(Unmet::Dialect),
        );
        check(|when| when.tools = Some(Having::Without), None);
        check(|when| when.tools = Some(Having::With), Some(Unmet::Tools));
        check(|when| when.media = Some(Having::With), Some(Unmet::Media));
        check(|when| when.input_max = Some(Tokens(900)), None);
        check(
            |when| when.input_max = Some(Tokens(899)),
            Some(Unmet::Input),
        );
        check(
            |when| when.input_min = Some(Tokens(901)),
            Some(Unmet::Input),
        );
        check(
            |when| when.headers = vec![("x-app".into(), "billing-*".into())],
            None,
        );
        check(
            |when| when.headers = vec![("x-app".into(), "sales-*".into())],
            Some(Unmet::Header),
        );
        check(
            |when| when.headers = vec![("x-other".into(), "*".into())],
            Some(Unmet::Header),
        );
        let german = |when: &mut When| when.languages = vec![Language::named("de").expect("de")];
        check(german, None);
        let french = |when: &mut When| when.languages = vec![Language::named("fr").expect("fr")];
        check(french, Some(Unmet::Language));
    }

    #[test]
    fn hours_are_local_and_run_over_midnight() {
        let tags = Vec::new();
        // 10:00 UTC is 11:00 in Berlin and 19:00 in Tokyo.
        for (from, until, zone, holds) in [
            ((10, 0), (10, 1), "UTC", true),
            ((9, 0), (10, 0), "UTC", false),
            ((11, 0), (12, 0), "Europe/Berlin", true),
            ((18, 0), (6, 0), "Asia/Tokyo", true),
            ((22, 0), (6, 0), "UTC", false),
            ((22, 0), (10, 30), "UTC", true),
        ] {
            let when = When {
                hours: Some(hours(from, until, zone)),
                ..When::default()
            };
            let unmet = when.unmet(&sight(&tags));
            assert_eq!(unmet.is_none(), holds, "{from:?} {until:?} {zone}");
        }
    }

    #[test]
    fn the_first_route_whose_conditions_hold_is_taken() {
        let tags = Vec::new();
        let named = |model: &str| When {
            models: texts(&[model]),
            ..When::default()
        };
        for (routes, expect) in [
            (vec![], None),
            (vec![named("other")], None),
            (vec![named("other"), named("smart")], Some(1)),
            (vec![When::default(), named("smart")], Some(0)),
        ] {
            assert_eq!(first(routes.iter(), &sight(&tags)), expect, "{routes:?}");
        }
    }
}
