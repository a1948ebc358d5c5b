//! Words as they are compared: small letters, no endings, none that every sentence has.
//!
//! **Invariant**: what is compared depends on nothing but the text (test `words_lose_their_endings`).

/// Words that say nothing about what a sentence is about; sorted.
const COMMON: [&str; 130] = [
    "a", "about", "above", "after", "again", "all", "also", "am", "an", "and", "any", "are", "as",
    "at", "be", "because", "been", "before", "being", "below", "both", "but", "by", "can", "could",
    "couldn", "d", "did", "didn", "do", "does", "doesn", "doing", "don", "done", "down", "during",
    "each", "few", "for", "from", "had", "has", "have", "having", "he", "her", "here", "hey",
    "him", "his", "how", "i", "if", "in", "into", "is", "isn", "it", "its", "just", "ll", "m",
    "many", "may", "me", "might", "more", "most", "much", "must", "my", "no", "not", "of", "off",
    "on", "only", "or", "other", "our", "out", "over", "own", "re", "s", "same", "shall", "she",
    "should", "so", "some", "such", "t", "than", "that", "the", "their", "them", "then", "there",
    "these", "they", "this", "those", "to", "too", "until", "up", "us", "ve", "very", "was", "we",
    "were", "what", "when", "where", "which", "while", "who", "whom", "whose", "why", "will",
    "with", "would", "yes", "you", "your",
];

/// Endings that go when at least four letters stay; the first that fits.
const ENDINGS: [&str; 12] = [
    "ation", "ition", "ment", "ness", "ful", "ly", "er", "or", "ion", "al", "ive", "able",
];

/// A word of fewer letters has no ending to lose.
const STEM_BYTES_MIN: usize = 4;

/// Whether a word in small letters is one that every sentence has.
pub(super) fn is_common(word: &str) -> bool {
    COMMON.binary_search(&word).is_ok()
}

/// Each run of letters, and each run of figures, in small letters.
pub(super) fn each(text: &str, mut each: impl FnMut(&str)) {
    let mut word = String::new();
    let mut of_figures = false;
    for letter in text.chars() {
        let is_figure = letter.is_ascii_digit();
        let ends = !letter.is_alphanumeric() || is_figure != of_figures;
        if ends && !word.is_empty() {
            each(&word);
            word.clear();
        }
        if letter.is_ascii() {
            if letter.is_ascii_alphanumeric() {
                word.push(letter.to_ascii_lowercase());
            }
        } else if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        }
        of_figures = is_figure;
    }
    if !word.is_empty() {
        each(&word);
    }
}

/// Takes the ending off a word in small letters.
pub(super) fn stem(word: &str, stemmed: &mut String) {
    stemmed.clear();
    stemmed.push_str(word);
    if word.len() < STEM_BYTES_MIN || !word.is_ascii() {
        return;
    }
    if word.ends_with("ies") && word.len() > STEM_BYTES_MIN {
        cut(stemmed, 3);
        stemmed.push('y');
    } else if word.ends_with("sses") {
        cut(stemmed, 2);
    } else if word.ends_with('s') && !["ss", "us", "is"].iter().any(|end| word.ends_with(end)) {
        cut(stemmed, 1);
    }
    for ending in ["ing", "ed"] {
        let Some(rest) = stemmed.strip_suffix(ending) else {
            continue;
        };
        if rest.len() >= 3 && rest.contains(['a', 'e', 'i', 'o', 'u', 'y']) {
            cut(stemmed, ending.len());
            undouble(stemmed);
            break;
        }
    }
    let is_ending = |ending: &&&str| {
        let rest = stemmed.strip_suffix(**ending);
        rest.is_some_and(|rest| rest.len() >= STEM_BYTES_MIN)
    };
    if let Some(ending) = ENDINGS.iter().find(is_ending) {
        cut(stemmed, ending.len());
    }
    if stemmed.len() >= STEM_BYTES_MIN && stemmed.ends_with('e') {
        cut(stemmed, 1);
    }
    if stemmed.len() >= STEM_BYTES_MIN && stemmed.ends_with('y') {
        cut(stemmed, 1);
        stemmed.push('i');
    }
}

fn cut(word: &mut String, bytes: usize) {
    word.truncate(word.len() - bytes);
}

/// `running` is of `run`, `calling` of `call`.
fn undouble(word: &mut String) {
    let mut last = word.bytes().rev();
    let (one, other) = (last.next(), last.next());
    if one == other && !word.ends_with(['l', 's', 'z']) {
        cut(word, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMON, each, is_common, stem};

    #[test]
    fn words_lose_their_endings() {
        let check = |text: &str, expect: &[&str]| {
            let (mut found, mut stemmed) = (Vec::new(), String::new());
            each(text, |word| {
                if !is_common(word) {
                    stem(word, &mut stemmed);
                    found.push(stemmed.clone());
                }
            });
            assert_eq!(found, expect, "{text}");
        };
        let stemmed = |word: &str| {
            let mut stemmed = String::new();
            stem(word, &mut stemmed);
            stemmed
        };
        assert_eq!(stemmed("studies"), stemmed("study"));
        assert_eq!(stemmed("studied"), stemmed("study"));
        check("running runs! Run", &["run", "run", "run"]);
        check(
            "call calling called calls",
            &["call", "call", "call", "call"],
        );
        check("In March 2023 we didn't", &["march", "2023"]);
        check("utf8 x2y", &["utf", "8", "x", "2", "y"]);
        check("the CAFÉS of Zürich", &["cafés", "zürich"]);
        check("s is us his", &[]);
        check("", &[]);
        assert!(COMMON.is_sorted());
    }
}
