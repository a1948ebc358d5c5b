//! A text with its lines.
//!
//! **Invariant**: its lines with an end between each two are the text (test
//! `lines_and_their_ends_are_the_text`).

/// 32 bytes: lines of programs and logs are hardly shorter, so that room for them is made once.
const LINE_BYTES: usize = 32;

/// A text and its lines, which are looked for once.
pub(super) struct Lined<'t> {
    pub(super) text: &'t str,
    pub(super) lines: Vec<&'t str>,
}

impl<'t> Lined<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let lines = lines(text);
        Self { text, lines }
    }
}

/// The lines of a text, without their ends; one more than it has ends.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::with_capacity(text.len() / LINE_BYTES + 1);
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
        lines.push(text.get(from..end).unwrap_or_default());
        from = end + 1;
    }
    lines.push(text.get(from..).unwrap_or_default());
    lines
}

#[cfg(test)]
mod tests {
    use super::Lined;

    #[test]
    fn lines_and_their_ends_are_the_text() {
        for text in ["", "a", "\n", "a\n\nb", "a\r\nb\n"] {
            assert_eq!(Lined::of(text).lines.join("\n"), text);
        }
    }
}
