//! Closed answers: a letter, a number, a label, of which several samples of one target can be compared.
//!
//! **Invariant**: what cannot be sampled is said so before anybody is asked (test
//! `what_cannot_be_sampled_is_named`); no further sample is asked for once the count is decided (test
//! `a_count_ends_when_it_is_decided`).

use wire::dialect::request::Request;
use wire::json::Node;
use wire::splice::{Reason, Splice};

use super::signals::Agreement;

/// Four samples beside the answer itself: each is paid like it and comes after the one before.
pub const SAMPLES_MAX: u32 = 4;

/// The normal form of a closed answer: numbers without currency, grouping and trailing zeros,
/// anything else without quotes, spaces and case. None if nothing is left.
pub fn normal(answer: &str) -> Option<String> {
    let answer = answer.trim().trim_end_matches(['.', '%']).trim();
    let number: String = answer
        .chars()
        .filter(|it| !matches!(it, '$' | ',' | ' '))
        .collect();
    if let Ok(number) = number.parse::<f64>()
        && number.is_finite()
    {
        // Negative zero is zero.
        return Some((number + 0.0).to_string());
    }
    let is_kept = |it: &char| !it.is_whitespace() && !matches!(it, '"' | '\'' | '`' | '$');
    let plain: String = answer
        .chars()
        .filter(is_kept)
        .flat_map(char::to_lowercase)
        .collect();
    (!plain.is_empty()).then_some(plain)
}

/// Why samples would say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsampled {
    /// The call defines tools: samples could act differently and mean the same.
    Tools,
    /// The call asks for no chance (`temperature` or `top_p` of 0, a `seed`): samples would repeat it.
    Fixed,
}

impl Unsampled {
    /// The name in notes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tools => "no_samples_with_tools",
            Self::Fixed => "no_samples_without_chance",
        }
    }
}

/// The request for another sample at a model: the client's own, not streamed.
pub fn sample(request: &Request<'_>, model: &str) -> Result<Vec<u8>, Unsampled> {
    if request.has_tools {
        return Err(Unsampled::Tools);
    }
    let mut splice = Splice::default();
    request.rename_model(model, &mut splice);
    let root = request.root();
    let given = |name: &str| root.get(name).filter(|it| !it.is_null());
    let is_zero = |node: Node<'_>| node.raw().parse::<f64>().is_ok_and(|it| it <= 0.0);
    let is_fixed = ["temperature", "top_p"]
        .into_iter()
        .filter_map(given)
        .any(is_zero);
    if is_fixed || given("seed").is_some() {
        return Err(Unsampled::Fixed);
    }
    for (name, value) in [("stream", "false"), ("stream_options", "null")] {
        if let Some(node) = given(name) {
            splice.replace(node.span(), value, Reason::Sample);
        }
    }
    Ok(splice.apply(request.body))
}

/// Samples that are asked until it is decided whether enough of them say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    same: u32,
    left: u32,
    asked: u32,
    needed: u32,
}

impl Count {
    /// Of so many samples, of which this share must say the same.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of at most four"
    )]
    pub fn of(samples: u32, share: f64) -> Self {
        let samples = samples.clamp(1, SAMPLES_MAX);
        let needed = (f64::from(samples) * share.clamp(0.0, 1.0)).ceil() as u32;
        Self {
            same: 0,
            left: samples,
            asked: samples,
            needed: needed.max(1),
        }
    }

    /// Whether another sample could still change what comes of it.
    pub fn is_open(&self) -> bool {
        self.left > 0 && self.same < self.needed && self.same + self.left >= self.needed
    }

    /// A sample came.
    pub fn came(&mut self, says: Says) {
        self.left = self.left.saturating_sub(1);
        self.same += u32::from(says == Says::Same);
    }

    /// What came of it; samples that were not asked for any more count as saying something else.
    pub fn agreement(&self) -> Agreement {
        Agreement {
            same: self.same,
            asked: self.asked,
        }
    }
}

/// What a sample says, beside the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// The same.
    Same,
    /// Something else, or nothing that can be compared.
    Else,
}

impl Says {
    /// Compares two closed answers in their normal form.
    pub fn of(answer: &str, sample: Option<&str>) -> Self {
        match (normal(answer), sample.and_then(normal)) {
            (Some(answer), Some(sample)) if answer == sample => Self::Same,
            _ => Self::Else,
        }
    }

    /// The name in notes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Else => "else",
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::dialect::Dialect;

    use super::*;

    #[test]
    fn closed_answers_have_a_normal_form() {
        for (answer, expect) in [
            ("42", Some("42")),
            ("$1,200.50", Some("1200.5")),
            ("-0.0", Some("0")),
            ("12 %.", Some("12")),
            (" \"Ja\" ", Some("ja")),
            ("\\frac{1}{2}", Some("\\frac{1}{2}")),
            ("''", None),
            ("", None),
        ] {
            assert_eq!(normal(answer).as_deref(), expect, "{answer}");
        }
        for (answer, sample, expect) in [
            ("B", Some("b."), Says::Same),
            ("1,000", Some("1000.0"), Says::Same),
            ("Yes", Some("No"), Says::Else),
            ("B", None, Says::Else),
            ("", Some(""), Says::Else),
        ] {
            assert_eq!(Says::of(answer, sample), expect, "{answer} {sample:?}");
        }
    }

    #[test]
    fn what_cannot_be_sampled_is_named() {
        let check = |members: &str, expect: Result<&str, Unsampled>| {
            let body = format!(
                r#"{{"model":"dear","messages":[{{"role":"user","content":"q"}}]{members}}}"#
            );
            let request = Dialect::OpenAiChat.read(body.as_bytes()).unwrap();
            let found = sample(&request, "cheap").map(|it| String::from_utf8(it).unwrap());
            let expect = expect.map(|members| {
                format!(
                    r#"{{"model":"cheap","messages":[{{"role":"user","content":"q"}}]{members}}}"#
                )
            });
            assert_eq!(found, expect, "{members}");
        };
        check("", Ok(""));
        check(
            r#","temperature":0.7,"seed":null"#,
            Ok(r#","temperature":0.7,"seed":null"#),
        );
        check(
            r#","stream":true,"stream_options":{"include_usage":true}"#,
            Ok(r#","stream":false,"stream_options":null"#),
        );
        check(r#","temperature":0"#, Err(Unsampled::Fixed));
        check(r#","temperature":0.0,"stream":true"#, Err(Unsampled::Fixed));
        check(r#","top_p":0"#, Err(Unsampled::Fixed));
        check(r#","seed":7"#, Err(Unsampled::Fixed));
        let tools = r#","tools":[{"type":"function","function":{"name":"f"}}]"#;
        check(tools, Err(Unsampled::Tools));
    }

    #[test]
    fn a_count_ends_when_it_is_decided() {
        for (samples, share, came, asked, expect) in [
            (2, 1.0, "ss", 2, (2, 2)),
            (2, 1.0, "es", 1, (0, 2)),
            (4, 0.5, "sess", 3, (2, 4)),
            (4, 0.5, "eees", 3, (0, 4)),
            (3, 0.6, "ses", 3, (2, 3)),
            (1, 0.0, "s", 1, (1, 1)),
            (9, 1.0, "sssss", 4, (4, 4)),
        ] {
            let mut count = Count::of(samples, share);
            let mut asked_for = 0;
            for says in came.chars() {
                if !count.is_open() {
                    break;
                }
                asked_for += 1;
                count.came(if says == 's' { Says::Same } else { Says::Else });
            }
            assert!(!count.is_open(), "{came}");
            assert_eq!(asked_for, asked, "{came}");
            let found = count.agreement();
            assert_eq!((found.same, found.asked), expect, "{came}");
        }
    }
}
