//! What kind of work a question asks for, from the words of its instruction.
//!
//! A question is easy only if something says so and nothing speaks against it; what is not
//! recognised stays unknown, and is then left as it is.
//!
//! **Invariant**: deterministic, and of bounded work whatever the length of the text (test
//! `only_the_ends_of_a_text_are_read`).

use super::cues::{Cues, Hint, has_no_spaces};

/// Bytes read from the front: an instruction and the beginning of what it is about.
const FRONT_BYTES: usize = 2_000;

/// Bytes read from the back, where an instruction may follow what it is about.
const BACK_BYTES: usize = 400;

/// Words of an instruction: longer first sentences are read so far.
const INSTRUCTION_WORDS: usize = 40;

/// Words in which an easy kind must show itself.
const EASY_WORDS: usize = 14;

/// Words of a question for a fact, without a text to look it up in: longer ones describe a case.
const FACT_WORDS: usize = 13;

/// Weight of limits on the answer from which a task has many constraints.
const LIMITS_MAX: u32 = 4;

/// Signs of code, wherever they stand.
const CODE: [&str; 12] = [
    "```",
    "def ",
    "();",
    "=> ",
    "select *",
    "#include",
    "function(",
    "let mut",
    "console.log",
    "fn ",
    "for (",
    "import ",
];

/// Signs of mathematics, wherever they stand.
const MATHS: [&str; 11] = [
    "\\frac", "\\begin", "\\sqrt", "∫", "√", "^", "²", "≤", "≥", " = ?", "∑",
];

/// Kinds of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// To take out what a text says.
    Extraction,
    /// To name one of a few kinds.
    Classification,
    /// To say the same in another language.
    Translation,
    /// To say the same in another form.
    Formatting,
    /// To give a fact, known or from a text.
    Lookup,
    /// To calculate or prove.
    Maths,
    /// To write, change or explain programs.
    Code,
    /// To conclude.
    Logic,
    /// To plan, design or weigh.
    Planning,
    /// To write within many limits.
    MultiConstraint,
    /// Not recognised.
    #[default]
    Unknown,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 11] = [
        Self::Extraction,
        Self::Classification,
        Self::Translation,
        Self::Formatting,
        Self::Lookup,
        Self::Maths,
        Self::Code,
        Self::Logic,
        Self::Planning,
        Self::MultiConstraint,
        Self::Unknown,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Extraction => "extraction",
            Self::Classification => "classification",
            Self::Translation => "translation",
            Self::Formatting => "formatting",
            Self::Lookup => "lookup",
            Self::Maths => "maths",
            Self::Code => "code",
            Self::Logic => "logic",
            Self::Planning => "planning",
            Self::MultiConstraint => "multi_constraint",
            Self::Unknown => "unknown",
        }
    }

    /// The class of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Whether thinking seldom helps with it.
    pub const fn is_easy(self) -> bool {
        matches!(
            self,
            Self::Extraction
                | Self::Classification
                | Self::Translation
                | Self::Formatting
                | Self::Lookup
        )
    }
}

/// What the cues of a text say together.
#[derive(Debug, Default)]
struct Signs {
    easy: Option<Class>,
    hard: Option<Class>,
    opening: bool,
    passage: bool,
    limits: u32,
    words: usize,
}

impl Signs {
    fn take(&mut self, hint: Hint, at: usize) {
        match hint {
            Hint::Easy(class) if at < EASY_WORDS => {
                self.easy.get_or_insert(class);
            }
            Hint::Hard(class) => {
                self.hard.get_or_insert(class);
            }
            Hint::Opening => self.opening |= at == 0,
            Hint::Passage => self.passage = true,
            Hint::Easy(_) | Hint::Limit(_) => {}
        }
    }
}

/// The kind of a question.
pub fn classify(text: &str) -> Class {
    let front = cut(text, FRONT_BYTES).to_lowercase();
    let back = if text.len() > FRONT_BYTES + BACK_BYTES {
        tail(text, BACK_BYTES).to_lowercase()
    } else {
        String::new()
    };
    let signs = read(&front, &back);
    let has = |marks: &[&str]| marks.iter().any(|mark| front.contains(mark));
    if has(&CODE) {
        return Class::Code;
    }
    if has(&MATHS) {
        return Class::Maths;
    }
    if let Some(class) = signs.hard {
        return class;
    }
    if signs.limits >= LIMITS_MAX {
        return Class::MultiConstraint;
    }
    let fact = signs.words <= FACT_WORDS && !front.bytes().any(|byte| byte.is_ascii_digit());
    let asks = signs.opening && (fact || signs.passage);
    let looked_up = asks.then_some(Class::Lookup);
    signs.easy.or(looked_up).unwrap_or_default()
}

/// Reads the cues: those of the instruction for the kind, those of the whole for limits.
fn read(front: &str, back: &str) -> Signs {
    let cues = Cues::built_in();
    let mut signs = Signs::default();
    let head = instruction(front);
    let last = if back.is_empty() { front } else { back };
    let end = last.trim_end().rsplit('\n').next().unwrap_or_default();
    for (index, zone) in [head, end].into_iter().enumerate() {
        let one_piece = back.is_empty() && front.lines().count() < 3;
        if index == 1 && (head.contains(end) || one_piece) {
            continue;
        }
        for (at, (one, two)) in words(zone).take(INSTRUCTION_WORDS).enumerate() {
            for words in [one, two] {
                for hint in cues.of(words) {
                    signs.take(*hint, at + index);
                }
            }
        }
        if zone.chars().any(has_no_spaces) {
            for hint in cues.within(zone) {
                signs.take(hint, index);
            }
        }
    }
    for part in [front, back] {
        for (one, two) in words(part) {
            signs.words += 1;
            for words in [one, two] {
                for hint in cues.of(words) {
                    if let Hint::Limit(weight) = hint {
                        signs.limits += weight;
                    }
                }
            }
        }
    }
    // A character of these scripts is about half a word.
    signs.words += front.chars().filter(|it| has_no_spaces(*it)).count() / 2;
    if front.chars().any(has_no_spaces) {
        let limits = cues.within(front).filter_map(|hint| match hint {
            Hint::Limit(weight) => Some(weight),
            Hint::Easy(_) | Hint::Hard(_) | Hint::Opening | Hint::Passage => None,
        });
        signs.limits += limits.sum::<u32>();
    }
    signs
}

/// What comes before the material: up to the first quotation or line break after two words.
fn instruction(text: &str) -> &str {
    let text = text.trim_start();
    let material = |at: &(usize, char)| {
        matches!(at.1, '"' | '“' | '„' | '«' | '「' | '\n' | ':' | '：')
            && text.get(..at.0).is_some_and(is_a_sentence)
    };
    let end = text.char_indices().find(material);
    end.and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

/// Whether a beginning is long enough to be an instruction.
fn is_a_sentence(text: &str) -> bool {
    words(text).count() >= 3 || text.chars().filter(|it| has_no_spaces(*it)).count() >= 4
}

/// The words of a text, each alone and with the one after it.
fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    let mut base = 0;
    std::iter::from_fn(move || {
        let start = rest.find(is_letter)?;
        let from = rest.get(start..)?;
        let length = from.find(|it| !is_letter(it)).unwrap_or(from.len());
        let (begin, end) = (base + start, base + start + length);
        rest = text.get(end..).unwrap_or_default();
        base = end;
        let next = rest.strip_prefix([' ', '-']).map_or(0, |after| {
            let length = after.find(|it| !is_letter(it)).unwrap_or(after.len());
            if length == 0 { 0 } else { length + 1 }
        });
        Some((
            text.get(begin..end).unwrap_or_default(),
            text.get(begin..end + next).unwrap_or_default(),
        ))
    })
}

fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() && !has_no_spaces(letter) || matches!(letter, '\'' | '_' | '+')
}

/// The first bytes of a text, whole characters only.
fn cut(text: &str, bytes: usize) -> &str {
    let fits = |at: &usize| text.is_char_boundary(*at);
    let end = (0..=bytes.min(text.len())).rev().find(fits);
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// The last bytes of a text, whole characters only.
fn tail(text: &str, bytes: usize) -> &str {
    let fits = |at: &usize| text.is_char_boundary(*at);
    let from = (text.len().saturating_sub(bytes)..=text.len()).find(fits);
    from.and_then(|from| text.get(from..)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::{Class, classify};

    #[test]
    fn only_the_ends_of_a_text_are_read() {
        let long = "x ".repeat(500_000);
        assert_eq!(classify(&long), Class::Unknown);
        let text = format!("Translate to German:\n{long}\nthanks");
        assert_eq!(classify(&text), Class::Translation);
        let text = format!("Translate to German:\n{long}\nand prove the theorem");
        assert_eq!(classify(&text), Class::Maths);
    }

    #[test]
    fn what_is_not_recognised_is_unknown() {
        for text in ["", "hi", "thanks!", "Tell me about your day"] {
            assert_eq!(classify(text), Class::Unknown, "{text}");
        }
    }
}
