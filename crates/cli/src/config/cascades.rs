//! From a route's `cascade` to what the data path is told.
//!
//! **Invariant**: a pattern that cannot be read and a program that cannot be named are refused by
//! place, never left out (tests `faulty_cascades_are_named` and
//! `faulty_judges_and_samples_are_named`).

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway::setup::Target;
use gateway::setup::cascade::{Agree, Cascade, How, Judge, Pattern, Verifier};
use policy::cascade::closed::SAMPLES_MAX;
use policy::cascade::rubric::{Rubric, SCORE_MAX};
use policy::cascade::verdict::HoldBack;
use policy::cascade::word::{TRUST, TRUST_MAX};

use super::fault::ConfigError;
use super::raw::route::{RawCascade, RawJudge, RawVerifier};
use super::routes::target;
use super::rules::{Entry, QUALITY_FLOOR};

/// 60 s: nobody waits longer for a first word.
const HOLD_BACK_MS_MAX: u64 = 60_000;

/// 7 of 10: a pass with room above it. What it lets through is for the route's owner to find out.
const SCORE_FROM: u8 = 7;

/// 5 s, as a program has: the client waits meanwhile.
const JUDGE_MS: u64 = 5_000;

/// A tenth of a second: no model replies sooner.
const JUDGE_MS_LEAST: u64 = 100;

/// 60 s, as an answer is held back at most.
const JUDGE_MS_MAX: u64 = 60_000;

/// Two further answers: with one, a target that guesses between two is right by chance half the time.
const SAMPLES: u32 = 2;

/// 10 s: an answer of 1 000 tokens at a hundred a second.
const SAMPLE_MS: u64 = 10_000;

/// 16 MiB for each call under way.
const HOLD_BACK_KB_MAX: u64 = 16 * 1024;

/// The cascade of a route, if it has one.
pub(super) fn cascade(entry: Entry<'_>) -> Result<Option<Arc<Cascade>>, ConfigError> {
    let Some(raw) = &entry.raw.cascade else {
        return Ok(None);
    };
    let target = target(&raw.target).ok_or_else(|| {
        let problem = format!("is `{}`; allowed: `provider/model`", raw.target);
        entry.fault("cascade.target", problem)
    })?;
    let accept_from = raw.accept_from;
    let accept_from = accept_from.map(|it| entry.share("cascade.accept_from", it, 0.0..=1.0));
    let quality = raw.quality;
    let quality = quality.map(|it| entry.share("cascade.quality", it, QUALITY_FLOOR..=1.0));
    let verifiers = raw.verify.iter().enumerate();
    let verifiers = verifiers.map(|(place, raw)| verifier(entry, place, raw, &target));
    let verifiers = verifiers.collect::<Result<_, _>>()?;
    Ok(Some(Arc::new(Cascade {
        target,
        mode: entry.lever("cascade.lever", raw.lever)?,
        quality: quality.transpose()?,
        trust: entry.share("cascade.trust", raw.trust.unwrap_or(TRUST), 0.0..=TRUST_MAX)?,
        accept_from: accept_from.transpose()?,
        verifiers,
        agree: agree(entry, raw)?,
        hold_back: hold_back(entry, raw)?,
    })))
}

fn hold_back(entry: Entry<'_>, raw: &RawCascade) -> Result<HoldBack, ConfigError> {
    let within = |field: &str, value: u64, most: u64| {
        let key = format!("routes.{}.cascade.{field}", entry.raw.id);
        entry.build.within(&key, value, 1..=most)
    };
    let mut hold_back = HoldBack::default();
    if let Some(ms) = raw.hold_back_ms {
        hold_back.time_max = Duration::from_millis(within("hold_back_ms", ms, HOLD_BACK_MS_MAX)?);
    }
    if let Some(kb) = raw.hold_back_kb {
        let bytes = within("hold_back_kb", kb, HOLD_BACK_KB_MAX)? * 1024;
        hold_back.bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    Ok(hold_back)
}

fn agree(entry: Entry<'_>, raw: &RawCascade) -> Result<Option<Agree>, ConfigError> {
    let Some(agree) = &raw.agree else {
        return Ok(None);
    };
    if raw.accept_from.is_some() {
        let problem = "cannot stand beside `accept_from`: each says when an answer is good enough";
        return Err(entry.fault("cascade.agree", problem));
    }
    let pattern = Pattern::new(&agree.pattern).map_err(|error| {
        let problem = format!("is `{}`, which cannot be read: {error}", agree.pattern);
        entry.fault("cascade.agree.pattern", problem)
    })?;
    let within = |field: &str, value: u64, allowed: RangeInclusive<u64>| {
        let key = format!("routes.{}.cascade.agree.{field}", entry.raw.id);
        entry.build.within(&key, value, allowed)
    };
    let samples = agree.samples.unwrap_or(SAMPLES).into();
    let samples = within("samples", samples, 1..=SAMPLES_MAX.into())?;
    let ms = agree.timeout_ms.unwrap_or(SAMPLE_MS);
    let ms = within("timeout_ms", ms, JUDGE_MS_LEAST..=JUDGE_MS_MAX)?;
    Ok(Some(Agree {
        pattern,
        samples: u32::try_from(samples).unwrap_or(SAMPLES_MAX),
        from: entry.share("cascade.agree.from", agree.from.unwrap_or(1.0), 0.1..=1.0)?,
        time_max: Duration::from_millis(ms),
    }))
}

/// A verifier, named after its place, counted from one.
fn verifier(
    entry: Entry<'_>,
    place: usize,
    raw: &RawVerifier,
    judged: &Target,
) -> Result<Verifier, ConfigError> {
    let place = place + 1;
    let fault = |problem: String| entry.fault(&format!("cascade.verify {place}"), problem);
    match (&raw.regex, &raw.command, &raw.judge) {
        (Some(text), None, None) => {
            let pattern = Pattern::new(text).map_err(|error| {
                fault(format!(
                    "has the regex `{text}`, which cannot be read: {error}"
                ))
            })?;
            Ok(Verifier {
                name: format!("regex {place}"),
                how: How::Pattern(pattern),
            })
        }
        (None, Some(words), None) => {
            let (program, arguments) = words.split_first().unzip();
            let program = program.map(PathBuf::from);
            let program = program.filter(|path| path.is_absolute()).ok_or_else(|| {
                fault("has a command without an absolute path; allowed: `/path/to/program`".into())
            })?;
            Ok(Verifier {
                name: format!("command {place}"),
                how: How::Command {
                    program,
                    arguments: arguments.unwrap_or_default().to_vec(),
                },
            })
        }
        (None, None, Some(raw)) => Ok(Verifier {
            name: format!("judge {place}"),
            how: How::Judge(judge(entry, place, raw, judged)?),
        }),
        _ => Err(fault(
            "needs one of `regex`, `command` and `judge`".to_owned(),
        )),
    }
}

fn judge(
    entry: Entry<'_>,
    place: usize,
    raw: &RawJudge,
    judged: &Target,
) -> Result<Judge, ConfigError> {
    let field = format!("cascade.verify {place}.judge");
    let fault = |problem: String| entry.fault(&field, problem);
    let target = target(&raw.target)
        .ok_or_else(|| fault(format!("is `{}`; allowed: `provider/model`", raw.target)))?;
    if target == *judged {
        let problem = format!(
            "is `{}`, which is judged; nobody judges itself: name another model",
            raw.target
        );
        return Err(fault(problem));
    }
    if raw.rubric.trim().is_empty() {
        let problem = "has an empty `rubric`; say what a good answer does";
        return Err(fault(problem.to_owned()));
    }
    let within = |name: &str, given: u64, allowed: RangeInclusive<u64>| {
        let key = format!("routes.{}.{field}.{name}", entry.raw.id);
        entry.build.within(&key, given, allowed)
    };
    let from = raw.from.unwrap_or(SCORE_FROM).into();
    let from = within("from", from, 1..=SCORE_MAX.into())?;
    let ms = raw.timeout_ms.unwrap_or(JUDGE_MS);
    Ok(Judge {
        target,
        rubric: Rubric {
            text: raw.rubric.clone(),
            from: u8::try_from(from).unwrap_or(SCORE_MAX),
        },
        time_max: Duration::from_millis(within("timeout_ms", ms, JUDGE_MS_LEAST..=JUDGE_MS_MAX)?),
    })
}

#[cfg(test)]
mod tests {
    use gateway::setup::LeverMode;

    use super::super::rows::{parse, refused};
    use super::*;

    fn route(cascade: &str) -> String {
        format!(
            "[[providers]]\nid = \"openai\"\n[[routes]]\nid = \"a\"\n[routes.cascade]\n{cascade}\n"
        )
    }

    #[test]
    fn a_cascade_observes_unless_told_otherwise() {
        let config = parse(&route("target = \"openai/gpt-5.4-mini\"")).unwrap();
        let cascade = config.settings().rules[0].cascade.clone().unwrap();
        assert_eq!(cascade.mode, LeverMode::Observe);
        assert_eq!(cascade.hold_back, HoldBack::default());
        let config = parse(&route(
            "target = \"openai/gpt-5.4-mini\"\nlever = \"on\"\naccept_from = 0.8\n\
             hold_back_ms = 1500\nhold_back_kb = 64\n\
             verify = [{ regex = \"^[0-9]+$\" }, { command = [\"/bin/true\", \"-x\"] }]",
        ))
        .unwrap();
        let cascade = config.settings().rules[0].cascade.clone().unwrap();
        let hold_back = HoldBack {
            bytes_max: 65_536,
            time_max: Duration::from_millis(1_500),
        };
        assert_eq!(
            (cascade.mode, cascade.hold_back),
            (LeverMode::On, hold_back)
        );
        let names: Vec<&str> = cascade
            .verifiers
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        assert_eq!(names, ["regex 1", "command 2"]);
    }

    #[test]
    fn faulty_cascades_are_named() {
        let here = "target = \"openai/m\"\n";
        for (fields, expect) in [
            ("", "missing field `target`"),
            (
                "target = \"mini\"",
                "`routes.a.cascade.target` is `mini`; allowed: `provider/model`",
            ),
            ("target = \"groq/x\"", "leads to `groq`"),
            (
                &format!("{here}accept_from = 1.5"),
                "`routes.a.cascade.accept_from` is 1.5; allowed: 0 to 1",
            ),
            (
                &format!("{here}quality = 0.3"),
                "`routes.a.cascade.quality` is 0.3; allowed: 0.5 to 1",
            ),
            (
                &format!("{here}trust = 0.9"),
                "`routes.a.cascade.trust` is 0.9; allowed: 0 to 0.5",
            ),
            (
                &format!("{here}hold_back_ms = 0"),
                "`routes.a.cascade.hold_back_ms` is 0; allowed: 1 to 60000",
            ),
            (
                &format!("{here}hold_back_kb = 99999"),
                "`routes.a.cascade.hold_back_kb` is 99999; allowed: 1 to 16384",
            ),
            (
                &format!("{here}verify = [{{ regex = \"(\" }}]"),
                "`routes.a.cascade.verify 1` has the regex `(`, which cannot be read",
            ),
            (
                &format!("{here}verify = [{{ command = [\"check\"] }}]"),
                "`routes.a.cascade.verify 1` has a command without an absolute path",
            ),
            (
                &format!("{here}verify = [{{ command = [] }}]"),
                "absolute path",
            ),
            (
                &format!("{here}verify = [{{}}]"),
                "`routes.a.cascade.verify 1` needs one of `regex`, `command` and `judge`",
            ),
            (&format!("{here}lever = \"maybe\""), "`observe`"),
        ] {
            let found = refused(&route(fields));
            assert!(found.contains(expect), "{fields}: {found}");
        }
    }

    #[test]
    fn faulty_judges_and_samples_are_named() {
        let here = "target = \"openai/m\"\n";
        let agreeing = |pattern: &str, more: &str| {
            format!("{here}agree = {{ pattern = \"{pattern}\"{more} }}")
        };
        let judged = |target: &str, rubric: &str, more: &str| {
            format!(
                "{here}verify = [{{ judge = {{ target = {target}, rubric = \"{rubric}\"{more} }} }}]"
            )
        };
        for (fields, expect) in [
            (
                &judged("\"openai/m\"", "good", ""),
                "`routes.a.cascade.verify 1.judge` is `openai/m`, which is judged",
            ),
            (&judged("\"groq/x\"", "good", ""), "leads to `groq`"),
            (&judged("\"x\"", "good", ""), "allowed: `provider/model`"),
            (&judged("\"openai/j\"", " ", ""), "has an empty `rubric`"),
            (
                &judged("\"openai/j\"", "good", ", from = 11"),
                "`routes.a.cascade.verify 1.judge.from` is 11; allowed: 1 to 10",
            ),
            (
                &judged("\"openai/j\"", "good", ", timeout_ms = 1"),
                "verify 1.judge.timeout_ms` is 1; allowed: 100 to 60000",
            ),
            (
                &agreeing("(", ""),
                "`routes.a.cascade.agree.pattern` is `(`",
            ),
            (
                &agreeing("x", ", samples = 9"),
                "`routes.a.cascade.agree.samples` is 9; allowed: 1 to 4",
            ),
            (
                &agreeing("x", ", from = 0.0"),
                "`routes.a.cascade.agree.from` is 0; allowed: 0.1 to 1",
            ),
            (
                &format!("{}\naccept_from = 0.9", agreeing("x", "")),
                "`routes.a.cascade.agree` cannot stand beside `accept_from`",
            ),
        ] {
            let found = refused(&route(fields));
            assert!(found.contains(expect), "{fields}: {found}");
        }
    }
}
