//! Who pays for a key's calls and which models it may call: what can be stored, and how it reads.
//!
//! **Invariant**: what enters a record has passed its check, so that a table or a log line cannot be
//! broken by a name (test `texts_are_checked`).

use crate::moment::Moment;
use crate::ports::KeyRecord;

/// 128 characters: a name is for people.
pub const CHARACTERS_MAX: usize = 128;

/// 16: each tag is one more that every call of the key is charged to.
pub const TAGS_MAX: usize = 16;

/// 64: a longer list is better said with `*`.
pub const MODELS_MAX: usize = 64;

/// A text that cannot be a name, a tag or a glob; what it belongs to goes before the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "has 1 to {CHARACTERS_MAX} characters, none of them a control character, and no space at either \
     end"
)]
pub struct UnfitText;

/// Whether a text can be a name, a tag or a glob.
pub fn check(text: &str) -> Result<(), UnfitText> {
    let characters = text.chars().count();
    let fits = (1..=CHARACTERS_MAX).contains(&characters)
        && text.trim() == text
        && !text.contains(char::is_control);
    if fits { Ok(()) } else { Err(UnfitText) }
}

/// A list as it is stored: sorted, each text once.
pub fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts.dedup();
    texts
}

/// Who pays for a key's calls and what it may call, in words.
pub fn described(record: &KeyRecord) -> String {
    let payers = &record.payers;
    let mut words = Vec::new();
    for (label, name) in [
        ("organisation", &payers.organisation),
        ("team", &payers.team),
        ("user", &payers.user),
    ] {
        words.extend(name.as_ref().map(|name| format!("{label} `{name}`")));
    }
    if !payers.tags.is_empty() {
        words.push(format!("tags {}", quoted(&payers.tags)));
    }
    words.push(if record.models.is_empty() {
        "all models".to_owned()
    } else {
        format!("models {}", quoted(&record.models))
    });
    words.join(", ")
}

/// How long something works, in words.
pub fn until(end: Option<Moment>) -> String {
    end.map_or("for ever".to_owned(), |end| format!("until {end} UTC"))
}

/// Texts that a person can tell apart: `` `a` `b` ``.
pub fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_checked() {
        let long = "x".repeat(CHARACTERS_MAX + 1);
        for (text, fits) in [
            ("search", true),
            ("Team Süd, \"a\"", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            (" a", false),
            ("a\n", false),
            ("a\u{1b}[2J", false),
        ] {
            assert_eq!(check(text).is_ok(), fits, "{text:?}");
        }
    }

    #[test]
    fn ends_read_as_words() {
        assert_eq!(until(None), "for ever");
        let end = Moment(1_800_000_000_000);
        assert_eq!(until(Some(end)), "until 2027-01-15 08:00:00 UTC");
    }
}
