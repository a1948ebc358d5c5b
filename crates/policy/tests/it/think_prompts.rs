//! Labelled questions: easy ones are recognised, hard ones are left alone.
//!
//! The questions were written and labelled before the cues were tuned, on one half of them; the
//! figures that count are those of the other half.
//!
//! **Invariant**: at least 95 % of hard questions are never lowered, and at least 40 % of easy ones
//! are (test `hard_questions_are_not_lowered_and_easy_ones_are`).

use policy::think::class::{Class, classify};
use xxhash_rust::xxh3::xxh3_64;

/// One question a line: its class and its text.
const QUESTIONS: &str = include_str!("think_prompts.jsonl");

/// A question and whether it may be looked at while tuning.
struct Labelled {
    class: Class,
    text: String,
    tuning: bool,
}

fn labelled() -> Vec<Labelled> {
    let read = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = value["text"].as_str().unwrap().to_owned();
        let name = value["class"].as_str().unwrap();
        Labelled {
            class: Class::ALL
                .into_iter()
                .find(|class| class.name() == name)
                .unwrap(),
            tuning: xxh3_64(text.as_bytes()).is_multiple_of(2),
            text,
        }
    };
    QUESTIONS.lines().map(read).collect()
}

/// Of the questions that `wanted` names: how many there are, and how many would be lowered.
fn count(all: &[Labelled], wanted: impl Fn(&Labelled) -> bool) -> (usize, usize) {
    let chosen: Vec<_> = all.iter().filter(|it| wanted(it)).collect();
    let lowered = chosen.iter().filter(|it| classify(&it.text).is_easy());
    (chosen.len(), lowered.count())
}

#[test]
fn hard_questions_are_not_lowered_and_easy_ones_are() {
    let all = labelled();
    let easy = count(&all, |it| it.class.is_easy()).0;
    assert!(easy >= 520 && all.len() - easy >= 400);
    for tuning in [true, false] {
        let (hard, lowered) = count(&all, |it| it.tuning == tuning && !it.class.is_easy());
        assert!(
            lowered * 20 <= hard,
            "{lowered} of {hard} hard ones lowered"
        );
        let (easy, lowered) = count(&all, |it| it.tuning == tuning && it.class.is_easy());
        assert!(
            lowered * 5 >= easy * 2,
            "{lowered} of {easy} easy ones lowered"
        );
    }
}

#[test]
fn every_question_is_there_once() {
    let mut texts: Vec<_> = labelled().into_iter().map(|it| it.text).collect();
    let written = texts.len();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), written);
}

#[test]
fn other_languages_are_understood() {
    let check = |text: &str, expect: Class| assert_eq!(classify(text), expect, "{text}");
    check("Übersetze ins Englische: Guten Morgen", Class::Translation);
    check("Traduis en anglais : bonjour à tous", Class::Translation);
    check("Traduce al inglés: buenos días", Class::Translation);
    check("把这句话翻译成英文：早上好", Class::Translation);
    check("次の文を翻訳してください：おはよう", Class::Translation);
    check("Berechne die Ableitung von sin x", Class::Maths);
    check("Démontrer que la suite est croissante", Class::Maths);
    check("用Python实现一个队列", Class::Code);
    check("旅行の計画を立ててください", Class::Planning);
}
