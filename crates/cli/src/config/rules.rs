//! From `[[routes]]` to rules.
//!
//! **Invariant**: a condition that cannot be read is refused by name, never left out (test
//! `faulty_routes_are_named`).

use std::ops::RangeInclusive;

use gateway::setup::{LeverMode, Rule, Setup, Target, Think, Trim};
use policy::admit::window::Zone;
use policy::route::language::Language;
use policy::route::rules::{Having, Hours, When, clock};
use policy::shape::trim::Level;
use wire::dialect::Dialect;
use wire::usage::Tokens;

use super::build::{Build, observing};
use super::cascades::cascade;
use super::contexts::{budgets, focus_tokens};
use super::fault::ConfigError;
use super::loops::of_route;
use super::raw::route::{RawHaving, RawRule, RawTrim};
use super::raw::{RawDialect, RawLeverMode};
use super::routes::target;

/// 97 %: what the router is measured at; a few calls in a hundred may be answered less well.
const QUALITY: f64 = 0.97;

/// Half: whoever is content with less names the cheaper target in `use`.
pub(super) const QUALITY_FLOOR: f64 = 0.5;

/// A fifth: tried calls may be answered badly, and fewer already bring outcomes.
const EXPLORE_CEILING: f64 = 0.2;

/// The routes, in order.
pub(super) fn rules(build: &Build<'_>) -> Result<Vec<Rule>, ConfigError> {
    let raws = build.raw.routes.iter();
    let rules: Result<Vec<Rule>, _> = raws.map(|raw| Entry { build, raw }.rule()).collect();
    let rules = rules?;
    for (place, rule) in rules.iter().enumerate() {
        if rules
            .iter()
            .take(place)
            .any(|other| other.name == rule.name)
        {
            let problem = format!(
                "`{}` is written twice; give each route its own id",
                rule.name
            );
            return Err(build.fault("routes.id".to_owned(), problem));
        }
    }
    Ok(rules)
}

/// What the reader should know: routes that take no call, because one before them takes all.
pub(super) fn remarks(setup: &Setup) -> Vec<String> {
    let all = |rule: &&Rule| rule.when == When::default();
    let Some(place) = setup.rules.iter().position(|rule| all(&rule)) else {
        return Vec::new();
    };
    let behind = setup.rules.iter().skip(place + 1);
    let before = setup.rules.get(place).map(|rule| rule.name.as_str());
    behind
        .map(|rule| {
            format!(
                "the route `{}` takes no call: `{}` before it has no condition and takes all",
                rule.name,
                before.unwrap_or_default()
            )
        })
        .collect()
}

/// One table, and what is needed to say what is wrong with it.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) build: &'a Build<'a>,
    pub(super) raw: &'a RawRule,
}

impl Entry<'_> {
    fn rule(self) -> Result<Rule, ConfigError> {
        let raw = self.raw;
        self.build.check_id("routes.id", &raw.id)?;
        Ok(Rule {
            name: raw.id.clone(),
            when: self.when()?,
            to: raw.to.clone(),
            as_good: self.targets("as_good", &raw.as_good)?,
            cheaper: self.targets("cheaper", &raw.cheaper)?,
            quality: self.share(
                "quality",
                raw.quality.unwrap_or(QUALITY),
                QUALITY_FLOOR..=1.0,
            )?,
            explore: self.share("explore", raw.explore.unwrap_or(0.0), 0.0..=EXPLORE_CEILING)?,
            first_token_ms_max: raw.first_token_ms_max,
            mode: self.lever("lever", raw.lever)?,
            cascade: cascade(self)?,
            think: Think {
                mode: self.lever("think", raw.think.or(self.build.raw.levers.think))?,
                with_tools: raw.think_with_tools,
            },
            loops: of_route(self.build, &raw.id, raw.loops.as_ref())?,
            context: budgets(self)?,
            trim: Trim {
                mode: self.lever("trim_lever", raw.trim_lever.or(self.build.raw.levers.trim))?,
                focus: focus_tokens(self)?,
                level: raw.trim.map(|level| match level {
                    RawTrim::Exact => Level::Exact,
                    RawTrim::Folded => Level::Folded,
                }),
            },
        })
    }

    /// A lever of the route; everything is off where the file says `passthrough`.
    pub(super) fn lever(
        self,
        field: &str,
        raw: Option<RawLeverMode>,
    ) -> Result<LeverMode, ConfigError> {
        let key = format!("routes.{}.{field}", self.raw.id);
        observing(self.build, &key, raw)
    }

    pub(super) fn fault(self, field: &str, problem: impl Into<String>) -> ConfigError {
        let key = format!("routes.{}.{field}", self.raw.id);
        self.build.fault(key, problem.into())
    }

    /// A share within what is allowed.
    pub(super) fn share(
        self,
        field: &str,
        given: f64,
        allowed: RangeInclusive<f64>,
    ) -> Result<f64, ConfigError> {
        if allowed.contains(&given) {
            return Ok(given);
        }
        let (least, most) = (allowed.start(), allowed.end());
        Err(self.fault(field, format!("is {given}; allowed: {least} to {most}")))
    }

    fn targets(self, field: &str, texts: &[String]) -> Result<Vec<Target>, ConfigError> {
        let read = |text: &String| {
            target(text).ok_or_else(|| {
                self.fault(field, format!("lists `{text}`; allowed: `provider/model`"))
            })
        };
        texts.iter().map(read).collect()
    }

    fn when(self) -> Result<When, ConfigError> {
        let raw = self.raw;
        let headers = raw.headers.iter();
        let headers = headers.map(|(name, glob)| (name.to_ascii_lowercase(), glob.clone()));
        if let (Some(least), Some(most)) = (raw.input_tokens_min, raw.input_tokens_max)
            && least > most
        {
            let problem =
                format!("is {least}, above `input_tokens_max = {most}`: no call fits both");
            return Err(self.fault("input_tokens_min", problem));
        }
        Ok(When {
            models: raw.models.clone(),
            keys: raw.keys.clone(),
            tags: raw.tags.clone(),
            paths: raw.paths.clone(),
            headers: headers.collect(),
            dialect: raw.dialect.map(dialect),
            tools: raw.tools.map(having),
            media: raw.media.map(having),
            input_min: raw.input_tokens_min.map(Tokens),
            input_max: raw.input_tokens_max.map(Tokens),
            languages: self.languages()?,
            hours: self.hours()?,
        })
    }

    fn languages(self) -> Result<Vec<Language>, ConfigError> {
        let named = |code: &String| {
            Language::named(code).map_err(|error| self.fault("languages", format!("lists {error}")))
        };
        self.raw.languages.iter().map(named).collect()
    }

    fn hours(self) -> Result<Option<Hours>, ConfigError> {
        let Some(text) = &self.raw.hours else {
            return match self.raw.time_zone {
                None => Ok(None),
                Some(_) => Err(self.fault("time_zone", "is given without `hours`; leave it out")),
            };
        };
        let zone = match self.raw.time_zone.as_deref() {
            None => Zone::UTC,
            Some(name) => Zone::named(name)
                .map_err(|error| self.fault("time_zone", format!("is `{name}`: {error}")))?,
        };
        let ends = text.split_once('-');
        let ends = ends.and_then(|(from, until)| Some((clock(from)?, clock(until)?)));
        let (from, until) = ends.filter(|(from, until)| from != until).ok_or_else(|| {
            let problem =
                format!("is `{text}`; allowed: two different times of day, as `22:00-06:00`");
            self.fault("hours", problem)
        })?;
        Ok(Some(Hours { from, until, zone }))
    }
}

const fn having(raw: RawHaving) -> Having {
    match raw {
        RawHaving::With => Having::With,
        RawHaving::Without => Having::Without,
    }
}

const fn dialect(raw: RawDialect) -> Dialect {
    match raw {
        RawDialect::AnthropicMessages => Dialect::AnthropicMessages,
        RawDialect::OpenAiChat => Dialect::OpenAiChat,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::{parse, refused};
    use super::*;

    const PROVIDERS: &str =
        "[[providers]]\nid = \"openai\"\n[models]\nsmart = \"openai/gpt-5.4\"\n";

    fn routes(fields: &str) -> String {
        format!("{PROVIDERS}[[routes]]\nid = \"a\"\n{fields}\n")
    }

    #[test]
    fn routes_are_read_in_order() {
        let text = routes(
            "models = [\"smart\"]\ntools = \"without\"\nhours = \"22:00-06:30\"\n\
             time_zone = \"Europe/Berlin\"\nlanguages = [\"de\"]\nuse = \"openai/gpt-5.4-mini\"\n\
             lever = \"on\"\nas_good = [\"openai/gpt-5.4-nano\"]\n[[routes]]\nid = \"b\"\n\
             use = \"smart\"\ntrim = \"folded\"\ntrim_lever = \"on\"\n[[routes]]\nid = \"c\"\n\
             trim = \"exact\"",
        );
        let config = parse(&text).unwrap();
        let rules = &config.settings().rules;
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[0].to.as_deref(), Some("openai/gpt-5.4-mini"));
        assert_eq!(rules[0].when.tools, Some(Having::Without));
        assert_eq!(
            (rules[0].mode, rules[1].mode),
            (LeverMode::On, LeverMode::Observe)
        );
        let trim = |mode, level| Trim {
            mode,
            level,
            focus: None,
        };
        let expect = [
            trim(LeverMode::Observe, None),
            trim(LeverMode::On, Some(Level::Folded)),
            trim(LeverMode::Observe, Some(Level::Exact)),
        ];
        assert_eq!(
            rules.iter().map(|rule| rule.trim).collect::<Vec<_>>(),
            expect
        );
        let remarks = ["the route `c` takes no call: `b` before it has no condition and takes all"];
        assert_eq!(config.remarks, remarks);
    }

    #[test]
    fn faulty_routes_are_named() {
        for (fields, expect) in [
            (
                "use = \"fast\"",
                "`routes.a.use` cannot be used: route `a` leads to `fast`",
            ),
            ("use = \"groq/x\"", "leads to `groq`, which is neither"),
            (
                "as_good = [\"mini\"]",
                "`routes.a.as_good` lists `mini`; allowed: `provider/model`",
            ),
            ("as_good = [\"groq/x\"]", "leads to `groq`"),
            ("cheaper = [\"groq/x\"]", "leads to `groq`"),
            (
                "quality = 1.5",
                "`routes.a.quality` is 1.5; allowed: 0.5 to 1",
            ),
            (
                "explore = 0.5",
                "`routes.a.explore` is 0.5; allowed: 0 to 0.2",
            ),
            (
                "languages = [\"tlh\"]",
                "`routes.a.languages` lists `tlh` is no language",
            ),
            (
                "hours = \"22-6\"",
                "`routes.a.hours` is `22-6`; allowed: two different times",
            ),
            ("hours = \"22:00-22:00\"", "two different times of day"),
            ("hours = \"22:00-25:00\"", "two different times of day"),
            (
                "time_zone = \"UTC\"",
                "`routes.a.time_zone` is given without `hours`",
            ),
            (
                "hours = \"1:00-2:00\"\ntime_zone = \"Moon\"",
                "no time zone `Moon`",
            ),
            (
                "input_tokens_min = 9\ninput_tokens_max = 8",
                "`routes.a.input_tokens_min` is 9",
            ),
            ("[[routes]]\nid = \"a\"", "`routes.id` `a` is written twice"),
            ("tools = \"some\"", "`without`"),
            ("trim = \"much\"", "`folded`"),
        ] {
            let found = refused(&routes(fields));
            assert!(found.contains(expect), "{fields}: {found}");
        }
    }
}
