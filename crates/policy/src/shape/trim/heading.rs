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

/// The text with headings; none if there is none.
pub(super) fn grouped(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut out = String::with_capacity(text.len());
    let (mut at, mut is_grouped) = (0, false);
    while at < lines.len() {
        let rest = lines.get(at..).unwrap_or_default();
        let (beginning, count) = group(rest);
        if at > 0 {
            out.push('\n');
        }
        let saved = beginning.len() * count;
        if count >= LINES_MIN && saved >= beginning.len() + OMITTED_BYTES_MIN {
            is_grouped = true;
            let said = count.to_string();
            out.extend([
                "[the next ",
                &said,
                " lines each begin with ",
                beginning,
                "]",
            ]);
            for line in rest.iter().take(count) {
                out.push('\n');
                out.push_str(line.get(beginning.len()..).unwrap_or_default());
            }
            at += count;
        } else {
            out.push_str(rest.first().unwrap_or(&""));
            at += 1;
        }
    }
    is_grouped.then_some(out)
}

/// The beginning that saves most from the first line on, and for how many lines.
fn group<'t>(lines: &[&'t str]) -> (&'t str, usize) {
    let Some(first) = lines.first() else {
        return ("", 0);
    };
    let mut best = ("", 0);
    let mut beginning = cut(first);
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
    let pairs = one.char_indices().zip(other.chars());
    let end = pairs
        .take_while(|((_, one), other)| one == other)
        .last()
        .map_or(0, |((at, letter), _)| at + letter.len_utf8());
    one.get(..end).unwrap_or_default()
}

/// Up to the last separator of a path or a qualified name; nothing for lines of prose or code.
fn cut(line: &str) -> &str {
    let end = line.rfind(['/', '.', ':', '\\']).map_or(0, |at| at + 1);
    let beginning = line.get(..end).unwrap_or_default();
    let words = beginning.trim_start().split(' ').count();
    let separators = beginning.matches(['/', '.', ':', '\\']).count();
    let is_name = words <= 2 && separators >= 2 && !beginning.contains(['(', '"', '\'', '=', ']']);
    if is_name { beginning } else { "" }
}

#[cfg(test)]
mod tests {
    use super::grouped;

    fn check(text: &str, expect: Option<&str>) {
        assert_eq!(grouped(text).as_deref(), expect, "{text}");
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
        // Code is left alone.
        check(
            &"        self.assertEqual(self.a.b.c.d.e, 1)\n".repeat(9),
            None,
        );
    }
}
