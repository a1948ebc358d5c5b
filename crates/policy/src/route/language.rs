//! Language: which of a few large languages a text is written in, for rules that ask.
//!
//! **Invariant**: every language that can be found can be named, and back (test
//! `languages_are_named_by_their_codes`).

use std::fmt;

use whichlang::{LANGUAGES, Lang, detect_language};

/// 2 KiB: a language shows within a few sentences, and finding it costs time by the byte.
const TEXT_BYTES_MAX: usize = 2_048;

/// 12 letters: two or three words, below which nothing is guessed.
const LETTERS_MIN: usize = 12;

/// A language that can be told from others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Language(Lang);

/// A code that names none of the languages that can be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no language that can be told from others; allowed: {allowed}")]
pub struct UnknownLanguage {
    /// What was given.
    pub given: String,
    /// What there is.
    pub allowed: String,
}

/// The two-letter code (ISO 639-1).
const fn code(language: Lang) -> &'static str {
    match language {
        Lang::Ara => "ar",
        Lang::Cmn => "zh",
        Lang::Deu => "de",
        Lang::Eng => "en",
        Lang::Fra => "fr",
        Lang::Hin => "hi",
        Lang::Ita => "it",
        Lang::Jpn => "ja",
        Lang::Kor => "ko",
        Lang::Nld => "nl",
        Lang::Por => "pt",
        Lang::Rus => "ru",
        Lang::Spa => "es",
        Lang::Swe => "sv",
        Lang::Tur => "tr",
        Lang::Vie => "vi",
    }
}

impl Language {
    /// The language of a two-letter code (ISO 639-1), in any case.
    ///
    /// ```
    /// use policy::route::language::Language;
    ///
    /// assert_eq!(Language::named("DE").unwrap().code(), "de");
    /// assert!(Language::named("tlh").is_err());
    /// ```
    pub fn named(given: &str) -> Result<Self, UnknownLanguage> {
        let is_it = |language: &&Lang| code(**language).eq_ignore_ascii_case(given);
        let found = LANGUAGES.iter().find(is_it);
        found.map(|language| Self(*language)).ok_or_else(|| {
            let codes: Vec<&str> = LANGUAGES.iter().map(|language| code(*language)).collect();
            UnknownLanguage {
                given: given.to_owned(),
                allowed: codes.join(", "),
            }
        })
    }

    /// The two-letter code (ISO 639-1).
    pub fn code(self) -> &'static str {
        code(self.0)
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The language of a text; none if there is too little of it to say.
pub fn detect(text: &str) -> Option<Language> {
    let mut ends = (0..=TEXT_BYTES_MAX.min(text.len())).rev();
    let text = ends.find_map(|end| text.get(..end)).unwrap_or(text);
    let letters = text.chars().filter(|letter| letter.is_alphabetic()).count();
    // Scripts without an alphabet say more with each letter.
    let enough = letters >= LETTERS_MIN || (letters > 1 && !text.is_ascii());
    enough.then(|| Language(detect_language(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_named_by_their_codes() {
        for language in LANGUAGES {
            assert_eq!(Language::named(code(language)), Ok(Language(language)));
        }
    }

    #[test]
    fn a_few_words_show_their_language() {
        for (text, expect) in [
            (
                "Could you please summarise this contract for me?",
                Some("en"),
            ),
            ("Bitte fasse mir diesen Vertrag kurz zusammen.", Some("de")),
            (
                "Pourriez-vous résumer ce contrat en deux phrases ?",
                Some("fr"),
            ),
            ("¿Puedes resumirme este contrato en dos frases?", Some("es")),
            ("请用两句话总结这份合同。", Some("zh")),
            ("この契約書を二文で要約してください。", Some("ja")),
            ("42 + 17 = ?", None),
            ("", None),
        ] {
            assert_eq!(detect(text).map(Language::code), expect, "{text}");
        }
    }
}
