//! What a terminal would show in the end: colours and overwritten progress lines are gone.
//!
//! **Invariant**: a text without control sequences stays as it is, line ends included (test
//! `the_last_state_of_a_line_stays`).

const ESCAPE: char = '\u{1b}';

/// The text as a terminal would show it; none if it would look the same.
pub(super) fn carried_out(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut controls = memchr::memchr2_iter(b'\r', ESCAPE as u8, bytes);
    let is_plain =
        controls.all(|at| bytes.get(at) == Some(&b'\r') && bytes.get(at + 1) == Some(&b'\n'));
    if is_plain {
        return None;
    }
    let lines: Vec<String> = text.split('\n').map(shown).collect();
    Some(lines.join("\n"))
}

/// One line: what was printed last at its beginning.
fn shown(line: &str) -> String {
    let (line, ending) = line
        .strip_suffix('\r')
        .map_or((line, ""), |line| (line, "\r"));
    let line = without_sequences(line);
    let last = line.trim_end_matches('\r').rsplit('\r').next();
    // A line of nothing but returns is one that a progress bar has cleared.
    let ending = if line.contains('\r') || line.is_empty() {
        ""
    } else {
        ending
    };
    format!("{}{ending}", last.unwrap_or_default())
}

fn without_sequences(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != ESCAPE {
            shown.push(letter);
        } else if letters.next_if_eq(&'[').is_some() {
            // A control sequence ends with a letter.
            while letters
                .next_if(|letter| !(('@'..='~').contains(letter)))
                .is_some()
            {}
            letters.next();
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::carried_out;

    #[test]
    fn the_last_state_of_a_line_stays() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(carried_out(text).as_deref(), expect, "{text:?}");
        };
        check("a\r\nb\r\n", None);
        check("a\n 10 %\r 50 %\r100 %\nb", Some("a\n100 %\nb"));
        check("\u{1b}[31mred\u{1b}[0m and plain", Some("red and plain"));
        check("a\r\n\r\r\rb\r\r", Some("a\r\nb"));
        check("\r\r\r", Some(""));
    }
}
