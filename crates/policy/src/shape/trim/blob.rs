//! Encoded data (base64, hex) and minified lines: nobody reads them, and they cost a token for every two or
//! three signs.
//!
//! **Invariant**: what stands for data says its length and its hash, so that equal data is known as
//! equal (test `data_is_left_out_and_words_are_not`).

use xxhash_rust::xxh3::xxh3_64;

use super::lined::Lined;

/// Keys, hashes and tokens that somebody may need are shorter.
const DATA_BYTES_MIN: usize = 400;

/// So much of the beginning stays: a data URI's kind, or a file's magic bytes.
const DATA_HEAD_BYTES: usize = 24;

/// Lines of programs that people write are shorter.
const MINIFIED_BYTES_MIN: usize = 3_000;

/// So much of a minified line stays at its beginning.
const MINIFIED_HEAD_BYTES: usize = 600;

/// One blank in so many bytes: prose has one in six, minified text hardly any.
const MINIFIED_BYTES_PER_BLANK: usize = 15;

/// The text without encoded data; none if it has none.
pub(super) fn left_out(text: &Lined<'_>) -> Option<String> {
    let is_long = |line: &str| line.len() >= DATA_BYTES_MIN;
    if !text.lines.iter().any(|line| is_long(line)) {
        return None;
    }
    let mut out = String::with_capacity(text.text.len());
    let mut is_shorter = false;
    for (index, line) in text.lines.iter().copied().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if !is_long(line) {
            out.push_str(line);
        } else if is_minified(line) {
            is_shorter = true;
            replace(line, MINIFIED_HEAD_BYTES, "minified text", &mut out);
        } else {
            is_shorter |= without_data(line, &mut out);
        }
    }
    is_shorter.then_some(out)
}

fn is_minified(line: &str) -> bool {
    let blanks = line.bytes().filter(|byte| *byte == b' ').count();
    line.len() >= MINIFIED_BYTES_MIN && blanks * MINIFIED_BYTES_PER_BLANK < line.len()
}

/// Writes a line, and a note for each run of data in it.
fn without_data(line: &str, out: &mut String) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte);
    let (mut from, mut is_shorter) = (0, false);
    let bytes = line.as_bytes();
    while from < bytes.len() {
        let rest = bytes.get(from..).unwrap_or_default();
        let signs = rest.iter().take_while(|byte| is_sign(**byte)).count();
        let others = rest.iter().skip(signs).take_while(|byte| !is_sign(**byte));
        let others = others.count();
        let run = line.get(from..from + signs).unwrap_or_default();
        if is_data(run) {
            is_shorter = true;
            replace(run, DATA_HEAD_BYTES, "encoded data", out);
        } else {
            out.push_str(run);
        }
        let end = from + signs + others;
        out.push_str(line.get(from + signs..end).unwrap_or_default());
        from = end;
    }
    is_shorter
}

/// Letters and figures mixed as no name mixes them.
fn is_data(run: &str) -> bool {
    let figures = run.bytes().filter(u8::is_ascii_digit).count();
    let letters = run.bytes().filter(u8::is_ascii_alphabetic).count();
    let slashes = run.bytes().filter(|byte| b"/_-".contains(byte)).count();
    run.len() >= DATA_BYTES_MIN
        && figures * 25 >= run.len()
        && letters > 0
        && slashes * 20 < run.len()
}

fn replace(data: &str, head_bytes: usize, what: &str, out: &mut String) {
    let head = (0..=head_bytes)
        .rev()
        .find(|end| data.is_char_boundary(*end));
    let (head, tail) = data.split_at(head.unwrap_or(0));
    out.push_str(head);
    let hash = xxh3_64(data.as_bytes()) >> 32;
    let bytes = tail.len();
    let note = format!("[{bytes} more bytes of {what} left out, hash {hash:08x}]");
    out.push_str(&note);
}

#[cfg(test)]
mod tests {
    use super::super::lined::Lined;

    fn left_out(text: &str) -> Option<String> {
        super::left_out(&Lined::of(text))
    }

    #[test]
    fn data_is_left_out_and_words_are_not() {
        let data = "aGVsbG8gd29ybGQ0Mg9z".repeat(30);
        let text = format!("icon: \"data:image/png;base64,{data}\" end");
        let shorter = left_out(&text).unwrap_or_default();
        assert!(shorter.starts_with("icon: \"data:image/png;base64,aGVsbG8gd29ybGQ0Mg9zaGVs["));
        assert!(shorter.contains("[576 more bytes of encoded data left out, hash "));
        assert!(shorter.ends_with("]\" end"));
        assert_eq!(left_out(&text), Some(shorter));
        assert_eq!(left_out(&"many words of a long line ".repeat(60)), None);
        assert_eq!(left_out(&"/usr/lib/python3/site/".repeat(60)), None);
        let minified = "function(a,b){return a+b};var c=a(1,2);".repeat(100);
        assert!(left_out(&minified).is_some_and(|it| it.len() < 700));
    }
}
