//! Neighbouring lines that begin alike (paths, qualified names): the beginning is written once.
//!
//! **Invariant**: a heading says how many lines it is for, and each of them with the beginning put back
//! is the line that stood there (test `beginnings_can_be_put_back`).

/// Fewer lines do not pay for the heading.
const LINES_MIN: usize = 3;

/// A heading is some 12 tokens, 40 bytes: so much must be left out beyond it.
const OMITTED_BYTES_MIN: usize = 80;

/// A beginning of fewer bytes costs no more than two tokens a line.
const BEGINNING_BYTES_MIN: usize = 10;

use super::super::edited::{Edited, Writer};
use super::lined::Lined;

/// The text with headings; none if there is none.
pub(super) fn grouped(text: &Lined<'_>) -> Option<Edited> {
    let Lined { text, lines } = text;
    let mut out = Writer::of(text);
    // So far the text was looked at, and so far it was written.
    let (mut from, mut written) = (0, 0);
    let mut at = 0;
    while at < lines.len() {
        let rest = lines.get(at..).unwrap_or_default();
        let (beginning, count) = group(rest);
        let saved = beginning.len() * count;
        if count >= LINES_MIN && saved >= beginning.len() + OMITTED_BYTES_MIN {
            out.keep(written..from);
            let said = count.to_string();
            for words in [
                "[the next ",
                &said,
                " lines each begin with ",
                beginning,
                "]",
            ] {
                out.say(words);
            }
            for line in rest.iter().take(count) {
                out.say("\n");
                out.keep(from + beginning.len()..from + line.len());
                from += line.len() + 1;
            }
            // The end of the last line, if it has one, is written with what follows.
            written = from - 1;
            at += count;
        } else {
            from += rest.first().map_or(0, |line| line.len() + 1);
            at += 1;
        }
    }
    out.keep(written..text.len());
    (written > 0).then(|| out.finish())
}

/// The beginning that saves most from the first line on, and for how many lines.
fn group<'t>(lines: &[&'t str]) -> (&'t str, usize) {
    let mut best = ("", 0);
    let [first, second, ..] = lines else {
        return best;
    };
    // Most lines do not even begin like the next one.
    let begins = |line: &&'t str| {
        line.as_bytes()
            .first_chunk::<BEGINNING_BYTES_MIN>()
            .copied()
    };
    if begins(first).is_none() || begins(first) != begins(second) {
        return best;
    }
    let mut beginning = cut(first);
    if beginning.len() < BEGINNING_BYTES_MIN {
        return best;
    }
    let mut count = 1;
    for line in lines.iter().skip(1) {
        let shared = cut(common(beginning, line));
        if shared.len() < BEGINNING_BYTES_MIN {
            break;
        }
        if shared.len() < beginning.len() && saving(beginning, count) > saving(best.0, best.1) {
            best = (beginning, count);
        }
        beginning = shared;
        count += 1;
    }
    if saving(beginning, count) > saving(best.0, best.1) {
        best = (beginning, count);
    }
    best
}

fn saving(beginning: &str, count: usize) -> usize {
    beginning.len() * count.saturating_sub(1)
}

fn common<'t>(one: &'t str, other: &str) -> &'t str {
    let pairs = one.bytes().zip(other.bytes());
    let end = pairs.take_while(|(one, other)| one == other).count();
    let end = (0..=end).rev().find(|end| one.is_char_boundary(*end));
    one.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Up to the last separator of a path or a qualified name; nothing for lines of prose or code.
fn cut(line: &str) -> &str {
    let is_separator = |byte: u8| matches!(byte, b'/' | b'.' | b':' | b'\\');
    let end = line.bytes().rposition(is_separator).map_or(0, |at| at + 1);
    let beginning = line.get(..end).unwrap_or_default();
    let separators = beginning.bytes().filter(|byte| is_separator(*byte));
    if separators.count() < 2 {
        return "";
    }
    let is_code = |byte: &u8| matches!(byte, b'(' | b'"' | b'\'' | b'=' | b']');
    let is_code = beginning.bytes().filter(is_code).count() > 0;
    let blanks = beginning.trim_start().bytes();
    let is_name = !is_code && blanks.filter(|byte| *byte == b' ').count() <= 1;
    if is_name { beginning } else { "" }
}

#[cfg(test)]
mod tests {
    use super::super::lined::Lined;
    use super::grouped;

    fn check(text: &str, expect: Option<&str>) {
        assert_eq!(
            grouped(&Lined::of(text)).map(|it| it.text).as_deref(),
            expect,
            "{text}"
        );
    }

    #[test]
    fn beginnings_can_be_put_back() {
        check("a\nb\nc", None);
        check(
            "found\n/repo/package/module/deep/a.py:3:x\n/repo/package/module/deep/a.py:4:y\n\
             /repo/package/module/deep/b.py:5:z\n/repo/package/module/deep/b.py:6:z\n\
             /repo/package/module/deep/c.py:6:z\nend",
            Some(
                "found\n[the next 5 lines each begin with /repo/package/module/deep/]\na.py:3:x\n\
                 a.py:4:y\nb.py:5:z\nb.py:6:z\nc.py:6:z\nend",
            ),
        );
        check(
            "\t- org.example.config.ServiceConfig.getA\n\t- org.example.config.ServiceConfig.getB\n\
             \t- org.example.config.ServiceConfig.getC\n\t- org.example.config.ServiceConfig.getD",
            Some(
                "[the next 4 lines each begin with \t- org.example.config.ServiceConfig.]\ngetA\ngetB\n\
                 getC\ngetD",
            ),
        );
        // The end of the last line stays, and letters are never cut.
        check(
            "aa/bbb/ccc/näme.x\naa/bbb/ccc/nöme.x\n".repeat(20).as_str(),
            Some(&format!(
                "[the next 40 lines each begin with aa/bbb/ccc/]\n{}",
                "näme.x\nnöme.x\n".repeat(20)
            )),
        );
        // Code is left alone.
        check(
            &"        self.assertEqual(self.a.b.c.d.e, 1)\n".repeat(9),
            None,
        );
    }
}
