//! Refusal wording: whether an answer, in plain words, is a "no" instead of an answer.
//!
//! The table is short on purpose. A false alarm costs one call to the dearer model; but a phrase
//! that answers use in passing ("I can't stress enough", "I cannot find it in the text") would make
//! a cascade escalate for ever, so phrases count only at the beginning, and only where they say that
//! the *model* will not or cannot help.
//!
//! **Invariant**: an answer that merely mentions inability is not a refusal (test
//! `refusals_are_told_from_answers`).

/// 160 bytes: refusals open with themselves; what comes later is part of an answer.
pub const OPENING_BYTES: usize = 160;

/// 1,200 bytes: longer texts that begin with an apology go on to answer.
const REFUSAL_BYTES_MAX: usize = 1_200;

/// One way to say no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phrase {
    /// Lowercase, with plain apostrophes.
    pub text: &'static str,
    /// Why it counts.
    pub reason: &'static str,
}

/// Ways to say no, alphabetical.
pub const PHRASES: &[Phrase] = &[
    said(
        "as an ai language model, i can",
        "an assistant's disclaimer before declining",
    ),
    said("das kann ich nicht beantworten", "declining, in German"),
    said("i am not able to assist", "declining help"),
    said("i am not able to help", "declining help"),
    said("i am unable to assist", "declining help"),
    said("i am unable to help", "declining help"),
    said("i am unable to provide", "declining to provide"),
    said("i can't assist with", "declining help"),
    said("i can't help with", "declining help"),
    said("i can't provide", "declining to provide"),
    said("i cannot assist with", "declining help"),
    said("i cannot fulfill", "declining the request"),
    said("i cannot help with", "declining help"),
    said("i cannot provide", "declining to provide"),
    said("i don't have access to", "the means to answer are missing"),
    said(
        "i don't have enough information to",
        "the model sees no way to answer",
    ),
    said("i must decline", "declining the request"),
    said("i won't be able to", "declining the request"),
    said("i'm not able to assist", "declining help"),
    said("i'm not able to help", "declining help"),
    said("i'm unable to assist", "declining help"),
    said("i'm unable to help", "declining help"),
    said("i'm unable to provide", "declining to provide"),
    said("ich kann dabei nicht helfen", "declining, in German"),
    said("je ne peux pas vous aider", "declining, in French"),
    said("lo siento, pero no puedo", "declining, in Spanish"),
    said("sorry, but i can't", "an apology before declining"),
    said("sorry, but i cannot", "an apology before declining"),
    said("sorry, i can't", "an apology before declining"),
    said("sorry, i cannot", "an apology before declining"),
];

const fn said(text: &'static str, reason: &'static str) -> Phrase {
    Phrase { text, reason }
}

/// The phrase by which a whole answer declines, if it does. Allocates the lowercased opening.
pub fn refusal(text: &str) -> Option<Phrase> {
    let text = text.trim();
    if text.len() > REFUSAL_BYTES_MAX {
        return None;
    }
    let opening: String = text
        .char_indices()
        .take_while(|(at, _)| *at < OPENING_BYTES)
        .map(|(_, letter)| if letter == '\u{2019}' { '\'' } else { letter })
        .flat_map(char::to_lowercase)
        .collect();
    PHRASES
        .iter()
        .find(|phrase| begins_sentence(&opening, phrase.text))
        .copied()
}

/// Whether a phrase stands where a sentence or clause begins: quoted or reported words do not count.
fn begins_sentence(opening: &str, phrase: &str) -> bool {
    opening.match_indices(phrase).any(|(at, _)| {
        let before = opening.get(..at).unwrap_or_default().trim_end();
        before.is_empty()
            || before.ends_with(['.', '!', ',', ':', ';', '\n'])
            || before.ends_with("i'm")
            || before.ends_with("i am")
            || before.ends_with(" but")
    })
}

#[cfg(test)]
mod tests {
    use super::{PHRASES, refusal};

    #[test]
    fn refusals_are_told_from_answers() {
        for (text, expect) in [
            ("I can't help with that.", true),
            (
                "I\u{2019}m sorry, but I can\u{2019}t assist with that request.",
                true,
            ),
            ("Unfortunately, I cannot provide medical advice.", true),
            ("  Sorry, I can't do that.", true),
            ("Lo siento, pero no puedo ayudarte.", true),
            ("", false),
            ("42", false),
            ("I can't stress enough how important tests are.", false),
            ("The passage says \"I can't help with the harvest\".", false),
            (
                "He told her that I cannot help with money, and left.",
                false,
            ),
            ("Sorry for the confusion. The answer is B.", false),
            (
                "Here is how: first open the file. If it fails, say: sorry.",
                false,
            ),
        ] {
            assert_eq!(refusal(text).is_some(), expect, "{text}");
        }
        let long = format!(
            "I cannot provide a single cause. {}",
            "Many played a part. ".repeat(80)
        );
        assert_eq!(refusal(&long), None);
    }

    #[test]
    fn phrases_are_lowercase_and_sorted() {
        let texts: Vec<&str> = PHRASES.iter().map(|phrase| phrase.text).collect();
        assert!(texts.is_sorted());
        assert!(texts.iter().all(|text| text.to_lowercase() == **text));
    }
}
